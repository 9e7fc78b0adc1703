"""What a solver and a loss support: refusals that list what would fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Set
from typing import Any, NamedTuple

import numpy as np

from jaxnmf.data.operand import Described
from jaxnmf.objective.constraints import NonNegative
from jaxnmf.objective.losses import Loss, of_each
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import solver_class, solvers
from jaxnmf.solvers.base import (
    constraints_of,
    known_of,
    operands_of,
    supports_graph,
    supports_targets,
)


class Feature(NamedTuple):
    """What an argument asks of a solver, in words, and whether one supports it."""

    words: str
    fits: Callable[[Any], bool]


FEATURES = {
    "known_W": Feature("known entries of W", lambda solver: "W" in known_of(solver)),
    "known_H": Feature("known entries of H", lambda solver: "H" in known_of(solver)),
    "covariates": Feature("known columns of W", lambda solver: "W" in known_of(solver)),
    "batch": Feature("known columns of W", lambda solver: "W" in known_of(solver)),
    "graph": Feature("a graph", supports_graph),
    "toward": Feature("targets of l2", supports_targets),
}
OF_BLOCKS = frozenset({"known_H"})  # which V in blocks of rows allows


class UnsupportedError(ValueError):
    """A solver does not support a loss, a kind of data or a constraint."""


def check_loss(operand: Described, loss: Loss, bound: float = np.inf) -> None:
    """Raise a ValueError where the loss of this V is infinite or cannot be computed, or
    an option of it does not fit.

    ``bound``: the largest entry that the constraints leave W H.
    """
    if loss.losses:
        for k, (part, one) in enumerate(of_each(operand, loss)):
            try:
                check_loss(part, one, bound)
            except ValueError as error:
                raise ValueError(f"views[{k}]: {error}") from None
        return
    name = loss.label
    loss.check()
    # Zeros of V are in the loss in closed form, and in its gradient only by these two.
    by_stored = loss.separable_zeros and (loss.quadratic or loss.unit_plus)
    zeros_apart = operand.by_entries and operand.kind in ("sparse", "blocks")
    if zeros_apart and not by_stored:
        m, n = operand.shape
        raise ValueError(
            f"loss {name!r} needs every entry of W H, also where the sparse V is "
            f"zero: pass V.toarray() ({m * n * 4 / 1e9:.2g} GB in float32), or use "
            "'frobenius' or 'kullback-leibler'"
        )
    if loss.positive_data and not operand.moments.smallest > 0:
        raise ValueError(
            f"V holds zeros, where the loss {name!r} is infinite; every entry "
            "must be > 0 (add a small constant, or use 'kullback-leibler')"
        )
    largest = float(operand.moments.largest)
    if largest > loss.most:
        raise ValueError(
            f"V: the largest entry is {largest:g}; the loss {name!r} is for entries "
            f"from 0 to {loss.most:g}"
        )
    if bound > loss.most:
        raise ValueError(
            f"loss {name!r} needs W H ≤ {loss.most:g}: use "
            "constraints=('simplex', 'box') or ('box', 'simplex')"
        )


def largest_product(projects: tuple[NonNegative, NonNegative]) -> float:
    """The largest entry that W H can have: infinite, unless the components of a row of
    W or of a column of H sum to one."""
    if all(project.name != "simplex" for project in projects):
        return np.inf
    return float(np.prod([float(np.max(project.upper)) for project in projects]))


def check_supported(solver: Any, loss: Loss, kind: str) -> None:
    """Raise a ValueError for a loss or a kind of V that a solver does not support."""
    if takes(solver, loss, kind):
        return
    name = getattr(solver, "name", type(solver).__name__)
    fit = solvers_with(lambda other: takes(other, loss, kind))
    raise UnsupportedError(
        f"solver {name!r} does not support the loss {loss.label!r} on {kind} data; "
        f"solvers that do: {fit}"
    )


def check_asked(solver: Any, loss: Loss, kind: str, asked: Set[str]) -> None:
    """Raise a ValueError for arguments, of `FEATURES`, that a solver or a kind of V
    does not support."""
    for name in sorted(asked - OF_BLOCKS) if kind == "blocks" else ():
        raise ValueError(f"{name}: V in blocks of rows is not supported; read it whole")
    inner = getattr(solver, "inner", None)
    for name in sorted(asked):
        words, fits = FEATURES[name]
        if fits(solver):
            continue
        within = hasattr(inner, "supports") and not fits(inner)
        refused = inner if within else solver
        fit = solvers_with(
            lambda other: has_features(other, asked) and takes(other, loss, kind)
        )
        raise UnsupportedError(
            f"{name}: solver {getattr(refused, 'name', type(refused).__name__)!r} does "
            f"not support {words}; solvers that do: {fit}"
        )


def has_features(solver: Any, asked: Set[str]) -> bool:
    """Whether a solver supports arguments, of `FEATURES`."""
    return all(FEATURES[name].fits(solver) for name in asked)


def takes(solver: Any, loss: Loss, kind: str) -> bool:
    """Whether a solver supports a loss on a kind of V."""
    return solver.supports.includes(loss) and kind in operands_of(solver)


def solvers_with(fits: Callable[[Any], bool]) -> str:
    """The names of the solvers whose class fits, for a message."""
    return ", ".join(name for name in solvers() if fits(solver_class(name)))


def check_problem(problem: Problem, solver: Any) -> None:
    """Raise a ValueError for a combination that is not supported."""
    loss, operand = problem.loss, problem.operand
    name = getattr(solver, "name", type(solver).__name__)
    check_supported(solver, loss, operand.kind)
    for project in problem.projects:
        if project.name not in constraints_of(solver) | {"free"}:
            fit = solvers_with(lambda other: project.name in constraints_of(other))  # noqa: B023
            raise UnsupportedError(
                f"solver {name!r} does not support the constraint {project.name!r}; "
                f"solvers that do: {fit}"
            )
    check_loss(operand, loss, largest_product(problem.projects))  # pyright: ignore
    # What else a solver asks of the data.
    if hasattr(solver, "check"):
        solver.check(problem)


def warn_of_rank(name: str, rank: int, shape: tuple[int, int]) -> None:
    """Warn of more components than an exact fit of V needs."""
    m, n = shape
    if rank > min(m, n):
        warnings.warn(
            f"{name}: {rank} components for a V of {m}×{n}, which min(m, n) = "
            f"{min(m, n)} can fit exactly",
            stacklevel=3,
        )
