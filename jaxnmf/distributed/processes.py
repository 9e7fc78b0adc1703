"""Several processes that factorise one V, each with devices of its own."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxnmf._util.checks import check_amount, check_count
from jaxnmf._util.describe import described
from jaxnmf.data.spread import is_spread
from jaxnmf.objective.problem import Problem
from jaxnmf.run.folder import parts_of
from jaxnmf.run.stop import Stop
from jaxnmf.types import Factors

HEARTBEAT = 30  # seconds without a sign of life after which a process is taken for dead


def start(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    devices: list[int] | None = None,
    timeout: float = 300.0,
) -> None:
    """Join the processes of a run; to be called in each, before anything else of JAX.

    Afterwards `jax.devices()` are those of all processes, and `jaxnmf.factorize` with
    the same arguments in each of them, with a ``mesh`` or a V that is on the devices of
    all, is one factorisation. It is `jax.distributed.initialize`, which may also be
    called in its place.

    Args:
      coordinator: "host:port" of the first process. With SLURM, Open MPI, on a TPU pod
        and on Kubernetes all arguments are found by themselves.
      processes: how many there are.
      process: the number of this one, from 0.
      devices: the numbers of the machine's devices that are this process's; all by
        default, and with SLURM or Open MPI on GPUs one.
      timeout: seconds to wait for the other processes.

    Raises:
      ValueError: for arguments that do not fit, where no cluster is found, or where
        the processes were joined before.

    Example, in the first of two processes::

        jaxnmf.distributed.start("10.0.0.1:9876", processes=2, process=0)
        result = jaxnmf.factorize(V, 20, mesh="rows")
    """
    given = (coordinator, processes, process)
    if any(x is not None for x in given):
        if any(x is None for x in given):
            raise ValueError(
                f"start: coordinator={coordinator!r}, processes={processes!r}, "
                f"process={process!r}; give all three, or none on a cluster that JAX "
                "knows (SLURM, Open MPI, TPU pods, Kubernetes)"
            )
        check_count("processes", processes)
        check_count("process", process, least=0)
        if process >= processes:  # pyright: ignore
            raise ValueError(
                f"process={process} must be less than processes={processes}"
            )
        port = str(coordinator).rpartition(":")[2]
        if not str(coordinator).rpartition(":")[0] or not port.isdigit():
            raise ValueError(f"coordinator={coordinator!r} must be 'host:port'")
    check_amount("timeout", timeout)
    if jax.distributed.is_initialized():
        raise ValueError("start: the processes were joined before")
    # It keeps SIGTERM from ending a process, which schedulers send to cancel it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            devices,
            initialization_timeout=int(timeout),
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    except ValueError as error:
        raise ValueError(
            f"start: no cluster is found ({error}); give coordinator, processes and "
            "process"
        ) from error


@contextlib.contextmanager
def together(several: bool) -> Iterator[None]:
    """What several processes may do together: where it is interrupted in one, or fails
    for another reason than its arguments, that one cannot take part any more, and the
    others end too."""
    try:
        yield
    except BaseException as error:
        if not several or jax.process_count() == 1 or isinstance(error, ValueError):
            raise
        atexit.register(_leave)
        if isinstance(error, jax.errors.JaxRuntimeError):
            raise RuntimeError(
                "another process of this run ended or was interrupted, or the "
                "connection to it was lost; see its own messages"
            ) from error
        raise


def _leave() -> None:
    # At the exit JAX waits until every process is there, but the others wait in a sum
    # for this one, which ends once they lose the connection to it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def broadcast(message: Any = None) -> Any:
    """What the first process gives, as JSON carries it, in every process; called in
    all."""
    from jax.experimental.multihost_utils import broadcast_one_to_all

    data = np.frombuffer(json.dumps(message).encode(), np.uint8)
    size = int(broadcast_one_to_all(np.int32(len(data))))
    room = np.zeros(size, np.uint8)
    if jax.process_index() == 0:
        room[:] = data
    return json.loads(np.asarray(broadcast_one_to_all(room)).astype(np.uint8).tobytes())


def check_agreement(
    problem: Problem, solver: Any, factors: Factors, stop: Stop
) -> None:
    """Raise a ValueError, in every process, unless all are about to run the same."""
    from jax.experimental.multihost_utils import process_allgather

    parts = {
        **parts_of(problem, solver),
        # What is spread was drawn so, from the seed that H was drawn from.
        "start": [np.asarray(X) for X in factors if not is_spread(X)],
        "rule when to stop": stop,
    }
    digests = np.array([_digest(part) for part in parts.values()], np.uint32)
    found = np.asarray(process_allgather(digests)).reshape(-1, len(parts))
    differ = [
        name for name, column in zip(parts, found.T, strict=True) if np.ptp(column)
    ]
    if differ:
        raise ValueError(
            f"the {len(found)} processes differ in {', '.join(differ)}; each must call "
            "factorize with the same data and arguments"
        )


def _digest(part: Any) -> int:
    text = json.dumps(described(part)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "little")
