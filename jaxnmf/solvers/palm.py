"""Proximal alternating linearised minimisation, plain and inertial."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax.numpy as jnp

from jaxnmf.data.grams import Gram
from jaxnmf.kernels.step_sizes import gradient_step
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.shapes import Array, Int
from jaxnmf.solvers.base import (
    BLOCKS,
    EVERY_OPERAND,
    PROJECTED,
    QUADRATIC,
    Alternating,
    Supports,
)
from jaxnmf.types import Cross, FixedFactor, FreeFactor, State, static


@register_solver("palm")
class PALM(Alternating):
    """PALM: one proximal gradient step for each factor in turn.

    H ← P(H − ∇_H D / (gamma L)), with L ≥ λ_max(WᵀW) + l2 the Lipschitz constant of
    the gradient for the current W.

    Cost: 2mnp and 2np² for each factor. Monotone for gamma ≥ 1 (above ½ in exact
    arithmetic); with gamma > 1 and bounded factors the iterates converge to a critical
    point, since the objective has the Kurdyka-Łojasiewicz property.

    Use: comparisons, and where a proof of convergence to a critical point is wanted;
    `extrapolated` is about ten times as fast.

    Args:
      gamma: by how much a step is shorter than 1/L.

    Reference: Bolte, Sabach & Teboulle, "Proximal alternating linearized minimization
    for nonconvex and nonsmooth problems", Mathematical Programming 146 (2014)
    [Bolte2014].
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(
        constraints=PROJECTED, operands=EVERY_OPERAND | BLOCKS, graph=True, toward=True
    )
    monotone: ClassVar[bool] = True
    gamma: float = 1.01

    def nnls(
        self,
        problem: Problem,
        gram: Gram,
        cross: Cross,
        free: FreeFactor,
        state: State,
    ) -> tuple[FreeFactor, State]:
        step = gradient_step(problem, gram) / self.gamma
        gradient = gram @ free - cross + problem.penalty.gradient(free)
        return problem.project(free - step * gradient), state


class Previous(NamedTuple):
    """The factor one iteration before, and the iteration's number."""

    factor: FreeFactor
    iteration: Int[Array, ""]


@register_solver("ipalm")
class IPALM(Alternating):
    """iPALM: PALM from a point ahead, Y = H + β (H − H₋).

    H ← P(Y − ∇_H D(Y) / τ), with H₋ the factor one iteration before, L as in PALM and,
    for the convex constraint here, τ = gamma L (1 + 2β′) / (2 (1 − β′)): with
    β = min(β′, (k − 1)/(k + 2)) at iteration k, D + δ/2 ‖H − H₋‖² then never rises for
    δ = L 3β′ / (2 (1 − β′)), the least that the paper's conditions allow.

    ``dynamic`` uses β = (k − 1)/(k + 2) and τ = gamma L, which the paper's conditions
    do not cover and its experiments found the fastest.

    Cost: 2mnp and 2np² for each factor. Not monotone; for β′ < 1, gamma > 1 and bounded
    factors the iterates converge to a critical point (not with ``dynamic``).

    Use: comparisons, as `palm`.

    Args:
      inertia: β′, below 1; at ¼ a step is 1/(gamma L).
      gamma: by how much a step is shorter than the longest that is allowed.
      dynamic: β and τ of the paper's experiments.

    Reference: Pock & Sabach, "Inertial proximal alternating linearized minimization
    (iPALM) for nonconvex and nonsmooth problems", SIAM J. Imaging Sciences 9 (2016)
    [Pock2016].
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(
        constraints=PROJECTED, operands=EVERY_OPERAND | BLOCKS, graph=True, toward=True
    )
    inertia: float = 0.25
    gamma: float = 1.01
    dynamic: bool = static(False)

    def half_init(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor
    ) -> Previous:
        return Previous(free, jnp.ones((), jnp.int32))

    def nnls(
        self,
        problem: Problem,
        gram: Gram,
        cross: Cross,
        free: FreeFactor,
        state: Previous,
    ) -> tuple[FreeFactor, Previous]:
        before, iteration = state
        k = iteration.astype(free.dtype)
        beta = (k - 1) / (k + 2)
        step = gradient_step(problem, gram) / self.gamma
        if not self.dynamic:
            beta = jnp.minimum(beta, self.inertia)
            step = step * 2 * (1 - self.inertia) / (1 + 2 * self.inertia)
        ahead = free + beta * (free - before)
        gradient = gram @ ahead - cross + problem.penalty.gradient(ahead)
        new = problem.project(ahead - step * gradient)
        return new, Previous(free, iteration + 1)
