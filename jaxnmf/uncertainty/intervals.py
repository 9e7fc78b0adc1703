"""Intervals of the entries of W and H, and the components' stability."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxnmf.data.containers import Names
from jaxnmf.metrics import match_components
from jaxnmf.result import Result
from jaxnmf.selection.components import silhouettes, unit

Pair = tuple[np.ndarray, np.ndarray]
ZERO = 1e-3  # of the mean of its component, below which an entry is 0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Uncertainty:
    """How sure the factors of a fit are.

    Components are in the order of ``result``, whose rows of H are scaled to sum to one
    and whose W is scaled to match, here and in the intervals.

    Attributes:
      result: the fit, a `jaxnmf.Result`, scaled likewise.
      method, level: as they were given.
      W_interval: (low, high), each (m, p).
      H_interval: (low, high), each (p, n).
      W_zero, H_zero: (m, p) and (p, n), whether an entry is not told apart from zero:
        more than (1 − level) / 2 of the replicates have less than a thousandth of the
        component's mean there, or the displaced entry reaches 0. Its interval begins at
        0.
      stability: (p,), the mean silhouette of each component among the replicates', by
        the cosines of H: 1 where it comes back unchanged, near 0 or below where it is
        mixed up with another. NaN for "displacement".
      variance: (p,), the shares of the components in the sum of squares of X = W H,
        ⟨W_k H_k, X⟩ / ‖X‖², which sum to one.
      variance_interval: (low, high), each (p,); NaN for "displacement".
      H_replicates: (r, p, n), the matched rows of H of all replicates, which sum to
        one; None for "displacement".

    Example:
      >>> import numpy as np, jaxnmf
      >>> rng = np.random.default_rng(0)
      >>> V = rng.gamma(0.5, size=(60, 3)) @ rng.gamma(0.5, size=(3, 20))
      >>> V = V * rng.uniform(0.9, 1.1, V.shape)
      >>> found = jaxnmf.uncertainty(V, 3, replicates=20)
      >>> found.stability.shape, found.H_replicates.shape
      ((3,), (20, 3, 20))
    """

    result: Result
    method: str
    level: float
    W_interval: Pair
    H_interval: Pair
    W_zero: Bool[np.ndarray, "m p"]
    H_zero: Bool[np.ndarray, "p n"]
    stability: Float[np.ndarray, " p"]
    variance: Float[np.ndarray, " p"]
    variance_interval: Pair
    H_replicates: Float[np.ndarray, "r p n"] | None = None

    def named(self, names: Names) -> Uncertainty:
        """The same of data whose rows and columns have these names."""
        return dataclasses.replace(self, result=self.result.named(names))

    def __repr__(self) -> str:
        m, p = self.result.W.shape
        n = self.result.H.shape[1]
        made = "" if self.H_replicates is None else f"{len(self.H_replicates)} "
        replicates = "displaced entries" if not made else "replicates"
        return (
            f"Uncertainty({m}×{n}, rank {p}, {self.level:g} intervals by {self.method} "
            f"of {made}{replicates})"
        )


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
    order = np.stack([match_components(None, one, None, fit)[0] for one in H])
    return (
        np.take_along_axis(W, order[:, None, :], 2),
        np.take_along_axis(H, order[:, :, None], 1),
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
