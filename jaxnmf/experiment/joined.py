"""Commands in several processes: the first runs the jobs, the others take part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxnmf import distributed
from jaxnmf.distributed.processes import broadcast, together
from jaxnmf.experiment.jobs.job import follow_job

CLUSTER = "cluster"


def join(text: str) -> None:
    """Join the processes of a run.

    Args:
      text: "cluster" where they are found by themselves, or "host:port,processes,
        process".

    Raises:
      ValueError: for anything else, and all that `jaxnmf.distributed.start` refuses.
    """
    if text == CLUSTER:
        distributed.start()
        return
    parts = text.split(",")
    if len(parts) != 3 or not (parts[1].isdigit() and parts[2].isdigit()):
        raise ValueError(
            f"--join {text}: expected {CLUSTER}, on a cluster that JAX knows (SLURM, "
            "Open MPI, TPU pods, Kubernetes), or HOST:PORT,PROCESSES,PROCESS, such as "
            "10.0.0.1:9876,4,0"
        )
    distributed.start(parts[0], int(parts[1]), int(parts[2]))


def led(run: Callable[[], Any]) -> None:
    """Do something in the first process, and in the others what it needs of them.

    Args:
      run: what the first process does.
    """
    with together(True):
        if jax.process_index():
            while (asked := broadcast()) is not None:
                follow_job(asked)
            return
        try:
            run()
        except ValueError:
            broadcast(None)
            raise
        broadcast(None)
