"""Alternating optimisation by ADMM for the Kullback-Leibler divergence."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxnmf.kernels.blocks import by_column_blocks
from jaxnmf.kernels.inverses import inverted, log_growth
from jaxnmf.kernels.multiplicative import multiplied
from jaxnmf.objective.constraints import Simplex
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.shapes import Array, Bool, Float
from jaxnmf.solvers.base import KL, PROJECTED, Alternating, Supports
from jaxnmf.types import FixedFactor, FreeFactor, Index, static

# Columns of V as they are stored, (m, b) or (b, m).
Block = Float[Array, "_ _"]

# H, the duals U and α, and the products of W with ρX + α.
Iterate = tuple[Float[Array, "p b"], Float[Array, "p b"], Block, Float[Array, "p b"]]

# The largest κ: at a solution, where rounding decides, it would grow without bound.
LARGEST = 1e6


class State(NamedTuple):
    """The state of one factor's half-step."""

    shares: Float[Array, " m"]  # the row sums of V over their total
    totals: Float[Array, "1 n"]  # the column sums of V
    kappa: Float[Array, "1 n"]  # ρ of each column, without units


@register_solver("kl-admm")
class KLADMM(Alternating):
    """Alternating optimisation with a few steps of ADMM for each factor, split at WH.

    With entrywise weights ρ = κ S / (rᵢ sⱼ), for the row sums r, the column sums s and
    the sum S of V, and η = κ t / sⱼ for G = S Wᵀ diag(1/r) W and t = tr(G)/p,
    ``inner`` times:
    T ← (G + tI)⁻¹ (Wᵀ(ρX + α) sⱼ/κ + t(H + U)), b = ρWT − α − 1,
    X ← (b + √(b² + 4ρV)) / 2ρ, H ← max(0, (η(T − U) − l1) / (η + l2)),
    α ← α + ρ(X − WT), U ← U + H − T.
    The weights are the second derivative v/x² for a V of rank one, so that rows and
    columns may differ in scale; with them one inverse serves all columns. The duals
    start each half-step from their values at a solution:
    α = V/X − 1 with X = max(WH, V/cap), and ηU = g − η(H − P(H − ∇/η)) for the
    gradient g of the loss, ∇ that of the objective.

    A few steps of ADMM may raise the objective. Each column of the new H is therefore
    the better of its H and of the multiplicative update; its κ becomes decay·κ where
    ADMM lowered the objective, otherwise growth·κ.

    Cost: (20 + 8 ``inner``)mnp, and a square root and a division for each entry of V in
    each of 2 ``inner`` steps. X, α and V/WH are in memory for one block of columns,
    which is three copies of a V of one block. Monotone up to the rounding of a
    constraint; no proof of convergence.

    Use: Kullback-Leibler with a box or a simplex, for which it is the default.

    Args:
      inner: steps of ADMM for each factor.
      penalty: the first κ.
      growth, decay: of κ, as above.
      least: the smallest κ.
      cap: the largest V/X at the start of a half-step.

    References: Huang, Sidiropoulos & Liavas, "A flexible and efficient algorithmic
    framework for constrained matrix and tensor factorization", IEEE Trans. Signal
    Processing 64 (2016) [Huang2016], there with one ρ, and the duals of the last
    half-step; Sun & Févotte, "Alternating direction method of multipliers for
    non-negative matrix factorization with the beta-divergence", ICASSP 2014 [Sun2014].
    """

    supports: ClassVar[Supports] = KL._replace(
        operands=frozenset({"dense"}), constraints=PROJECTED
    )
    monotone: ClassVar[bool] = True
    inner: int = static(5)
    penalty: float = 1.0
    growth: float = 2.0
    decay: float = 0.9
    least: float = 0.03
    cap: float = 30.0

    def half_init(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor
    ) -> State:
        operand = problem.operand
        # Rows and columns that pad V are in no sum.
        below, across = problem.T.project.columns(fixed), problem.project.columns(free)
        ones = [jnp.asarray(x, free.dtype) for x in (below, across)]
        rows = apart(operand.T.dot(ones[1]), below)[0]
        totals = apart(operand.dot(ones[0]), across)
        shares = rows / jnp.where(below[0], rows, 0).sum()
        return State(shares, totals, jnp.full_like(totals, self.penalty))

    def half_step(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor, state: State
    ) -> tuple[FreeFactor, State]:
        operand, penalty = problem.operand, problem.penalty
        p, by_rows = free.shape[0], operand.transposed
        eps = jnp.finfo(free.dtype).eps
        gram = (fixed / state.shares) @ fixed.T
        ridge = positive(jnp.trace(gram) / problem.project.rank(free))
        system = inverted(gram + ridge * jnp.eye(p, dtype=gram.dtype))
        sums = fixed.sum(1)[:, None]

        def product(H: Float[Array, "p b"]) -> Block:
            return H.T @ fixed if by_rows else fixed.T @ H

        def products_with(y: Block) -> Float[Array, "p b"]:
            return fixed @ (y.T if by_rows else y)

        def columns(
            v: Block, block: Float[Array, "_ b"], part: Problem
        ) -> Float[Array, "_ b"]:
            """The new columns of the free factor that belong to v, and their κ."""
            project = part.project
            H, totals, kappa = block[:p], block[p], block[p + 1]
            unit = kappa / totals
            rho = (
                unit[:, None] / state.shares
                if by_rows
                else unit / state.shares[:, None]
            )
            eta, rho_v = unit * ridge, rho * v
            x = jnp.maximum(product(H), operand.floor)
            minus, plus = products_with(v / x), sums + penalty.gradient(H)

            def step(_: Index, carry: Iterate) -> Iterate:
                H, U, alpha, products = carry
                T = system @ (products / unit + ridge * (H + U))
                H = project((eta * (T - U) - penalty.l1) / (eta + penalty.l2))
                z = rho * product(T)
                y = proximal(z, alpha, rho_v)
                alpha = alpha + y - z
                return H, U + H - T, alpha, products_with(y + alpha)

            start = jnp.maximum(x, v / self.cap)
            alpha = v / start - 1
            moved = H - project(H - (plus - minus) / eta)
            U = (sums - minus) / eta - moved
            carry = (H, U, alpha, products_with(rho * start + alpha))
            X = jax.lax.fori_loop(0, self.inner, step, carry)[0]

            def rise(new: Float[Array, "p b"]) -> Float[Array, " b"]:
                """The change of each column's objective."""
                delta = new - H
                change = product(delta)
                fit = change - v * log_growth(change / x)
                cost = penalty.gradient(H + 0.5 * delta) * delta
                return fit.sum(1 if by_rows else 0) + cost.sum(0)

            safe = multiplied(part, H, minus, plus)
            by_X, by_safe = rise(X), rise(safe)
            # Written so that a NaN is not accepted.
            new = jnp.where(by_X <= by_safe, X, safe)
            if isinstance(project, Simplex):
                # Here a projected multiplicative update is not monotone, and where all
                # columns of W are equal only rounding distinguishes one H from another.
                gain = -jnp.fmin(by_X, by_safe)
                new = jnp.where(gain > 8 * eps * totals, new, H)
            shorter = jnp.minimum(self.growth * kappa, LARGEST)
            longer = jnp.maximum(self.decay * kappa, self.least)
            kappa = jnp.where(by_X <= 0, longer, shorter)
            return jnp.concatenate([new, totals[None], kappa[None]])

        stacked = jnp.concatenate([free, state.totals, state.kappa])
        found = by_column_blocks(problem, stacked, columns)
        return found[:p], state._replace(kappa=found[p + 1 :])


def proximal(
    z: Float[Array, "r c"], alpha: Float[Array, "r c"], rho_v: Float[Array, "r c"]
) -> Float[Array, "r c"]:
    """The y = ρx ≥ 0 that minimises x − v log x + αx + ½ρ(x − z/ρ)²."""
    b = z - alpha - 1
    root = jnp.sqrt(b * b + 4 * rho_v)
    # The sum of b < 0 and the root would lose all its digits.
    other = 2 * rho_v / positive(root - b)
    return jnp.where(b > 0, 0.5 * (b + root), other)


def positive(x: jax.Array) -> jax.Array:
    """x, with 1 in place of 0, as a divisor."""
    return jnp.where(x > 0, x, 1)


def apart(
    sums: Float[Array, "1 q"], present: Bool[Array, "1 q"]
) -> Float[Array, "1 q"]:
    """Sums of rows or columns as units, with a lower bound in place of 0."""
    mean = jnp.where(present, sums, 0).sum() / present.sum(dtype=sums.dtype)
    return jnp.maximum(sums, 1e-6 * positive(mean))
