"""Sparse data against scikit-learn: seconds an iteration, and to within 1e-3.

All start from one random pair and end in local minima that differ in the third digit.
So the goal is what all of them reach: an error (the root of a squared one) within 1e-3
of the largest of their lowest ones after ``LIMITS`` seconds, judged in float64. The
iterations to the goal are counted first; then so many are run in one go and timed, all
in turn, with a pause before each in which OpenBLAS's threads come to rest.

    python experiments/benchmarks/sparse_against_sklearn.py [frobenius|kl] [repeats]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from common import Case, Ours, geometric_mean

from jaxnmf import datasets

LIMITS = {"frobenius": 15.0, "kl": 40.0}
EVERY = 2  # iterations between looks
SOLVERS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "frobenius": [("hals", {}), ("hals", {"inner": 1}), ("extrapolated", {})],
    "kl": [
        ("mu", {}),
        ("mu", {"joint": True}),
        ("mu-extrapolated", {}),
        ("mu-extrapolated", {"joint": True}),
    ],
}


def text(name: str, rank: int) -> Case:
    """A corpus of the folder JAXNMF_DATA as it is, counts."""
    V: Any = datasets.load(name).V
    return Case(name, V.astype(np.float32).tocsr(), rank)


def synthetic(m: int, n: int, stored: int, rank: int) -> Case:
    """Poisson counts of planted sparse factors, with about so many entries stored."""
    V = datasets.load(
        "synthetic", m=m, n=n, rank=rank, noise="poisson", density=stored / (m * n)
    ).V
    return Case(f"synthetic {m}×{n}", V.astype(np.float32).tocsr(), rank)


def cases() -> list[Case]:
    return [
        text("newsgroups20_w1000", 20),
        text("kos_blogs", 50),
        synthetic(50_000, 30_000, 5_000_000, 30),
    ]


def at_stored(V: Any, Wt: Any, H: Any) -> np.ndarray:
    """(W H) at the stored entries, float64."""
    rows = np.repeat(np.arange(V.shape[0]), np.diff(V.indptr))
    x = np.zeros(V.nnz)
    for w, h in zip(np.asarray(Wt, np.float64), np.asarray(H, np.float64), strict=True):
        x += w[rows] * h[V.indices]
    return x


def half_squared_error(V: Any, Wt: Any, H: Any) -> float:
    Wt, H = np.asarray(Wt, np.float64), np.asarray(H, np.float64)
    data = V.data.astype(np.float64)
    inner = float(data @ at_stored(V, Wt, H))
    return 0.5 * float(data @ data + np.sum((Wt @ Wt.T) * (H @ H.T))) - inner


def divergence(V: Any, Wt: Any, H: Any) -> float:
    Wt, H = np.asarray(Wt, np.float64), np.asarray(H, np.float64)
    data = V.data.astype(np.float64)
    x = np.maximum(at_stored(V, Wt, H), 1e-10 * V.mean())
    total = float(Wt.sum(1) @ H.sum(1))
    return float(np.sum(data * np.log(data / x) - data)) + total


JUDGE: dict[str, Callable[..., float]] = {
    "frobenius": half_squared_error,
    "kl": divergence,
}


class Theirs:
    """scikit-learn's inner functions, so that no input check is on the clock."""

    def __init__(self, case: Case, loss: str) -> None:
        self.case, self.loss = case, loss

    def run(self, W: Any, H: Any, iterations: int) -> tuple[Any, Any]:
        from sklearn.decomposition import _nmf

        V = self.case.V
        if self.loss == "frobenius":
            descend = _nmf._fit_coordinate_descent
            W, H, _ = descend(V, W, H, tol=0, max_iter=iterations)
        else:
            update: Any = _nmf._fit_multiplicative_update
            W, H, *_ = update(
                V, W, H, beta_loss=1, max_iter=iterations, tol=0, l1_reg_W=0,
                l1_reg_H=0, l2_reg_W=0, l2_reg_H=0, update_H=True, verbose=0,
            )  # fmt: skip
        return W, H

    def losses(self, every: int) -> Iterator[float]:
        W, H = self.case.start()
        while True:
            yield JUDGE[self.loss](self.case.V, W.T, H)
            W, H = self.run(W, H, every)

    def iterate(self, iterations: int) -> None:
        self.run(*self.case.start(), iterations)


def losses(ours: Ours, case: Case, loss: str, every: int) -> Iterator[float]:
    factors, state = ours.start, ours.state
    while True:
        yield JUDGE[loss](case.V, *factors)
        factors, state = ours.program(
            ours.problem, ours.solver, factors, state, np.int32(every)
        )


def seconds_of(contestant: Any, iterations: int) -> float:
    time.sleep(0.4)  # OpenBLAS's threads spin for a while after their work
    contestant.iterate(1)
    begin = time.perf_counter()
    contestant.iterate(iterations)
    return time.perf_counter() - begin


def main(loss: str = "frobenius", repeats: int = 3) -> None:
    ratios: dict[str, list[float]] = {}
    for case in cases():
        everyone: dict[str, Any] = {"scikit-learn": Theirs(case, loss)}
        for name, options in SOLVERS[loss]:
            key = " ".join([name, *(f"{k}={v}" for k, v in options.items())])
            everyone[key] = Ours(case, name, loss, **options)
        curves: dict[str, list[float]] = {}
        for key, one in everyone.items():
            points = (
                one.losses(EVERY)
                if isinstance(one, Theirs)
                else losses(one, case, loss, EVERY)
            )
            begin, curves[key] = time.perf_counter(), []
            while time.perf_counter() - begin < LIMITS[loss]:
                curves[key].append(next(points))
        goal = max(min(curve) for curve in curves.values())
        goal *= 1.001**2 if loss == "frobenius" else 1.001
        counts = {
            key: EVERY * max(1, int(np.argmax(np.array(curve) <= goal)))
            for key, curve in curves.items()
        }
        times: dict[str, list[float]] = {key: [] for key in everyone}
        for _ in range(repeats):
            for key, one in everyone.items():
                times[key].append(seconds_of(one, counts[key]))
        medians = {key: float(np.median(times[key])) for key in everyone}
        print(f"{case.name} p={case.rank}, {case.V.nnz} stored, goal {goal:.7g}")
        base = "scikit-learn"
        for key, seconds in medians.items():
            step, theirs = seconds / counts[key], medians[base] / counts[base]
            ratio = medians[base] / seconds
            ratios.setdefault(key, []).append(ratio)
            print(
                f"  {key:28} {1e3 * step:8.2f} ms an iteration ({theirs / step:5.2f}×)"
                f", {counts[key]:4} to 1e-3: {seconds:7.3f} s ({ratio:5.2f}×), "
                f"lowest {min(curves[key]):.7g}",
                flush=True,
            )
    for key, values in ratios.items():
        print(f"{key}: geometric mean {geometric_mean(values):.2f}")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(given[0] if given else "frobenius", int(given[1]) if given[1:] else 3)
