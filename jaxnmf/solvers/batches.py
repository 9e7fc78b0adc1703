"""A base class for solvers that take batches of rows in turn."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.problem import Problem
from jaxnmf.shapes import Array, Bool, Float, Int, PyTree
from jaxnmf.types import Factors, FreeFactor, Index, Scalar, pytree

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


class Sums(NamedTuple):
    """Within an epoch: the weighted sum of the statistics, and the weights."""

    total: PyTree[Array]
    weights: Float[Array, " batches"]


class Epoch(NamedTuple):
    """What does not change within an epoch."""

    m: Any  # rows of V
    sizes: Float[Array, " batches"]  # rows of each batch
    rho: Scalar  # what is left of a weight after a visit
    constants: PyTree[Array]


class Minibatch:
    """Visits batches of rows of V; a subclass defines the updates of a batch.

    The rows are divided at random into batches once; the order of the batches is drawn
    in every step, which is an epoch. For each batch b: H ← the best for Σ_c w_c S_c,
    with S_c the statistics of batch c when it was last visited; then the codes
    of the rows, columns of Wt; then S_b of the new codes in place of the old, with
    w_b = 1 and every other weight multiplied by ρ. A padded V is refused: its rows
    would be divided differently. Of a V in blocks each block is a batch.
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
        rows = self.divided(m, draw)
        count = len(rows)

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

    def divided(self, m: int, key: jax.Array) -> Int[Array, "batches b"]:
        """The rows of each batch, m where it has fewer."""
        count = -(-m // self.batch)
        size = -(-m // count)
        rows = jnp.arange(m, dtype=jnp.int32)
        if count > 1:
            rows = jax.random.permutation(key, rows)
        rows = jnp.pad(rows, (0, count * size - m), constant_values=m)
        return rows.reshape(count, size)

    def step(
        self, problem: Problem, factors: Factors, state: State
    ) -> tuple[Factors, State]:
        m, dtype = problem.operand.shape[0], problem.operand.dtype
        count = state.rows.shape[0]
        key, draw = jax.random.split(state.key)
        order = jax.random.permutation(draw, count)
        sizes = (state.rows < m).sum(1).astype(dtype)
        rho = (1 - state.forgetting) ** (1 / count)
        epoch = Epoch(m, sizes, rho, state.constants)
        # Summed again in every epoch, so that rounding errors do not accumulate.
        total = jax.tree.map(
            lambda S: jnp.tensordot(state.weights, S, 1), state.statistics
        )

        def visit(i: Index, carry: Any) -> Any:
            (Wt, H), sums, statistics = carry
            b = order[i]
            rows = state.rows[b]
            part = _part(problem, rows, count)
            codes = _codes(Wt, rows, count)
            old = jax.tree.map(lambda S: S[b], statistics)
            there = rows < m
            codes, H, sums, new = self.visit(
                problem, part, there, codes, H, sums, old, b, epoch
            )
            Wt = codes if count == 1 else Wt.at[:, rows].set(codes, mode="drop")
            statistics = jax.tree.map(lambda S, s: S.at[b].set(s), statistics, new)
            return Factors(Wt, H), sums, statistics

        carry = (factors, Sums(total, state.weights), state.statistics)
        factors, sums, statistics = jax.lax.fori_loop(0, count, visit, carry)
        return factors, state._replace(
            statistics=statistics,
            weights=sums.weights,
            forgetting=self.settle * state.forgetting,
            key=key,
        )

    def visit(
        self,
        problem: Problem,
        part: Problem,
        there: Bool[Array, " b"],
        codes: Codes,
        H: FreeFactor,
        sums: Sums,
        old: PyTree[Array],
        b: Index,
        epoch: Epoch,
    ) -> tuple[Codes, FreeFactor, Sums, PyTree[Array]]:
        """The visit of batch b, where ``there`` are its rows: its new codes, H, the
        sums, and its statistics in place of the old."""
        total, weights = sums
        # Scaled to all m rows, the scale of the penalty on H.
        scale = epoch.m / (weights * epoch.sizes).sum()
        scaled = jax.tree.map(lambda S: scale * S, total)
        H = self.update_H(problem, part, scaled, H, epoch.constants)
        codes = self.update_codes(part, H, codes, epoch.constants)
        codes = jnp.where(there, codes, 0)
        new = self.statistics(part, codes, H)
        total = jax.tree.map(
            lambda T, S, s: epoch.rho * (T - weights[b] * S) + s, total, old, new
        )
        return codes, H, Sums(total, (epoch.rho * weights).at[b].set(1)), new

    @property
    def over_blocks(self) -> OverBatches:
        """The same steps over blocks of rows, each of which is a batch."""
        return OverBatches(solver=self)


class OfH(NamedTuple):
    """Over blocks: H, and what belongs to all batches (see `State`)."""

    H: FreeFactor
    sizes: Float[Array, " batches"]  # rows of each batch
    weights: Float[Array, " batches"]
    forgetting: Scalar
    constants: PyTree[Array]
    key: jax.Array


@pytree
class OverBatches:
    """The epochs of a `Minibatch` solver over blocks of V's rows, each a batch, which
    are read in a new order in every epoch. `jaxnmf.run.epochs` compiles and calls its
    methods; of a block they have its columns of Wt, the codes, alone.
    """

    solver: Any
    in_turn: ClassVar[bool] = True

    def start(
        self,
        problem: Problem,
        factors: Factors,
        key: jax.Array,
        sizes: Float[Array, " batches"],
    ) -> OfH:
        """What belongs to all batches before the first epoch."""
        return OfH(
            H=factors.H,
            sizes=sizes,
            weights=jnp.ones_like(sizes),
            forgetting=jnp.asarray(self.solver.forget, sizes.dtype),
            constants=self.solver.constants(problem, factors),
            key=jax.random.split(key)[0],
        )

    def tally(self, part: Problem, codes: Codes, of_H: OfH) -> PyTree[Array]:
        """The statistics of a batch."""
        return self.solver.statistics(_alone(part), codes, of_H.H)

    def begin(self, of_H: OfH) -> tuple[OfH, Int[Array, " batches"]]:
        """The start of an epoch, and the order of its visits."""
        key, draw = jax.random.split(of_H.key)
        order = jax.random.permutation(draw, len(of_H.sizes))
        return of_H._replace(key=key), order

    def visit(
        self,
        part: Problem,
        codes: Codes,
        old: PyTree[Array],
        of_H: OfH,
        total: PyTree[Array],
        b: Index,
    ) -> tuple[Codes, PyTree[Array], OfH, PyTree[Array]]:
        """A visit: the new codes and statistics of batch b, and the sums with them."""
        H, sizes, weights, forgetting, constants, _ = of_H
        rho = (1 - forgetting) ** (1 / len(sizes))
        V = part.operand
        epoch = Epoch(jnp.asarray(V.moments.rows, H.dtype), sizes, rho, constants)
        own = dataclasses.replace(V, moments=V.moments.sample(sizes[b]))
        alone = _alone(dataclasses.replace(part, operand=own))
        place = jnp.arange(codes.shape[1], dtype=jnp.int32)
        there = place < sizes[b].astype(jnp.int32)
        sums = Sums(total, weights)
        codes, H, sums, new = self.solver.visit(
            part, alone, there, codes, H, sums, old, b, epoch
        )
        return codes, new, of_H._replace(H=H, weights=sums.weights), sums.total

    def end(self, of_H: OfH) -> OfH:
        """The end of an epoch."""
        return of_H._replace(forgetting=self.solver.settle * of_H.forgetting)

    def kept(self, codes: Codes, of_H: OfH) -> Factors:
        """The factors."""
        return Factors(codes, of_H.H)


def _part(problem: Problem, rows: Int[Array, " b"], count: int) -> Problem:
    """The problem of these rows for the codes."""
    part = problem.operand if count == 1 else problem.operand.rows(rows)
    return _alone(dataclasses.replace(problem, operand=part))


def _alone(part: Problem) -> Problem:
    """The problem of some rows without the penalty on H, which is that of all."""
    return Problem(
        operand=part.operand,
        loss=part.loss,
        projects=part.projects,
        penalties=(part.penalties[0], Penalty()),
    )


def _codes(Wt: Float[Array, "p m"], rows: Int[Array, " b"], count: int) -> Codes:
    """The columns of Wt for these rows, 0 where the index is m."""
    return Wt if count == 1 else Wt.at[:, rows].get(mode="fill", fill_value=0)
