"""Offsets of rows and columns, inside the non-negative model.

V_ij ≈ b_i + c_j + Σ_k w_ik h_kj is W'H' with two components more, each with one side
held at one: W' = [b, 1, W] and H' = [1; c; H]. So they are trained with the factors, by
every solver, for every loss, and are as non-negative as those.

An l2 penalty pulls b and c to half the mean of V each: a row or column of which little
is known is then like all others, where a pull to zero would make it predict nothing.
Factors may be pulled to the mean for the same reason.

Reference: Koren, Bell & Volinsky, "Matrix factorization techniques for recommender
systems", Computer 42 (2009) [Koren2009], for offsets of users and items.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

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


class Levels(NamedTuple):
    """Where l2 pulls, and where a start begins."""

    share: float  # of the mean of V, what W H has
    entry: float  # of W and H, 0 unless they are pulled to the mean
    half: float  # of each offset


def levels(
    operand: Operand, rank: int, offsets: tuple[float, float] | None, toward: str
) -> Levels:
    """The levels for an operand at a rank.

    Args:
      operand: V, observed in part.
      rank: p.
      offsets: the l2 weights of b and of c, or None for no offsets.
      toward: "zero" or "mean".
    """
    mean = float(operand.moments.mean)
    share = 1.0 if offsets is None else SHARE
    entry = float(np.sqrt(share * mean / rank)) if toward == "mean" else 0.0
    return Levels(share, entry, mean * (1 - share) / 2)


def with_offsets(
    problem: Problem, rank: int, offsets: tuple[float, float] | None, toward: str
) -> Problem:
    """The problem at a rank with offsets, and with l2 pulling ``toward``.

    Args:
      problem: over data observed in part, without offsets.
      rank: p; the factors have two rows more where there are offsets.
      offsets, toward: as for `levels`.

    Raises:
      ValueError: for offsets with a constraint that ties the components of a factor.
    """
    dtype = problem.operand.dtype
    _, entry, half = levels(problem.operand, rank, offsets, toward)
    if offsets is not None and "simplex" in [P.name for P in problem.projects]:
        raise ValueError(
            f"offsets={offsets} with the constraint 'simplex': a sum to one leaves no "
            "room for offsets, which are components of their own; use 'nonnegative' or "
            "'box'"
        )
    if offsets is None:
        penalties = tuple(
            dataclasses.replace(penalty, toward=jnp.asarray(entry, dtype))
            for penalty in problem.penalties
        )
        return dataclasses.replace(problem, penalties=penalties)
    penalties, projects = [], []
    for free, (penalty, project) in enumerate(
        zip(problem.penalties, problem.projects, strict=True)
    ):

        def column(first: Any, rest: Any, free: int = free) -> Any:
            """Row ``free`` is the offset, the other of the first two held at one."""
            two = [first, 0.0] if free == 0 else [0.0, first]
            return jnp.asarray([*two, *[float(rest)] * rank], dtype)[:, None]

        penalties.append(
            dataclasses.replace(
                penalty,
                l1=column(0.0, penalty.l1),
                l2=column(offsets[free], penalty.l2),
                toward=column(half, entry),
            )
        )
        held = np.full((FIRST + rank, 1), np.nan)
        held[1 - free] = 1.0
        projects.append(dataclasses.replace(project, held=jnp.asarray(held, dtype)))
    return dataclasses.replace(
        problem, penalties=tuple(penalties), projects=tuple(projects)
    )


def start_with_offsets(
    operand: Operand,
    factors: Factors,
    offsets: tuple[float, float] | None,
    toward: str,
    *,
    drawn: bool,
) -> Factors:
    """Initial factors for `with_offsets`.

    Args:
      operand: V, observed in part.
      factors: of rank p; those returned have two rows more where there are offsets.
      offsets, toward: as for `levels`.
      drawn: whether the factors were drawn at random: their level may then be changed.
    """
    dtype = operand.dtype
    share, entry, half = levels(operand, len(factors.H), offsets, toward)
    if entry and drawn:
        # Near where l2 pulls, or the first iterations lead away from it.
        factors = Factors(
            *(entry * (1 - SPREAD + SPREAD * X / X.mean()) for X in factors)
        )
    elif offsets is not None:
        factors = Factors(*(np.sqrt(share) * X for X in factors))
    factors = Factors(*(np.asarray(X, dtype) for X in factors))  # pyright: ignore
    if offsets is None:
        return factors
    grown = []
    for free, X in enumerate(factors):
        two = np.ones((FIRST, X.shape[1]))
        two[free] = half
        grown.append(np.vstack([two, X]).astype(dtype))
    return Factors(*grown)


def has_offsets(problem: Problem) -> bool:
    """Whether `with_offsets` gave the problem offsets: a row of each factor is held at
    one."""
    of_W, of_H = (project.held for project in problem.projects)
    if of_W is None or of_H is None:
        return False
    rows = np.asarray(of_W)[1:2], np.asarray(of_H)[:1]
    return all(bool((row == 1).all()) for row in rows)
