"""`Uncertainty`: what `jaxnmf.uncertainty` returns."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxnmf.data.containers import Names
from jaxnmf.result import Result
from jaxnmf.shapes import Bool, Float

Pair = tuple[np.ndarray, np.ndarray]


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
      W_zero, H_zero: (m, p) and (p, n), whether an entry is indistinguishable from
        zero: more than (1 − level) / 2 of the replicates have less than a thousandth of
        the component's mean there, or the displaced entry reaches 0. Its interval
        begins at 0.
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
