"""From arguments to a checked problem: the one way for everything that factorises."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Set
from typing import Any

import numpy as np

from jaxnmf._util.checks import check_amount, check_count, is_number
from jaxnmf._util.names import lookup
from jaxnmf.data.convert import as_operand
from jaxnmf.data.known import what_is_known
from jaxnmf.data.operand import true_shape
from jaxnmf.init.start import check_init, initial_factors
from jaxnmf.objective.constraints import CONSTRAINTS, Box, Free, NonNegative
from jaxnmf.objective.covariates import (
    Design,
    start_with_covariates,
    with_covariates,
)
from jaxnmf.objective.graph import Edges, check_sizes, edges_of
from jaxnmf.objective.losses import Loss
from jaxnmf.objective.offsets import (
    FIRST,
    OFFSET_WEIGHTS,
    start_with_offsets,
    with_offsets,
)
from jaxnmf.objective.parts import (
    Parts,
    as_parts,
    check_parts,
    known_sides,
    largest_known,
    start_with_parts,
    with_parts,
)
from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.problem import Problem
from jaxnmf.objective.targets import as_toward, targets_of, with_targets
from jaxnmf.objective.units import units_of
from jaxnmf.registry import make_loss
from jaxnmf.supported import check_asked, check_problem, check_supported
from jaxnmf.types import Factors

FOR_FACTORS = "one for both factors or a pair (for W, for H)"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Objective:
    """The specification of what is minimised.

    min over feasible W, H of D(V | WH) + Σ l1·x + ½ Σ l2·(x − toward)² over the entries
    x of both factors, + λ tr(Wᵀ L W) + λ tr(H L Hᵀ) for those with a graph. With a
    design, W has its columns too, and H a row for each.

    Attributes:
      loss: D.
      l1, l2: the weights of the penalties, each (for W, for H), ≥ 0.
      toward: what l2 shrinks the factors to: "zero", "mean", or targets for Wt and H.
      constraints: what W and H are constrained to.
      offsets: the l2 weights of the row and column offsets; None for no offsets.
      parts: the known entries of Wt and of H, NaN for a free one; None where all are
        free.
      design: the columns of W that are covariates and batches, or None.
      graph: the neighbours among rows and among columns, or None.
      graph_weight: λ, (for W, for H), ≥ 0.
    """

    loss: Loss
    l1: tuple[float, float] = (0.0, 0.0)
    l2: tuple[float, float] = (0.0, 0.0)
    toward: Any = "zero"
    constraints: tuple[NonNegative, NonNegative] = (NonNegative(), NonNegative())
    offsets: tuple[float, float] | None = None
    parts: Parts | None = None
    design: Design | None = None
    graph: tuple[Edges | None, Edges | None] = (None, None)
    graph_weight: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of(
        cls,
        loss: Any = "frobenius",
        *,
        loss_options: Any = None,
        l1: Any = 0.0,
        l2: Any = 0.0,
        toward: Any = "zero",
        constraints: Any = "nonnegative",
        offsets: Any = False,
        known_W: Any = None,
        known_H: Any = None,
        covariates: Any = None,
        batch: Any = None,
        graph: Any = None,
        graph_weight: Any = 1.0,
    ) -> Objective:
        """The specification from a user's arguments, as `jaxnmf.factorize` has them.

        Raises:
          ValueError: for an argument that does not fit.
        """
        toward = as_toward(toward)
        if not isinstance(toward, str) and offsets not in (False, None):
            raise ValueError(
                f"toward: targets with offsets={offsets!r}, which l2 shrinks to the "
                "mean; give offsets=False, or toward='zero' or 'mean'"
            )
        return cls(
            loss=make_loss(loss, loss_options),
            l1=_weights("l1", l1),
            l2=_weights("l2", l2),
            toward=toward,
            constraints=_constraints(constraints),
            offsets=_offsets(offsets),
            parts=as_parts(known_W, known_H),
            design=Design.of(covariates, batch),
            **_neighbours(graph, graph_weight, offsets),
        )

    @property
    def penalties(self) -> tuple[Penalty, Penalty]:
        """The penalties on W and on H, without their graphs."""
        W, H = (
            Penalty(l1=l1, l2=l2, graph_weight=None if graph is None else weight)
            for l1, l2, graph, weight in zip(
                self.l1, self.l2, self.graph, self.graph_weight, strict=True
            )
        )
        return W, H

    @property
    def has_graph(self) -> bool:
        """Whether neighbours are to be alike in a factor."""
        return self.graph != (None, None)

    @property
    def rows_apart(self) -> bool:
        """Whether a row of W has no neighbours and no target, as a new row has none."""
        return self.graph[0] is None and targets_of(self.toward)[0] is None

    @property
    def asked(self) -> frozenset[str]:
        """The arguments, of `jaxnmf.supported.FEATURES`, that a solver has to support
        besides the loss and the constraints."""
        given = {
            "graph": self.has_graph,
            "toward": not isinstance(self.toward, str),
            "covariates": self.design is not None and bool(self.design.covariates),
            "batch": self.design is not None and bool(self.design.batches),
        }
        known = {f"known_{side}" for side in known_sides(self.parts)}
        return frozenset(known | {name for name, asked in given.items() if asked})

    @property
    def T(self) -> Objective:
        """The same for Vᵀ ≈ Hᵀ Wᵀ; of a model without covariates."""
        assert self.design is None
        return dataclasses.replace(
            self,
            l1=self.l1[::-1],
            l2=self.l2[::-1],
            toward=self.toward if isinstance(self.toward, str) else self.toward[::-1],
            constraints=self.constraints[::-1],
            offsets=self.offsets and self.offsets[::-1],
            parts=self.parts and self.parts[::-1],
            graph=self.graph[::-1],
            graph_weight=self.graph_weight[::-1],
        )

    @property
    def for_observed(self) -> bool:
        """Whether it is for data observed in part alone."""
        return self.offsets is not None or self.toward == "mean"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """The specification of initial factors.

    Attributes:
      init: the name of a start (`jaxnmf.init.start.INITS`), or a pair (W, H).
      seed: of everything random.
    """

    init: Any = "random"
    seed: int = 0

    @classmethod
    def of(cls, init: Any = "random", seed: Any = 0) -> Start:
        """The specification from a user's arguments.

        Raises:
          ValueError: for an unknown name, or a seed that is no integer ≥ 0. The shapes
            of a pair are checked when the start is drawn.
        """
        check_init(init)
        check_count("seed", seed, least=0)
        return cls(init=init, seed=int(seed))


def make_problem(
    V: Any,
    solver: Any,
    objective: Objective,
    dtype: Any,
    mask: Any = None,
    *,
    largest: float | None = None,
    signed: Set[str] | None = None,
) -> Problem:
    """The problem of V, of no rank yet, everything checked.

    Args:
      V, mask: the data and what is known of them, as `jaxnmf.factorize` has them.
      solver: what is to solve it.
      objective: what is minimised.
      dtype: the precision.
      largest: the entry by which units are chosen, the largest of V by default.
      signed: which of "V", "W" and "H" may have negative entries, by default those that
        the solver says.

    Raises:
      ValueError: for data that do not fit, or that the loss or the solver does not
        support.
    """
    signs: Set[str] = solver.supports.signed if signed is None else signed
    known, constraints = what_is_known(V, mask), feasible_sets(objective, signs)
    design = objective.design
    if known.kind == "blocks":  # before they are read
        check_supported(solver, objective.loss, known.kind)
    check_asked(solver, objective.loss, known.kind, objective.asked)
    if objective.has_graph:
        check_sizes(objective.graph, known.V.shape)
    if design is not None:
        design.check(known.V.shape)
    if largest is None:
        largest = known.largest(bool(signs))
    unscaled = [
        one.name == "simplex" or factor in solver.supports.unscaled
        for factor, one in zip("WH", constraints, strict=True)
    ]
    sizes = largest_known(objective.parts, None if design is None else design.columns)
    units = units_of(largest, objective.loss.beta, *unscaled, known=sizes)
    problem = Problem.of(
        as_operand(known, dtype, signed=bool(signs), unit=units.V),
        objective.loss,
        penalties=objective.penalties,
        constraints=constraints,
        graphs=tuple(one and one.graph(dtype) for one in objective.graph),  # pyright: ignore
        units=units,
    )
    check_problem(problem, solver)
    if objective.for_observed and problem.operand.kind != "observed":
        given = "offsets" if objective.offsets else f"toward={objective.toward!r}"
        raise ValueError(
            f"{given}: for data observed in part; pass a mask (of ones, if all is "
            "known) or jaxnmf.Observed"
        )
    return problem


def feasible_sets(
    objective: Objective, signed: Set[str]
) -> tuple[NonNegative, NonNegative]:
    """The constraints of W and H, none for a factor that may hold negative entries."""
    W, H = (
        Free() if type(one) is NonNegative and factor in signed else one
        for factor, one in zip("WH", objective.constraints, strict=True)
    )
    return W, H


def warn_of_scale(objective: Objective, level: int = 3) -> None:
    """Warn of a graph whose penalty the other factor can make up for."""
    bounded = "box", "simplex"
    held = [one.name for one in objective.constraints]
    for side, other in ((0, 1), (1, 0)):
        free = (
            objective.l1[other] == objective.l2[other] == 0
            and objective.graph[other] is None
            and held[other] not in bounded
            and held[side] != "simplex"
        )
        if objective.graph[side] is not None and free:
            one, two = "WH"[side], "WH"[other]
            warnings.warn(
                f"graph: {one} can shrink, and its penalty with it, while {two} grows "
                f"at no cost; give {two} an l2 or l1 penalty, or one of them the "
                "constraint 'simplex'",
                stacklevel=level,
            )


def at_rank(problem: Problem, objective: Objective, rank: int) -> Problem:
    """The problem at a rank, with offsets, what l2 shrinks to, what is known of the
    factors, and covariates."""
    if objective.for_observed:
        problem = with_offsets(problem, rank, objective.offsets, objective.toward)
    if objective.parts is not None:
        given = rank, true_shape(problem.operand), objective.constraints
        check_parts(objective.parts, *given)
        problem = with_parts(problem, rank, objective.parts)
    design = objective.design
    if design is not None:
        first = FIRST if objective.offsets else 0
        problem = with_covariates(problem, first + rank, design)
    if not isinstance(objective.toward, str):
        problem = with_targets(problem, rank, len(design or ()), objective.toward)
    return problem


def draw_start(
    problem: Problem, objective: Objective, start: Start, rank: int
) -> Factors:
    """Feasible initial factors for a problem `at_rank`.

    Raises:
      ValueError: for a start that V or the rank does not allow.
    """
    units = problem.units.W, problem.units.H
    given = problem.operand, rank, start.init, start.seed, units
    whole_W = objective.parts or objective.design or objective.for_observed
    alone = not whole_W and problem.projects[0].name == "nonnegative"
    factors = initial_factors(*given, own_rows=alone)
    if objective.parts is not None and isinstance(start.init, str):
        factors = start_with_parts(factors, objective.parts, units)
    if objective.for_observed:
        drawn = isinstance(start.init, str) and start.init == "random"
        how = objective.offsets, objective.toward
        factors = start_with_offsets(problem.operand, factors, *how, drawn=drawn)
    if objective.design is not None:
        drawn = isinstance(start.init, str) and not objective.for_observed
        factors = start_with_covariates(problem, factors, objective.design, drawn=drawn)
    return problem.start(factors)


def _offsets(offsets: Any) -> tuple[float, float] | None:
    """The l2 weights of row and column offsets, None for no offsets."""
    if offsets is False or offsets is None:
        return None
    if offsets is True:
        return OFFSET_WEIGHTS
    fit = "True, one l2 weight for both or a pair (for rows, for columns)"
    return _weights("offsets", offsets, fit)


def _neighbours(graph: Any, weight: Any, offsets: Any) -> dict[str, Any]:
    """The checked graphs of rows and of columns, and their weights."""
    weights = _weights("graph_weight", weight)
    if graph is None and weights != (1, 1):
        raise ValueError(
            f"graph_weight={weight!r} is the weight of a graph; there is no graph"
        )
    if graph is not None and offsets not in (False, None):
        raise ValueError(
            f"offsets={offsets!r} with a graph: offsets are components too, which "
            "neighbours do not share"
        )
    return {"graph": edges_of(graph), "graph_weight": weights}


def _pair(name: str, value: Any, single: bool, fit: str = FOR_FACTORS) -> Any:
    """The value for each of two; a single one is for both."""
    pair = (value, value) if single else tuple(value)
    if len(pair) != 2:
        raise ValueError(f"{name} has {len(pair)} values; give {fit}")
    return pair


def _weights(name: str, value: Any, fit: str = FOR_FACTORS) -> tuple[float, float]:
    """The weights of a penalty, given for both factors or as a pair (for W, for H)."""
    pair = _pair(name, value, np.ndim(value) == 0, fit)
    for x in pair:
        check_amount(name, x)
    return pair


def _constraints(constraints: Any) -> tuple[NonNegative, NonNegative]:
    """The constraints of W and H, each given for both or as a pair, by name or made."""
    single = not isinstance(constraints, list | tuple)
    made = []
    for one in _pair("constraints", constraints, single):
        if isinstance(one, str):
            one = lookup("constraint", one, CONSTRAINTS)()
        elif one is None:
            one = NonNegative()
        if not isinstance(one, NonNegative) or one.held is not None:
            raise ValueError(
                f"constraints={one!r} is neither a name ({', '.join(CONSTRAINTS)}) nor "
                "a constraint such as jaxnmf.Box(upper=2.0)"
            )
        if isinstance(one, Box) and not (is_number(one.upper) and one.upper > 0):
            raise ValueError(f"Box: upper={one.upper!r} must be a number > 0")
        made.append(one)
    return made[0], made[1]
