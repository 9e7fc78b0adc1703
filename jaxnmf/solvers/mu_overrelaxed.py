"""Over-relaxed multiplicative updates for every β-divergence."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax.numpy as jnp

from jaxnmf.kernels.multiplicative import factor_floor, multiplied
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.solvers.base import BETA, Alternating, Supports
from jaxnmf.types import FixedFactor, FreeFactor, Scalar


class State(NamedTuple):
    """The state of one factor's half-step."""

    floor: Scalar
    relaxation: Scalar  # α


@register_solver("mu-overrelaxed")
class OverrelaxedMU(Alternating):
    """Over-relaxed multiplicative updates: α times as far, α adapted at every step.

    With M = max(floor, H ∘ (minus / plus)^γ) the update of `mu`:
    H⁺ = max(floor, H + α (M − H)) and α ← growth·α where the objective does not rise,
    else H⁺ = M and α ← max(1, decay·α). Where γ = 1, as for 1 ≤ β ≤ 2, this is
    gradient descent scaled by the diagonal of the majoriser,
    H + α (H / plus) ∘ (minus − plus). Each factor has its own α.

    Cost: a multiplicative update's products, and as many again for the change of the
    objective (none for Frobenius) with two logarithms or powers an entry: on a CPU an
    iteration is about four times as long as one of `mu`. Monotone; the floor keeps
    entries from locking at zero. No proof that limit points are stationary, since a
    long step need not gain as much as M does.

    Use: a monotone alternative to `mu-extrapolated`, with fewer and dearer iterations
    than `mu`.

    Args:
      floor: the smallest entry, in units of the factor's mean at the start.
      relaxation: the first α.
      growth, decay: as above.

    References: Salakhutdinov & Roweis, "Adaptive overrelaxed bound optimization
    methods", ICML 2003 [Salakhutdinov2003], for the rule; Gonzalez & Zhang,
    "Accelerating the Lee-Seung algorithm for nonnegative matrix factorization", Rice
    University CAAM TR05-02 (2005) [Gonzalez2005], for long steps along the scaled
    gradient.
    """

    supports: ClassVar[Supports] = BETA._replace(graph=True, toward=True)
    monotone: ClassVar[bool] = True
    floor: float = 1e-10
    relaxation: float = 1.5
    growth: float = 1.1
    decay: float = 0.7

    def half_init(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor
    ) -> State:
        return State(
            floor=factor_floor(problem, free, self.floor),
            relaxation=jnp.asarray(self.relaxation, problem.operand.dtype),
        )

    def half_step(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor, state: State
    ) -> tuple[FreeFactor, State]:
        minus, plus = problem.gradient(fixed, free)
        short = multiplied(problem, free, minus, plus, state.floor)
        long = free + state.relaxation * (short - free)
        long = problem.project(long, state.floor)
        good = problem.change(fixed, free, long) <= 0
        longer = self.growth * state.relaxation
        shorter = jnp.maximum(1, self.decay * state.relaxation)
        return jnp.where(good, long, short), state._replace(
            relaxation=jnp.where(good, longer, shorter)
        )
