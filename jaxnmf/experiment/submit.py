"""`jaxnmf submit`: workers of a study as an array of a cluster's scheduler."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from jaxnmf._util.disk import put
from jaxnmf.experiment.store import queue
from jaxnmf.experiment.store.layout import writing

FOLDER = "slurm"  # of the script and the output of the tasks
TASKS = 8  # the most by default
ANSWER = 60.0  # seconds that sbatch may take


def submit_slurm(
    folder: Path,
    console: Console,
    *,
    array: int | None = None,
    time: str | None = None,
    partition: str | None = None,
    memory: str | None = None,
    cpus: int | None = None,
    gpus: int | None = None,
    sbatch: Sequence[str] = (),
    dry_run: bool = False,
) -> None:
    """Write the script of a SLURM array whose tasks work on a study, and submit it.

    Args:
      folder: the study folder, whose jobs `jaxnmf run --queue` has put there.
      console: where the answer of sbatch, or the script, is printed.
      array: the number of tasks; one a job, at most `TASKS`, by default.
      time, partition, memory, cpus, gpus: of a task; the cluster's defaults where not
        given.
      sbatch: further options of sbatch.
      dry_run: only write and print the script.

    Raises:
      ValueError: the folder has no jobs, an option has several lines, sbatch is not
        installed or refuses the script.
    """
    folder = folder.expanduser().resolve()
    jobs = queue.read(folder)
    options = {
        "--job-name": f"jaxnmf-{folder.name}",
        "--array": f"1-{array or min(len(jobs), TASKS)}",
        "--output": str(folder / FOLDER / "%A_%a.txt").replace("\\", "\\\\"),
        "--time": time,
        "--partition": partition,
        "--mem": memory,
        "--cpus-per-task": cpus,
        "--gpus-per-task": gpus,
    }
    given = [f"{name}={value}" for name, value in options.items() if value is not None]
    for line in (*given, *sbatch):
        if "\n" in line or not line.startswith("-"):
            raise ValueError(
                f"--sbatch={line!r} is not an option of sbatch; expected one line such "
                "as --account=me"
            )
    path = folder / FOLDER / "array.sh"
    text = script(folder, [*given, *sbatch])
    with writing(folder):
        path.parent.mkdir(exist_ok=True)
        put(path, text.encode())
    if dry_run:
        answer = f"{text}\nwritten to {path}; not submitted"
    else:
        answer = _submitted(path)
    console.print(answer, highlight=False, markup=False, soft_wrap=True)


def script(folder: Path, options: Sequence[str]) -> str:
    """The script of a task: the options of sbatch, and a worker in this directory and
    environment."""
    lines = ["#!/bin/bash", *(f"#SBATCH {_quoted(option)}" for option in options)]
    # A package that is installed in this Python, or lies in this directory.
    worker = [sys.executable, "-m", "jaxnmf.experiment.cli", "work", str(folder)]
    lines += [f"cd {shlex.quote(os.getcwd())} || exit", f"exec {shlex.join(worker)}"]
    return "\n".join(lines) + "\n"


def _quoted(option: str) -> str:
    """An option as sbatch reads it: spaces and # need quotes."""
    return option if shlex.quote(option) == option else f'"{option}"'


def _submitted(path: Path) -> str:
    """The answer of sbatch to a script."""
    if shutil.which("sbatch") is None:
        raise ValueError(
            f"sbatch is not installed on this machine; the script is {str(path)!r}: "
            "submit it by sbatch on one that has SLURM"
        )
    try:
        done = subprocess.run(
            ["sbatch", str(path)], capture_output=True, text=True, timeout=ANSWER
        )
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"sbatch has not answered in {ANSWER:.0f} seconds; the script is "
            f"{str(path)!r}"
        ) from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise ValueError(f"sbatch refused the script {str(path)!r}: {said}")
    return done.stdout.strip()
