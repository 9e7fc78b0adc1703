"""Studies: Hydra composes the jobs of a grid, each is run, and a report is built."""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf.errors import MissingMandatoryValue
from rich.console import Console

from jaxnmf import datasets
from jaxnmf.experiment import command_cache
from jaxnmf.experiment.config import register_configs, resolved, split_name
from jaxnmf.experiment.errors import one_line
from jaxnmf.experiment.overrides import as_overrides, quoted
from jaxnmf.experiment.store import outcomes, queue, stored
from jaxnmf.experiment.store.layout import PAGE
from jaxnmf.experiment.watch import Watch
from jaxnmf.experiment.worker import Worker


def run_study(
    overrides: Sequence[str],
    console: Console,
    *,
    config_dir: str | None = None,
    force: bool = False,
    only_queue: bool = False,
) -> Path:
    """Run every job of a study and build its report; returns the study folder.

    The folder has a queue of the jobs, so that others may take some (`work`). A
    launcher of Hydra may spread them over processes or machines, and several calls may
    work on one folder: each job is run once.

    Args:
      overrides: Hydra's, ``key=value``.
      console: where tables are printed.
      config_dir: a folder with the user's own configs.
      force: run complete jobs again.
      only_queue: put the jobs into the queue, and run none.

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
    if cached and not (force or only_queue) and (folder / PAGE).is_file():
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
    worker = Worker(folder, call)
    jobs: list[queue.Job] = []
    ended: list[dict[str, Any]] = []
    unreported: list[str] = []

    def run(*, force: bool = False, wait: bool = False) -> None:
        for job in jobs:
            worker.run(job, force=force, wait=wait)

    try:
        with Watch(folder, call):
            _hydra(_task(worker, command, jobs, force=force, run=not only_queue))
            if not only_queue:
                run(force=force)
            while True:
                last = outcomes.read(folder, call)
                if not any(one["status"] == "in progress" for one in last):
                    break
                # Wait for the other process, or run its job if it was killed.
                kept = ("run", "warning", "note")
                ended += [one for one in last if one["status"] in kept]
                outcomes.clear(folder, call)
                if jobs:
                    run(wait=True)
                else:
                    _hydra(_task(worker, command, [], wait=True))
    finally:
        sys.argv = saved
        ended = [*ended, *outcomes.read(folder, call)]
        outcomes.clear(folder, call)
        try:
            if only_queue:
                _print_queue(folder, len(jobs), console)
            else:
                _print_outcomes(folder, ended, console)
        except ValueError as error:  # errors of the jobs come first
            unreported = [one_line(error)]
        if new and not (only_queue and jobs) and not _has_results(folder):
            shutil.rmtree(folder, ignore_errors=True)  # only Hydra's files
    _raise_first(ended, unreported)
    if cached and not only_queue:
        command_cache.add(folder, cached, ended)
    return folder


def work(folder: Path, console: Console, *, wait: bool = False) -> None:
    """Run jobs of a study that another process began, until all are complete or in
    progress elsewhere; the process that sees all complete builds the report.

    Args:
      folder: the study folder, which names the jobs.
      console: where tables are printed.
      wait: for jobs that are in progress elsewhere, and run those whose process dies.

    Raises:
      ValueError: the folder has no jobs; otherwise the first error, after all other
        jobs have been run.
    """
    folder = folder.expanduser().resolve()
    jobs = queue.read(folder)
    _check_writable(folder)
    stored.check_formats(folder)
    register_configs()
    call = uuid.uuid4().hex
    ended: list[dict[str, Any]] = []
    try:
        with _interrupted_by_sigterm(), Watch(folder, call):
            elsewhere = Worker(folder, call).take(jobs, wait=wait)
    finally:
        ended = outcomes.read(folder, call)
        outcomes.clear(folder, call)
    run = sum(one["status"] == "run" for one in ended)
    _print(console, f"{run} of {len(jobs)} jobs run, {elsewhere} in progress elsewhere")
    if not elsewhere:
        _print_outcomes(folder, ended, console)
    _raise_first(ended)


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """End on SIGTERM, which schedulers send first, as on Ctrl-C: the lease of the job
    is then released at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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


def _task(
    worker: Worker,
    command: str,
    jobs: list[queue.Job],
    *,
    run: bool = True,
    force: bool = False,
    wait: bool = False,
) -> Any:
    """The function that Hydra calls for each job, perhaps in another process.

    It puts the job into the queue. One that a launcher or a sweeper is for is then run,
    and its lowest error returned, for a sweeper that searches; others are collected in
    ``jobs``, and NaN returned.
    """

    def task(config: Any) -> float:
        try:
            job = queue.Job(resolved(config), os.getcwd(), command)
        except MissingMandatoryValue as error:
            worker.add("failed", f"{error.full_key} is missing: give it a value")
            return math.nan
        except ValueError as error:
            worker.add("failed", one_line(error))
            return math.nan
        if not run and _distributed():
            worker.add(
                "failed",
                "--queue: hydra/launcher and hydra/sweeper run jobs, and these are for "
                "jaxnmf work and jaxnmf submit; leave them out",
            )
            return math.nan
        queue.add(worker.folder, job)
        if run and _distributed():
            return worker.run(job, force=force, wait=wait).get("error", math.nan)
        jobs.append(job)
        return math.nan

    return task


def _distributed() -> bool:
    """Whether Hydra is to run the jobs: by a launcher, or by a sweeper that chooses
    them by their results."""
    hydra = HydraConfig.get()
    own = hydra.launcher._target_, hydra.sweeper._target_
    return not all(re.search(r"\.Basic\w+$", target) for target in own)


def _raise_first(
    ended: Sequence[Mapping[str, Any]], unreported: Sequence[str] = ()
) -> None:
    """Raise the first error among outcomes, or of those where nothing else was run the
    first reason why a job was skipped."""
    failed = [*_messages(ended, "failed"), *unreported]
    skipped = _messages(ended, "skipped")
    if failed:
        raise ValueError(failed[0])
    if skipped and not any(one["status"] in ("run", "done before") for one in ended):
        raise ValueError(skipped[0])


def _has_results(folder: Path) -> bool:
    """Whether there is a job, complete or with runs that have ended."""
    jobs = folder.glob("jobs/*")
    return any(path.is_dir() and path.suffix != ".lease" for path in jobs)


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


def _print_queue(folder: Path, jobs: int, console: Console) -> None:
    if jobs:
        count, path = f"{jobs} job{'s' * (jobs > 1)}", shlex.quote(str(folder))
        _print(console, f"{count} in the queue; run them by jaxnmf work {path}")


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
