"""The numbers of a comparison, from the store's two tables alone."""

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
"""What is held fixed where solvers are compared; ``model`` is what is minimised beyond
the plain loss, such as a penalty."""

TARGETS = {"seconds_to_1pct": 0.01, "seconds_to_0.1pct": 0.001}
"""Column of the comparison table → how far above the best error counts as there."""


MEASURES = [
    "median_error",
    "best_error",
    *TARGETS,
    "iterations",
    "seconds",
    "compile_seconds",
    "kkt",
]
"""The columns of the comparison table of which less is better."""


def gather(jobs: Sequence[StoredJob]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(summary, trace) of the jobs that hold runs, each with a ``job`` column.

    Run ids are unique only within a job.
    """
    jobs = [job for job in jobs if job.kind == "runs"]

    def stacked(name: str, columns: tuple[str, ...]) -> pd.DataFrame:
        tables = [getattr(job, name).assign(job=job.key) for job in jobs]
        tables = [table for table in tables if len(table)]
        if not tables:
            return pd.DataFrame(columns=["job", *columns])
        return pd.concat(tables, ignore_index=True)

    summary = _with_model(stacked("summary", SUMMARY_COLUMNS))
    return summary, stacked("trace", TRACE_COLUMNS)


def _with_model(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary with ``model``; a run stored without has the plain loss."""
    if "model" not in summary:
        return summary.assign(model="")
    return summary.assign(model=summary["model"].fillna(""))


def per_run(summary: pd.DataFrame, trace: pd.DataFrame) -> pd.DataFrame:
    """The summary with what the trace says of each run.

    Added: ``lowest``, the lowest error met; ``best``, the lowest of any solver and seed
    of the setting (of ratings, whose training parts differ, of the same split); and
    the seconds to come within each of ``TARGETS`` of it, infinite for never.
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
    """The table of runs with the seconds to come within ``TARGETS`` of ``best``."""
    best = table["best"].to_numpy(float)
    for column, by in TARGETS.items():
        targets = best + by * np.abs(best)
        table[column] = [
            traces.time_to(target, way)
            for target, way in zip(targets, records, strict=True)
        ]
    return table


def splits(summary: pd.DataFrame) -> pd.Series:
    """A name for the split of each run, by its seed and fold."""
    parts = [summary[name].astype(str) for name in ("seed", "fold") if name in summary]
    return parts[0].str.cat(parts[1:], sep="/")


def comparison_table(summary: pd.DataFrame, trace: pd.DataFrame) -> pd.DataFrame:
    """A row per data set, loss, model, rank and solver.

    Columns: those five, ``runs``, ``median_error`` and ``best_error`` over the seeds,
    ``seconds_to_1pct`` and ``seconds_to_0.1pct`` (median time to come that close to
    the best error of any solver and seed in that setting; NaN when most seeds never
    do), the medians of ``iterations``, ``seconds`` and ``kkt``, the longest
    ``compile_seconds``, and ``status``, such as ``"converged ×2, max_iter ×1"``.
    """
    return compared(per_run(summary, trace))


def compared(runs: pd.DataFrame) -> pd.DataFrame:
    """The comparison table of `comparison_table`, from `per_run`."""
    runs = runs.assign(error=runs["error"].astype(float).fillna(np.inf))
    by = runs.groupby([*SETTING, "solver"], sort=True)
    table = by.agg(
        runs=("run", "size"),
        median_error=("error", "median"),
        best_error=("error", "min"),
    )
    for column in TARGETS:
        table[column] = by[column].agg(lambda x: traces.median_time(x.to_list()))
    for column in ("iterations", "seconds"):
        table[column] = by[column].median()
    # Seeds share a program: whoever came first paid for it.
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

    Few iterations or seconds are no merit in a solver that stopped far from the best
    error, so those two count only among solvers that came within 1 % of it. Where all
    are equal, or one stands alone, none is best.
    """
    within = table["seconds_to_1pct"].notna()
    best = pd.DataFrame(False, index=table.index, columns=table.columns)
    for column in MEASURES:
        values = table[column].astype(float)
        if column in ("iterations", "seconds"):
            values = values.where(within)
        setting = values.groupby([table[key] for key in SETTING])
        lowest, highest = setting.transform("min"), setting.transform("max")
        # Where all that count are equal none stands out, unless one alone counts.
        alone = setting.transform("count").eq(1) & setting.transform("size").gt(1)
        stands_out = alone | np.less(lowest, highest)
        best[column] = stands_out & np.isfinite(values) & (values <= lowest)
    return best


def quality_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Medians over the seeds of the metrics that were recorded; empty where none was.

    A row per data set, loss, model, rank and solver.
    """
    summary = _with_model(summary)
    recorded = set(summary.dropna(axis="columns", how="all").columns)
    metrics = [column for column in METRIC_COLUMNS if column in recorded]
    if not metrics:
        return pd.DataFrame(columns=[*SETTING, "solver"])
    medians = summary.groupby([*SETTING, "solver"])[metrics].median()
    return medians.dropna(how="all").reset_index()


def prediction_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Medians over the splits of how well held-out ratings are predicted.

    A row per data set, loss, model, rank and solver, lowest ``validation_rmse`` first,
    then one for each baseline (rank 0); columns those, ``runs``, the measures, and
    ``chosen``: the setting of lowest validation error of a data set and loss, whatever
    its test error is. Empty where no ratings were predicted.
    """
    measures = list(PREDICTION_COLUMNS)
    if not set(measures) <= set(summary):
        return pd.DataFrame(columns=[*SETTING, "solver", "runs", *measures, "chosen"])
    summary = _with_model(summary.dropna(subset=["rmse"]))
    parts = []
    for (dataset, loss), runs in summary.groupby(PROBLEM, sort=True):  # pyright: ignore
        by = runs.groupby([*SETTING, "solver"])
        table = by[measures].median().assign(runs=by.size()).reset_index()
        table = table.sort_values("validation_rmse", kind="stable", ignore_index=True)
        table["chosen"] = False
        if len(table) and np.isfinite(table.loc[0, "validation_rmse"]):
            table.loc[0, "chosen"] = True
        # Every run of a split was stored with the same baselines.
        splits = [name for name in ("seed", "fold") if name in runs]
        once = runs.drop_duplicates(splits)
        simple = [
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
        parts.append(pd.concat([table, pd.DataFrame(simple)], ignore_index=True))
    return pd.concat(parts, ignore_index=True)


def best_runs(summary: pd.DataFrame) -> pd.DataFrame:
    """The run of lowest error of each setting, as rows of summary."""
    summary = _with_model(summary)
    finite = summary[np.isfinite(summary["error"].astype(float))]
    return finite.loc[finite.groupby(SETTING)["error"].idxmin()]


def curves(
    summary: pd.DataFrame,
    trace: pd.DataFrame,
    *,
    value: str = "error",
    points: int = 60,
) -> pd.DataFrame:
    """A recorded value over seconds and over iterations: the error minus the best
    error of the setting, or with ``value="kkt"`` the KKT residual as it is.

    The grid is logarithmic and common to the solvers and seeds of a setting. Between
    records the logarithm of the value is interpolated; a run that has stopped keeps
    its last value, one whose error diverged counts as infinite from there on. KKT
    residuals count only of runs that recorded them on their way.

    Returns:
      dataset, loss, model, rank, solver, axis ("seconds" or "iterations"), x, and over
      the seeds the median, low (min) and high (max).
    """
    runs: Any = per_run(summary, trace)
    runs["records"] = traces.by_run(runs, trace)
    if value == "kkt":
        on_the_way = [np.isfinite(r.kkt).sum() > 2 for r in runs["records"]]
        runs = runs[np.array(on_the_way, bool)]
    parts = []
    for _, group in runs.groupby(SETTING, sort=True):
        setting = dict(group[SETTING].iloc[0])
        for axis, column in (("seconds", "seconds"), ("iterations", "iteration")):
            parts += [
                pd.DataFrame({**setting, "solver": solver, "axis": axis, **curve})
                for solver, curve in _curves(group, column, value, points).items()
            ]
    if not parts:
        columns = [*SETTING, "solver", "axis", "x", "median", "low", "high"]
        return pd.DataFrame(columns=columns)
    return pd.concat(parts, ignore_index=True)


def _curves(
    runs: pd.DataFrame, column: str, value: str, points: int
) -> dict[str, dict[str, np.ndarray]]:
    """Solver → x, median, low and high of one setting and axis."""

    def moved(records: traces.Records) -> np.ndarray:
        at = getattr(records, column)
        return at[at > 0]

    positive = np.concatenate([moved(r) for r in runs["records"]])
    if not len(positive):
        return {}
    grid = np.geomspace(positive.min(), positive.max(), points)
    found = {}
    for solver, of_solver in runs.groupby("solver", sort=True):
        there = [
            (r, least)
            for r, least in zip(of_solver["records"], of_solver["best"], strict=True)
            if len(moved(r))
        ]
        if not there:
            continue
        start = min(moved(r).min() for r, _ in there)
        end = max(moved(r).max() for r, _ in there)
        # The ends of its own records belong to each solver's curve.
        x = np.unique([start, *grid[(grid > start) & (grid < end)], end])
        rows = [
            traces.value_at(x, getattr(r, column), r.error) - least
            if value == "error"
            else traces.value_at(x, getattr(r, column)[known], r.kkt[known])
            for r, least in there
            for known in [np.isfinite(r.kkt)]
        ]
        found[str(solver)] = {
            "x": x,
            "median": np.median(rows, axis=0),
            "low": np.min(rows, axis=0),
            "high": np.max(rows, axis=0),
        }
    return found
