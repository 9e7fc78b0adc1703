"""Commands that have been done: given again, they have nothing to do.

Hydra takes a tenth of a second to compose a job's config. What a command came to is
kept with the study, under all that decides what it asks for; the same command is then
answered by a look at its jobs and at the data, without composing any.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jaxnmf import datasets
from jaxnmf.disk import DAMAGED, put
from jaxnmf.experiment import store
from jaxnmf.experiment.layout import writing

FOLDER = ".commands"
ELSEWHERE = ("oc.env", "${now", "hydra.searchpath")
"""What makes a config depend on more than is looked at here."""


def fingerprint(overrides: Sequence[str], config_dir: str | None) -> str | None:
    """Of all that decides what a command asks for: what was typed and where, the
    configs, what is installed. None where there is more to it than that."""
    configs = [resources.files("jaxnmf.configs")]
    configs += [] if config_dir is None else [Path(config_dir)]
    texts = [text for folder in configs for text in _texts(folder)]
    if any(word in text for text in (*overrides, *texts) for word in ELSEWHERE):
        return None
    paths = [Path(entry) for entry in sys.path if entry and Path(entry).is_dir()]
    installed = {info.name for path in paths for info in path.glob("*.dist-info")}
    whole = [*overrides, os.getcwd(), *texts, *sorted(installed)]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:16]


def keep(folder: Path, command: str, told: Sequence[Mapping[str, Any]]) -> None:
    """Note that a command is done, by what was told of its jobs."""
    jobs = [one["job"] for one in told if "job" in one]
    data = {json.dumps(one["data"], sort_keys=True) for one in told if "data" in one}
    done = {"jobs": sorted(set(jobs)), "data": [json.loads(one) for one in data]}
    with writing(folder):
        (folder / FOLDER).mkdir(exist_ok=True)
        put(folder / FOLDER / f"{command}.json", json.dumps(done).encode())


def standing(folder: Path, command: str) -> int:
    """How many jobs a command came to, all whole and of the data as they are now; 0
    where it is not known to be done."""
    try:
        done = json.loads((folder / FOLDER / f"{command}.json").read_bytes())
        for name, options, checksum in done["data"]:
            if datasets.load(name, **options).checksum != checksum:
                return 0
        for key in done["jobs"]:
            store.verify(folder, key)
    except DAMAGED:
        return 0
    return len(done["jobs"])


def _texts(folder: Any) -> list[str]:
    """The configs in a folder and below it, with their names, in a fixed order."""
    texts = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.is_dir():
            texts += _texts(path)
        elif path.name.endswith((".yaml", ".yml")):
            texts += [path.name, path.read_text(encoding="utf-8")]
    return texts
