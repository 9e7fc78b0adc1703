"""Projected gradient descent."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxnmf.data.grams import Gram
from jaxnmf.kernels.step_sizes import first_step, gradient_step
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.shapes import Array, Bool, Int
from jaxnmf.solvers.base import ANY, EVERY_OPERAND, PROJECTED, Alternating, Supports
from jaxnmf.types import Cross, FixedFactor, FreeFactor, Scalar, State, static

# (α, the factor it gives, whether that is accepted, trials)
Search = tuple[Scalar, FreeFactor, Bool[Array, ""], Int[Array, ""]]


@register_solver("pgd")
class PGD(Alternating):
    """Alternating projected gradient, H ← P(H − α ∇_H D).

    Frobenius: α = step_size / L with L ≥ λ_max(WᵀW) + l2, the Lipschitz constant of
    the gradient, so a step_size up to 1 never raises the objective (below 2 in exact
    arithmetic).
    Any other loss: α by backtracking. It starts at twice the last accepted step and
    halves until D(H⁺) − D(H) ≤ ½ ⟨∇_H D, H⁺ − H⟩, with the change summed entry by
    entry so that it keeps its digits. No entry falls below ``shrink`` times its value
    in one step (the fraction to the boundary of interior-point methods): where a loss
    grows without bound at x = 0, a jump to 0 costs hundreds of tiny steps back.

    Cost: 4mnp an iteration for Frobenius and ``inner`` times 2np² for each factor;
    for other losses the split gradient and 4mnp a trial. Monotone; limit points are
    stationary.

    Use: studies of step sizes, a new one of which compiles nothing; any loss and
    constraint.

    Args:
      step_size: in units of 1/L (Frobenius) or of the first trial step (others).
      inner: gradient steps for each Gram and cross product (Frobenius).
      trials: halvings before a half-step gives up and keeps H.
      shrink: least part of an entry that a step leaves (losses but Frobenius).

    Reference: Lin, "Projected gradient methods for nonnegative matrix factorization",
    Neural Computation 19 (2007) [Lin2007].
    """

    supports: ClassVar[Supports] = ANY._replace(
        constraints=PROJECTED, operands=EVERY_OPERAND, graph=True, toward=True
    )
    monotone: ClassVar[bool] = True
    step_size: float = 1.0
    inner: int = static(1)
    trials: int = static(30)
    shrink: float = 0.1

    def half_init(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor
    ) -> State:
        """The first trial step: the size of an entry over the size of ``plus``."""
        if problem.loss.quadratic:
            return ()
        return self.step_size * first_step(problem, fixed, free)

    def half_step(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor, state: State
    ) -> tuple[FreeFactor, State]:
        if not problem.loss.quadratic:
            return self._backtrack(problem, fixed, free, state)
        return self.nnls(problem, *problem.quadratic(fixed), free, state)

    def nnls(
        self,
        problem: Problem,
        gram: Gram,
        cross: Cross,
        free: FreeFactor,
        state: State,
    ) -> tuple[FreeFactor, State]:
        penalty = problem.penalty
        step = self.step_size * gradient_step(problem, gram)
        for _ in range(self.inner):
            gradient = gram @ free - cross + penalty.gradient(free)
            free = problem.project(free - step * gradient)
        return free, state

    def _backtrack(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor, last: Scalar
    ) -> tuple[FreeFactor, Scalar]:
        minus, plus = problem.gradient(fixed, free)
        gradient = plus - minus

        def trial(step: Scalar) -> tuple[FreeFactor, Bool[Array, ""]]:
            new = problem.project(free - step * gradient, self.shrink * free)
            slope = problem.slope(gradient, new - free)
            return new, problem.change(fixed, free, new) <= 0.5 * slope

        def refused(carry: Search) -> Bool[Array, ""]:
            _, _, accepted, count = carry
            return ~accepted & (count < self.trials)

        def halve(carry: Search) -> Search:
            step, _, _, count = carry
            step = 0.5 * step
            return step, *trial(step), count + 1

        first = 2 * last
        step, new, accepted, _ = jax.lax.while_loop(
            refused, halve, (first, *trial(first), jnp.zeros((), jnp.int32))
        )
        # A half-step that gives up keeps H, and the next starts from a small step.
        return jnp.where(accepted, new, free), step
