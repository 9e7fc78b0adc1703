"""What is known of a user's V: the one interpretation of V and its mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.data.arrays import NUMBERS, as_array
from jaxnmf.data.blocks import Blocks
from jaxnmf.data.containers import contents, is_sparse
from jaxnmf.data.observed import Observed, check_weights
from jaxnmf.data.parts import Parts

# V is stored dense from this share of known entries on: products of blocks are then
# cheaper than gathers, and the two sparse copies larger.
DENSE_SHARE = 0.2


class SideBySide:
    """Several V of the same rows, each as it is: not one matrix.

    Attributes:
      each: what is `Known` of them.
      shape: (m, n), n their columns together.
    """

    def __init__(self, each: Sequence[Known]) -> None:
        self.each = tuple(each)
        columns = sum(one.V.shape[1] for one in each)
        self.shape = each[0].V.shape[0], columns


class Known(NamedTuple):
    """V and the weights of its entries.

    Attributes:
      V: an array (m, n), a canonical CSR matrix of which every entry is known, one of
        these as `Parts`, `Blocks`, `Observed`, or `SideBySide`.
      weights: of an array's entries, 0 for an unknown one; None where all are known and
        count alike, and for `Observed`, which has its own.
    """

    V: Any
    weights: np.ndarray | None

    @property
    def in_part(self) -> bool:
        """Whether V is observed in part, or its entries have weights."""
        if isinstance(self.V, SideBySide):
            return any(one.in_part for one in self.V.each)
        return self.weights is not None or isinstance(self.V, Observed)

    @property
    def kind(self) -> str:
        """The kind of operand that V will be: "dense", "sparse", "observed" or
        "blocks"."""
        if self.in_part:
            return "observed"
        if isinstance(self.V, Blocks):
            return "blocks"
        if isinstance(self.V, Parts):
            return "sparse" if self.V.survey.sparse else "dense"
        if isinstance(self.V, SideBySide):
            kinds = {one.kind for one in self.V.each}
            return "sparse" if "sparse" in kinds else "dense"
        return "sparse" if is_sparse(self.V) else "dense"

    def largest(self, signed: bool = False) -> float:
        """The largest known entry, of |V| where entries may be negative."""
        V, weights = self
        if isinstance(V, SideBySide):
            return max(one.largest(signed) for one in V.each)
        if isinstance(V, Blocks | Parts):
            survey = V.survey() if isinstance(V, Blocks) else V.survey
            return survey.largest if signed else survey.high
        values: Any = V
        if isinstance(V, Observed):
            values = V.values
        elif is_sparse(V):
            values = np.asarray(V.data)
        if weights is not None:
            xp: Any = jnp if isinstance(V, jax.Array) else np
            values = xp.where(weights > 0, values, 0)
        if not values.size:
            return 0.0
        high = float(values.max())
        return max(high, -float(values.min())) if signed else high

    @property
    def mean(self) -> float:
        """Of the known entries, whatever their weights."""
        V, weights = self
        if isinstance(V, Observed):
            return float(V.values.mean(dtype=np.float64))
        if weights is not None:
            return float(np.mean(np.asarray(V)[weights > 0], dtype=np.float64))
        V = V if is_sparse(V) else np.asarray(V)
        return float(V.sum(dtype=np.float64)) / (V.shape[0] * V.shape[1])

    @property
    def dtype(self) -> np.dtype:
        """That of the numbers of V."""
        V = self.V
        return np.dtype(V.values.dtype if isinstance(V, Observed) else V.dtype)

    @property
    def T(self) -> Known:
        """The same of Vᵀ."""
        V, weights = self
        if isinstance(V, Observed):
            m, n = V.shape
            return Known(Observed(V.cols, V.rows, V.values, (n, m), V.weights), None)
        turned = V.T.tocsr() if is_sparse(V) else V.T
        return Known(turned, None if weights is None else weights.T)

    def observed(self) -> Observed:
        """Every known entry. A sparse V is made dense: its zeros are known."""
        if isinstance(self.V, Observed):
            return self.V
        V = self.V.toarray() if is_sparse(self.V) else np.asarray(self.V)
        weights = np.ones(V.shape) if self.weights is None else self.weights
        rows, cols = np.argwhere(weights).T
        return Observed(rows, cols, V[rows, cols], V.shape, weights[rows, cols] * 1.0)


def what_is_known(V: Any, mask: Any = None) -> Known:
    """Interpret a user's V and mask.

    Args:
      V: a NumPy or JAX array (sharded or not), a masked array, a container
        (`contents`), anything `numpy.asarray` takes or that has ``__dlpack__``, SciPy
        sparse, `Blocks`, or `Observed`; `Known` is returned as it is.
      mask: (m, n), true or a weight > 0 for a known entry, an array or SciPy sparse;
        "nan" for every entry that is not NaN; or None.

    Raises:
      ValueError: for anything else. The values of known entries are checked where
        they are converted.
    """
    if isinstance(V, Known):
        return V
    if isinstance(V, Observed):
        if mask is not None:
            raise ValueError("mask: V is Observed, which says itself what is known")
        return Known(V, None)
    if isinstance(V, Blocks):
        if mask is not None:
            raise ValueError("mask: V is Blocks, of which every entry is known")
        return Known(V, None)
    if hasattr(V, "joined"):
        V.__array__()  # `Views`, which are made of what this returns, say why not
    V = contents(V)
    if is_sparse(V):
        if V.dtype.kind not in NUMBERS:
            raise ValueError(f"V has dtype {V.dtype}; it must contain real numbers")
        _check_matrix(V.shape)
        V = _canonical(V)
    else:
        V = as_array("V", V)
        _check_matrix(V.shape)
    if isinstance(V, np.ma.MaskedArray):
        V, mask = _without_mask(V, mask)
    if mask is None:
        return Known(V, None)
    mask = _as_mask(mask, V)
    if is_sparse(mask):
        known = mask.tocoo(copy=True)
        known.sum_duplicates()
        rows, cols, weights = known.row, known.col, known.data
        check_weights("mask", weights)
    else:
        check_weights("mask", mask)
        if not is_sparse(V) and stored_dense(int(np.count_nonzero(mask)), V.shape):
            return Known(V, mask)
        rows, cols = np.nonzero(mask)
        weights = mask[rows, cols]
    values = np.asarray(V[rows, cols]).ravel()
    return Known(Observed(rows, cols, values, V.shape, weights), None)


def stored_dense(known: int, shape: tuple[int, int]) -> bool:
    """Whether V with so many known entries is stored dense."""
    return known >= DENSE_SHARE * shape[0] * shape[1]


def _canonical(V: Any) -> Any:
    csr = V.tocsr()
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    return csr


def _without_mask(V: Any, mask: Any) -> tuple[Any, Any]:
    """The data of a masked array, and a mask that leaves out what it masks."""
    hidden = np.ma.getmaskarray(V)
    V = V.data
    if not hidden.any():
        return V, mask
    if mask is None:
        return V, ~hidden
    mask = _as_mask(mask, V)
    return V, np.where(hidden, 0, mask.toarray() if is_sparse(mask) else mask)


def _as_mask(mask: Any, V: Any) -> Any:
    """An array or SciPy sparse, of the shape of V."""
    if isinstance(mask, str):
        if mask != "nan":
            raise ValueError(f"mask={mask!r} is neither 'nan' nor an (m, n) array")
        if is_sparse(V):
            raise ValueError(
                "mask='nan' needs a dense V; of a sparse V pass "
                "jaxnmf.Observed.stored(V) for the stored entries"
            )
        mask = ~np.isnan(np.asarray(V))
    if not is_sparse(mask):
        mask = np.asarray(as_array("mask", mask, f"of the shape of V, {V.shape}"))
    if tuple(mask.shape) != tuple(V.shape):
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}; it must be that of V, "
            f"{tuple(V.shape)}"
        )
    if mask.dtype.kind not in NUMBERS:
        raise ValueError(f"mask has dtype {mask.dtype}; it must be bool or weights ≥ 0")
    return mask


def _check_matrix(shape: tuple[int, ...]) -> None:
    if len(shape) != 2:
        raise ValueError(
            f"V has {len(shape)} dimension(s), shape {tuple(shape)}; it must be a "
            "matrix of shape (m, n)"
        )
    if 0 in shape:
        raise ValueError(f"V is empty, shape {tuple(shape)}; it needs m ≥ 1 and n ≥ 1")
