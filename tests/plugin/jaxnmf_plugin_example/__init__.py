"""A solver outside jaxnmf: this file and one line of pyproject.toml."""

from typing import Any, ClassVar

import jax.numpy as jnp

from jaxnmf import register_solver
from jaxnmf.objective.problem import Problem
from jaxnmf.solvers import QUADRATIC, Alternating, Supports
from jaxnmf.types import static


@register_solver("msom")
class MSOM(Alternating):
    """A majorised gradient step, with a step size for each component.

    With G = WᵀW and B = WᵀV:  H ← max(0, H + γ (B − G H) / (G 1)).

    diag(G 1) − G is positive semidefinite for G ≥ 0, so the separable quadratic
    with curvature G 1 lies above the loss, and γ ≤ 1 (below 2 in exact arithmetic)
    descends. A row of G that is zero belongs to an empty component, which stays.

    Args:
      gamma: the step, in units of the inverse curvature of the majoriser.
      inner: steps for each G and B.

    Reference: Pham, Cohen & Chonavel, "A fast multiplicative updates algorithm for
    non-negative matrix factorization", arXiv:2303.17992 [Pham2023].
    """

    supports: ClassVar[Supports] = QUADRATIC
    monotone: ClassVar[bool] = True
    gamma: float = 1.0
    inner: int = static(1)

    def half_step(
        self, problem: Problem, fixed: Any, free: Any, state: Any
    ) -> tuple[Any, Any]:
        gram, cross = problem.quadratic(fixed)
        penalty = problem.penalty
        curvature = (gram.sum(1) + penalty.l2)[:, None]
        live = curvature > 0
        step = jnp.where(live, self.gamma / jnp.where(live, curvature, 1), 0)
        for _ in range(self.inner):
            gradient = gram @ free - cross + penalty.gradient(free)
            free = problem.project(free - step * gradient)
        return free, state
