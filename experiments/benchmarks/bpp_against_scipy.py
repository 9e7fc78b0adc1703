"""`nnls`, all columns at once, against `scipy.optimize.nnls` one column at a time.

Planted non-negative solutions, half of them zero, with noise: 2000 right-hand sides of
a 200×p matrix, from a start at zero. SciPy is given A and b in float64; ours the Gram
and cross product, whose making is on its clock. Both answers are compared.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from common import alternate

from jaxnmf.data.grams import SharedGram
from jaxnmf.run.programs import precision
from jaxnmf.solvers.bpp import nnls


def problem(m: int, p: int, q: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    A = rng.random((m, p))
    X = rng.random((p, q)) * (rng.random((p, q)) < 0.5)
    return A, A @ X + 0.1 * rng.standard_normal((m, q))


def by_scipy(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    return np.stack([scipy.optimize.nnls(A, b)[0] for b in B.T], axis=1)


def run(function: Callable[..., Any], *arguments: Any) -> None:
    jax.block_until_ready(function(*arguments))


def rested(function: Callable[..., Any], *arguments: Any) -> float:
    """Seconds of a call once SciPy's BLAS threads have stopped spinning."""
    time.sleep(0.3)
    run(function, *arguments)
    begin = time.perf_counter()
    run(function, *arguments)
    return time.perf_counter() - begin


def main(repeats: int = 5) -> None:
    for p in (20, 50):
        A, B = problem(200, p, 2000)
        expected = by_scipy(A, B)
        for dtype in ("float32", "float64"):
            with precision(dtype):
                F, V = jnp.asarray(A.T, dtype), jnp.asarray(B, dtype)
                begin = time.perf_counter()
                solve = jax.jit(lambda F, V: nnls(SharedGram.of(F), F @ V))
                solve = solve.lower(F, V).compile()
                compile_seconds = time.perf_counter() - begin
                error = np.abs(np.asarray(solve(F, V)) - expected).max()
                scipy_seconds, our_seconds = (
                    float(np.median(s))
                    for s in alternate(
                        repeats,
                        lambda A=A, B=B: run(by_scipy, A, B),
                        lambda s=solve, F=F, V=V: rested(s, F, V),
                    )
                )
            print(
                f"p={p} {dtype}: SciPy {1e3 * scipy_seconds:7.1f} ms"
                f"  nnls {1e3 * our_seconds:6.1f} ms"
                f"  ratio {scipy_seconds / our_seconds:5.1f}"
                f"  compilation {compile_seconds:.2f} s"
                f"  largest difference {error:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main(*(int(x) for x in sys.argv[1:]))
