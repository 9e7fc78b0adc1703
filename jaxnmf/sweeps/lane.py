"""Lanes: what each run of a sweep works on."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxnmf.build import Objective, Start, at_rank, draw_start, make_problem
from jaxnmf.data.known import what_is_known
from jaxnmf.data.placement import Placement, on_host
from jaxnmf.distributed.mesh import Divided, divided, in_memory, in_own_order, placed
from jaxnmf.init.random import key_seed
from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.problem import Problem
from jaxnmf.padding import padded, shared_operand, unpadded
from jaxnmf.run.loop import Run
from jaxnmf.run.programs import precision
from jaxnmf.sweeps.lanes import Task
from jaxnmf.types import Factors

PENALTIES = ("l1", "l2", "graph_weight")


@dataclasses.dataclass(frozen=True)
class Lane:
    """The part of a run that is a lane's own: rank, seed and settings."""

    rank: int
    seed: int
    settings: Mapping[str, float]


@dataclasses.dataclass(frozen=True, eq=False)
class DataPerSeed:
    """Data of one shape, one for each seed of a sweep: the i-th seed works on the i-th
    of them, cyclically.

    For resampled data, and for one V with other known entries for each seed.

    Args:
      data: each as `factorize` supports it. All are in memory at once.
      masks: what is known of each, or None.
      starts: initial factors of each, a pair (W, H), in place of the sweep's; or None.
    """

    data: Sequence[Any]
    masks: Sequence[Any] | None = None
    starts: Sequence[Any] | None = None

    @property
    def pairs(self) -> list[tuple[Any, Any]]:
        """(V, mask) of each."""
        masks = [None] * len(self.data) if self.masks is None else self.masks
        if not len(self.data) or len(masks) != len(self.data):
            raise ValueError(
                f"DataPerSeed: {len(masks)} masks and {len(self.data)} data; give at "
                "least one, and a mask for each"
            )
        return list(zip(self.data, masks, strict=True))

    def problems(
        self, solver: Any, objective: Objective, dtype: Any, *, mesh: bool = False
    ) -> tuple[Problem, ...]:
        """The problem of each, by `make_problem`; for a mesh on the host.

        Raises:
          ValueError: where there are none, or they differ in shape or kind.
        """
        pairs = self.pairs
        signed = bool(solver.supports.signed)
        # The same two objects share one problem, and so one operand. All have the same
        # units.
        known = {(id(V), id(mask)): what_is_known(V, mask) for V, mask in pairs}
        if mesh:
            known = {key: in_memory(one) for key, one in known.items()}
        most = max(one.largest(signed) for one in known.values())
        with on_host() if mesh else contextlib.nullcontext():
            made = {
                key: make_problem(one, solver, objective, dtype, largest=most)
                for key, one in known.items()
            }
        kinds = {_kind(problem.operand) for problem in made.values()}
        if len(kinds) > 1:
            raise ValueError(
                f"DataPerSeed: the data differ in shape, kind or known entries: {kinds}"
            )
        return tuple(made[id(V), id(mask)] for V, mask in pairs)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LaneBuilder:
    """The specification of a sweep, and the run of each lane from it."""

    problems: tuple[Problem, ...]  # at no rank, without a lane's own penalties
    data_of_seed: Mapping[int, int]  # the index of the problem that a seed works on
    solver: Any
    objective: Objective
    init: Any
    sizes: Mapping[int, int]  # the bucket of a rank
    dtype: Any
    pad: bool = False  # V, to one of a few sizes
    starts: Sequence[Any] | None = None  # the pair (W, H) of each problem
    placement: Placement | None = None  # of V on a mesh
    made: dict[Any, Problem] = dataclasses.field(default_factory=dict, repr=False)
    padded: dict[int, Any] = dataclasses.field(default_factory=dict, repr=False)
    on_mesh: dict[int, Divided] = dataclasses.field(default_factory=dict, repr=False)

    def problem(self, lane: Lane) -> Problem:
        """The problem of a lane at its own rank, with its own penalties: one for all
        seeds that share their data."""
        key = (lane.rank, *sorted(lane.settings.items()), self.data_of_seed[lane.seed])
        if key not in self.made:
            self.made[key] = self._problem(lane)
        return self.made[key]

    def _problem(self, lane: Lane) -> Problem:
        with precision(self.dtype.name):
            own = {k: v for k, v in lane.settings.items() if k in PENALTIES}
            problem = self.problems[self.data_of_seed[lane.seed]]
            if "graph_weight" in own and not self.objective.has_graph:
                raise ValueError(
                    "settings: graph_weight is the weight of a graph; give graph"
                )
            if own:
                units = problem.units.inverse
                given: Any = [Penalty(**own)] * 2  # pyright: ignore
                scaled = [units.penalty(one, side) for side, one in enumerate(given)]
                penalties = tuple(
                    dataclasses.replace(
                        penalty,
                        **{
                            k: np.asarray(getattr(new, k), self.dtype)
                            for k in own
                            if getattr(penalty, k) is not None
                        },
                    )
                    for penalty, new in zip(problem.penalties, scaled, strict=True)
                )
                problem = dataclasses.replace(problem, penalties=penalties)
            problem = at_rank(problem, self.objective, lane.rank)
            return _on_host(problem)

    def start(self, lane: Lane, problem: Problem) -> Factors:
        """The initial factors of a lane at its own rank, for its own `problem`."""
        with precision(self.dtype.name):
            init: Any = self.init
            if self.starts is not None:
                init = self.starts[self.data_of_seed[lane.seed]]
            start = Start(init=init, seed=lane.seed)
            return draw_start(problem, self.objective, start, lane.rank)

    def task(self, lane: Lane) -> Task:
        """The run of a lane, padded to its bucket."""
        problem = self.problem(lane)
        factors = self.start(lane, problem)
        extra = self.sizes[lane.rank] - lane.rank
        own = {k: v for k, v in lane.settings.items() if k not in PENALTIES}
        solver = dataclasses.replace(self.solver, **own)
        own_V = self._divided(problem)
        operand = self._padded(problem) if own_V is None else own_V.host
        if operand is problem.operand:
            operand = None
        size = {"rank": len(factors.H) + extra, "operand": operand}
        problem, factors = padded(problem.plain, factors, solver, **size)
        if own_V is not None:
            assert self.placement is not None
            given = problem, solver, factors, own_V, self.placement
            problem, factors = placed(*given)
        solver = jax.tree.map(lambda x: np.asarray(x, self.dtype), solver)
        return Task(problem, solver, factors, np.int64(key_seed(lane.seed)))

    def _padded(self, problem: Problem) -> Any:
        """V of a problem padded, one object for all its lanes; None where it is not."""
        if not self.pad:
            return None
        key = id(problem.operand)
        if key not in self.padded:
            self.padded[key] = shared_operand(problem.operand)
        return self.padded[key]

    def _divided(self, problem: Problem) -> Divided | None:
        """V of a problem over the mesh, one object for all its lanes; None where there
        is no mesh."""
        if self.placement is None:
            return None
        key = id(problem.operand)
        if key not in self.on_mesh:
            given = problem.operand, self.solver, self.placement
            self.on_mesh[key] = divided(*given)
        return self.on_mesh[key]

    def key(self, lane: Lane) -> str:
        """The name of a lane in a store. With data per seed it names the data: they
        are another's once there are more seeds."""
        parts = [f"{k}={v!r}" for k, v in sorted(lane.settings.items())]
        if len(self.problems) > 1:
            parts.append(f"data={self.data_of_seed[lane.seed]}")
        return ",".join([f"rank={lane.rank}", f"seed={lane.seed}", *parts])

    def finished(self, lane: Lane, run: Run) -> Run:
        """The run without what padded its factors, in the user's units."""
        rows = lane.rank + len(run.factors.H) - self.sizes[lane.rank]
        problem = self.problem(lane)
        units, shape = problem.units, problem.operand.shape
        own_V, factors = self._divided(problem), run.factors
        if own_V is not None:
            factors = in_own_order(factors, own_V.orders)
        objective = run.trace.objective.astype(np.float64) * units.objective
        return run._replace(
            factors=units.of(unpadded(factors, rows, shape)),
            trace=run.trace._replace(objective=objective),
        )


def stored_for_lanes(problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    """The problems with V stored as suits the products of many lanes; equal ones stay
    one object."""
    made: dict[int, Problem] = {}
    for problem in problems:
        if id(problem) in made:
            continue
        made[id(problem)] = dataclasses.replace(
            problem, operand=problem.operand.for_lanes()
        )
    return tuple(made[id(problem)] for problem in problems)


def _on_host(problem: Problem) -> Problem:
    """The problem with all but V on the host, where lanes are padded and stacked."""
    own = (problem.projects, problem.penalties)
    projects, penalties = jax.tree.map(np.asarray, own)
    return dataclasses.replace(problem, projects=projects, penalties=penalties)


def _kind(operand: Any) -> tuple[Any, ...]:
    """What operands must share to be served by one program."""
    leaves, structure = jax.tree.flatten(operand)
    return operand.kind, operand.shape, structure, tuple(x.shape for x in leaves)
