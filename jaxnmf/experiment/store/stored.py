"""The run store: a study folder with one folder a job, each whole or not there.

    study/jobs/<key>/config.yaml       the resolved config, a plain dict
                     manifest.json     versions, device, checksums (of these files too)
                     summary.parquet   a row a run
                     trace.parquet     a row a record
                     factors.npz       W/<run> and H/<run>, no pickles; where there are
                                       offsets b/<run> (rows) and c/<run> (columns)
                     choice.parquet    of a choice of p: its measures, a row a rank
                     evidence.npz      and what its pictures show
          jobs/.<key>~runs/<run>.npz   of a job still running: each run that ended, and
                                       how far the one under way is

A job is one data set, loss and solver; its runs are rank × seed. `Unfinished` is the
last of these folders; it is gone once the job stands.
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

from jaxnmf._util.disk import npz, read_arrays
from jaxnmf.experiment.jobs.unfinished import Unfinished
from jaxnmf.experiment.store.layout import (
    DATA_FILES,
    FORMAT,
    SUMMARY_COLUMNS,
    TRACE_COLUMNS,
    as_json,
    as_yaml,
    job_path,
    named_arrays,
    plain,
    writing,
)


@dataclass(frozen=True, eq=False)
class StoredJob:
    """One job as read back; the factors stay on disk until asked for.

    ``choice`` and ``evidence`` are those of a choice of p, else None and empty.
    """

    path: Path
    config: dict[str, Any]
    manifest: dict[str, Any]
    trace: pd.DataFrame
    summary: pd.DataFrame

    @property
    def key(self) -> str:
        """The name the job was written under."""
        return re.sub(r"^\.|~\w+$", "", self.path.name)

    @property
    def complete(self) -> bool:
        """False while runs are still missing."""
        return bool(self.manifest.get("complete", True))

    @property
    def kind(self) -> str:
        """ "runs" that are timed, "settings" swept in lanes, or "selection" of p."""
        return self.manifest.get("kind", "runs")

    def factors(self, run: str) -> tuple[np.ndarray, np.ndarray]:
        """W (m, p) and H (p, n) of one run.

        Raises:
          ValueError: when no factors were kept for that run.
        """
        pair = self._pair("WH", run)
        if pair is None:
            raise ValueError(
                f"run: {self.path} holds no factors of {run!r}; it has the runs "
                f"{', '.join(self.summary['run'])}"
            )
        return pair

    def offsets(self, run: str) -> tuple[np.ndarray, np.ndarray] | None:
        """The offsets of rows (m,) and columns (n,) of one run, None for none."""
        return self._pair("bc", run)

    def choice(self) -> pd.DataFrame | None:
        """The measures of a choice of p, by rank."""
        path = self.path / "choice.parquet"
        return _parse(path, _parquet).set_index("rank") if path.is_file() else None

    def evidence(self) -> dict[int, dict[str, np.ndarray]]:
        """{rank: {name: array}}: what the pictures of a choice of p show."""
        found: dict[int, dict[str, np.ndarray]] = {}
        path = self.path / "evidence.npz"
        for name, array in read_arrays(path).items() if path.is_file() else ():
            rank, _, what = name.partition("/")
            found.setdefault(int(rank), {})[what] = array
        return found

    def _pair(self, names: str, run: str) -> tuple[np.ndarray, np.ndarray] | None:
        whole = self.path / "factors.npz"
        path = whole if whole.is_file() else self.path / f"{run}.npz"
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            one, other = (f"{name}/{run}" for name in names)
            return (arrays[one], arrays[other]) if one in arrays else None


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
    choice: pd.DataFrame | None = None,
    evidence: Mapping[int, Mapping[str, np.ndarray]] | None = None,
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
      choice, evidence: of a choice of p, as `StoredJob` gives them.

    Returns:
      The job's folder.

    Raises:
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
            files = {path.name: _sha256(path) for path in sorted(stage.iterdir())}
            whole = {**manifest, "format": FORMAT, "files": files}
            whole["sha256"] = _own_sha256(whole)
            (stage / "manifest.json").write_text(as_json(whole), encoding="utf-8")
            for path in stage.iterdir():
                _sync(path)
            _sync(stage)
            _put(stage, target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return target


def set_aside(folder: Path, key: str, path: Path) -> Path:
    """Move what cannot be used of a job out of the way, to ``damaged/``; returns where
    it is."""
    with writing(folder):
        kept = folder / "damaged"
        kept.mkdir(exist_ok=True)
        target = kept / f"{key}-{uuid.uuid4().hex[:6]}"
        os.replace(path, target)
    return target


def place(folder: str | Path, key: str) -> Path | None:
    """Where a job of this key stands, complete or not; None where none does."""
    return _standing(job_path(Path(folder), key))


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


def verify(folder: str | Path, key: str) -> None:
    """See that a job stands whole, every file as it was written.

    Raises:
      ValueError: names the file that is not.
    """
    target = job_path(Path(folder), key)
    _verified(_standing(target) or target)


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
    running = {name[1:-5] for name in names if re.fullmatch(r"\..+~runs", name)}
    found = [read_job(jobs / key) for key in sorted(keys)]
    for key in running - keys:
        part = _read_unfinished(Unfinished(folder, key))
        if part is None and place(folder, key):  # it has just been finished
            part = read_job(jobs / key)
        found += [] if part is None else [part]
    return sorted(found, key=lambda job: job.key)


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
    manifest = _verified(path)
    return StoredJob(
        path=path,
        config=_parse(path / "config.yaml", yaml.safe_load),
        manifest=manifest,
        trace=_parse(path / "trace.parquet", _parquet),
        summary=_parse(path / "summary.parquet", _parquet),
    )


def _verified(path: Path) -> dict[str, Any]:
    """The manifest of a job, once all it says of itself and the files is true."""
    manifest = _parse(path / "manifest.json", json.loads)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict):
        raise ValueError(f"{path / 'manifest.json'}: has no checksums under 'files'")
    _check_format(path, manifest)
    if manifest.get("sha256") != _own_sha256(manifest):
        raise ValueError(f"{path / 'manifest.json'}: was changed since it was written")
    for name in dict.fromkeys((*DATA_FILES, *files)):
        if not (path / name).is_file():
            raise ValueError(f"{path / name}: is missing")
        if (found := _sha256(path / name)) != files.get(name):
            raise ValueError(
                f"{path / name}: is not the file that was written: SHA-256 "
                f"{found[:12]}…, the manifest says {str(files.get(name))[:12]}…"
            )
    return manifest


def _read_unfinished(parts: Unfinished) -> StoredJob | None:
    """A job still running, or cut short, as far as it is; None before its first run."""
    found = [done for run in parts.runs() if (done := parts.read(run)) is not None]
    manifest = parts.begun()
    if not found or manifest is None:
        return None
    _check_format(parts.path, manifest)
    try:
        config = _parse(parts.path / "config.yaml", yaml.safe_load)
    except ValueError:
        if parts.path.is_dir():
            raise
        return None
    return StoredJob(
        path=parts.path,
        config=config,
        manifest=manifest,
        trace=pd.concat([done.trace for done in found], ignore_index=True),
        summary=pd.DataFrame([done.row for done in found]),
    )


def _check_format(path: Path, manifest: Mapping[str, Any]) -> None:
    if (found := manifest.get("format", FORMAT)) != FORMAT:
        raise ValueError(
            f"{path}: was written by jaxnmf {manifest.get('package_version')} in "
            f"format {found}; this version reads format {FORMAT}"
        )


def _own_sha256(manifest: Mapping[str, Any]) -> str:
    """Of all that a manifest says but this."""
    rest = {k: v for k, v in manifest.items() if k != "sha256"}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


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


def _parse(path: Path, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: is malformed: {error}") from error


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error


def _sync(path: Path) -> None:
    """Have the file or folder reach the disk before it gets its final name."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
