"""What a job costs beside its solver: python harness_overhead.py [SECONDS]

Each job has two ranks and three seeds, every run SECONDS long (1 by default), its
programs compiled before. Three parts of its wall time: the iterations; the looks at
loss and KKT residual between them, without which no run knows when to stop; and the
harness, all else: reading and checking the data, the starts, measures of the result,
what is written and read back.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import hydra

from jaxnmf import padding
from jaxnmf.experiment.config import register_configs, resolved
from jaxnmf.experiment.jobs import job
from jaxnmf.run import clock, loop

JOBS = (
    ("digits", "hals", "frobenius"),
    ("cbcl_faces", "extrapolated", "frobenius"),
    ("jasper_ridge", "hals", "frobenius"),
    ("all_aml", "mu", "kullback-leibler"),
    ("swimmer", "hals", "frobenius"),
    ("newsgroups20_w1000", "hals", "frobenius"),
    ("kos_blogs", "mu", "kullback-leibler"),
    ("movielens_small", "extrapolated", "frobenius"),
)


def config(dataset: str, solver: str, loss: str, seconds: float) -> dict[str, Any]:
    overrides = [
        f"dataset={dataset}", f"solver={solver}", f"loss={loss}", "ranks=[8,16]",
        "stop.tol=0", "stop.max_iter=1000000", f"stop.time_budget={seconds}",
        "record_growth=0.05",
    ]  # fmt: skip
    with hydra.initialize_config_module("jaxnmf.configs", version_base="1.3"):
        return resolved(hydra.compose("config", overrides))


def main(seconds: float = 1.0) -> None:
    register_configs()
    inside = 0.0

    def clocked(*args: Any, **options: Any) -> loop.Run:
        nonlocal inside
        start = time.perf_counter()
        try:
            return clock.timed(*args, **options)
        finally:
            inside += time.perf_counter() - start

    padding.timed = clocked  # as the job calls it
    print("| job | wall, s | iterations | looks | harness |\n|---|---|---|---|---|")
    for name in JOBS:
        asked = config(*name, seconds)
        for seeds in ([9], [0, 1, 2]):  # the first compiles
            inside, start = 0.0, time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                done = job.run_job({**asked, "seeds": seeds}, Path(folder))
                wall = time.perf_counter() - start
                table = done.job.summary
        iterations = table["seconds"].sum()
        looks = inside - iterations - table["compile_seconds"].sum()
        harness = wall - inside
        shares = [f"{part / wall:.1%}" for part in (iterations, looks, harness)]
        print(f"| {', '.join(name)} | {wall:.2f} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
