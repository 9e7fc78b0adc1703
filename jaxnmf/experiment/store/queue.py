"""The jobs of a study, for every process that works on it: a file each."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxnmf._util.disk import put, read_json
from jaxnmf._version import __version__
from jaxnmf.experiment.store.layout import writing

FOLDER = "queue"


class Job(NamedTuple):
    """A job as it was asked for.

    Attributes:
      config: resolved, without the folder of the study.
      directory: what relative paths in it are relative to.
      command: the command line.
    """

    config: dict[str, Any]
    directory: str
    command: str


def add(folder: Path, job: Job) -> None:
    """Store a job, unless it is there."""
    config = {key: value for key, value in job.config.items() if key != "folder"}
    text = json.dumps([config, job.directory, __version__], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = folder / FOLDER / f"{digest}.json"
    if path.exists():
        return
    whole = job._replace(config=config)._asdict()
    whole |= {"version": __version__, "added": time.time_ns()}
    with writing(folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, json.dumps(whole, indent=2).encode(), durable=False)


def read(folder: Path) -> list[Job]:
    """The jobs of a study, in the order in which they were added.

    Raises:
      ValueError: it has none for this version, or one that cannot be read.
    """
    every = [_parsed(path) for path in (folder / FOLDER).glob("*.json")]
    found = [one for one in every if one["version"] == __version__]
    if not found:
        others = sorted({one["version"] for one in every})
        other = f" for jaxnmf {__version__}, but for {', '.join(others)}" * bool(others)
        raise ValueError(
            f"folder: {str(folder)!r} has no jobs to take{other}; begin its study by "
            f"jaxnmf run --queue … {shlex.quote(f'folder={folder}')}"
        )
    found.sort(key=lambda one: one["added"])
    return [Job(*(one[field] for field in Job._fields)) for one in found]


def _parsed(path: Path) -> Mapping[str, Any]:
    try:
        found = read_json(path)
        missing = [
            name for name in (*Job._fields, "version", "added") if name not in found
        ]
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: is malformed: {error}") from error
    if missing:
        raise ValueError(f"{path}: is malformed: has no {', '.join(missing)}")
    return found
