"""The processor time of an iteration on eight forced host devices over that on one.

    python mesh_work.py [solver …]

All of a process's threads count, so that the ratio is of the work done, not of waiting.
From a random start, 20000×5000, p = 20, float32; each figure is the median over fresh
processes in turn. The sweeps over a factor are done by every device of a row or column
of the mesh: a small part where V is large, and most of an iteration where it is small.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import time

import numpy as np

REPEATS, ITERATIONS = 3, 10
ROWS, COLUMNS, RANK = 20_000, 5_000, 20
LOSSES = {"hals": "frobenius", "mu": "kullback-leibler"}


def child(solver: str, mesh: str) -> None:
    """Prints the seconds of processor time of an iteration."""
    import jaxnmf

    rng = np.random.default_rng(0)
    V = rng.random((ROWS, RANK), np.float32) @ rng.random((RANK, COLUMNS), np.float32)
    V += rng.random(V.shape, np.float32)

    def seconds(iterations: int) -> float:
        begin = time.process_time()
        jaxnmf.factorize(
            V,
            RANK,
            loss=LOSSES[solver],
            solver=solver,
            init="random",
            mesh=mesh or None,
            max_iter=iterations,
            record_every=iterations,
            tol=0,
        )
        return time.process_time() - begin

    few, many = 2, 2 + ITERATIONS
    seconds(few)
    print((seconds(many) - seconds(few)) / ITERATIONS)


def work(solver: str, devices: int, mesh: str) -> float:
    count = f"--xla_force_host_platform_device_count={devices}"
    flags = re.sub(r"\S*device_count=\d+", "", os.environ.get("XLA_FLAGS", ""))
    environment = os.environ | {"XLA_FLAGS": f"{flags} {count}"}
    command = [sys.executable, __file__, "child", solver, mesh]
    done = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return float(done.stdout.splitlines()[-1])


def main(*solvers: str) -> None:
    for solver in solvers or LOSSES:
        cases = [(1, ""), (8, "rows"), (8, "grid")]
        runs = [functools.partial(work, solver, *case) for case in cases]
        found = np.median([[run() for run in runs] for _ in range(REPEATS)], 0)
        print(
            f"{solver}: {found[0]:.3f} s of processor time an iteration on one device; "
            f"on eight by rows {found[1] / found[0]:.2f} times that, on a grid "
            f"{found[2] / found[0]:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
