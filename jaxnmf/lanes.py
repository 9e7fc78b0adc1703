"""Many runs at once: lanes of one program, in groups, on several threads.

A lane is a run on its way (`jaxnmf.run.Lane`). A worker holds a group of them,
advances all by some records in one call, hands out those that have stopped and fills
their places with runs that wait: nothing finished is computed on, and no run waits for
the slowest. Every lane stops by its own rule, so its result is that of its run alone.

Which form is fastest depends on the machine. On a CPU a lane of its own on each core
keeps its data in the cache and its products unbatched; on an accelerator one wide group
fills the device. `Form` says how many of each.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.problem import Problem
from jaxnmf.run import (
    Lane,
    Run,
    Stop,
    as_leaves,
    begun,
    compiled,
    continued,
    precision,
)
from jaxnmf.types import Factors, Status, Trace

# Seconds that a call should take: long enough for its overhead not to count, short
# enough for Ctrl-C and the progress line.
CALL_SECONDS = 0.2


class Task(NamedTuple):
    """A run that waits. All tasks of a call have the same shapes and structure."""

    problem: Problem
    solver: Any
    factors: Factors
    key: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """How lanes are spread: ``workers`` threads, each with a ``group`` of lanes.

    ``threaded`` lets the products of one program use several threads; with several
    workers they would fight over the cores.
    """

    workers: int = 1
    group: int = 1
    threaded: bool = True

    @classmethod
    def default(cls, tasks: int) -> Form:
        """One lane a core on a CPU, all lanes at once on an accelerator."""
        if jax.default_backend() == "cpu":
            workers = max(1, min(cores(), tasks))
            return cls(workers=workers, threaded=workers == 1)
        return cls(group=min(256, 1 << max(0, tasks - 1).bit_length()))

    @property
    def options(self) -> dict[str, Any]:
        """The compiler's, for this form's programs."""
        if jax.default_backend() == "cpu" and not self.threaded:
            return {"xla_cpu_multi_thread_eigen": False}
        return {}


@functools.cache
def _functions(
    records: int, record_every: int, kkt: bool, even: bool
) -> tuple[Any, Any]:
    """(begin, go) over (matrix, the rest of the problem, solver, …): one identity for
    one setting, so that a program is found again."""

    def begin(matrix: Any, rest: Any, solver: Any, factors: Any, key: Any, stop: Any):
        problem = dataclasses.replace(rest, matrix=matrix)
        return begun(problem, solver, factors, key, stop, records=records, kkt=kkt)

    def go(matrix: Any, rest: Any, solver: Any, lane: Any, stop: Any, more: Any):
        problem = dataclasses.replace(rest, matrix=matrix)
        until = lane.record + more
        every = {"record_every": record_every, "kkt": kkt, "even": even}
        return continued(problem, solver, lane, stop, until, **every)

    return begin, go


@functools.cache
def _grouped(go: Any, shared: bool) -> Any:
    """``go`` over a leading axis of all but the stop rule, the number of records and,
    where it is ``shared``, the matrix."""
    return jax.vmap(go, in_axes=(None if shared else 0, 0, 0, 0, None, None))


class Runner:
    """Runs tasks of one shape in a form.

    Args:
      dtype: the precision the tasks are in.
      stop: the rule of every lane.
      records, record_every, kkt: as in `jaxnmf.run.solve`.
      form: how lanes are spread.
    """

    def __init__(
        self,
        dtype: Any,
        stop: Stop,
        *,
        records: int,
        record_every: int,
        kkt: bool,
        form: Form,
    ) -> None:
        self.dtype, self.form = np.dtype(dtype), form
        self.stop = as_leaves(dataclasses.replace(stop, seconds=np.inf), dtype)
        self.stop = dataclasses.replace(
            self.stop, max_iter=jnp.asarray(stop.max_iter, jnp.int32)
        )
        even = int(stop.max_iter) % record_every == 0
        self.begin, self.go = _functions(records, record_every, kkt, even)
        self.compile_seconds = 0.0
        self.cancelled = threading.Event()
        self._lock = threading.Lock()
        self._waiting: collections.deque[int] = collections.deque()
        self._errors: list[BaseException] = []

    def run(
        self,
        indices: Sequence[int],
        make: Callable[[int], Task],
        done: Callable[[int, Run], None],
    ) -> None:
        """Run the tasks ``make(i)`` for each i, and call ``done(i, run)``, from one
        thread at a time, as each stops. An exception, Ctrl-C among them, ends it after
        the calls under way."""
        self._waiting = collections.deque(indices)
        self._errors = []
        target = self._alone if self.form.group == 1 else self._in_group
        if self.form.workers == 1:
            target(make, done)
        else:
            threads = [
                threading.Thread(target=self._guarded, args=(target, make, done))
                for _ in range(self.form.workers)
            ]
            for thread in threads:
                thread.start()
            try:
                for thread in threads:
                    while thread.is_alive():
                        thread.join(0.1)  # not one long wait: Ctrl-C must come through
            except BaseException:
                self.cancelled.set()
                for thread in threads:
                    thread.join()
                raise
        if self._errors:
            raise self._errors[0]

    def _guarded(self, target: Any, make: Any, done: Any) -> None:
        try:
            # Precision is a thread's own.
            with precision(self.dtype.name):
                target(make, done)
        except BaseException as error:
            self._errors.append(error)
            self.cancelled.set()

    def _next(self) -> int | None:
        with self._lock:
            if self.cancelled.is_set() or not self._waiting:
                return None
            return self._waiting.popleft()

    def _deliver(self, done: Any, index: int, lane: Lane) -> None:
        """``lane`` on the host, NaN rows of its trace cut off."""
        count = int(lane.record) + 1
        iteration, loss, kkt = (np.asarray(x)[:count] for x in lane.trace)
        status = int(lane.status)
        if status == Status.RUNNING.code:
            status = Status.MAX_ITER.code
        run = Run(
            factors=Factors(*(np.asarray(X) for X in lane.factors)),  # pyright: ignore
            status=status,  # pyright: ignore
            iterations=int(lane.iteration),  # pyright: ignore
            trace=Trace(iteration, loss, kkt, np.full(count, np.nan)),
        )
        with self._lock:
            done(index, run)

    def _compiled(self, function: Any, *args: Any) -> Any:
        with self._lock:
            program, seconds = compiled(function, *args, **self.form.options)
            self.compile_seconds += seconds
        return program

    def _over(self, lane: Lane) -> bool:
        going = int(lane.status) == Status.RUNNING.code
        return not going or int(lane.iteration) >= int(self.stop.max_iter)

    def _started(self, task: Task) -> tuple[Any, Lane]:
        """(what a call takes before the lane, the lane before its first iteration)."""
        matrix = task.problem.matrix
        rest = dataclasses.replace(task.problem, matrix=None)
        rest, solver, factors = jax.tree.map(
            jnp.asarray, (rest, task.solver, task.factors)
        )
        fixed = (matrix, rest, solver)
        arguments = (*fixed, factors, task.key, self.stop)
        return fixed, self._compiled(self.begin, *arguments)(*arguments)

    def _alone(self, make: Any, done: Any) -> None:
        pace = _Pace()
        while (index := self._next()) is not None:
            fixed, lane = self._started(make(index))
            go = self._compiled(self.go, *fixed, lane, self.stop, pace.records)
            while not self._over(lane):
                if self.cancelled.is_set():
                    return
                with pace:
                    lane = go(*fixed, lane, self.stop, pace.records)
                    lane = jax.block_until_ready(lane)
            self._deliver(done, index, lane)

    def _in_group(self, make: Any, done: Any) -> None:
        pace = _Pace()
        slots: list[tuple[int, Any, Lane]] = []

        def fill() -> None:
            while len(slots) < self.form.group and (i := self._next()) is not None:
                slots.append((i, *self._started(make(i))))

        fill()
        while slots:
            # A group is as wide as the least power of two that holds it, so that few
            # widths are compiled; the last lane is repeated to fill it.
            width = 1 << (len(slots) - 1).bit_length()
            held = [*slots, *[slots[-1]] * (width - len(slots))]
            matrices = [fixed[0] for _, fixed, _ in held]
            shared = all(matrix is matrices[0] for matrix in matrices)
            matrix = matrices[0] if shared else _stacked(matrices)
            parts = [(*fixed[1:], lane) for _, fixed, lane in held]
            rest, solver, lanes = self._compiled(_stacked, parts)(parts)
            function = _grouped(self.go, shared)
            arguments = (matrix, rest, solver, lanes, self.stop, pace.records)
            go = self._compiled(function, *arguments)
            left = False
            while not left:
                if self.cancelled.is_set():
                    return
                with pace:
                    lanes = go(matrix, rest, solver, lanes, self.stop, pace.records)
                    lanes = jax.block_until_ready(lanes)
                status = np.asarray(lanes.status)[: len(slots)]
                iteration = np.asarray(lanes.iteration)[: len(slots)]
                over = (status != Status.RUNNING.code) | (
                    iteration >= int(self.stop.max_iter)
                )
                # Repacking copies every lane: worth it for a quarter of them.
                left = over.sum() * 4 >= len(slots)
            # One program each way: a call a leaf and lane would take longer than both.
            now = self._compiled(_apart, lanes)(lanes)[: len(slots)]
            for k in np.flatnonzero(over):
                self._deliver(done, slots[k][0], now[k])
            slots[:] = [
                (*slot[:2], lane)
                for slot, lane, gone in zip(slots, now, over, strict=True)
                if not gone
            ]
            fill()


class _Pace:
    """How many records a call should do: as many as take `CALL_SECONDS`."""

    def __init__(self) -> None:
        self.records = np.int32(1)

    def __enter__(self) -> None:
        self._begun = time.perf_counter()

    def __exit__(self, *_: Any) -> None:
        took = time.perf_counter() - self._begun
        if took < CALL_SECONDS / 2:
            self.records = np.int32(min(int(self.records) * 2, 2**20))
        elif took > 2 * CALL_SECONDS:
            self.records = np.int32(max(int(self.records) // 2, 1))


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def _apart(tree: Any) -> list[Any]:
    """What was stacked."""
    count = len(jax.tree.leaves(tree)[0])
    return [jax.tree.map(lambda x, k=k: x[k], tree) for k in range(count)]
