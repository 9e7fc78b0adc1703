"""Jobs of lanes: settings swept in one program, and the choice of p.

Their runs have no clock of their own, so that seconds are of the job as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from jaxnmf import build, registry
from jaxnmf._util import names
from jaxnmf._util.checks import check_list
from jaxnmf.data.observed import Observed
from jaxnmf.datasets import Dataset
from jaxnmf.experiment import config as configs
from jaxnmf.experiment.jobs.runs import as_error, check_no_ratings, reference
from jaxnmf.experiment.jobs.unfinished import Unfinished
from jaxnmf.experiment.store.layout import Outcome
from jaxnmf.objective.problem import Problem
from jaxnmf.selection import METHODS, RankSelection, select_rank
from jaxnmf.sweeps.lane import PENALTIES
from jaxnmf.sweeps.result import SweepResult
from jaxnmf.sweeps.sweep import float_settings, make_settings, sweep
from jaxnmf.types import Status


class LaneJob:
    """What the two kinds share.

    Args:
      config: a resolved `StudyConfig`.
      dataset: what it names, loaded.
      dtype: the precision.

    Raises:
      ValueError: for a config that cannot be run, before anything is run.
    """

    kind = ""

    def __init__(self, config: Mapping[str, Any], dataset: Dataset, dtype: Any) -> None:
        self.config, self.dataset = config, dataset
        if dataset.kind == "ratings":
            raise ValueError(
                f"dataset={dataset.name!r} has unknown entries to predict; sweeps of "
                "settings and choices of p are for data that are known"
            )
        check_no_ratings(config, dataset)
        if growth := config["record_growth"]:
            raise ValueError(
                f"record_growth={growth!r}: lanes are recorded every record_every "
                "iterations; 0 would fit"
            )
        stop = config["stop"]
        for name in ("time_budget", "target"):
            if stop[name] is not None:
                raise ValueError(
                    f"stop.{name}={stop[name]!r}: lanes stop by max_iter and tol; null "
                    "would fit"
                )
        self.ranks = config["ranks"]
        if self.ranks is None:
            self.ranks = [dataset.rank] if dataset.rank else []
        check_list("ranks", self.ranks, 1)
        check_list("seeds", config["seeds"], 0)
        self.solver_name, self.solver_options = configs.split_name(config["solver"])
        name, options = configs.split_name(config["loss"])
        self.loss = registry.make_loss(name, options)
        self.solver = registry.make_solver(self.solver_name, self.solver_options)
        given = [config[x] for x in ("l1", "l2", "constraints")]
        build.make_problem(dataset.V, dtype, self.solver, self.loss, *given)
        self.common: dict[str, Any] = {
            "loss": self.loss,
            "init": config["init"]["name"],
            "dtype": config["dtype"],
            "l1": tuple(config["l1"]),
            "l2": tuple(config["l2"]),
            "progress": False,
        }

    @property
    def size(self) -> int:
        """How many lanes there are."""
        return len(self.ranks) * len(self.config["seeds"])

    def _reference(self, problem: Problem, dtype: Any) -> float:
        """What the loss of a lane is divided by: of the data that it was fitted to."""
        V, weights = problem.operand.to_host(), problem.operand.host_weights()
        if weights is not None:
            rows, cols = weights.nonzero()
            values = np.asarray(V[rows, cols]).ravel()
            V = Observed(rows, cols, values, V.shape)
        return reference(problem, V, dtype)

    def outcome(self, found: SweepResult, keep: bool, **more: Any) -> Outcome:
        """A row a lane, and with ``keep`` the factors of the best at each rank."""
        names = configs.labels(self.config)
        if more.get("solver"):
            names["solver"] = more["solver"]
        rows, traces, factors = [], [], {}
        pairs = zip(found.lanes, found.runs, strict=True)
        table = found.table  # once: it begins every lane again
        relative = table["relative_error"]
        kept = best(table) if keep else []
        references = [
            self._reference(problem, found.builder.dtype)
            for problem in found.builder.problems
        ]
        for i, (lane, run) in enumerate(pairs):
            assert run is not None
            parts = [f"{k}={v:g}" for k, v in lane.settings.items()]
            name = "-".join([f"r{lane.rank}", f"s{lane.seed}", *parts])
            own = references[found.builder.turns[lane.seed]]
            error = as_error(self.loss, run.trace.objective, own)
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
                factors[name] = found.factors(i)
        manifest = {
            "lanes": len(rows),
            "seconds": found.seconds,
            "compile_seconds": found.compile_seconds,
            "batching": _plain(found.batching),
            "buckets": _plain(found.buckets),
            **more,
        }
        trace = pd.concat(traces, ignore_index=True)
        return Outcome(trace, pd.DataFrame(rows), factors, manifest=manifest)


class Settings(LaneJob):
    """Every combination of ``config["sweep"]`` at every rank and seed.

    Raises:
      Unsupported: for a setting that the solver does not have.
    """

    kind = "settings"

    def __init__(self, config: Mapping[str, Any], dataset: Dataset, dtype: Any) -> None:
        super().__init__(config, dataset, dtype)
        self.settings = {k: v for k, v in config["sweep"].items() if k != "name"}
        known = float_settings(registry.solver_class(self.solver_name))
        for name in self.settings:
            if name not in known and name not in PENALTIES:
                raise build.UnsupportedError(
                    f"solver {self.solver_name!r} has no setting {name!r} to sweep"
                    f"{names.suggestion(name, known)}; it has "
                    f"{', '.join([*known, *PENALTIES])}"
                )
        self.combinations = len(make_settings(self.solver, self.settings))

    @property
    def size(self) -> int:
        return super().size * self.combinations

    def run(self, unfinished: Unfinished, limits: Mapping[str, int]) -> Outcome:
        found = sweep(
            self.dataset.V,
            self.ranks,
            self.config["seeds"],
            solver=self.solver_name,
            solver_options=self.solver_options,
            settings=self.settings,
            constraints=self.config["constraints"],
            max_iter=self.config["stop"]["max_iter"],
            tol=self.config["stop"]["tol"],
            kkt_tol=self.config["stop"]["kkt_tol"],
            record_every=self.config["record_every"],
            kkt=self.config["kkt"],
            folder=unfinished.path / "lanes",
            **self.common,
        )
        if not found.complete:
            raise KeyboardInterrupt  # finished lanes are kept
        return self.outcome(found, True, settings=list(self.settings))


class Selection(LaneJob):
    """The choice of p by ``config["select"]``."""

    kind = "selection"

    def __init__(self, config: Mapping[str, Any], dataset: Dataset, dtype: Any) -> None:
        super().__init__(config, dataset, dtype)
        self.method, self.options = configs.split_name(config["select"])
        if config["constraints"] != ["nonnegative"] * 2:
            raise ValueError("constraints: a choice of p takes none but 'nonnegative'")

    def run(self, unfinished: Unfinished, limits: Mapping[str, int]) -> Outcome:
        own = METHODS[self.method].solver
        asked: dict[str, Any] = {}
        if own is None:  # else the method's own solver, and how long that needs
            asked = {
                "solver": self.solver_name,
                "solver_options": self.solver_options,
                "max_iter": self.config["stop"]["max_iter"],
                "tol": self.config["stop"]["tol"],
            }
        found = select_rank(
            self.dataset.V,
            self.ranks,
            method=self.method,
            seeds=self.config["seeds"],
            folder=unfinished.path / "lanes",
            **asked,
            **self.common,
            **self.options,
        )
        assert found.sweep is not None  # it was made now
        whole = found.method.consensus
        told = self.outcome(
            found.sweep,
            whole,
            method=self.method,
            rule=found.method.rule,
            chosen=found.rank,
            planted=self.dataset.rank if self.dataset.truth is not None else None,
            solver=own,
        )
        return told._replace(choice=found.table, evidence=evidence(found))


def evidence(found: RankSelection) -> dict[int, dict[str, np.ndarray]]:
    """What the pictures show, and the factors that the runs agree on."""
    arrays = {
        rank: {name: np.asarray(array) for name, array in parts.items()}
        for rank, parts in found.evidence.items()
    }
    if found.method.consensus:
        W, H = found.factors()
        arrays.setdefault(found.rank, {}).update(consensus_W=W, consensus_H=H)
    return arrays


def best(table: Any) -> list[int]:
    """The lane of lowest loss at each rank, of a sweep's table."""
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
