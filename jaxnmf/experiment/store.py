"""The run store: a study folder with one folder a job, each whole or not there.

    study/jobs/<key>/config.yaml       the resolved config, a plain dict
                     manifest.json     versions, device, checksums (of these files too)
                     summary.parquet   a row a run
                     trace.parquet     a row a record
                     factors.npz       W/<run> and H/<run>, no pickles; where there are
                                       offsets b/<run> (rows) and c/<run> (columns)

A job is one data set, loss and solver; its runs are rank × seed. A job still running
is written again with every run that ends, ``manifest["complete"]`` False until the
last.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True, eq=False)
class StoredJob:
    """One job as read back; the factors stay on disk until asked for."""

    path: Path
    config: dict[str, Any]
    manifest: dict[str, Any]
    trace: pd.DataFrame
    summary: pd.DataFrame

    @property
    def key(self) -> str:
        """The name the job was written under."""
        return self.path.name.removeprefix(".").removesuffix("~old")

    @property
    def complete(self) -> bool:
        """False while runs are still missing."""
        return bool(self.manifest.get("complete", True))

    def factors(self, run: str) -> tuple[np.ndarray, np.ndarray]:
        """W (m, p) and H (p, n) of one run.

        Raises:
          ValueError: when no factors were kept for that run.
        """
        with np.load(self.path / "factors.npz", allow_pickle=False) as arrays:
            if f"W/{run}" not in arrays or f"H/{run}" not in arrays:
                kept = sorted(name[2:] for name in arrays if name.startswith("W/"))
                raise ValueError(
                    f"run: {self.path} holds no factors of {run!r}; it holds "
                    f"{', '.join(kept) or 'none'}"
                )
            return arrays[f"W/{run}"], arrays[f"H/{run}"]

    def offsets(self, run: str) -> tuple[np.ndarray, np.ndarray] | None:
        """The offsets of rows (m,) and columns (n,) of one run, None for none."""
        with np.load(self.path / "factors.npz", allow_pickle=False) as arrays:
            if f"b/{run}" not in arrays:
                return None
            return arrays[f"b/{run}"], arrays[f"c/{run}"]


def write_job(
    folder: str | Path,
    key: str,
    *,
    config: Mapping[str, Any],
    manifest: Mapping[str, Any],
    trace: pd.DataFrame,
    summary: pd.DataFrame,
    factors: Mapping[str, tuple[np.ndarray, np.ndarray]],
    offsets: Mapping[str, tuple[np.ndarray, np.ndarray] | None] | None = None,
) -> Path:
    """Write a job so that readers see the old one or the new one, never a part.

    Args:
      folder: the study folder; made if it is missing.
      key: the job's name, a plain file name.
      config: the resolved config, of plain dicts, lists, strings and numbers.
      manifest: what JSON can hold; ``files``, their SHA-256, is added here.
      trace, summary: with the columns of ``TRACE_COLUMNS`` and ``SUMMARY_COLUMNS``.
      factors: run → (W, H); runs may be left out.
      offsets: run → (b, c), offsets of rows and columns, or None where a run has none.

    Returns:
      The job's folder.

    Raises:
      ValueError: when an argument is malformed or the folder cannot be written.
    """
    folder = Path(folder)
    target = _job_path(folder, key)
    _check_tables(trace, summary, {**factors, **(offsets or {})})
    arrays = {}
    for run, (W, H) in factors.items():
        arrays[f"W/{run}"], arrays[f"H/{run}"] = np.asarray(W), np.asarray(H)
    for run, pair in (offsets or {}).items():
        if pair is not None:
            arrays[f"b/{run}"], arrays[f"c/{run}"] = map(np.asarray, pair)
    text = _plain("config", config, _yaml)
    _plain("manifest", manifest, _json)

    stage = target.with_name(f".{key}~{uuid.uuid4().hex}")
    try:
        stage.mkdir(parents=True)
        (stage / "config.yaml").write_text(text, encoding="utf-8")
        summary.to_parquet(stage / "summary.parquet", index=False)
        trace.to_parquet(stage / "trace.parquet", index=False)
        np.savez(stage / "factors.npz", allow_pickle=False, **arrays)
        files = {name: _sha256(stage / name) for name in DATA_FILES}
        (stage / "manifest.json").write_text(
            _json({**manifest, "files": files}), encoding="utf-8"
        )
        for name in (*DATA_FILES, "manifest.json"):
            _sync(stage / name)
        _sync(stage)
        _put(stage, target)
    except OSError as error:
        raise ValueError(
            f"folder: a job cannot be written into {str(folder)!r}: {error}"
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return target


def has_job(folder: str | Path, key: str) -> bool:
    """Whether a job of this key stands, complete or not."""
    return _standing(_job_path(Path(folder), key)) is not None


def read_job(path: str | Path) -> StoredJob:
    """Read one job folder and verify its checksums.

    Raises:
      ValueError: names the file that is missing, malformed or not as it was written.
    """
    path = Path(path)
    while True:
        before = _stamp(path)
        try:
            return _read(_standing(path) or path)
        except ValueError:
            # A job replaced while it was being read is no corrupt job.
            if _stamp(path) == before:
                raise


def read_jobs(folder: str | Path) -> list[StoredJob]:
    """Every job of a study, sorted by key; an empty list where there is none.

    Raises:
      ValueError: when a job is corrupt; it names the file.
    """
    jobs = Path(folder) / "jobs"
    if not jobs.is_dir():
        return []
    names = [path.name for path in jobs.iterdir() if path.is_dir()]
    keys = {name for name in names if not name.startswith(".")}
    keys |= {name[1:-4] for name in names if re.fullmatch(r"\..+~old", name)}
    return [read_job(jobs / key) for key in sorted(keys)]


def _job_path(folder: Path, key: str) -> Path:
    if not re.fullmatch(r"[\w+-][\w.+-]*", key):
        raise ValueError(f"key: {key!r} is not made of letters, digits and . + - _")
    return folder / "jobs" / key


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}~old")


def _put(stage: Path, target: Path) -> None:
    """Give the staged folder its name; the job it replaces stands until then.

    No portable call swaps two folders, so the old one steps aside first. A process
    killed between the two renames leaves it there, where `_standing` finds it.
    """
    aside = _aside(target)
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(target, aside)
    try:
        os.replace(stage, target)
    except BaseException:
        if aside.exists():
            os.replace(aside, target)
        raise
    _sync(target.parent)
    # The set-aside job, and what writers of this job that were killed have left.
    for stale in target.parent.glob(f".{target.name}~*"):
        shutil.rmtree(stale, ignore_errors=True)


def _standing(target: Path) -> Path | None:
    """The folder that holds the job now, or None."""
    # The last look is for a job that was put in place between the first two.
    for path in (target, _aside(target), target):
        if (path / "manifest.json").is_file():
            return path
    return None


def _stamp(target: Path) -> bytes | None:
    """What tells one writing of a job from another."""
    try:
        return ((_standing(target) or target) / "manifest.json").read_bytes()
    except OSError:
        return None


def _read(path: Path) -> StoredJob:
    manifest = _parse(path / "manifest.json", json.loads)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict):
        raise ValueError(f"{path / 'manifest.json'}: has no checksums under 'files'")
    for name in DATA_FILES:
        if not (path / name).is_file():
            raise ValueError(f"{path / name}: is missing")
        if (found := _sha256(path / name)) != files.get(name):
            raise ValueError(
                f"{path / name}: is not the file that was written: SHA-256 "
                f"{found[:12]}…, the manifest says {str(files.get(name))[:12]}…"
            )
    return StoredJob(
        path=path,
        config=_parse(path / "config.yaml", yaml.safe_load),
        manifest=manifest,
        trace=_parse(path / "trace.parquet", _parquet),
        summary=_parse(path / "summary.parquet", _parquet),
    )


def _parquet(data: bytes) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(data))


def _check_tables(
    trace: pd.DataFrame, summary: pd.DataFrame, factors: Mapping[str, Any]
) -> None:
    for name, table, columns in (
        ("summary", summary, SUMMARY_COLUMNS),
        ("trace", trace, TRACE_COLUMNS),
    ):
        if missing := [column for column in columns if column not in table]:
            raise ValueError(
                f"{name}: has no column {', '.join(missing)}; found "
                f"{', '.join(map(str, table.columns)) or 'none'}"
            )
    runs = list(summary["run"])
    if len(set(runs)) < len(runs):
        twice = max(runs, key=runs.count)
        raise ValueError(f"summary: run {twice!r} stands there twice")
    for name, others in (("trace", trace["run"].unique()), ("factors", factors)):
        if unknown := set(others) - set(runs):
            raise ValueError(f"{name}: run {min(unknown)!r} is not in summary")


def _plain(name: str, value: Mapping[str, Any], write: Callable[[dict], str]) -> str:
    try:
        return write(dict(value))
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{name}: only plain values can be kept: {error}") from None


def _yaml(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def _parse(path: Path, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: is malformed: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Have the file or folder reach the disk before it gets its final name."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
