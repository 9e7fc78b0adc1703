"""Samples of V, of its approximation X and of the residual U = V − X, as arrays.

A sparse V is made dense only at a sample of rows, and what is unknown of V is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnmf.data.arrays import as_array
from jaxnmf.data.known import is_sparse
from jaxnmf.data.observed import Observed
from jaxnmf.plots.blocks import CELLS, block_means, bounded, by_label
from jaxnmf.plots.domain import side_of_image
from jaxnmf.plots.factors import Pair, factors_of
from jaxnmf.shapes import Float, Int

ENTRIES = 2_000_000  # of V, that are made dense at once
ROWS, MAPS = 6, 3  # pictures of rows, maps of columns


class Sample(NamedTuple):
    """A part of V, of its approximation and of the residual, in the form it is seen."""

    name: str
    V: Float[np.ndarray, "a b"]
    X: Float[np.ndarray, "a b"]
    U: Float[np.ndarray, "a b"]


class Rows(NamedTuple):
    """Evenly spaced rows of V, dense, with X and U."""

    index: Int[np.ndarray, " r"]
    V: Float[np.ndarray, "r n"]
    X: Float[np.ndarray, "r n"]
    U: Float[np.ndarray, "r n"]


def data_of(result: Any, V: Any) -> tuple[Pair, Any, Any]:
    """(the factors, V as a matrix, its data set or None).

    V is a matrix, NaN where it is unknown, SciPy sparse, `jaxnmf.Observed`, or a data
    set.

    Raises:
      ValueError: the result is none, or V has another shape.
    """
    pair = factors_of(result)
    if getattr(result, "covariates", None) is not None:
        W, H = (np.asarray(X, float) for X in result.all_factors)
        pair = pair._replace(W=W, H=H)
    dataset = V if hasattr(V, "kind") and hasattr(V, "V") else None
    if dataset is not None:
        V = dataset.V
    if not isinstance(V, Observed):
        V = V.tocsr() if is_sparse(V) else as_array("V", V)
        if isinstance(V, np.ma.MaskedArray):
            V = np.ma.filled(V.astype(float), np.nan)
    if tuple(V.shape) != pair.shape:
        raise ValueError(
            f"V has shape {tuple(V.shape)}; the result is of a matrix of shape "
            f"{pair.shape}"
        )
    return pair, V, dataset


def sampled_rows(pair: Pair, V: Any) -> Rows:
    """So many evenly spaced rows as have two million entries, at most."""
    m, n = V.shape
    most = min(m, max(1, ENTRIES // n))
    return dense_rows(pair, V, np.unique(np.linspace(0, m - 1, most, dtype=int)))


def dense_rows(pair: Pair, V: Any, index: Int[np.ndarray, " r"]) -> Rows:
    """These rows, unknown entries NaN."""
    X = approximation(pair, index, slice(None))
    v = _dense(V, index)
    X = np.where(np.isnan(v), np.nan, X) if isinstance(V, Observed) else X
    return Rows(index, v, X, v - X)


def approximation(pair: Pair, rows: Any, columns: Any) -> np.ndarray:
    """X at rows and columns."""
    X = pair.W[rows] @ pair.H[:, columns]
    if pair.b is not None and pair.c is not None:
        X += np.add.outer(pair.b[rows], pair.c[columns])
    return X


def _dense(V: Any, index: Int[np.ndarray, " r"]) -> np.ndarray:
    if isinstance(V, Observed):
        found = np.full((len(index), V.shape[1]), np.nan)
        place = np.full(V.shape[0], -1)
        place[index] = np.arange(len(index))
        at = place[V.rows]
        found[at[at >= 0], V.cols[at >= 0]] = V.values[at >= 0]
        return found
    v = V[index]
    return np.asarray(v.toarray() if is_sparse(v) else v, float)


def samples(
    result: Any, V: Any, image: Any = None, which: Sequence[int] | None = None
) -> tuple[list[Sample], str]:
    """What of V a picture shows, and how: ``("images", "maps" or "matrix")``.

    Args:
      result, V: as `data_of` takes them.
      image: (height, width), of rows or else of columns of V.
      which: the rows, or the columns of maps; None for evenly spaced ones.

    Raises:
      ValueError: an argument that does not fit.
    """
    pair, V, dataset = data_of(result, V)
    kind, image = _form(V, dataset, image)
    if which is not None and kind not in ("images", "maps"):
        raise ValueError("which: V has no rows or columns that are pictures; give none")
    if kind == "photo":
        rows = dense_rows(pair, V, np.arange(V.shape[0]))
        return [Sample("whole", *map(bounded, rows[1:]))], "images"
    if kind == "matrix":
        return [_blocks(sampled_rows(pair, V), V, dataset)], kind
    index = _index(which, V.shape[0 if kind == "images" else 1], kind)
    if kind == "images":
        rows = dense_rows(pair, V, index)
        names = [f"row {i}" for i in index]
        arrays = rows[1:]
    else:
        v, X = _columns(V, index), approximation(pair, slice(None), index).T
        arrays, names = (v, X, v - X), _band_names(dataset, index)
    found = [
        Sample(name, *(bounded(each[i].reshape(image)) for each in arrays))
        for i, name in enumerate(names)
    ]
    return found, kind


def _form(V: Any, dataset: Any, image: Any) -> tuple[str, Any]:
    """How V is shown, and the shape of its images."""
    m, n = V.shape
    if image is not None:
        side, image = side_of_image(image, (m, n))
        return ("images" if side == "columns" else "maps"), image
    if dataset is None:
        return "matrix", None
    if dataset.kind == "photo":
        return "photo", None
    if dataset.column_image is not None:
        return "images", dataset.column_image
    if dataset.row_image is not None:
        return "maps", dataset.row_image
    return "matrix", None


def _index(which: Any, size: int, kind: str) -> np.ndarray:
    if which is None:
        if kind == "images":
            return np.unique(np.linspace(0, size - 1, min(ROWS, size), dtype=int))
        return np.unique([(2 * i + 1) * size // (2 * MAPS) for i in range(MAPS)])
    index = np.atleast_1d(np.asarray(which))
    if index.ndim != 1 or index.dtype.kind not in "iu" or not index.size:
        raise ValueError(f"which={which!r} must be a list of integers")
    if not 0 <= index.min() <= index.max() < size:
        side = "rows" if kind == "images" else "columns"
        raise ValueError(f"which={which!r} must be within 0 … {size - 1}, {side} of V")
    return index


def _columns(V: Any, index: np.ndarray) -> np.ndarray:
    """Columns of V as rows of a dense array."""
    if isinstance(V, Observed):
        turned = Observed(V.cols, V.rows, V.values, V.shape[::-1])
        return _dense(turned, index)
    v = V[:, index]
    return np.asarray(v.toarray() if is_sparse(v) else v, float).T


def _band_names(dataset: Any, index: np.ndarray) -> list[str]:
    wavelengths = None if dataset is None else dataset.wavelengths
    if wavelengths is None:
        return [f"column {j}" for j in index]
    return [f"{wavelengths[j]:.0f} nm" for j in index]


def _blocks(rows: Rows, V: Any, dataset: Any) -> Sample:
    """Means over blocks, rows by label; of sparse V the columns of largest sums."""
    arrays: Sequence[np.ndarray] = rows[1:]
    columns = np.arange(V.shape[1])
    if not isinstance(V, np.ndarray):
        columns = np.argsort(-np.nan_to_num(rows.V).sum(0), kind="stable")[:CELLS]
    order = np.arange(len(rows.index))
    if dataset is not None and dataset.labels is not None:
        order = by_label(np.asarray(dataset.labels)[rows.index])
    return Sample(
        "V", *(block_means(A[order][:, columns], CELLS, CELLS) for A in arrays)
    )
