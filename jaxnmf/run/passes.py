"""Passes over a V in blocks of rows, one an iteration."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.data.streamed import Streamed
from jaxnmf.objective import in_double
from jaxnmf.objective.problem import Problem
from jaxnmf.run.programs import compiled, program_hash
from jaxnmf.run.stop import Measure
from jaxnmf.shapes import Array, Float
from jaxnmf.types import Factors

Columns = tuple[Float[Array, "p b"], ...]
"""Wt, the columns of each block apart; those that only pad it are 0."""


class State(NamedTuple):
    """A run between two passes.

    Attributes:
      rows: what the solver keeps for the rows of each block (``of_W``).
      shared: what it keeps for all (``of_H``).
      products: of the blocks, for the step to come: their sum, or each apart.
    """

    rows: tuple[Any, ...]
    shared: Any
    products: Any


class Passes:
    """Passes over the blocks, and what is done between them.

    Args:
      problem: over a `Streamed` operand.
      solver: its steps over blocks (`jaxnmf.solvers.base.OverBlocks`).
      kkt: whether to record the KKT residual.
    """

    apart: ClassVar[bool] = False
    """Whether the products of each block are kept, and not their sum."""

    def __init__(self, problem: Problem, solver: Any, kkt: bool) -> None:
        self.problem, self.solver, self.kkt = problem, solver, kkt
        self.operand: Streamed = problem.operand
        self.heights, self.height = np.diff(self.operand.starts), self.operand.height
        place = np.arange(self.height)
        pads = np.concatenate([place >= rows for rows in self.heights])[None]
        dtype = self.operand.dtype
        held = np.where(pads, 0, np.nan).astype(dtype)
        # Of all columns of Wt, and those that pad a block.
        head = dataclasses.replace(problem, operand=self.operand.head)
        self.padded, self.head = _holding(head, held), head
        # Where the columns of a block are free, by its height.
        of_W = problem.projects[0]
        self.holding = {
            int(rows): dataclasses.replace(
                of_W, held=jnp.asarray(np.where(place < rows, np.nan, 0)[None], dtype)
            )
            for rows in self.heights
        }
        self.double = False
        # Of the passes of iterations: compiled with the first, off the clock.
        self.wanted = [VISITS[False, x, kkt, False] for x in (False, True)]
        self.programs: dict[Any, tuple[Any, Any]] = {}
        self.compile_seconds, self.program = 0.0, None

    def start(self, factors: Factors, key: jax.Array) -> tuple[State, Measure]:
        """The state before the first step, and the measure of the start."""
        of_W, of_H = self._run(_started, self.head, self.solver, factors, key)
        state, _, found = self._pass(State(self._cut(of_W), of_H, None), tally=True)
        # Compiled here, off the clock.
        zeros = self.programs[self.wanted[0]][1]
        self._compiled(_before, self.padded, self.solver, of_H, state.products)
        if self.solver.looks_back:
            self._compiled(_after, self.padded, self.solver, state.rows, of_H, zeros[1])
        return state, self._checked(state, found)

    def step(self, state: State, *, measured: bool) -> tuple[State, Measure | None]:
        """One iteration, and the measure of its factors."""
        of_H = self._run(
            _before, self.padded, self.solver, state.shared, state.products
        )
        state = state._replace(shared=of_H)
        state, sums, found = self._pass(state, measured=measured)
        if self.solver.looks_back:
            arguments = self.padded, self.solver, state.rows, of_H, sums
            of_W, of_H, holds = self._run(_after, *arguments)
            state = state._replace(rows=of_W, shared=of_H)
            if not holds:
                state, _, found = self._pass(state, tally=True, measured=measured)
        return state, self._checked(state, found) if found else None

    def kept(self, state: State) -> tuple[Columns, Any]:
        """The factors of a state."""
        pairs = [self.solver.kept(of_W, state.shared) for of_W in state.rows]
        return tuple(Wt for Wt, _ in pairs), pairs[0].H

    def joined(self, columns: Columns) -> Float[np.ndarray, "p m"]:
        """Wt as one array."""
        pairs = zip(columns, self.heights, strict=True)
        return np.concatenate([np.asarray(x)[:, :rows] for x, rows in pairs], 1)

    def _checked(self, state: State, found: Any) -> Measure:
        """The measure; taken again, where it is the first to need double precision."""
        if self.double or not in_double.may_be_needed(self.problem):
            return found
        value = jnp.asarray(found.objective, self.operand.dtype)
        if not in_double.is_close(self.problem, value):
            return found
        self.double = True
        return self._pass(state, tally=True)[2]  # pyright: ignore

    def _pass(
        self, state: State, *, tally: bool = False, measured: bool = True
    ) -> tuple[State, Any, Measure | None]:
        """(state, sums, measure) after one pass over the blocks, which takes their
        products alone where ``tally``."""
        function = VISITS[tally, measured, self.kkt, self.double]
        of_W, values, slopes, totals, apart = [], [], [], None, []
        before: Any = None
        parts = self._parts(each_row=self._at_entries(measured))
        for part, own in zip(parts, state.rows, strict=True):
            program, zeros = self._ready(function, part, own, state.shared)
            totals = zeros if totals is None else totals
            arguments = part, self.solver, own, state.shared, totals
            own, totals, found = program(*arguments)
            # The memory of the block before this one is used again.
            jax.block_until_ready(before)
            before = totals
            if self.apart:
                apart.append(totals[0])
                totals = (zeros[0], *totals[1:])
            of_W.append(own)
            if measured:
                value, slope = found
                values.append(value)
                slopes.append(slope)
        products, sums, of_all = totals  # pyright: ignore
        products = tuple(apart) if self.apart else products
        state = State(tuple(of_W), state.shared, products)
        if not measured:
            return state, sums, None
        pair = self.solver.kept if tally else self.solver.tried
        factors = [pair(one, state.shared) for one in of_W]
        H = factors[0].H
        penalty = self._run(_penalty, self.head, H)
        value = np.float64(sum(map(float, values))) + np.float64(penalty)
        kkt = self._kkt(factors, of_all, slopes) if self.kkt else np.nan
        kkt = np.asarray(kkt, self.operand.dtype)
        return state, sums, Measure(value, kkt)  # pyright: ignore

    def _kkt(self, factors: Sequence[Factors], of_all: Any, slopes: Any) -> Any:
        """The KKT residual from what a pass found, as `Problem.kkt` has it."""
        H = factors[0].H
        total, *units = self._run(_residual_of_H, self.head, H, *of_all)
        for (Wt, _), slope, rows in zip(factors, slopes, self.heights, strict=True):
            held = self.holding[int(rows)]
            total = total + self._run(_residual_of_W, held, Wt, slope, *units)
        return np.sqrt(total / (len(H) * sum(self.operand.shape)))

    def _parts(
        self, order: Sequence[int] | None = None, *, each_row: bool = True
    ) -> Iterator[Problem]:
        """The problem of each block, as `Streamed.parts` has them."""
        for operand, held in self.operand.parts(order, each_row=each_row):
            part = dataclasses.replace(self.problem, operand=operand)
            yield _holding(part, held)

    def _at_entries(self, measured: bool) -> bool:
        """Whether a visit needs x at the entries of a sparse V, not products alone."""
        return measured or not self.problem.loss.quadratic

    def _as_visited(self, part: Problem, measured: bool) -> Problem:
        """A part of a pass that measures as a visit has it that may not."""
        if self._at_entries(measured) or not self.operand.by_entries:
            return part
        return dataclasses.replace(part, operand=part.operand.without_rows())

    def _ready(self, function: Any, part: Problem, own: Any, of_H: Any) -> Any:
        """The program of a pass, and the zeros that it adds to."""
        wanted = [function, *(self.wanted if not self.programs else ())]
        wanted = [one for one in wanted if one not in self.programs]
        for one in wanted:
            visited = self._as_visited(part, one.keywords["measured"])
            arguments = visited, self.solver, own, of_H
            shapes = jax.eval_shape(one, *arguments, None)[1]
            zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
            program = self._compiled(one, *arguments, zeros)
            self.programs[one] = program, zeros
            self.program = program_hash(program)
        return self.programs[function]

    def _compiled(self, function: Any, *arguments: Any) -> Any:
        program, seconds = compiled(function, *arguments)
        self.compile_seconds += seconds
        return program

    def _run(self, function: Any, *arguments: Any) -> Any:
        return self._compiled(function, *arguments)(*arguments)

    def _cut(self, tree: Any) -> tuple[Any, ...]:
        """What belongs to the rows of each block: of arrays with one column for each
        row of V its columns, padded with zeros, and all else as it is."""
        m = int(self.heights.sum())

        def cut(x: Any, first: Any, rows: Any) -> jax.Array:
            x = np.asarray(x)
            if not x.ndim or x.shape[-1] != m:
                return jnp.asarray(x)
            width = [(0, 0)] * (x.ndim - 1) + [(0, self.height - rows)]
            return jnp.asarray(np.pad(x[..., first : first + rows], width))

        pairs = zip(self.operand.starts[:-1], self.heights, strict=True)
        return tuple(
            jax.tree.map(partial(cut, first=a, rows=r), tree) for a, r in pairs
        )


def _holding(problem: Problem, held: Any) -> Problem:
    """The problem with columns of Wt held."""
    of_W, of_H = problem.projects
    held = jnp.asarray(held)
    return dataclasses.replace(
        problem, projects=(dataclasses.replace(of_W, held=held), of_H)
    )


def _started(problem: Problem, solver: Any, factors: Factors, key: jax.Array) -> Any:
    return solver.start(problem, factors, key)


def _before(problem: Problem, solver: Any, of_H: Any, products: Any) -> Any:
    return solver.before(problem, of_H, products)


def _after(problem: Problem, solver: Any, of_W: Any, of_H: Any, sums: Any) -> Any:
    """The end of a step, of all blocks together."""
    joined = jax.tree.map(_joined, *of_W)
    joined, of_H, holds = solver.after(problem, joined, of_H, sums)
    first, parts = 0, []
    for one in of_W:
        width = jax.tree.leaves(one)[0].shape[-1]
        take = partial(_taken, first=first, width=width)
        parts.append(jax.tree.map(take, joined, one))
        first += width
    return tuple(parts), of_H, holds


def _joined(*parts: jax.Array) -> jax.Array:
    return parts[0] if _common(parts[0]) else jnp.concatenate(parts, -1)


def _taken(x: jax.Array, like: jax.Array, first: int, width: int) -> jax.Array:
    return x if _common(like) else x[..., first : first + width]


def _common(x: jax.Array) -> bool:
    """Whether a leaf is the same for all blocks: a number, not columns."""
    return x.ndim == 0


def _visited(
    part: Problem,
    solver: Any,
    of_W: Any,
    of_H: Any,
    totals: Any,
    *,
    tally: bool,
    measured: bool,
    kkt: bool,
    double: bool,
) -> tuple[Any, Any, Any]:
    """A block in a pass.

    Returns:
      (what the solver keeps of its rows; the totals with its products, sums and, for
      the KKT residual, its share in the gradient of H and the sums over its columns of
      Wt; where ``measured`` its divergence with W's penalty, and the gradient of its
      columns of Wt).
    """
    if tally:
        products, sums = solver.tally(part, of_W, of_H), ()
        factors = solver.kept(of_W, of_H)
    else:
        of_W, products, sums = solver.visit(part, of_W, of_H)
        factors = solver.tried(of_W, of_H)
    found, of_all = (), ()
    if measured:
        slope = ()
        if kkt:
            (Wt, H), project = factors, part.projects[0]
            minus, plus = part.T.gradient(H, Wt)
            sizes = [
                project.masked(X).sum(1, keepdims=True) for X in (Wt, jnp.abs(plus))
            ]
            of_all = part.split(Wt, H), tuple(sizes)
            slope = plus - minus
        of_W_alone = part.penalties[0], jax.tree.map(jnp.zeros_like, part.penalties[1])
        part = dataclasses.replace(part, penalties=of_W_alone)
        objective = in_double.value if double else in_double.usual_value
        found = objective(part, factors), slope
    new = products, sums, of_all
    if totals is not None:
        new = jax.tree.map(jnp.add, totals, new)
    return of_W, new, found


def _penalty(problem: Problem, H: Any) -> jax.Array:
    return problem.penalty.value(H)


def _residual_of_H(problem: Problem, H: Any, split: Any, sizes: Any) -> Any:
    """The sum of squares of H's natural residual; the means of W, and of the positive
    part of its gradient."""
    minus, plus = problem.penalised(split, H)
    project = problem.project
    r = project.natural_residual(H, plus - minus, project.row_means(jnp.abs(plus)))
    m = problem.operand.moments.rows
    size, unit = (total / jnp.asarray(m, H.dtype) for total in sizes)
    return (r * r).sum(1).sum(), size, unit


def _residual_of_W(project: Any, Wt: Any, slope: Any, size: Any, unit: Any) -> Any:
    """The same sum of some columns of Wt."""
    r = project.natural_residual(Wt, slope, unit, size)
    return (r * r).sum(1).sum()


_FLAGS = ("tally", "measured", "kkt", "double")
VISITS = {
    flags: partial(_visited, **dict(zip(_FLAGS, flags, strict=True)))
    for flags in itertools.product((False, True), repeat=4)
}
