"""Plans: how the lanes of a sweep are spread over threads and groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxnmf._util.platform import on_cpu
from jaxnmf.objective.problem import Problem
from jaxnmf.sweeps.batching import Batching
from jaxnmf.sweeps.lanes import Task

GROUP = 8  # lanes in a group on a CPU
CACHE = 2**20  # bytes of X that the lanes of a group may have without falling out of it


def plan(
    waiting: list[int],
    batching: Batching | None,
    timings: Mapping[str, Any],
    problem: Problem,
    mesh: bool = False,
) -> Iterator[tuple[list[int], Batching]]:
    """Parts of the waiting lanes, and the batching of each.

    On a CPU a group of lanes makes larger products of a shared V, and a single lane
    keeps its X in the cache; which is faster depends on the shapes. With many lanes the
    first are run singly, the next in groups, and all others in whichever was faster;
    few lanes are run in the way that is likely to be. On a mesh they are run singly.
    """
    if not waiting:
        return
    mesh = mesh or getattr(problem.operand, "placement", None) is not None
    if batching is None and mesh:
        # Programs of two threads would wait for each other on the devices of V.
        yield waiting, Batching()
        return
    if batching is not None or not on_cpu():
        yield waiting, batching or Batching.default(len(waiting))
        return
    alone = Batching.default(len(waiting))
    few, more = alone.workers, GROUP * alone.workers
    group, found = group_width(len(waiting), alone.workers), _seconds_per_work(timings)
    if len(found) < 2 and len(waiting) >= 2 * (few + more):
        group = GROUP
        yield waiting[:few], alone
        yield waiting[few : few + more], dataclasses.replace(alone, group=group)
        waiting, found = waiting[few + more :], _seconds_per_work(timings)
    if len(found) == 2:
        grouped = found[True] < found[False]
    else:
        size = np.prod(problem.operand.shape) * np.dtype(problem.operand.dtype).itemsize
        grouped = problem.by_gram or GROUP * size <= CACHE
    if waiting:
        yield waiting, dataclasses.replace(alone, group=group) if grouped else alone


def group_width(lanes: int, workers: int) -> int:
    """The width of groups, at most `GROUP`, that divides the lanes evenly."""
    each = -(-lanes // workers)
    rounds = max(1, -(-each // GROUP))
    return max(1, -(-each // rounds))


def _seconds_per_work(timings: Mapping[str, Any]) -> dict[bool, float]:
    """Seconds per unit of work in groups (True) and singly (False), where known."""
    return {entry["group"] > 1: entry["seconds_per_work"] for entry in timings.values()}


def note_timing(
    timings: dict[str, Any], batching: Batching, seconds: float, work: int
) -> None:
    """Add the seconds of a batching; the first ones also per unit of work, which is an
    iteration of a component."""
    entry = timings.setdefault(
        str(batching), {"group": batching.group, "seconds": 0.0, "work": 0}
    )
    entry["seconds"] += seconds
    entry["work"] += work
    entry.setdefault("seconds_per_work", seconds / max(work, 1))


def fit_memory(
    max_memory: float | None, batching: Batching, task: Task, records: int
) -> Batching:
    """The batching, narrowed until the lanes in progress fit ``max_memory`` bytes, or
    with None half of what an accelerator has.

    A lane has its factors, a state assumed to be three times as large, and its trace; X
    is processed in blocks that all lanes of a worker share.
    """
    limit = device_memory() / 2 if max_memory is None else max_memory
    factors = sum(np.asarray(X).nbytes for X in task.factors)
    block = getattr(task.problem.operand, "block", 0) * task.problem.operand.shape[1]
    itemsize = np.dtype(task.problem.operand.dtype).itemsize
    lane = 4 * factors + 4 * itemsize * (records + 1) + 2 * itemsize * block
    if max_memory is not None and lane > max_memory:
        raise ValueError(
            f"max_memory={max_memory:g} bytes is too little for one lane, which needs "
            f"about {lane:g}"
        )
    while batching.workers * batching.group * lane > limit:
        if batching.group > 1:
            batching = dataclasses.replace(batching, group=batching.group // 2)
        elif batching.workers > 1:
            batching = dataclasses.replace(batching, workers=batching.workers - 1)
        else:
            break
    return batching


def device_memory() -> float:
    """Bytes that an accelerator has for arrays; infinite where it does not say, and on
    a CPU."""
    statistics = None if on_cpu() else jax.devices()[0].memory_stats()
    return (statistics or {}).get("bytes_limit", np.inf)
