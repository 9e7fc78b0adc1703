"""Ten thousand lanes in bounded memory: V is 200×100, p = 5, a seed a lane.

Prints lanes a second, and by how much the process grew while it ran beyond the results
that it keeps: that is what ``max_memory`` bounds.

    python experiments/benchmarks/lanes_many.py [lanes] [max_memory, MB] [solver]
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np

RANK, ITERATIONS = 5, 100


def resident() -> float:
    """MB that the process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def peak() -> float:
    """The most MB it has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main(lanes: int = 10_000, megabytes: float = 8, solver: str = "hals") -> None:
    import jaxnmf

    rng = np.random.default_rng(0)
    V = rng.gamma(1.0, size=(200, RANK)) @ rng.gamma(1.0, size=(RANK, 100))
    V = (V * rng.uniform(0.8, 1.2, V.shape)).astype(np.float32)
    loss = "kl" if solver == "mu" else "frobenius"

    def sweep(seeds: int) -> jaxnmf.SweepResult:
        return jaxnmf.sweep(
            V, [RANK], seeds, solver=solver, loss=loss, max_iter=ITERATIONS,
            max_memory=megabytes * 1e6, progress=False,
        )  # fmt: skip

    sweep(200)  # compiled and warm
    before = resident()
    found = sweep(lanes)
    kept = sum(x.nbytes for run in found.runs if run is not None for x in run.factors)
    kept += sum(x.nbytes for run in found.runs if run is not None for x in run.trace)
    grown = peak() - before
    print(
        f"{lanes} lanes ({solver}): {lanes / found.seconds:.0f} a second, "
        f"{found.seconds:.1f} s; peak growth {grown:.0f} MB, of which the results "
        f"{kept / 1e6:.0f} MB; max_memory {megabytes:g} MB"
    )
    for form, entry in found.batching.items():
        print(f"  {form}: {entry['seconds']:.2f} s")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(
        int(given[0]) if given else 10_000,
        float(given[1]) if given[1:] else 8,
        given[2] if given[2:] else "hals",
    )
