"""What a comparison of solvers shows, in sentences.

Each function reads the tables of `statistics` alone.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pandas as pd

from jaxnmf.experiment.report.words import (
    count,
    duration,
    listed,
    loss_name,
    lower_first,
    names_or_count,
    number,
    ranks,
    series,
    some,
)

STATUSES = {
    "diverged": "diverged",
    "max_iter": "ran out of iterations",
    "time": "ran out of time",
    "interrupted": "was interrupted",
}
"""Status of a run that did not converge → what is said of it."""

LIMITS = ("max_iter", "time")
MANY = 6
"""Solvers, above which those that only reached a limit are counted, not named."""

TIE = 1e-4
"""Relative difference of errors below which they are called the same."""

Rows = list[dict[str, Any]]


def compared(table: pd.DataFrame) -> str:
    """Which solvers were run on which data sets, losses and ranks."""
    rows = _rows(table)
    datasets, losses, solvers, models = (
        _distinct(rows, column) for column in ("dataset", "loss", "solver", "model")
    )
    seeds = max(int(row["runs"]) for row in rows)
    text = (
        f"{names_or_count(solvers, 'solver')} "
        f"{'was run' if len(solvers) == 1 else 'were compared'} "
        f"on {names_or_count(datasets, 'data set')} "
        f"with the {listed(map(loss_name, losses))} "
        f"loss{'' if len(losses) == 1 else 'es'} at {ranks(_distinct(rows, 'rank'))}, "
        f"{count(seeds, 'seed')} each."
    )
    if len(models) > 1:
        text += f" Each with {count(len(models), 'model')} (penalties, offsets)."
    return text


def lowest_error(table: pd.DataFrame) -> list[str]:
    """Which solver reached the lowest error: at each rank of one data set, loss and
    model; of several, in how many settings."""
    rows = _rows(table)
    if all(len(_distinct(rows, x)) == 1 for x in ("dataset", "loss", "model")):
        return best_by_rank(table)
    if len(_distinct(rows, "solver")) == 1:
        return []
    losses = _distinct(rows, "loss")
    if len(losses) == 1:
        return [_settings_won(rows)]
    return [
        f"{loss_name(loss)} loss: "
        + lower_first(_settings_won([row for row in rows if row["loss"] == loss]))
        for loss in losses
    ]


def best_by_rank(table: pd.DataFrame) -> list[str]:
    """Which solver was best and which the fastest at each rank of one data set, loss
    and model.

    Ranks with the same answer share a sentence.
    """
    rows = _rows(table)
    if len(_distinct(rows, "solver")) == 1:
        errors = series([row["best_error"] for row in rows])
        return [f"The lowest error was {errors} at {ranks(_distinct(rows, 'rank'))}."]
    groups: dict[tuple, list[dict]] = {}
    for rank in _distinct(rows, "rank"):
        here = [row for row in rows if row["rank"] == rank]
        near = [row for row in here if not math.isnan(row["seconds_to_1pct"])]
        near.sort(key=lambda row: row["seconds_to_1pct"])
        first, second = [*(row["solver"] for row in near), None, None][:2]
        times = [*(row["seconds_to_1pct"] for row in near), math.nan, math.nan][:2]
        seeds = max(int(row["runs"]) for row in here)
        case = (tuple(_best_solvers(here)), seeds, first, second)
        best = min(row["best_error"] for row in here)
        groups.setdefault(case, []).append({"rank": rank, "best": best, "times": times})
    if len(groups) == 1 and len(_distinct(rows, "rank")) > 1:
        ((case, at),) = groups.items()
        return [_best(case, at, "every rank")]
    return [
        _best(case, at, ranks(each["rank"] for each in at))
        for case, at in groups.items()
    ]


def predictions(table: pd.DataFrame) -> str:
    """What validation chose for ratings, and its test error beside the baselines'.

    Empty where it chose nothing; of several data sets or losses, the choice of lowest
    validation error.
    """
    rows = _rows(table)
    chosen = [row for row in rows if row["chosen"]]
    if not chosen:
        return ""
    row = min(chosen, key=lambda row: row["validation_rmse"])
    here = [x for x in rows if all(x[k] == row[k] for k in ("dataset", "loss"))]
    baselines = [x for x in here if x["rank"] == 0]
    against = listed(f"{number(x['rmse'], 4)} by {x['solver']}" for x in baselines)
    model = f" ({row['model']})" if row["model"] else ""
    return (
        f"Of {count(len(here) - len(baselines), 'setting')}, validation chose "
        f"{row['solver']} at rank {row['rank']}{model}: on the test part its RMSE is "
        f"{number(row['rmse'], 4)}, against {against}."
    )


def failures(summary: pd.DataFrame) -> list[str]:
    """A sentence for each solver that diverged or reached a limit."""
    rows = _rows(summary)
    every = {str(row["status"]) for row in rows}
    if len(every) == 1 and (said := STATUSES.get(*every)):
        return [f"Every run {said}."]
    sentences, named = [], dict(STATUSES)
    if len(_distinct(rows, "solver")) > MANY:
        limits = {status: named.pop(status) for status in LIMITS}
        reached = [
            f"{times} {said}"
            for status, said in limits.items()
            if (times := sum(str(row["status"]) == status for row in rows))
        ]
        if reached:
            sentences.append(f"Of {count(len(rows), 'run')} {listed(reached)}.")
    for solver in _distinct(rows, "solver"):
        statuses = [str(row["status"]) for row in rows if row["solver"] == solver]
        parts = []
        for status, said in named.items():
            if times := statuses.count(status):
                of = f"{times} of {count(len(statuses), 'run')}"
                if times == len(statuses):
                    of = "every run"
                parts.append(f"{said} in {of}")
        if parts:
            sentences.append(f"{solver} {listed(parts)}.")
    return sentences


def _rows(table: pd.DataFrame) -> Rows:
    return table.to_dict("records")  # pyright: ignore


def _distinct(rows: Rows, column: str) -> list:
    return sorted({row[column] for row in rows})


def _best_solvers(rows: Rows) -> list[str]:
    """The solvers of one setting whose best error is the lowest, ties included."""
    best = min(row["best_error"] for row in rows)
    if not math.isfinite(best):
        return []
    return [r["solver"] for r in rows if r["best_error"] <= best + TIE * abs(best)]


def _best(case: tuple, at: Rows, where: str) -> str:
    """The sentence of `best_by_rank` for ranks that share a case."""
    winners, seeds, first, second = case
    if not winners:
        return f"At {where}, no run ended with a finite error."
    errors = series([each["best"] for each in at])
    same = "same " if len(winners) > 1 else ""
    text = f"At {where}, {listed(winners)} reached the {same}lowest error ({errors})"
    most = " with most seeds" if seeds > 1 else ""
    if first is None:
        return f"{text}, but no solver came within 1 % of it{most}."
    lead = " and" if winners == (first,) else f"; {first}"
    if second is None:
        return f"{text}{lead} was the only one within 1 % of it{most}."
    lead += " came within 1 % of it"
    times = [each["times"] for each in at]
    ratios = [slow / quick if quick else math.inf for quick, slow in times]
    if max(ratios) < 1.05:
        return f"{text}{lead} no faster than {second}."
    faster = f"{series(ratios, 2, '–')} times faster than {second}"
    if len(at) > 1:
        return f"{text}{lead} {faster}."
    quick, slow = map(duration, times[0])
    return f"{text}{lead} {faster} ({quick} against {slow})."


def _settings_won(rows: Rows) -> str:
    """In how many settings each solver reached the lowest error."""
    settings: dict[tuple, Rows] = {}
    for row in rows:
        key = tuple(row[name] for name in ("dataset", "loss", "model", "rank"))
        settings.setdefault(key, []).append(row)
    won = Counter(best for here in settings.values() for best in _best_solvers(here))
    solvers = [f"{solver} in {times}" for solver, times in won.most_common()]
    return (
        f"Of the {len(settings)} settings (data set, loss, model and rank), the lowest "
        f"error was reached by {some(solvers or ['none'], 6)}; a tie counts for each."
    )
