"""The error of combinations of two settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnmf.plots.axes import one_axes, plain
from jaxnmf.plots.heatmap import SHADES, draw_matrix
from jaxnmf.plots.sensitivity import medians, runs_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CELLS = 7  # columns of a map, up to which each cell has room for its number
MISSING = "#b8bfc7"


def sensitivity_map(
    results: Any,
    row: str,
    column: str,
    *,
    others: Sequence[str] = (),
    value: str | None = None,
    best: Mapping[int, float] | None = None,
    norm: Any = None,
    ax: Any = None,
) -> Axes:
    """Draw the median error of combinations of two settings as a heat map.

    Bright is the least, and colours are how many times the least an error is; grey is
    where most seeds diverged. Up to seven columns have the error written into each
    cell, more a colour bar.

    Args:
      results: a `SweepResult`, or a table with a row for each run.
      row, column: the columns with the settings' values, or "rank".
      others: other settings that were swept, at their best in each cell; of a
        `SweepResult` they are known.
      value: the column that is drawn, as for `sensitivity`.
      best: rank → the error that is 1 time the least; by default the least that is
        drawn of a rank.
      norm: of matplotlib, for how many times the least an error is; by default from 1
        to the most, on a log scale beyond a decade.
      ax: axes to draw into; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: results that are none, or a column that is missing.

    Example:
      >>> import numpy as np, jaxnmf
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> found = jaxnmf.sweep(V, [2, 3], [0], settings={"l1": [0, 0.1]}, max_iter=30)
      >>> ax = jaxnmf.plots.sensitivity_map(found, "rank", "l1")
      >>> [tick.get_text() for tick in ax.get_xticklabels()]
      ['0', '0.1']
    """
    table, value, others = runs_of(results, value, [row, column], others)
    ranks = ["rank"] if "rank" in table.columns else []
    keys = list(dict.fromkeys([row, column, *others, *ranks]))
    table = medians(table, keys, value)
    values, times = (
        each.pivot_table(
            index=row, columns=column, values=value, aggfunc="min", dropna=False
        )
        for each in (table, table.assign(**{value: times_least(table, value, best)}))
    )
    return _draw(values, times, norm or times_norm(times), one_axes(ax))


def times_least(table: Any, value: str, best: Mapping[int, float] | None) -> Any:
    """How many times the least an error is: the least of its rank, where ranks are
    compared."""
    if "rank" not in table.columns:
        return table[value] / table[value].min()
    if best is None:
        return table[value] / table.groupby("rank")[value].transform("min")
    return table[value] / table["rank"].map(best)


def times_norm(times: Any) -> Any:
    """From 1 to the most times the least error, on a log scale beyond a decade."""
    from matplotlib.colors import LogNorm, Normalize

    times = np.asarray(times, float)
    most = float(times[np.isfinite(times)].max(initial=1.0))
    return LogNorm(1, most) if most > 10 else Normalize(1, max(most, 1.01))


def _draw(values: Any, times: Any, norm: Any, axes: Axes) -> Axes:
    """Errors, a row for each value of the index, coloured by ``times`` the least."""
    import matplotlib as mpl

    rows, columns = values.shape
    parts = times.to_numpy(float)
    image = draw_matrix(
        axes,
        np.where(np.isfinite(parts), parts, np.nan),
        cmap=mpl.colormaps["viridis_r"].resampled(SHADES).with_extremes(bad=MISSING),
        norm=norm,
    )
    step = -(-columns // 8)
    axes.set_xticks(range(0, columns, step), [plain(x) for x in values.columns[::step]])
    axes.set_yticks(range(rows), [plain(y) for y in values.index])
    axes.set(xlabel=str(values.columns.name), ylabel=str(values.index.name))
    if columns > CELLS:
        bar = axes.figure.colorbar(
            image, ax=axes, pad=0.02, label="times the least error"
        )
        bar.outline.set_visible(False)
        return axes
    for (i, j), error in np.ndenumerate(values.to_numpy(float)):
        bright = not np.isfinite(error) or float(norm(parts[i, j])) < 0.5
        axes.text(
            j,
            i,
            f"{error:#.3g}".rstrip(".") if np.isfinite(error) else "diverged",
            ha="center",
            va="center",
            size=8,
            color="#111111" if bright else "#fffffe",
        )
    return axes
