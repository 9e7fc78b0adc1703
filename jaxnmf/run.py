"""The one loop: iterate, record, stop; in one program (`solve`) or timed (`timed`).

Both drivers are made of the same two functions: ``advance`` does some iterations,
``measure`` looks at the factors. A record is one look; between records nothing but
the solver runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.problem import Problem
from jaxnmf.programs import as_leaves, compiled, program_hash
from jaxnmf.types import Factors, Status, Trace, pytree

RECORD_EVERY = 10


@pytree
class Stop:
    """When a run ends, with one meaning for every solver.

    Args:
      max_iter: after that many iterations.
      tol: when the loss changes by less than tol × the first loss over ten
        iterations (in proportion, for records at another distance).
      kkt_tol: when the KKT residual is at most kkt_tol × the first.
      target: when the loss is at most this.
      seconds: when the iterations have taken this long (`timed` only).
    """

    max_iter: int | jax.Array = 200
    tol: float | jax.Array = 1e-4
    kkt_tol: float | jax.Array = 0.0
    target: float | jax.Array = -np.inf
    seconds: float = np.inf


class Measure(NamedTuple):
    """One look at the factors; kkt is NaN where it is not asked for."""

    loss: jax.Array
    kkt: jax.Array


class Run(NamedTuple):
    """What a run leaves. The trace's arrays end in NaN where it stopped early."""

    factors: Factors
    status: jax.Array
    iterations: jax.Array
    trace: Trace
    compile_seconds: float = 0.0
    program: str | None = None  # `program_hash` of the iterations, of a timed run


@runtime_checkable  # for the type checker of the tests
class Checkpoint(Protocol):
    """Where a run on its way is kept, so that one that was killed goes on."""

    def load(self) -> Mapping[str, np.ndarray] | None:
        """What was saved last, None at the start."""
        ...

    def save(self, progress: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Called after every record, off the clock; calls ``progress`` where it is time
        to save."""
        ...


def advance(
    problem: Problem, solver: Any, factors: Factors, state: Any, steps: Any
) -> tuple[Factors, Any]:
    """``steps`` iterations of the solver."""

    def iterate(_: Any, carry: Any) -> Any:
        return solver.step(problem, *carry)

    return jax.lax.fori_loop(0, steps, iterate, (factors, state))


def measure(problem: Problem, factors: Factors) -> Measure:
    """The loss alone."""
    return Measure(problem.value(factors), jnp.full((), jnp.nan, problem.matrix.dtype))


def measure_with_kkt(problem: Problem, factors: Factors) -> Measure:
    """The loss and the KKT residual, which costs a gradient of both factors."""
    return Measure(problem.value(factors), problem.kkt(factors))


def verdict(
    stop: Stop, first: Any, last: Any, now: Any, iteration: Any, steps: Any, xp: Any
) -> Any:
    """The code of the status after ``steps`` more iterations, RUNNING to go on.

    ``xp`` is `jax.numpy` inside a program and `numpy` on the host.
    """
    change = abs(last.loss - now.loss) * (RECORD_EVERY / steps)
    return _first_that_holds(
        {
            Status.DIVERGED: ~xp.isfinite(now.loss),
            Status.TARGET: now.loss <= stop.target,
            Status.KKT: now.kkt <= stop.kkt_tol * first.kkt,
            Status.CONVERGED: change < stop.tol * first.loss,
            Status.MAX_ITER: iteration >= stop.max_iter,
        },
        xp,
    )


def initial_status(stop: Stop, first: Any, xp: Any) -> Any:
    """The code before any iteration: a run may be over before it begins."""
    return _first_that_holds(
        {
            Status.DIVERGED: ~xp.isfinite(first.loss),
            Status.TARGET: first.loss <= stop.target,
            Status.CONVERGED: first.loss == 0,
        },
        xp,
    )


def _first_that_holds(reasons: Mapping[Status, Any], xp: Any) -> Any:
    """The code of the first reason to stop that holds, of RUNNING where none does."""
    if xp is np:  # `numpy.select` takes as long as a small problem's iteration
        held = (status for status, holds in reasons.items() if holds)
        return next(held, Status.RUNNING).code
    codes = [xp.asarray(status.code, xp.int32) for status in reasons]
    running = xp.asarray(Status.RUNNING.code, xp.int32)
    return xp.select(list(reasons.values()), codes, running)


class Lane(NamedTuple):
    """A run on its way, as one pytree: what `continued` takes and leaves."""

    factors: Factors
    state: Any
    first: Measure
    last: Measure
    status: jax.Array
    record: jax.Array
    iteration: jax.Array
    trace: tuple[jax.Array, ...]  # iteration, loss, kkt; NaN where not yet recorded


def begun(
    problem: Problem,
    solver: Any,
    factors: Factors,
    key: jax.Array,
    stop: Stop,
    *,
    records: int,
    kkt: bool = True,
) -> Lane:
    """A run before its first iteration, with room for so many records after the
    first."""
    dtype = problem.matrix.dtype
    first = (measure_with_kkt if kkt else measure)(problem, factors)

    def empty(value: Any) -> jax.Array:
        return jnp.full((records + 1,), jnp.nan, dtype).at[0].set(value)

    zero = jnp.zeros((), jnp.int32)
    return Lane(
        factors=factors,
        state=solver.init(problem, factors, key),
        first=first,
        last=first,
        status=initial_status(stop, first, jnp),
        record=zero,
        iteration=zero,
        trace=tuple(empty(x) for x in (0.0, *first)),
    )


def continued(
    problem: Problem,
    solver: Any,
    lane: Lane,
    stop: Stop,
    until: Any,
    *,
    record_every: int = RECORD_EVERY,
    kkt: bool = True,
    even: bool = False,
) -> Lane:
    """The run until it stops, or until it has ``until`` records after the first.

    ``even`` says that ``stop.max_iter`` is a multiple of ``record_every``. The number
    of iterations between records is then no lane's own, and vmapped lanes share one
    loop; else every iteration would copy the lanes that are ahead.
    """
    look = measure_with_kkt if kkt else measure
    dtype = problem.matrix.dtype

    def running(lane: Lane) -> Any:
        going = (lane.status == Status.RUNNING.code) & (lane.iteration < stop.max_iter)
        return going & (lane.record < until)

    def body(lane: Lane) -> Lane:
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
        return Lane(new, state, lane.first, now, status, record, iteration, trace)

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
    lane = begun(problem, solver, factors, key, stop, records=records, kkt=kkt)
    every = {"record_every": record_every, "kkt": kkt}
    lane = continued(problem, solver, lane, stop, records + 1, **every)
    status = jnp.where(
        lane.status == Status.RUNNING.code, Status.MAX_ITER.code, lane.status
    )
    seconds = jnp.full_like(lane.trace[0], jnp.nan)
    trace = Trace(*lane.trace, seconds)  # pyright: ignore
    return Run(lane.factors, status, lane.iteration, trace)


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
    on_record: Callable[[int, float], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Run:
    """The same run driven from the host, with a clock.

    The clock counts the iterations alone, each chunk until its result is there:
    not the compilation, which is timed apart, and not the looks.

    Args:
      as `solve`, and
      record_growth: iterations between records as a share of those done, where that is
        more than ``record_every``: as dense at the end as at the start on a logarithmic
        axis.
      on_record: called with (iteration, loss) after every record, off the clock.
      checkpoint: keeps the run on its way. One that goes on from there ends with the
        same bits.
    """
    solver = as_leaves(solver, problem.matrix.dtype)
    factors = jax.tree.map(jnp.asarray, factors)
    begin, compiling = compiled(_begin, problem, solver, factors, key)
    state = begin(problem, solver, factors, key)
    look, seconds = compiled(measure_with_kkt if kkt else measure, problem, factors)
    steps = np.int32(record_every)
    go, more = compiled(advance, problem, solver, factors, state, steps)
    compiling += seconds + more
    if more > 0:
        # A program's first call pays for buffers and threads: one iteration, thrown
        # away.
        jax.block_until_ready(go(problem, solver, factors, state, np.int32(1)))

    def iterate(factors: Factors, state: Any, steps: int) -> tuple[Factors, Any]:
        arguments = (problem, solver, factors, state, np.int32(steps))
        return jax.block_until_ready(go(*arguments))

    run = clocked(
        iterate,
        lambda factors: look(problem, factors),
        factors,
        state,
        stop,
        record_every=record_every,
        record_growth=record_growth,
        on_record=on_record,
        checkpoint=checkpoint,
    )
    if not kkt:
        compiling += tell_ends(run.trace, problem, factors, run.factors)
    return run._replace(compile_seconds=compiling, program=program_hash(go))


def tell_ends(trace: Trace, problem: Problem, first: Factors, last: Factors) -> float:
    """Put the KKT residual of a run's start and end into its trace, where it is told
    even if the records have none; returns the seconds of compiling."""
    compiling = 0.0
    for row, factors in ((0, first), (-1, last)):
        look, seconds = compiled(measure_with_kkt, problem, factors)
        trace.kkt[row] = look(problem, factors).kkt
        compiling += seconds
    return compiling


def divergence(matrix: Any, loss: Any, factors: Factors) -> float:
    """D(V | W H), without penalties."""
    problem = Problem.of(matrix, loss)
    look, _ = compiled(measure, problem, factors)
    return float(look(problem, factors).loss)


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
) -> Run:
    """The loop of `timed` over anything that iterates and can be looked at.

    Args:
      iterate: (factors, state, steps) → the two after so many iterations, finished
        when it returns. Only its calls are on the clock.
      look: the loss and the KKT residual of factors.
    """
    saved = None if checkpoint is None else checkpoint.load()
    restored = None if saved is None else _restored(saved, (factors, state))
    if saved is None or restored is None:
        first = on_host(look(factors))
        rows: list[tuple[Any, ...]] = [(0, *first, 0.0)]
    else:
        factors, state = restored
        rows = list(zip(*(saved[name] for name in Trace._fields), strict=True))
        first = Measure(*rows[0][1:3])
    last = Measure(*rows[-1][1:3])
    iteration, seconds = int(rows[-1][0]), float(rows[-1][3])
    status = int(initial_status(stop, first, np))
    limit = float(stop.seconds)
    while status == Status.RUNNING.code and iteration < int(stop.max_iter):
        steps = max(record_every, int(record_growth * iteration))
        steps = min(steps, int(stop.max_iter) - iteration)
        start = time.perf_counter()
        new, state = iterate(factors, state, steps)
        seconds += time.perf_counter() - start
        now = on_host(look(new))
        iteration += steps
        status = int(verdict(stop, first, last, now, iteration, steps, np))
        if status != Status.DIVERGED.code:
            factors = new
        if status == Status.RUNNING.code and seconds >= limit:
            status = Status.TIME.code
        rows.append((iteration, *now, seconds))
        last = now
        if on_record is not None:
            on_record(iteration, float(now.loss))
        if checkpoint is not None and status == Status.RUNNING.code:
            carry = factors, state
            checkpoint.save(lambda carry=carry: {**_kept(carry), **_columns(rows)})
    if status == Status.RUNNING.code:
        status = Status.MAX_ITER.code
    return Run(factors, status, iteration, Trace(**_columns(rows)))  # pyright: ignore


def _columns(rows: Sequence[tuple[Any, ...]]) -> dict[str, np.ndarray]:
    """The arrays of a trace, by name."""
    columns = (np.array(column) for column in zip(*rows, strict=True))
    return dict(zip(Trace._fields, columns, strict=True))


def _kept(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree by number; of random keys their bits."""
    return {
        f"leaf{i}": np.asarray(jax.random.key_data(x) if _is_key(x) else x)
        for i, x in enumerate(jax.tree.leaves(tree))
    }


def _restored(saved: Mapping[str, np.ndarray], like: Any) -> Any:
    """The tree that `_kept` took apart, of the structure of another; None where it does
    not fit that, having been saved by another version of a solver."""
    expected = {name: array.shape for name, array in _kept(like).items()}
    found = {name: saved[name].shape for name in saved if name.startswith("leaf")}
    if found != expected:
        return None

    def leaf(i: int, x: Any) -> Any:
        kept = saved[f"leaf{i}"]
        if _is_key(x):
            return jax.random.wrap_key_data(
                jnp.asarray(kept), impl=jax.random.key_impl(x)
            )
        return jnp.asarray(kept) if isinstance(x, jax.Array) else kept

    leaves, structure = jax.tree.flatten(like)
    return structure.unflatten([leaf(i, x) for i, x in enumerate(leaves)])


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def on_host(now: Measure) -> Measure:
    return Measure(*(np.asarray(x) for x in now))  # pyright: ignore


def _begin(problem: Problem, solver: Any, factors: Factors, key: jax.Array) -> Any:
    return solver.init(problem, factors, key)
