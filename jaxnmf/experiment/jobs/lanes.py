"""Jobs of lanes: settings swept in one program, and the choice of p.

Lanes have no clock of their own: seconds are those of the whole job.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from jaxnmf._util.names import suggestion
from jaxnmf.datasets import Dataset
from jaxnmf.distributed.mesh import as_placement
from jaxnmf.experiment import config as configs
from jaxnmf.experiment.jobs.runs import as_error, reference
from jaxnmf.experiment.jobs.specification import Specification
from jaxnmf.experiment.store.layout import JobResults
from jaxnmf.experiment.store.unfinished import Unfinished
from jaxnmf.objective.constraints import NonNegative
from jaxnmf.selection import RankSelection
from jaxnmf.selection.choose import make_method, run_selection
from jaxnmf.supported import UnsupportedError
from jaxnmf.sweeps.lane import PENALTIES
from jaxnmf.sweeps.result import SweepResult
from jaxnmf.sweeps.settings import float_settings, make_settings
from jaxnmf.sweeps.sweep import run_sweep
from jaxnmf.types import Status


class LaneJob:
    """What the two kinds share.

    Args:
      specification: of the job.
      dataset: its data set, loaded.
      labels: data set, loss, solver and model, as people read them.

    Raises:
      ValueError: for a job that cannot be run, before anything is run.
    """

    kind = ""

    def __init__(
        self,
        specification: Specification,
        dataset: Dataset,
        labels: Mapping[str, str],
    ) -> None:
        self.specification, self.dataset = specification, dataset
        self.labels = labels
        if dataset.kind == "ratings":
            raise ValueError(
                f"dataset={dataset.name!r} has unknown entries to predict; sweeps of "
                "settings and choices of p are for data that are known"
            )
        if growth := specification.record_growth:
            raise ValueError(
                f"record_growth={growth!r}: lanes are recorded every record_every "
                "iterations; expected 0"
            )
        if specification.mesh is not None and specification.solver is not None:
            given = specification.mesh, dataset.V.shape, specification.solver
            as_placement(*given)
        stop = specification.stop
        for name, value, never in (
            ("time_budget", stop.seconds, np.inf),
            ("target", stop.target, -np.inf),
        ):
            if value != never:
                raise ValueError(
                    f"stop.{name}={value!r}: lanes stop by max_iter and tol; "
                    "expected null"
                )

    @property
    def size(self) -> int:
        """How many lanes there are."""
        return len(self.specification.ranks) * len(self.specification.seeds)

    def outcome(self, found: SweepResult, keep: bool, **more: Any) -> JobResults:
        """A row a lane, and with ``keep`` the factors of the best at each rank."""
        names = dict(self.labels)
        if more.get("solver"):
            names["solver"] = more["solver"]
        rows, traces, factors = [], [], {}
        loss = self.specification.objective.loss
        pairs = zip(found.lanes, found.runs, strict=True)
        table = found.table
        relative = table["relative_error"]
        kept = best(table) if keep else []
        references = [reference(problem) for problem in found.builder.problems]
        for i, (lane, run) in enumerate(pairs):
            assert run is not None
            parts = [f"{k}={v:g}" for k, v in lane.settings.items()]
            name = "-".join([f"r{lane.rank}", f"s{lane.seed}", *parts])
            own = references[found.builder.data_of_seed[lane.seed]]
            error = as_error(loss, run.trace.objective, own)
            traces.append(
                pd.DataFrame(
                    {
                        "run": name,
                        "iteration": run.trace.iteration,
                        "seconds": np.nan,
                        "objective": run.trace.objective,
                        "error": error,
                        "kkt": run.trace.kkt,
                    }
                )
            )
            rows.append(
                {
                    "run": name,
                    **names,
                    "dataset": self.dataset.name,
                    "rank": lane.rank,
                    "seed": lane.seed,
                    **lane.settings,
                    "objective": float(run.trace.objective[-1]),
                    "error": float(error[-1]),
                    "relative_error": float(relative[i]),
                    "iterations": int(run.iterations),
                    "seconds": np.nan,
                    "compile_seconds": np.nan,
                    "kkt": float(run.trace.kkt[-1]),
                    "status": str(Status.from_code(int(run.status))),
                }
            )
            if i in kept:
                factors[name] = found.result(i).all_factors
        manifest = {
            "lanes": len(rows),
            "seconds": found.seconds,
            "compile_seconds": found.compile_seconds,
            "batching": _plain(found.batching),
            "buckets": _plain(found.buckets),
            **more,
        }
        trace = pd.concat(traces, ignore_index=True)
        return JobResults(trace, pd.DataFrame(rows), factors, manifest=manifest)


class Settings(LaneJob):
    """Every combination of ``config["sweep"]`` at every rank and seed.

    Raises:
      Unsupported: for a setting that the solver does not have.
    """

    kind = "settings"

    def __init__(self, specification: Specification, *rest: Any) -> None:
        super().__init__(specification, *rest)
        solver, settings = specification.solver, specification.settings or {}
        known = float_settings(type(solver))
        for name in settings:
            if name not in known and name not in PENALTIES:
                raise UnsupportedError(
                    f"solver {solver.name!r} has no setting {name!r} to sweep"
                    f"{suggestion(name, known)}; it has "
                    f"{', '.join([*known, *PENALTIES])}"
                )
        self.combinations = make_settings(solver, settings)

    @property
    def size(self) -> int:
        return super().size * len(self.combinations)

    def run(self, unfinished: Unfinished, limits: Mapping[str, int]) -> JobResults:
        given = self.specification
        data = given.data(self.dataset, self.dataset.V)
        found = run_sweep(
            data.V,
            given.ranks,
            given.seeds,
            solver=given.solver,
            objective=data.objective,
            start=given.start,
            stop=given.stop,
            settings=self.combinations,
            mask=given.mask,
            dtype=given.dtype,
            record_every=given.record_every,
            kkt=given.kkt,
            mesh=given.mesh,
            folder=unfinished.path / "lanes",
            progress=False,
        )
        if not found.complete:
            raise KeyboardInterrupt  # finished lanes are kept
        found = dataclasses.replace(found, views=data.views)
        return self.outcome(found, True, settings=list(given.settings or ()))


class Selection(LaneJob):
    """The choice of p by ``config["select"]``."""

    kind = "selection"

    def __init__(self, specification: Specification, *rest: Any) -> None:
        super().__init__(specification, *rest)
        name, options = configs.split_name(specification.select or {})
        if self.dataset.views is not None:
            raise ValueError(f"select={name}: a choice of p is for one matrix")
        self.method = make_method(name, options)
        constraints = specification.objective.constraints
        if any(type(one) is not NonNegative for one in constraints):
            raise ValueError(
                "constraints: a choice of p supports none but 'nonnegative'"
            )
        for name in sorted(specification.objective.asked - {"known_W", "known_H"}):
            raise ValueError(f"{name}: a choice of p does not support it")

    def run(self, unfinished: Unfinished, limits: Mapping[str, int]) -> JobResults:
        given, own = self.specification, self.method.solver
        found = run_selection(
            self.dataset.V,
            given.ranks,
            given.seeds,
            method=self.method,
            solver=given.solver if own is None else None,
            objective=given.objective,
            start=given.start,
            # A method with a solver of its own knows how long that needs.
            stop=given.stop if own is None else None,
            mask=given.mask,
            dtype=given.dtype,
            mesh=given.mesh,
            folder=unfinished.path / "lanes",
            progress=False,
        )
        assert found.sweep is not None  # it was made now
        outcome = self.outcome(
            found.sweep,
            found.method.consensus,
            method=self.method.name,
            rule=found.method.rule,
            chosen=found.rank,
            reason=found.reason,
            planted=self.dataset.rank if self.dataset.truth is not None else None,
            solver=own,
        )
        return outcome._replace(choice=found.table, evidence=evidence(found))


def evidence(found: RankSelection) -> dict[int, dict[str, np.ndarray]]:
    """The arrays behind the pictures, and the consensus factors."""
    arrays = {
        rank: {name: np.asarray(array) for name, array in parts.items()}
        for rank, parts in found.evidence.items()
    }
    if found.method.consensus and found.rank is not None:
        W, H = found.factors()
        arrays.setdefault(found.rank, {}).update(consensus_W=W, consensus_H=H)
    return arrays


def best(table: Any) -> list[int]:
    """The lane of the lowest objective at each rank, of a sweep's table."""
    table = table[np.isfinite(table["objective"])]
    return [
        int(i) for i in table.loc[table.groupby("rank")["objective"].idxmin(), "lane"]
    ]


def _plain(value: Any) -> Any:
    """As JSON takes it."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
