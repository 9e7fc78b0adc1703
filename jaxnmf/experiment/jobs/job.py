"""One job: a data set, a loss and a solver, run once and kept."""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxnmf import datasets
from jaxnmf._util.platform import cores
from jaxnmf._version import __version__
from jaxnmf.datasets import Dataset
from jaxnmf.distributed.processes import broadcast
from jaxnmf.experiment import config as configs
from jaxnmf.experiment.jobs.lanes import Selection, Settings
from jaxnmf.experiment.jobs.runs import Runs
from jaxnmf.experiment.jobs.specification import Specification
from jaxnmf.experiment.store import lease, stored
from jaxnmf.experiment.store.stored import StoredJob
from jaxnmf.experiment.store.unfinished import Unfinished
from jaxnmf.experiment.store.write import move_damaged, write_job
from jaxnmf.run import programs

RECORDED_VERSIONS = ("jax", "jaxlib", "optax", "numpy", "scipy", "hydra-core")
ENVIRONMENT = (
    "package_version",
    "commit",
    "versions",
    "device",
    "device_count",
    "xla_flags",
    "forced",
)
"""Keys of a manifest that must be equal for an interrupted job to resume."""


class Done(NamedTuple):
    """A complete job, and whether this call has run it."""

    job: StoredJob
    run_now: bool


def kind_of(specification: Specification) -> Any:
    """The class of a job."""
    if specification.select:
        return Selection
    return Settings if specification.settings else Runs


def run_job(
    config: Mapping[str, Any],
    folder: Path,
    *,
    force: bool = False,
    wait: bool = True,
    warn: Callable[[str], object] = lambda _: None,
    note: Callable[[str], object] = lambda _: None,
    limits: Mapping[str, int] | None = None,
    command: str = "",
    load: Callable[..., Dataset] = datasets.load,
) -> Done:
    """Run a job and store it, unless it is stored already.

    Args:
      config: a resolved `StudyConfig`.
      folder: the study folder.
      force: run a complete job again.
      wait: for another process that is running this job.
      warn: called with a message when a damaged job is run again.
      note: called with a sentence on how the data were read, and with what may be wrong
        about that.
      limits: run → iterations, for runs that end after so many and not by the clock.
      command: the command line, for the manifest.
      load: of data sets.

    Returns:
      The stored job, and whether this call has run it.

    Raises:
      ValueError: for a config that cannot be run, before anything is run.
      Busy: when another process is running it, without ``wait``; or has taken it over
        from this one, whose lease had expired.
    """
    begun = _now()
    name, options = configs.split_name(config["dataset"])
    dataset = load(name, **options)
    for sentence in how_read(dataset):
        note(sentence)
    specification = Specification.of(config, dataset)
    key = specification.key(dataset.checksum)
    if not force and (stored_job := _complete(folder, key)):
        return Done(stored_job, False)
    with programs.precision(specification.dtype):
        labels = configs.labels(config)
        job = kind_of(specification)(specification, dataset, labels)
        with lease.held(folder, key, wait) as own:
            # Another process may have completed it in the meantime.
            if not force and (stored_job := _complete(folder, key, warn)):
                return Done(stored_job, False)
            unfinished = Unfinished(folder, key, own.check)
            manifest = {
                **_manifest(config, job.kind, dataset),
                "command": command,
                "started": begun,
            }
            started = {**manifest, "runs": job.size, "forced": force}
            _check_environment(folder, unfinished, started, warn)
            unfinished.begin(dict(config), started)
            if getattr(job, "several_processes", False):
                asked = {"config": dict(config), "directory": os.getcwd()}
                asked |= {
                    "names": job.missing(unfinished),
                    "limits": dict(limits or {}),
                    "folder": str(folder.resolve()),
                    "key": key,
                }
                broadcast(asked)
            try:
                found = job.run(unfinished, limits or {})
            except ValueError:
                own.check()
                if unfinished.empty:
                    unfinished.discard()
                raise
            own.check()
            path = write_job(
                folder,
                key,
                config=dict(config),
                manifest={
                    **manifest,
                    **(found.manifest or {}),
                    "finished": _now(),
                    "complete": True,
                },
                trace=found.trace,
                summary=found.summary,
                factors=found.factors,
                offsets=found.offsets,
                choice=found.choice,
                evidence=found.evidence,
                replace=force,
            )
            return Done(stored.read_job(path), True)


def follow_job(asked: Mapping[str, Any]) -> None:
    """Take part in a job that the first process runs and stores.

    Args:
      asked: what `run_job` broadcast.

    Raises:
      RuntimeError: this process cannot make the job, and so not take part.
    """
    config = asked["config"]
    with programs.precision(config["dtype"]):
        try:
            with contextlib.chdir(asked["directory"]):
                name, options = configs.split_name(config["dataset"])
                dataset = datasets.load(name, **options)
                specification = Specification.of(config, dataset)
            job = Runs(specification, dataset, configs.labels(config))
        except (OSError, ValueError) as error:
            raise RuntimeError(f"this process cannot take part: {error}") from error
        # What is wrong with the runs the first process says.
        with contextlib.suppress(ValueError):
            unfinished = Unfinished(asked["folder"], asked["key"])
            job.follow(asked["names"], asked["limits"], unfinished)


def _complete(
    folder: Path, key: str, warn: Callable[[str], object] | None = None
) -> StoredJob | None:
    """The complete job of a key, None where there is none.

    With ``warn``, which needs the lock of the job, a damaged one is moved aside with a
    warning; without, it is left.
    """
    if (there := stored.find_job(folder, key)) is None:
        return None
    try:
        return stored.read_job(folder / "jobs" / key)
    except ValueError as error:
        if isinstance(error.__cause__, OSError):  # unreadable now, perhaps not damaged
            raise
        if warn is not None:
            kept = move_damaged(folder, key, there)
            warn(f"{error}; it is run again, and the old files are in {kept}")
        return None


def _check_environment(
    folder: Path,
    unfinished: Unfinished,
    manifest: Mapping[str, Any],
    warn: Callable[[str], object],
) -> None:
    """Move aside an interrupted job that was started in another environment."""
    if unfinished.empty:
        return
    before = unfinished.manifest()
    if before is None:
        found = "has a manifest that cannot be read"
    else:
        other = [k for k in ENVIRONMENT if before.get(k) != manifest[k]]
        found = f"was started with another {', '.join(other)}" if other else ""
    if found:
        kept = move_damaged(folder, unfinished.key, unfinished.path)
        warn(
            f"{unfinished.key} {found}; it is started again, and the old files are in "
            f"{kept}"
        )


def how_read(dataset: Dataset) -> list[str]:
    """How a data set was read from its file, and what may be wrong about that."""
    said = [f"{dataset.name}: {doubt}" for doubt in dataset.doubts]
    if not dataset.assumed:
        return said
    m, n = dataset.shape
    return [f"{dataset.name}: {m}×{n}, read with {dataset.read_as}", *said]


def _manifest(config: Mapping[str, Any], kind: str, dataset: Dataset) -> dict[str, Any]:
    device = jax.devices()[0]
    commit, dirty = _commit()
    return {
        "kind": kind,
        "package_version": __version__,
        "versions": {name: version(name) for name in RECORDED_VERSIONS},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device.platform}: {device.device_kind}",
        "device_count": jax.device_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "cores": cores(),
        "dtype": config["dtype"],
        "precision": programs.PRECISION,
        "commit": commit,
        "dirty": dirty,
        "data_checksum": dataset.checksum,
        "data_assumed": dict(dataset.assumed),
        "data_doubts": list(dataset.doubts),
    }


@functools.cache
def _commit() -> tuple[str | None, bool | None]:
    """The commit of the checkout that this package runs from, and whether it has local
    changes."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(here), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    tracked = git("ls-files", "--error-unmatch", Path(__file__).name)
    if tracked is None:
        return None, None
    status = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD"), None if status is None else bool(status)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
