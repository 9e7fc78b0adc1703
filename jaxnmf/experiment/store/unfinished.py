"""Jobs in progress: each run that has ended, and a checkpoint of the current one."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxnmf._util.disk import DAMAGED, npz, put, read_arrays, read_json
from jaxnmf.experiment.store.layout import (
    FORMAT,
    TRACE_COLUMNS,
    StoredRun,
    as_json,
    as_yaml,
    job_path,
    named_arrays,
    plain,
    writing,
)
from jaxnmf.run.checkpoint import Checkpoint, Progress
from jaxnmf.run.folder import run_folder

CHECKPOINT_SECONDS = 10.0  # between two checkpoints of a run
PARTS = ".parts"  # ends the name of a folder with those of several processes


class Unfinished:
    """The folder of a job in progress, which a killed process leaves behind.

    Each run that has ended is a file, written under another name and renamed, so that
    it is whole or missing. A damaged file counts as missing, and its run is run again.

    Args:
      folder: the study folder.
      key: of the job.
      check: called before anything is stored; raises an error if this process may no
        longer do so.
    """

    def __init__(
        self, folder: str | Path, key: str, check: Callable[[], None] = lambda: None
    ) -> None:
        self.key, self._check = key, check
        self.path = job_path(Path(folder), key).with_name(f".{key}~runs")

    def begin(self, config: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
        """Make the folder with its config and manifest, or continue one."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            text = plain("config", config, as_yaml)
            put(self.path / "config.yaml", text.encode())
            whole = {**manifest, "complete": False, "format": FORMAT}
            put(self.path / "manifest.json", plain("manifest", whole, as_json).encode())

    def read(self, run: str) -> StoredRun | None:
        """A run that has ended; None where it is missing or damaged."""
        try:
            arrays = read_arrays(self.path / f"{run}.npz")
            row = json.loads(str(arrays["row"]))
            trace = {c: arrays[f"trace/{c}"] for c in TRACE_COLUMNS if c != "run"}
            offsets = (
                (arrays[f"b/{run}"], arrays[f"c/{run}"])
                if f"b/{run}" in arrays
                else None
            )
            return StoredRun(
                row=row,
                trace=pd.DataFrame({"run": row["run"], **trace}),
                factors=(arrays[f"W/{run}"], arrays[f"H/{run}"]),
                offsets=offsets,
            )
        except DAMAGED:
            return None

    def add(self, run: str, done: StoredRun) -> StoredRun:
        """Store a run that has ended; returns it as it is read back."""
        row = json.dumps(done.row, default=lambda x: x.item())
        arrays = {
            "row": np.array(row),
            **named_arrays({run: done.factors}, {run: done.offsets}),
            **{f"trace/{c}": done.trace[c].to_numpy() for c in TRACE_COLUMNS[1:]},
        }
        self._check()
        with writing(self.path):
            put(self.path / f"{run}.npz", npz(arrays))
            (self.path / f"{run}.checkpoint").unlink(missing_ok=True)
            shutil.rmtree(self.path / f"{run}{PARTS}", ignore_errors=True)
        return done._replace(row=json.loads(row))

    def checkpoint(self, run: str) -> RunCheckpoint:
        """The checkpoint of a run."""
        return RunCheckpoint(self.path / f"{run}.checkpoint", self._check)

    def parts(self, run: str, *what: Any, **how: Any) -> Checkpoint:
        """The checkpoint of a run over several processes, each of which saves its own
        part; with the arguments of `run_folder`."""
        place = self.path / f"{run}{PARTS}"
        return Checked(run_folder(place, *what, together=True, **how), self._check)

    def manifest(self) -> dict[str, Any] | None:
        """The manifest of the process that began the job; None where there is none that
        can be read."""
        try:
            return read_json(self.path / "manifest.json")
        except (OSError, ValueError):
            return None

    @property
    def empty(self) -> bool:
        """Whether there is neither a run nor a checkpoint."""
        results = (".npz", ".checkpoint")
        return not any(path.suffix in results for path in self.path.rglob("*"))

    def discard(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def runs(self) -> list[str]:
        """The runs that have ended, in that order."""

        def ended(path: Path) -> int:
            try:
                return path.stat().st_mtime_ns
            except OSError:  # another process has just completed the job
                return 0

        return [path.stem for path in sorted(self.path.glob("*.npz"), key=ended)]


class RunCheckpoint(Checkpoint):
    """The progress of a run on disk."""

    def __init__(self, path: Path, check: Callable[[], None] = lambda: None) -> None:
        self.path, self._check, self._saved = path, check, time.monotonic()

    def load(self) -> dict[str, np.ndarray] | None:
        """The last progress; None where there is none, or it is damaged."""
        try:
            return read_arrays(self.path)
        except DAMAGED:
            return None

    def save(self, progress: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Store the progress, at most every `CHECKPOINT_SECONDS`."""
        if time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return
        self._check()
        with writing(self.path):
            put(self.path, npz(progress()))
        self._saved = time.monotonic()


class Checked(Checkpoint):
    """A checkpoint to which a process writes only as long as it may."""

    def __init__(self, inner: Checkpoint, check: Callable[[], None]) -> None:
        self.inner, self._check = inner, check

    def load(self) -> Mapping[str, np.ndarray] | None:
        return self.inner.load()

    def save(self, progress: Progress) -> None:
        self.inner.save(lambda: self._checked(progress))

    def misfit(self) -> None:
        self.inner.misfit()

    def _checked(self, progress: Progress) -> Mapping[str, np.ndarray]:
        self._check()
        return progress()
