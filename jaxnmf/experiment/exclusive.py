"""Cores of a CPU, or devices of an accelerator, that a process has for itself."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import filelock
import jax

POLL = 1.0  # seconds between two attempts where all are taken
DEVICES, CPUS = Path("/dev"), Path("/sys/devices/system/cpu")


@functools.cache
def take(count: int) -> tuple[str, ...]:
    """Take cores, or devices where there are any, until the process ends; returns their
    names.

    Other processes that take some get others, and wait where all are taken. It is for
    a process that has not used jax yet: jax starts a thread for each core of the
    process, and uses the devices that it finds when it starts.

    Args:
      count: how many.

    Raises:
      ValueError: the machine has fewer, or they cannot be taken.
    """
    if count < 0:
        raise ValueError(f"exclusive={count} is not an integer ≥ 0")
    devices = _devices()
    names = devices or _cores()
    what = "devices" if devices else "cores"
    if count > len(names):
        raise ValueError(
            f"exclusive={count}: this process may use {len(names)} {what} of the "
            "machine"
        )
    chosen = _locked(list(names), count, what)
    if devices:
        numbers = ",".join(str(names[name]) for name in chosen)
        jax.config.update("jax_cuda_visible_devices", numbers)
    else:
        _confine([names[name] for name in chosen])
    return chosen


def _confine(cpus: Sequence[int]) -> None:
    """Let every thread of the process run on these alone; new ones follow."""
    os.sched_setaffinity(0, cpus)
    tasks = Path("/proc/self/task")
    for task in tasks.iterdir() if tasks.is_dir() else ():
        with contextlib.suppress(OSError):  # it has ended
            os.sched_setaffinity(int(task.name), cpus)


def _locked(names: Sequence[str], count: int, what: str) -> tuple[str, ...]:
    """The names of which this process holds the locks, which end with it."""
    owner = os.getuid() if hasattr(os, "getuid") else "all"
    folder = Path(tempfile.gettempdir()) / f"jaxnmf-{owner}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        waiting = False
        while True:
            held = {}
            for name in names:
                lock = filelock.FileLock(folder / f"{name}.lock", timeout=0)
                try:
                    lock.acquire()
                except filelock.Timeout:
                    continue
                held[name] = lock
                if len(held) == count:
                    _kept.extend(held.values())
                    return tuple(held)
            # Others that need several would wait for these, and this one for theirs.
            for lock in held.values():
                lock.release()
            if not waiting:
                print(
                    f"exclusive={count}: {len(held)} of {len(names)} {what} are free; "
                    "waiting",
                    file=sys.stderr,
                )
            waiting = True
            time.sleep(POLL)
    except OSError as error:
        raise ValueError(
            f"exclusive={count}: {str(folder)!r} cannot be written: {error}"
        ) from error


_kept: list[filelock.BaseFileLock] = []  # a lock that is collected is released


def _devices() -> dict[str, int]:
    """The devices that CUDA shows this process: name → number."""
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        found = [name.strip() for name in visible.split(",") if name.strip()]
    else:
        nodes = [path.name[6:] for path in DEVICES.glob("nvidia*")]
        found = sorted((name for name in nodes if name.isdigit()), key=int)
    return {f"cuda-{name}": number for number, name in enumerate(found)}


def _cores() -> dict[str, int]:
    """The cores of this process: name → the first of a core's threads."""
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError(
            f"exclusive: {sys.platform} does not let a process choose its cores; "
            "expected 0"
        )
    first = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        try:
            path = CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list"
            core = re.split(r"[,-]", path.read_text())[0].strip()
        except OSError:
            core = str(cpu)
        first.setdefault(f"core-{core}", cpu)
    return first
