"""Matrices as colours, and a whole factor as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnmf.plots.axes import bare, one_axes
from jaxnmf.plots.blocks import CELLS, block_means, by_label, label_ticks
from jaxnmf.plots.factors import (
    check_factor,
    factors_of,
    scaled,
    which,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

SHADES = 64  # of a colour map: enough to the eye, and small in a file


def draw_matrix(
    axes: Axes,
    values: np.ndarray,
    *,
    ticks: Sequence[tuple[float, str]] = (),
    **style: Any,
) -> AxesImage:
    """A matrix as colours, from 0 to its largest entry; ``ticks`` name rows."""
    import matplotlib as mpl

    given = {"cmap": "viridis", "vmin": 0.0, "aspect": "auto", "interpolation": "none"}
    given |= style
    if isinstance(given["cmap"], str):
        given["cmap"] = mpl.colormaps[given["cmap"]].resampled(SHADES)
    if "norm" in given:
        del given["vmin"]
    elif given.get("vmax") is None:
        given["vmax"] = float(values[np.isfinite(values)].max(initial=0)) or 1.0
    image = axes.imshow(values, **given)
    bare(axes)
    if ticks:
        axes.set_yticks(
            [at for at, _ in ticks], [name for _, name in ticks], parse_math=False
        )
    return image


def heatmap(
    result: Any,
    dataset: Any = None,
    *,
    factor: str = "W",
    labels: Any = None,
    label_names: Sequence[str] | None = None,
    components: Sequence[int] | None = None,
    ax: Any = None,
    **style: Any,
) -> Axes:
    """Draw a factor as a heat map, each component divided by its largest entry.

    Of W, rows are rows of V and columns are components, strongest first; of H, rows are
    components and columns are columns of V. Of more than 320 rows (or 160 columns of
    V) the means of 160 blocks are drawn.

    Args:
      result: a `Result`, or a pair (W, H).
      dataset: a `jaxnmf.datasets.Dataset`, whose ``labels`` and ``label_names`` are
        used.
      factor: "W" or "H".
      labels: (m,) the class of each row of V; of W, rows of one class are put together
        and named.
      label_names: the names that integers in ``labels`` index.
      components: the numbers of the components, in this order; by default all,
        strongest first.
      ax: axes to draw into; None for a new figure.
      style: options of matplotlib's `imshow`, such as ``cmap``.

    Returns:
      The axes.

    Raises:
      ValueError: an argument that does not fit the result.

    Example:
      >>> import numpy as np, jaxnmf
      >>> W = np.array([[4.0, 0], [0, 1], [2, 1]])
      >>> ax = jaxnmf.plots.heatmap((W, np.ones((2, 5))), labels=[1, 0, 1])
      >>> ax.images[0].get_array()[0]  # row 1, of label 0, comes first
      masked_array(data=[0., 1.],
                   mask=False,
             fill_value=1e+20)
    """
    pair = factors_of(result)
    shown = which(pair, components, None)
    vectors = scaled(pair.vectors(check_factor(factor))[shown])
    axes = one_axes(ax)
    if factor == "H":
        draw_matrix(axes, block_means(vectors, len(vectors), CELLS), **style)
        axes.set(xlabel="columns of V", ylabel="components")
        return axes
    if labels is None and dataset is not None:
        labels, label_names = dataset.labels, dataset.label_names
    values, ticks = vectors.T, []
    m = len(values)
    if labels is not None:
        if np.shape(labels) != (m,):
            raise ValueError(
                f"labels has shape {np.shape(labels)}; it must be ({m},), one for each "
                "row of V"
            )
        values, ticks = values[by_label(labels)], label_ticks(labels, label_names)
    if m > 2 * CELLS:
        values = block_means(values, CELLS, values.shape[1])
        ticks = [(at * CELLS / m, name) for at, name in ticks]
    draw_matrix(axes, values, ticks=ticks, **style)
    axes.set(xlabel="components", ylabel="rows of V")
    return axes
