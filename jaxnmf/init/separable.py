"""Separable NMF: rows of V that span all the others. On the host, in float64.

V is separable when its components are among its own rows, V = W V[rows] with W ≥ 0:
pure pixels of a scene, anchor documents of a corpus. Each function takes V (m, n), a
NumPy array or SciPy sparse with samples as rows, and returns p row numbers in the
order they were found: the first q of them are the answer for rank q.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxnmf.objective.constraints import NonNegative, Simplex
from jaxnmf.shapes import Float, Int


def spa(V: Any, rank: int, *, normalise: bool = False) -> Int[np.ndarray, " p"]:
    """The successive projection algorithm.

    p times: i = argmax_i ‖r_i‖, then R ← R (I − r_iᵀ r_i / ‖r_i‖²), with R = V at
    first. Only the norms of R are kept, ‖r_i‖² ← ‖r_i‖² − ⟨v_i, q⟩² with q the
    residual of the row chosen, of length 1, so a sparse V stays sparse.

    Cost: one product with V a component, 2mnp in all. Exact where W is row-stochastic
    (Σ_k w_ik ≤ 1) and V[rows] has rank p; noise of norm ε a row moves what it finds by
    O(ε κ²), κ the condition number of V[rows], as long as ε = O(σ_min / (√p κ²)).

    Args:
      V: (m, n), non-negative, not all zero.
      rank: p ≤ min(m, n).
      normalise: scale the rows to sum 1 first, which makes W row-stochastic whatever
        the scale of a sample; it also magnifies the noise of faint rows.

    Returns:
      (p,) distinct row numbers.

    Raises:
      ValueError: V is all zero, or rank > min(m, n).

    Reference: Gillis & Vavasis, "Fast and robust recursive algorithms for separable
    nonnegative matrix factorization", IEEE Trans. PAMI 36 (2014) [GillisVavasis2014].
    """
    V = _checked("spa", V, rank, normalise)
    norms = _squared_norms(V)
    basis = np.zeros((rank, V.shape[1]))
    chosen: list[int] = []
    for k in range(rank):
        i = _largest(norms, chosen)
        chosen.append(i)
        q = _row(V, i)
        for _ in range(2):  # once leaves rounding errors along the basis
            q = q - (basis[:k] @ q) @ basis[:k]
        length = np.linalg.norm(q)
        if length > 0:
            basis[k] = q / length
            norms = norms - (V @ basis[k]) ** 2
    return np.array(chosen)


def snpa(V: Any, rank: int, *, normalise: bool = False) -> Int[np.ndarray, " p"]:
    """The successive non-negative projection algorithm.

    p times: i = argmax_i ‖v_i − w_i V[rows]‖ with w_i the best w ≥ 0, Σ_k w_k ≤ 1:
    as `spa`, with the projection on the convex hull of the rows found and 0 in place
    of their span.

    Cost: one product with V a component and, for the projections, an accelerated
    gradient method on p×p Gram matrices, O(mp²) a step of it. Exact also where V[rows]
    has a rank below p, as long as none of those rows is in the convex hull of the
    others and 0, and at least as robust to noise as `spa`: O(ε κ²) with a κ of the
    non-negative projections, which is never larger.

    Args, returns, raises: as `spa`.

    Reference: Gillis, "Successive nonnegative projection algorithm for robust
    nonnegative blind source separation", SIAM J. Imaging Sciences 7 (2014)
    [Gillis2014].
    """
    V = _checked("snpa", V, rank, normalise)
    norms = _squared_norms(V)
    residual, chosen = norms, []
    cross = np.zeros((0, V.shape[0]))
    W = np.zeros((0, V.shape[0]))
    for _ in range(rank):
        chosen.append(_largest(residual, chosen))
        H = _rows(V, chosen)
        cross, W, residual = _with_last(V, H, cross, W, norms, _hull_fit)
    return np.array(chosen)


def xray(V: Any, rank: int) -> Int[np.ndarray, " p"]:
    """XRAY: an extreme ray of the cone of V's rows at a time.

    p times, with R = V − W V[rows] and W ≥ 0 the best fit: the row of the largest
    residual, i = argmax_i ‖r_i‖, shows the way out of the cone, and
    argmax_j ⟨r_i, v_j⟩ / Σv_j is the extreme ray furthest along it (the paper's
    selection rule "max").

    Cost: two products with V a component and a non-negative fit, O(mp²) a sweep of it.
    Exact for separable V whatever the scale of its rows, since it works on rays and
    not on points; good under noise in practice, without a bound as `spa` has.

    Args, returns, raises: as `spa`.

    Reference: Kumar, Sindhwani & Kambadur, "Fast conical hull algorithms for
    near-separable non-negative matrix factorization", ICML (2013) [Kumar2013].
    """
    V = _checked("xray", V, rank, normalise=False)
    norms, sums = _squared_norms(V), np.asarray(V.sum(1)).ravel()
    residual, chosen = norms, []
    H, W = np.zeros((0, V.shape[1])), np.zeros((0, V.shape[0]))
    cross = W
    for _ in range(rank):
        i = int(np.argmax(residual))
        outward = V @ (_row(V, i) - W[:, i] @ H)
        score = np.full_like(sums, -np.inf)
        np.divide(outward, sums, out=score, where=sums > 0)
        chosen.append(_largest(score, chosen))
        H = _rows(V, chosen)
        cross, W, residual = _with_last(V, H, cross, W, norms, _cone_fit)
    return np.array(chosen)


def nonnegative_fit(V: Any, H: Float[np.ndarray, "p n"]) -> Float[np.ndarray, "m p"]:
    """argmin over W ≥ 0 of ‖V − W H‖², by coordinate descent on the columns of W.

    Args:
      V: (m, n), a NumPy array or SciPy sparse.
      H: (p, n), non-negative.
    """
    cross = np.asarray((V @ H.T).T, np.float64)
    return _cone_fit(H @ H.T, cross, np.zeros_like(cross)).T


def _with_last(V: Any, H: Any, cross: Any, W: Any, norms: Any, fit: Any):
    """(H Vᵀ, W, ‖v_i − w_i H‖²) with the last row of H new to the other two."""
    cross = np.vstack([cross, V @ H[-1]])
    gram = H @ H.T
    W = fit(gram, cross, np.vstack([W, np.zeros((1, V.shape[0]))]))
    return cross, W, norms - ((2 * cross - gram @ W) * W).sum(0)


def _cone_fit(gram: Any, cross: Any, W: Any, tol: float = 1e-9, sweeps: int = 500):
    """argmin over W ≥ 0 of ½⟨W, gram W⟩ − ⟨cross, W⟩, (p, m), from W."""
    W, project = W.copy(), NonNegative().entrywise
    for _ in range(sweeps):
        moved = 0.0
        for k in range(len(W)):
            if gram[k, k] > 0:
                best = (cross[k] - gram[k] @ W) / gram[k, k]
                step = project(best, -W[k])  # so that W[k] + step ≥ 0
                W[k] += step
                moved = max(moved, np.abs(step).max() * np.sqrt(gram[k, k]))
        if moved <= tol * np.sqrt(gram.diagonal().max() * max((W * W).max(), 1e-300)):
            break
    return W


def _hull_fit(gram: Any, cross: Any, W: Any, tol: float = 1e-9, steps: int = 1000):
    """The same over W ≥ 0 with columns of sum ≤ 1, by accelerated projected gradient
    with restarts (O'Donoghue & Candès 2015)."""
    lipschitz = np.linalg.eigvalsh(gram)[-1]
    if not lipschitz > 0:
        return W
    Y, t, project = W, 1.0, Simplex(at_most=True)
    for _ in range(steps):
        new = project(Y - (gram @ Y - cross) / lipschitz)
        step = new - W
        if ((Y - new) * step).sum() > 0:
            t = 1.0
        t, last = (1 + np.sqrt(1 + 4 * t * t)) / 2, t
        Y, W = new + (last - 1) / t * step, new
        if np.abs(step).max() <= tol:
            break
    return W


def _checked(name: str, V: Any, rank: int, normalise: bool) -> Any:
    """V in float64, or a ValueError."""
    m, n = V.shape
    if not 1 <= rank <= min(m, n):
        raise ValueError(
            f"{name!r} chooses among the rows of V: it needs 1 ≤ rank ≤ min(m, n) = "
            f"{min(m, n)}, but rank={rank}"
        )
    sparse = hasattr(V, "tocsr")
    V = V.tocsr().astype(np.float64) if sparse else np.asarray(V, np.float64)
    sums = np.asarray(V.sum(1)).ravel()
    if not sums.max() > 0:
        raise ValueError(
            f"{name!r} needs a row of V that is not zero; all {m}×{n} entries are 0"
        )
    if normalise:
        factors = np.where(sums > 0, 1 / np.where(sums > 0, sums, 1), 0)
        V = V.multiply(factors[:, None]).tocsr() if sparse else V * factors[:, None]
    return V


def _squared_norms(V: Any) -> np.ndarray:
    squares = V.multiply(V) if hasattr(V, "tocsr") else V * V
    return np.asarray(squares.sum(1)).ravel()


def _rows(V: Any, rows: list[int]) -> np.ndarray:
    return V[rows].toarray() if hasattr(V, "tocsr") else V[rows]


def _row(V: Any, i: int) -> np.ndarray:
    return _rows(V, [i])[0]


def _largest(values: np.ndarray, chosen: list[int]) -> int:
    """argmax over the rows not yet chosen."""
    values = values.copy()
    values[chosen] = -np.inf
    return int(np.argmax(values))
