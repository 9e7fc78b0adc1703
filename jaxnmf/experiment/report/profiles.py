"""Performance profiles: how often a solver is how many times slower than the fastest.

For each problem and solver, the ratio of its time to the shortest of any solver; the
profile of a solver at τ is the share of the problems where its ratio is at most τ. Its
height at 1 says how often it is the fastest, its height at the right end how often it
gets there at all.

Reference: Dolan and Moré, Benchmarking optimization software with performance
profiles, Mathematical Programming 91 (2002).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from jaxnmf.experiment.report import figures, statistics, traces, words
from jaxnmf.experiment.report.contents import Contents
from jaxnmf.experiment.report.statistics import SETTING, TARGETS
from jaxnmf.experiment.report.tables import Table

TITLE = "Performance profiles"
TEMPLATE = "profiles.html.j2"

NEAR = {"seconds_to_1pct": "1\u00a0%", "seconds_to_0.1pct": "0.1\u00a0%"}
CLOCK = 1e-6  # seconds: times below it are equal
LEAST_PROBLEMS = 3


def problem_times(summary: pd.DataFrame, trace: pd.DataFrame) -> pd.DataFrame:
    """Seconds to come near the best error that any solver reached on a problem.

    A problem is a data set, loss, model, rank and split (seed, and fold if any).

    Returns:
      A row a problem and solver: dataset, loss, model, rank, split, solver, the columns
      of ``TARGETS`` (infinite for never) and ``error`` (infinite for none). Of runs of
      one solver on one problem, such as with two versions, the median.
    """
    runs = statistics.per_run(summary, trace)
    runs["split"] = statistics.splits(runs)
    problem = [*SETTING, "split"]
    runs["best"] = runs.groupby(problem)["lowest"].transform("min")
    runs = statistics.with_times(runs, traces.by_run(runs, trace))
    runs["error"] = runs["error"].astype(float).fillna(np.inf)
    values = [*TARGETS, "error"]
    return runs.groupby([*problem, "solver"])[values].median().reset_index()


def complete(values: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """(the problems that every solver ran, the solvers left out to have them).

    ``values`` has a row a problem and a column a solver, NaN where a solver did not
    run. While more than half of the problems would be lost, the solver that ran the
    fewest is left out.
    """
    left: list[str] = []
    while values.shape[1] > 2:
        whole = values.dropna()
        if len(whole) >= max(LEAST_PROBLEMS, len(values) / 2):
            break
        least: Any = values.count().idxmin()
        if not values.isna().any(axis=None):
            break
        left.append(str(least))
        values = values.drop(columns=least).dropna(how="all")
    return values.dropna(), left


def ratios(times: pd.DataFrame) -> pd.DataFrame:
    """Each time over the shortest of its row; infinite for never."""
    times = times.clip(lower=CLOCK)
    shortest = times.min(axis=1).replace(np.inf, np.nan)
    return times.div(shortest, axis=0).fillna(np.inf)


def profile(of_solver: Any) -> tuple[np.ndarray, np.ndarray]:
    """(τ, share of the ratios that are at most τ), a step at each; τ starts at 1.

    >>> profile([1.0, 4.0, np.inf, 1.0])
    (array([1., 4.]), array([0.5 , 0.75]))
    """
    found = np.asarray(of_solver, float)
    tau = np.unique(np.append(1.0, found[np.isfinite(found)]))
    return tau, (found[:, None] <= tau).mean(axis=0)


def section(contents: Contents) -> dict[str, Any] | None:
    """A panel and a table for each loss with enough problems and solvers."""
    times = problem_times(contents.summary, contents.trace)
    losses = [
        shown
        for loss, here in times.groupby("loss", sort=True)
        if (shown := _of_loss(contents, str(loss), here)) is not None
    ]
    return {"losses": losses} if losses else None


def _of_loss(
    contents: Contents, loss: str, times: pd.DataFrame
) -> dict[str, Any] | None:
    panels, columns, count, every, left = [], {}, 0, 0, []
    for column, near in NEAR.items():
        wide = times.pivot(index=[*SETTING, "split"], columns="solver", values=column)
        whole, left = complete(wide)
        if whole.shape[1] < 2 or len(whole) < LEAST_PROBLEMS:
            return None
        count, every = len(whole), len(wide)
        found = ratios(whole)
        curves = {str(solver): profile(found[solver]) for solver in found}
        stem = f"profile {loss} {column.removeprefix('seconds_to_')}"
        panel = contents.files.figure(
            stem, figures.profile_panel(curves, contents.lines)
        )
        panels.append((f"to within {near} of the best error", panel))
        within = column.removeprefix("seconds_to_")
        columns[f"fastest_{within}"] = (found <= 1).mean()
        columns[f"twice_{within}"] = (found <= 2).mean()
        columns[f"ever_{within}"] = np.isfinite(found).mean()
    table = pd.DataFrame(columns).sort_values(list(columns), ascending=False)
    caption = (
        f"Share of {count} problems, {words.loss_name(loss)} loss: fastest, within "
        "twice the fastest time, and ever near the best error."
    )
    return {
        "loss": words.loss_name(loss),
        "problems": count,
        "partly": every - count,
        "left": left,
        "lines": {solver: contents.lines[solver] for solver in sorted(table.index)},
        "panels": panels,
        "table": contents.files.table(
            f"profiles {loss}", Table(table.reset_index(), caption, csv=times)
        ),
        "leader": str(table.index[0]),
        "share": float(table.iloc[0, 0]),
    }


def finding(shown: dict[str, Any]) -> str:
    """Who was most often the fastest, in a sentence; of what `section` shows."""
    return (
        f"With the {shown['loss']} loss, {shown['leader']} was most often the fastest "
        f"to within 1\u00a0% of the best error: on {shown['share']:.0%} of "
        f"{shown['problems']} problems."
    )
