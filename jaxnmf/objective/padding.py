"""Padding: a problem at a larger rank, with the same solution."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxnmf.objective.problem import Problem
from jaxnmf.types import Factors


def padded(problem: Problem, factors: Factors, rank: int) -> tuple[Problem, Factors]:
    """The problem and factors with components that are held at 0 up to ``rank``.

    They add nothing to the objective, the gradients and the KKT residual, so that runs
    of several ranks can share one compiled program. Everything is on the host. The
    problem has held entries also where its rank is ``rank`` already.
    """
    own = len(factors.H)
    extra = rank - own

    def grown(x: Any) -> np.ndarray:
        """With rows of zeros for the new components, where it has a row for each."""
        x = np.asarray(x)
        if x.ndim == 0 or len(x) != own:
            return x
        return np.pad(x, [(0, extra), (0, 0)])

    projects = []
    for project in problem.projects:
        held = np.nan if project.held is None else np.asarray(project.held)
        held = np.broadcast_to(held, (own, np.shape(held)[1] if np.ndim(held) else 1))
        held = grown(held.astype(problem.operand.dtype))
        projects.append(dataclasses.replace(project, held=held))
    problem = dataclasses.replace(
        problem,
        projects=tuple(projects),
        penalties=jax.tree.map(grown, problem.penalties),
    )
    return problem, Factors(*(grown(X) for X in factors))  # pyright: ignore
