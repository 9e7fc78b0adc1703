"""A measure of the end of runs against the rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnmf.plots.axes import ink, one_axes, plain_ticks
from jaxnmf.plots.lines import (
    Styles,
    add_legend,
    group_column,
    groups_of,
    runs_table,
    style_of,
    value_column,
    with_ranges,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def error_against_rank(
    results: Any,
    *,
    value: str | None = None,
    by: str | None = None,
    styles: Styles | None = None,
    level: float | None = None,
    legend: bool = True,
    ax: Any = None,
) -> Axes:
    """Draw the error at the end against the rank: the median over runs, and its range.

    A dot is the median over the seeds (and settings) of a rank, a bar runs from the
    lowest to the highest; runs without a finite value are left out.

    Args:
      results: a `SweepResult`, or a table with a row for each run and a column
        ``rank``, such as that of a study's ``summary.parquet``.
      value: the column that is drawn; by default ``relative_error`` or, where there is
        none, ``objective``.
      by: a column with a line for each of its values; by default ``solver`` where there
        are several, else one line.
      styles: value of that column → options of matplotlib's `plot`.
      level: what values are compared with, a dotted line.
      legend: whether to add a legend where there are several lines.
      ax: axes to draw into; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: results that are none, or a column that is missing.

    Example:
      >>> import numpy as np, jaxnmf
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> found = jaxnmf.sweep(V, [2, 3, 4], [0, 1], max_iter=30)
      >>> ax = jaxnmf.plots.error_against_rank(found)
      >>> ax.lines[0].get_xdata()
      array([2, 3, 4])
    """
    table = runs_table(results)
    value = value_column(table, value)
    if "rank" not in table.columns:
        raise ValueError("results: the table has no column rank")
    by = group_column(table, by, None)
    table = table[np.isfinite(table[value].astype(float))]
    axes = one_axes(ax)
    groups = groups_of(table, by)
    for place, (name, runs) in enumerate(groups):
        found = runs.groupby("rank")[value].agg(["min", "median", "max"])
        middle, low, high = (
            found[each].to_numpy() for each in ("median", "min", "max")
        )
        style = style_of(str(name), place, styles)
        x = found.index.to_numpy()
        with_ranges(axes, x, middle, low, high, style, str(name))
    if level is not None:
        axes.axhline(level, color=ink(axes), linestyle=(0, (1, 2)), linewidth=1.2)
    plain_ticks(axes.xaxis, 7, integer=True)
    plain_ticks(axes.yaxis, 5)
    axes.set(xlabel="rank", ylabel=value.replace("_", " "))
    if legend:
        add_legend(axes, len(groups), by)
    return axes
