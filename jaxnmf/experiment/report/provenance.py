"""Where the results come from: the studies, their jobs, machines and versions."""

from __future__ import annotations

import collections
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from jaxnmf.experiment.report import words
from jaxnmf.experiment.report.contents import Contents
from jaxnmf.experiment.store.layout import DATA_FILES
from jaxnmf.experiment.store.stored import StoredJob

ENVIRONMENT = {
    "package_version": "jaxnmf",
    "commit": "commit",
    "python": "Python",
    "platform": "platform",
    "device": "device",
    "device_count": "devices",
    "dtype": "dtype",
    "precision": "matmul precision",
}
"""Key of a job's manifest → what the page calls it."""

LINKED = (
    "summary.parquet",
    "trace.parquet",
    "factors.npz",
    "choice.parquet",
    "evidence.npz",
    "manifest.json",
)
"""Files of a job that the page links to."""


def study_name(folders: Sequence[Path], jobs: Sequence[StoredJob]) -> str:
    """The names in the studies' configs, or those of their folders."""
    names: Any = {job.config.get("name") for job in jobs} - {None, "run"}
    names = sorted(names) or [folder.resolve().name for folder in folders]
    return words.some(list(dict.fromkeys(names)))


def facts(folders: Sequence[Path], jobs: Sequence[StoredJob]) -> list[str]:
    """How many runs, lanes, jobs and folders there are, and the latest date."""
    counts = collections.Counter[str]()
    for job in jobs:
        counts[_unit(job)] += len(job.summary)
    found = [words.count(number, unit) for unit, number in counts.items()]
    found.append(words.count(len(jobs), "job"))
    if len(set(folders)) > 1:
        found.append(f"of {len(set(folders))} folders")
    if unfinished := sum(not job.complete for job in jobs):
        found.append(f"{unfinished} of them not complete")
    days = sorted(str(job.manifest.get("finished") or "")[:10] for job in jobs)
    return found + [day for day in days[-1:] if day]


def environment(contents: Contents) -> list[tuple[str, str]]:
    """(label, value), all distinct values where jobs differ."""
    found: dict[str, dict[str, None]] = {}

    def add(label: str, value: Any) -> None:
        if value not in (None, ""):
            found.setdefault(label, {})[str(value)] = None

    for job in contents.jobs:
        manifest = job.manifest
        for key, label in ENVIRONMENT.items():
            value = manifest.get(key)
            if key == "commit" and value and manifest.get("dirty"):
                value = f"{value}, with uncommitted changes"
            add(label, value)
        for package, version in (manifest.get("versions") or {}).items():
            add(package, version)
        dataset = job.summary["dataset"].iloc[0]
        add(f"SHA-256 of {dataset}", manifest.get("data_checksum"))
    seconds = [float(s) for s in contents.summary["compile_seconds"] if s == s]
    if seconds:
        longest = words.duration(max(seconds))
        add("compilation", f"up to {longest} per run, not included in other times")
    return [(label, " · ".join(values)) for label, values in found.items()]


def job_details(target: Path, job: StoredJob) -> dict[str, Any]:
    """A job: its title, command, config, and links to its files from ``target``."""
    row = {"solver": "", "dataset": "", "loss": "", **job.summary.iloc[0]}
    state = "" if job.complete else ", not complete"
    inside = Path(os.path.relpath(job.path, target)).as_posix()
    there = {*job.manifest.get("files", DATA_FILES), "manifest.json"}
    return {
        "title": f"{row['solver']} on {row['dataset']}, {row['loss']}{_purpose(job)}",
        "runs": words.count(len(job.summary), _unit(job)) + state,
        "command": job.manifest.get("command") or "",
        "config": yaml.safe_dump(job.config, sort_keys=False, allow_unicode=True),
        "files": [
            (name, quote(f"{inside}/{name}")) for name in LINKED if name in there
        ],
        "key": job.key,
    }


def _unit(job: StoredJob) -> str:
    """What a row of a job's summary is."""
    return "run" if job.kind == "runs" else "lane"


def _purpose(job: StoredJob) -> str:
    """What a job of lanes was for."""
    if method := job.manifest.get("method"):
        return f": p by {method}"
    if swept := job.manifest.get("settings"):
        return f": {words.listed(swept)}"
    return ""
