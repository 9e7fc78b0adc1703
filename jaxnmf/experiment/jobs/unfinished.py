"""A job that is still running: each run that ended, and how far the next one is."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxnmf._util.disk import DAMAGED, npz, put, read_arrays
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

CHECKPOINT_SECONDS = 10.0  # a run under way is kept this often


class Unfinished:
    """The folder of a job that is still running: what a killed process leaves.

    A run that ended is a file, written aside and renamed, so that it is whole or not
    there; a damaged one is as if it were not there, and its run is run again.
    """

    def __init__(self, folder: str | Path, key: str) -> None:
        self.key = key
        self.path = job_path(Path(folder), key).with_name(f".{key}~runs")

    def begin(self, config: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
        """Make the folder, with what readers need to know of the job; one that is there
        goes on."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            text = plain("config", config, as_yaml)
            put(self.path / "config.yaml", text.encode())
            whole = {**manifest, "complete": False, "format": FORMAT}
            put(self.path / "manifest.json", plain("manifest", whole, as_json).encode())

    def read(self, run: str) -> StoredRun | None:
        """A run that ended, None where it is not there or damaged."""
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
        """Keep a run that ended; returns it as it will be read back."""
        row = json.dumps(done.row, default=lambda x: x.item())
        arrays = {
            "row": np.array(row),
            **named_arrays({run: done.factors}, {run: done.offsets}),
            **{f"trace/{c}": done.trace[c].to_numpy() for c in TRACE_COLUMNS[1:]},
        }
        with writing(self.path):
            put(self.path / f"{run}.npz", npz(arrays))
            (self.path / f"{run}.checkpoint").unlink(missing_ok=True)
        return done._replace(row=json.loads(row))

    def checkpoint(self, run: str) -> RunCheckpoint:
        return RunCheckpoint(self.path / f"{run}.checkpoint")

    def begun(self) -> dict[str, Any] | None:
        """The manifest of who began, None where nobody did."""
        try:
            return json.loads((self.path / "manifest.json").read_bytes())
        except (OSError, ValueError):
            return None

    @property
    def empty(self) -> bool:
        """Whether nothing is there that was computed."""
        kept = (".npz", ".checkpoint")
        return not any(path.suffix in kept for path in self.path.rglob("*"))

    def discard(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def runs(self) -> list[str]:
        """The runs that ended, in the order they did."""

        def ended(path: Path) -> int:
            try:
                return path.stat().st_mtime_ns
            except OSError:  # another process has just finished the job
                return 0

        return [path.stem for path in sorted(self.path.glob("*.npz"), key=ended)]


class RunCheckpoint:
    """How far a run is, on disk (a `jaxnmf.run.checkpoint.Checkpoint`)."""

    def __init__(self, path: Path) -> None:
        self.path, self._saved = path, time.monotonic()

    def load(self) -> dict[str, np.ndarray] | None:
        try:
            return read_arrays(self.path)
        except DAMAGED:
            return None

    def save(self, progress: Callable[[], Mapping[str, np.ndarray]]) -> None:
        if time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return
        with writing(self.path):
            put(self.path, npz(progress()))
        self._saved = time.monotonic()
