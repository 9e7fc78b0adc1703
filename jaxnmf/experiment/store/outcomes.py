"""What became of the jobs of a call: files that any of its processes leaves.

A launcher may run jobs in other processes, or on other machines that share the folder;
the call that asked for them reads here how they ended.
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


def add(folder: Path, call: str, what: str, message: str = "", **more: Any) -> None:
    """Leave that a job "ran", "stood" (was done before), is "busy" (another process is
    at it), was "left out", "failed", or a "warning"."""
    text = json.dumps({"what": what, "message": message, **more})
    with writing(folder):
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        name = f"{call}-{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"
        put(folder / FOLDER / name, text.encode())


def read(folder: Path, call: str) -> list[dict[str, Any]]:
    """What was told of a call, in its order."""
    paths = sorted((folder / FOLDER).glob(f"{call}-*.json"))
    return [json.loads(path.read_bytes()) for path in paths]


def clear(folder: Path, call: str) -> None:
    """Remove what was told of a call."""
    for path in (folder / FOLDER).glob(f"{call}-*.json"):
        path.unlink(missing_ok=True)
