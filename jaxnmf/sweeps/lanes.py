"""Execution of lanes: groups of runs in one program, on several threads.

A lane is a run in progress (`jaxnmf.run.loop.RunState`). A worker has a group of them,
advances all by some records in one call, delivers those that have stopped and fills
their places with waiting runs: no finished lane is computed further, and none waits for
the slowest. Every lane stops by its own rule, so that its result is that of a single
run.

Which batching is fastest depends on the machine. On a CPU one lane on each core keeps
its data in the cache and its products unbatched; on an accelerator one wide group fills
the device.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.objective.problem import Problem
from jaxnmf.run.loop import CLOSE, Run, RunState, continue_run, start_run
from jaxnmf.run.programs import as_leaves, compiled, in_turn, precision
from jaxnmf.run.stop import Stop
from jaxnmf.sweeps.alike import apart, joined, same
from jaxnmf.sweeps.batching import Batching, Pace
from jaxnmf.sweeps.devices import grouped, placed, taken
from jaxnmf.types import Factors, Status, Trace


class Task(NamedTuple):
    """A waiting run. All tasks of a call have the same shapes and structure."""

    problem: Problem
    solver: Any
    factors: Factors
    seed: np.int64


class _Functions(NamedTuple):
    """`start_run` and `continue_run` over (operand, graphs, the rest of the problem,
    solver, …)."""

    begin: Callable[..., RunState]
    go: Callable[..., RunState]


@functools.cache
def _functions(
    records: int, record_every: int, kkt: bool, even: bool, in_single: bool
) -> _Functions:
    """The same objects for the same settings, so that their programs are found in the
    cache."""

    def begin(
        operand: Any,
        graphs: Any,
        rest: Any,
        solver: Any,
        factors: Any,
        seed: Any,
        stop: Any,
    ):
        problem = dataclasses.replace(rest, operand=joined(operand), graphs=graphs)
        key = jax.random.key(seed)
        how = {"records": records, "kkt": kkt, "in_single": in_single}
        return start_run(problem, solver, factors, key, stop, **how)

    def go(
        operand: Any,
        graphs: Any,
        rest: Any,
        solver: Any,
        lane: Any,
        stop: Any,
        more: Any,
    ):
        problem = dataclasses.replace(rest, operand=joined(operand), graphs=graphs)
        until = lane.record + more
        how = {"record_every": record_every, "kkt": kkt, "even": even}
        how["in_single"] = in_single
        return continue_run(problem, solver, lane, stop, until, **how)

    return _Functions(begin, go)


def _grouped(function: Any, others: int, devices: int) -> Any:
    """``function`` vmapped over all but its last ``others`` arguments, the graphs and
    what lanes share of the operand."""
    axes = ((None, 0), None, 0, 0, 0, *(0,) * (2 - others), *(None,) * others)
    return grouped(function, axes, devices)


class Runner:
    """Runs tasks of one shape.

    Args:
      dtype: the precision of the tasks.
      stop: the rule of every lane.
      graphs: of the problems of all tasks.
      records, record_every, kkt: as in `jaxnmf.run.loop.solve`.
      batching: how lanes are spread.
    """

    def __init__(
        self,
        dtype: Any,
        stop: Stop,
        *,
        graphs: tuple[Any, ...] = (None, None),
        records: int,
        record_every: int,
        kkt: bool,
        batching: Batching,
    ) -> None:
        self.dtype, self.batching = np.dtype(dtype), batching
        self.stop = as_leaves(dataclasses.replace(stop, seconds=np.inf), dtype)
        self.stop = dataclasses.replace(
            self.stop, max_iter=jnp.asarray(stop.max_iter, jnp.int32)
        )
        even = int(stop.max_iter) % record_every == 0
        how = records, record_every, kkt, even
        self._stop = placed(self.stop, batching.devices, lanes=False)
        self._graphs = placed(graphs, batching.devices, lanes=False)
        self._shared: Any = None, None
        self.in_single = _functions(*how, in_single=True)
        self.in_double = _functions(*how, in_single=False)
        self._of_groups = self.in_single
        self.compile_seconds = 0.0
        self.cancelled = threading.Event()
        self._lock = threading.Lock()
        self._waiting: collections.deque[int] = collections.deque()
        self._errors: list[BaseException] = []
        self._programs: dict[tuple[Any, Any], Any] = {}

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
        target = self._alone if self.batching.lanes == 1 else self._in_group
        if self.batching.workers == 1:
            target(make, done)
        else:
            # Not `Thread.join`: interrupted, it takes a running thread for a finished
            # one (CPython before 3.13), which is then still there at exit.
            ends = [threading.Event() for _ in range(self.batching.workers)]
            threads = [
                threading.Thread(target=self._guarded, args=(end, target, make, done))
                for end in ends
            ]
            try:
                for thread in threads:
                    thread.start()
                _wait(ends)
            except BaseException:
                self.cancelled.set()
                _wait(ends[: sum(thread.ident is not None for thread in threads)])
                raise
        if self._errors:
            raise self._errors[0]

    def _guarded(self, end: threading.Event, target: Any, make: Any, done: Any) -> None:
        try:
            # The precision is a setting of the thread.
            with precision(self.dtype.name):
                target(make, done)
        except BaseException as error:
            self._errors.append(error)
            self.cancelled.set()
        finally:
            end.set()

    def _next(self, count: int) -> list[int]:
        """Up to ``count`` waiting tasks."""
        with self._lock:
            if self.cancelled.is_set():
                return []
            count = min(count, len(self._waiting))
            return [self._waiting.popleft() for _ in range(count)]

    def _deliver(self, done: Any, index: int | None, lane: RunState) -> None:
        """Call ``done`` with the run of a lane on the host, its trace cut to its
        records."""
        count = int(lane.record) + 1
        iteration, objective, kkt = (np.array(x[:count]) for x in lane.trace)
        status = int(lane.status)
        if status == Status.RUNNING.code:
            status = Status.MAX_ITER.code
        run = Run(
            # Copies: a row would keep the whole group's memory.
            factors=Factors(*(np.array(X) for X in lane.factors)),  # pyright: ignore
            status=status,  # pyright: ignore
            iterations=int(lane.iteration),  # pyright: ignore
            trace=Trace(iteration, objective, kkt, np.full(count, np.nan)),
        )
        with self._lock:
            done(index, run)

    def _compiled(self, widths: Any, function: Any, *args: Any) -> Any:
        """The program for these widths; they suffice as a key, since all tasks have the
        same structure."""
        if (widths, function) not in self._programs:
            with self._lock:
                program, seconds = compiled(function, *args, **self.batching.options)
                self.compile_seconds += seconds
                if self.batching.workers > 1:
                    program = in_turn(program)
                self._programs[widths, function] = program
        return self._programs[widths, function]

    def _over(self, lane: RunState) -> Any:
        """Whether a lane, or each of a group, has stopped."""
        going = np.isin(lane.status, (Status.RUNNING.code, CLOSE))
        return ~going | (np.asarray(lane.iteration) >= int(self.stop.max_iter))

    def _operands(self, matrices: Sequence[Any]) -> tuple[Any, Any]:
        """The operands of a group, as of `_apart`, where the lanes are."""
        shared, own = apart(matrices)
        devices = self.batching.devices
        own = placed(own, devices, lanes=True)
        if devices == 1:
            return shared, own
        leaves = jax.tree.leaves(shared)
        if not same(self._shared[0], leaves):
            self._shared = leaves, placed(shared, devices, lanes=False)
        return self._shared[1], own

    def _alone(self, make: Any, done: Any) -> None:
        """One lane at a time, in single precision until its fit is so good that its
        records need double: only then are those programs compiled."""
        pace = Pace()
        for index in iter(lambda: self._next(1), []):
            task = make(index[0])
            fixed = (task.problem.operand, None), self._graphs, *_rest(task)
            # Blocks of V on devices may store more in one task than in another.
            kind = tuple(map(np.shape, jax.tree.leaves(task.problem.operand)))
            arguments = (*fixed, task.factors, task.seed, self.stop)
            begin, go = self.in_single
            lane = self._compiled(kind, begin, *arguments)(*arguments)
            if lane.status == CLOSE:
                begin = self.in_double.begin
                lane = self._compiled(kind, begin, *arguments)(*arguments)
            while not self._over(lane):
                if self.cancelled.is_set():
                    return
                if lane.status == CLOSE:
                    go = self.in_double.go
                arguments = (*fixed, lane, self.stop, pace.records)
                program = self._compiled(kind, go, *arguments)
                with pace:
                    lane = program(*arguments)
                    lane = jax.block_until_ready(lane)
            self._deliver(done, index[0], _on_host(lane))

    def _in_group(self, make: Any, done: Any) -> None:
        """A group of lanes at a time, all in single precision until a record of one
        needs double."""
        pace = Pace()
        group = _Group([], [], None)
        while True:
            live = group.live
            new = self._next(self.batching.lanes - len(live))
            if not live and not new:
                return
            width = self.batching.width(len(live) + len(new))
            if new or width < len(group.slots):
                group = self._packed(group, new, [make(i) for i in new], width)
                live = group.live
            operand = self._operands(group.matrices)
            *fixed, lanes = group.held
            stop, devices = self._stop, self.batching.devices
            shares = operand, self._graphs
            arguments = (*fixed, lanes, stop, pace.records)
            function = _grouped(self._of_groups.go, 2, devices)
            widths = width, jax.tree.structure(operand)
            go = self._compiled(widths, function, *shares, *arguments)
            over: list[int] = []
            try:
                # Packing copies every lane: worth it for a quarter of them.
                while len(over) * 4 < len(live) and not self.cancelled.is_set():
                    with pace:
                        lanes = go(*shares, *fixed, lanes, stop, pace.records)
                        lanes = jax.block_until_ready(lanes)
                    stopped = self._over(lanes)
                    over = [k for k in live if stopped[k]]
                    if _any_close(lanes):
                        self._of_groups = self.in_double
                        break
            finally:  # also deliver those that were stopped when it was cancelled
                host = _on_host(lanes) if over else lanes
                for k in over:
                    lane = jax.tree.map(lambda x, k=k: x[k], host)
                    self._deliver(done, group.slots[k], lane)
                    group.slots[k] = None
            if self.cancelled.is_set():
                return
            group = group._replace(held=(*fixed, lanes))

    def _packed(
        self, group: _Group, new: list[int], tasks: list[Task], width: int
    ) -> _Group:
        """The unfinished lanes and new ones, together in ``width`` places."""
        rows = group.live
        slots = [group.slots[k] for k in rows] + new
        matrices = [group.matrices[k] for k in rows]
        matrices += [task.problem.operand for task in tasks]
        parts = [group.held] if rows else []
        if tasks:
            first = len(group.slots) if rows else 0
            rows = rows + [first + k for k in range(len(tasks))]
            parts.append(self._started(tasks))
        filling = width - len(rows)
        held = parts[0]
        if len(parts) > 1 or width < self.batching.lanes:
            index = np.array(rows + rows[-1:] * filling, np.int32)
            widths = (len(group.slots), len(parts), width)
            pick = taken(self.batching.devices)
            held = self._compiled(widths, pick, index, *parts)(index, *parts)
        return _Group(
            slots + [None] * filling, matrices + matrices[-1:] * filling, held
        )

    def _started(self, tasks: Sequence[Task]) -> tuple[Any, ...]:
        """(the rest of the problem, solver, lane before its first iteration), stacked
        as wide as the group, so that one program starts any number; the last is
        repeated to fill it."""
        width, devices = self.batching.lanes, self.batching.devices
        tasks = [*tasks, *[tasks[-1]] * (width - len(tasks))]
        operand = self._operands([task.problem.operand for task in tasks])
        # On the host: a call a leaf and lane would take longer than the program.
        parts = [(*_rest(task), task.factors, task.seed) for task in tasks]
        stacked = jax.tree.map(lambda *x: np.stack(x), *parts)
        own = placed(stacked, devices, lanes=True)
        arguments = (operand, self._graphs, *own, self._stop)
        function = _grouped(self._of_groups.begin, 1, devices)
        widths = width, jax.tree.structure(operand)
        lanes = self._compiled(widths, function, *arguments)(*arguments)
        if _any_close(lanes):
            self._of_groups = self.in_double
            return self._started(tasks)
        return *own[:2], lanes


def _wait(ends: Sequence[threading.Event]) -> None:
    for end in ends:
        while not end.wait(0.1):  # not one long wait: Ctrl-C must come through
            pass


class _Group(NamedTuple):
    """Lanes that are advanced together, stacked.

    ``slots`` says which task is in each place: None where it is over, or where a copy
    of another only fills the place. ``held`` is the rest of the problems, the solvers
    and the lanes.
    """

    slots: list[int | None]
    matrices: list[Any]
    held: Any

    @property
    def live(self) -> list[int]:
        return [k for k, index in enumerate(self.slots) if index is not None]


def _rest(task: Task) -> tuple[Problem, Any]:
    """The arguments of a program besides the operand: rest of the problem, solver."""
    rest = dataclasses.replace(task.problem, operand=None, graphs=(None, None))
    return rest, task.solver


def _any_close(lanes: RunState) -> bool:
    return bool(np.any(np.asarray(lanes.status) == CLOSE))


def _on_host(lane: RunState) -> RunState:
    """The lane as NumPy arrays, without the solver's state."""
    return jax.tree.map(np.asarray, lane._replace(state=()))
