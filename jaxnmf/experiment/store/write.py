"""Writes jobs so that a reader sees the old one or the new one, never a part."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxnmf._util.disk import npz
from jaxnmf.experiment.store.layout import (
    FORMAT,
    SUMMARY_COLUMNS,
    TRACE_COLUMNS,
    Pair,
    as_json,
    as_yaml,
    current_path,
    file_sha256,
    job_path,
    manifest_sha256,
    named_arrays,
    plain,
    replaced_path,
    writing,
)
from jaxnmf.experiment.store.lease import Busy


def write_job(
    folder: str | Path,
    key: str,
    *,
    config: Mapping[str, Any],
    manifest: Mapping[str, Any],
    trace: pd.DataFrame,
    summary: pd.DataFrame,
    factors: Mapping[str, Pair],
    offsets: Mapping[str, Pair | None] | None = None,
    choice: pd.DataFrame | None = None,
    evidence: Mapping[int, Mapping[str, np.ndarray]] | None = None,
    replace: bool = True,
) -> Path:
    """Write a job: readers see the old one or the new one, never a part.

    Args:
      folder: the study folder; made if it is missing.
      key: the job's name, a plain file name.
      config: the resolved config: plain dicts, lists, strings and numbers.
      manifest: plain values; ``files``, their SHA-256, is added here.
      trace, summary: with the columns of ``TRACE_COLUMNS`` and ``SUMMARY_COLUMNS``.
      factors: run → (W, H); runs may be missing.
      offsets: run → (b, c), offsets of rows and columns, or None where a run has none.
      choice, evidence: of a choice of p, as `StoredJob` returns them.
      replace: whether a complete job is replaced.

    Returns:
      The job's folder.

    Raises:
      Busy: another process has completed the job, without ``replace``.
      ValueError: when an argument is malformed or the folder cannot be written.
    """
    folder = Path(folder)
    target = job_path(folder, key)
    _check_tables(trace, summary, {**factors, **(offsets or {})})
    arrays = named_arrays(factors, offsets or {})
    text = plain("config", config, as_yaml)
    plain("manifest", manifest, as_json)

    stage = target.with_name(f".{key}~{uuid.uuid4().hex}")
    try:
        with writing(folder):
            stage.mkdir(parents=True)
            (stage / "config.yaml").write_text(text, encoding="utf-8")
            summary.to_parquet(stage / "summary.parquet", index=False)
            trace.to_parquet(stage / "trace.parquet", index=False)
            (stage / "factors.npz").write_bytes(npz(arrays))
            if choice is not None:
                choice.reset_index().to_parquet(stage / "choice.parquet", index=False)
                found = {
                    f"{rank}/{name}": np.asarray(array)
                    for rank, parts in (evidence or {}).items()
                    for name, array in parts.items()
                }
                (stage / "evidence.npz").write_bytes(npz(found))
            files = {path.name: file_sha256(path) for path in sorted(stage.iterdir())}
            whole = {**manifest, "format": FORMAT, "files": files}
            whole["sha256"] = manifest_sha256(whole)
            (stage / "manifest.json").write_text(as_json(whole), encoding="utf-8")
            for path in stage.iterdir():
                _sync(path)
            _sync(stage)
            (_replace if replace else _place)(stage, target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return target


def move_damaged(folder: Path, key: str, path: Path) -> Path:
    """Move an unusable folder of a job to ``damaged/``; returns its new path."""
    with writing(folder):
        damaged = folder / "damaged"
        damaged.mkdir(exist_ok=True)
        target = damaged / f"{key}-{uuid.uuid4().hex[:6]}"
        os.replace(path, target)
    return target


def _place(stage: Path, target: Path) -> None:
    """Give the staged folder its name, if that is free: one rename, which fails for
    all processes but the first."""
    try:
        os.replace(stage, target)
    except OSError:
        if current_path(target):
            raise Busy(target.name) from None
        raise
    _finish(target)


def _replace(stage: Path, target: Path) -> None:
    """Give the staged folder its name; until then the previous version stays.

    No portable call swaps two folders, so the previous version is renamed first. A
    process killed between the two renames leaves it there, where `current_path` finds
    it.
    """
    previous = replaced_path(target)
    if target.exists():
        shutil.rmtree(previous, ignore_errors=True)
        os.replace(target, previous)
    try:
        os.replace(stage, target)
    except BaseException:
        if previous.exists():
            os.replace(previous, target)
        raise
    _finish(target)


def _finish(target: Path) -> None:
    _sync(target.parent)
    # The previous version, and what killed writers of this job have left.
    for stale in target.parent.glob(f".{target.name}~*"):
        shutil.rmtree(stale, ignore_errors=True)


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
        raise ValueError(f"summary: run {twice!r} occurs twice")
    for name, others in (("trace", trace["run"].unique()), ("factors", factors)):
        if unknown := set(others) - set(runs):
            raise ValueError(f"{name}: run {min(unknown)!r} is not in summary")


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk before it gets its final name."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
