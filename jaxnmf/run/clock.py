"""The loop driven from the host, with a clock."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.data.blocks import ReadError
from jaxnmf.data.placement import kept_in_place
from jaxnmf.data.spread import agreed, is_spread, least
from jaxnmf.objective import in_double
from jaxnmf.objective.problem import Problem
from jaxnmf.objective.units import Units
from jaxnmf.run.checkpoint import Checkpoint, from_arrays, to_arrays
from jaxnmf.run.loop import Run, advance
from jaxnmf.run.programs import (
    as_leaves,
    compiled,
    compiled_quickly,
    note_iterations,
    program_hash,
)
from jaxnmf.run.stop import RECORD_EVERY, Measure, Stop, initial_status, verdict
from jaxnmf.types import Factors, Status, Trace

# A run that ended so might have continued from where it is.
CONTINUABLE = [
    status.code for status in (Status.MAX_ITER, Status.TIME, Status.UNREADABLE)
]


def timed(
    problem: Problem,
    solver: Any,
    factors: Factors,
    key: jax.Array,
    stop: Stop,
    *,
    record_every: int = RECORD_EVERY,
    record_growth: float = 0.0,
    kkt: bool = True,
    quick: bool = False,
    on_record: Callable[[int, float], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Run:
    """The run of `jaxnmf.run.loop.solve`, driven from the host with a clock.

    The clock counts the iterations alone, until the result of each chunk is available.
    Compilation is timed separately; recording is not timed.

    Args:
      problem, solver, factors, key, stop, record_every, kkt: as for `solve`.
      record_growth: iterations between records as a share of those done, where that is
        more than ``record_every``: records are then evenly spaced on a logarithmic
        axis.
      quick: whether to spend less time on compiling (`compiled_quickly`).
      on_record: called with (iteration, objective) after every record, off the clock.
      checkpoint: where the run in progress is saved. A run resumed from it ends with
        the same bits.

    Returns:
      A `Run` of host arrays, with ``compile_seconds`` and the hash of its program.
    """
    units, problem = problem.units, problem.plain
    solver = as_leaves(solver, problem.operand.dtype)
    factors = jax.tree.map(jnp.asarray, factors)
    made = compiled_quickly if quick else compiled
    begin, compiling = made(_begin, problem, solver, factors, key)
    state = begin(problem, solver, factors, key)
    look = Look(problem, factors, units, kkt=kkt, quick=quick)
    steps = np.int32(record_every)
    go, more = made(advance, problem, solver, factors, state, steps)
    compiling += more
    if more > 0:
        # The first call of a program pays for buffers and threads: one iteration whose
        # result is discarded.
        jax.block_until_ready(go(problem, solver, factors, state, np.int32(1)))

    def iterate(factors: Factors, state: Any, steps: int) -> tuple[Factors, Any]:
        arguments = (problem, solver, factors, state, np.int32(steps))
        return jax.block_until_ready(go(*arguments))

    run = clocked(
        iterate,
        look,
        factors,
        state,
        stop,
        record_every=record_every,
        record_growth=record_growth,
        on_record=on_record,
        checkpoint=checkpoint,
        together=any(map(is_spread, factors)),
    )
    if not kkt:
        with_kkt = Look(problem, factors, Units(), kkt=True)
        record_kkt_of_ends(run.trace, with_kkt, factors, run.factors)
        compiling += with_kkt.compile_seconds
    if quick:
        note_iterations(go, int(run.iterations))
        note_iterations(look.program, int(run.iterations))
    return run._replace(
        factors=units.of(run.factors),
        compile_seconds=compiling + look.compile_seconds,
        program=program_hash(go),
    )


class Look:
    """Measures factors of a problem: the objective, in the user's units, and the KKT
    residual.

    The objective in double precision is a program of its own, compiled for the first
    fit that needs it. `jaxnmf.run.loop`, which runs within one program, has both there.

    Args:
      problem, factors: what is measured; of the factors their shapes alone count.
      units: of the problem.
      kkt: whether to compute the KKT residual.
      quick: whether to spend less time on compiling (`compiled_quickly`).
    """

    def __init__(
        self,
        problem: Problem,
        factors: Factors,
        units: Units,
        *,
        kkt: bool,
        quick: bool = False,
    ) -> None:
        self.problem, self.unit = problem, units.objective
        self._compiled = compiled_quickly if quick else compiled
        function = _measured_with_kkt if kkt else _measured
        self.program, self.compile_seconds = self._compiled(function, problem, factors)

    def __call__(self, factors: Factors) -> Measure:
        """The measure as NumPy scalars, the objective in float64."""
        # `bool` and `float` of an array of jax take ten times as long as `np.asarray`.
        value, kkt, close = map(np.asarray, self.program(self.problem, factors))
        if close:
            double, seconds = self._compiled(_in_double, self.problem, factors)
            self.compile_seconds += seconds
            value = np.asarray(double(self.problem, factors))
        return Measure(np.float64(value) * self.unit, kkt)  # pyright: ignore


def _measured(problem: Problem, factors: Factors) -> tuple[Any, Any, Any]:
    value = in_double.usual_value(problem, factors)
    close = in_double.may_be_needed(problem) and in_double.is_close(problem, value)
    return value, jnp.full((), jnp.nan, problem.operand.dtype), close


def _measured_with_kkt(problem: Problem, factors: Factors) -> tuple[Any, Any, Any]:
    value, _, close = _measured(problem, factors)
    return value, problem.kkt(factors), close


def _in_double(problem: Problem, factors: Factors) -> Any:
    return in_double.value(problem, factors)


def record_kkt_of_ends(
    trace: Trace, look: Callable[[Any], Measure], first: Any, last: Any
) -> None:
    """Write the KKT residuals of the start and the end of a run into its trace, for a
    run whose records have none."""
    for row, factors in ((0, first), (-1, last)):
        trace.kkt[row] = look(factors).kkt


def divergence(problem: Problem, factors: Factors) -> float:
    """D(V | W H) without penalties, of the problem's own factors and in the user's
    units."""
    nothing = Problem.of(problem.operand, problem.loss).penalties
    plain = dataclasses.replace(problem.plain, penalties=nothing)
    look = Look(plain, factors, problem.units, kkt=False)
    return float(look(factors).objective)


def clocked(
    iterate: Callable[[Any, Any, int], tuple[Any, Any]],
    look: Callable[[Any], Measure],
    factors: Any,
    state: Any,
    stop: Stop,
    *,
    record_every: int,
    record_growth: float = 0.0,
    on_record: Callable[[int, float], None] | None = None,
    checkpoint: Checkpoint | None = None,
    together: bool = False,
) -> Run:
    """The loop of `timed` over anything that iterates and can be measured.

    Args:
      iterate: (factors, state, steps) → both after so many iterations, complete when it
        returns. Only its calls are on the clock.
      look: the objective and the KKT residual of factors, as NumPy scalars.
      together: whether several processes are in this loop and have to end it together.
      others: as for `timed`.
    """
    saved = None if checkpoint is None else checkpoint.load()
    restored = None if saved is None else from_arrays(saved, (factors, state))
    if checkpoint and saved and not least(int(restored is not None), together):
        checkpoint.misfit()
        restored = None
    if saved is None or restored is None:
        first = look(factors)
        rows: list[tuple[Any, ...]] = [(0, *first, 0.0)]
    else:
        factors, state = restored
        rows = list(zip(*(saved[name] for name in Trace._fields), strict=True))
        first = Measure(*rows[0][1:3])
    last = Measure(*rows[-1][1:3])
    iteration, seconds = int(rows[-1][0]), float(rows[-1][3])
    status = int(initial_status(stop, first, np))
    limit = float(stop.seconds)
    timing = together and limit < np.inf

    if restored is not None and agreed(seconds, timing) >= limit:
        status = Status.TIME.code

    def progress() -> dict[str, np.ndarray]:
        return {**to_arrays((factors, state)), **_columns(rows)}

    while status == Status.RUNNING.code and iteration < int(stop.max_iter):
        steps = max(record_every, int(record_growth * iteration))
        steps = min(steps, int(stop.max_iter) - iteration)
        start = time.perf_counter()
        try:
            new, state = iterate(factors, state, steps)
        except ReadError as error:
            warnings.warn(f"the run stopped: {error}", RuntimeWarning, stacklevel=2)
            status = Status.UNREADABLE.code
            break
        seconds += time.perf_counter() - start
        now = look(new)
        iteration += steps
        status = int(verdict(stop, first, last, now, iteration, steps, np))
        if status != Status.DIVERGED.code:
            factors = new
        if status == Status.RUNNING.code and agreed(seconds, timing) >= limit:
            status = Status.TIME.code
        rows.append((iteration, *now, seconds))
        last = now
        if on_record is not None:
            on_record(iteration, float(now.objective))
        if checkpoint is not None and status == Status.RUNNING.code:
            checkpoint.save(progress)
    if status == Status.RUNNING.code:
        status = Status.MAX_ITER.code
    if checkpoint is not None and status in CONTINUABLE:
        checkpoint.end(progress)
    return Run(factors, status, iteration, Trace(**_columns(rows)))  # pyright: ignore


def _columns(rows: Sequence[tuple[Any, ...]]) -> dict[str, np.ndarray]:
    """The arrays of a trace, by name."""
    columns = (np.array(column) for column in zip(*rows, strict=True))
    return dict(zip(Trace._fields, columns, strict=True))


def _begin(problem: Problem, solver: Any, factors: Factors, key: jax.Array) -> Any:
    state = solver.init(problem, factors, key)
    return kept_in_place(problem.operand, factors, state)[1]
