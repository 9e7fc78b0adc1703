"""Intervals of the entries of W and H, and the components' stability."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxnmf.metrics import match_components
from jaxnmf.result import Result
from jaxnmf.selection.components import silhouettes, unit
from jaxnmf.shapes import Float
from jaxnmf.uncertainty.result import Pair, Uncertainty

ZERO = 1e-3  # of the mean of its component, below which an entry is 0


def in_shares(W: np.ndarray, H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(W, H), …×m×p and …×p×n, with the rows of H scaled to sum to one and W to match;
    a row of zeros stays."""
    total = H.sum(-1, dtype=np.float64)
    safe = np.where(total > 0, total, 1.0)
    return W * safe[..., None, :], H / safe[..., :, None]


def scaled_result(result: Result) -> Result:
    """A result with the rows of H scaled to sum to one and W to match."""
    W, H = in_shares(result.W, result.H)
    dtype = result.H.dtype
    return dataclasses.replace(result, W=W.astype(dtype), H=H.astype(dtype))


def shares_of_variance(
    W: Float[np.ndarray, "m p"], H: Float[np.ndarray, "p n"]
) -> Float[np.ndarray, " p"]:
    """⟨W_k H_k, X⟩ / ‖X‖² for X = W H."""
    W, H = W.astype(np.float64), H.astype(np.float64)
    products = ((W.T @ W) * (H @ H.T)).sum(1)
    return products / products.sum()


def matched_to(
    W: Float[np.ndarray, "r m p"], H: Float[np.ndarray, "r p n"], fit: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Replicates with their components in the order of a fit's H."""
    order = [match_components(None, one, None, fit)[0] for one in H]
    return (
        np.stack([one[:, of_fit] for one, of_fit in zip(W, order, strict=True)]),
        np.stack([one[of_fit] for one, of_fit in zip(H, order, strict=True)]),
    )


def of_replicates(
    result: Result,
    W: Float[np.ndarray, "r m p"],
    H: Float[np.ndarray, "r p n"],
    *,
    method: str,
    level: float,
) -> Uncertainty:
    """The intervals of a fit, from the factors of its replicates."""
    result = scaled_result(result)
    W, H = matched_to(*in_shares(W, H), result.H)
    variance = np.stack([shares_of_variance(*one) for one in zip(W, H, strict=True)])
    W_interval, W_zero = interval(W, level, result.W.mean(0))
    H_interval, H_zero = interval(H, level, result.H.mean(1, keepdims=True))
    return Uncertainty(
        result=result,
        method=method,
        level=level,
        W_interval=W_interval,
        H_interval=H_interval,
        W_zero=W_zero,
        H_zero=H_zero,
        stability=silhouettes(unit(H)).mean(0),
        variance=shares_of_variance(result.W, result.H),
        variance_interval=interval(variance, level, np.zeros(1))[0],
        H_replicates=H,
    )


def interval(values: np.ndarray, level: float, size: Any) -> tuple[Pair, np.ndarray]:
    """((low, high), which are zero) of values over replicates, the first axis; ``size``
    are the means that entries are compared with."""
    tail = (1 - level) / 2
    # The (r + 1) q-th of r values, below which a new one is with probability q.
    low, high = np.quantile(values, [tail, 1 - tail], axis=0, method="weibull")
    zero = (values <= ZERO * size).mean(0) > tail
    return (np.where(zero, 0.0, low), high), zero
