"""Initial factors from the singular value decomposition of V."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxnmf.data.operand import Described, true_shape
from jaxnmf.init.once import once
from jaxnmf.init.random import component_normals

# The Gram matrix of a side of V costs less than a randomised decomposition where the
# side is shorter than so many times the columns that this one multiplies by, and than
# a part of the other side, so that the eigenvectors cost less than the products.
SHORT_SIDE, LONGER = 16, 5
BLOCK = 2**14


def svd_factors(
    operand: Described, rank: int, method: str, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative factors from the singular value decomposition (NNDSVD).

    Each component is the larger of the positive and the negative part of a singular
    pair. "a" fills the zeros with the mean of V, "ar" with small random values: solvers
    that cannot leave zero (multiplicative updates) need one of the two.

    Reference: Boutsidis & Gallopoulos, "SVD based initialization: a head start for
    nonnegative matrix factorization", Pattern Recognition 41 (2008) [Boutsidis2008].
    """
    m, n = map(int, true_shape(operand))
    if rank > min(m, n):
        raise ValueError(
            f"init={method!r} needs rank ≤ min(m, n) = {min(m, n)}, but rank={rank}; "
            "init='random' has no such limit"
        )
    U, s, Vt = _decomposition(operand, rank)
    U, Vt = _without_rounding(U), _without_rounding(Vt.T).T
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
    mean = operand.moments.total / (m * n)
    if method == "nndsvda":
        W[W == 0], H[H == 0] = mean, mean
    elif method == "nndsvdar":
        for k in range(rank):
            for factor, x in ((0, W[:, k]), (1, H[k])):
                noise = np.abs(component_normals(seed, factor, k, x.size))
                np.copyto(x, mean * noise / 100, where=x == 0)
    return W, H


def _without_rounding(vectors: np.ndarray) -> np.ndarray:
    """The columns with 0 for what is rounding beside their largest entry."""
    size = np.abs(vectors)
    noise = 10 * np.finfo(vectors.dtype).eps * size.max(0)
    return np.where(size > noise, vectors, 0)


@once
def _decomposition(
    operand: Described, rank: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(U, s, Vt) of the largest singular values."""
    V = operand.to_host()
    short, long = sorted(V.shape)
    is_short = short <= min(SHORT_SIDE * (rank + 10), long / LONGER)
    if isinstance(V, np.ndarray) and is_short:
        return short_svd(V, rank)
    return randomized_svd(V, rank)


def short_svd(V: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(U, s, Vt) of the largest singular values of a V with a short side.

    U are the leading eigenvectors of V Vᵀ in double precision, and s the lengths of the
    rows of UᵀV.
    """
    import scipy.linalg

    m, n = V.shape
    if m > n:
        U, s, Vt = short_svd(V.T, rank)
        return Vt.T, s, U.T

    def blocks() -> Iterator[np.ndarray]:
        # Only a block is copied in double precision.
        for begin in range(0, n, BLOCK):
            yield V[:, begin : begin + BLOCK].astype(np.float64)

    gram = sum((block @ block.T for block in blocks()), np.zeros((m, m)))
    U = scipy.linalg.eigh(gram, subset_by_index=(m - rank, m - 1))[1][:, ::-1]
    Vt = np.concatenate([U.T @ block for block in blocks()], 1)
    s = np.linalg.norm(Vt, axis=1)
    return U, s, Vt / np.where(s > 0, s, 1)[:, None]


def randomized_svd(V: Any, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(U, s, Vt) of the largest singular values of V, nearly.

    Those of QᵀV, with Q an orthonormal basis of (V Vᵀ)^q V Ω for rank + 10 random
    columns Ω. The numbers are scikit-learn's, by its settings, but for signs: to import
    that function takes longer than the rest of a first factorisation.

    Reference: Halko, Martinsson & Tropp, "Finding structure with randomness", SIAM
    Review 53 (2011) [Halko2011].
    """
    import scipy.linalg

    linalg: Any = scipy.linalg  # whose annotations know no permute_l
    if V.shape[0] < V.shape[1]:
        U, s, Vt = randomized_svd(V.T, rank)
        return Vt.T, s, U.T
    Q = np.random.RandomState(0).normal(size=(V.shape[1], rank + 10))
    if V.dtype == np.float32:
        Q = Q.astype(np.float32)
    for _ in range(7 if rank < 0.1 * min(V.shape) else 4):
        Q, _ = linalg.lu(V @ Q, permute_l=True, check_finite=False)
        Q, _ = linalg.lu(V.T @ Q, permute_l=True, check_finite=False)
    Q, _ = linalg.qr(V @ Q, mode="economic", check_finite=False)
    U, s, Vt = linalg.svd(Q.T @ V, full_matrices=False)
    return (Q @ U)[:, :rank], s[:rank], Vt[:rank]
