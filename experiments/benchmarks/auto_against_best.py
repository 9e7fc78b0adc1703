"""The solver that `solver="auto"` takes against every other one, on the shared data.

Each runs from one random start for so many seconds; the ratio is its time to
within 1 % (and 0.1 %) of the least error of all, √objective, over that of the fastest.

    python experiments/benchmarks/auto_against_best.py [seconds] [part of a case's name]
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

import jaxnmf
from jaxnmf import datasets, registry
from jaxnmf.auto import chosen
from jaxnmf.build import Objective
from jaxnmf.data.known import what_is_known
from jaxnmf.solvers.base import constraints_of, operands_of

WITHIN = (1e-2, 1e-3)
# Others solve another problem, or were ten times slower in every study.
LEFT_OUT = {"ard", "als", "mu-minibatch", "hals-online", "compressed", "kl-mirror"}


class Case(NamedTuple):
    """A data set with a rank, a loss and what else is asked."""

    data: str
    rank: int
    loss: str = "frobenius"
    constraints: Any = "nonnegative"
    l2: float = 0.0

    @property
    def name(self) -> str:
        more = "" if self.constraints == "nonnegative" else f" {self.constraints}"
        return f"{self.loss} {self.data} p={self.rank}{more}"


CASES = (
    Case("cbcl_faces", 49),
    Case("jasper_ridge", 4),
    Case("all_aml", 3),
    Case("digits", 16),
    Case("piano_mary", 4),
    Case("newsgroups20_w1000", 20),
    Case("kos_blogs", 50),
    Case("movielens_small", 20, l2=5.0),
    Case("digits", 10, constraints="box"),
    Case("jasper_ridge", 4, constraints=("simplex", "nonnegative")),
    Case("cbcl_faces", 10, "kl"),
    Case("all_aml", 3, "kl"),
    Case("piano_mary", 4, "kl"),
    Case("breast21_mutations", 5, "kl"),
    Case("cbcl_faces", 49, "kl"),
    Case("newsgroups20_w1000", 20, "kl"),
    Case("breast21_mutations", 5, "kl", ("simplex", "nonnegative")),
    Case("samson", 3, "beta"),
)


def candidates(kind: str, objective: Objective) -> list[str]:
    """The solvers of the problem itself."""
    found = []
    for name in registry.solvers():
        solver = registry.make_solver(name)
        asked = {one.name for one in objective.constraints}
        if (
            solver.supports.includes(objective.loss)
            and kind in operands_of(solver)
            and asked <= constraints_of(solver)
            and not solver.supports.symmetric
            and not solver.supports.signed
            and not getattr(solver, "own_objective", False)
            and name not in LEFT_OUT
        ):
            found.append(name)
    return found


def times(errors: np.ndarray, seconds: np.ndarray, best: float) -> list[float]:
    """The seconds to within each distance of the best error."""
    found = []
    for distance in WITHIN:
        near = np.flatnonzero(errors <= (1 + distance) * best)
        found.append(float(seconds[near[0]]) if len(near) else np.inf)
    return found


def main(budget: float = 2.0, part: str = "") -> None:
    for case in CASES:
        if part not in case.name:
            continue
        V = datasets.load(case.data).V
        known = what_is_known(V)
        objective = Objective.of(case.loss, constraints=case.constraints)
        row = chosen(objective, known.kind, case.rank)
        own = f"{row.solver} (auto)"
        names = candidates(known.kind, objective)
        runs: dict[str, Any] = {name: (name, {}) for name in names}
        if not row.options:
            del runs[row.solver]
        runs[own] = row.solver, row.options  # last: the first run is on cold cores
        curves = {}
        for name, (solver, options) in runs.items():
            found = jaxnmf.factorize(
                V, case.rank, solver=solver, solver_options=options, loss=case.loss,
                constraints=case.constraints, l2=case.l2, max_iter=10**6, tol=0.0,
                time_budget=budget, record_every=2, kkt=False, pad=False,
            )  # fmt: skip
            curves[name] = np.sqrt(found.trace.objective), found.trace.seconds
        best = min(float(np.nanmin(errors)) for errors, _ in curves.values())
        reached = {
            name: times(errors, seconds, best)
            for name, (errors, seconds) in curves.items()
        }
        print(f"{case.name}: {own}")
        for i, distance in enumerate(WITHIN):
            order = sorted(reached, key=lambda name: reached[name][i])
            first = reached[order[0]][i]
            ratio = reached[own][i] / max(first, 1e-6)
            listed = ", ".join(f"{x} {1e3 * reached[x][i]:.3g}" for x in order[:4])
            print(f"  to {distance:g}: {ratio:.2f} of the fastest ({listed} ms)")


if __name__ == "__main__":
    seconds, *part = sys.argv[1:] or ["2.0"]
    main(float(seconds), *part[:1])
