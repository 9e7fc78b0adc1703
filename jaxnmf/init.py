"""Initial factors, on the host: the same for every solver of a comparison."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.matrix import Dense, Matrix
from jaxnmf.registry import suggestion
from jaxnmf.separable import nonnegative_fit, snpa, spa, xray
from jaxnmf.types import Factors

SEPARABLE = {"spa": spa, "snpa": snpa, "xray": xray}
INITS = ("random", "nndsvd", "nndsvda", "nndsvdar", *SEPARABLE)


def initial_factors(
    matrix: Matrix,
    rank: int,
    init: str | Sequence[Any] = "random",
    seed: int = 0,
) -> Factors:
    """Initial rank-major factors in the matrix's precision.

    Args:
      matrix: the operand V, (m, n).
      rank: p.
      init: "random", "nndsvd", "nndsvda", "nndsvdar"; "spa", "snpa", "xray" (rows
        of V for H, see `jaxnmf.separable`, and the best W ≥ 0 for them); or a pair
        (W, H) of shapes (m, p) and (p, n), both non-negative.
      seed: of "random" and of the noise of "nndsvdar".

    Raises:
      ValueError: for an unknown name, a p that the SVD or the rows of V cannot give,
        a V without a row to choose, or factors of the wrong shape or sign.
    """
    m, n = matrix.shape
    if not isinstance(init, str):
        W, H = _custom(init, (m, rank), (rank, n))
    elif init == "random":
        W, H = _random(matrix, rank, seed)
    elif init in SEPARABLE:
        W, H = _from_rows(matrix, rank, init)
    elif init in INITS:
        W, H = _nndsvd(matrix, rank, init, seed)
    else:
        raise ValueError(
            f"init={init!r} is not known{suggestion(init, INITS)}; it must be one of "
            f"{', '.join(INITS)}, or a pair (W, H)"
        )
    dtype = np.dtype(matrix.dtype)
    return Factors(
        np.ascontiguousarray(W.T, dtype),  # pyright: ignore
        np.ascontiguousarray(H, dtype),  # pyright: ignore
    )


def component_normals(seed: int, factor: int, component: int, size: int) -> np.ndarray:
    """Standard normals that depend on (seed, factor, component) alone.

    Keyed per component and not per matrix, so that a run at p is the same whether
    its factors are padded or not, and the first p components of a larger run.
    """
    return (_kept if size <= KEPT_SIZE else _drawn)(seed, factor, component, size)


def _drawn(seed: int, factor: int, component: int, size: int) -> np.ndarray:
    stream = np.random.SeedSequence([seed, factor, component])
    normals = np.random.default_rng(stream).standard_normal(size)
    normals.setflags(write=False)
    return normals


# Runs at several ranks or by several solvers begin from the same components. At most
# 64 MB of them.
KEPT_SIZE = 2**14
_kept = functools.lru_cache(maxsize=512)(_drawn)


def _random(matrix: Matrix, rank: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """|N(0, 1)| entries, scaled alike in both factors so that ΣWH = Σ|V|."""
    m, n = matrix.shape
    W = np.abs([component_normals(seed, 0, k, m) for k in range(rank)]).T
    H = np.abs([component_normals(seed, 1, k, n) for k in range(rank)])
    scale = np.sqrt(_total(matrix) / (W.sum(0) @ H.sum(1)))
    return W * scale, H * scale


def _nndsvd(
    matrix: Matrix, rank: int, variant: str, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Boutsidis & Gallopoulos, "SVD based initialization", Pattern Recognition 41
    (2008): of each singular pair the heavier of its positive and negative parts.

    "a" fills the zeros with the mean of V, "ar" with small random values: solvers
    that cannot leave zero (multiplicative updates) need one of the two.
    """
    m, n = matrix.shape
    if rank > min(m, n):
        raise ValueError(
            f"init={variant!r} needs rank ≤ min(m, n) = {min(m, n)}, but rank={rank}; "
            "init='random' has no such limit"
        )
    from sklearn.utils.extmath import randomized_svd

    U, s, Vt = randomized_svd(matrix.to_host(), rank, random_state=0)
    W, H = np.zeros((m, rank)), np.zeros((rank, n))
    # The first pair of a non-negative matrix has one sign throughout.
    W[:, 0], H[0] = np.sqrt(s[0]) * np.abs(U[:, 0]), np.sqrt(s[0]) * np.abs(Vt[0])
    for k in range(1, rank):
        u, v = U[:, k], Vt[k]
        parts = [(np.maximum(sign * u, 0), np.maximum(sign * v, 0)) for sign in (1, -1)]
        u, v = max(parts, key=lambda uv: np.linalg.norm(uv[0]) * np.linalg.norm(uv[1]))
        u_norm, v_norm = np.linalg.norm(u), np.linalg.norm(v)
        if u_norm * v_norm > 0:
            root = np.sqrt(s[k] * u_norm * v_norm)
            W[:, k], H[k] = root * u / u_norm, root * v / v_norm
    mean = _total(matrix) / (m * n)
    if variant == "nndsvda":
        W[W == 0], H[H == 0] = mean, mean
    elif variant == "nndsvdar":
        for k in range(rank):
            for factor, x in ((0, W[:, k]), (1, H[k])):
                noise = np.abs(component_normals(seed, factor, k, x.size))
                np.copyto(x, mean * noise / 100, where=x == 0)
    return W, H


def _from_rows(matrix: Matrix, rank: int, method: str) -> tuple[np.ndarray, np.ndarray]:
    """H of rows of V, and W as the best non-negative fit to it."""
    V = matrix.to_host()
    H: Any = V[SEPARABLE[method](V, rank)]
    H = np.asarray(H.toarray() if hasattr(H, "toarray") else H, np.float64)
    return nonnegative_fit(V, H), H


def _custom(
    init: Sequence[Any], W_shape: tuple[int, int], H_shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    if not hasattr(init, "__len__"):
        raise ValueError(
            f"init={init!r} is neither one of {', '.join(INITS)} nor a pair (W, H)"
        )
    if len(init) != 2:
        raise ValueError(f"init has {len(init)} entries; a pair (W, H) is needed")
    found = []
    for name, x, shape in (("W", init[0], W_shape), ("H", init[1], H_shape)):
        x = np.asarray(x)
        if x.shape != shape:
            raise ValueError(
                f"init: {name} has shape {x.shape}; for this V and rank it must be "
                f"{shape}"
            )
        if not (x.dtype.kind in "fiub" and np.isfinite(x).all() and (x >= 0).all()):
            raise ValueError(
                f"init: {name} holds entries that are negative, not finite or not "
                "numbers; every entry must be ≥ 0"
            )
        found.append(x)
    return found[0], found[1]


_totals: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()


def _total(matrix: Matrix) -> float:
    """Σ|V|; of data observed in part, mn times the mean of what is known. Summed once:
    many runs begin from one matrix."""
    if matrix not in _totals:
        _totals[matrix] = _summed(matrix)
    return _totals[matrix]


def _summed(matrix: Matrix) -> float:
    if isinstance(matrix, Dense):
        # The same order of summation, and the same bits, however V is stored.
        turned = jax.tree.map(jnp.transpose, matrix) if matrix.transposed else matrix
        data, weights = turned.array, turned.weights
    else:
        data, weights = matrix.csr.data, matrix.csr.weights
    if weights is None:
        return _sum(abs(data))
    m, n = matrix.shape
    return m * n * _sum(abs(data) * weights) / _sum(weights)


def _sum(x: Any) -> float:
    return float(np.asarray(x.sum(-1)).sum(dtype=np.float64))
