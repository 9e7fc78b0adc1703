"""Kullback-Leibler solvers against scikit-learn's updates: seconds to within 1e-3.

All start from one random pair. The target is 1.001 times the lowest divergence that
any of them found from there, judged in float64 off the clock. Where scikit-learn was
not there after ``LIMIT`` seconds its ratio is a lower bound, marked with ≥; a solver
that was not there itself, in another local minimum or out of time, has none.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from common import Case, Ours, geometric_mean, real

SETS = [
    ("cbcl_faces", 10),
    ("all_aml", 3),
    ("piano_mary", 4),
    ("breast21_mutations", 5),
]
# Solver, options, iterations between looks.
SOLVERS: list[tuple[str, dict[str, Any], int]] = [
    ("mu", {}, 20),
    ("mu", {"joint": True}, 20),
    ("mu-extrapolated", {}, 10),
    ("kl-mirror", {}, 20),
    ("kl-cd", {}, 2),
    ("kl-sn-mu", {}, 2),
    ("kl-newton", {}, 2),
]
LIMIT = 6.0  # seconds of iterations

Curve = Iterator[tuple[float, float]]


def divergence(V: np.ndarray, Wt: Any, H: Any) -> float:
    """D(V | WH) in float64."""
    V = np.asarray(V, np.float64)
    X = np.asarray(Wt, np.float64).T @ np.asarray(H, np.float64)
    X = np.maximum(X, 1e-10 * V.mean())
    safe = np.where(V > 0, V, X)
    return float((V * np.log(safe / X) - V + X).sum())


def sklearn_curve(case: Case, every: int = 20) -> Curve:
    """scikit-learn's inner function, so that no input check is on the clock."""
    from sklearn.decomposition import _nmf

    update: Any = _nmf._fit_multiplicative_update
    W, H = case.start()
    seconds = 0.0
    while True:
        yield seconds, divergence(case.V, W.T, H)
        begin = time.perf_counter()
        W, H, *_ = update(
            case.V, W, H, beta_loss=1, max_iter=every, tol=0, l1_reg_W=0, l1_reg_H=0,
            l2_reg_W=0, l2_reg_H=0, update_H=True, verbose=0,
        )  # fmt: skip
        seconds += time.perf_counter() - begin


def curve(case: Case, ours: Ours, every: int) -> Curve:
    factors, state, seconds = ours.start, ours.state, 0.0
    time.sleep(0.3)  # OpenBLAS's threads spin for a while after their work
    ours.iterate(every)  # the first call pays for buffers
    while True:
        yield seconds, divergence(case.V, *factors)
        begin = time.perf_counter()
        factors, state = jax.block_until_ready(
            ours.program(ours.problem, ours.solver, factors, state, np.int32(every))
        )
        seconds += time.perf_counter() - begin


def until(points: Curve, target: float, limit: float) -> tuple[float, float]:
    """(seconds, lowest loss): seconds to the target, ∞ where it was not reached."""
    lowest = np.inf
    for seconds, loss in points:
        lowest = min(lowest, loss)
        if loss <= target:
            return seconds, lowest
        if seconds > limit:
            break
    return np.inf, lowest


def label(name: str, options: dict[str, Any]) -> str:
    return " ".join([name, *(f"{k}={v}" for k, v in options.items())])


def main(repeats: int = 3, limit: float = LIMIT) -> None:
    ratios: dict[str, list[float]] = {label(name, o): [] for name, o, _ in SOLVERS}
    for name, rank in SETS:
        case = real(name, rank)
        made = {
            label(solver, options): (Ours(case, solver, "kl", **options), every)
            for solver, options, every in SOLVERS
        }

        def contest(target: float, keys: Any, case=case, made=made) -> dict[str, Any]:
            return {
                key: until(
                    curve(case, *made[key]) if key in made else sklearn_curve(case),
                    target,
                    limit,
                )
                for key in keys
            }

        everyone = ["scikit-learn", *made]
        best = min(lowest for _, lowest in contest(-np.inf, everyone).values())
        rounds = [contest(1.001 * best, everyone)]
        # Who was not there in time the first time is not waited for again.
        there = [key for key in everyone if np.isfinite(rounds[0][key][0])]
        rounds += [contest(1.001 * best, there) for _ in range(repeats - 1)]
        times = {
            key: float(np.median([found[key][0] for found in rounds if key in found]))
            for key in everyone
        }
        theirs = times["scikit-learn"]
        print(f"{name} p={rank}, lowest divergence {best:.7g}")
        print(f"  {'scikit-learn':22} {theirs:9.4f} s")
        for key, (ours, _) in made.items():
            ratio = min(theirs, limit) / times[key]
            bound = "≥" if np.isinf(theirs) else " "
            text = f"{bound}{ratio:.1f}" if np.isfinite(times[key]) else "not reached"
            print(
                f"  {key:22} {times[key]:9.4f} s, ratio {text}"
                f" (compiled in {ours.compile_seconds:.2f} s)",
                flush=True,
            )
            ratios[key].append(ratio)
    for key, values in ratios.items():
        if min(values) > 0:
            print(f"{key}: geometric mean ≥ {geometric_mean(values):.2f}")


if __name__ == "__main__":
    main(*(int(x) for x in sys.argv[1:2]), *(float(x) for x in sys.argv[2:3]))
