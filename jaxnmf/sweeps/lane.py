"""Lanes: what each run of a sweep works on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxnmf.build import begin, make_problem
from jaxnmf.data.dense import Dense
from jaxnmf.objective.problem import Problem
from jaxnmf.run.loop import Run
from jaxnmf.run.programs import precision
from jaxnmf.sweeps.lanes import Task
from jaxnmf.types import Factors

TALL = 4  # from this m/n on V is stored along its columns on a CPU


PENALTIES = ("l1", "l2")


@dataclasses.dataclass(frozen=True)
class Lane:
    """What one lane runs: a rank, a seed, and the settings it differs in."""

    rank: int
    seed: int
    settings: Mapping[str, float]


@dataclasses.dataclass(frozen=True, eq=False)
class DataPerSeed:
    """Data of one shape that the seeds of a sweep take in turn: the i-th seed works on
    the i-th of them, and after the last on the first again.

    For resampled data, and for one V of which each seed knows other entries.

    Args:
      data: each what `factorize` takes. All are held at once.
      masks: what is known of each, or None.
    """

    data: Sequence[Any]
    masks: Sequence[Any] | None = None

    def problems(self, *given: Any) -> tuple[Problem, ...]:
        """The problem of each, by `make_problem`.

        Raises:
          ValueError: where there are none, or they differ in shape or kind.
        """
        masks = [None] * len(self.data) if self.masks is None else self.masks
        if not len(self.data) or len(masks) != len(self.data):
            raise ValueError(
                f"Several: {len(masks)} masks do not fit {len(self.data)} data; one "
                "for each would, and there must be some"
            )
        # A problem for the same two objects is made once, and its matrix is shared.
        made: dict[tuple[int, int], Problem] = {}
        for V, mask in zip(self.data, masks, strict=True):
            if (id(V), id(mask)) not in made:
                made[id(V), id(mask)] = make_problem(V, *given, mask=mask)
        kinds = {_kind(problem.operand) for problem in made.values()}
        if len(kinds) > 1:
            raise ValueError(
                f"Several: the data differ in shape, kind or known entries: {kinds}"
            )
        return tuple(
            made[id(V), id(mask)] for V, mask in zip(self.data, masks, strict=True)
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LaneBuilder:
    """What makes the run of a lane."""

    problems: tuple[Problem, ...]  # without a lane's own penalties, offsets and rank
    turns: Mapping[int, int]  # which of the problems a seed works on
    solver: Any
    init: str
    offsets: Any
    toward: str
    sizes: Mapping[int, int]  # the bucket of a rank
    dtype: Any

    def problem(self, lane: Lane) -> Problem:
        """What a lane works on, as above."""
        return self.problems[self.turns[lane.seed]]

    def at_own_rank(self, lane: Lane) -> tuple[Problem, Factors]:
        """The problem of a lane and its start, at its own rank."""
        with precision(self.dtype.name):
            own = {
                name: np.asarray(value, self.dtype)
                for name, value in lane.settings.items()
                if name in PENALTIES
            }
            problem = self.problem(lane)
            penalties = tuple(
                dataclasses.replace(penalty, **own) for penalty in problem.penalties
            )
            problem = dataclasses.replace(problem, penalties=penalties)
            given = (lane.rank, self.init, lane.seed, self.offsets, self.toward)
            return begin(problem, *given)

    def task(self, lane: Lane) -> Task:
        """The run of a lane, padded to its bucket."""
        problem, factors = self.at_own_rank(lane)
        problem, factors = padded(problem, factors, self.sizes[lane.rank] - lane.rank)
        own = {k: v for k, v in lane.settings.items() if k not in PENALTIES}
        solver = dataclasses.replace(self.solver, **own)
        solver = jax.tree.map(lambda x: np.asarray(x, self.dtype), solver)
        return Task(problem, solver, factors, np.int64(lane.seed))

    def key(self, lane: Lane) -> str:
        """The name of a lane where lanes are kept. Of several data it says which: a
        seed's own are another's when there are more seeds."""
        parts = [f"{k}={v!r}" for k, v in sorted(lane.settings.items())]
        if len(self.problems) > 1:
            parts.append(f"data={self.turns[lane.seed]}")
        return ",".join([f"rank={lane.rank}", f"seed={lane.seed}", *parts])

    def cut(self, lane: Lane, run: Run) -> Run:
        """The run without the rows that padded its factors."""
        rows = lane.rank + len(run.factors.H) - self.sizes[lane.rank]
        return run._replace(factors=Factors(*(X[:rows] for X in run.factors)))


def padded(problem: Problem, factors: Factors, extra: int) -> tuple[Problem, Factors]:
    """The problem and factors with ``extra`` components more that are absent; also with
    none, so that every lane has a mask and one structure."""
    rank = len(factors.H)
    dtype = problem.operand.dtype
    mask = np.array([1.0] * rank + [0.0] * extra, dtype)

    def grown(x: Any, value: float = 0.0) -> Any:
        x = np.asarray(x)
        if x.ndim == 0 or x.shape[0] != rank:
            return x
        width = [(0, extra)] + [(0, 0)] * (x.ndim - 1)
        return np.pad(x, width, constant_values=value)

    projects = tuple(
        dataclasses.replace(
            project,
            mask=mask,
            pinned=None if project.pinned is None else grown(project.pinned, np.nan),
        )
        for project in problem.projects
    )
    penalties = jax.tree.map(grown, problem.penalties)
    problem = dataclasses.replace(problem, projects=projects, penalties=penalties)
    return problem, Factors(*(grown(X) for X in factors))  # pyright: ignore


def _arranged(problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    """The problems with V stored as suits the products of many lanes; a problem that
    stands there several times stays one."""
    made: dict[int, Problem] = {}
    for problem in problems:
        if id(problem) in made:
            continue
        operand = problem.operand
        m, n = operand.shape
        tall = isinstance(operand, Dense) and m >= TALL * n
        on_cpu = jax.default_backend() == "cpu"
        if tall and on_cpu and len(operand.array.devices()) == 1:
            made[id(problem)] = dataclasses.replace(
                problem, operand=operand.stored_wide()
            )
        else:
            made[id(problem)] = problem
    return tuple(made[id(problem)] for problem in problems)


def _kind(operand: Any) -> tuple[Any, ...]:
    """What operands have in common that one program serves."""
    leaves, structure = jax.tree.flatten(operand)
    return operand.kind, operand.shape, structure, tuple(x.shape for x in leaves)
