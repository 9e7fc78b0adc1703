"""The solver and the start where a user leaves them open."""

from __future__ import annotations

from jaxnmf.build import Objective
from jaxnmf.registry import make_solver
from jaxnmf.solvers.base import constraints_of, operands_of

PLAIN = ("cd", "mu")  # scikit-learn's two
PREFERRED = ("extrapolated", "mu-extrapolated", "pgd")


def chosen_solver(objective: Objective, kind: str) -> str:
    """The first preferred solver for an objective and a kind of data; scikit-learn's
    "mu" where none of them supports it."""
    asked = {one.name for one in objective.constraints}
    for name in PREFERRED:
        solver = make_solver(name)
        fits = kind in operands_of(solver) and asked <= constraints_of(solver)
        by_stored = objective.loss.beta in (1, 2) or kind != "sparse"
        if fits and by_stored and solver.supports.includes(objective.loss):
            return name
    return "mu"


def chosen_start(objective: Objective, solver: str, low_rank: bool) -> str:
    """The start for one of jaxnmf's own solvers.

    Args:
      objective: what is minimised.
      solver: "auto" or another.
      low_rank: whether p ≤ min(m, n), and every entry of V is known and ≥ 0.
    """
    if not low_rank:
        return "random"
    return "nndsvd" if solver == "auto" and objective.loss.quadratic else "nndsvda"
