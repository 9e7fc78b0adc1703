"""What a HALS iteration costs over its own four matrix products.

The products alone: Wt Wtᵀ, Wt V, H Hᵀ, H Vᵀ in the same compiled loop, with factors
that change so that nothing is computed once for all. One sweep (``inner=1``).
"""

from __future__ import annotations

import sys
from typing import Any

import jax
import numpy as np
from common import Case, Ours, alternate, real, synthetic

from jaxnmf.run import programs
from jaxnmf.types import Factors

ITERATIONS = 20


def products(problem: Any, factors: Factors, steps: Any) -> Factors:
    def body(_: Any, factors: Factors) -> Factors:
        Wt, H = factors
        gram, cross = problem.quadratic(Wt)
        H = 1e-3 * cross + gram[0, 0]
        gram, cross = problem.T.quadratic(H)
        return Factors(1e-3 * cross + gram[0, 0], H)

    return jax.lax.fori_loop(0, steps, body, factors)


def ratio(case: Case, repeats: int) -> tuple[float, float, float]:
    ours = Ours(case, "hals", inner=1)
    with programs.precision("float32"):
        program = jax.jit(products).lower(ours.problem, ours.start, np.int32(1))
        program = program.compile()
    steps = np.int32(ITERATIONS)

    def bare() -> None:
        jax.block_until_ready(program(ours.problem, ours.start, steps))

    seconds = alternate(repeats, lambda: ours.iterate(ITERATIONS), bare)
    hals, alone = (1e3 * float(np.median(s)) / ITERATIONS for s in seconds)
    return hals, alone, hals / alone


def main(repeats: int = 15) -> None:
    cases = [
        synthetic(2000, 1000, 20),
        synthetic(5000, 2000, 24),
        real("cbcl_faces", 49),
    ]
    for case in cases:
        hals, alone, times = ratio(case, repeats)
        print(
            f"{case.name:22} p={case.rank:<3} HALS {hals:7.3f} ms, "
            f"products {alone:7.3f} ms, ratio {times:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main(*(int(x) for x in sys.argv[1:]))
