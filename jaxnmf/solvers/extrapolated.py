"""Extrapolation with restarts of any alternating Frobenius solver."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnmf.kernels.momentum import Momentum, choose
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import make_solver, register_solver
from jaxnmf.solvers.base import (
    EVERY_OPERAND,
    PROJECTED,
    QUADRATIC,
    Supports,
    gives_nnls,
)
from jaxnmf.types import Factors, Scalar, State


class Extrapolation(NamedTuple):
    """The start of the next step, and the values that it is compared with."""

    ahead: Factors  # the extrapolated factors
    H: Float[Array, "p n"]  # the last accepted H, before extrapolation
    inner: tuple[State, State]
    momentum: Momentum
    moved: Scalar  # the change of the objective by extrapolating W


@register_solver("extrapolated")
class Extrapolated:
    """Extrapolation of an alternating solver, with restarts.

    With the inner half-step N,

        H⁺ = N(W_y, H_y), H_y⁺ = P(H⁺ + β (H⁺ − H)),
        W⁺ = N(H_y⁺, W_y), W_y⁺ = P(W⁺ + β (W⁺ − W)).

    If the objective at (W⁺, H_y⁺) did not rise, β ← min(β̄, growth·β) and
    β̄ ← min(1, ceiling_growth·β̄). Otherwise the step is undone, W_y, H_y ← the last
    accepted pair (W, H_y), β̄ ← the last accepted β, and β ← β / decay.

    The objective is followed by its changes, ⟨∇, Δ⟩ + ½⟨Δ, GΔ⟩ for each of the three
    moves of a step, with the G and B of the half-steps: the sign of the difference of
    two objectives in float32 is lost to rounding long before convergence. The factors
    returned are those at which the objective was compared.

    Cost: that of the inner solver and 2p²(m + n). Monotone; no proof of convergence.

    Args:
      inner: an alternating solver for the Frobenius loss, or its name.
      beta: the first β.
      growth, ceiling_growth, decay: of β, as above.

    Reference: Ang & Gillis, "Accelerating nonnegative matrix factorization algorithms
    using extrapolation", Neural Computation 31 (2019) [Ang2019].
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(
        constraints=PROJECTED, operands=EVERY_OPERAND
    )
    monotone: ClassVar[bool] = True
    inner: Any = "hals"
    beta: float = 0.5
    growth: float = 1.05
    ceiling_growth: float = 1.01
    decay: float = 1.5

    def __post_init__(self) -> None:
        if isinstance(self.inner, str):
            object.__setattr__(self, "inner", make_solver(self.inner))
        if not gives_nnls(self.inner):
            raise ValueError(
                f"solver 'extrapolated': inner={self.inner!r} is not an alternating "
                "solver that works on Gram and cross products (by nnls), such as 'hals'"
            )

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> Extrapolation:
        dtype = problem.operand.dtype
        return Extrapolation(
            ahead=factors,
            H=factors.H,
            inner=self.inner.init(problem, factors, key),
            momentum=Momentum.start(self.beta, dtype),
            moved=jnp.zeros((), dtype),
        )

    def step(
        self, problem: Problem, factors: Factors, state: Extrapolation
    ) -> tuple[Factors, Extrapolation]:
        W, H = factors
        Wy, Hy = state.ahead
        state_W, state_H = state.inner
        beta = state.momentum.beta

        gram, cross = problem.quadratic(Wy)
        next_H, state_H = self.inner.nnls(problem, gram, cross, Hy, state_H)
        next_Hy = problem.project(next_H + beta * (next_H - state.H))
        by_H = problem.quadratic_change(gram, cross, H, next_Hy)

        gram, cross = problem.T.quadratic(next_Hy)
        next_W, state_W = self.inner.nnls(problem.T, gram, cross, Wy, state_W)
        next_Wy = problem.T.project(next_W + beta * (next_W - W))
        by_W = problem.T.quadratic_change(gram, cross, Wy, next_W)
        moved = problem.T.quadratic_change(gram, cross, next_W, next_Wy)

        # From (W, H), where the objective was last compared, to (next_W, next_Hy).
        accept = state.moved + by_H + by_W <= 0
        good = Extrapolation(
            ahead=Factors(next_Wy, next_Hy),
            H=next_H,
            inner=(state_W, state_H),
            momentum=state.momentum.grown(self.growth, self.ceiling_growth),
            moved=moved,
        )
        undone = Extrapolation(
            # From the last accepted pair, where a plain inner step is monotone: from W
            # and an unextrapolated H it need not be, and could be undone every time.
            ahead=factors,
            H=H,
            inner=(state_W, state_H),
            momentum=state.momentum.shrunk(self.decay),
            moved=jnp.zeros_like(state.moved),
        )

        new = Factors(next_W, next_Hy)
        return choose(accept, new, factors), choose(accept, good, undone)
