"""Jobs of timed runs: a solver at every rank and seed, each on the clock."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxnmf import baselines, metrics, ratings, topics
from jaxnmf.baselines import Baseline
from jaxnmf.build import Start, at_rank, draw_start
from jaxnmf.data.known import what_is_known
from jaxnmf.data.observed import Observed
from jaxnmf.data.placement import Placement
from jaxnmf.data.views import ViewParts
from jaxnmf.datasets import Dataset
from jaxnmf.distributed.mesh import placed_problem, run_anywhere
from jaxnmf.distributed.processes import together
from jaxnmf.experiment.jobs.specification import Specification
from jaxnmf.experiment.store.layout import JobResults, StoredRun
from jaxnmf.experiment.store.unfinished import Unfinished
from jaxnmf.joint import of_views
from jaxnmf.objective.by_view import views_of
from jaxnmf.objective.problem import Problem
from jaxnmf.result import Result, to_result
from jaxnmf.run.clock import divergence
from jaxnmf.run.loop import Run
from jaxnmf.types import Factors


class Case(NamedTuple):
    """A run of a job; fold is None without cross-validation folds."""

    rank: int
    seed: int
    fold: int | None

    @property
    def name(self) -> str:
        fold = "" if self.fold is None else f"-f{self.fold}"
        return f"r{self.rank}-s{self.seed}{fold}"


class Part(NamedTuple):
    """What the runs of a split have in common."""

    problem: Problem
    placement: Placement | None
    reference: float
    held: ratings.Split | None
    baselines: dict[str, float]
    views: ViewParts | None


class Runs:
    """A job's runs, rank by rank and seed by seed.

    Args:
      specification: of the job.
      dataset: its data set, loaded.
      labels: data set, loss, solver and model, as people read them.

    Raises:
      ValueError: for a job that cannot be run, before anything is run.
    """

    kind = "runs"

    def __init__(
        self,
        specification: Specification,
        dataset: Dataset,
        labels: Mapping[str, str],
    ) -> None:
        self.specification, self.dataset = specification, dataset
        self.labels = labels
        self.loss = specification.objective.loss
        self.rated = dataset.kind == "ratings"
        folds = range(specification.holdout["folds"]) if self.rated else ()
        self.cases = [
            Case(rank, seed, fold)
            for rank in specification.ranks
            for seed in specification.seeds
            for fold in folds or [None]
        ]
        self._part = functools.cache(self._make_part)
        # A job that cannot be run is refused before anything is.
        self.part(self.cases[0])

    @property
    def size(self) -> int:
        """How many runs there are."""
        return len(self.cases)

    def run(self, unfinished: Unfinished, limits: Mapping[str, int]) -> JobResults:
        """Run what is missing.

        Args:
          unfinished: where finished runs are saved.
          limits: iterations, by name, of the runs that end after so many and not by the
            clock.
        """
        done = []
        for case in self.cases:
            found = unfinished.read(case.name)
            if found is None:
                found = self._finished(case, limits, unfinished)
                found = unfinished.add(case.name, found)
            done.append(found)
        return JobResults.of(done)

    @property
    def several_processes(self) -> bool:
        """Whether the runs are on the devices of several processes."""
        placement = self.part(self.cases[0]).placement
        return placement is not None and placement.several_processes

    def missing(self, unfinished: Unfinished) -> list[str]:
        """The names of the runs that are not stored."""
        return [x.name for x in self.cases if unfinished.read(x.name) is None]

    def follow(
        self, names: Sequence[str], limits: Mapping[str, int], unfinished: Unfinished
    ) -> None:
        """Take part in these runs, which the first process stores."""
        for case in self.cases:
            if case.name in names:
                self._finished(case, limits, unfinished)

    @functools.cached_property
    def occurrence(self) -> Any:
        """The occurrence of words in texts, for all runs; None for other data."""
        text = self.dataset.kind == "text"
        return topics.occurrence(self.dataset.V) if text else None

    def part(self, case: Case) -> Part:
        """The problem of a split; other data than ratings have only one."""
        return self._part(*(case[1:] if self.rated else (0, None)))

    def _make_part(self, seed: int, fold: int | None) -> Part:
        given, V = self.specification, self.dataset.V
        held, simple = None, {}
        if self.rated:
            held = split_of(V, given.holdout, seed, fold)
            V, simple = held.train, _baselines(held)
        # A baseline is on no mesh: it runs as it does on its own.
        mesh = None if isinstance(given.solver, Baseline) else given.mesh
        data = given.data(self.dataset, V)
        problem, placement = placed_problem(
            mesh,
            what_is_known(data.V, given.mask),
            given.solver,
            data.objective,
            np.dtype(given.dtype),
        )
        size = reference(problem)
        return Part(problem, placement, size, held, simple, data.views)

    def _finished(
        self, case: Case, limits: Mapping[str, int], unfinished: Unfinished
    ) -> StoredRun:
        given, part = self.specification, self.part(case)
        stop = given.stop
        if case.name in limits:
            most = max(limits[case.name], 1)
            stop = dataclasses.replace(stop, max_iter=most, seconds=np.inf)
        problem = at_rank(part.problem, given.objective, case.rank)
        start = Start(init=given.start.init, seed=case.seed)
        factors = draw_start(problem, given.objective, start, case.rank)
        timing: dict[str, Any] = {
            "record_every": given.record_every,
            "record_growth": given.record_growth,
            "kkt": given.kkt,
        }
        if isinstance(given.solver, Baseline):
            run = baselines.timed(problem, given.solver, factors, stop, **timing)
        else:
            several = self.several_processes
            with together(several):
                checkpoint = unfinished.checkpoint(case.name)
                if several:  # each process has only a part of such a run
                    ordered = problem.operand.by_entries and part.placement
                    checkpoint = unfinished.parts(
                        case.name,
                        problem,
                        given.solver,
                        most=int(stop.max_iter),
                        mesh=ordered.grid if ordered else None,
                        start=(start, case.rank),
                        **timing,
                    )
                run = run_anywhere(
                    problem,
                    given.solver,
                    factors,
                    case.seed,
                    stop,
                    placement=part.placement,
                    pad=False,
                    checkpoint=checkpoint,
                    **timing,
                )
        design = given.objective.design
        result = to_result(run, problem, given.solver, design=design)
        if part.views is not None:
            result = of_views(result, part.views)
        row, trace = self._recorded(case, part, run, result)
        return StoredRun(row, trace, result.all_factors, result.offsets)

    def _recorded(
        self, case: Case, part: Part, run: Run, result: Result
    ) -> tuple[dict[str, Any], pd.DataFrame]:
        """The row of the summary, and the trace."""
        trace = pd.DataFrame(
            {
                "run": case.name,
                "iteration": result.trace.iteration,
                "seconds": result.trace.seconds,
                "objective": result.trace.objective,
                "error": as_error(self.loss, result.trace.objective, part.reference),
                "kkt": result.trace.kkt,
            }
        )
        row = {
            "run": case.name,
            **self.labels,
            "dataset": self.dataset.name,
            "rank": case.rank,
            "seed": case.seed,
            "objective": result.objective,
            "error": trace["error"].iloc[-1],
            "relative_error": result.relative_error,
            "iterations": result.iterations,
            "seconds": result.seconds,
            "compile_seconds": result.compile_seconds,
            "program": run.program,
            "kkt": result.kkt,
            "status": str(result.status),
            **quality(self.dataset, result, self.occurrence),
        }
        if part.held is not None:
            row.update(_predictions(part, result))
        if case.fold is not None:
            row["fold"] = case.fold
        return row, trace


def split_of(
    V: Observed, holdout: Mapping[str, Any], seed: int, fold: int | None
) -> ratings.Split:
    """The split of ratings for a run.

    Raises:
      ValueError: names the key of ``holdout`` that does not fit.
    """
    try:
        return ratings.split(V, seed, **holdout, fold=fold or 0)
    except ValueError as error:
        raise ValueError(f"holdout.{error}") from None


def _baselines(held: ratings.Split) -> dict[str, float]:
    """The measures of simple predictors, such as ``rmse_mean``."""
    fitted = {
        "mean": ratings.global_mean(held.train),
        "offsets": ratings.baseline(held.train),
    }
    return {
        f"{measure}_{name}": value
        for name, simple in fitted.items()
        for measure, value in ratings.measures(held, simple.predict).items()
    }


def _predictions(part: Part, result: Result) -> dict[str, float]:
    """Measures of the predictions for test entries, and those of the baselines."""
    assert part.held is not None
    return {
        **ratings.measures(part.held, result.predict),
        **part.baselines,
        "test_entries": part.held.test.nnz,
        "unseen": ratings.unseen(part.held.train, part.held.test),
    }


def reference(problem: Problem) -> float:
    """The objective that an error without units is relative to.

    ½‖V‖² for the Frobenius loss, so that the error is the square of the relative
    error; for others the divergence of the best matrix whose rows are constant. Of data
    observed in part, over the known entries; of a loss for each view the sum of theirs.
    """
    operand = problem.operand
    if problem.loss.losses:
        return sum(weight * reference(part) for weight, part in views_of(problem))
    if problem.loss.quadratic:
        return 0.5 * float(operand.moments.squares) * problem.units.objective
    (m, n), dtype = operand.shape, operand.dtype
    V, weights = operand.to_host(), operand.host_weights()
    if weights is None:
        means = V.sum(axis=1, dtype=np.float64) / n
    else:
        sums = np.asarray((V * weights).sum(axis=1, dtype=np.float64))
        known = np.asarray(weights.sum(axis=1, dtype=np.float64))
        means = np.where(known > 0, sums / np.where(known > 0, known, 1), 0)
        means = np.where(known > 0, means, operand.moments.mean)
    means = np.asarray(means, dtype).reshape(1, m)
    factors = Factors(means, np.ones((1, n), dtype))  # pyright: ignore
    return divergence(problem, factors)


def as_error(loss: Any, objective: np.ndarray, reference: float) -> np.ndarray:
    """The objective as a dimensionless error, by its `reference`."""
    ratio = np.asarray(objective, np.float64) / (reference or 1.0)
    return np.sqrt(np.maximum(ratio, 0)) if loss.quadratic else ratio


def _mean_sparsity(factor: np.ndarray, axis: int) -> float:
    """NaN for components of one entry, which have no sparsity."""
    if factor.shape[axis] < 2:
        return np.nan
    return float(np.mean(metrics.hoyer_sparsity(factor, axis=axis)))


def quality(dataset: Dataset, result: Result, occurrence: Any) -> dict[str, float]:
    """Measures of the factors, as far as the data set has what they need; those of
    texts use the ``occurrence`` of words."""
    found = {
        "sparsity_W": _mean_sparsity(result.W, axis=0),
        "sparsity_H": _mean_sparsity(result.H, axis=1),
    }
    if dataset.labels is not None:
        clusters = metrics.cluster_by_component(result.W, result.H)
        found["accuracy"] = metrics.clustering_accuracy(dataset.labels, clusters)
        found["ari"] = metrics.adjusted_rand_index(dataset.labels, clusters)
        found["nmi"] = metrics.normalised_mutual_information(dataset.labels, clusters)
    if occurrence is not None and np.isfinite(result.H).all():
        by_measure = topics.coherences(result.H, occurrence)
        for measure, each in by_measure.items():
            found[measure] = float(pd.Series(each).mean())  # of topics that have one
        found["diversity"] = topics.topic_diversity(result.H)
    truth = dataset.truth
    if truth is not None and truth.W is not None and truth.H is not None:
        found["match_score"] = metrics.factor_match_score(
            result.W, result.H, truth.W, truth.H
        )
    return found
