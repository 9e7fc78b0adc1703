"""From arguments to a checked problem: the one way for everything that factorises."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np

from jaxnmf._util.checks import check_amount, is_number
from jaxnmf._util.names import lookup
from jaxnmf.data.convert import as_operand
from jaxnmf.data.dense import Dense
from jaxnmf.data.operand import Operand
from jaxnmf.init.start import initial_factors
from jaxnmf.objective.constraints import CONSTRAINTS, Box, Free, NonNegative
from jaxnmf.objective.losses import Loss
from jaxnmf.objective.offsets import OFFSET_WEIGHTS, TOWARD, with_prior
from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import solver_class, solvers
from jaxnmf.solvers.base import constraints_of, operands_of
from jaxnmf.types import Factors


def check_loss(operand: Operand, loss: Loss) -> None:
    """Raise a ValueError where the loss of this V is infinite, or cannot be summed."""
    name = type(loss).name or type(loss).__name__
    # Zeros of V are in the loss in closed form, and in its gradient only by these two.
    by_stored = loss.separable_zeros and (loss.quadratic or loss.unit_plus)
    if operand.kind == "sparse" and not by_stored:
        m, n = operand.shape
        raise ValueError(
            f"loss {name!r} needs every entry of W H, also where the sparse V is "
            f"zero: pass V.toarray() ({m * n * 4 / 1e9:.2g} GB in float32), or use "
            "'frobenius' or 'kullback-leibler'"
        )
    data = operand.array if isinstance(operand, Dense) else operand.csr.data
    if loss.positive_data and not data.min() > 0:
        raise ValueError(
            f"V holds zeros, where the loss {name!r} is infinite; every entry "
            "must be > 0 (add a small constant, or use 'kullback-leibler')"
        )


class UnsupportedError(ValueError):
    """A solver was asked for a loss or an operand that it does not take."""


def make_problem(
    V: Any,
    dtype: Any,
    solver: Any,
    loss: Loss,
    l1: Any,
    l2: Any,
    constraints: Any,
    mask: Any = None,
) -> Problem:
    """The problem that a solver is to work on, everything checked."""
    signed = solver.supports.signed
    problem = Problem.of(
        as_operand(V, dtype, mask=mask, signed=bool(signed)),
        loss,
        penalties=make_penalties(l1, l2),
        constraints=make_constraints(constraints, signed),
    )
    check_problem(problem, solver)
    return problem


def begin(
    problem: Problem,
    rank: int,
    init: Any,
    seed: int,
    offsets: Any = False,
    toward: str = "zero",
) -> tuple[Problem, Factors]:
    """The problem at a rank, with what offsets it is to have, and feasible factors to
    begin from."""
    factors = initial_factors(problem.operand, rank, init, seed)
    weights = make_offsets(offsets)
    if toward not in TOWARD:
        raise ValueError(f"toward={toward!r} must be one of {', '.join(TOWARD)}")
    if weights is not None or toward != "zero":
        if problem.operand.kind != "observed":
            raise ValueError(
                f"offsets={offsets!r}, toward={toward!r} are for data observed in "
                "part; pass a mask (of ones, if all is known) or jaxnmf.Observed"
            )
        drawn = isinstance(init, str) and init == "random"
        problem, factors = with_prior(problem, factors, weights, toward, drawn=drawn)
    return problem, problem.start(factors)


def make_offsets(offsets: Any) -> tuple[float, float] | None:
    """The l2 weights of row and column offsets, None for no offsets."""
    if offsets is False or offsets is None:
        return None
    if offsets is True:
        return OFFSET_WEIGHTS
    pair = (offsets, offsets) if np.ndim(offsets) == 0 else tuple(offsets)
    if len(pair) != 2:
        raise ValueError(
            f"offsets has {len(pair)} values; give True, one l2 weight for both or a "
            "pair (for rows, for columns)"
        )
    for x in pair:
        check_amount("offsets", x)
    return pair


def make_penalties(l1: Any, l2: Any) -> tuple[Penalty, Penalty]:
    """The penalties on W and H, each given for both or as a pair (for W, for H)."""
    pairs = []
    for name, value in (("l1", l1), ("l2", l2)):
        pair = (value, value) if np.ndim(value) == 0 else tuple(value)
        if len(pair) != 2:
            raise ValueError(
                f"{name} has {len(pair)} values; give one for both factors or a pair "
                "(for W, for H)"
            )
        for x in pair:
            check_amount(name, x)
        pairs.append(pair)
    (l1_W, l1_H), (l2_W, l2_H) = pairs
    return Penalty(l1=l1_W, l2=l2_W), Penalty(l1=l1_H, l2=l2_H)


def make_constraints(
    constraints: Any, signed: Set[str] = frozenset()
) -> tuple[NonNegative, NonNegative]:
    """The constraints of W and H, each given for both or as a pair, by name or made;
    a factor that is ``signed`` has none by default."""
    single = not isinstance(constraints, list | tuple)
    pair = (constraints, constraints) if single else constraints
    if len(pair) != 2:
        raise ValueError(
            f"constraints has {len(pair)} values; give one for both factors or a pair "
            "(for W, for H)"
        )
    made = []
    for factor, one in zip("WH", pair, strict=True):
        if isinstance(one, str):
            one = lookup("constraint", one, CONSTRAINTS)()
        elif one is None:
            one = NonNegative()
        if not isinstance(one, NonNegative) or one.mask is not None:
            raise ValueError(
                f"constraints={one!r} is neither a name ({', '.join(CONSTRAINTS)}) nor "
                "a constraint such as jaxnmf.Box(upper=2.0)"
            )
        if isinstance(one, Box) and not (is_number(one.upper) and one.upper > 0):
            raise ValueError(f"Box: upper={one.upper!r} must be a number > 0")
        plain = type(one) is NonNegative
        made.append(Free() if plain and factor in signed else one)
    return made[0], made[1]


def check_problem(problem: Problem, solver: Any) -> None:
    """Refuse, by name and with what would fit, a combination that cannot be run."""
    loss, operand = problem.loss, problem.operand
    name = getattr(solver, "name", type(solver).__name__)
    loss_name = type(loss).name or type(loss).__name__
    supports = solver.supports
    if not supports.takes(loss) or operand.kind not in operands_of(solver):
        fit = [
            other
            for other in solvers()
            if solver_class(other).supports.takes(loss)  # pyright: ignore
            and operand.kind in operands_of(solver_class(other))
        ]
        raise UnsupportedError(
            f"solver {name!r} cannot minimise the loss {loss_name!r} on {operand.kind} "
            f"data; solvers that can: {', '.join(fit)}"
        )
    for project in problem.projects:
        if project.name not in constraints_of(solver) | {"free"}:
            fit = [
                other
                for other in solvers()
                if project.name in constraints_of(solver_class(other))
            ]
            raise UnsupportedError(
                f"solver {name!r} cannot hold a factor to the constraint "
                f"{project.name!r}; solvers that can: {', '.join(fit)}"
            )
    check_loss(operand, loss)
    # What else a solver asks of the data.
    if hasattr(solver, "check"):
        solver.check(problem)
