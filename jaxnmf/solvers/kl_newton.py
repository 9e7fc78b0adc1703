"""Projected Newton steps for the Kullback-Leibler divergence."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxnmf._util.platform import on_cpu
from jaxnmf.data.grams import ColumnGrams, component_pairs
from jaxnmf.kernels.blocks import by_column_blocks
from jaxnmf.kernels.coordinate import over_tiles, unrolled, unrolled_rows
from jaxnmf.kernels.inverses import inverse, log_growth
from jaxnmf.kernels.momentum import Momentum, choose
from jaxnmf.kernels.multiplicative import multiplied
from jaxnmf.objective.constraints import NonNegative
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.shapes import Array, Bool, Float
from jaxnmf.solvers.base import KL, Supports
from jaxnmf.types import Factors, Index, Scalar, static

# Columns of V as they are stored, (m, b) or (b, m).
Block = Float[Array, "_ _"]

# d and the slope of the quadratic model there.
_Iterate = tuple[Float[Array, "p n"], Float[Array, "p n"]]


class State(NamedTuple):
    """The start of the next step, and the objective that it is compared with."""

    ahead: Factors  # the extrapolated factors
    H: Float[Array, "p n"]  # the last accepted H, before extrapolation
    momentum: Momentum
    objective: Scalar  # at the factors


@register_solver("kl-newton")
class KLNewton:
    """Projected Newton steps on the columns of a factor, extrapolated, with restarts.

    For each column h of H, with x = Wh: g = Wᵀ(1 − v/x) + l1 + l2 h and
    G = Wᵀ diag(v/x²) W + l2 I; d from ``sweeps`` passes of coordinate descent on
    ⟨g, d⟩ + ½⟨d, Gd⟩ over h + d ≥ 0; h⁺ = h + td with the first t of 1 and ¼ that does
    not raise the column's objective, else the multiplicative update of h. W likewise.
    Around it H_y⁺ = (H⁺ + β (H⁺ − H))₊ and W_y⁺ = (W⁺ + β (W⁺ − W))₊: if the objective
    at (W⁺, H_y⁺) did not rise, β ← min(β′, growth·β), β′ ← min(1, ceiling_growth·β′);
    otherwise the step is undone, β′ ← the last accepted β, β ← β / decay.

    Cost: (2p² + 14p)mn, mostly one product with the p(p+1)/2 products of the columns of
    W, and 2p²(m + n) a sweep; p² numbers for each column in memory. It is therefore for
    few components, where it needs tens of iterations for the thousands of `mu`. V is
    processed by blocks of columns. Monotone; no proof of convergence.

    Use: Kullback-Leibler on dense data on a CPU; the default there up to 16 components.

    Args:
      sweeps: passes over each column's quadratic model.
      beta: the first β.
      growth, ceiling_growth, decay: of β, as above.

    References: Hsieh & Dhillon, "Fast coordinate descent methods with variable
    selection for non-negative matrix factorization", KDD 2011 [Hsieh2011], for the
    model, here of a column; Ang & Gillis, "Accelerating nonnegative matrix
    factorization algorithms using extrapolation", Neural Computation 31 (2019)
    [Ang2019].
    """

    supports: ClassVar[Supports] = KL._replace(operands=frozenset({"dense"}))
    monotone: ClassVar[bool] = True
    own_objective: ClassVar[bool] = False
    sweeps: int = static(3)
    beta: float = 0.5
    growth: float = 1.05
    ceiling_growth: float = 1.01
    decay: float = 1.5

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> State:
        return State(
            ahead=factors,
            H=factors.H,
            momentum=Momentum.start(self.beta, problem.operand.dtype),
            objective=problem.value(factors),
        )

    def step(
        self, problem: Problem, factors: Factors, state: State
    ) -> tuple[Factors, State]:
        W, H = factors
        Wy, Hy = state.ahead
        beta = state.momentum.beta
        next_H = newton_step(problem, Wy, Hy, self.sweeps)
        next_Hy = problem.project(next_H + beta * (next_H - state.H))
        next_W = newton_step(problem.T, next_Hy, Wy, self.sweeps)
        next_Wy = problem.T.project(next_W + beta * (next_W - W))
        new = Factors(next_W, next_Hy)

        objective = problem.value(new)
        accept = objective <= state.objective
        good = State(
            ahead=Factors(next_Wy, next_Hy),
            H=next_H,
            momentum=state.momentum.grown(self.growth, self.ceiling_growth),
            objective=objective,
        )
        undone = State(
            # From the last accepted pair, where a plain step is monotone.
            ahead=factors,
            H=H,
            momentum=state.momentum.shrunk(self.decay),
            objective=state.objective,
        )

        return choose(accept, new, factors), choose(accept, good, undone)


def newton_step(
    problem: Problem, fixed: Float[Array, "p m"], free: Float[Array, "p n"], sweeps: int
) -> Float[Array, "p n"]:
    """An improved ``free`` factor, column by column, for a dense V."""
    operand, penalty = problem.operand, problem.penalty
    p, by_rows = free.shape[0], operand.transposed
    first, second, packed = component_pairs(p)
    pairs, total = fixed[first] * fixed[second], fixed.sum(1)[:, None]
    eps = jnp.finfo(operand.dtype).eps

    def product(X: Float[Array, "p b"]) -> Block:
        return X.T @ fixed if by_rows else fixed.T @ X

    def products_with(left: Float[Array, "k m"], y: Block) -> Float[Array, "k b"]:
        return left @ (y.T if by_rows else y)

    def columns(v: Block, H: Float[Array, "p b"], part: Problem) -> Float[Array, "p b"]:
        """The new columns of the free factor that belong to the columns v."""
        x = jnp.maximum(product(H), operand.floor)
        # Not v/x/x: compiled, it becomes v/(x·x), whose square may underflow.
        over = 1 / x
        ratio = v * over
        minus, plus = products_with(fixed, ratio), total + penalty.gradient(H)
        slope = plus - minus
        curvature = products_with(pairs, ratio * over)[packed]  # (p, p, n)
        diagonal = jnp.arange(p)
        curvature = curvature.at[diagonal, diagonal].add(penalty.l2)
        d = descent(H, slope, curvature, sweeps, part.project)

        change = product(d)
        relative = change / x

        def rise(t: float) -> Float[Array, " b"]:
            """The change of each column's objective at H + td, beyond rounding."""
            fit = t * change - v * log_growth(t * relative)
            fit = fit - 4 * eps * jnp.abs(change)
            cost = penalty.gradient(H + 0.5 * t * d) * (t * d)
            return fit.sum(1 if by_rows else 0) + cost.sum(0)

        def shorter(full: Bool[Array, " b"]) -> Float[Array, "p b"]:
            safe = multiplied(part, H, minus, plus)
            quarter = jnp.where(rise(0.25) <= 0, H + 0.25 * d, safe)
            return jnp.where(full, H + d, quarter)

        full = rise(1.0) <= 0
        new = jax.lax.cond(full.all(), lambda _: H + d, shorter, full)
        return part.project(new)

    return by_column_blocks(problem, free, columns)


def descent(
    H: Float[Array, "p n"],
    slope: Float[Array, "p n"],
    curvature: Float[Array, "p p n"],
    sweeps: int,
    project: NonNegative,
) -> Float[Array, "p n"]:
    """d with a small ⟨slope, d⟩ + ½⟨d, curvature d⟩ over H + d ≥ 0, for each column; 0
    where an entry of H is held."""
    p = H.shape[0]
    free = jnp.broadcast_to(project.free, H.shape)
    steps = jnp.where(free, inverse(jnp.diagonal(curvature).T), 0)
    flat = free & (steps == 0)

    def moved(
        d: Float[Array, " n"], slope: Float[Array, " n"], k: Index
    ) -> Float[Array, " n"]:
        """Row k of d after its exact step."""
        # Without curvature the loss is linear: down to 0, or as it is.
        target = jnp.where(flat[k] & (slope > 0), -H[k], d - slope * steps[k])
        return project.entrywise(target, -H[k])  # so that H + d ≥ 0

    def coordinate(i: Index, carry: _Iterate) -> _Iterate:
        d, slope = carry
        k = i % p
        new = moved(d[k], slope[k], k)
        return d.at[k].set(new), slope + curvature[k] * (new - d[k])

    def tile(carry: _Iterate, first: Index, size: int) -> _Iterate:
        """The same for a tile of rows, in few launches."""
        d, slope = carry
        rows, own = ColumnGrams(array=curvature).tile(first, size)
        x, s = (jax.lax.dynamic_slice_in_dim(X, first, size) for X in carry)
        new, change = unrolled(
            x, own, s, lambda d, slope, k: moved(d, slope, first + k)
        )
        # The curvature is symmetric.
        slope = slope + (rows.array * change[:, None]).sum(0)
        return jax.lax.dynamic_update_slice_in_dim(d, new, first, 0), slope

    def by_tiles(_: Index, carry: _Iterate) -> _Iterate:
        return over_tiles(p, unrolled_rows(p), tile, carry)

    start = (jnp.zeros_like(H), slope)
    if on_cpu():
        return jax.lax.fori_loop(0, sweeps * p, coordinate, start)[0]
    return jax.lax.fori_loop(0, sweeps, by_tiles, start)[0]
