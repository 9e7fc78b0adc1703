"""The approximation beside V, and the residual, in the data's own form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnmf.plots.axes import bare, many_axes
from jaxnmf.plots.heatmap import draw_matrix
from jaxnmf.plots.samples import samples

PERCENTILE = 99  # of a matrix, where colours end: few large entries would hide the rest
SIZES = {"images": (1.5, 1.6), "maps": (2.2, 2.3), "matrix": (3.6, 2.8)}
"""Inches of each picture in a figure of its own."""


def reconstruction(
    result: Any,
    V: Any,
    *,
    image: tuple[int, int] | None = None,
    which: Sequence[int] | None = None,
    ax: Any = None,
    **style: Any,
) -> np.ndarray:
    """Draw parts of V, and below each its approximation W H, in the same colours.

    Rows of V that are images are drawn as images, columns over the pixels of a scene as
    maps, and any other V as a heat map of up to 160 × 160 means over blocks: of a
    sparse V, of the columns with the largest sums; where the data set has labels, rows
    of one label are together. Colours go from 0 to the largest entry of all, of a heat
    map to the 99th percentile of V.

    Args:
      result: a `Result`, offsets included, or a pair (W, H).
      V: (m, n): an array, NaN where it is unknown, SciPy sparse, `jaxnmf.Observed`, or
        a `jaxnmf.datasets.Dataset`.
      image: (height, width) of the images that rows of V are, or else columns.
      which: the numbers of the rows, or of the columns of maps; by default six rows or
        three columns, evenly spaced.
      ax: axes to draw into, two for each part: first those of V, then those of W H;
        None for a new figure.
      style: options of matplotlib's `imshow`, such as ``cmap``.

    Returns:
      The axes, (2, parts).

    Raises:
      ValueError: V or an argument does not fit the result.

    Example:
      >>> import jaxnmf
      >>> digits = jaxnmf.datasets.load("digits")
      >>> result = jaxnmf.factorize(digits.V, 9, max_iter=20)
      >>> axes = jaxnmf.plots.reconstruction(result, digits, which=[0, 1, 2])
      >>> axes.shape
      (2, 3)
    """
    parts, kind = samples(result, V, image, which)
    count = len(parts)
    axes = many_axes(
        ax, 2 * count, what="pictures of V and W H", size=SIZES[kind], columns=count
    ).reshape(2, count)
    if kind == "matrix":
        high = _percentile(parts[0].V)
    else:
        high = _largest([each for part in parts for each in (part.V, part.X)])
    colours = "viridis" if kind == "matrix" else "gray"
    given = {"cmap": colours, "vmax": high, **style}
    for i, part in enumerate(parts):
        for each, values, title in zip(
            axes[:, i], (part.V, part.X), (part.name, "W H"), strict=True
        ):
            _draw(each, values, kind, title, **given)
    return axes


def residual(
    result: Any,
    V: Any,
    *,
    image: tuple[int, int] | None = None,
    which: Sequence[int] | None = None,
    ax: Any = None,
    **style: Any,
) -> np.ndarray:
    """Draw the residual U = V − W H of the parts of V that `reconstruction` shows.

    Blue where W H is too large, red where it is too small, white where they are equal;
    the same colours for all parts, as far on both sides as the largest entry, of a heat
    map as the 99th percentile.

    Args:
      result, V, image, which: as for `reconstruction`.
      ax: axes to draw into, one for each part; None for a new figure.
      style: options of matplotlib's `imshow`, such as ``cmap``.

    Returns:
      The axes, (parts,).

    Raises:
      ValueError: V or an argument does not fit the result.

    Example:
      >>> import numpy as np, jaxnmf
      >>> W, H = np.ones((4, 1)), np.ones((1, 6))
      >>> (ax,) = jaxnmf.plots.residual((W, H), np.ones((4, 6)) + np.eye(4, 6))
      >>> np.asarray(ax.images[0].get_array())[0]
      array([1., 0., 0., 0., 0., 0.])
    """
    parts, kind = samples(result, V, image, which)
    axes = many_axes(ax, len(parts), what="pictures of U", size=SIZES[kind])
    sizes = [np.abs(part.U) for part in parts]
    high = _percentile(sizes[0]) if kind == "matrix" else _largest(sizes)
    given = {"cmap": "RdBu_r", "vmin": -high, "vmax": high, **style}
    for each, part in zip(axes, parts, strict=True):
        _draw(each, part.U, kind, f"U, {part.name}", **given)
    return axes


def _draw(axes: Any, values: np.ndarray, kind: str, title: str, **style: Any) -> None:
    if kind == "matrix":
        draw_matrix(axes, values, **style)
        axes.set(xlabel="columns", ylabel="rows")
    else:
        axes.imshow(values, **{"vmin": 0.0, "interpolation": "none", **style})
        bare(axes)
    axes.set_title(title)


def _largest(arrays: Sequence[np.ndarray]) -> float:
    known = [each[np.isfinite(each)].max(initial=0) for each in arrays]
    return float(max(known)) or 1.0


def _percentile(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    if not known.size:
        return 1.0
    return float(np.percentile(known, PERCENTILE)) or float(known.max()) or 1.0
