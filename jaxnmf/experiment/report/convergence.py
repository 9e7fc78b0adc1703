"""Convergence curves: error and KKT residual over seconds and iterations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from jaxnmf.experiment.report import statistics, traces
from jaxnmf.experiment.report.statistics import SETTING


def curves(
    summary: pd.DataFrame,
    trace: pd.DataFrame,
    *,
    value: str = "error",
    points: int = 60,
) -> pd.DataFrame:
    """A recorded value over seconds and over iterations.

    The value is the error minus the best error of the setting, or with ``value="kkt"``
    the KKT residual, of the runs that recorded it more than at their two ends. The grid
    is logarithmic and common to the solvers and seeds of a setting. Between records the
    logarithm of the value is interpolated; a run that has stopped keeps its last value,
    and one that diverged is infinite from there on.

    Returns:
      dataset, loss, model, rank, solver, axis ("seconds" or "iterations"), x, and over
      the seeds the median, low (minimum) and high (maximum).
    """
    runs: Any = statistics.per_run(summary, trace)
    runs["records"] = traces.by_run(runs, trace)
    if value == "kkt":
        recorded = [np.isfinite(r.kkt).sum() > 2 for r in runs["records"]]
        runs = runs[np.array(recorded, bool)]
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
        return pd.DataFrame(columns=pd.Index(columns))
    return pd.concat(parts, ignore_index=True)


def _curves(
    runs: Any, column: str, value: str, points: int
) -> dict[str, dict[str, np.ndarray]]:
    """Solver → x, median, low and high of one setting and axis."""

    def positive(records: traces.Records) -> np.ndarray:
        x = getattr(records, column)
        return x[x > 0]

    def values_at(x: np.ndarray, records: traces.Records, best: float) -> np.ndarray:
        at = getattr(records, column)
        if value == "error":
            return traces.value_at(x, at, records.error) - best
        known = np.isfinite(records.kkt)
        return traces.value_at(x, at[known], records.kkt[known])

    runs = runs[[len(positive(r)) > 0 for r in runs["records"]]]
    if runs.empty:
        return {}
    every = np.concatenate([positive(r) for r in runs["records"]])
    grid = np.geomspace(every.min(), every.max(), points)
    found = {}
    for solver, of_solver in runs.groupby("solver", sort=True):
        start = min(positive(r).min() for r in of_solver["records"])
        end = max(positive(r).max() for r in of_solver["records"])
        # Each curve includes the first and the last record of its solver.
        x = np.unique([start, *grid[(grid > start) & (grid < end)], end])
        rows = [
            values_at(x, records, best)
            for records, best in zip(
                of_solver["records"], of_solver["best"], strict=True
            )
        ]
        found[str(solver)] = {
            "x": x,
            "median": np.median(rows, axis=0),
            "low": np.min(rows, axis=0),
            "high": np.max(rows, axis=0),
        }
    return found
