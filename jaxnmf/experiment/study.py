"""A study: every job of a grid, by Hydra, and its report."""

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
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf.errors import MissingMandatoryValue
from rich.console import Console

from jaxnmf import datasets
from jaxnmf.build import UnsupportedError
from jaxnmf.experiment import command_cache, tracking
from jaxnmf.experiment.config import labels, register_configs, resolved, split_name
from jaxnmf.experiment.errors import one_line
from jaxnmf.experiment.jobs import job
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

    One of Hydra's launchers may spread the jobs over processes or machines, and several
    calls may work on one folder: each job is done once.

    Args:
      overrides: Hydra's, ``key=value``.
      console: where tables are printed.
      config_dir: a folder with configs of the user's own.
      force: run again what stands.

    Raises:
      ValueError: the first thing that went wrong, after all other jobs are done.
    """
    register_configs()
    given = [o.removeprefix("folder=") for o in overrides if o.startswith("folder=")]
    folder = Path(_unquoted(given[-1])) if given else _new_folder()
    folder = folder.expanduser().resolve()
    asked = command_cache.fingerprint(overrides, config_dir, folder)
    if asked and not force and (folder / PAGE).is_file():
        stand = command_cache.count_complete(folder, asked)
        if stand:
            _nothing_to_do(folder, stand, console)
            return folder
    new = _check_writable(folder)
    arguments = [o for o in overrides if not o.startswith("folder=")]
    arguments.append(f"folder={QuotedString(str(folder), Quote.single).with_quotes()}")
    if config_dir is not None:
        arguments = ["--config-dir", config_dir, *arguments]
    saved, sys.argv = sys.argv, ["jaxnmf", *arguments]
    # Hydra would print a traceback of its own and exit; here errors are one line.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    call = uuid.uuid4().hex
    # Not taken from sys.argv where a job runs: a launcher's processes have their own.
    options = ["--force"] * force
    options += [] if config_dir is None else ["--config-dir", config_dir]
    command = shlex.join(["jaxnmf", "run", *options, *overrides])
    task = functools.partial(_task, call, command)
    told: list[dict[str, Any]] = []
    unreported: list[str] = []
    try:
        with Watch(folder, call):
            _hydra(task(force=force, wait=False))
            first = outcomes.read(folder, call)
            if any(one["what"] == "busy" for one in first):
                # What another process was at: wait for it, or do it if that died.
                told = [one for one in first if one["what"] in ("ran", "warning")]
                outcomes.clear(folder, call)
                _hydra(task(force=False, wait=True))
    finally:
        sys.argv = saved
        told = [*told, *outcomes.read(folder, call)]
        outcomes.clear(folder, call)
        try:
            _tell(folder, told, console)
        except ValueError as error:  # not to hide what happened
            unreported = [one_line(error)]
        if new and not any(path.is_dir() for path in folder.glob("jobs/*")):
            shutil.rmtree(folder, ignore_errors=True)  # what Hydra left of errors
    failed = [*_messages(told, "failed"), *unreported]
    left_out = _messages(told, "left out")
    if failed:
        raise ValueError(failed[0])
    if left_out and not any(one["what"] in ("ran", "stood") for one in told):
        raise ValueError(left_out[0])
    if asked:
        command_cache.keep(folder, asked, told)
    return folder


def load_dataset(name: str, options: dict[str, Any]) -> Any:
    """The data set of a job, to show its factors on a page."""
    return datasets.load(name, **options)


def print_report(
    folders: Sequence[Path],
    console: Console,
    left_out: Sequence[str] = (),
    *,
    target: str | Path | None = None,
    jobs: Sequence[stored.StoredJob] | None = None,
    figures: bool = False,
) -> None:
    """Build report.html from the stores of study folders, and print its tables; of the
    ``jobs`` there, where they have been read before. ``figures``: as in
    `report.build_report`."""
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"folder: {str(folder)!r} is not a folder of a study")
    # Not before: it draws, and takes as long to import as all else.
    from jaxnmf.experiment import report

    jobs = report.merged(folders) if jobs is None else jobs
    summary, trace = report.gather(jobs)
    report.print_table(report.comparison_table(summary, trace), console)
    report.print_predictions(report.prediction_table(summary), console)
    report.print_choices(report.choices_table(jobs), console)
    report.print_sensitivity(report.sensitivity_table(jobs), console)
    page = report.build_report(
        folders, target=target, load_dataset=load_dataset, jobs=jobs, figures=figures
    )
    for reason in left_out:
        _print(console, f"left out: {reason}")
    _print(console, f"report: {page}")


def _hydra(task: Any) -> None:
    """Compose the config of every job that ``sys.argv`` asks for, and run the task."""
    hydra.main(
        config_path="pkg://jaxnmf.configs", config_name="config", version_base="1.3"
    )(task)()


def _task(call: str, command: str, *, force: bool, wait: bool) -> Any:
    """What Hydra runs for each job, perhaps in another process. It returns the lowest
    error, for a sweeper that searches; NaN where there is none."""

    def task(config: Any) -> float:
        folder = Path(config.folder)
        tell = functools.partial(outcomes.add, folder, call)
        begun, names = time.monotonic(), {}
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
                warn=lambda message: tell("warning", message),
                command=command,
            )
            if plain["mlflow"]:
                tracking.log_job(done.job, plain["mlflow"])
            summary = done.job.summary
            error = float(np.min(summary["error"]))
            checksum = done.job.manifest["data_checksum"]
            tell(
                "ran" if done.anew else "stood",
                job=done.job.key,
                data=[*split_name(plain["dataset"]), checksum],
                names=labels(plain),
                runs=len(summary),
                error=error,
                seconds=time.monotonic() - begun,
            )
            return error
        except job.Busy:
            tell("busy")
        except UnsupportedError as error:
            data = split_name(plain["dataset"])
            tell("left out", one_line(error), names=names, data=data)
        except MissingMandatoryValue as error:
            tell("failed", f"{error.full_key} is missing: give it a value")
        except ValueError as error:
            # Kept for the end: the other jobs of the study go on.
            tell("failed", one_line(error), names=names)
        return math.nan

    return task


def _unquoted(text: str) -> str:
    """A value without the quotes of Hydra's grammar around it."""
    return text[1:-1] if re.fullmatch(r"'.*'|\".*\"", text) else text


def _messages(told: Sequence[Mapping[str, Any]], what: str) -> list[str]:
    """Each once, in their order."""
    return list(dict.fromkeys(one["message"] for one in told if one["what"] == what))


def _tell(folder: Path, told: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print what a call has to say, and the report where there is anything new."""
    for message in _messages(told, "warning"):
        _print(console, f"warning: {message}")
    stood = sum(one["what"] == "stood" for one in told)
    new = any(one["what"] not in ("stood", "left out") for one in told)
    if (folder / PAGE).is_file() and stood and not new:
        _nothing_to_do(folder, stood, console)
        return
    from jaxnmf.experiment import report

    if jobs := report.merged([folder]):
        print_report([folder], console, _messages(told, "left out"), jobs=jobs)


def _nothing_to_do(folder: Path, jobs: int, console: Console) -> None:
    _print(console, f"nothing to do: {jobs} jobs stand\nreport: {folder / PAGE}")


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _new_folder() -> Path:
    """A study folder that is not there yet."""
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for suffix in ("", *(f"_{i}" for i in range(2, 1000))):
        folder = Path("runs") / f"{stamp}{suffix}"
        if not folder.exists():
            return folder
    raise ValueError(f"folder: runs/{stamp} and a thousand after it are taken")


def _check_writable(folder: Path) -> bool:
    """Make the folder where it is missing; returns whether it was."""
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink(missing_ok=True)  # another call's too
    except OSError as error:
        raise ValueError(
            f"folder: {str(folder)!r} cannot be written: {error.strerror or error}"
        ) from None
    return new
