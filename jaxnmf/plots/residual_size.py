"""Where the residual is large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnmf.data.known import is_sparse
from jaxnmf.data.observed import Observed
from jaxnmf.plots.axes import bare, one_axes
from jaxnmf.plots.blocks import bounded, by_label, label_ticks, places
from jaxnmf.plots.domain import side_of_image
from jaxnmf.plots.heatmap import draw_matrix
from jaxnmf.plots.samples import data_of
from jaxnmf.plots.squares import squares
from jaxnmf.shapes import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLOCKS = 48  # of rows and of columns


@dataclass(frozen=True, eq=False)
class Size:
    """The residual by pixels or blocks.

    Attributes:
      sums, counts: of U², and how many known entries, of each pixel or block.
      pixels: "rows" or "columns" where these are the pixels of an image; else "".
      order: how rows and columns are sorted into blocks, in words.
      ticks: (row of blocks, label) where rows are sorted by label.
    """

    sums: Float[np.ndarray, "a b"]
    counts: Float[np.ndarray, "a b"]
    pixels: str = ""
    order: str = ""
    ticks: tuple[tuple[float, str], ...] = ()

    @property
    def root_mean_square(self) -> Float[np.ndarray, "a b"]:
        """√(Σ u² / count), NaN where nothing is known."""
        return np.sqrt(self.sums / np.where(self.counts > 0, self.counts, np.nan))


def size_of(result: Any, V: Any, image: Any = None) -> Size:
    """The sums that `residual_size` draws; the arguments are the same.

    Raises:
      ValueError: V or the image does not fit.
    """
    pair, V, dataset = data_of(result, V)
    m, n = pair.shape
    W, H, *_ = pair.with_offsets()
    pixels = ""
    if image is not None:
        pixels, image = side_of_image(image, pair.shape)
    elif dataset is not None and (dataset.column_image or dataset.row_image):
        pixels = "columns" if dataset.column_image else "rows"
        image = dataset.column_image or dataset.row_image
    if pixels:
        rows = np.zeros(m, int) if pixels == "columns" else np.arange(m)
        columns = np.arange(n) if pixels == "columns" else np.zeros(n, int)
        sums, counts = squares(V, W, H, rows, columns)
        return Size(sums.reshape(image), counts.reshape(image), pixels)
    labels = None if dataset is None else dataset.labels
    names = None if dataset is None else dataset.label_names
    rows, columns, order = _sorted(V, labels)
    a, b = min(m, BLOCKS), min(n, BLOCKS)
    ticks = () if labels is None else label_ticks(labels, names)
    return Size(
        *squares(V, W, H, rows * a // m, columns * b // n),
        order=order,
        ticks=tuple(((at + 0.5) * a / m - 0.5, name) for at, name in ticks),
    )


def residual_size(
    result: Any,
    V: Any,
    *,
    image: tuple[int, int] | None = None,
    ax: Any = None,
    **style: Any,
) -> Axes:
    """Draw the root mean square of U = V − W H: at each pixel, or in blocks of V.

    Where rows of V are images (or its columns maps), one image of the root mean square
    over all of them; else 48 × 48 blocks, of a sparse V with the fullest rows and
    columns first, rows of one label together where the data set has labels. From 0,
    dark, to the largest.

    Args:
      result: a `Result`, offsets included, or a pair (W, H).
      V: (m, n): an array, NaN where it is unknown, SciPy sparse (never made dense),
        `jaxnmf.Observed`, or a `jaxnmf.datasets.Dataset`.
      image: (height, width) of the images that rows of V are, or else columns.
      ax: axes to draw into; None for a new figure.
      style: options of matplotlib's `imshow`, such as ``cmap``.

    Returns:
      The axes.

    Raises:
      ValueError: V or the image does not fit the result.

    Example:
      >>> import numpy as np, jaxnmf
      >>> W, H = np.ones((4, 1)), np.ones((1, 6))
      >>> V = W @ H + [[0, 0, 0, 0, 0, 2]]
      >>> ax = jaxnmf.plots.residual_size((W, H), V, image=(2, 3))
      >>> np.asarray(ax.images[0].get_array())
      array([[0., 0., 0.],
             [0., 0., 2.]])
    """
    size = size_of(result, V, image)
    return draw_size(size, one_axes(ax, (4.2, 3.4)), **style)


def draw_size(size: Size, axes: Axes, **style: Any) -> Axes:
    """Draw what `size_of` found."""
    values = size.root_mean_square
    if size.pixels:
        values = bounded(values)
        high = float(values[np.isfinite(values)].max(initial=0)) or 1.0
        given = {"cmap": "viridis", "vmin": 0.0, "vmax": high, "interpolation": "none"}
        axes.imshow(values, **{**given, **style})
        bare(axes)
    else:
        draw_matrix(axes, values, ticks=size.ticks, **style)
        axes.set(xlabel="columns", ylabel="rows")
    return axes


def _sorted(V: Any, labels: Any) -> tuple[np.ndarray, np.ndarray, str]:
    """(place of each row, place of each column, how they are sorted)."""
    m, n = V.shape
    rows, columns, order = np.arange(m), np.arange(n), "in the order of V"
    if is_sparse(V) or isinstance(V, Observed):
        # Entries, not values: the frequent words, or the popular items, come first.
        i, j = (V.rows, V.cols) if isinstance(V, Observed) else V.tocoo().coords
        rows, columns = (
            places(np.argsort(-np.bincount(each, minlength=size), kind="stable"))
            for each, size in ((i, m), (j, n))
        )
        order = "columns and rows with most entries first"
    if labels is not None:
        rows = places(by_label(labels))
        then = ", columns with most entries first"
        order = "rows sorted by label" + ("" if isinstance(V, np.ndarray) else then)
    return rows, columns, order
