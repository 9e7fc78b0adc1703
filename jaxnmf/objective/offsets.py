"""Offsets of rows and columns, inside the non-negative model.

V_ij ≈ b_i + c_j + Σ_k w_ik h_kj is W'H' with two components more, each with one side
held at one: W' = [b, 1, W] and H' = [1; c; H]. So they are trained with the factors, by
every solver, for every loss, and are as non-negative as those.

An l2 penalty pulls b and c to half the mean of V each: a row or column of which little
is known is then like all others, where a pull to zero would make it predict nothing.
Factors may be pulled to the mean for the same reason.

Reference: Koren, Bell & Volinsky, "Matrix factorization techniques for recommender
systems", Computer 42 (2009), for offsets of users and items.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnmf.data.operand import Operand
from jaxnmf.objective.problem import Problem
from jaxnmf.types import Factors

FIRST = 2  # the first component that is no offset
# Of many that were tried on ratings from half a star to five, by a validation part.
OFFSET_WEIGHTS = (5.0, 3.0)
TOWARD = ("zero", "mean")
SHARE = 0.25  # of the mean, what W H takes where there are offsets
SPREAD = 0.2  # of the level, how far a random start is from it


def with_prior(
    problem: Problem,
    factors: Factors,
    offset_weights: tuple[float, float] | None,
    toward: str,
    *,
    drawn: bool = True,
) -> tuple[Problem, Factors]:
    """The problem with offsets and what l2 pulls to, and factors to begin from.

    Args:
      problem: over data observed in part, without offsets.
      factors: of rank p; those returned have two rows more where there are offsets.
      offset_weights: the l2 weight of b and of c, or None for no offsets.
      toward: "zero" or "mean", where the problem's own l2 pulls.
      drawn: the factors were drawn at random, so that their level may be changed.
    """
    dtype = problem.operand.dtype
    mean = known_mean(problem.operand)
    rank = len(factors.H)
    share = 1.0 if offset_weights is None else SHARE
    level = float(np.sqrt(share * mean / rank)) if toward == "mean" else 0.0
    if level and drawn:
        # Near where l2 pulls, or the first iterations lead away from it.
        factors = Factors(
            *(level * (1 - SPREAD + SPREAD * X / X.mean()) for X in factors)
        )
    elif offset_weights is not None:
        factors = Factors(*(np.sqrt(share) * X for X in factors))
    factors = Factors(*(np.asarray(X, dtype) for X in factors))  # pyright: ignore
    if offset_weights is None:
        penalties = tuple(
            dataclasses.replace(penalty, toward=jnp.asarray(level, dtype))
            for penalty in problem.penalties
        )
        return dataclasses.replace(problem, penalties=penalties), factors

    half = mean * (1 - share) / 2
    penalties, projects, grown = [], [], []
    for free, (penalty, project, X) in enumerate(
        zip(problem.penalties, problem.projects, factors, strict=True)
    ):

        def column(first: Any, rest: Any, free: int = free) -> Any:
            """Row ``free`` is the offset, the other of the first two held at one."""
            two = [first, 0.0] if free == 0 else [0.0, first]
            return jnp.asarray([*two, *[float(rest)] * rank], dtype)[:, None]

        penalties.append(
            dataclasses.replace(
                penalty,
                l1=column(0.0, penalty.l1),
                l2=column(offset_weights[free], penalty.l2),
                toward=column(half, level),
            )
        )
        held = np.full(FIRST + rank, np.nan)
        held[1 - free] = 1.0
        projects.append(dataclasses.replace(project, pinned=jnp.asarray(held, dtype)))
        two = np.ones((FIRST, X.shape[1]))
        two[free] = half
        grown.append(np.vstack([two, X]).astype(dtype))
    problem = dataclasses.replace(
        problem, penalties=tuple(penalties), projects=tuple(projects)
    )
    return problem, Factors(*grown)


def known_mean(operand: Operand) -> float:
    """The weighted mean of what is known of V."""
    values: Any = operand.to_host()
    weights: Any = operand.host_weights()
    if weights is None:
        return float(values.mean())
    if hasattr(values, "tocsr"):
        values, weights = values.data, weights.data
    return float(np.average(values, weights=weights))
