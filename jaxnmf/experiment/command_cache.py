"""A cache of complete commands, so that a repeated command has nothing to do.

Hydra takes a tenth of a second to compose a job's config. The jobs of a command are
stored with the study under a fingerprint of everything that determines them; the same
command then only verifies its jobs and data, without composing a config.
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
from jaxnmf._util.disk import DAMAGED, put, read_json
from jaxnmf._version import __version__
from jaxnmf.experiment.config import solver_class, solver_names
from jaxnmf.experiment.store import stored
from jaxnmf.experiment.store.layout import writing

FOLDER = ".commands"
UNCACHED = ("oc.env", "${now", "hydra.searchpath", "hydra/sweeper", "mlflow")
"""Words of a command or config that is never cached: it depends on more than the
fingerprint, or does more than run jobs, as a search and a log do."""


def fingerprint(
    overrides: Sequence[str], config_dir: str | None, study: Path
) -> str | None:
    """A hash of everything that determines the jobs of a command: the overrides, the
    working directory, configs, code and installed packages. None for a command that
    depends on more than that."""
    configs = [resources.files("jaxnmf.configs")]
    configs += [] if config_dir is None else [Path(config_dir).resolve()]
    try:
        texts = [text for folder in configs for text in _texts(folder, study)]
        code = sorted(_code())
    except (OSError, UnicodeDecodeError):  # Hydra reports it if it needs that file
        return None
    if any(word in text for text in (*overrides, *texts) for word in UNCACHED):
        return None
    names = (solver_names(), registry.losses(), datasets.names())
    inputs = [*overrides, os.getcwd(), *texts, __version__, *names, *code]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]


def add(folder: Path, command: str, ended: Sequence[Mapping[str, Any]]) -> None:
    """Store that a command is complete, with the outcomes of its jobs; not if a job was
    skipped on data that no other job loaded, whose checksum is unknown."""
    jobs = {one["job"]: one for one in ended if "job" in one}
    data = {
        json.dumps(one["data"], sort_keys=True): one["data"] for one in jobs.values()
    }
    known = [[name, options] for name, options, _ in data.values()]
    skipped = [one for one in ended if one["status"] == "skipped"]
    if any(list(one["data"]) not in known for one in skipped):
        return
    done = {"jobs": sorted(jobs), "data": list(data.values())}
    with writing(folder):
        (folder / FOLDER).mkdir(exist_ok=True)
        put(folder / FOLDER / f"{command}.json", json.dumps(done).encode())


def count_complete(folder: Path, command: str) -> int:
    """The number of jobs of a complete command, all intact and of the present data; 0
    for any other command."""
    try:
        done = read_json(folder / FOLDER / f"{command}.json")
        for name, options, checksum in done["data"]:
            if datasets.load(name, **options).checksum != checksum:
                return 0
        for key in done["jobs"]:
            stored.verify(folder, key)
    except DAMAGED:
        return 0
    return len(done["jobs"])


def _texts(folder: Any, study: Path) -> list[str]:
    """The names and texts of the configs in a folder and below it, in a fixed order."""
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
    """Installed packages, and the state of the files that solvers and configs are made
    from, as an editable install changes without a new version."""
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
