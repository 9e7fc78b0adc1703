"""Commands that have been done: given again, they have nothing to do.

Hydra takes a tenth of a second to compose a job's config. What a command came to is
kept with the study, under all that decides what it asks for; the same command is then
answered by a look at its jobs and at the data, without composing any.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jaxnmf
from jaxnmf import datasets, registry
from jaxnmf._util.disk import DAMAGED, put
from jaxnmf._version import __version__
from jaxnmf.experiment.config import solver_class, solver_names
from jaxnmf.experiment.store import stored
from jaxnmf.experiment.store.layout import writing

FOLDER = ".commands"
ELSEWHERE = ("oc.env", "${now", "hydra.searchpath", "hydra/sweeper", "mlflow")
"""What makes a command depend on more than is looked at here, or do more than jobs: a
search goes on where it is given again, and what was logged may be gone."""


def fingerprint(
    overrides: Sequence[str], config_dir: str | None, study: Path
) -> str | None:
    """Of all that decides what a command asks for: what was typed and where, configs,
    code and what is installed. None where there is more to it than that."""
    configs = [resources.files("jaxnmf.configs")]
    configs += [] if config_dir is None else [Path(config_dir).resolve()]
    try:
        texts = [text for folder in configs for text in _texts(folder, study)]
        code = sorted(_code())
    except (OSError, UnicodeDecodeError):  # Hydra may never look at it, or will tell
        return None
    if any(word in text for text in (*overrides, *texts) for word in ELSEWHERE):
        return None
    names = (solver_names(), registry.losses(), datasets.names())
    whole = [*overrides, os.getcwd(), *texts, __version__, *names, *code]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:16]


def keep(folder: Path, command: str, told: Sequence[Mapping[str, Any]]) -> None:
    """Note that a command is done, by what was told of its jobs; not where one was left
    out on data that no other job looked at, whose checksum is unknown."""
    jobs = {one["job"]: one for one in told if "job" in one}
    data = {
        json.dumps(one["data"], sort_keys=True): one["data"] for one in jobs.values()
    }
    known = [[name, options] for name, options, _ in data.values()]
    if any(list(one["data"]) not in known for one in told if one["what"] == "left out"):
        return
    done = {"jobs": sorted(jobs), "data": list(data.values())}
    with writing(folder):
        (folder / FOLDER).mkdir(exist_ok=True)
        put(folder / FOLDER / f"{command}.json", json.dumps(done).encode())


def count_complete(folder: Path, command: str) -> int:
    """How many jobs a command came to, all whole and of the data as they are now; 0
    where it is not known to be done."""
    try:
        done = json.loads((folder / FOLDER / f"{command}.json").read_bytes())
        for name, options, checksum in done["data"]:
            if datasets.load(name, **options).checksum != checksum:
                return 0
        for key in done["jobs"]:
            stored.verify(folder, key)
    except DAMAGED:
        return 0
    return len(done["jobs"])


def _texts(folder: Any, study: Path) -> list[str]:
    """The configs in a folder and below it, with their names, in a fixed order."""
    texts = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.startswith(".") or path == study:
            continue
        if path.is_dir():
            texts += _texts(path, study)
        elif path.name.endswith((".yaml", ".yml")):
            texts += [path.name, path.read_text(encoding="utf-8")]
    return texts


def _code() -> Iterator[str]:
    """What is installed, and the state of the files that solvers and configs are made
    from: an editable install changes under one version."""
    for entry in filter(os.path.isdir, sys.path):
        names = os.listdir(entry)
        yield from (
            name for name in names if name.endswith((".dist-info", ".egg-info"))
        )
    files = {inspect.getsourcefile(solver_class(name)) for name in solver_names()}
    files |= {str(path) for path in Path(jaxnmf.__path__[0]).rglob("*.py")}
    for path in filter(None, files):
        stat = os.stat(path)
        yield f"{path} {stat.st_size} {stat.st_mtime_ns}"
