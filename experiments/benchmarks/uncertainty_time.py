"""Bootstrap replicates against plain lanes: `jaxnmf.uncertainty` beside `sweep`.

    python experiments/benchmarks/uncertainty_time.py [pairs [replicates]]

V is 5000×38, p = 5 (all_aml of the folder JAXNMF_DATA, genes in rows). Both are called
in turn, with as many iterations of every lane, and whole: the fit, the lanes, W of
every H, and the intervals. The limit of the ratio is 1.3.
"""

import os
import sys
import time

import numpy as np

import jaxnmf

ITERATIONS = 100


def main(pairs: int = 5, replicates: int = 200) -> None:
    V = np.asarray(jaxnmf.datasets.load("all_aml").V, np.float32)
    V = V.T if len(V) < V.shape[1] else V
    common = {"max_iter": ITERATIONS, "tol": 0.0, "progress": False}
    calls = {
        "uncertainty": lambda: jaxnmf.uncertainty(
            V, 5, replicates=replicates, **common
        ),
        "sweep": lambda: jaxnmf.sweep(V, [5], replicates, **common),
    }
    for call in calls.values():  # compiled
        call()
    seconds = {name: [] for name in calls}
    for _ in range(pairs):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            seconds[name].append(
                (time.perf_counter() - wall, time.process_time() - cpu)
            )
        print({n: np.round(seconds[n][-1], 2) for n in calls}, flush=True)
    times = {name: np.array(of) for name, of in seconds.items()}
    ratios = times["uncertainty"] / times["sweep"]
    print("load", os.getloadavg())
    for i, what in enumerate(("wall", "processor")):
        ours, plain = (np.median(times[name][:, i]) for name in calls)
        print(
            f"{what}: {ours:.2f} s against {plain:.2f} s, "
            f"ratio {np.median(ratios[:, i]):.2f} "
            f"({ratios[:, i].min():.2f} … {ratios[:, i].max():.2f})"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
