"""Studies: Hydra composes the jobs of a grid, each is run, and a report is built."""

from __future__ import annotations

import datetime
import functools
import math
import os
import re
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from omegaconf.errors import MissingMandatoryValue
from rich.console import Console

from jaxnmf import datasets
from jaxnmf.build import UnsupportedError
from jaxnmf.experiment import command_cache, tracking
from jaxnmf.experiment.config import labels, register_configs, resolved, split_name
from jaxnmf.experiment.errors import one_line
from jaxnmf.experiment.jobs import job
from jaxnmf.experiment.overrides import as_overrides, quoted
from jaxnmf.experiment.store import outcomes, stored
from jaxnmf.experiment.store.layout import PAGE
from jaxnmf.experiment.watch import Watch


def run_study(
    overrides: Sequence[str],
    console: Console,
    *,
    config_dir: str | None = None,
    force: bool = False,
) -> Path:
    """Run every job of a study and build its report; returns the study folder.

    A launcher of Hydra may spread the jobs over processes or machines, and several
    calls may work on one folder: each job is run once.

    Args:
      overrides: Hydra's, ``key=value``.
      console: where tables are printed.
      config_dir: a folder with the user's own configs.
      force: run complete jobs again.

    Raises:
      ValueError: for a folder that cannot be used, before any job; otherwise the first
        error, after all other jobs have been run.
    """
    register_configs()
    asked, overrides = overrides, as_overrides(overrides)
    given = [o.removeprefix("folder=") for o in overrides if o.startswith("folder=")]
    folder = Path(_unquoted(given[-1])) if given else _new_folder()
    folder = folder.expanduser().resolve()
    cached = command_cache.fingerprint(overrides, config_dir, folder)
    if cached and not force and (folder / PAGE).is_file():
        complete = command_cache.count_complete(folder, cached)
        if complete:
            _print_complete(folder, complete, console)
            return folder
    new = _check_writable(folder)
    stored.check_formats(folder)
    arguments = [o for o in overrides if not o.startswith("folder=")]
    arguments.append(f"folder={quoted(str(folder))}")
    if config_dir is not None:
        arguments = ["--config-dir", config_dir, *arguments]
    saved, sys.argv = sys.argv, ["jaxnmf", *arguments]
    # Hydra would print its own traceback and exit; here errors are one line.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    call = uuid.uuid4().hex
    # Not taken from sys.argv where a job runs: a launcher's processes have their own.
    options = ["--force"] * force
    options += [] if config_dir is None else ["--config-dir", config_dir]
    command = shlex.join(["jaxnmf", "run", *options, *asked])
    task = functools.partial(_task, call, command)
    ended: list[dict[str, Any]] = []
    unreported: list[str] = []
    try:
        with Watch(folder, call):
            _hydra(task(force=force, wait=False))
            first = outcomes.read(folder, call)
            if any(one["status"] == "in progress" for one in first):
                # Wait for the other process, or run its job if it was killed.
                kept = ("run", "warning", "note")
                ended = [one for one in first if one["status"] in kept]
                outcomes.clear(folder, call)
                _hydra(task(force=False, wait=True))
    finally:
        sys.argv = saved
        ended = [*ended, *outcomes.read(folder, call)]
        outcomes.clear(folder, call)
        try:
            _print_outcomes(folder, ended, console)
        except ValueError as error:  # errors of the jobs come first
            unreported = [one_line(error)]
        if new and not any(path.is_dir() for path in folder.glob("jobs/*")):
            shutil.rmtree(folder, ignore_errors=True)  # only Hydra's files
    failed = [*_messages(ended, "failed"), *unreported]
    skipped = _messages(ended, "skipped")
    if failed:
        raise ValueError(failed[0])
    if skipped and not any(one["status"] in ("run", "done before") for one in ended):
        raise ValueError(skipped[0])
    if cached:
        command_cache.add(folder, cached, ended)
    return folder


class _Datasets:
    """The data sets of a report's jobs, each loaded once."""

    def __init__(self) -> None:
        self._loaded: dict[str, datasets.Dataset] = {}

    def load(self, name: str, options: Mapping[str, Any]) -> datasets.Dataset:
        """The data set of a job."""
        given = {key: value for key, value in options.items() if value is not None}
        key = repr((name, given))
        if key not in self._loaded:
            self._loaded[key] = datasets.load(name, **given)
        return self._loaded[key]

    def check(self, job: stored.StoredJob) -> None:
        """Raise a ValueError if the data of a job have changed; the page says if they
        cannot be loaded."""
        try:
            dataset = self.load(*split_name(job.config["dataset"]))
        except ValueError:
            return
        job.check_data(dataset.checksum)


def print_report(
    folders: Sequence[Path],
    console: Console,
    skipped: Sequence[str] = (),
    *,
    target: str | Path | None = None,
    jobs: Sequence[stored.StoredJob] | None = None,
    figures: bool = False,
    check_data: bool = False,
) -> None:
    """Build report.html from study folders and print its tables.

    Args:
      folders: the study folders.
      console: where tables are printed.
      skipped: reasons why jobs were skipped, to be printed.
      target: the folder of the page; needed where there are several folders.
      jobs: the jobs of the folders, where they have been read already.
      figures: as in `report.build_report`.
      check_data: raise an error, after the report is written, if the data of a job have
        changed.

    Raises:
      ValueError: a folder has no jobs or a corrupt one, or the data have changed. The
        page then has the tables, but no pictures of these data.
    """
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"folder: {str(folder)!r} is not a study folder")
    # Imported here: matplotlib takes as long to import as everything else.
    from jaxnmf.experiment import report

    jobs = report.merged(folders) if jobs is None else jobs
    summary, trace = report.gather(jobs)
    report.print_table(report.comparison_table(summary, trace), console)
    report.print_predictions(report.prediction_table(summary), console)
    report.print_choices(report.choices_table(jobs), console)
    report.print_sensitivity(report.sensitivity_table(jobs), console)
    used = _Datasets()
    page = report.build_report(
        folders,
        target=target,
        load_dataset=used.load,
        jobs=jobs,
        figures=figures,
    )
    for reason in skipped:
        _print(console, f"skipped: {reason}")
    _print(console, f"report: {page}")
    if check_data:
        for each in jobs:
            used.check(each)


def _hydra(task: Any) -> None:
    """Compose the config of every job given by ``sys.argv`` and run the task on it."""
    hydra.main(
        config_path="pkg://jaxnmf.configs", config_name="config", version_base="1.3"
    )(task)()


def _task(call: str, command: str, *, force: bool, wait: bool) -> Any:
    """The function that Hydra calls for each job, perhaps in another process. It
    returns the lowest error, for a sweeper that searches; NaN where there is none."""

    def task(config: Any) -> float:
        folder = Path(config.folder)
        add_outcome = functools.partial(outcomes.add, folder, call)
        started, names = time.monotonic(), {}
        try:
            plain = resolved(config)
            names = {x: plain[x]["name"] for x in ("dataset", "loss", "solver")}
            if plain["mlflow"]:
                tracking.require(plain["mlflow"])
            done = job.run_job(
                plain,
                folder,
                force=force,
                wait=wait,
                warn=lambda message: add_outcome("warning", message),
                note=lambda message: add_outcome("note", message),
                command=command,
            )
            if plain["mlflow"]:
                tracking.log_job(done.job, plain["mlflow"])
            summary = done.job.summary
            error = float(np.min(summary["error"]))
            checksum = done.job.manifest["data_checksum"]
            add_outcome(
                "run" if done.run_now else "done before",
                job=done.job.key,
                data=[*split_name(plain["dataset"]), checksum],
                names=labels(plain),
                runs=len(summary),
                error=error,
                seconds=time.monotonic() - started,
            )
            return error
        except job.Busy:
            add_outcome("in progress")
        except UnsupportedError as error:
            data = split_name(plain["dataset"])
            add_outcome("skipped", one_line(error), names=names, data=data)
        except MissingMandatoryValue as error:
            add_outcome("failed", f"{error.full_key} is missing: give it a value")
        except ValueError as error:
            # Raised at the end, after the other jobs of the study.
            add_outcome("failed", one_line(error), names=names)
        return math.nan

    return task


def _unquoted(text: str) -> str:
    """A value without the quotes of Hydra's grammar around it."""
    return text[1:-1] if re.fullmatch(r"'.*'|\".*\"", text) else text


def _messages(ended: Sequence[Mapping[str, Any]], status: str) -> list[str]:
    """The distinct messages of outcomes with a status, in order."""
    messages = (one["message"] for one in ended if one["status"] == status)
    return list(dict.fromkeys(messages))


def _print_outcomes(
    folder: Path, ended: Sequence[Mapping[str, Any]], console: Console
) -> None:
    """Print the notes and warnings of a call, and the report if there is anything
    new."""
    for message in _messages(ended, "note"):
        _print(console, f"data: {message}")
    for message in _messages(ended, "warning"):
        _print(console, f"warning: {message}")
    complete = sum(one["status"] == "done before" for one in ended)
    new = any(one["status"] not in ("done before", "skipped", "note") for one in ended)
    if (folder / PAGE).is_file() and complete and not new:
        _print_complete(folder, complete, console)
        return
    from jaxnmf.experiment import report

    if jobs := report.merged([folder]):
        print_report([folder], console, _messages(ended, "skipped"), jobs=jobs)


def _print_complete(folder: Path, jobs: int, console: Console) -> None:
    done = f"{jobs} job{'s' * (jobs > 1)} done before"
    _print(console, f"nothing to do: {done}\nreport: {folder / PAGE}")


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _new_folder() -> Path:
    """The path of a new study folder."""
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for suffix in ("", *(f"_{i}" for i in range(2, 1000))):
        folder = Path("runs") / f"{stamp}{suffix}"
        if not folder.exists():
            return folder
    raise ValueError(f"folder: runs/{stamp} and 998 numbered folders after it exist")


def _check_writable(folder: Path) -> bool:
    """Make the folder if it is missing; returns whether it was."""
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink(missing_ok=True)  # another call may have removed it
    except OSError as error:
        raise ValueError(
            f"folder: {str(folder)!r} cannot be written: {error.strerror or error}"
        ) from None
    return new
