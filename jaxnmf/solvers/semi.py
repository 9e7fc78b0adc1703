"""Semi-NMF and convex NMF: data, and one factor, of any sign."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxnmf.kernels.coordinate import sweeps
from jaxnmf.kernels.inverses import inverse
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.shapes import Array, Float
from jaxnmf.solvers.base import QUADRATIC, Alternating, Supports
from jaxnmf.types import Factors, Scalar, State, static


@register_solver("semi")
class SemiNMF(Alternating):
    """Semi-NMF: V and W of any sign, H ≥ 0.

    W ← W − ∇_W (HHᵀ + (l2 + ρ) I)⁻¹, with ∇_W = W HHᵀ − V Hᵀ + l2 W the least squares
    solution except for ρ = p ε tr(HHᵀ), ε the machine's, which keeps it solvable where
    components coincide and vanishes at a fixed point. Then HALS sweeps for H: exact
    coordinate descent allows any sign in WᵀW and WᵀV, where the multiplicative updates
    of the paper separate their positive and negative parts.

    Cost: the two products, 2mnp each, p³/3 + 2mp², and 2np² a sweep. Monotone; limit
    points are stationary while no component vanishes.

    Use: data of both signs, such as centred ones.

    Args:
      inner: sweeps of H for each Gram and cross product; 0 chooses by the sizes.

    Reference: Ding, Li & Jordan, "Convex and semi-nonnegative matrix factorizations",
    IEEE Trans. Pattern Analysis and Machine Intelligence 32 (2010) [Ding2010].
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(
        signed=frozenset("VW"), known=frozenset("H")
    )
    monotone: ClassVar[bool] = True
    own_objective: ClassVar[bool] = True
    inner: int = static(0)

    def check(self, problem: Problem) -> None:
        l1 = float(problem.penalties[0].l1)
        if l1:
            raise ValueError(
                f"solver 'semi': l1={l1:g} for W, whose entries have any sign; give l1 "
                "for H alone, as (0, l1), or use l2"
            )

    def step(
        self, problem: Problem, factors: Factors, state: State
    ) -> tuple[Factors, State]:
        Wt, H = factors
        gram, cross = problem.T.quadratic(H)
        size = jnp.trace(gram.array)
        rho = len(H) * jnp.finfo(H.dtype).eps * size
        ridge = problem.T.penalty.l2 + jnp.where(size > 0, rho, 1)
        root = jnp.linalg.cholesky(gram.plus_diagonal(ridge).array)
        slope = gram @ Wt - cross + problem.T.penalty.gradient(Wt)
        Wt = problem.T.project.hold(
            Wt - jax.scipy.linalg.cho_solve((root, True), slope)
        )
        gram, cross = problem.quadratic(Wt)
        return Factors(Wt, sweeps(problem, gram, cross, H, self.inner)), state


class Combination(NamedTuple):
    """How the components are made of the rows of V."""

    A: Float[Array, "p m"]
    step: Scalar  # the next gradient step


@register_solver("convex")
class ConvexNMF(Alternating):
    """Convex NMF: every component is a combination of rows of V, H = A V.

    min ½‖V − W A V‖² over W, A ≥ 0, for V of any sign (and then H, too): components
    are weighted sums of samples, as the centroids of clusters are. W is updated by HALS
    sweeps, A by a projected gradient step D = P(A − α ∇_A) − A, with
    ∇_A = (WᵀW H − WᵀV) Vᵀ, and the exact minimum A + λ D of the feasible segment,
    λ = min(1, −⟨∇_A, D⟩ / ⟨DV, WᵀW DV⟩); the next α is the Barzilai-Borwein step
    ⟨D, D⟩ / ⟨DV, WᵀW DV⟩. V Vᵀ is never formed.

    It starts from A = W scaled to averages, so the first iteration may raise the
    objective; every later one reduces it.

    Cost: 2mnp for W and 4mnp for A, and 2mp² a sweep. Limit points are stationary in W
    and A while no component vanishes.

    Use: components that are to be mixtures of samples, as centroids are.

    Args:
      inner: sweeps of W for each Gram and cross product; 0 chooses by the sizes.

    Reference: Ding, Li & Jordan, "Convex and semi-nonnegative matrix factorizations",
    IEEE Trans. Pattern Analysis and Machine Intelligence 32 (2010) [Ding2010], whose
    updates are multiplicative.
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(
        signed=frozenset("VH"), unscaled=frozenset("W"), known=frozenset()
    )
    own_objective: ClassVar[bool] = True
    inner: int = static(0)

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> Combination:
        del key
        A = factors.Wt * inverse(factors.Wt.sum(1))[:, None]
        return Combination(A, jnp.zeros((), A.dtype))

    def step(
        self, problem: Problem, factors: Factors, state: Combination
    ) -> tuple[Factors, Combination]:
        A, Wt = state.A, factors.Wt
        H = problem.operand.dot(A)
        gram, cross = problem.T.quadratic(H)
        # At first of the best length: H has the scale of V, and W was drawn without.
        best = (cross * Wt).sum(1).sum() * inverse((Wt * (gram @ Wt)).sum(1).sum())
        Wt = jnp.where((state.step > 0) | (best <= 0), 1, best) * Wt
        Wt = sweeps(problem.T, gram, cross, Wt, self.inner)
        gram, cross = problem.quadratic(Wt)
        slope = problem.T.operand.dot(gram @ H - cross + problem.penalty.gradient(H))
        slope = problem.T.project.masked(slope)
        # As long as the entries of A, where no step is known.
        size = inverse(jnp.abs(slope).sum(1).sum()) * A.sum(1).sum()
        step = jnp.where(state.step > 0, state.step, size)
        D = problem.T.project(A - step * slope) - A
        DV = problem.operand.dot(D)
        curved = (DV * (gram @ DV + problem.penalty.l2 * DV)).sum(1).sum()
        length = jnp.clip(-(slope * D).sum(1).sum() * inverse(curved), 0, 1)
        after = (D * D).sum(1).sum() * inverse(curved)
        return Factors(Wt, H + length * DV), Combination(A + length * D, after)
