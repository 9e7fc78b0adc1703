"""Components, each in the data's own form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnmf.plots.axes import many_axes
from jaxnmf.plots.domain import domain, own_factor
from jaxnmf.plots.factors import check_factor, factors_of, scaled, which
from jaxnmf.plots.vectors import draw_vector

SIZES = {"image": (1.3, 1.5), "names": (3.4, 1.9), "curve": (3.4, 1.7)}
"""Inches of each picture in a figure of its own."""


def components(
    result: Any,
    dataset: Any = None,
    *,
    factor: str | None = None,
    image: tuple[int, int] | None = None,
    names: Sequence[str] | None = None,
    x: Any = None,
    label: str | None = None,
    components: Sequence[int] | None = None,
    words: int = 8,
    relative: bool = False,
    ax: Any = None,
    **style: Any,
) -> np.ndarray:
    """Draw components, one picture each, strongest first.

    A component is a row of H (or a column of W) and is drawn in the form of the data:
    an image where its entries are pixels, a curve where they lie on an axis
    (wavelengths, frequencies, times), the largest entries by name where they have
    names, and else a bar for each of up to 128 entries or a curve. The title is the
    component's number, from 0; the strength that orders them is ‖w_k‖ ‖h_k‖.

    Args:
      result: a `Result`, or a pair (W, H) of arrays (m, p) and (p, n).
      dataset: a `jaxnmf.datasets.Dataset`, which says what rows and columns are.
      factor: "H" for its rows, "W" for its columns; by default "W" where the rows of
        the data set are pixels, and else "H".
      image: (height, width) of an image whose pixels, row by row, are the entries.
      names: a name for each entry.
      x: where the entries are on an axis, one number each; ``label`` names it.
      components: the numbers of those to draw, in this order; by default all, or as
        many of the strongest as there are axes.
      words: how many names, where entries have names.
      relative: whether to divide each component by its largest entry.
      ax: axes to draw into, an array or sequence with one for each component; None for
        a new figure, the ``.figure`` of any of the axes.
      style: options of matplotlib's artist (`imshow`, `plot`, `vlines`, `barh`), such
        as ``cmap="viridis"`` or ``color="C1"``.

    Returns:
      The axes, (count,).

    Raises:
      ValueError: an argument that does not fit the result.

    Example:
      >>> import jaxnmf
      >>> digits = jaxnmf.datasets.load("digits")
      >>> result = jaxnmf.factorize(digits.V, 9, max_iter=20)
      >>> axes = jaxnmf.plots.components(result, digits)
      >>> len(axes)
      9
      >>> same = jaxnmf.plots.components(result, image=(8, 8))
    """
    pair = factors_of(result)
    factor = check_factor(own_factor(dataset) if factor is None else factor)
    vectors = pair.vectors(factor)
    of = domain(
        dataset, factor, vectors.shape[1], image=image, names=names, x=x, label=label
    )
    shown = which(pair, components, ax)
    kind = "image" if of.image else "names" if of.names is not None else "curve"
    axes = many_axes(ax, len(shown), what="components", size=SIZES[kind])
    if of.image and factor == "W":
        style = {"cmap": "viridis", **style}
    for each, k in zip(axes, shown, strict=True):
        values = scaled(vectors[k]) if relative else vectors[k]
        draw_vector(each, values, of, words=words, **style)
        each.set_title(str(k))
    return axes
