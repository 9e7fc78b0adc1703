"""Batches of rows in turn: online dictionary learning and multiplicative updates."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxnmf.data.grams import SharedGram
from jaxnmf.kernels.coordinate import sweep, sweeps
from jaxnmf.kernels.inverses import inverse
from jaxnmf.kernels.multiplicative import factor_floor, multiplied
from jaxnmf.kernels.repeats import inner_repeats
from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.solvers.base import BETA, QUADRATIC, Supports
from jaxnmf.types import Cross, Factors, FreeFactor, Index, Scalar, static

Codes = Float[Array, "p b"]
"""The columns of Wt for the rows of a batch."""


class State(NamedTuple):
    """The statistics of the batches and their weights."""

    rows: Int[Array, "batches b"]  # of each batch, m where it has fewer
    statistics: PyTree[Array]  # of each batch when it was last visited, stacked
    weights: Float[Array, " batches"]  # of the statistics in the update of H
    forgetting: Scalar  # 1 − the weight that is kept over this epoch
    constants: PyTree[Array]  # the solver's own, fixed for the run
    key: jax.Array


Carry = tuple[Factors, PyTree[Array], PyTree[Array], Float[Array, " batches"]]
"""(factors, total, statistics, weights) within an epoch."""


class Minibatch:
    """Visits batches of rows of V; a subclass defines the updates of a batch.

    The rows are divided at random into batches once; the order of the batches is drawn
    in every step, which is an epoch. For each batch b: H ← the best for Σ_c w_c S_c,
    with S_c the statistics of batch c when it was last visited; then the codes
    of the rows, columns of Wt; then S_b of the new codes in place of the old, with
    w_b = 1 and every other weight multiplied by ρ. A padded V is refused: its rows
    would be divided differently.
    """

    monotone: ClassVar[bool] = False
    own_objective: ClassVar[bool] = False
    batch: int
    forget: float
    settle: float

    def constants(self, problem: Problem, factors: Factors) -> PyTree[Array]:
        """The values that are fixed for the run; none by default."""
        return ()

    def statistics(self, part: Problem, codes: Codes, H: FreeFactor) -> PyTree[Array]:
        """The statistics of a batch for H: sums over its rows, without the penalty."""
        raise NotImplementedError

    def update_H(
        self,
        problem: Problem,
        part: Problem,
        total: PyTree[Array],
        H: FreeFactor,
        constants: PyTree[Array],
    ) -> FreeFactor:
        """H improved for the full problem, whose statistics are ``total``."""
        raise NotImplementedError

    def update_codes(
        self, part: Problem, H: FreeFactor, codes: Codes, constants: PyTree[Array]
    ) -> Codes:
        """The codes of a batch improved for fixed H."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(
                f"solver {self.name!r}: batch={self.batch} must be ≥ 1"  # pyright: ignore
            )

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> State:
        m, dtype = problem.operand.shape[0], problem.operand.dtype
        key, draw = jax.random.split(key)
        count = -(-m // self.batch)
        size = -(-m // count)
        rows = jnp.arange(m, dtype=jnp.int32)
        if count > 1:
            rows = jax.random.permutation(draw, rows)
        rows = jnp.pad(rows, (0, count * size - m), constant_values=m)
        rows = rows.reshape(count, size)

        def statistics(rows: Int[Array, " b"]) -> PyTree[Array]:
            part = _part(problem, rows, count)
            return self.statistics(part, _codes(factors.Wt, rows, count), factors.H)

        return State(
            rows=rows,
            statistics=jax.lax.map(statistics, rows),
            weights=jnp.ones((count,), dtype),
            forgetting=jnp.asarray(self.forget, dtype),
            constants=self.constants(problem, factors),
            key=key,
        )

    def step(
        self, problem: Problem, factors: Factors, state: State
    ) -> tuple[Factors, State]:
        m, dtype = problem.operand.shape[0], problem.operand.dtype
        count = state.rows.shape[0]
        key, draw = jax.random.split(state.key)
        order = jax.random.permutation(draw, count)
        sizes = (state.rows < m).sum(1).astype(dtype)
        rho = (1 - state.forgetting) ** (1 / count)
        # Summed again in every epoch, so that rounding errors do not accumulate.
        total = jax.tree.map(
            lambda S: jnp.tensordot(state.weights, S, 1), state.statistics
        )

        def visit(i: Index, carry: Carry) -> Carry:
            (Wt, H), total, statistics, weights = carry
            b = order[i]
            rows = state.rows[b]
            part = _part(problem, rows, count)
            # Scaled to all m rows, the scale of the penalty on H.
            scale = m / (weights * sizes).sum()
            H = self.update_H(
                problem,
                part,
                jax.tree.map(lambda S: scale * S, total),
                H,
                state.constants,
            )
            codes = _codes(Wt, rows, count)
            codes = self.update_codes(part, H, codes, state.constants)
            codes = jnp.where(rows < m, codes, 0)
            Wt = codes if count == 1 else Wt.at[:, rows].set(codes, mode="drop")
            new = self.statistics(part, codes, H)
            total = jax.tree.map(
                lambda T, S, s: rho * (T - weights[b] * S[b]) + s,
                total,
                statistics,
                new,
            )
            statistics = jax.tree.map(lambda S, s: S.at[b].set(s), statistics, new)
            return Factors(Wt, H), total, statistics, (rho * weights).at[b].set(1)

        carry = (factors, total, state.statistics, state.weights)
        factors, _, statistics, weights = jax.lax.fori_loop(0, count, visit, carry)
        return factors, state._replace(
            statistics=statistics,
            weights=weights,
            forgetting=self.settle * state.forgetting,
            key=key,
        )


def _part(problem: Problem, rows: Int[Array, " b"], count: int) -> Problem:
    """The problem of these rows for the codes: no penalty on H."""
    return Problem(
        operand=problem.operand if count == 1 else problem.operand.rows(rows),
        loss=problem.loss,
        projects=problem.projects,
        penalties=(problem.penalties[0], Penalty()),
    )


def _codes(Wt: Float[Array, "p m"], rows: Int[Array, " b"], count: int) -> Codes:
    """The columns of Wt for these rows, 0 where the index is m."""
    return Wt if count == 1 else Wt.at[:, rows].get(mode="fill", fill_value=0)


@register_solver("hals-online")
class OnlineHALS(Minibatch):
    """HALS on batches of rows: online dictionary learning, one step an epoch.

    For each batch b of rows v_b: HALS sweeps of H on (Σ_c w_c A_c, Σ_c w_c B_c),
    with A_c = W_cᵀW_c and B_c = W_cᵀV_c of every batch's codes when they were last
    computed; then sweeps of the codes W_b on (HHᵀ, v_b Hᵀ). The weight of a batch is
    1 when it is visited and falls by (1 − forget) an epoch, for its codes were made
    for an older H; ``forget`` itself falls by ``settle`` an epoch, so that in the end
    all rows count alike and the solution is that of all of V. With one batch it is
    HALS.

    Cost: 4mnp an epoch as HALS, and 2np² a batch and sweep; in memory p(p + n) numbers
    for each batch, p/batch of V. Not monotone, but as ``forget`` falls to 0 each move
    becomes coordinate descent on the full objective.

    Use: many rows, where one pass over V takes long: it comes near the solution within
    few epochs.

    Args:
      batch: rows at a time.
      inner: sweeps for each Gram and cross product; 0 chooses by the sizes.
      forget: how much less a batch counts an epoch after its visit.
      settle: what is left of ``forget`` after an epoch.

    References: Mairal, Bach, Ponce & Sapiro, "Online learning for matrix factorization
    and sparse coding", JMLR 11 (2010) [Mairal2010]; Schmidt, Le Roux & Bach,
    "Minimizing finite sums with the stochastic average gradient", Mathematical
    Programming 162 (2017) [Schmidt2017], for replacing a batch's share in the sums.
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(
        operands=frozenset({"dense"}), padded=False
    )
    batch: int = static(256)
    inner: int = static(0)
    forget: float = 0.9
    settle: float = 0.97

    def statistics(
        self, part: Problem, codes: Codes, H: FreeFactor
    ) -> tuple[SharedGram, Cross]:
        return part.quadratic(codes)

    def update_H(
        self,
        problem: Problem,
        part: Problem,
        total: tuple[SharedGram, Cross],
        H: FreeFactor,
        constants: PyTree[Array],
    ) -> FreeFactor:
        gram, cross = total
        # By the sizes of the batch, whose products these are.
        repeats = inner_repeats(part, H, self.inner)
        return jax.lax.fori_loop(
            0, repeats, lambda _, X: sweep(problem, gram, cross, X), H
        )

    def update_codes(
        self, part: Problem, H: FreeFactor, codes: Codes, constants: PyTree[Array]
    ) -> Codes:
        part = part.T
        gram, cross = part.quadratic(H)
        return sweeps(part, gram, cross, codes, self.inner)


@register_solver("mu-minibatch")
class MinibatchMU(Minibatch):
    """Multiplicative updates on batches of rows, for every β-divergence.

    For each batch b: H ← max(floor, H ∘ (Σ_c w_c M_c / H^(1/γ) / Σ_c w_c P_c)^γ), where
    plus_c − minus_c is the gradient of batch c at its last visit, P_c = plus_c
    and M_c = H^(1/γ) minus_c with the H of that visit: for β ≤ 1 the minimum of the
    sum of the batches' majorisers, for others an update of the same fixed points. Then
    ``inner`` multiplicative updates of the codes of the batch. Weights fall and
    settle as in `hals-online`; γ, and the floor, are those of `mu`. With one batch it
    is `mu`.

    Cost: that of `mu` an epoch, and 2np a batch; in memory 2np numbers for each batch.
    Not monotone; no proof of convergence.

    Use: β-divergences of many rows; on small data `mu` is as fast.

    Args:
      batch: rows at a time.
      inner: updates of the codes for each visit.
      forget: how much less a batch counts an epoch after its visit.
      settle: what is left of ``forget`` after an epoch.
      floor: the smallest entry, in units of the factor's mean at the start.

    References: Lefèvre, Bach & Févotte, "Online algorithms for nonnegative matrix
    factorization with the Itakura-Saito divergence", WASPAA (2011) [Lefevre2011];
    Mairal, "Stochastic majorization-minimization algorithms for large-scale
    optimization", NIPS 26 (2013) [Mairal2013].
    """

    supports: ClassVar[Supports] = BETA._replace(
        operands=frozenset({"dense"}), padded=False
    )
    batch: int = static(256)
    inner: int = static(1)
    forget: float = 0.9
    settle: float = 0.97
    floor: float = 1e-10

    def constants(self, problem: Problem, factors: Factors) -> Factors:
        return Factors(
            *(
                factor_floor(side, X, self.floor)
                for side, X in zip((problem.T, problem), factors, strict=True)
            )
        )

    def statistics(
        self, part: Problem, codes: Codes, H: FreeFactor
    ) -> tuple[FreeFactor, FreeFactor]:
        minus, plus = part.gradient(codes, H)
        return H ** (1 / part.loss.mu_exponent) * minus, plus

    def update_H(
        self,
        problem: Problem,
        part: Problem,
        total: tuple[FreeFactor, FreeFactor],
        H: FreeFactor,
        constants: Factors,
    ) -> FreeFactor:
        scaled, plus = total
        plus = plus + problem.penalty.gradient(H)
        minus = scaled * inverse(H ** (1 / problem.loss.mu_exponent))
        return multiplied(problem, H, minus, plus, constants.H)

    def update_codes(
        self, part: Problem, H: FreeFactor, codes: Codes, constants: Factors
    ) -> Codes:
        def again(_: Index, codes: Codes) -> Codes:
            minus, plus = part.T.gradient(H, codes)
            return multiplied(part.T, codes, minus, plus, constants.Wt)

        return jax.lax.fori_loop(0, self.inner, again, codes)
