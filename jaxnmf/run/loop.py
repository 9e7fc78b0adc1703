"""The one loop: iterate, record, stop; in one program (`solve`) or timed (`timed`).

Both drivers are made of the same two functions: ``advance`` does some iterations,
``measure`` looks at the factors. A record is one look; between records nothing but
the solver runs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnmf.objective.problem import Problem
from jaxnmf.run.stop import RECORD_EVERY, Measure, Stop, initial_status, verdict
from jaxnmf.types import Factors, Status, Trace


class Run(NamedTuple):
    """What a run leaves. The trace's arrays end in NaN where it stopped early."""

    factors: Factors
    status: jax.Array
    iterations: jax.Array
    trace: Trace
    compile_seconds: float = 0.0
    program: str | None = None  # `program_hash` of the iterations, of a timed run


def advance(
    problem: Problem, solver: Any, factors: Factors, state: Any, steps: Any
) -> tuple[Factors, Any]:
    """``steps`` iterations of the solver."""

    def iterate(_: Any, carry: Any) -> Any:
        return solver.step(problem, *carry)

    return jax.lax.fori_loop(0, steps, iterate, (factors, state))


def measure(problem: Problem, factors: Factors) -> Measure:
    """The loss alone."""
    return Measure(problem.value(factors), jnp.full((), jnp.nan, problem.operand.dtype))


def measure_with_kkt(problem: Problem, factors: Factors) -> Measure:
    """The loss and the KKT residual, which costs a gradient of both factors."""
    return Measure(problem.value(factors), problem.kkt(factors))


class RunState(NamedTuple):
    """A run on its way, as one pytree: what `continue_run` takes and leaves."""

    factors: Factors
    state: Any
    first: Measure
    last: Measure
    status: jax.Array
    record: jax.Array
    iteration: jax.Array
    trace: tuple[jax.Array, ...]  # iteration, loss, kkt; NaN where not yet recorded


def start_run(
    problem: Problem,
    solver: Any,
    factors: Factors,
    key: jax.Array,
    stop: Stop,
    *,
    records: int,
    kkt: bool = True,
) -> RunState:
    """A run before its first iteration, with room for so many records after the
    first."""
    dtype = problem.operand.dtype
    first = (measure_with_kkt if kkt else measure)(problem, factors)

    def empty(value: Any) -> jax.Array:
        return jnp.full((records + 1,), jnp.nan, dtype).at[0].set(value)

    zero = jnp.zeros((), jnp.int32)
    return RunState(
        factors=factors,
        state=solver.init(problem, factors, key),
        first=first,
        last=first,
        status=initial_status(stop, first, jnp),
        record=zero,
        iteration=zero,
        trace=tuple(empty(x) for x in (0.0, *first)),
    )


def continue_run(
    problem: Problem,
    solver: Any,
    lane: RunState,
    stop: Stop,
    until: Any,
    *,
    record_every: int = RECORD_EVERY,
    kkt: bool = True,
    even: bool = False,
) -> RunState:
    """The run until it stops, or until it has ``until`` records after the first.

    ``even`` says that ``stop.max_iter`` is a multiple of ``record_every``. The number
    of iterations between records is then no lane's own, and vmapped lanes share one
    loop; else every iteration would copy the lanes that are ahead.
    """
    look = measure_with_kkt if kkt else measure
    dtype = problem.operand.dtype

    def running(lane: RunState) -> Any:
        going = (lane.status == Status.RUNNING.code) & (lane.iteration < stop.max_iter)
        return going & (lane.record < until)

    def body(lane: RunState) -> RunState:
        steps = jnp.asarray(record_every, jnp.int32)
        if not even:
            steps = jnp.minimum(steps, stop.max_iter - lane.iteration)
        new, state = advance(problem, solver, lane.factors, lane.state, steps)
        now = look(problem, new)
        iteration, record = lane.iteration + steps, lane.record + 1
        status = verdict(
            stop, lane.first, lane.last, now, iteration, steps.astype(dtype), jnp
        )
        # Diverged: the last finite factors are worth more than NaN.
        keep = status == Status.DIVERGED.code
        new = jax.tree.map(lambda old, x: jnp.where(keep, old, x), lane.factors, new)
        values = (iteration.astype(dtype), *now)
        trace = tuple(
            t.at[record].set(x) for t, x in zip(lane.trace, values, strict=True)
        )
        return RunState(new, state, lane.first, now, status, record, iteration, trace)

    return jax.lax.while_loop(running, body, lane)


def solve(
    problem: Problem,
    solver: Any,
    factors: Factors,
    key: jax.Array,
    stop: Stop,
    *,
    records: int,
    record_every: int = RECORD_EVERY,
    kkt: bool = True,
) -> Run:
    """A whole run as one pure function: jit it, vmap it.

    Args:
      problem, solver, factors: padded factors need ``problem.project.mask``.
      key: for solvers that draw at random.
      stop: its ``seconds`` are not looked at here.
      records: room for that many records after the first, at least
        ceil(stop.max_iter / record_every).
      record_every: iterations between records.
      kkt: whether to record the KKT residual.
    """
    lane = start_run(problem, solver, factors, key, stop, records=records, kkt=kkt)
    every = {"record_every": record_every, "kkt": kkt}
    lane = continue_run(problem, solver, lane, stop, records + 1, **every)
    status = jnp.where(
        lane.status == Status.RUNNING.code, Status.MAX_ITER.code, lane.status
    )
    seconds = jnp.full_like(lane.trace[0], jnp.nan)
    trace = Trace(*lane.trace, seconds)  # pyright: ignore
    return Run(lane.factors, status, lane.iteration, trace)
