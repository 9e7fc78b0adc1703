"""Targets: matrices that the l2 penalty shrinks the factors to.

½ l2 ‖H − T‖² with T from an earlier fit, a reference or a prior keeps H near T, as a
known part would hold it there. Components beyond those of T are shrunk to zero.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnmf.data.operand import true_shape
from jaxnmf.objective.offsets import TOWARD
from jaxnmf.objective.parts import SHAPES, Parts, as_part, check_shape
from jaxnmf.objective.problem import Problem

NAMES = ("toward for W", "toward for H")
EXPECTED = (
    f"{', '.join(TOWARD)}, a matrix for H, or a pair (for W, for H) of which each is "
    "None or a matrix"
)


def as_toward(toward: Any) -> str | Parts:
    """One of the names `TOWARD`, or the targets for Wt and H as float64.

    Raises:
      ValueError: for anything else, or a matrix with entries that are negative or not
        finite.
    """
    if isinstance(toward, str):
        if toward not in TOWARD:
            raise ValueError(f"toward={toward!r} must be one of {EXPECTED}")
        return toward
    if len(getattr(toward, "shape", ())) == 2:
        toward = None, toward
    if not isinstance(toward, list | tuple) or len(toward) != 2:
        raise ValueError(
            f"toward: {type(toward).__name__} is not a pair; it must be one of "
            f"{EXPECTED}, such as (None, T)"
        )
    W, H = (
        None if T is None else as_part(name, T, shape)
        for name, T, shape in zip(NAMES, toward, SHAPES, strict=True)
    )
    if W is None and H is None:
        return "zero"
    return None if W is None else np.ascontiguousarray(W.T), H


def targets_of(toward: str | Parts) -> Parts:
    """The targets for Wt and H; (None, None) for a name."""
    return (None, None) if isinstance(toward, str) else toward


def check_weights(toward: str | Parts, l2: tuple[float, float]) -> None:
    """Raise a ValueError for a target without an l2 that shrinks to it."""
    for target, weight, side in zip(targets_of(toward), l2, "WH", strict=True):
        if target is not None and weight == 0:
            raise ValueError(
                f"toward: there is a target for {side}, and l2 for {side} is 0; give "
                "an l2 > 0, the weight of the distance to it"
            )


def with_targets(problem: Problem, rank: int, more: int, targets: Parts) -> Problem:
    """The problem at a rank with l2 that shrinks to targets.

    Args:
      problem: without offsets.
      rank: p.
      more: how many components of the factors are not among them.
      targets: for Wt and H, of p components or the first of them.

    Raises:
      ValueError: for a target of another V or a lower rank.
    """
    penalties = []
    for side, (penalty, target) in enumerate(
        zip(problem.penalties, targets, strict=True)
    ):
        if target is None:
            penalties.append(penalty)
            continue
        size = int(true_shape(problem.operand)[side])
        check_shape(NAMES[side], target, rank, size, "mn"[side])
        unit = (problem.units.W, problem.units.H)[side]
        whole = np.zeros((rank + more, size))
        whole[: len(target)] = target / unit
        whole = jnp.asarray(whole, problem.operand.dtype)
        penalties.append(dataclasses.replace(penalty, toward=whole))
    return dataclasses.replace(problem, penalties=tuple(penalties))


def without_targets(penalty: Any) -> Any:
    """The penalty of a problem without offsets for other rows, which have none."""
    if np.ndim(penalty.toward) < 2:
        return penalty
    return dataclasses.replace(penalty, toward=np.zeros((), penalty.toward.dtype))
