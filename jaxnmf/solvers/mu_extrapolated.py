"""Multiplicative updates with Nesterov extrapolation."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp

from jaxnmf.kernels.multiplicative import factor_floor, joint_update, multiplied
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.solvers.base import (
    BLOCKS,
    EVERY_OPERAND,
    MULTIPLICATIVE,
    Alternating,
    Supports,
)
from jaxnmf.types import Factors, FixedFactor, FreeFactor, Scalar, static


class State(NamedTuple):
    """The state of one factor's extrapolation."""

    last: FreeFactor  # before its last update
    floor: Scalar
    momentum: Scalar  # Nesterov's t
    count: Scalar


@register_solver("mu-extrapolated")
class ExtrapolatedMU(Alternating):
    """Block majorisation-minimisation with extrapolation (BMMe, or MUe).

    With H₋ the factor before its last update: Ĥ = H + b [H − H₋]₊, then one
    multiplicative update from there, H⁺ = max(floor, Ĥ ∘ (minus / plus)^γ) with the
    gradient plus − minus taken at Ĥ. Only entries that grew are extrapolated, so Ĥ is
    never negative and the majoriser at Ĥ still holds. b = min((t − 1) / t⁺, bound /
    (i^¾ ‖[H − H₋]₊‖)) in iteration i, with t⁺ = (1 + √(1 + 4t²)) / 2 from t = 1.

    Cost: a multiplicative update's products (8mnp for Kullback-Leibler) and one more
    factor in memory for each. Not monotone. For 1 ≤ β ≤ 2 limit points of the iterates
    are stationary; other β use the exponent γ of `mu` and have no proof. With an l2
    penalty γ is that of `mu` too, without which the updates oscillate.

    Use: the default for β-divergences, for Kullback-Leibler on sparse data (``joint``),
    and for many components.

    ``joint`` (Kullback-Leibler only; other losses alternate regardless) extrapolates
    both factors and updates them from one quotient V / ŴĤ, as `mu` does: on sparse data
    the same progress for a little more than half the cost.

    Args:
      floor: the smallest entry, in units of the factor's mean at the start.
      bound: keeps the extrapolations square-summable, as the proof requires;
        at the authors' value it has no effect in practice.
      joint: update both factors from one quotient.

    Reference: Hien, Leplat & Gillis, "Block majorization minimization with
    extrapolation and application to β-NMF", arXiv:2401.06646 (2024) [Hien2024].
    """

    supports: ClassVar[Supports] = MULTIPLICATIVE._replace(
        operands=EVERY_OPERAND | BLOCKS, graph=True, toward=True
    )
    monotone: ClassVar[bool] = False
    floor: float = 1e-10
    bound: float = 1e30
    joint: bool = static(False)

    def half_init(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor
    ) -> State:
        dtype = problem.operand.dtype
        one = jnp.ones((), dtype)
        floor = factor_floor(problem, free, self.floor)
        return State(last=free, floor=floor, momentum=one, count=one)

    def check(self, problem: Problem) -> None:
        """Refuse ``joint`` over blocks, whose updates are W's and H's in turn."""
        if self.joint and problem.operand.kind == "blocks":
            raise ValueError("solver 'mu-extrapolated': joint=True needs V in memory")

    def ahead(
        self, problem: Problem, free: FreeFactor, state: State
    ) -> tuple[FreeFactor, State]:
        del problem
        return self._extrapolated(free, state)

    def products(self, problem: Problem, fixed: FixedFactor, free: FreeFactor) -> Any:
        return problem.split(fixed, free)

    def improved(
        self, problem: Problem, products: Any, free: FreeFactor, state: State
    ) -> tuple[FreeFactor, State]:
        minus, plus = problem.penalised(products, free)
        return multiplied(problem, free, minus, plus, state.floor), state

    def step(
        self, problem: Problem, factors: Factors, state: tuple[State, State]
    ) -> tuple[Factors, tuple[State, State]]:
        if not (self.joint and problem.loss.unit_plus):
            return super().step(problem, factors, state)
        pairs = [self._extrapolated(X, s) for X, s in zip(factors, state, strict=True)]
        (Wt, state_W), (H, state_H) = pairs
        floors = state_W.floor, state_H.floor
        return joint_update(problem, Factors(Wt, H), floors), (state_W, state_H)

    def _extrapolated(self, X: FreeFactor, state: State) -> tuple[FreeFactor, State]:
        """X̂, and the state after this iteration."""
        grown = jnp.maximum(X - state.last, 0)
        momentum = 0.5 * (1 + jnp.sqrt(1 + 4 * state.momentum**2))
        size = jnp.sqrt((grown * grown).sum(1).sum()) * state.count**0.75
        # Compared as products: the quotient is infinite where nothing grew.
        b = (state.momentum - 1) / momentum
        b = jnp.where(b * size <= self.bound, b, self.bound / size)
        return X + b * grown, State(X, state.floor, momentum, state.count + 1)
