"""Offsets of rows and columns, as components of the model.

V_ij ≈ b_i + c_j + Σ_k w_ik h_kj is W'H' with two more components, in each of which
one factor is held at one: W' = [b, 1, W] and H' = [1; c; H]. Every solver therefore
fits the offsets together with the factors, for every loss, and they are non-negative.

An l2 penalty shrinks b and c to a share of the mean of V: a row or column with few
known entries is then predicted near the mean instead of near zero. Factors may be
shrunk to the mean for the same reason.

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

FIRST = 2  # the index of the first component that is not an offset
# Chosen by validation on ratings from half a star to five.
OFFSET_WEIGHTS = (5.0, 3.0)
TOWARD = ("zero", "mean")
# The mean of W H at the start of a fit with offsets, relative to that of V.
SHARE = 0.25
SPREAD = 0.2  # of a random start around its mean, relative to that


class Levels(NamedTuple):
    """The values that l2 shrinks to, which are also those of a start.

    Attributes:
      share: the mean of W H, relative to that of V.
      entry: the value of an entry of W or H, 0 unless they are shrunk to the mean.
      half: the value of an offset.
    """

    share: float
    entry: float
    half: float


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
    """The problem at a rank with offsets, and with l2 that shrinks ``toward``.

    Args:
      problem: over data observed in part, without offsets.
      rank: p; with offsets, the factors have two more rows.
      offsets, toward: as for `levels`.

    Raises:
      ValueError: for offsets with a constraint that couples the components of a factor.
    """
    dtype, units = problem.operand.dtype, problem.units
    _, entry, half = levels(problem.operand, rank, offsets, toward)
    if offsets is not None and "simplex" in [P.name for P in problem.projects]:
        raise ValueError(
            f"offsets={offsets} with the constraint 'simplex': offsets are components "
            "too, which must not count in a sum to one; use 'nonnegative' or 'box'"
        )
    if offsets is None:
        root = np.sqrt(units.V)  # what the level of V is shared by
        penalties = tuple(
            dataclasses.replace(
                penalty, toward=jnp.asarray(entry * (root / unit), dtype)
            )
            for penalty, unit in zip(problem.penalties, (units.W, units.H), strict=True)
        )
        return dataclasses.replace(problem, penalties=penalties)
    penalties, projects = [], []
    for free, (penalty, project) in enumerate(
        zip(problem.penalties, problem.projects, strict=True)
    ):

        def column(first: Any, rest: Any, free: int = free) -> Any:
            """(FIRST + p, 1): a value for the offset, which is row ``free``, 0 for the
            row that is held at one, and a value for the others."""
            two = [first, 0.0] if free == 0 else [0.0, first]
            return jnp.asarray([*two, *[float(rest)] * rank], dtype)[:, None]

        penalties.append(
            dataclasses.replace(
                penalty,
                l1=column(0.0, penalty.l1),
                l2=column(offsets[free] * units.V**2 / units.objective, penalty.l2),
                toward=column(half, entry),
            )
        )
        held = np.full((FIRST + rank, 1), np.nan)
        held[1 - free] = 1.0
        projects.append(dataclasses.replace(project, held=jnp.asarray(held, dtype)))
    return dataclasses.replace(
        problem,
        penalties=tuple(penalties),
        projects=tuple(projects),
        units=dataclasses.replace(units, offsets=(0, 1)),
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
      factors: of rank p; with offsets, those returned have two more rows.
      offsets, toward: as for `levels`.
      drawn: whether the factors were drawn at random, so that they may be rescaled.
    """
    dtype = operand.dtype
    share, entry, half = levels(operand, len(factors.H), offsets, toward)
    if entry and drawn:
        # Far from the values that l2 shrinks to, the first iterations lead away.
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
    """Whether `with_offsets` gave the problem offsets."""
    return problem.units.offsets is not None
