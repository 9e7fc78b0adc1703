"""The relative error of a factorisation, in float64 on the host."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxnmf._util.blocks import row_blocks
from jaxnmf._util.checks import as_matrix, check_two_axes
from jaxnmf.data.arrays import as_array
from jaxnmf.data.blocks import Blocks

_BLOCK = 2**20  # entries of W H in memory at a time


def relative_error(V: Any, W: ArrayLike, H: ArrayLike, weights: Any = None) -> float:
    r"""Relative error of a factorisation in the Frobenius norm.

    ‖V − W H‖_F / ‖V‖_F. Dense V is compared block by block, with no m×n temporary.
    For sparse V, in O(nnz p + (m + n) p²),

        ‖V − W H‖² = ‖V‖² − 2 ⟨V Hᵀ, W⟩ + ⟨WᵀW, H Hᵀ⟩.

    Close to an exact fit (below 1e-4) it is a difference that float64 does not resolve:
    then V too is compared block by block, in O(m n p).

    Args:
      V: (m, n), an array, a SciPy sparse array (what is not stored is zero) or
        `jaxnmf.Blocks`.
      W: (m, p).
      H: (p, n).
      weights: (m, n), how much each entry counts, 0 where V is unknown; for a sparse V
        a sparse array that stores the same entries, and then these alone count:
        √(Σ w (v − x)² / Σ w v²).

    Returns:
      The error: 0 is an exact fit, 1 no better than W H = 0.

    Raises:
      ValueError: the shapes do not fit, or V is zero throughout (where it is known).

    Example:
      >>> import numpy as np
      >>> from jaxnmf import metrics
      >>> V, W, H = np.ones((2, 2)), np.ones((2, 1)), np.full((1, 2), 0.5)
      >>> metrics.relative_error(V, W, H)
      0.5
    """
    squared, size = _squared(V, W, H, weights)
    if size == 0:
        shape = "×".join(map(str, np.shape(V)))
        known = shape if weights is None else "known"
        raise ValueError(f"V: all {known} entries are 0; the error is relative to ‖V‖")
    return float(np.sqrt(squared / size))


def residual_norm(V: Any, W: ArrayLike, H: ArrayLike, weights: Any = None) -> float:
    """‖V − W H‖_F, with the arguments of `relative_error`."""
    return float(np.sqrt(_squared(V, W, H, weights)[0]))


def squares(V: Any) -> float:
    """‖V‖² of an array or a SciPy sparse array."""
    return _squares(V.data if hasattr(V, "tocsr") else np.asarray(V))


def _squared(V: Any, W: ArrayLike, H: ArrayLike, weights: Any) -> tuple[float, float]:
    """‖V − W H‖² and ‖V‖²."""
    if isinstance(V, Blocks):
        return _of_blocks(V, W, H, weights)
    if hasattr(V, "tocsr"):
        V = V.tocsr()
        if not V.has_canonical_format:
            V = V.copy()
            V.sum_duplicates()
        stored = V.data.astype(np.float64)
    else:
        V = as_array("V", V)
        if isinstance(V, np.ma.MaskedArray):
            hidden, V = np.ma.getmaskarray(V), V.data
            if hidden.any():
                weights = ~hidden if weights is None else np.where(hidden, 0, weights)
        stored = V = check_two_axes("V", np.asarray(V), "(m, n)")
    W, H = as_matrix("W", W, "(m, p)"), as_matrix("H", H, "(p, n)")
    m, n = V.shape
    _check_shapes(V, W, H)
    if weights is not None:
        return _weighted(V, W, H, _weights_of(V, weights))
    size = sum(
        _squares(stored[rows])
        for rows in row_blocks(len(stored), stored[:1].size, _BLOCK)
    )
    squared = None if stored is V else _sparse_residual(V, size, W, H)
    if squared is None:
        squared = sum(
            _squares(_minus(W[rows] @ H, V[rows])) for rows in row_blocks(m, n, _BLOCK)
        )
    return squared, size


def _check_shapes(V: Any, W: np.ndarray, H: np.ndarray) -> None:
    (m, n), p = V.shape, W.shape[1]
    if W.shape[0] != m:
        raise ValueError(
            f"W: shape {W.shape} does not fit V {V.shape}; expected ({m}, p)"
        )
    if H.shape != (p, n):
        raise ValueError(
            f"H: shape {H.shape} does not fit V {V.shape} and W {W.shape}; "
            f"expected ({p}, {n})"
        )


def _of_blocks(V: Blocks, W: Any, H: Any, weights: Any) -> tuple[float, float]:
    """The same of a V that is read block by block."""
    if weights is not None:
        raise ValueError("weights: V is Blocks, of which every entry is known")
    W, H = as_matrix("W", W, "(m, p)"), as_matrix("H", H, "(p, n)")
    _check_shapes(V, W, H)
    off = size = 0.0
    for rows, block in V.each():
        more = _squared(block, W[rows], H, None)
        off, size = off + more[0], size + more[1]
    return off, size


def _weighted(
    V: Any, W: np.ndarray, H: np.ndarray, weights: Any
) -> tuple[float, float]:
    if hasattr(V, "tocsr"):
        i, j = _positions(V)
        x = np.zeros(V.nnz)
        for w, h in zip(W.T, H, strict=True):
            x += w[i] * h[j]
        off = np.sum(weights.data * (V.data - x) ** 2, dtype=np.float64)
        size = np.sum(weights.data * V.data.astype(np.float64) ** 2)
    else:
        off = size = 0.0
        for rows in row_blocks(len(V), V.shape[1], _BLOCK):
            known = weights[rows] > 0
            v, w = V[rows][known].astype(np.float64), weights[rows][known]
            off += float(np.sum(w * np.square((W[rows] @ H)[known] - v)))
            size += float(np.sum(w * np.square(v)))
    return off, size


def _weights_of(V: Any, weights: Any) -> Any:
    """Weights in the form and, where sparse, the order of V."""
    sparse = hasattr(V, "tocsr")
    if sparse != hasattr(weights, "tocsr"):
        raise ValueError("weights: must be sparse where V is, and dense where V is")
    weights = weights.tocsr(copy=True) if sparse else np.asarray(weights)
    if weights.shape != V.shape:
        raise ValueError(f"weights: shape {weights.shape} does not fit V {V.shape}")
    if sparse:
        weights.sum_duplicates()
        pairs = ((weights.indptr, V.indptr), (weights.indices, V.indices))
        if not all(np.array_equal(*pair) for pair in pairs):
            raise ValueError("weights: must store the same entries as V")
    return weights


def _squares(X: np.ndarray) -> float:
    X = X.astype(np.float64, copy=False).ravel()
    # Not BLAS: for a product this short its threads take longer to wake than to add.
    return float(np.einsum("i,i", X, X))


def _minus(X: np.ndarray, V: Any) -> np.ndarray:
    """X − V, in place."""
    if hasattr(V, "tocsr"):
        X[_positions(V)] -= V.data
        return X
    return np.subtract(X, V, out=X)


def _positions(V: Any) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each stored entry of a CSR array."""
    return np.repeat(np.arange(V.shape[0]), np.diff(V.indptr)), V.indices


def _sparse_residual(V: Any, size: float, W: np.ndarray, H: np.ndarray) -> float | None:
    """‖V − W H‖² of a sparse V, ``size`` its ‖V‖², None where its digits are lost."""
    whole = np.sum((W.T @ W) * (H @ H.T))
    squared = size - 2 * np.sum((V @ H.T) * W) + whole
    return None if squared <= 1e-8 * max(size, whole) else squared
