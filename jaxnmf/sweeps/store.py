"""The folder of a sweep: its finished lanes, so that an interrupted sweep resumes."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnmf._util.disk import DAMAGED, npz, put, read_arrays, read_json
from jaxnmf.objective.problem import Problem
from jaxnmf.run.loop import Run
from jaxnmf.types import Factors, Trace

SAVE_SECONDS = 5.0  # until a finished lane is on disk
PARTS = ("Wt", "H", "trace")  # of a lane, besides its status


class LaneStore:
    """Finished lanes in a folder: `sweep.json`, the specification, and `lanes-*.npz`.

    Every file is written completely or not at all.

    Args:
      folder: created where it is missing.
      specification: what the lanes compute, as plain values.

    Raises:
      ValueError: for a folder that cannot be used, or contains a sweep of another
        specification or version.
    """

    def __init__(self, folder: Path, specification: Mapping[str, Any]) -> None:
        self.folder = folder
        self._new: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        specification = json.loads(json.dumps(specification))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            card = folder / "sweep.json"
            if card.exists():
                held, own = _card(card), specification["version"]
                if held.get("version") != own:
                    raise ValueError(
                        f"folder={str(folder)!r} contains a sweep of jaxnmf "
                        f"{held.get('version')}, which jaxnmf {own} does not read; "
                        "give a new folder, or remove this one"
                    )
                other = [k for k, v in specification.items() if held.get(k) != v]
                if other:
                    raise ValueError(
                        f"folder={str(folder)!r} contains a sweep with another "
                        f"{', '.join(other)}; give a new folder, or remove this one"
                    )
            else:
                put(card, json.dumps(specification, indent=2).encode())
        except OSError as error:
            raise ValueError(
                f"folder={str(folder)!r} cannot be used: {error.strerror}"
            ) from None
        self._held: dict[str, Mapping[str, np.ndarray]] = {}
        for path in sorted(folder.glob("lanes-*.npz")):
            try:
                arrays = read_arrays(path)
            except DAMAGED:  # those lanes run again
                continue
            for name in arrays:
                key, _, part = name.rpartition("/")
                if part == "status" and all(f"{key}/{x}" in arrays for x in PARTS):
                    self._held[key] = arrays

    def read(self, key: str) -> Run | None:
        """The run of a lane, None where it is not stored."""
        if key not in self._held:
            return None
        arrays = self._held[key]
        parts = {name: arrays[f"{key}/{name}"] for name in PARTS}
        status, iterations = arrays[f"{key}/status"]
        return Run(
            factors=Factors(parts["Wt"], parts["H"]),  # pyright: ignore
            status=status,
            iterations=iterations,
            trace=Trace(*parts["trace"]),
        )

    def add(self, key: str, run: Run) -> None:
        """Store a lane, with others of the next seconds in one file."""
        with self._lock:
            self._new[f"{key}/Wt"], self._new[f"{key}/H"] = map(np.asarray, run.factors)
            self._new[f"{key}/trace"] = np.stack(run.trace)
            self._new[f"{key}/status"] = np.array([run.status, run.iterations])
            if self._timer is None:
                self._timer = threading.Timer(SAVE_SECONDS, self._put)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write what is not on disk yet. A warning where that fails: the result of the
        sweep has the lanes in any case."""
        if (error := self._put()) is not None:
            warnings.warn(
                f"folder={str(self.folder)!r} cannot be written: {error}; the last "
                "lanes are in the result alone",
                stacklevel=3,
            )

    def _put(self) -> OSError | None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if not self._new:
                return None
            # A name that no other process, and no file removed since, can have.
            name = f"lanes-{time.time_ns():020d}-{os.getpid()}.npz"
            try:
                put(self.folder / name, npz(self._new))
            except OSError as error:  # they remain here for the next attempt
                return error
            self._new = {}
            return None


def _card(path: Path) -> dict[str, Any]:
    """The specification in a file, or a ValueError that names the folder."""
    try:
        held = read_json(path)
        held["version"]
    except (ValueError, KeyError):
        raise ValueError(
            f"folder={str(path.parent)!r}: {path.name} is cut or of something else, so "
            "that it is not known what the lanes there are of; give a new folder, or "
            "remove this one"
        ) from None
    return held


def fingerprint(problems: Sequence[Problem]) -> str:
    """A digest of the numbers of V, and of their units."""
    matrices = [problem.operand for problem in problems]
    sizes = [(one.operand.shape, one.units.V) for one in problems]
    digest = hashlib.sha256(str(sizes).encode())
    for leaf in jax.tree.leaves(matrices):
        digest.update(np.ascontiguousarray(np.asarray(leaf)).data)
    return digest.hexdigest()[:16]
