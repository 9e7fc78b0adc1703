"""The first answers of jaxnmf and of scikit-learn, compilation included.

Each figure is the median over fresh processes of the two in turn, float32:

- shapes: one factorisation of each of twenty matrices, (200 + i) × 100, p = 5;
- ranks: one of a 200×100 matrix at each of ten ranks;
- rows: `transform` of as many rows as never before, median of twenty;
- start: a process that imports the package and factorises a 200×100 matrix;
- study: `jaxnmf run` of four solvers on a small matrix, to the first result on the disk
  and to its end;
- defaults: seconds to within 1 % and 0.1 % of the least error of both, each with its
  defaults (solver, start), compiled, with all of a call that is not iterations. For the
  Kullback-Leibler divergence scikit-learn has multiplicative updates. Where it does not
  get there in three times our budget, the ratio is the least that it can be.

    python experiments/benchmarks/first_answer.py [parts …]
"""

from __future__ import annotations

import functools
import glob
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

REPEATS = 5
BUDGET = 4.0  # seconds of iterating, for the defaults
DEFAULTS = (
    ("cbcl_faces", 49, "frobenius"),
    ("jasper_ridge", 4, "frobenius"),
    ("all_aml", 3, "frobenius"),
    ("newsgroups20_w1000", 20, "frobenius"),
    ("cbcl_faces", 10, "kullback-leibler"),
    ("all_aml", 3, "kullback-leibler"),
    ("breast21_mutations", 5, "kullback-leibler"),
    ("newsgroups20_w1000", 20, "kullback-leibler"),
)


def matrix(m: int, n: int = 100, rank: int = 5) -> np.ndarray:
    rng = np.random.default_rng(m)
    V = rng.gamma(1.0, size=(m, rank)) @ rng.gamma(1.0, size=(rank, n))
    return (V + 0.1 * V.mean() * rng.random((m, n))).astype(np.float32)


def model(who: str) -> Any:
    """The class NMF."""
    if who == "jaxnmf":
        from jaxnmf import NMF
    else:
        from sklearn.decomposition import NMF
    return NMF


def shapes(who: str) -> float:
    NMF = model(who)
    data = [matrix(200 + i) for i in range(20)]
    begin = time.perf_counter()
    for V in data:
        NMF(5).fit_transform(V)
    return time.perf_counter() - begin


def ranks(who: str) -> float:
    NMF, V = model(who), matrix(200)
    begin = time.perf_counter()
    for rank in range(2, 12):
        NMF(rank).fit_transform(V)
    return time.perf_counter() - begin


def rows(who: str) -> float:
    fitted, seconds = model(who)(5).fit(matrix(200)), []
    fitted.transform(matrix(200))
    for i in range(20):
        V = matrix(20 + 7 * i)
        begin = time.perf_counter()
        fitted.transform(V)
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


def in_process(*arguments: str) -> float:
    """The seconds of a process."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - begin


FIRST = """
import numpy as np
V = np.random.default_rng(0).random((200, 100))
"""
OURS = FIRST + "import jaxnmf\njaxnmf.factorize(V, 5).relative_error"
THEIRS = FIRST + "from sklearn.decomposition import NMF\nNMF(5).fit_transform(V)"


def study() -> tuple[float, float]:
    """Seconds to the first result and to the end."""
    data = ["dataset=synthetic", "dataset.m=200", "dataset.n=100", "dataset.rank=5"]
    with tempfile.TemporaryDirectory() as folder:
        given = [*data, "ranks=5", "seeds=[0]", f"folder={folder}/study"]
        command = [sys.executable, "-m", "jaxnmf", "run", *given]
        begin, first = time.perf_counter(), 0.0
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
            while running.poll() is None:
                done = glob.glob(f"{folder}/study/jobs/*/manifest.json")
                if done and not first:
                    first = time.perf_counter() - begin
                time.sleep(0.01)
        assert running.returncode == 0
        return first, time.perf_counter() - begin


def measured(part: Callable[[str], float], who: str) -> Callable[[], float]:
    def run() -> float:
        command = [sys.executable, __file__, f"{part.__name__}:{who}"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return float(json.loads(done.stdout.splitlines()[-1]))

    return run


def sklearn_curve(V: Any, rank: int, loss: str) -> Iterator[tuple[float, float]]:
    """(seconds, √objective) of its defaults, all of a call on the clock."""
    from sklearn.decomposition import _nmf

    solver = "cd" if loss == "frobenius" else "mu"
    one = model("scikit-learn")(rank, solver=solver, beta_loss=loss, tol=0, max_iter=1)
    seconds, every = float(np.median([_seconds(one, V) for _ in range(3)])), 2
    W, H = _nmf._initialize_nmf(V, rank, init="nndsvda", random_state=0)
    H = np.ascontiguousarray(H)
    begin = time.perf_counter()
    if loss == "frobenius":
        _nmf._fit_coordinate_descent(V, W.copy(), H.copy(), tol=0, max_iter=1)
    else:
        _nmf._fit_multiplicative_update(V, W.copy(), H.copy(), loss, 1, 0)
    seconds -= time.perf_counter() - begin
    while seconds < 3 * BUDGET:
        begin = time.perf_counter()
        if loss == "frobenius":
            W, H, _ = _nmf._fit_coordinate_descent(V, W, H, tol=0, max_iter=every)
        else:
            W, H, _ = _nmf._fit_multiplicative_update(V, W, H, loss, every, 0)
        seconds += time.perf_counter() - begin
        yield seconds, np.sqrt(objective(V, W, H, loss))


def _seconds(model: Any, V: Any) -> float:
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one iteration is not enough
        model.fit_transform(V)
    return time.perf_counter() - begin


def objective(V: Any, W: np.ndarray, H: np.ndarray, loss: str) -> float:
    from sklearn.decomposition._nmf import _beta_divergence

    V, W, H = (X.astype(np.float64) for X in (V, W, H))
    return float(_beta_divergence(V, W, H, loss))


def ours(V: Any, rank: int, loss: str) -> tuple[np.ndarray, np.ndarray]:
    """(seconds, √objective) of ours, the start on the clock."""
    import jaxnmf

    def run(**more: Any) -> Any:
        return jaxnmf.factorize(V, rank, loss=loss, tol=0.0, kkt=False, **more)

    run(max_iter=2, pad=False, record_every=2)
    one, all = [], []
    for _ in range(5):
        begin = time.perf_counter()
        found = run(max_iter=2, pad=False, record_every=2)
        all.append(time.perf_counter() - begin)
        one.append(float(found.trace.seconds[-1]))
    before = max(0.0, float(np.median(all) - np.median(one)))
    found = run(max_iter=10**6, time_budget=BUDGET, record_every=2, pad=False)
    return before + found.trace.seconds, np.sqrt(found.trace.objective)


def defaults() -> None:
    from jaxnmf import datasets

    all: dict[str, list[float]] = {}
    for name, rank, loss in DEFAULTS:
        V = datasets.load(name).V.astype(np.float32)
        seconds, errors = ours(V, rank, loss)
        theirs = np.array(list(sklearn_curve(V, rank, loss)))
        best = min(errors.min(), theirs[:, 1].min())
        for within in (1e-2, 1e-3):
            mine, other = (
                next((s for s, e in curve if e <= (1 + within) * best), np.inf)
                for curve in (zip(seconds, errors, strict=True), theirs)
            )
            reached = np.isfinite(other)
            ratio = (other if reached else theirs[-1, 0]) / mine
            all.setdefault(loss, []).append(ratio)
            print(
                f"{name} p={rank} {loss}, to {within}: jaxnmf {mine:.3f} s, "
                f"scikit-learn {other:.3f} s, {'' if reached else '≥ '}{ratio:.1f}×",
                flush=True,
            )
    for loss, ratios in all.items():
        mean = float(np.exp(np.mean(np.log(ratios))))
        print(f"{loss}: geometric mean {mean:.1f}×, least {min(ratios):.1f}×")


PARTS: dict[str, Callable[[str], float]] = {
    part.__name__: part for part in (shapes, ranks, rows)
}


def main(*asked: str) -> None:
    from common import alternate

    for name, part in PARTS.items():
        if asked and name not in asked:
            continue
        pair = [measured(part, who) for who in ("jaxnmf", "scikit-learn")]
        mine, other = (float(np.median(x)) for x in alternate(REPEATS, *pair))
        print(
            f"{name}: jaxnmf {mine:.4f} s, scikit-learn {other:.4f} s: "
            f"{mine / other:.2f}×",
            flush=True,
        )
    if not asked or "start" in asked:
        pair = [functools.partial(in_process, "-c", code) for code in (OURS, THEIRS)]
        mine, other = (float(np.median(x)) for x in alternate(REPEATS, *pair))
        print(f"start: jaxnmf {mine:.2f} s, scikit-learn {other:.2f} s", flush=True)
    if not asked or "study" in asked:
        first, end = np.median([study() for _ in range(REPEATS)], 0)
        print(f"study: first result {first:.2f} s, end {end:.2f} s", flush=True)
    if not asked or "defaults" in asked:
        defaults()


if __name__ == "__main__":
    if len(sys.argv) == 2 and ":" in sys.argv[1]:
        name, who = sys.argv[1].split(":")
        print(json.dumps(PARTS[name](who)))
    else:
        main(*sys.argv[1:])
