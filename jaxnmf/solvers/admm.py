"""Solvers that factorise the p×p Gram matrix once a half-step: ADMM, clipped ALS."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxnmf.kernels.inverses import inverted
from jaxnmf.kernels.step_sizes import gradient_step
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.solvers.base import (
    PROJECTED,
    QUADRATIC,
    Alternating,
    Supports,
    column_changes,
)
from jaxnmf.types import static


@register_solver("ao-admm")
class AOADMM(Alternating):
    """Alternating optimisation, each block by a few steps of ADMM.

    With G = WᵀW + l2 I, B = WᵀV − l1, ρ = penalty · tr(WᵀW)/p and X = H at first:
    T ← (G + ρI)⁻¹ (B + ρ(X + U)), X ← max(0, T − U), U ← U + X − T, ``inner`` times.
    The dual ρU is kept between half-steps; U itself would be in the units of a ρ that
    has changed since. Its limit is the gradient, which is ≥ 0 at a solution.

    A few steps of ADMM may end above where they began. So each column of H takes the
    better of its X and of one projected gradient step of length 1/L.

    Only for the Frobenius loss: for others the method keeps a copy of V's size and
    its dual from one half-step to the next.

    Cost: the two products, 2mnp, p³/3, and (inner + 2)·2np². Monotone; no half-step
    gains less than projected gradient does, so limit points are stationary.

    Args:
      inner: steps of ADMM for each G and B.
      penalty: ρ in units of the mean of the diagonal of WᵀW.

    Reference: Huang, Sidiropoulos & Liavas, "A flexible and efficient algorithmic
    framework for constrained matrix and tensor factorization", IEEE Trans. Signal
    Processing 64 (2016).
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(constraints=PROJECTED)
    monotone: ClassVar[bool] = True
    inner: int = static(5)
    penalty: float = 1.0

    def half_init(self, problem: Problem, fixed: Any, free: Any) -> Any:
        """The dual ρU."""
        return jnp.zeros_like(free)

    def nnls(
        self, problem: Problem, gram: Any, cross: Any, free: Any, state: Any
    ) -> tuple[Any, Any]:
        project = problem.project
        step = gradient_step(problem, gram)
        rho = self.penalty * jnp.trace(gram) / project.rank(free)
        # A partner that is all zero says nothing of this factor: any ρ will do.
        rho = jnp.where(rho > 0, rho, 1)
        identity = jnp.eye(gram.shape[0], dtype=gram.dtype)
        gram = gram + problem.penalty.l2 * identity
        cross = cross - problem.penalty.l1
        inverse = inverted(gram + rho * identity)

        def again(_: Any, carry: Any) -> Any:
            X, U = carry
            T = inverse @ (cross + rho * (X + U))
            X = project(T - U)
            return X, U + X - T

        X, U = jax.lax.fori_loop(0, self.inner, again, (free, state / rho))
        plain = project(free - step * (gram @ free - cross))
        by_X, by_plain = (column_changes(gram, cross, free, new) for new in (X, plain))
        return jnp.where(by_X <= by_plain, X, plain), rho * U


@register_solver("als")
class ALS(Alternating):
    """Alternating least squares, clipped: the classic baseline.

    H ← max(0, (WᵀW + l2 I)⁻¹ (WᵀV − l1)), then W alike.

    A component without a partner stays as it is. WᵀW is scaled to a unit diagonal and
    gets a ridge of 100 machine epsilons, so that it may be singular.

    Cost: the two products, 2mnp, and p³/3 + 2np². Not monotone, and no convergence:
    clipping an unconstrained minimum does not give the constrained one, so its fixed
    points are not stationary points of the problem, and ``own_objective`` is true.
    It falls fast at first, which makes it a start for others.

    References: Paatero & Tapper, "Positive matrix factorization", Environmetrics 5
    (1994); Berry, Browne, Langville, Pauca & Plemmons, "Algorithms and applications
    for approximate nonnegative matrix factorization", Computational Statistics & Data
    Analysis 52 (2007), for the clipping.
    """

    supports: ClassVar[Supports] = QUADRATIC
    own_objective: ClassVar[bool] = True

    def nnls(
        self, problem: Problem, gram: Any, cross: Any, free: Any, state: Any
    ) -> tuple[Any, Any]:
        identity = jnp.eye(gram.shape[0], dtype=gram.dtype)
        gram = gram + problem.penalty.l2 * identity
        cross = cross - problem.penalty.l1
        diagonal = jnp.diagonal(gram)[:, None]
        live = diagonal > 0
        scale = jnp.where(live, jax.lax.rsqrt(jnp.where(live, diagonal, 1)), 0)
        ridge = jnp.where(live, 100 * jnp.finfo(gram.dtype).eps, 1)
        root = jnp.linalg.cholesky(gram * scale * scale.T + ridge * identity)

        # Solved, not inverted: near a singular WᵀW an inverse has no digits left.
        def solve(right: jax.Array) -> jax.Array:
            return scale * jax.scipy.linalg.cho_solve((root, True), scale * right)

        X = solve(cross)
        X = X + solve(cross - gram @ X)  # takes the ridge's effect off again
        return problem.project(jnp.where(live, X, free)), state
