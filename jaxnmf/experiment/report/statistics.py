"""The numbers of a comparison, from the summaries and traces of runs alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxnmf.experiment.report import traces
from jaxnmf.experiment.store.layout import (
    BASELINES,
    METRIC_COLUMNS,
    PREDICTION_COLUMNS,
    SUMMARY_COLUMNS,
    TRACE_COLUMNS,
)
from jaxnmf.experiment.store.stored import StoredJob

PROBLEM = ["dataset", "loss"]
SETTING = [*PROBLEM, "model", "rank"]
"""What is fixed when solvers are compared; ``model`` is what is minimised besides the
plain loss, such as a penalty."""

TARGETS = {"seconds_to_1pct": 0.01, "seconds_to_0.1pct": 0.001}
"""Column of the comparison table → relative distance to the best error."""


MEASURES = [
    "median_error",
    "best_error",
    *TARGETS,
    "iterations",
    "seconds",
    "compile_seconds",
    "kkt",
]
"""The columns of the comparison table in which less is better."""


def gather(jobs: Sequence[StoredJob]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(summary, trace) of the jobs of kind ``"runs"``, each with a ``job`` column.

    Run ids are unique only within a job.
    """
    jobs = [job for job in jobs if job.kind == "runs"]

    def stacked(name: str, columns: tuple[str, ...]) -> pd.DataFrame:
        tables = [getattr(job, name).assign(job=job.key) for job in jobs]
        tables = [table for table in tables if len(table)]
        if not tables:
            return pd.DataFrame(columns=pd.Index(["job", *columns]))
        return pd.concat(tables, ignore_index=True)

    summary = _with_model(stacked("summary", SUMMARY_COLUMNS))
    return summary, stacked("trace", TRACE_COLUMNS)


def _with_model(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary with ``model``, empty where a run has the plain loss."""
    if "model" not in summary:
        return summary.assign(model="")
    return summary.assign(model=summary["model"].fillna(""))


def per_run(summary: pd.DataFrame, trace: pd.DataFrame) -> pd.DataFrame:
    """The summary with columns computed from the traces.

    These are ``lowest``, the lowest recorded error; ``best``, the lowest of any solver
    and seed of the setting (for ratings, whose training parts differ, of the same
    split); and the seconds to within each of ``TARGETS`` of it, infinite if never.
    """
    summary = _with_model(summary).reset_index(drop=True)
    records = traces.by_run(summary, trace)
    table = summary.assign(lowest=traces.lowest_errors(summary, records))
    keys = [table[name] for name in SETTING]
    if "rmse" in table:
        predicts = table["rmse"].notna().groupby(keys)
        split = splits(table).where(predicts.transform("any"), "")
        keys = [*keys, split]
    table["best"] = table["lowest"].groupby(keys).transform("min")
    return with_times(table, records)


def with_times(table: pd.DataFrame, records: Sequence[traces.Records]) -> pd.DataFrame:
    """The table of runs with the seconds to within ``TARGETS`` of ``best``."""
    best = table["best"].to_numpy(float)
    for column, by in TARGETS.items():
        targets = best + by * np.abs(best)
        table[column] = [
            traces.time_to(target, of_run)
            for target, of_run in zip(targets, records, strict=True)
        ]
    return table


def splits(summary: pd.DataFrame) -> pd.Series:
    """A name for the split of each run, by its seed and fold."""
    parts = [summary[name].astype(str) for name in ("seed", "fold") if name in summary]
    return parts[0].str.cat(parts[1:], sep="/")


def comparison_table(summary: pd.DataFrame, trace: pd.DataFrame) -> pd.DataFrame:
    """A row per data set, loss, model, rank and solver.

    Columns: those five, ``runs``, ``median_error`` and ``best_error`` over the seeds,
    ``seconds_to_1pct`` and ``seconds_to_0.1pct`` (median time to within 1 % and 0.1 %
    of the best error of any solver and seed in that setting; NaN if most seeds never
    reach it), the medians of ``iterations``, ``seconds`` and ``kkt``, the longest
    ``compile_seconds``, and ``status``, such as ``"converged ×2, max_iter ×1"``.
    """
    runs = per_run(summary, trace)
    runs = runs.assign(error=runs["error"].astype(float).fillna(np.inf))
    by = runs.groupby([*SETTING, "solver"], sort=True)
    table: Any = by.agg(
        runs=("run", "size"),
        median_error=("error", "median"),
        best_error=("error", "min"),
    )
    for column in TARGETS:
        table[column] = by[column].agg(lambda x: traces.median_time(x.to_list()))
    for column in ("iterations", "seconds"):
        table[column] = by[column].median()
    # Seeds share a program, which only the first of them compiles.
    table["compile_seconds"] = by["compile_seconds"].max()
    table["kkt"] = by["kkt"].median()
    table["status"] = by["status"].agg(_statuses)
    return table.reset_index()


def _statuses(column: pd.Series) -> str:
    return ", ".join(
        f"{name} ×{times}" for name, times in column.value_counts().items()
    )


def best_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Which cells of a comparison table are the best of their column and setting.

    Iterations and seconds are compared only among solvers that came within 1 % of the
    best error, since a solver may stop early far from it. Where all values are equal,
    or there is only one solver, none is best.
    """
    within = table["seconds_to_1pct"].notna()
    best = pd.DataFrame(False, index=table.index, columns=table.columns)
    for column in MEASURES:
        values = table[column].astype(float)
        if column in ("iterations", "seconds"):
            values = values.where(within)
        setting = values.groupby([table[key] for key in SETTING])
        lowest, highest = setting.transform("min"), setting.transform("max")
        only = setting.transform("count").eq(1) & setting.transform("size").gt(1)
        differ = only | np.less(lowest, highest)
        best[column] = differ & np.isfinite(values) & (values <= lowest)
    return best


def quality_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Medians over the seeds of the recorded metrics; empty if there are none.

    A row per data set, loss, model, rank and solver.
    """
    summary = _with_model(summary)
    recorded = set(summary.dropna(axis="columns", how="all").columns)
    metrics = [column for column in METRIC_COLUMNS if column in recorded]
    if not metrics:
        return pd.DataFrame(columns=pd.Index([*SETTING, "solver"]))
    medians = summary.groupby([*SETTING, "solver"])[metrics].median()
    return medians.dropna(how="all").reset_index()


def prediction_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Medians over the splits of the errors of predicted held-out ratings.

    A row per data set, loss, model, rank and solver, lowest ``validation_rmse`` first,
    then one per baseline (rank 0). Columns: those five, ``runs``, the measures, and
    ``chosen``: the setting of lowest validation error of a data set and loss,
    regardless of its test error. Empty if no ratings were predicted.
    """
    measures = list(PREDICTION_COLUMNS)
    if not set(measures) <= set(summary):
        columns = [*SETTING, "solver", "runs", *measures, "chosen"]
        return pd.DataFrame(columns=pd.Index(columns))
    summary = _with_model(summary.dropna(subset=["rmse"]))
    parts = []
    for (dataset, loss), runs in summary.groupby(PROBLEM, sort=True):  # pyright: ignore
        by = runs.groupby([*SETTING, "solver"])
        table = by[measures].median().assign(runs=by.size()).reset_index()
        table = table.sort_values("validation_rmse", kind="stable", ignore_index=True)
        table["chosen"] = False
        if len(table) and np.isfinite(table.loc[0, "validation_rmse"]):
            table.loc[0, "chosen"] = True
        # All runs of a split have the same baselines.
        splits = [name for name in ("seed", "fold") if name in runs]
        once = runs.drop_duplicates(splits)
        baselines = [
            {
                "dataset": dataset,
                "loss": loss,
                "model": "",
                "rank": 0,
                "solver": label,
                "runs": len(once),
                "chosen": False,
                **{column: once[f"{column}_{name}"].median() for column in measures},
            }
            for name, label in BASELINES.items()
        ]
        parts.append(pd.concat([table, pd.DataFrame(baselines)], ignore_index=True))
    return pd.concat(parts, ignore_index=True)


def best_runs(summary: pd.DataFrame) -> pd.DataFrame:
    """The run of lowest error of each setting, as rows of summary."""
    summary = _with_model(summary)
    finite = summary[np.isfinite(summary["error"].astype(float))]
    return finite.loc[finite.groupby(SETTING)["error"].idxmin()]
