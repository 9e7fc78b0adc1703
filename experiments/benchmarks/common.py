"""What the benchmarks share: problems, peers, and how a ratio is measured.

Two things are timed in turn, A B A B …, and medians are compared, so that a machine
whose speed drifts slows both. Nothing else should run meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxnmf import datasets
from jaxnmf.data.convert import as_operand
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import make_loss, make_solver
from jaxnmf.run import programs
from jaxnmf.run.clock import timed
from jaxnmf.run.loop import advance
from jaxnmf.run.programs import as_leaves, compiled
from jaxnmf.run.stop import Stop
from jaxnmf.types import Factors


@dataclass(frozen=True)
class Case:
    """A matrix, a rank and the start that all contestants share."""

    name: str
    V: Any  # NumPy, or SciPy sparse
    rank: int
    seed: int = 0

    def start(self) -> tuple[np.ndarray, np.ndarray]:
        """scikit-learn's random start: |N(0, 1)| √(mean V / p), float32."""
        rng = np.random.default_rng(self.seed)
        scale = np.sqrt(self.V.mean() / self.rank)
        W = scale * np.abs(rng.standard_normal((self.V.shape[0], self.rank)))
        H = scale * np.abs(rng.standard_normal((self.rank, self.V.shape[1])))
        return W.astype(np.float32), H.astype(np.float32)


def synthetic(m: int, n: int, rank: int) -> Case:
    """Planted factors with noise, dense, of the given size."""
    rng = np.random.default_rng(0)
    V = rng.random((m, rank)) @ rng.random((rank, n)) + 0.1 * rng.random((m, n))
    return Case(f"synthetic {m}×{n}", V.astype(np.float32), rank)


def real(name: str, rank: int, seed: int = 0) -> Case:
    """A set of the folder JAXNMF_DATA (or a bundled one), float32."""
    return Case(name, np.asarray(datasets.load(name).V, np.float32), rank, seed)


class Ours:
    """A solver of jaxnmf on a case, compiled; ``compile_seconds`` says how long."""

    def __init__(
        self, case: Case, solver: str, loss: str = "frobenius", **options: Any
    ) -> None:
        with programs.precision("float32") as dtype:
            operand = as_operand(case.V, dtype)
            self.problem = Problem.of(operand, make_loss(loss))
            self.solver = as_leaves(make_solver(solver, options), dtype)
            W, H = case.start()
            self.start = Factors(jax.numpy.asarray(W.T), jax.numpy.asarray(H))
            self.key = jax.random.key(0)
            self.state = self.solver.init(self.problem, self.start, self.key)
            arguments = (self.problem, self.solver, self.start, self.state)
            self.program, self.compile_seconds = compiled(
                advance, *arguments, np.int32(1)
            )

    def iterate(self, iterations: int) -> None:
        """So many iterations from the start, until the result is there."""
        arguments = (self.problem, self.solver, self.start, self.state)
        jax.block_until_ready(self.program(*arguments, np.int32(iterations)))

    def curve(
        self, iterations: int, every: int, target: float = -np.inf
    ) -> Iterator[tuple[float, float]]:
        """(seconds, loss) along a run to the target loss."""
        yield from self._run(Stop(max_iter=iterations, tol=0.0, target=target), every)

    def until(self, seconds: float, every: int) -> Iterator[tuple[float, float]]:
        """(seconds, loss) along a run of so many seconds."""
        yield from self._run(Stop(max_iter=10**6, tol=0.0, seconds=seconds), every)

    def _run(self, stop: Stop, every: int) -> Iterator[tuple[float, float]]:
        with programs.precision("float32"):
            run = timed(
                self.problem,
                self.solver,
                self.start,
                self.key,
                stop,
                record_every=every,
                kkt=False,
            )
        yield from zip(run.trace.seconds, run.trace.objective, strict=True)


def half_squared_error(V: np.ndarray, W: np.ndarray, H: np.ndarray) -> float:
    """½‖V − WH‖² in float64."""
    return 0.5 * float(np.sum((V - W.astype(np.float64) @ H) ** 2))


def sklearn_cd(
    case: Case, iterations: int, every: int
) -> Iterator[tuple[float, float]]:
    """(seconds, loss) of scikit-learn's coordinate descent.

    Its inner function is called, so that no input check is on the clock.
    """
    from sklearn.decomposition._nmf import _fit_coordinate_descent

    W, H = case.start()
    seconds = 0.0
    yield seconds, half_squared_error(case.V, W, H)
    for _ in range(0, iterations, every):
        begin = time.perf_counter()
        W, H, _ = _fit_coordinate_descent(case.V, W, H, tol=0, max_iter=every)
        seconds += time.perf_counter() - begin
        yield seconds, half_squared_error(case.V, W, H)


def numpy_hals(
    case: Case, iterations: int, every: int
) -> Iterator[tuple[float, float]]:
    """(seconds, loss) of HALS in twenty lines of NumPy, rank-major as ours."""
    V = case.V
    W, H = case.start()
    Wt, H = np.ascontiguousarray(W.T), H.copy()

    def sweep(X: np.ndarray, gram: np.ndarray, cross: np.ndarray) -> None:
        for k in range(len(X)):
            if gram[k, k] > 0:
                X[k] += (cross[k] - gram[k] @ X) / gram[k, k]
                np.maximum(X[k], 0, out=X[k])

    seconds = 0.0
    yield seconds, half_squared_error(V, Wt.T, H)
    for _ in range(0, iterations, every):
        begin = time.perf_counter()
        for _ in range(every):
            sweep(H, Wt @ Wt.T, Wt @ V)
            sweep(Wt, H @ H.T, H @ V.T)
        seconds += time.perf_counter() - begin
        yield seconds, half_squared_error(V, Wt.T, H)


def time_to(target: float, curve: Iterator[tuple[float, float]]) -> float:
    """Seconds until a curve's loss is at most the target, interpolated in log loss."""
    before = None
    for seconds, loss in curve:
        if loss <= target:
            if before is None or before[1] <= loss:
                return seconds
            (s, high), low = before, max(loss, 1e-300)
            part = np.log(high / target) / np.log(high / low)
            return float(s + part * (seconds - s))
        before = (seconds, loss)
    return np.inf


def alternate(
    repeats: int, *functions: Callable[[], float | None]
) -> list[list[float]]:
    """Call the functions in turn, ``repeats`` times; each one's seconds.

    A function that returns a number is taken at its word, else its call is timed.
    """
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, found in zip(functions, seconds, strict=True):
            begin = time.perf_counter()
            found_seconds = function()
            took = time.perf_counter() - begin
            found.append(took if found_seconds is None else found_seconds)
    return seconds


def geometric_mean(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))
