"""Multiplicative updates for every β-divergence."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp

from jaxnmf.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.solvers.base import BETA, Alternating, Supports


@register_solver("mu")
class MU(Alternating):
    """The multiplicative update of Lee & Seung, generalised to the β-divergence.

    H ← max(floor, H ∘ (minus / plus)^γ), where the gradient is plus − minus;
    γ = 1/(2−β) for β < 1, 1 for 1 ≤ β ≤ 2, 1/(β−1) for β > 2.

    Cost: as many products as the split gradient takes: 4mnp an iteration for
    Frobenius, 8mnp for Kullback-Leibler, 12mnp for other β. Monotone; the floor
    keeps entries from locking at zero, which limit points need to be stationary.

    Args:
      floor: the smallest entry, in units of the factor's mean at the start.

    References: Lee & Seung, "Algorithms for non-negative matrix factorization", NIPS
    13 (2001); Févotte & Idier, Neural Computation 23 (2011); Gillis & Glineur,
    Neural Computation 24 (2012), for the floor.
    """

    supports: ClassVar[Supports] = BETA
    descends: ClassVar[bool] = True
    floor: float = 1e-10

    def half_init(self, problem: Problem, fixed: Any, free: Any) -> Any:
        """The floor, fixed for the whole run so that the updates stay monotone."""
        return (
            self.floor
            * free.sum(1).sum()
            / (free.shape[1] * problem.project.rank(free))
        )

    def half_step(
        self, problem: Problem, fixed: Any, free: Any, state: Any
    ) -> tuple[Any, Any]:
        minus, plus = problem.gradient(fixed, free)
        # Where plus is 0 so is minus, and any value is as good: keep the entry.
        ratio = jnp.where(plus > 0, minus / jnp.where(plus > 0, plus, 1), 1)
        exponent = problem.loss.mu_exponent
        if exponent != 1:
            ratio = ratio**exponent
        return problem.project(free * ratio, state), state
