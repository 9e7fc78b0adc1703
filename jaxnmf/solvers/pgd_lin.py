"""Lin's projected gradient with a search along the projection arc."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxnmf.data.grams import Gram, SharedGram
from jaxnmf.kernels.repeats import inner_repeats
from jaxnmf.kernels.step_sizes import first_step, gradient_step
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.shapes import Array, Bool, Int
from jaxnmf.solvers.base import ANY, EVERY_OPERAND, PROJECTED, Alternating, Supports
from jaxnmf.types import Cross, FixedFactor, FreeFactor, Index, Scalar, static

RATIO = 10.0

# (the factor accepted, α, whether α grows, whether the search continues, trials)
Search = tuple[FreeFactor, Scalar, Bool[Array, ""], Bool[Array, ""], Int[Array, ""]]


@register_solver("pgd-lin")
class LinPGD(Alternating):
    """Projected gradient with Lin's step: the longest that reduces the loss enough.

    H(α) = P(H − α ∇), Δ = H(α) − H; α is sufficient if D(H(α)) − D(H) ≤ sigma ⟨∇, Δ⟩,
    for Frobenius (1 − sigma) ⟨∇, Δ⟩ + ½⟨Δ, (G + l2) Δ⟩ ≤ 0. From the last accepted α:
    if it is sufficient, α ← 10α as long as it stays so and H(α) still changes; else
    α ← α/10 until it is.

    For Frobenius α starts no shorter than 0.1/L, with L ≥ λ_max(G) + l2: 1/L is always
    sufficient, so no search ends below. For other losses no entry falls below
    ``shrink`` times its value in one step, for they may grow without bound at x = 0.

    Cost: the two products, 2mnp, and about 6np² a step (2np² a trial) for Frobenius;
    for other losses the split gradient and 4mnp a trial, at least two. Monotone; limit
    points are stationary.

    Use: a loss of your own, for which it is the default; any constraint.

    Args:
      step_size: the first trial step, in units of 1/L (Frobenius) or of the size of an
        entry over that of the gradient (others).
      sigma: the part of the first-order descent that is enough.
      inner: steps for each Gram and cross product (Frobenius); 0 chooses by the sizes
        (`inner_repeats`).
      trials: step lengths tried before a search ends.
      shrink: least part of an entry that a step leaves (losses but Frobenius).

    Reference: Lin, "Projected gradient methods for nonnegative matrix factorization",
    Neural Computation 19 (2007) [Lin2007].
    """

    supports: ClassVar[Supports] = ANY._replace(
        constraints=PROJECTED, operands=EVERY_OPERAND, graph=True, toward=True
    )
    monotone: ClassVar[bool] = True
    step_size: float = 1.0
    sigma: float = 0.01
    inner: int = static(0)
    trials: int = static(20)
    shrink: float = 0.1

    def half_init(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor
    ) -> Scalar:
        """The first α to try."""
        if problem.by_gram:
            # With a graph there is one for each column.
            return self.step_size * gradient_step(problem, SharedGram.of(fixed)).min()
        return self.step_size * first_step(problem, fixed, free)

    def half_step(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor, state: Scalar
    ) -> tuple[FreeFactor, Scalar]:
        if problem.by_gram:
            return self.nnls(problem, *problem.quadratic(fixed), free, state)
        minus, plus = problem.gradient(fixed, free)
        gradient = plus - minus

        # A quadratic loss is finite at 0.
        shrink = 0.0 if problem.loss.quadratic else self.shrink

        def path(step: Scalar) -> FreeFactor:
            return problem.project(free - step * gradient, shrink * free)

        def sufficient(new: FreeFactor) -> Bool[Array, ""]:
            slope = problem.slope(gradient, new - free)
            return problem.change(fixed, free, new) <= self.sigma * slope

        return longest(free, state, path, sufficient, self.trials)

    def nnls(
        self,
        problem: Problem,
        gram: Gram,
        cross: Cross,
        free: FreeFactor,
        state: Scalar,
    ) -> tuple[FreeFactor, Scalar]:
        project, penalty = problem.project, problem.penalty
        # With a graph there is one for each column.
        shortest = gradient_step(problem, gram).min()
        # Longer than any step that reduces the objective, and no overflow.
        longest_step = 1e6 * shortest

        def again(
            _: Index, carry: tuple[FreeFactor, Scalar]
        ) -> tuple[FreeFactor, Scalar]:
            X, step = carry
            gradient = gram @ X - cross + penalty.gradient(X)

            def path(step: Scalar) -> FreeFactor:
                return project(X - step * gradient)

            def sufficient(new: FreeFactor) -> Bool[Array, ""]:
                delta = new - X
                curved = 0.5 * (gram @ delta + penalty.curved(delta))
                change = ((1 - self.sigma) * gradient + curved) * delta
                return change.sum(1).sum() <= 0

            step = jnp.clip(step, shortest / RATIO, longest_step)
            return longest(X, step, path, sufficient, self.trials)

        count = inner_repeats(problem, free, self.inner)
        return jax.lax.fori_loop(0, count, again, (free, state))


def longest(
    free: FreeFactor,
    step: Scalar,
    path: Callable[[Scalar], FreeFactor],
    sufficient: Callable[[FreeFactor], Bool[Array, ""]],
    trials: int,
) -> tuple[FreeFactor, Scalar]:
    """Lin's search from ``step``: (path(α), α) for the α it accepts, or ``free`` and
    the last α tried where none is sufficient."""

    def going(carry: Search) -> Bool[Array, ""]:
        *_, more, count = carry
        return more & (count < trials)

    def trial(carry: Search) -> Search:
        kept, step, grow, _, count = carry
        tried = step * jnp.where(grow, RATIO, 1 / RATIO).astype(step.dtype)
        new = path(tried)
        good = sufficient(new)
        good = jnp.where(grow, good & (new != kept).any(), good)
        step = jnp.where(grow & ~good, step, tried)
        return jnp.where(good, new, kept), step, grow, good == grow, count + 1

    new = path(step)
    grow = sufficient(new)
    start = jnp.where(grow, new, free), step, grow, jnp.ones_like(grow)
    one = jnp.ones((), jnp.int32)
    kept, step, *_ = jax.lax.while_loop(going, trial, (*start, one))
    return kept, step
