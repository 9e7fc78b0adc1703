"""How the lanes of a sweep are spread over the cores or the devices."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import numpy as np

from jaxnmf._util.platform import cores, on_cpu

# Seconds that a call should take: long enough for its overhead not to count, short
# enough for Ctrl-C and the progress line.
CALL_SECONDS = 0.2
NARROWEST = 8  # lanes in a group, below which another program is not worth compiling


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batching:
    """How lanes are spread over the cores or the device.

    Attributes:
      workers: how many threads.
      group: lanes of a thread that are advanced together, on each of the devices.
      devices: over how many devices a thread spreads its groups.
      threaded: whether the products of one program may use several threads; those of
        several workers would compete for the cores.

    Example:
      >>> import numpy as np, jaxnmf
      >>> from jaxnmf.sweeps.batching import Batching
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> two = Batching(workers=1, group=2)
      >>> len(jaxnmf.sweep(V, ranks=[3], seeds=4, max_iter=20, batching=two).table)
      4
    """

    workers: int = 1
    group: int = 1
    devices: int = 1
    threaded: bool = True

    @classmethod
    def default(cls, tasks: int) -> Batching:
        """One lane on each core of a CPU, all lanes at once on accelerators."""
        if on_cpu():
            workers = max(1, min(cores(), tasks))
            return cls(workers=workers, threaded=workers == 1)
        devices = max(1, min(jax.local_device_count(), tasks))
        each = -(-tasks // devices)
        group = min(256, 1 << max(0, each - 1).bit_length())
        return cls(group=group, devices=devices)

    @property
    def lanes(self) -> int:
        """Lanes that a thread advances together."""
        return self.group * self.devices

    @property
    def options(self) -> dict[str, Any]:
        """Compiler options for the programs."""
        if on_cpu() and not self.threaded:
            return {"xla_cpu_multi_thread_eigen": False}
        return {}

    def width(self, lanes: int) -> int:
        """The number of places for so many lanes. Each narrower width costs another
        program: it shrinks by quarters, and not below `NARROWEST`."""
        group = self.group
        while group // 4 * self.devices >= max(lanes, NARROWEST):
            group //= 4
        return group * self.devices


class Pace:
    """The number of records a call should do: as many as take `CALL_SECONDS`."""

    def __init__(self) -> None:
        self.records = np.int32(1)

    def __enter__(self) -> None:
        self._begun = time.perf_counter()

    def __exit__(self, *_: Any) -> None:
        took = time.perf_counter() - self._begun
        if took < CALL_SECONDS / 2:
            self.records = np.int32(min(int(self.records) * 2, 2**20))
        elif took > 2 * CALL_SECONDS:
            self.records = np.int32(max(int(self.records) // 2, 1))
