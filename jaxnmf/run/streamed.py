"""A run over a V in blocks of rows, which are read once an iteration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.objective.problem import Problem
from jaxnmf.run.checkpoint import Checkpoint
from jaxnmf.run.clock import clocked
from jaxnmf.run.epochs import Epochs
from jaxnmf.run.loop import Run
from jaxnmf.run.passes import Passes
from jaxnmf.run.programs import as_leaves
from jaxnmf.run.stop import RECORD_EVERY, Measure, Stop
from jaxnmf.types import Factors


def streamed(
    problem: Problem,
    solver: Any,
    factors: Factors,
    key: jax.Array,
    stop: Stop,
    *,
    record_every: int = RECORD_EVERY,
    record_growth: float = 0.0,
    kkt: bool = True,
    on_record: Callable[[int, float], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Run:
    """The run of `jaxnmf.run.clock.timed` over blocks, by a solver's ``over_blocks``.

    V is read once before the first iteration and once in each. Records are taken while
    the blocks are there, and so are on the clock; of a solver that takes the blocks in
    turn each reads V once more. Where a block cannot be read the run ends with what was
    last recorded.

    Args, returns: as for `timed`. ``problem`` is over a `Streamed` operand.
    """
    units, problem = problem.units, problem.plain
    dtype = problem.operand.dtype
    solver = as_leaves(solver, dtype).over_blocks
    passes = (Epochs if solver.in_turn else Passes)(problem, solver, kkt)
    given = Factors(*(jnp.asarray(X, dtype) for X in factors))
    state, first = passes.start(given, key)

    def in_units(found: Measure) -> Measure:
        value = np.float64(found.objective) * units.objective
        return found._replace(objective=value)

    latest = in_units(first)

    def iterate(factors: Any, carry: Any, steps: int) -> tuple[Any, Any]:
        nonlocal latest
        del factors
        state, double = carry
        passes.double = bool(double)
        for left in reversed(range(steps)):
            state, found = passes.step(state, measured=left == 0)
        latest = in_units(found)  # pyright: ignore
        return passes.kept(state), (state, np.asarray(passes.double))

    run = clocked(
        iterate,
        lambda _: latest,
        passes.kept(state),
        (state, np.asarray(passes.double)),
        stop,
        record_every=record_every,
        record_growth=record_growth,
        on_record=on_record,
        checkpoint=checkpoint,
    )
    columns, H = run.factors
    return run._replace(
        factors=units.of(Factors(passes.joined(columns), np.asarray(H))),  # pyright: ignore
        compile_seconds=passes.compile_seconds,
        program=passes.program,
    )
