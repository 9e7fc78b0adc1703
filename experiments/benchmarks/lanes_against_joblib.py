"""A sweep in lanes against scikit-learn's fits spread over processes.

V is 5000×38 (ALL-AML, genes × samples); every rank from 2 to 10 with 20 seeds, 200
iterations each. scikit-learn runs under joblib with as many processes as there are
cores, each of one BLAS thread, and again one fit after the other; so does jaxnmf, by
`factorize` in a loop. Medians and the best of the final losses stand beside the times,
for a fast sweep is worth nothing if it ends higher.

    python experiments/benchmarks/lanes_against_joblib.py [cd|mu] [repeats]
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from typing import Any

import numpy as np

RANKS, SEEDS, ITERATIONS = range(2, 11), 20, 200
SOLVERS: dict[str, dict[str, Any]] = {
    "cd": {"solver": "hals", "solver_options": {"inner": 1}},
    "mu": {"solver": "mu", "loss": "kl"},
}


def data() -> np.ndarray:
    from jaxnmf import datasets

    return np.ascontiguousarray(datasets.load("all_aml").V.T, np.float32)


def fit(V: np.ndarray, kind: str, rank: int, seed: int) -> float:
    """A fit of scikit-learn, and its final loss in our scale (½ of its square)."""
    from sklearn.decomposition import NMF
    from threadpoolctl import threadpool_limits

    loss = "frobenius" if kind == "cd" else "kullback-leibler"
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make: Any = NMF
        model = make(
            n_components=rank, init="random", solver=kind, beta_loss=loss, tol=0,
            max_iter=ITERATIONS, random_state=seed,
        ).fit(V)  # fmt: skip
    error = float(model.reconstruction_err_)
    return 0.5 * error**2


def joblib_fits(V: np.ndarray, kind: str, jobs: int) -> tuple[float, np.ndarray]:
    from joblib import Parallel, delayed

    work = [(rank, seed) for rank in RANKS for seed in range(SEEDS)]
    with Parallel(n_jobs=jobs) as parallel:
        # Processes start and import before the clock.
        parallel(delayed(fit)(V[:50], kind, 2, 0) for _ in range(jobs))
        begin = time.perf_counter()
        losses: Any = parallel(delayed(fit)(V, kind, *each) for each in work)
        return time.perf_counter() - begin, np.array(losses).reshape(-1, SEEDS)


def ours(V: np.ndarray, kind: str) -> tuple[float, float, np.ndarray, Any]:
    """(seconds, of that compiling, losses by rank, the sweep)."""
    import jaxnmf

    found = jaxnmf.sweep(
        V, list(RANKS), SEEDS, max_iter=ITERATIONS, tol=0.0, record_every=50,
        kkt=False, **SOLVERS[kind],
    )  # fmt: skip
    losses = np.array(found.table["objective"]).reshape(-1, SEEDS)
    return found.seconds, found.compile_seconds, losses, found


def loop(V: np.ndarray, kind: str) -> float:
    """Seconds of `factorize` in a loop, its compilation not counted."""
    import jaxnmf

    begin, compiling = time.perf_counter(), 0.0
    for rank in RANKS:
        for seed in range(SEEDS):
            result = jaxnmf.factorize(
                V, rank, seed=seed, max_iter=ITERATIONS, tol=0.0, record_every=50,
                kkt=False, **SOLVERS[kind],
            )  # fmt: skip
            compiling += result.compile_seconds
    return time.perf_counter() - begin - compiling


def main(kind: str = "cd", repeats: int = 3) -> None:
    V = data()
    cores = len(os.sched_getaffinity(0))
    _, compiling, _, _ = ours(V, kind)
    times: dict[str, list[float]] = {}
    for repeat in range(repeats):
        seconds, theirs = joblib_fits(V, kind, cores)
        times.setdefault(f"scikit-learn, joblib {cores}", []).append(seconds)
        time.sleep(0.5)
        seconds, _, losses, found = ours(V, kind)
        times.setdefault("jaxnmf.sweep", []).append(seconds)
        if repeat == 0:
            seconds, _ = joblib_fits(V, kind, 1)
            times.setdefault("scikit-learn, in turn", []).append(seconds)
            times.setdefault("jaxnmf.factorize, in turn", []).append(loop(V, kind))
    medians = {name: float(np.median(values)) for name, values in times.items()}
    base = medians["jaxnmf.sweep"]
    for name, seconds in medians.items():
        print(f"{name:28} {seconds:7.2f} s, {seconds / base:5.2f}× the sweep")
    print(f"compiling, the first time: {compiling:.2f} s; {found}, {found.buckets}")
    for rank, a, b in zip(RANKS, losses, theirs, strict=True):
        print(
            f"p={rank}: median {np.median(a):.6g} and {np.median(b):.6g}, "
            f"best {a.min():.6g} and {b.min():.6g}"
        )


if __name__ == "__main__":
    given = sys.argv[1:]
    main(given[0] if given else "cd", int(given[1]) if given[1:] else 3)
