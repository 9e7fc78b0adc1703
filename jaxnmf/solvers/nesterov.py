"""Nesterov's accelerated gradient on each factor's non-negative least squares."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxnmf.data.grams import Gram
from jaxnmf.kernels.repeats import inner_repeats
from jaxnmf.kernels.step_sizes import gradient_step
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.shapes import Array, Float
from jaxnmf.solvers.base import (
    BLOCKS,
    EVERY_OPERAND,
    PROJECTED,
    QUADRATIC,
    Alternating,
    Supports,
)
from jaxnmf.types import Cross, FreeFactor, Index, State, static

# (X, Y, t of every column)
Carry = tuple[FreeFactor, FreeFactor, Float[Array, " n"]]


@register_solver("nenmf")
class NeNMF(Alternating):
    """NeNMF: each half-step solves its least squares by the optimal gradient method.

    From Y = X = H and t = 1, repeat with G = WᵀW, B = WᵀV and L ≥ λ_max(G) + l2:
    X⁺ = P(Y − (GY − B + l1 + l2 Y) / L), t⁺ = (1 + √(1 + 4t²)) / 2,
    Y = X⁺ + (t − 1)/t⁺ (X⁺ − X). The columns of H are problems of their own: one where
    ⟨Y − X⁺, X⁺ − X⟩ > 0 restarts from Y = X⁺, t = 1.

    The half-step returns the last X, or for a column where that is worse, the first X⁺,
    a plain gradient step.

    Cost: the two products, 2mnp, and 2np² a gradient step; only products of matrices,
    so it fits accelerators. Monotone; the inner error falls as 1/q² in q steps, and
    with exact half-steps limit points are stationary.

    Use: the Frobenius loss with a simplex, for which it is the default; matrix products
    only, which suits accelerators.

    Args:
      inner: gradient steps for each G and B; 0 chooses by the sizes
        (`inner_repeats` with share 1 and at most 30).

    References: Guan, Tao, Luo & Yuan, "NeNMF: an optimal gradient method for
    nonnegative matrix factorization", IEEE Trans. Signal Processing 60 (2012)
    [Guan2012]; O'Donoghue & Candès, "Adaptive restart for accelerated gradient
    schemes", Foundations of Computational Mathematics 15 (2015) [ODonoghue2015].
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(
        constraints=PROJECTED, operands=EVERY_OPERAND | BLOCKS, graph=True, toward=True
    )
    monotone: ClassVar[bool] = True
    inner: int = static(0)

    def nnls(
        self,
        problem: Problem,
        gram: Gram,
        cross: Cross,
        free: FreeFactor,
        state: State,
    ) -> tuple[FreeFactor, State]:
        project, penalty = problem.project, problem.penalty
        step = gradient_step(problem, gram)

        def gradient_descent(Y: FreeFactor) -> FreeFactor:
            return project(Y - step * (gram @ Y - cross + penalty.gradient(Y)))

        def again(_: Index, carry: Carry) -> Carry:
            X, Y, t = carry
            new = gradient_descent(Y)
            restart = ((Y - new) * (new - X)).sum(0) > 0
            t = jnp.where(restart, 1, t)
            next_t = 0.5 * (1 + jnp.sqrt(1 + 4 * t * t))
            return new, new + (t - 1) / next_t * (new - X), next_t

        first = gradient_descent(free)
        # t = 1 gave the first step no momentum, and gives the second one none.
        start = first, first, jnp.full_like(free[0], 0.5 * (1 + 5**0.5))
        count = inner_repeats(problem, free, self.inner, share=1.0, most=30)
        last, *_ = jax.lax.fori_loop(1, count, again, start)
        delta = last - first
        middle = first + 0.5 * delta
        slope = gram @ middle - cross + penalty.gradient(middle)
        change = (slope * delta).sum(0)
        if penalty.graph is not None:  # which couples the columns
            change = change.sum()
        return jnp.where(change <= 0, last, first), state
