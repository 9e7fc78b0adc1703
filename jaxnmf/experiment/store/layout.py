"""What a job's folder contains and how it is named: shared by readers and writers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

SUMMARY_COLUMNS = (
    "run",
    "dataset",
    "loss",
    "solver",
    "rank",
    "seed",
    "objective",
    "error",
    "relative_error",
    "iterations",
    "seconds",
    "compile_seconds",
    "kkt",
    "status",
)
METRIC_COLUMNS = (
    "rmse",
    "mae",
    "ndcg10",
    "validation_rmse",
    "accuracy",
    "ari",
    "nmi",
    "npmi",
    "umass",
    "diversity",
    "match_score",
    "sparsity_W",
    "sparsity_H",
)
# Of ratings: what a run is compared with, on the same split.
BASELINES = {"mean": "global mean", "offsets": "user and item offsets"}
PREDICTION_COLUMNS = ("rmse", "mae", "ndcg10", "validation_rmse")
TRACE_COLUMNS = ("run", "iteration", "seconds", "objective", "error", "kkt")

DATA_FILES = ("config.yaml", "summary.parquet", "trace.parquet", "factors.npz")
PAGE = "report.html"
FORMAT = 2  # of a job's folder; any other is refused


Pair = tuple[np.ndarray, np.ndarray]


class StoredRun(NamedTuple):
    """What a run leaves in the store."""

    row: dict[str, Any]  # of the summary
    trace: pd.DataFrame
    factors: Pair
    offsets: Pair | None = None


class JobResults(NamedTuple):
    """The results of a job: the arguments of `write_job` that describe its runs."""

    trace: pd.DataFrame
    summary: pd.DataFrame
    factors: dict[str, Pair]
    offsets: dict[str, Pair | None] | None = None
    choice: pd.DataFrame | None = None
    evidence: dict[int, dict[str, np.ndarray]] | None = None
    manifest: dict[str, Any] | None = None  # what it adds there

    @classmethod
    def of(cls, done: Sequence[StoredRun]) -> JobResults:
        """Of runs in their order."""
        return cls(
            trace=pd.concat([one.trace for one in done], ignore_index=True),
            summary=pd.DataFrame([one.row for one in done]),
            factors={one.row["run"]: one.factors for one in done},
            offsets={one.row["run"]: one.offsets for one in done},
        )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into a ValueError that names the folder."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"folder: {str(path)!r} cannot be written: {error}") from error


def job_path(folder: Path, key: str) -> Path:
    """The folder of a complete job."""
    if not re.fullmatch(r"[\w+-][\w.+-]*", key):
        raise ValueError(f"key: {key!r} is not made of letters, digits and . + - _")
    return folder / "jobs" / key


def replaced_path(target: Path) -> Path:
    """Where the previous version of a job is while a new one takes its place."""
    return target.with_name(f".{target.name}~old")


def current_path(target: Path) -> Path | None:
    """The folder that contains the job now, or None."""
    # Checked twice: a job may be put in place between the first two checks.
    for path in (target, replaced_path(target), target):
        if (path / "manifest.json").is_file():
            return path
    return None


def file_sha256(path: Path) -> str:
    """The checksum of a file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error


def manifest_sha256(manifest: Mapping[str, Any]) -> str:
    """The checksum of a manifest without this entry."""
    rest = {k: v for k, v in manifest.items() if k != "sha256"}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(name: str, value: Mapping[str, Any], write: Callable[[dict], str]) -> str:
    """The text of a mapping of plain values, or a ValueError that names it."""
    try:
        return write(dict(value))
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{name}: only plain values can be stored: {error}") from None


def as_yaml(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def as_json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def named_arrays(
    factors: Mapping[str, Pair], offsets: Mapping[str, Pair | None]
) -> dict[str, np.ndarray]:
    """Factors and offsets of runs under the names of their archive."""
    arrays = {}
    for run, (W, H) in factors.items():
        arrays[f"W/{run}"], arrays[f"H/{run}"] = np.asarray(W), np.asarray(H)
    for run, pair in offsets.items():
        if pair is not None:
            arrays[f"b/{run}"], arrays[f"c/{run}"] = map(np.asarray, pair)
    return arrays
