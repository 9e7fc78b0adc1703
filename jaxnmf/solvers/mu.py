"""Multiplicative updates for every loss that a β-divergence majorises."""

from __future__ import annotations

from typing import Any, ClassVar

import jax

from jaxnmf.data.grams import Gram
from jaxnmf.kernels.multiplicative import factor_floor, joint_update, multiplied
from jaxnmf.kernels.repeats import inner_repeats
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.solvers.base import (
    BLOCKS,
    EVERY_OPERAND,
    MULTIPLICATIVE,
    Alternating,
    Supports,
)
from jaxnmf.types import Cross, Factors, FixedFactor, FreeFactor, Index, Scalar, static


@register_solver("mu")
class MU(Alternating):
    """The multiplicative update of Lee & Seung, for each loss a β-divergence majorises.

    H ← max(floor, H ∘ (minus / plus)^γ), where the gradient is plus − minus;
    γ = 1/(2−β) for β < 1, 1 for 1 ≤ β ≤ 2, 1/(β−1) for β > 2; with an l2 penalty and
    β < 2 it is 1/(3−β), since x² grows faster than every term of the loss, and with a
    graph of neighbours ½ for 1 ≤ β < 2.

    ``joint`` (Kullback-Leibler only; other losses alternate regardless) computes both
    numerators from one quotient V / WH, H ← H ∘ minus_H / W1, W ← W ∘ minus_W / H⁺1:
    the minimum of one majoriser of both factors. A step is a quarter cheaper and
    reduces the objective a little less.

    Cost: the products of the split gradient: 4mnp an iteration for
    Frobenius, and 2np² for each of ``inner`` repeats; 8mnp for Kullback-Leibler (6mnp
    joint), 12mnp for other β. Monotone; the floor keeps entries from locking at zero,
    which limit points need to be stationary.

    Use: the reference that papers compare with, and accelerators, where its iteration
    is the cheapest.

    Args:
      floor: the smallest entry, in units of the factor's mean at the start.
      joint: update both factors from one quotient.
      inner: updates of a factor for each Gram and cross product (Frobenius); 1 is the
        classic update, 0 chooses by the sizes (`inner_repeats`).

    References: Lee & Seung, "Algorithms for non-negative matrix factorization", NIPS 13
    (2001) [Lee2001]; Févotte & Idier, Neural Computation 23 (2011) [Fevotte2011];
    Gillis & Glineur, Neural Computation 24 (2012) [Gillis2012], for the floor and the
    repeats; Marmin, Goulart & Févotte, "Joint majorization-minimization for NMF with
    the β-divergence", Signal Processing 209 (2023) [Marmin2023].
    """

    supports: ClassVar[Supports] = MULTIPLICATIVE._replace(
        operands=EVERY_OPERAND | BLOCKS, graph=True, toward=True
    )
    monotone: ClassVar[bool] = True
    floor: float = 1e-10
    joint: bool = static(False)
    inner: int = static(1)

    def half_init(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor
    ) -> Scalar:
        """The floor, fixed for the run so that the updates stay monotone."""
        return factor_floor(problem, free, self.floor)

    def check(self, problem: Problem) -> None:
        """Refuse ``joint`` over blocks, whose updates are W's and H's in turn."""
        if self.joint and problem.operand.kind == "blocks":
            raise ValueError("solver 'mu': joint=True needs V in memory")

    def products(self, problem: Problem, fixed: FixedFactor, free: FreeFactor) -> Any:
        if problem.by_gram:
            return problem.quadratic(fixed)
        return problem.split(fixed, free)

    def improved(
        self, problem: Problem, products: Any, free: FreeFactor, state: Scalar
    ) -> tuple[FreeFactor, Scalar]:
        if problem.by_gram:
            return super().improved(problem, products, free, state)
        minus, plus = problem.penalised(products, free)
        return multiplied(problem, free, minus, plus, state), state

    def nnls(
        self,
        problem: Problem,
        gram: Gram,
        cross: Cross,
        free: FreeFactor,
        state: Scalar,
    ) -> tuple[FreeFactor, Scalar]:
        def again(_: Index, X: FreeFactor) -> FreeFactor:
            if not problem.penalty.attracts:
                plus = gram @ X + problem.penalty.gradient(X)
                return multiplied(problem, X, cross, plus, state)
            minus, plus = problem.penalised((cross, gram @ X), X)
            return multiplied(problem, X, minus, plus, state)

        count = inner_repeats(problem, free, self.inner)
        return jax.lax.fori_loop(0, count, again, free), state

    def step(
        self, problem: Problem, factors: Factors, state: tuple[Scalar, Scalar]
    ) -> tuple[Factors, tuple[Scalar, Scalar]]:
        if not (self.joint and problem.loss.unit_plus):
            return super().step(problem, factors, state)
        return joint_update(problem, factors, state), state
