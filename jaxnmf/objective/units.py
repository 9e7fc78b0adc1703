"""Units: powers of two that a problem is scaled by, so that the scale of V is of no
consequence.

A problem works on V / (a b), W / a and H / b, which float32 can hold and square. Its
penalties and held values are scaled likewise, so that it is the same problem: the
objective is that of the user over (a b)^β. Multiplication by a power of two is exact.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from jaxnmf.data.spread import is_spread
from jaxnmf.objective.constraints import Box, NonNegative
from jaxnmf.objective.penalties import Penalty
from jaxnmf.types import Factors

# The largest entry of V that is left as it is: squares and cubes of it, and of a
# millionth of it, are numbers of float32.
ORDINARY = (2.0**-16, 2.0**20)


@dataclasses.dataclass(frozen=True)
class Units:
    """What the numbers of a problem are multiplied by to be the user's.

    Attributes:
      W, H: for the factors, powers of two.
      beta: β of the divergence; any where the units are 1.
      offsets: the components that are offsets of rows and of columns, with 1 in the
        other factor; None without offsets.
    """

    W: float = 1.0
    H: float = 1.0
    beta: float = 1.0
    offsets: tuple[int, int] | None = None

    @property
    def T(self) -> Units:
        """Those of the problem of Vᵀ."""
        offsets = self.offsets and self.offsets[::-1]
        return dataclasses.replace(self, W=self.H, H=self.W, offsets=offsets)

    @property
    def V(self) -> float:
        """For V."""
        return self.W * self.H

    @property
    def objective(self) -> float:
        """For the objective: infinite or 0 where float64 cannot hold it."""
        with np.errstate(over="ignore", under="ignore"):
            return float(np.float64(self.V) ** self.beta)

    @property
    def inverse(self) -> Units:
        """From the user's numbers to the problem's."""
        return dataclasses.replace(self, W=1 / self.W, H=1 / self.H)

    def of_factor(self, side: int, rows: int) -> Any:
        """For W (``side`` 0) or H (1), of so many components."""
        unit = (self.W, self.H)[side]
        if self.offsets is None:
            return unit
        column = np.full((rows, 1), unit)
        column[self.offsets[side]], column[self.offsets[1 - side]] = self.V, 1
        return column

    def of(self, factors: Factors) -> Factors:
        """The user's factors, on the host where there is anything to multiply and they
        are not spread over processes."""
        if self.W == self.H == 1:
            return factors
        own = (X if is_spread(X) else np.asarray(X) for X in factors)
        pairs = enumerate(own)
        return Factors(
            *((X * self.of_factor(side, len(X))).astype(X.dtype) for side, X in pairs)
        )

    def penalty(self, penalty: Penalty, side: int) -> Penalty:
        """The penalty on a factor, from the problem's numbers to the user's."""
        if self.W == self.H == 1:
            return penalty
        l1, l2, toward = map(_float64, (penalty.l1, penalty.l2, penalty.toward))
        rows = max((len(x) for x in (l1, l2, toward) if x.ndim), default=1)
        unit, whole = self.of_factor(side, rows), self.objective
        weight = penalty.graph_weight
        with np.errstate(over="ignore", under="ignore"):
            if weight is not None:
                weight = _float64(weight) * (whole / unit / unit)
            return Penalty(
                l1=l1 * (whole / unit),
                l2=l2 * (whole / unit / unit),
                toward=toward * unit,
                graph_weight=weight,
            )

    def constraint(self, constraint: NonNegative, side: int) -> NonNegative:
        """The constraint of a factor likewise: its bound, and the values held."""
        if self.W == self.H == 1:
            return constraint
        changes: dict[str, Any] = {}
        if constraint.held is not None:
            held = _float64(constraint.held)
            changes["held"] = held * self.of_factor(side, len(held))
        if isinstance(constraint, Box):
            changes["upper"] = _float64(constraint.upper) * (self.W, self.H)[side]
        return dataclasses.replace(constraint, **changes)


def units_of(
    largest: float,
    beta: float | None,
    unscaled_W: bool,
    unscaled_H: bool,
    known: tuple[float, float] = (0.0, 0.0),
) -> Units:
    """Units for a V of this largest entry.

    Those of the factors are the root of V's, but for a factor that has a scale of its
    own, as on the simplex. Where both have, or where the loss is no β-divergence, all
    are 1. A factor with ``known`` entries, of W and of H the largest, has their unit.
    """
    if beta is None or (unscaled_W and unscaled_H):
        return Units()
    whole = unit_of(largest)
    root = math.sqrt(whole)  # exact for a power of four
    if unscaled_W or unscaled_H:
        root = 1.0 if unscaled_W else whole
    elif known[1] > 0:
        root = whole / unit_of(known[1])
    elif known[0] > 0:
        root = unit_of(known[0])
    return Units(root, whole / root, beta)


def unit_of(largest: float) -> float:
    """The power of four near the largest entry, 1 for an ordinary one, and for one that
    is 0 or no finite number."""
    low, high = ORDINARY
    if not 0 < largest < np.inf or low <= largest <= high:
        return 1.0
    return math.ldexp(1.0, 2 * (math.frexp(largest)[1] // 2))


def _float64(x: Any) -> np.ndarray:
    return np.asarray(x, np.float64)
