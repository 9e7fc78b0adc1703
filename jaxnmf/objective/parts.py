"""Known parts of the factors: entries of W and H held at given values.

Reference spectra or signatures are rows of H, templates and marker genes entries of H
that are held or zero, and a design matrix or the shares of a mixture columns of W. What
is NaN is free. Every solver whose projection holds entries fits the others.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnmf._util.checks import as_matrix
from jaxnmf.data.containers import contents
from jaxnmf.data.operand import true_shape
from jaxnmf.objective.constraints import Box, NonNegative
from jaxnmf.objective.offsets import FIRST
from jaxnmf.objective.problem import Problem
from jaxnmf.shapes import Float
from jaxnmf.types import Factors

Part = Float[np.ndarray, "_ _"]
Parts = tuple[Part | None, Part | None]

NAMES = ("known_W", "known_H")
SHAPES = ("(m, p), or (m, k) for the first k components", "(p, n), or (k, n)")


def as_parts(known_W: Any, known_H: Any) -> Parts | None:
    """The known parts of Wt and H as float64 with NaN for a free entry; None where
    nothing is known.

    Raises:
      ValueError: for what is no matrix, or holds a negative or infinite entry.
    """
    W, H = (
        None if value is None else as_part(name, value, shape, "free")
        for name, value, shape in zip(NAMES, (known_W, known_H), SHAPES, strict=True)
    )
    W, H = (None if X is None or np.isnan(X).all() else X for X in (W, H))
    W = None if W is None else np.ascontiguousarray(W.T)
    return None if W is None and H is None else (W, H)


def as_part(name: str, value: Any, shape: str, gap: str = "") -> Part:
    """A matrix for a part of a factor, as float64.

    Args:
      name, value: of the argument.
      shape: the one that it must have, in words.
      gap: what an entry is that is NaN; empty where none may be.

    Raises:
      ValueError: for what is no matrix, or holds a negative or infinite entry.
    """
    part = as_matrix(name, contents(value), shape)
    wrong = np.isinf(part) if gap else ~np.isfinite(part)
    otherwise = f", or NaN where it is {gap}" if gap else ""
    if not part.size or wrong.any():
        infinite = "an infinite entry" if np.isinf(part).any() else "NaN"
        found = infinite if part.size else f"shape {part.shape}"
        raise ValueError(
            f"{name} has {found}; it must be {shape}, and every entry a finite "
            f"number{otherwise}"
        )
    if (part < 0).any():
        raise ValueError(
            f"{name} holds negative entries, the smallest is {np.nanmin(part):g}; "
            f"every entry must be ≥ 0{otherwise}"
        )
    return part


def largest_known(parts: Parts | None, more: Part | None) -> tuple[float, float]:
    """The largest known entry of W and of H, 0 where none is known; ``more`` are
    further known columns of W."""
    W, H = (
        0.0 if part is None else float(np.nanmax(part))
        for part in parts or (None, None)
    )
    return W if more is None else max(W, float(more.max())), H


def known_sides(parts: Parts | None) -> frozenset[str]:
    """The factors, of "W" and "H", of which an entry is known."""
    sides = zip("WH", parts or (None, None), strict=True)
    return frozenset(side for side, part in sides if part is not None)


def is_fully_known(part: Part | None, rank: int) -> bool:
    """Whether all entries of a factor of this rank are known."""
    return part is not None and len(part) == rank and not np.isnan(part).any()


def fully_known_side(parts: Parts | None, rank: int) -> str | None:
    """The factor, "W" or "H", of which all is known; None where neither is."""
    W, H = parts or (None, None)
    if is_fully_known(W, rank) and is_fully_known(H, rank):
        return None
    return "H" if is_fully_known(H, rank) else "W" if is_fully_known(W, rank) else None


def check_parts(
    parts: Parts,
    rank: int,
    shape: tuple[int, ...],
    constraints: tuple[NonNegative, NonNegative],
) -> None:
    """Refuse known parts that are of another V or a lower rank, that are outside the
    constraints, or leave nothing free.

    Raises:
      ValueError: naming the argument.
    """
    sides = zip(NAMES, parts, shape, "mn", constraints, strict=True)
    for name, part, size, axis, constraint in sides:
        if part is None:
            continue
        check_shape(name, part, rank, size, axis)
        _check_constraint(name, constraint, part, rank)
    if all(is_fully_known(part, rank) for part in parts):
        raise ValueError("known_W and known_H hold every entry; nothing is free")


def check_shape(name: str, part: Part, rank: int, size: int, axis: str) -> None:
    """Refuse a part, rank-major, of more components than there are or another size.

    Args:
      name: of the argument.
      part: (k, q).
      rank: p.
      size, axis: q as it must be, and of which axis of V, "m" or "n".
    """
    k, q = part.shape
    if q == size and k <= rank:
        return
    found, fit = (k, q), f"(k, {size})"
    if axis == "m":
        found, fit = (q, k), f"({size}, k)"
    raise ValueError(
        f"{name} has shape {found}; for a V of {axis} = {size} and rank={rank} it must "
        f"be {fit} with k ≤ {rank}"
    )


def with_parts(problem: Problem, rank: int, parts: Parts) -> Problem:
    """The problem at a rank with the known entries held.

    Args:
      problem: at this rank, with offsets or without.
      rank: p.
      parts: of Wt and H, checked.
    """
    shape = tuple(map(int, true_shape(problem.operand)))
    first = 0 if problem.units.offsets is None else FIRST
    projects = []
    for project, part, q, unit in zip(
        problem.projects,
        parts,
        shape,
        (problem.units.W, problem.units.H),
        strict=True,
    ):
        if part is None:
            projects.append(project)
            continue
        own = part / unit
        before = np.nan if project.held is None else np.asarray(project.held)
        held = np.array(np.broadcast_to(before, (first + rank, q)), np.float64)
        held[first : first + len(own)] = own
        held = jnp.asarray(held, problem.operand.dtype)
        projects.append(dataclasses.replace(project, held=held))
    return dataclasses.replace(problem, projects=tuple(projects))


def _check_constraint(name: str, project: NonNegative, part: Part, rank: int) -> None:
    if isinstance(project, Box) and np.nanmax(part) > float(project.upper):
        raise ValueError(
            f"{name} holds entries above the bound of the constraint 'box'; give "
            "another by jaxnmf.Box(upper=…)"
        )
    if project.name == "simplex":
        total = np.nansum(part, 0)
        full = (len(part) == rank) & ~np.isnan(part).any(0)
        if (total > 1 + 1e-6).any() or (full & (abs(total - 1) > 1e-6)).any():
            raise ValueError(
                f"{name}: the known shares of a row of W or a column of H add up to "
                "more than one, or all are known and do not add up to one"
            )


def start_with_parts(factors: Factors, parts: Parts, units: tuple[float, float]) -> Any:
    """A drawn start in which each component with known entries has their scale: the
    component of the other factor makes up for it, so that W H keeps its size.

    Args:
      factors: (Wt, H), as drawn.
      parts: of Wt and H.
      units: of W and H.
    """
    drawn = [np.array(X) for X in factors]
    scaled = np.zeros(len(drawn[1]), bool)
    for side in (1, 0):
        part = parts[side]
        if part is None:
            continue
        X, other = drawn[side], drawn[1 - side]
        for k, row in enumerate(part / units[side]):
            known = row > 0  # False for NaN
            mean = X[k, known].mean() if known.any() else 0.0
            if mean > 0 and not scaled[k]:
                ratio = (row[known].mean() / mean).astype(X.dtype)
                X[k] *= ratio
                other[k] /= ratio
                scaled[k] = True
    return Factors(*drawn)  # pyright: ignore
