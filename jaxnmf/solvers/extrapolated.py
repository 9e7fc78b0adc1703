"""Extrapolation with restarts of any alternating Frobenius solver."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxnmf.kernels.momentum import Momentum, choose
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import make_solver, register_solver
from jaxnmf.shapes import Array, Bool, Float
from jaxnmf.solvers.base import (
    BLOCKS,
    EVERY_OPERAND,
    PROJECTED,
    QUADRATIC,
    Supports,
    gives_nnls,
)
from jaxnmf.types import Factors, FreeFactor, Scalar, State, pytree


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

    If the objective at (W⁺, H_y⁺) did not rise, β ← min(β′, growth·β) and
    β′ ← min(1, ceiling_growth·β′). Otherwise the step is undone, W_y, H_y ← the last
    accepted pair (W, H_y), β′ ← the last accepted β, and β ← β / decay.

    The objective is followed by its changes, ⟨∇, Δ⟩ + ½⟨Δ, GΔ⟩ for each of the three
    moves of a step, with the G and B of the half-steps: the sign of the difference of
    two objectives in float32 is lost to rounding long before convergence. The factors
    returned are those at which the objective was compared.

    Cost: that of the inner solver and 2p²(m + n). Monotone; no proof of convergence.

    Use: the Frobenius loss; the default there, and the fastest on most data sets of the
    studies.

    Args:
      inner: an alternating solver for the Frobenius loss, or its name.
      beta: the first β.
      growth, ceiling_growth, decay: of β, as above.

    Reference: Ang & Gillis, "Accelerating nonnegative matrix factorization algorithms
    using extrapolation", Neural Computation 31 (2019) [Ang2019].
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(
        constraints=PROJECTED, operands=EVERY_OPERAND | BLOCKS, graph=True, toward=True
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

    def check(self, problem: Problem) -> None:
        """Refuse what the inner solver refuses."""
        if hasattr(self.inner, "check"):
            self.inner.check(problem)

    @property
    def over_blocks(self) -> ExtrapolatedOverBlocks:
        """The same steps over blocks of rows."""
        return ExtrapolatedOverBlocks(solver=self)

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


class OfW(NamedTuple):
    """Over blocks: the last accepted W, the extrapolated one, and the next of both."""

    factor: FreeFactor
    ahead: FreeFactor
    inner: State
    next: FreeFactor
    next_ahead: FreeFactor


class OfH(NamedTuple):
    """The same of H, and the last one before extrapolation. ``changed`` is that of the
    objective by the move of H."""

    factor: FreeFactor
    last: FreeFactor
    ahead: FreeFactor
    inner: State
    next: FreeFactor
    next_ahead: FreeFactor
    momentum: Momentum
    moved: Scalar
    changed: Scalar


@pytree
class ExtrapolatedOverBlocks:
    """The steps of `Extrapolated` over blocks of V's rows (`OverBlocks`). V is read
    once an iteration, and once more after a step that was undone."""

    solver: Any
    in_turn: ClassVar[bool] = False
    looks_back: ClassVar[bool] = True

    def start(
        self, problem: Problem, factors: Factors, key: jax.Array
    ) -> tuple[OfW, OfH]:
        Wt, H = factors
        state = self.solver.init(problem, factors, key)
        of_W, of_H = state.inner
        zero = jnp.zeros_like(state.moved)
        return (
            OfW(Wt, Wt, of_W, Wt, Wt),
            OfH(H, H, H, of_H, H, H, state.momentum, state.moved, zero),
        )

    def tally(self, part: Problem, of_W: OfW, of_H: OfH) -> Any:
        del of_H
        return part.quadratic(of_W.ahead)

    def before(self, problem: Problem, of_H: OfH, products: Any) -> OfH:
        beta, (gram, cross) = of_H.momentum.beta, products
        nnls = self.solver.inner.nnls
        H, state = nnls(problem, gram, cross, of_H.ahead, of_H.inner)
        ahead = problem.project(H + beta * (H - of_H.last))
        changed = problem.quadratic_change(gram, cross, of_H.factor, ahead)
        return of_H._replace(inner=state, next=H, next_ahead=ahead, changed=changed)

    def visit(self, part: Problem, of_W: OfW, of_H: OfH) -> tuple[OfW, Any, Any]:
        turned, beta = part.T, of_H.momentum.beta
        gram, cross = turned.quadratic(of_H.next_ahead)
        nnls = self.solver.inner.nnls
        Wt, state = nnls(turned, gram, cross, of_W.ahead, of_W.inner)
        ahead = turned.project(Wt + beta * (Wt - of_W.factor))
        changed = turned.quadratic_change(gram, cross, of_W.ahead, Wt)
        moved = turned.quadratic_change(gram, cross, Wt, ahead)
        of_W = of_W._replace(inner=state, next=Wt, next_ahead=ahead)
        return of_W, part.quadratic(ahead), (changed, moved)

    def after(
        self, problem: Problem, of_W: OfW, of_H: OfH, sums: Any
    ) -> tuple[OfW, OfH, Bool[Array, ""]]:
        changed, moved = sums
        accept = of_H.moved + of_H.changed + changed <= 0
        momentum = of_H.momentum
        good = (
            of_W._replace(factor=of_W.next, ahead=of_W.next_ahead),
            of_H._replace(
                factor=of_H.next_ahead,
                last=of_H.next,
                ahead=of_H.next_ahead,
                momentum=momentum.grown(self.solver.growth, self.solver.ceiling_growth),
                moved=moved,
            ),
        )
        undone = (
            of_W._replace(ahead=of_W.factor),
            of_H._replace(
                last=of_H.factor,
                ahead=of_H.factor,
                momentum=momentum.shrunk(self.solver.decay),
                moved=jnp.zeros_like(moved),
            ),
        )
        return *choose(accept, good, undone), accept

    def tried(self, of_W: OfW, of_H: OfH) -> Factors:
        return Factors(of_W.next, of_H.next_ahead)

    def kept(self, of_W: OfW, of_H: OfH) -> Factors:
        return Factors(of_W.factor, of_H.factor)
