"""Stored jobs: a study folder with one folder a job, each whole or not there.

    study/jobs/<key>/config.yaml       the resolved config, a plain dict
                     manifest.json     versions, device, checksums (of these files too)
                     summary.parquet   a row a run
                     trace.parquet     a row a record
                     factors.npz       W/<run> and H/<run>, no pickles; where there are
                                       offsets b/<run> (rows) and c/<run> (columns)
                     choice.parquet    of a choice of p: its measures, a row a rank
                     evidence.npz      and the arrays of its figures
          jobs/.<key>~runs/<run>.npz   of a job in progress: each run that ended, and
                                       a checkpoint of the current one
          jobs/.<key>.lease/<number>   which process runs it (`lease`)
          queue/<hash>.json            a job as it was asked for (`queue`)

A job is one data set, loss and solver; its runs are rank × seed. `Unfinished` is the
last of these folders; it is removed once the job is complete.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from jaxnmf._util.disk import read_arrays, read_json
from jaxnmf._version import __version__
from jaxnmf.experiment.store.layout import (
    DATA_FILES,
    FORMAT,
    Pair,
    current_path,
    file_sha256,
    job_path,
    manifest_sha256,
)
from jaxnmf.experiment.store.unfinished import Unfinished


@dataclass(frozen=True, eq=False)
class StoredJob:
    """A job as read back; factors stay on disk until they are needed."""

    path: Path
    config: dict[str, Any]
    manifest: dict[str, Any]
    trace: pd.DataFrame
    summary: pd.DataFrame

    @property
    def key(self) -> str:
        """The name of the job."""
        return re.sub(r"^\.|~\w+$", "", self.path.name)

    @property
    def complete(self) -> bool:
        """False while runs are missing."""
        return self.manifest["complete"]

    @property
    def kind(self) -> str:
        """ "runs" that are timed, "settings" swept in lanes, or "selection" of p."""
        return self.manifest["kind"]

    def check_data(self, checksum: str) -> None:
        """Raise a ValueError if the data set has another checksum than the job's."""
        recorded = self.manifest.get("data_checksum")
        if recorded not in (None, checksum):
            name = (self.config.get("dataset") or {}).get("name")
            name = next(iter(self.summary["dataset"]), name)
            raise ValueError(
                f"{self.key}: the data {name!r} have changed: SHA-256 "
                f"{checksum[:12]}… now, {recorded[:12]}… in the manifest"
            )

    def factors(self, run: str) -> Pair:
        """W (m, p) and H (p, n) of a run.

        Raises:
          ValueError: when no factors were stored for that run.
        """
        pair = self._pair("WH", run)
        if pair is None:
            raise ValueError(
                f"run: {self.path} contains no factors of {run!r}; its runs are "
                f"{', '.join(self.summary['run'])}"
            )
        return pair

    def offsets(self, run: str) -> Pair | None:
        """The offsets of rows (m,) and columns (n,) of a run, None for none."""
        return self._pair("bc", run)

    def choice(self) -> pd.DataFrame | None:
        """The measures of a choice of p, by rank; None for other jobs."""
        path = self.path / "choice.parquet"
        return _parse(path, _parquet).set_index("rank") if path.is_file() else None

    def evidence(self) -> dict[int, dict[str, np.ndarray]]:
        """{rank: {name: array}}: the arrays of the figures of a choice of p."""
        found: dict[int, dict[str, np.ndarray]] = {}
        path = self.path / "evidence.npz"
        for name, array in read_arrays(path).items() if path.is_file() else ():
            rank, _, what = name.partition("/")
            found.setdefault(int(rank), {})[what] = array
        return found

    def _pair(self, names: str, run: str) -> Pair | None:
        whole = self.path / "factors.npz"
        path = whole if whole.is_file() else self.path / f"{run}.npz"
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            one, other = (f"{name}/{run}" for name in names)
            return (arrays[one], arrays[other]) if one in arrays else None


def find_job(folder: str | Path, key: str) -> Path | None:
    """The folder of a job, whole or damaged; None where there is none."""
    return current_path(job_path(Path(folder), key))


def read_job(path: str | Path) -> StoredJob:
    """Read one job folder and verify its checksums.

    Raises:
      ValueError: names the file that is missing, malformed or not as it was written.
    """
    path = Path(path)
    while True:
        before = _manifest_bytes(path)
        try:
            return _read(current_path(path) or path)
        except ValueError:
            # A job replaced while it was being read is not corrupt.
            if _manifest_bytes(path) == before:
                raise


def verify(folder: str | Path, key: str) -> None:
    """Check that every file of a job is as it was written.

    Raises:
      ValueError: names the first that is not.
    """
    target = job_path(Path(folder), key)
    _verified(current_path(target) or target)


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
        if part is None and find_job(folder, key):  # it has just ended
            part = read_job(jobs / key)
        found += [] if part is None else [part]
    return sorted(found, key=lambda job: job.key)


def _manifest_bytes(target: Path) -> bytes | None:
    """Identifies one version of a job."""
    try:
        return ((current_path(target) or target) / "manifest.json").read_bytes()
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
    """The manifest of a job, after its own checksum and those of its files."""
    manifest = _parse(path / "manifest.json", json.loads)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict):
        raise ValueError(f"{path / 'manifest.json'}: has no checksums under 'files'")
    _check_format(path, manifest)
    if manifest.get("sha256") != manifest_sha256(manifest):
        raise ValueError(f"{path / 'manifest.json'}: was changed since it was written")
    for name in dict.fromkeys((*DATA_FILES, *files)):
        if not (path / name).is_file():
            raise ValueError(f"{path / name}: is missing")
        if (found := file_sha256(path / name)) != files.get(name):
            raise ValueError(
                f"{path / name}: is not the file that was written: SHA-256 "
                f"{found[:12]}…, the manifest says {str(files.get(name))[:12]}…"
            )
    return manifest


def _read_unfinished(parts: Unfinished) -> StoredJob | None:
    """An unfinished job with the runs that have ended; None before the first."""
    found = [done for run in parts.runs() if (done := parts.read(run)) is not None]
    manifest = parts.manifest()
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


def check_formats(folder: str | Path) -> None:
    """Refuse a study folder that contains a job of another format.

    Raises:
      ValueError: names the job's folder, its format and the version that wrote it.
    """
    for path in sorted(Path(folder).glob("jobs/*/manifest.json")):
        try:
            manifest = read_json(path)
        except (OSError, ValueError):  # damaged: its job is run again
            continue
        if "format" in manifest:
            _check_format(path.parent, manifest)


def _check_format(path: Path, manifest: Mapping[str, Any]) -> None:
    if (found := manifest.get("format")) != FORMAT:
        raise ValueError(
            f"{path}: was written by jaxnmf {manifest.get('package_version')} in "
            f"format {found}; jaxnmf {__version__} reads format {FORMAT}"
        )


def _parquet(data: bytes) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(data))


def _parse(path: Path, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: is malformed: {error}") from error
