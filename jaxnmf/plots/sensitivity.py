"""How much an error depends on settings that were swept.

Of each combination of values the median error over the seeds counts, infinite where
most seeds diverged. Where several settings were swept, one is shown with the others at
their best: the least over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnmf.plots.axes import fixed_ticks, log_ticks, one_axes, plain_ticks
from jaxnmf.plots.lines import (
    Styles,
    add_legend,
    band,
    check_column,
    group_column,
    groups_of,
    runs_table,
    style_of,
    value_column,
    with_failures,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def medians(runs: Any, keys: Sequence[str], value: str = "error") -> Any:
    """A row for each combination of the keys: the median of ``value`` over its runs,
    and its ``low`` and ``high``."""
    import pandas as pd

    by = runs.groupby(list(keys))[value]
    # Two infinite values in the middle have no mean.
    median = by.quantile(0.5, interpolation="higher")
    even = by.size() % 2 == 0
    with np.errstate(invalid="ignore"):
        median = median.where(~even | np.isinf(median), by.median())
    found = pd.DataFrame({value: median, "low": by.min(), "high": by.max()})
    return found.reset_index()


def profile(table: Any, setting: str, value: str = "error") -> Any:
    """Of each value of a setting, the row with the others at their best."""
    rows = table.loc[table.groupby(setting)[value].idxmin()]
    return rows.sort_values(setting, ignore_index=True)


def sensitivity(
    results: Any,
    setting: str,
    *,
    others: Sequence[str] = (),
    value: str | None = None,
    by: str | None = None,
    styles: Styles | None = None,
    legend: bool = True,
    ax: Any = None,
) -> Axes:
    """Draw the median error against the values of a setting, with the seeds' range.

    The line ends where most seeds diverged. Of several settings that were swept, the
    others are at their best for each value.

    Args:
      results: a `SweepResult`, or a table with a row for each run, such as its
        ``.table``.
      setting: the column with the setting's values.
      others: the other settings that were swept; of a `SweepResult` they are known.
      value: the column that is drawn; by default ``relative_error`` or, where there is
        none, ``objective``.
      by: a column with a line for each of its values; by default ``solver`` where there
        are several, else ``rank``.
      styles: value of that column → options of matplotlib's `plot`.
      legend: whether to add a legend where there are several lines.
      ax: axes to draw into; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: results that are none, or a column that is missing.

    Example:
      >>> import numpy as np, jaxnmf
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> found = jaxnmf.sweep(V, [3], 2, settings={"l1": [0, 0.1, 1]}, max_iter=30)
      >>> ax = jaxnmf.plots.sensitivity(found, "l1")
      >>> ax.lines[0].get_xdata()
      array([0. , 0.1, 1. ])
    """
    table, value, others = runs_of(results, value, [setting], others)
    by = group_column(table, by, "rank" if "rank" in table.columns else None)
    groups = groups_of(table, by)
    axes = one_axes(ax)
    drawn = []
    for place, (name, runs) in enumerate(groups):
        found = profile(medians(runs, [setting, *others], value), setting, value)
        found = found.replace(np.inf, np.nan)
        style = {
            "marker": "o",
            "markersize": 4,
            **style_of(str(name), place, styles),
        }
        x, middle, low, high = (
            found[each].to_numpy() for each in (setting, value, "low", "high")
        )
        band(axes, x, middle, low, high, style, str(name))
        drawn.append(found[[value, "low", "high"]].to_numpy(float))
    _setting_axis(axes, np.unique(table[setting].to_numpy(float)))
    axes.set_xlabel(setting, parse_math=False)
    axes.set_ylabel(f"median {value.replace('_', ' ')}")
    errors = np.concatenate(drawn)
    errors = errors[np.isfinite(errors)]
    if len(errors) and 0 < 10 * errors.min() < errors.max():
        limits = errors.min() / 1.2, errors.max() * 1.2
        axes.set(yscale="log", ylim=limits)
        log_ticks(axes.yaxis, *limits)
    else:
        plain_ticks(axes.yaxis, 5)
    if legend:
        add_legend(axes, len(groups), by)
    return axes


def runs_of(
    results: Any, value: str | None, settings: Sequence[str], others: Sequence[str]
) -> tuple[Any, str, list[str]]:
    """(the runs with failures infinite, the column drawn, the other settings)."""
    table = runs_table(results)
    value = value_column(table, value)
    known = [
        name for lane in getattr(results, "lanes", ())[:1] for name in lane.settings
    ]
    others = list(dict.fromkeys([*others, *known]))
    others = [name for name in others if name not in settings]
    for name in settings:
        check_column("setting", name, table)
    for name in others:
        check_column("others", name, table)
    table[value] = with_failures(table, value)
    return table, value, others


def _setting_axis(axes: Axes, values: np.ndarray) -> None:
    """A log scale where values are positive, with a place for 0 beside it."""
    positive = values[values > 0]
    if (values < 0).any() or len(positive) < 2:
        plain_ticks(axes.xaxis, 5)
        return
    if len(positive) == len(values):
        axes.set_xscale("log")
    else:
        axes.set_xscale("symlog", linthresh=positive[0], linscale=1.0)
    fixed_ticks(axes.xaxis, values[:: -(-len(values) // 7)].tolist())
