"""The known entries of a matrix, as a user gives them."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from jaxnmf._util.checks import check_indices
from jaxnmf.data.arrays import as_array
from jaxnmf.data.containers import is_sparse


class Observed:
    """The known entries of a matrix; the others are unknown, not zero.

    Args:
      rows, cols: where the known entries are, integers counted from 0.
      values: what they are; a zero is a value like any other.
      shape: (m, n).
      weights: how much each counts, > 0; an entry of weight 0 is unknown. 1 by default.

    Raises:
      ValueError: lengths that differ, indices that are no integers or out of range, an
        entry that is given twice, a weight that is negative or not finite, or nothing
        known at all. Values are checked when they are factorised.

    Example:
      >>> import jaxnmf
      >>> ratings = jaxnmf.Observed([0, 0, 1], [0, 2, 1], [5.0, 3.0, 4.0], (2, 3))
      >>> ratings
      Observed(2×3, 3 known)
    """

    def __init__(
        self, rows: Any, cols: Any, values: Any, shape: Any, weights: Any = None
    ) -> None:
        self.shape = _as_shape(shape)
        self.rows = _as_index("rows", rows, self.shape[0])
        self.cols = _as_index("cols", cols, self.shape[1])
        self.values = _as_numbers("values", values)
        self.weights = (
            np.ones(len(self.values), np.float32)
            if weights is None
            else _as_numbers("weights", weights)
        )
        for name in ("cols", "values", "weights"):
            found = len(getattr(self, name))
            if found != len(self.rows):
                raise ValueError(
                    f"{name} has {found} entries and rows has {len(self.rows)}; each "
                    "known entry needs a row, a column and a value"
                )
        if not len(self.rows):
            raise ValueError(
                f"nothing is known of V of shape {self.shape}: no entry is given"
            )
        check_weights("weights", self.weights)
        keep = self.weights > 0
        if not keep.all():
            for name in ("rows", "cols", "values", "weights"):
                setattr(self, name, getattr(self, name)[keep])
        place = self.rows.astype(np.int64) * self.shape[1] + self.cols
        order = np.argsort(place, kind="stable")
        twice = np.flatnonzero(np.diff(place[order]) == 0)
        if len(twice):
            i, j = divmod(int(place[order][twice[0]]), self.shape[1])
            raise ValueError(
                f"entry ({i}, {j}) is given more than once ({len(twice)} repetitions "
                "in all); give each known entry once, for instance the last or the "
                "mean of its values"
            )
        for name in ("rows", "cols", "values", "weights"):
            setattr(self, name, getattr(self, name)[order])

    @classmethod
    def stored(cls, V: Any) -> Observed:
        """The entries that a SciPy sparse V stores, stored zeros among them."""
        if not hasattr(V, "tocoo"):
            raise ValueError(f"V is a {type(V).__name__}; it must be SciPy sparse")
        V = V.tocoo()
        return cls(V.row, V.col, V.data, V.shape)

    @property
    def nnz(self) -> int:
        """How many entries are known."""
        return len(self.values)

    def take(self, index: Any) -> Observed:
        """The known entries at ``index`` (positions or a boolean mask among them)."""
        rows, cols, values = (x[index] for x in (self.rows, self.cols, self.values))
        return Observed(rows, cols, values, self.shape, self.weights[index])

    def __repr__(self) -> str:
        m, n = self.shape
        return f"Observed({m}×{n}, {self.nnz} known)"


def check_weights(name: str, weights: np.ndarray) -> None:
    """Raise a ValueError unless all are finite and ≥ 0, and one is > 0."""
    low, high = (float(weights.min()), float(weights.max())) if weights.size else (0, 0)
    if not (np.isfinite(low) and np.isfinite(high) and low >= 0):
        raise ValueError(
            f"{name} holds entries that are negative or not finite, from {low:g} to "
            f"{high:g}; every weight must be ≥ 0"
        )
    if high == 0:
        raise ValueError(
            f"{name} leaves nothing of V known; at least one entry must count"
        )


def _as_shape(shape: Any) -> tuple[int, int]:
    try:
        m, n = map(operator.index, shape)
    except (TypeError, ValueError):
        m = n = 0
    if m < 1 or n < 1:
        raise ValueError(f"shape={shape!r} must be a pair (m, n) with m, n ≥ 1")
    return m, n


def _as_index(name: str, index: Any, size: int) -> np.ndarray:
    index = np.asarray(index)
    if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
        raise ValueError(
            f"{name} has shape {index.shape} and dtype {index.dtype}; it must be a "
            "list of integers"
        )
    if index.size and not 0 <= index.min() <= index.max() < size:
        raise ValueError(
            f"{name} reaches from {index.min()} to {index.max()}; for this shape it "
            f"must be within 0 … {size - 1}"
        )
    return index.astype(np.int32)


def _as_numbers(name: str, values: Any) -> np.ndarray:
    values = np.asarray(as_array(name, values, "a list of real numbers"))
    if values.ndim != 1:
        raise ValueError(
            f"{name} has shape {values.shape}; it must be a list of real numbers"
        )
    return values.astype(values.dtype if values.dtype.kind == "f" else np.float64)


def excluded(exclude: Any, row: int, m: int, n: int) -> np.ndarray:
    """The columns to leave out of a row's recommendations, as `Result.recommend` says.

    Raises:
      ValueError: for an exclude that does not fit.
    """
    if isinstance(exclude, Observed) or is_sparse(exclude):
        if tuple(exclude.shape) != (m, n):
            raise ValueError(
                f"exclude has shape {tuple(exclude.shape)}; it must be ({m}, {n})"
            )
        if isinstance(exclude, Observed):
            return exclude.cols[exclude.rows == row]
        start, stop = (exclude := exclude.tocsr()).indptr[row : row + 2]
        return exclude.indices[start:stop]
    exclude = np.asarray(exclude)
    if exclude.dtype == bool:
        if exclude.shape != (n,):
            raise ValueError(f"exclude has shape {exclude.shape}; it must be ({n},)")
        return exclude
    return check_indices("exclude", exclude, n)
