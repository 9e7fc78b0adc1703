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

from jaxnmf.experiment import command_cache
from jaxnmf.experiment.config import register_configs, resolved
from jaxnmf.experiment.errors import one_line
from jaxnmf.experiment.overrides import as_overrides, quoted
from jaxnmf.experiment.printing import (
    messages,
    print_complete,
    print_line,
    print_outcomes,
    print_queue,
)
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
            print_complete(folder, complete, console)
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
                print_queue(folder, len(jobs), console)
            else:
                print_outcomes(folder, ended, console)
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
    print_line(
        console, f"{run} of {len(jobs)} jobs run, {elsewhere} in progress elsewhere"
    )
    if not elsewhere:
        print_outcomes(folder, ended, console)
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
    failed = [*messages(ended, "failed"), *unreported]
    skipped = messages(ended, "skipped")
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
