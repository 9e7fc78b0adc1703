"""The one loop, as a pure function: iterate, record, stop.

It is made of two functions, `advance` (some iterations of the solver) and `measure`
(the objective of the factors), which `jaxnmf.run.clock` drives from the host with a
clock. A record is one call of `measure`; between records only the solver runs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnmf.data.placement import kept_in_place
from jaxnmf.objective import in_double
from jaxnmf.objective.problem import Problem
from jaxnmf.run.stop import RECORD_EVERY, Measure, Stop, initial_status, verdict
from jaxnmf.types import Factors, Status, Trace

# The status of a run `in_single` precision whose next record needs double.
CLOSE = -1


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
        return kept_in_place(problem.operand, *solver.step(problem, *carry))

    return jax.lax.fori_loop(0, steps, iterate, (factors, state))


def measure(
    problem: Problem, factors: Factors, *, kkt: bool = True, in_single: bool = False
) -> Measure:
    """The objective and, where ``kkt``, the KKT residual, which costs a gradient of
    both factors."""
    value = in_double.usual_value if in_single else in_double.objective
    nothing = jnp.full((), jnp.nan, problem.operand.dtype)
    return Measure(value(problem, factors), problem.kkt(factors) if kkt else nothing)


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
    in_single: bool = False,
) -> RunState:
    """A run before its first iteration, with room for ``records`` after the first.

    Where it is ``in_single`` precision and the first record needs double, its status is
    `CLOSE`.
    """
    dtype = problem.operand.dtype
    first = measure(problem, factors, kkt=kkt, in_single=in_single)
    status = initial_status(stop, first, jnp)
    if in_single and in_double.may_be_needed(problem):
        status = jnp.where(in_double.is_close(problem, first.objective), CLOSE, status)

    def empty(value: Any) -> jax.Array:
        return jnp.full((records + 1,), jnp.nan, dtype).at[0].set(value)

    state = solver.init(problem, factors, key)
    factors, state = kept_in_place(problem.operand, factors, state)
    zero = jnp.zeros((), jnp.int32)
    return RunState(
        factors=factors,
        state=state,
        first=first,
        last=first,
        status=status,
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
    in_single: bool = False,
) -> RunState:
    """The run until it stops, or until it has ``until`` records after the first.

    Args:
      even: whether ``stop.max_iter`` is a multiple of ``record_every``. The number of
        iterations between records is then the same for all vmapped runs, which share
        one loop; otherwise every iteration would copy the runs that are ahead.
      in_single: whether to stop with the status `CLOSE` before a record that needs
        double precision, which need not be compiled then. The run goes on from there
        when it is continued without.
    """
    dtype = problem.operand.dtype

    def running(run: RunState) -> Any:
        going = (run.status == Status.RUNNING.code) & (run.iteration < stop.max_iter)
        return going & (run.record < until)

    def body(run: RunState) -> RunState:
        steps = jnp.asarray(record_every, jnp.int32)
        if not even:
            steps = jnp.minimum(steps, stop.max_iter - run.iteration)
        new, state = advance(problem, solver, run.factors, run.state, steps)
        now = measure(problem, new, kkt=kkt, in_single=in_single)
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
        after = RunState(new, state, run.first, now, status, record, iteration, trace)
        if not (in_single and in_double.may_be_needed(problem)):
            return after
        close = in_double.is_close(problem, now.objective)
        before = run._replace(status=jnp.full_like(status, CLOSE))
        return jax.tree.map(lambda old, x: jnp.where(close, old, x), before, after)

    if not in_single:
        running_code = jnp.asarray(Status.RUNNING.code, run.status.dtype)
        status = jnp.where(run.status == CLOSE, running_code, run.status)
        run = run._replace(status=status)
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
