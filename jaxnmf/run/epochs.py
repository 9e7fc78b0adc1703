"""Passes over a V in blocks of rows by a solver that takes them in turn."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.objective.problem import Problem
from jaxnmf.run.passes import Passes, State
from jaxnmf.run.programs import program_hash
from jaxnmf.run.stop import Measure
from jaxnmf.types import Factors


class Epochs(Passes):
    """Epochs of a solver that updates H at each block
    (`jaxnmf.solvers.batches.OverBatches`), so that a measure takes a pass of its own.

    The products of a `State` are the statistics of each block at its last visit.
    """

    apart: ClassVar[bool] = True

    def __init__(self, problem: Problem, solver: Any, kkt: bool) -> None:
        super().__init__(problem, solver, kkt)
        self.wanted = []
        self.visit: Any = None

    def start(self, factors: Factors, key: jax.Array) -> tuple[State, Measure]:
        """The state before the first epoch, and the measure of the start."""
        sizes = jnp.asarray(self.heights, self.operand.dtype)
        of_H = self._run(_started, self.head, self.solver, factors, key, sizes)
        state, _, found = self._pass(State(self._cut(factors.Wt), of_H, ()), tally=True)
        # Compiled here, off the clock.
        self._compiled(_begun, self.solver, of_H)
        one = state.products[0]
        self._compiled(_added, of_H.weights, one, np.int32(0), one)
        self._compiled(_ended, self.solver, of_H)
        return state, self._checked(state, found)

    def step(self, state: State, *, measured: bool) -> tuple[State, Measure | None]:
        """One epoch, and the measure of its factors."""
        of_H, order = self._run(_begun, self.solver, state.shared)
        rows, products = list(state.rows), list(state.products)
        total: Any = jax.tree.map(jnp.zeros_like, products[0])
        # Summed again in every epoch, so that rounding errors do not accumulate.
        for b, one in enumerate(products):
            total = self._run(_added, of_H.weights, one, np.int32(b), total)
        order = np.asarray(order).tolist()
        parts = self._parts(order, each_row=self._at_entries(False))
        for b, part in zip(order, parts, strict=True):
            own = rows[b], products[b]
            arguments = part, self.solver, *own, of_H, total, np.int32(b)
            rows[b], products[b], of_H, total = self.visit(*arguments)
            # The memory of the block is used again.
            jax.block_until_ready(total)
        of_H = self._run(_ended, self.solver, of_H)
        state = State(tuple(rows), of_H, tuple(products))
        if not measured:
            return state, None
        _, _, found = self._pass(state, tally=True)
        return state, self._checked(state, found)

    def _ready(self, function: Any, part: Problem, own: Any, of_H: Any) -> Any:
        found = super()._ready(function, part, own, of_H)
        if self.visit is None:
            like = found[1][0]
            visited = self._as_visited(part, False)
            arguments = visited, self.solver, own, like, of_H, like, np.int32(0)
            self.visit = self._compiled(_visited, *arguments)
            self.program = program_hash(self.visit)
        return found


def _started(
    problem: Problem, solver: Any, factors: Factors, key: jax.Array, sizes: Any
) -> Any:
    return solver.start(problem, factors, key, sizes)


def _begun(solver: Any, of_H: Any) -> Any:
    return solver.begin(of_H)


def _added(weights: Any, statistics: Any, b: Any, total: Any) -> Any:
    return jax.tree.map(lambda T, S: T + weights[b] * S, total, statistics)


def _visited(
    part: Problem, solver: Any, codes: Any, own: Any, of_H: Any, total: Any, b: Any
) -> Any:
    return solver.visit(part, codes, own, of_H, total, b)


def _ended(solver: Any, of_H: Any) -> Any:
    return solver.end(of_H)
