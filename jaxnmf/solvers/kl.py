"""Coordinate descent for the Kullback-Leibler divergence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnmf.kernels.blocks import by_column_blocks
from jaxnmf.kernels.multiplicative import multiplied
from jaxnmf.objective.constraints import NonNegative
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.solvers.base import KL, Alternating, Supports
from jaxnmf.types import static

DENSE_KL = KL._replace(operands=frozenset({"dense"}))

# h, its gradient g and curvature c, and θ of its column, to the new h.
Scalar = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


@register_solver("kl-cd")
class KLCoordinateDescent(Alternating):
    """Cyclic coordinate descent by scalar Newton steps.

    For k = 1 … p, with X = WH kept up to date:
    h_k ← max(0, h_k − g / c), X ← X + w_k Δh_k, where for each column
    g = Σ w (1 − v/x) + l1 + l2 h and c = Σ w² v/x² + l2.

    Cost: 2mnp for X and, for each of ``inner`` passes, p sweeps over V and X that no
    matrix product does: 6mnp operations bound by divisions and memory. V is worked off
    by blocks of columns, so X is held for one block alone. Not monotone, since a step
    down may overshoot; limit points are stationary if it converges.

    Args:
      inner: passes over the components for each X.

    Reference: Hsieh & Dhillon, "Fast coordinate descent methods with variable
    selection for non-negative matrix factorization", KDD 2011.
    """

    supports: ClassVar[Supports] = DENSE_KL
    monotone: ClassVar[bool] = False
    inner: int = static(1)

    def half_step(
        self, problem: Problem, fixed: Any, free: Any, state: Any
    ) -> tuple[Any, Any]:
        return coordinate_pass(problem, fixed, free, newton, self.inner), state


class Turn(NamedTuple):
    """Where a factor is in the cycle of scalar Newton and multiplicative steps."""

    count: jax.Array


@register_solver("kl-sn-mu")
class ScalarNewtonMU(Alternating):
    """Damped scalar Newton steps, and now and then a multiplicative update.

    ``newton`` iterations of coordinate descent as in `kl-cd`, with d = max(0, h −
    g/c) − h taken in full where g ≤ 0 or λ = θ √c |d| ≤ 0.683802, else divided by
    1 + λ. Here θ = max 1/√v over the positive v of the column is the constant by which
    the loss is self-concordant. Then one H ← H ∘ minus / plus, with an l2 penalty the
    square root of that quotient.

    Cost: that of `kl-cd`; 8mnp in a multiplicative iteration. Monotone; limit points
    are stationary while no component vanishes.

    Args:
      newton: Newton iterations before each multiplicative one.
      inner: passes over the components for each X = WH.

    Reference: Hien & Gillis, "Algorithms for nonnegative matrix factorization with the
    Kullback-Leibler divergence", Journal of Scientific Computing 87 (2021).
    """

    supports: ClassVar[Supports] = DENSE_KL
    monotone: ClassVar[bool] = True
    newton: int = static(10)
    inner: int = static(1)

    def half_init(self, problem: Problem, fixed: Any, free: Any) -> Turn:
        return Turn(jnp.zeros((), jnp.int32))

    def half_step(
        self, problem: Problem, fixed: Any, free: Any, state: Turn
    ) -> tuple[Any, Turn]:
        def scalar(free: Any) -> Any:
            return coordinate_pass(problem, fixed, free, damped_newton, self.inner)

        def multiplicative(free: Any) -> Any:
            minus, plus = problem.gradient(fixed, free)
            return multiplied(problem, free, minus, plus)

        turn = state.count < self.newton
        new = jax.lax.cond(turn, scalar, multiplicative, free)
        return new, Turn(jnp.where(turn, state.count + 1, 0))


def newton(h: Any, g: Any, c: Any, theta: Any) -> Any:
    """The minimiser over h ≥ 0 of the second-order model."""
    # Without curvature the loss is linear in h: no positive v lies above w.
    step = h - g / jnp.where(c > 0, c, 1)
    return NonNegative().entrywise(jnp.where(c > 0, step, jnp.where(g > 0, 0, h)))


def damped_newton(h: Any, g: Any, c: Any, theta: Any) -> Any:
    """`newton`, shortened where the model may be too far off to descend."""
    d = newton(h, g, c, theta) - h
    decrement = theta * jnp.sqrt(c) * jnp.abs(d)
    # The derivative is concave in h: from the left, g ≤ 0, Newton never overshoots.
    full = (g <= 0) | (decrement <= 0.683802)
    return h + jnp.where(full, d, d / (1 + decrement))


def coordinate_pass(
    problem: Problem,
    fixed: Float[Array, "p m"],
    free: Float[Array, "p n"],
    scalar: Scalar,
    inner: int,
) -> Float[Array, "p n"]:
    """``inner`` passes of coordinate descent over the rows of ``free``, dense V."""
    operand, penalty = problem.operand, problem.penalty
    p, by_rows = free.shape[0], operand.transposed
    rows = problem.T.project.columns(fixed)[0]  # that do not pad V
    rows = rows if by_rows else rows[:, None]

    def dot(w: Any, y: Any) -> Any:
        return y @ w if by_rows else w @ y

    def outer(w: Any, d: Any) -> Any:
        return d[:, None] * w if by_rows else w[:, None] * d

    def columns(v: Any, X: Any) -> Any:
        """The new columns X of the free factor that belong to the columns v."""
        smallest = jnp.where((v > 0) & rows, v, jnp.inf).min(1 if by_rows else 0)
        theta = 1 / jnp.sqrt(smallest)  # 0 where the column has no positive v
        WH = jnp.maximum(X.T @ fixed if by_rows else fixed.T @ X, operand.floor)

        def coordinate(i: Any, carry: Any) -> Any:
            X, WH = carry
            k = i % p
            w, h = fixed[k], X[k]
            # Not v/x/x: compiled, it becomes v/(x·x), whose square may underflow.
            over = 1 / WH
            quotient = v * over
            g = w.sum() - dot(w, quotient) + penalty.l1 + penalty.l2 * h
            c = dot(w * w, quotient * over) + penalty.l2
            new = scalar(h, g, c, theta)
            WH = jnp.maximum(WH + outer(w, new - h), operand.floor)
            return X.at[k].set(new), WH

        return jax.lax.fori_loop(0, inner * p, coordinate, (X, WH))[0]

    return problem.project.hold(by_column_blocks(problem, free, columns))
