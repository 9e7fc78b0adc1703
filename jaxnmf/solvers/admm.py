"""Solvers that factorise a p×p matrix in each half-step: ADMM and ALS."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxnmf.data.grams import SharedGram
from jaxnmf.kernels.inverses import inverted
from jaxnmf.kernels.step_sizes import gradient_step
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.shapes import Array, Float
from jaxnmf.solvers.base import (
    BLOCKS,
    PROJECTED,
    QUADRATIC,
    Alternating,
    Supports,
    column_changes,
)
from jaxnmf.types import Cross, FixedFactor, FreeFactor, Index, State, static


@register_solver("ao-admm")
class AOADMM(Alternating):
    """Alternating optimisation with a few steps of ADMM for each factor (AO-ADMM).

    With G = WᵀW + l2 I, B = WᵀV − l1 and ρ = penalty · tr(WᵀW)/p, from X = H:

        T ← (G + ρI)⁻¹ (B + ρ(X + U)), X ← max(0, T − U), U ← U + X − T

    ``inner`` times. The dual ρU is kept between half-steps, since U itself is in units
    of a ρ that changes. Its limit is the gradient, which is ≥ 0 at a solution.

    A few steps of ADMM may raise the objective. Each column of the new H is therefore
    the better of X and of one projected gradient step of length 1/L.

    Frobenius only: for other losses the method keeps a copy of V's size and its dual
    from one half-step to the next.

    Cost: the products with V, 2mnp for each factor, p³/3, and (inner + 2)·2np².
    Monotone; a half-step reduces the objective by no less than projected gradient
    does, so limit points are stationary.

    Use: a box or a simplex, and accelerators, since it consists of matrix products;
    fourth of eighteen solvers in the studies of the Frobenius loss.

    Args:
      inner: steps of ADMM for each G and B.
      penalty: ρ in units of the mean of the diagonal of WᵀW.

    Reference: Huang, Sidiropoulos & Liavas, "A flexible and efficient algorithmic
    framework for constrained matrix and tensor factorization", IEEE Trans. Signal
    Processing 64 (2016) [Huang2016].
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(
        constraints=PROJECTED, operands=QUADRATIC.operands | BLOCKS
    )
    monotone: ClassVar[bool] = True
    inner: int = static(5)
    penalty: float = 1.0

    def half_init(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor
    ) -> Float[Array, "p n"]:
        """The dual ρU."""
        return jnp.zeros_like(free)

    def nnls(
        self,
        problem: Problem,
        gram: SharedGram,
        cross: Cross,
        free: FreeFactor,
        state: Float[Array, "p n"],
    ) -> tuple[FreeFactor, Float[Array, "p n"]]:
        project = problem.project
        length = gradient_step(problem, gram)
        rho = self.penalty * jnp.trace(gram.array) / project.rank(free)
        # Where the fixed factor is 0 any ρ will do.
        rho = jnp.where(rho > 0, rho, 1)
        gram = gram.plus_diagonal(problem.penalty.l2)
        cross = cross - problem.penalty.l1
        inverse = inverted(gram.plus_diagonal(rho).array)

        def step(
            _: Index, carry: tuple[Float[Array, "p n"], Float[Array, "p n"]]
        ) -> tuple[Float[Array, "p n"], Float[Array, "p n"]]:
            X, U = carry
            T = inverse @ (cross + rho * (X + U))
            X = project(T - U)
            return X, U + X - T

        X, U = jax.lax.fori_loop(0, self.inner, step, (free, state / rho))
        plain = project(free - length * (gram @ free - cross))
        by_X, by_plain = (column_changes(gram, cross, free, new) for new in (X, plain))
        return jnp.where(by_X <= by_plain, X, plain), rho * U


@register_solver("als")
class ALS(Alternating):
    """Alternating least squares with clipping, the classic baseline (ALS).

        H ← max(0, (WᵀW + l2 I)⁻¹ (WᵀV − l1)), and W likewise.

    A row of H stays as it is where the column of W is 0. WᵀW is scaled to a unit
    diagonal and gets a ridge of 100 machine epsilons, so that it may be singular.

    Cost: the products with V, 2mnp for each factor, and p³/3 + 2np². Not monotone and
    not convergent: clipping an unconstrained minimum does not give the constrained one,
    so its fixed points are not stationary points of the problem. The first iterations
    reduce the objective fast, which makes it useful as a start for other solvers.

    Use: a baseline, or a few first iterations; it may diverge.

    References: Paatero & Tapper, "Positive matrix factorization", Environmetrics 5
    (1994) [Paatero1994]; Berry, Browne, Langville, Pauca & Plemmons, "Algorithms and
    applications for approximate nonnegative matrix factorization", Computational
    Statistics & Data Analysis 52 (2007) [Berry2007], for the clipping.
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(
        known=frozenset(), operands=QUADRATIC.operands | BLOCKS
    )
    own_objective: ClassVar[bool] = True

    def nnls(
        self,
        problem: Problem,
        gram: SharedGram,
        cross: Cross,
        free: FreeFactor,
        state: State,
    ) -> tuple[FreeFactor, State]:
        gram = gram.plus_diagonal(problem.penalty.l2)
        cross = cross - problem.penalty.l1
        live = gram.diagonal > 0
        scale = jnp.where(live, jax.lax.rsqrt(jnp.where(live, gram.diagonal, 1)), 0)
        ridge = jnp.where(live, 100 * jnp.finfo(free.dtype).eps, 1)
        root = jnp.linalg.cholesky(gram.scaled(scale).plus_diagonal(ridge).array)

        # Solved, not inverted: near a singular WᵀW an inverse has no digits left.
        def solve(right: jax.Array) -> jax.Array:
            return scale * jax.scipy.linalg.cho_solve((root, True), scale * right)

        X = solve(cross)
        X = X + solve(cross - gram @ X)  # removes the effect of the ridge
        return problem.project(jnp.where(live, X, free)), state
