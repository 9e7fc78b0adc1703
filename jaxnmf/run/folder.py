"""A folder with the checkpoints of one run, of one process or of several."""

from __future__ import annotations

import json
import math
import re
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnmf._util.describe import described
from jaxnmf._util.disk import DAMAGED, npz, put, read_arrays, read_json
from jaxnmf._version import __version__
from jaxnmf.data.spread import agreed, least
from jaxnmf.objective.problem import Problem
from jaxnmf.run.checkpoint import Checkpoint, Progress

SECONDS = 10.0  # between two saves
KEPT = 2  # saves: the last may be damaged by what killed the run
CARD = "run.json"
NAME = re.compile(r"at(\d+)-(\d+)of(\d+)\.npz")


def parts_of(problem: Problem, solver: Any) -> dict[str, Any]:
    """What a run computes, by names for people, without its start and its end."""
    return {
        "V": (problem.operand.shape, problem.operand.moments, problem.units),
        "solver": (getattr(solver, "name", ""), solver),
        "objective": (
            problem.loss,
            problem.penalties,
            problem.projects,
            problem.graphs,
        ),
    }


class RunFolder(Checkpoint):
    """The progress of a run in files ``at00000040-0of2.npz``: that after 40 iterations,
    of the first of two processes. A file is complete or absent, and each process keeps
    its last two; a run resumes from the newest that all have.

    Args:
      path: of the folder, which is made.
      specification: what the run computes, for JSON.
      most: how many iterations it has at most.
      together: whether several processes are in the run.

    Raises:
      ValueError: the folder is of another run, or cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        specification: Mapping[str, Any],
        most: int,
        together: bool,
    ) -> None:
        self.path, self.together = Path(path).expanduser(), together
        self.process = jax.process_index() if together else 0
        self.count = jax.process_count() if together else 1
        self._saved, self._failed = time.monotonic(), False
        wrong = self._check(specification)
        done = max(self._files(), default=0)
        if done > most and not wrong:
            wrong = f"is of a run with {done} iterations, more than max_iter={most}"
        if least(0 if wrong else 1, together) == 0:
            wrong = wrong or "cannot be used by another process of this run"
            raise ValueError(f"checkpoint={str(path)!r} {wrong}")

    def _check(self, specification: Mapping[str, Any]) -> str:
        """What is wrong with the folder for a run, "" for nothing."""
        own = json.loads(json.dumps({"version": __version__, **specification}))
        card = self.path / CARD
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not card.exists():
                put(card, json.dumps(own, indent=2).encode())
            held = read_json(card)
        except OSError as error:
            return f"cannot be used: {error.strerror}"
        except ValueError:
            held = {}
        other = [name for name in own if not _alike(held.get(name), own[name])]
        if not other:
            return ""
        return (
            f"is of a run with another {', '.join(other)}; give a new folder, or "
            "remove this one"
        )

    def load(self) -> dict[str, np.ndarray] | None:
        """The newest progress that can be read, by every process."""
        found = self._files()
        arrays: dict[int, dict[str, np.ndarray]] = {}
        for iteration in sorted(found, reverse=True):
            read = _read(found[iteration])
            if read is not None:
                arrays[iteration] = read
                if not self.together:
                    break
        newest = least(max(arrays, default=-1), self.together)
        here = least(int(newest in arrays), self.together)
        kept = newest if here else -1
        for path, at in self._own():  # of a run that starts over from before them
            if at > kept:
                path.unlink(missing_ok=True)
        return arrays.get(kept)

    def _files(self) -> dict[int, list[Path]]:
        """The files that this process needs, by iteration: its own, or those of all
        where there were another number of processes."""
        groups: dict[tuple[int, int], dict[int, Path]] = {}
        for path in self.path.glob("at*.npz"):
            if named := NAME.fullmatch(path.name):
                iteration, process, count = map(int, named.groups())
                groups.setdefault((iteration, count), {})[process] = path
        found: dict[int, list[Path]] = {}
        for (iteration, count), files in groups.items():
            if count == self.count and self.process in files:
                found[iteration] = [files[self.process]]
            elif count != self.count and len(files) == count:
                found.setdefault(iteration, [files[i] for i in range(count)])
        return found

    def save(self, progress: Progress) -> None:
        since = agreed(time.monotonic() - self._saved, self.together)
        if since >= SECONDS:
            self.end(progress)

    def end(self, progress: Progress) -> None:
        """Save, whenever the last save was. A warning where that fails: the run is of
        more worth."""
        self._saved = time.monotonic()
        arrays = progress()
        iteration = int(arrays["iteration"][-1])
        name = f"at{iteration:08}-{self.process}of{self.count}.npz"
        try:
            put(self.path / name, npz(arrays))
            self._tidy()
        except OSError as error:
            if not self._failed:
                warnings.warn(
                    f"checkpoint={str(self.path)!r} cannot be written: {error}; the "
                    "run continues without",
                    RuntimeWarning,
                    stacklevel=2,
                )
            self._failed = True

    def misfit(self) -> None:
        raise ValueError(
            f"checkpoint={str(self.path)!r} does not fit this mesh, by which V is "
            "padded; resume on the one that it was saved on, or give a new folder"
        )

    def _tidy(self) -> None:
        """Remove all but the last two saves."""
        own = self._own()
        older = sorted({at for _, at in own})[:-KEPT]
        for path, at in own:
            if at in older:
                path.unlink(missing_ok=True)

    def _own(self) -> list[tuple[Path, int]]:
        """The files that this process saved, for the first also those of another number
        of processes, and their iterations."""
        own = []
        for path in self.path.glob("at*.npz"):
            if named := NAME.fullmatch(path.name):
                iteration, process, count = map(int, named.groups())
                if process == self.process if count == self.count else not self.process:
                    own.append((path, iteration))
        return own


def run_folder(
    path: str | Path,
    problem: Problem,
    solver: Any,
    *,
    most: int,
    mesh: tuple[int, int] | None = None,
    together: bool = False,
    **how: Any,
) -> RunFolder:
    """The folder for a run of these.

    Args:
      path: of the folder.
      problem, solver: the run.
      most: how many iterations it has at most.
      mesh: the shape of the mesh, where the order of V's rows depends on it.
      together: whether several processes are in the run.
      how: else what it computes, such as its start.
    """
    parts = {**parts_of(problem, solver), "mesh": mesh, **how}
    specification = {name: described(part) for name, part in parts.items()}
    return RunFolder(path, specification, most, together)


def _alike(one: Any, other: Any) -> bool:
    """Whether two descriptions are equal but for the rounding of sums, in which other
    processes differ."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = ((one[name], other.get(name)) for name in one)
        return one.keys() == other.keys() and all(_alike(*pair) for pair in pairs)
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6)
    return one == other


def _read(paths: list[Path]) -> dict[str, np.ndarray] | None:
    """The arrays of some files together, None where one is damaged."""
    arrays: dict[str, np.ndarray] = {}
    try:
        for path in reversed(paths):  # the clock is that of the first process
            arrays |= read_arrays(path)
    except DAMAGED:
        return None
    return arrays
