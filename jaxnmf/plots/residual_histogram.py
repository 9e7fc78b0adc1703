"""How the entries of the residual are distributed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnmf.plots.axes import log_ticks, one_axes, plain_ticks
from jaxnmf.plots.samples import data_of, sampled_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 61


def residual_histogram(result: Any, V: Any, *, ax: Any = None, **style: Any) -> Axes:
    """Draw the distribution of the entries of U = V − W H, counts on a log scale.

    Of more than two million entries, those of evenly spaced rows are counted.

    Args:
      result, V: as for `residual_size`.
      ax: axes to draw into; None for a new figure.
      style: options of matplotlib's `stairs`, such as ``color``.

    Returns:
      The axes.

    Raises:
      ValueError: V does not fit the result.

    Example:
      >>> import numpy as np, jaxnmf
      >>> W, H = np.ones((4, 1)), np.ones((1, 6))
      >>> ax = jaxnmf.plots.residual_histogram((W, H), np.ones((4, 6)) + np.eye(4, 6))
      >>> int(ax.patches[0].get_data().values.sum())
      24
    """
    pair, V, _ = data_of(result, V)
    U = sampled_rows(pair, V).U
    return draw_histogram(U[np.isfinite(U)], one_axes(ax), "U = V − W H", **style)


def draw_histogram(values: np.ndarray, axes: Axes, label: str, **style: Any) -> Axes:
    """The distribution of values on both sides of zero, counts on a log scale."""
    reach = float(np.abs(values).max(initial=0)) or 1.0
    counts, edges = np.histogram(values, bins=BINS, range=(-reach, reach))
    given = {"fill": True, "color": "C0", "alpha": 0.75, "baseline": 0.5}
    axes.stairs(counts, edges, **{**given, **style})
    high = 2 * float(counts.max(initial=1))
    axes.set(yscale="log", ylim=(0.5, high), xlabel=label, ylabel="entries")
    plain_ticks(axes.xaxis, 5)
    log_ticks(axes.yaxis, 0.5, high)
    return axes
