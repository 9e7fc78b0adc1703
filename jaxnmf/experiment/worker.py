"""Runs the jobs of a study that no other process runs, and stores how each ended."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnmf import datasets
from jaxnmf.experiment import exclusive, tracking
from jaxnmf.experiment.config import labels, split_name
from jaxnmf.experiment.errors import one_line
from jaxnmf.experiment.jobs import job as jobs
from jaxnmf.experiment.store import outcomes
from jaxnmf.experiment.store.lease import Busy
from jaxnmf.experiment.store.queue import Job
from jaxnmf.supported import UnsupportedError

WAIT = 5.0  # seconds between two looks at the jobs of other processes


class Worker:
    """One process at work on a study.

    Args:
      folder: the study folder.
      call: under which outcomes are stored.
    """

    def __init__(self, folder: Path, call: str) -> None:
        self.folder, self.call = folder, call
        self._loaded: tuple[Any, Any] | None = None

    def run(self, job: Job, *, force: bool = False, wait: bool = False) -> dict:
        """Run a job unless it is complete; returns its outcome.

        Args:
          job: as it was asked for.
          force: run a complete job again.
          wait: for another process that is running it.
        """
        config, started = job.config, time.monotonic()
        data = split_name(config["dataset"])
        names = {x: config[x]["name"] for x in ("dataset", "loss", "solver")}
        try:
            if config["mlflow"]:
                tracking.require(config["mlflow"])
            if config["exclusive"]:
                exclusive.take(config["exclusive"])
            with _directory(job.directory):
                done = jobs.run_job(
                    {**config, "folder": str(self.folder)},
                    self.folder,
                    force=force,
                    wait=wait,
                    warn=lambda message: self.add("warning", message),
                    note=lambda message: self.add("note", message),
                    command=job.command,
                    load=self._load,
                )
                if config["mlflow"]:
                    tracking.log_job(done.job, config["mlflow"])
        except Busy:
            return self.add("in progress")
        except UnsupportedError as error:
            return self.add("skipped", one_line(error), names=names, data=data)
        except ValueError as error:
            # Raised at the end, after the other jobs of the study.
            return self.add("failed", one_line(error), names=names)
        summary = done.job.summary
        return self.add(
            "run" if done.run_now else "done before",
            job=done.job.key,
            data=[*data, done.job.manifest["data_checksum"]],
            names=labels(config),
            runs=len(summary),
            error=float(np.min(summary["error"])),
            seconds=time.monotonic() - started,
        )

    def take(self, queued: Sequence[Job], *, wait: bool) -> int:
        """Run the jobs that no other process runs; returns how many others do.

        Those of others are looked at again after every round in which a job was run,
        and with ``wait`` until there are none.
        """
        while True:
            ended = [self.run(job)["status"] for job in queued]
            pairs = zip(queued, ended, strict=True)
            queued = [job for job, status in pairs if status == "in progress"]
            if not queued:
                return 0
            if "run" not in ended:
                if not wait:
                    return len(queued)
                time.sleep(WAIT)

    def add(self, status: str, message: str = "", **more: Any) -> dict:
        """Store an outcome and return it."""
        outcomes.add(self.folder, self.call, status, message, **more)
        return {"status": status, **more}

    def _load(self, name: str, **options: Any) -> datasets.Dataset:
        """A data set; the last one is not loaded again."""
        key = (os.getcwd(), name, options)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # before the next one needs the memory
            self._loaded = key, datasets.load(name, **options)
        return self._loaded[1]


def _directory(path: str) -> contextlib.AbstractContextManager[None]:
    """In the directory that a job's paths are relative to, if this machine has it."""
    if Path(path).is_dir():
        return contextlib.chdir(path)
    return contextlib.nullcontext()
