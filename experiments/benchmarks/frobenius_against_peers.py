"""Frobenius solvers against scikit-learn's coordinate descent and a NumPy HALS.

Six real sets, two random starts each that all contestants share, float32, two threads
each. A start is run long by each; the goal is within 1e-3, and 1e-4, of the relative
error that all of them reach, the largest of their last ones: NMF has many local minima,
which not every solver finds from every start. The final errors are printed beside it.

The iterations to the goal are counted first; then so many are run at once and timed, in
turn, without recording. Compilation is printed separately.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from common import (
    Case,
    Ours,
    alternate,
    geometric_mean,
    numpy_hals,
    real,
    sklearn_cd,
)

SETS = (
    ("cbcl_faces", 49),
    ("jasper_ridge", 4),
    ("samson", 3),
    ("all_aml", 3),
    ("digits", 16),
    ("piano_mary", 4),
)
SOLVERS = ("hals", "extrapolated")
SECONDS = 4.0  # of the long run
GOALS = (1e-3, 1e-4)

Curve = Iterator[tuple[float, float]]


def long_run(curve: Curve, every: int) -> tuple[np.ndarray, np.ndarray]:
    """(iterations, losses) of a curve until its seconds are up."""
    losses = []
    for seconds, loss in curve:
        losses.append(loss)
        if seconds > SECONDS:
            break
    return every * np.arange(len(losses)), np.array(losses)


def iterations_to(goal: float, iterations: np.ndarray, losses: np.ndarray) -> int:
    """The first iteration at which the loss is no more than the goal."""
    return max(1, int(iterations[int(np.argmax(losses <= goal))]))


def one_go(curve: Callable[[int], Curve], count: int) -> float:
    """Seconds of so many iterations without a look between."""
    *_, (seconds, _) = curve(count)
    return seconds


def compare(case: Case, every: int, repeats: int) -> dict[str, list[float]]:
    """Seconds to each goal, the last relative error and the compilation, by name."""
    ours = {name: Ours(case, name) for name in SOLVERS}
    # By (iterations in all, iterations between looks).
    curves: dict[str, Callable[[int, int], Curve]] = {
        "scikit-learn": lambda count, every: sklearn_cd(case, count, every),
        "NumPy HALS": lambda count, every: numpy_hals(case, count, every),
    }
    long = {}
    for name, curve in curves.items():
        long[name] = long_run(curve(10**6, every), every)
    for name, one in ours.items():
        long[name] = long_run(one.until(SECONDS, every), every)
    reached = max(losses.min() for _, losses in long.values())
    norm = np.linalg.norm(case.V)
    found = {
        name: [float(np.sqrt(2 * losses.min()) / norm), 0.0]
        for name, (_, losses) in long.items()
    }
    for name, one in ours.items():
        found[name][1] = one.compile_seconds
    for goal in GOALS:
        counts = {
            name: iterations_to(reached * (1 + goal) ** 2, *run)
            for name, run in long.items()
        }

        def timer(name: str, counts: dict[str, int] = counts) -> Callable[[], float]:
            def peer() -> float:
                return one_go(lambda n: curves[name](n, n), counts[name])

            def mine() -> float:
                # OpenBLAS's threads spin on for a while, and a core wakes slowly.
                time.sleep(0.3)
                ours[name].iterate(max(1, counts[name] // 4))
                begin = time.perf_counter()
                ours[name].iterate(counts[name])
                return time.perf_counter() - begin

            return mine if name in ours else peer

        seconds = alternate(repeats, *(timer(name) for name in found))
        for name, some in zip(found, seconds, strict=True):
            found[name].append(float(np.median(some)))
    return found


def main(repeats: int = 3, starts: int = 2) -> None:
    ratios: dict[str, list[list[float]]] = {}
    for name, rank in SETS:
        every = 2 if name in ("all_aml", "piano_mary", "digits") else 4
        runs = [
            compare(real(name, rank, seed), every, repeats) for seed in range(starts)
        ]
        print(f"\n{name} p={rank}", flush=True)
        for solver in runs[0]:
            error, compiling, *seconds = np.median([r[solver] for r in runs], axis=0)
            against = [
                float(
                    np.median(
                        [r["scikit-learn"][2 + i] / r[solver][2 + i] for r in runs]
                    )
                )
                for i in range(len(GOALS))
            ]
            ratios.setdefault(solver, []).append(against)
            text = "  ".join(
                f"{1e3 * s:9.1f} ms {x:6.2f}×"
                for s, x in zip(seconds, against, strict=True)
            )
            print(
                f"  {solver:14}{text}   error {error:.5f}"
                f"  compilation {compiling:.2f} s",
                flush=True,
            )
    print("\nscikit-learn's time over a solver's, geometric mean and smallest")
    for solver, values in ratios.items():
        text = "  ".join(
            f"{geometric_mean(list(column)):6.2f} {min(column):6.2f}"
            for column in zip(*values, strict=True)
        )
        print(f"  {solver:14}{text}")


if __name__ == "__main__":
    main(*(int(x) for x in sys.argv[1:]))
