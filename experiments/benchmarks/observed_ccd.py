"""Ratings: `ccd`, on the residual at the known entries, against weighted `hals`.

movielens_small whole, l2 = 20 and 10 toward the mean rating. The goal is the objective
that `hals` reaches after ``ITERATIONS`` iterations. How many `ccd` takes to it is
counted first; then an iteration of each is timed, in turn. Peaks of resident memory
are those of processes of their own.

    python experiments/benchmarks/observed_ccd.py [rank [block [inner]]]
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

ITERATIONS, MOST = 30, 200
TIMED, REPEATS = 3, 5  # iterations at a time, how often
RANKS = (20, 64, 128)


class Contestant:
    """A solver on the ratings, from the start that both share, compiled."""

    def __init__(self, rank: int, solver: str, **options: int) -> None:
        from jaxnmf import datasets
        from jaxnmf.build import Objective, Start, at_rank, draw_start, make_problem
        from jaxnmf.registry import make_solver
        from jaxnmf.run.loop import advance
        from jaxnmf.run.programs import as_leaves, compiled, precision

        with precision("float32") as dtype:
            V = datasets.load("movielens_small").V
            made = make_solver(solver, options)
            objective = Objective.of(l2=(20.0, 10.0), toward="mean")
            problem = make_problem(V, made, objective, dtype)
            self.problem = at_rank(problem, objective, rank)
            start = draw_start(self.problem, objective, Start.of(), rank)
            self.solver = as_leaves(made, dtype)
            self.start = jax.tree.map(jax.numpy.asarray, start)
            self.state = self.solver.init(self.problem, self.start, jax.random.key(0))
            arguments = (self.problem, self.solver, self.start, self.state)
            self.program, self.compile_seconds = compiled(
                advance, *arguments, np.int32(1)
            )
            self.value = jax.jit(lambda problem, factors: problem.value(factors))

    def iterate(self, iterations: int) -> float:
        """Seconds of so many iterations from the start."""
        begin = time.perf_counter()
        arguments = (self.problem, self.solver, self.start, self.state)
        jax.block_until_ready(self.program(*arguments, np.int32(iterations)))
        return time.perf_counter() - begin

    def losses(self, iterations: int) -> list[float]:
        factors, state, found = self.start, self.state, []
        for _ in range(iterations):
            factors, state = self.program(
                self.problem, self.solver, factors, state, np.int32(1)
            )
            found.append(float(self.value(self.problem, factors)))
        return found


def peak(rank: int, solver: str) -> float:
    """Resident memory at its peak in a process of its own, in bytes."""
    command = [sys.executable, __file__, "peak", str(rank), solver]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(ranks: tuple[int, ...] = RANKS, **options: int) -> None:
    for rank in ranks:
        hals, ccd = Contestant(rank, "hals"), Contestant(rank, "ccd", **options)
        goal = hals.losses(ITERATIONS)[-1]
        curve = np.array(ccd.losses(MOST))
        if curve.min() > goal:
            print(f"p={rank}: not in {MOST} iterations: {curve.min():.7g}, {goal:.7g}")
            continue
        count = 1 + int(np.argmax(curve <= goal))
        pairs = [(hals.iterate(TIMED), ccd.iterate(TIMED)) for _ in range(REPEATS)]
        one, other = np.median(pairs, axis=0) / TIMED
        theirs, ours = ITERATIONS * one, count * other
        print(
            f"p={rank}, to {goal:.7g}: hals {theirs:.2f} s ({ITERATIONS} iterations of "
            f"{1e3 * one:.1f} ms), ccd {ours:.2f} s ({count} of {1e3 * other:.1f} ms), "
            f"{theirs / ours:.2f}×; "
            f"peak {peak(rank, 'hals') / 1e9:.2f} and {peak(rank, 'ccd') / 1e9:.2f} GB",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["peak"]:
        one = Contestant(int(sys.argv[2]), sys.argv[3])
        one.iterate(2)
        # Not getrusage: a child begins with the peak of what started it.
        status = Path("/proc/self/status").read_text()
        print(1024 * int(status.split("VmHWM:")[1].split()[0]))
    else:
        given = list(map(int, sys.argv[1:]))
        options = dict(zip(("block", "inner"), given[1:], strict=False))
        main(tuple(given[:1]) or RANKS, **options)
