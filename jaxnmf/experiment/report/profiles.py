"""Performance profiles: how often a solver is how many times slower than the fastest.

The ratio of a solver on a problem is its time over the shortest time of any solver; its
profile at τ is the share of the problems where that ratio is at most τ. The height at
τ = 1 is how often the solver is the fastest, the height at the right end how often it
reaches the required error at all.

Reference: Dolan and Moré, Benchmarking optimization software with performance profiles,
Mathematical Programming 91 (2002) [Dolan2002].
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
LABEL = "Fastest"
TEMPLATE = "profiles.html.j2"

NEAR = {"seconds_to_1pct": "1\u00a0%", "seconds_to_0.1pct": "0.1\u00a0%"}
CLOCK = 1e-6  # seconds; shorter times count as equal
LEAST_PROBLEMS = 3


def problem_times(summary: pd.DataFrame, trace: pd.DataFrame) -> pd.DataFrame:
    """Seconds to within a tolerance of the best error of any solver on a problem.

    A problem is a data set, loss, model, rank and split (seed, and fold if any).

    Returns:
      A row per problem and solver: dataset, loss, model, rank, split, solver, the
      columns of ``TARGETS`` (infinite if never reached) and ``error`` (infinite if not
      finite). Several runs of one solver on one problem, such as of two versions of the
      package, are represented by their median.
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
    """(the problems that every solver ran, the solvers that were dropped for it).

    ``values`` has a row per problem and a column per solver, NaN where a solver was not
    run. While more than half of the problems would be lost, the solver that was run on
    the fewest is dropped.
    """
    dropped: list[str] = []
    while values.shape[1] > 2:
        whole = values.dropna()
        if len(whole) >= max(LEAST_PROBLEMS, len(values) / 2):
            break
        least: Any = values.count().idxmin()
        if not values.isna().to_numpy().any():
            break
        dropped.append(str(least))
        values = values.drop(columns=least).dropna(how="all")
    return values.dropna(), dropped


def ratios(times: pd.DataFrame) -> pd.DataFrame:
    """Each time over the shortest of its row; infinite if never reached."""
    times = times.clip(lower=CLOCK)
    shortest = times.min(axis=1).replace(np.inf, np.nan)
    return times.div(shortest, axis=0).fillna(np.inf)


def profile(of_solver: Any) -> tuple[np.ndarray, np.ndarray]:
    """(τ, share of the ratios that are at most τ), for each τ where it changes.

    >>> profile([1.0, 4.0, np.inf, 1.0])
    (array([1., 4.]), array([0.5 , 0.75]))
    """
    ratios = np.asarray(of_solver, float)
    tau = np.unique(np.append(1.0, ratios[np.isfinite(ratios)]))
    return tau, (ratios[:, None] <= tau).mean(axis=0)


def section(contents: Contents) -> dict[str, Any] | None:
    """Panels and a table for each loss with enough problems and solvers."""
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
    panels, columns, count, every, dropped = [], {}, 0, 0, []
    for column, near in NEAR.items():
        wide = times.pivot(index=[*SETTING, "split"], columns="solver", values=column)
        whole, dropped = complete(wide)
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
        f"Share of {count} problems, {words.loss_name(loss)} loss, on which a solver "
        "is the fastest, within twice the fastest time, and ever near the best error"
    )
    return {
        "loss": words.loss_name(loss),
        "problems": count,
        "incomplete": every - count,
        "dropped": dropped,
        "lines": {solver: contents.lines[solver] for solver in sorted(table.index)},
        "panels": panels,
        "table": contents.files.table(
            f"profiles {loss}", Table(table.reset_index(), caption, csv=times)
        ),
        "leader": str(table.index[0]),
        "share": float(table.iloc[0, 0]),
    }


def summary(shown: dict[str, Any]) -> list[str]:
    """Which solver was most often the fastest, for each loss."""
    return [
        f"With the {each['loss']} loss, {each['leader']} was most often the fastest to "
        f"within 1\u00a0% of the best error: on {each['share']:.0%} of "
        f"{each['problems']} problems."
        for each in shown["losses"]
    ]
