"""The outcomes of the jobs of a call: files that any of its processes may write.

A launcher may run jobs in other processes, or on other machines that share the folder;
the call that started them reads here how they ended.
"""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

from jaxnmf._util.disk import put
from jaxnmf.experiment.store.layout import writing

FOLDER = ".outcomes"


def add(folder: Path, call: str, status: str, message: str = "", **more: Any) -> None:
    """Store the status of a job: "run", "done before", "in progress" (in another
    process), "skipped" (its solver does not support it) or "failed"; or a "warning", or
    a "note" on the data."""
    text = json.dumps({"status": status, "message": message, **more})
    with writing(folder):
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        name = f"{call}-{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"
        put(folder / FOLDER / name, text.encode())


def read(folder: Path, call: str) -> list[dict[str, Any]]:
    """The outcomes of a call, in order."""
    paths = sorted((folder / FOLDER).glob(f"{call}-*.json"))
    return [json.loads(path.read_bytes()) for path in paths]


def clear(folder: Path, call: str) -> None:
    """Remove the outcomes of a call."""
    for path in (folder / FOLDER).glob(f"{call}-*.json"):
        path.unlink(missing_ok=True)
