"""The one loop, as a pure function: iterate, record, stop.

It is made of two functions, `advance` (some iterations of the solver) and `measure`
(the objective of the factors), which `jaxnmf.run.clock` drives from the host with a
clock. A record is one call of `measure`; between records only the solver runs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnmf.objective.problem import Problem
from jaxnmf.run.stop import RECORD_EVERY, Measure, Stop, initial_status, verdict
from jaxnmf.types import Factors, Status, Trace


class Run(NamedTuple):
    """The outcome of a run. Arrays of the trace end in NaN where it stopped early."""

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
    """The objective alone."""
    return Measure(
        problem.objective(factors), jnp.full((), jnp.nan, problem.operand.dtype)
    )


def measure_with_kkt(problem: Problem, factors: Factors) -> Measure:
    """The objective and the KKT residual, which costs a gradient of both factors."""
    return Measure(problem.objective(factors), problem.kkt(factors))


class RunState(NamedTuple):
    """A run in progress, as one pytree."""

    factors: Factors
    state: Any
    first: Measure
    last: Measure
    status: jax.Array
    record: jax.Array
    iteration: jax.Array
    # iteration, objective, kkt; NaN where not yet recorded
    trace: tuple[jax.Array, ...]


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
    """A run before its first iteration, with room for ``records`` after the first."""
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
    run: RunState,
    stop: Stop,
    until: Any,
    *,
    record_every: int = RECORD_EVERY,
    kkt: bool = True,
    even: bool = False,
) -> RunState:
    """The run until it stops, or until it has ``until`` records after the first.

    Args:
      even: whether ``stop.max_iter`` is a multiple of ``record_every``. The number of
        iterations between records is then the same for all vmapped runs, which share
        one loop; otherwise every iteration would copy the runs that are ahead.
    """
    look = measure_with_kkt if kkt else measure
    dtype = problem.operand.dtype

    def running(run: RunState) -> Any:
        going = (run.status == Status.RUNNING.code) & (run.iteration < stop.max_iter)
        return going & (run.record < until)

    def body(run: RunState) -> RunState:
        steps = jnp.asarray(record_every, jnp.int32)
        if not even:
            steps = jnp.minimum(steps, stop.max_iter - run.iteration)
        new, state = advance(problem, solver, run.factors, run.state, steps)
        now = look(problem, new)
        iteration, record = run.iteration + steps, run.record + 1
        status = verdict(
            stop, run.first, run.last, now, iteration, steps.astype(dtype), jnp
        )
        # Diverged: the last finite factors are of more use than NaN.
        keep = status == Status.DIVERGED.code
        new = jax.tree.map(lambda old, x: jnp.where(keep, old, x), run.factors, new)
        values = (iteration.astype(dtype), *now)
        trace = tuple(
            t.at[record].set(x) for t, x in zip(run.trace, values, strict=True)
        )
        return RunState(new, state, run.first, now, status, record, iteration, trace)

    return jax.lax.while_loop(running, body, run)


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
    """A run as one pure function, to be jitted or vmapped.

    Args:
      problem: as it is, or padded by `jaxnmf.padding`.
      solver: an instance.
      factors: feasible initial factors.
      key: for solvers that draw at random.
      stop: when to stop; its ``seconds`` are ignored here.
      records: room for that many records after the first, at least
        ceil(stop.max_iter / record_every).
      record_every: iterations between records.
      kkt: whether to record the KKT residual.

    Returns:
      A `Run`.
    """
    run = start_run(problem, solver, factors, key, stop, records=records, kkt=kkt)
    every = {"record_every": record_every, "kkt": kkt}
    run = continue_run(problem, solver, run, stop, records + 1, **every)
    status = jnp.where(
        run.status == Status.RUNNING.code, Status.MAX_ITER.code, run.status
    )
    seconds = jnp.full_like(run.trace[0], jnp.nan)
    trace = Trace(*run.trace, seconds)  # pyright: ignore
    return Run(run.factors, status, run.iteration, trace)
