"""What an iteration on sparse data costs as it grows, and the memory it takes.

Entries at random places, Poisson(1) + 1. From 10⁵ to 2·10⁷ stored entries with a
hundred to a row; then twice the entries, twice the rows and twice the rank, one at a
time, from two million and from ten million entries. Each size runs in a process of its
own, whose peak of resident memory is read at the end. Leaves ``sparse_scaling.png``
beside this file.

    python experiments/benchmarks/sparse_scaling.py
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SOLVERS = {"hals": "frobenius", "mu": "kl"}
STORED = [10**5, 3 * 10**5, 10**6, 3 * 10**6, 10**7, 2 * 10**7]
RANK = 16


def data(m: int, n: int, stored: int):
    from scipy.sparse import csr_array

    rng = np.random.default_rng(0)
    # Distinct places in order, without an m×n array.
    places = np.unique(rng.integers(0, m * n, int(1.02 * stored), dtype=np.int64))
    places = places[np.sort(rng.permutation(len(places))[:stored])]
    values = (1 + rng.poisson(1.0, len(places))).astype(np.float32)
    indptr = np.searchsorted(places, np.arange(m + 1, dtype=np.int64) * n)
    cols = (places % n).astype(np.int32)
    return csr_array((values, cols, indptr.astype(np.int32)), shape=(m, n))


def measure(m: int, n: int, stored: int, rank: int, solver: str) -> dict[str, float]:
    """Seconds an iteration, median of several, and peak memory in bytes."""
    import jax
    from common import Case, Ours

    options = {"inner": 1} if solver == "hals" else {}
    case = Case("random", data(m, n, stored), rank)
    ours = Ours(case, solver, SOLVERS[solver], **options)
    ours.iterate(1)
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        ours.iterate(2)
        seconds.append((time.perf_counter() - begin) / 2)
    jax.block_until_ready(ours.problem)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": float(np.median(seconds)), "peak": peak}


def apart(*arguments: object) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(5, 3.5))
    for solver in SOLVERS:
        times = []
        for stored in STORED:
            n = 30_000
            found = apart(stored // 100, n, stored, RANK, solver)
            times.append(1e3 * found["seconds"])
            print(
                f"{solver} {stored:>9} stored, p={RANK}: {times[-1]:8.1f} ms an "
                f"iteration, peak {found['peak'] / 1e9:.2f} GB",
                flush=True,
            )
        axis.loglog(STORED, times, marker="o", label=solver)
        for m, n, stored in ((40_000, 20_000, 2 * 10**6), (100_000, 30_000, 10**7)):
            first = apart(m, n, stored, RANK, solver)["seconds"]
            for name, size in {
                "entries": (m, n, 2 * stored, RANK),
                "rows": (2 * m, n, stored, RANK),
                "rank": (m, n, stored, 2 * RANK),
            }.items():
                ratio = apart(*size, solver)["seconds"] / first
                print(f"{solver} twice the {name}, {stored}: {ratio:.2f}", flush=True)
    axis.loglog(
        STORED, [times[0] * s / STORED[0] for s in STORED], "k:", label="linear"
    )
    axis.set(xlabel="stored entries", ylabel="milliseconds an iteration")
    axis.legend(frameon=False)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=150, bbox_inches="tight")


if __name__ == "__main__":
    if sys.argv[1:]:
        *sizes, solver = sys.argv[1:]
        m, n, stored, rank = map(int, sizes)
        print(json.dumps(measure(m, n, stored, rank, solver)))
    else:
        main()
