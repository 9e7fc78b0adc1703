"""The numbers of a comparison, from the store's two tables alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from jaxnmf.experiment.layout import (
    BASELINES,
    METRIC_COLUMNS,
    PREDICTION_COLUMNS,
    SUMMARY_COLUMNS,
    TRACE_COLUMNS,
)
from jaxnmf.experiment.store import StoredJob

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
    """(summary, trace) of many jobs, each with a ``job`` column.

    Run ids are unique only within a job.
    """

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


def comparison_table(summary: pd.DataFrame, trace: pd.DataFrame) -> pd.DataFrame:
    """A row per data set, loss, model, rank and solver.

    Columns: those five, ``runs``, ``median_error`` and ``best_error`` over the seeds,
    ``seconds_to_1pct`` and ``seconds_to_0.1pct`` (median time to come that close to
    the best error of any solver and seed in that setting; NaN when most seeds never
    do), the medians of ``iterations``, ``seconds`` and ``kkt``, the longest
    ``compile_seconds``, and ``status``, such as ``"converged ×2, max_iter ×1"``.
    """
    rows = []
    for setting, runs, traces in _settings(summary, trace):
        best = _best_errors(runs, traces)
        for solver, of_solver in runs.groupby("solver", sort=True):
            error = of_solver["error"].fillna(np.inf)
            records = [
                (best[key], traces.get(key, trace.iloc[:0])) for key in of_solver.index
            ]
            rows.append(
                {
                    **setting,
                    "solver": solver,
                    "runs": len(of_solver),
                    "median_error": error.median(),
                    "best_error": error.min(),
                    **{
                        column: _median_time(
                            [
                                _time_to(least + by * abs(least), r)
                                for least, r in records
                            ]
                        )
                        for column, by in TARGETS.items()
                    },
                    "iterations": of_solver["iterations"].median(),
                    "seconds": of_solver["seconds"].median(),
                    # Seeds share a program: whoever came first paid for it.
                    "compile_seconds": of_solver["compile_seconds"].max(),
                    "kkt": of_solver["kkt"].median(),
                    "status": ", ".join(
                        f"{status} ×{count}"
                        for status, count in of_solver["status"].value_counts().items()
                    ),
                }
            )
    return pd.DataFrame(rows)


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
    summary: pd.DataFrame, trace: pd.DataFrame, *, points: int = 80
) -> pd.DataFrame:
    """Error minus the best error of the setting, over seconds and over iterations.

    The grid is logarithmic and common to the solvers and seeds of a setting. Between
    records the logarithm of the error is interpolated; a run that has stopped keeps
    its last error, one that diverged counts as infinite from there on.

    Returns:
      dataset, loss, rank, solver, axis ("seconds" or "iterations"), x, and over the
      seeds the median, low (min) and high (max).
    """
    parts = []
    for setting, runs, traces in _settings(summary, trace):
        best = _best_errors(runs, traces)
        for axis, column in (("seconds", "seconds"), ("iterations", "iteration")):
            positive = [t[column][t[column] > 0] for t in traces.values()]
            positive = [values for values in positive if len(values)]
            if not positive:
                continue
            grid = np.geomspace(
                min(values.min() for values in positive),
                max(values.max() for values in positive),
                points,
            )
            for solver, of_solver in runs.groupby("solver", sort=True):
                there = [key for key in of_solver.index if key in traces]
                records = [traces[key] for key in there]
                if not records:
                    continue
                start = min(t[column][t[column] > 0].min() for t in records)
                end = max(t[column].max() for t in records)
                # The ends of its own records belong to each solver's curve.
                inside = grid[(grid > start) & (grid < end)]
                x = np.unique([start, *inside, end])
                least = np.array([[best[key]] for key in there])
                gap = np.array([_error_at(x, column, t) for t in records]) - least
                parts.append(
                    pd.DataFrame(
                        {
                            **setting,
                            "solver": solver,
                            "axis": axis,
                            "x": x,
                            "median": np.median(gap, axis=0),
                            "low": gap.min(axis=0),
                            "high": gap.max(axis=0),
                        }
                    )
                )
    if not parts:
        columns = [*SETTING, "solver", "axis", "x", "median", "low", "high"]
        return pd.DataFrame(columns=columns)
    return pd.concat(parts, ignore_index=True)


def _settings(
    summary: pd.DataFrame, trace: pd.DataFrame
) -> Iterator[tuple[dict, pd.DataFrame, dict]]:
    """(setting, its runs, their traces), the two keyed alike."""
    summary = _with_model(summary)
    within_jobs = "job" in summary and "job" in trace

    def keys(table: pd.DataFrame) -> list[str]:
        runs = map(str, table["run"])
        if not within_jobs:
            return list(runs)
        return [f"{job}/{run}" for job, run in zip(table["job"], runs, strict=True)]

    runs = summary.set_index(pd.Index(keys(summary), dtype=object))
    by_run = trace.groupby(np.array(keys(trace), dtype=object))
    traces = {run: records.sort_values("iteration") for run, records in by_run}
    for _, group in runs.groupby(SETTING, sort=True):
        setting = dict(group[SETTING].iloc[0])
        there = {run: traces[run] for run in group.index if run in traces}
        yield setting, group, there


def _best_errors(runs: pd.DataFrame, traces: dict) -> dict[str, float]:
    """For each run the lowest error of its setting; of ratings, whose training parts
    differ, of its split."""
    splits = [name for name in ("seed", "fold") if name in runs]
    if "rmse" not in runs or not np.isfinite(runs["rmse"].to_numpy(float)).any():
        return dict.fromkeys(runs.index, _best_error(runs, traces))
    return {
        key: least
        for _, group in runs.groupby(splits, dropna=False)
        for least in [
            _best_error(group, {k: traces[k] for k in group.index if k in traces})
        ]
        for key in group.index
    }


def _best_error(runs: pd.DataFrame, traces: dict) -> float:
    """The lowest error met, at the end of a run or on its way."""
    errors = [runs["error"], *(records["error"] for records in traces.values())]
    values = np.concatenate([np.asarray(e, float) for e in errors])
    return float(min(values[np.isfinite(values)], default=np.nan))


def _time_to(target: float, records: pd.DataFrame) -> float:
    """Seconds at which the error first reaches the target; infinite if never."""
    error = records["error"].to_numpy(float)
    seconds = records["seconds"].to_numpy(float)
    there = np.flatnonzero(error <= target)
    if not len(there):
        return np.inf
    after = there[0]
    if after == 0:
        return float(seconds[0])
    high, low = error[after - 1], error[after]
    if not (low > 0 and np.isfinite(high)):
        return float(seconds[after])
    passed = np.log(high / target) / np.log(high / low)
    start = seconds[after - 1]
    return float(start + passed * (seconds[after] - start))


def _median_time(times: list[float]) -> float:
    """The median with infinity for never, NaN when more than half are never.

    When exactly half get there, the median is the last of them.
    """
    ordered = sorted(times)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    if np.isinf(low):
        return np.nan
    return low if np.isinf(high) else (low + high) / 2


def _error_at(x: np.ndarray, column: str, records: pd.DataFrame) -> np.ndarray:
    at = records[column].to_numpy(float)
    error = records["error"].to_numpy(float)
    finite = np.isfinite(error)
    if not finite.any():
        return np.full(len(x), np.inf)
    if (error[finite] > 0).all():
        values = np.exp(np.interp(x, at[finite], np.log(error[finite])))
    else:
        values = np.interp(x, at[finite], error[finite])
    if not finite[-1]:
        values[x > at[finite][-1]] = np.inf
    return values
