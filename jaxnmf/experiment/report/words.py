"""Numbers as text, and what they say in plain words; shared by page and terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

HEADINGS = {
    "rank": "rank",
    "solver": "solver",
    "runs": "runs",
    "median_error": "median error",
    "best_error": "best error",
    "seconds_to_1pct": "s to 1\u00a0%",
    "seconds_to_0.1pct": "s to 0.1\u00a0%",
    "iterations": "iterations",
    "seconds": "s in all",
    "compile_seconds": "s compile",
    "kkt": "KKT residual",
    "status": "stopped by",
    "model": "model",
    "rmse": "RMSE",
    "mae": "MAE",
    "ndcg10": "nDCG@10",
    "validation_rmse": "validation RMSE",
    "accuracy": "accuracy",
    "ari": "adjusted Rand",
    "nmi": "mutual information",
    "npmi": "NPMI",
    "umass": "UMass",
    "diversity": "topic diversity",
    "match_score": "factor match",
    "sparsity_W": "sparsity of W",
    "sparsity_H": "sparsity of H",
}

DIGITS = {
    "median_error": 4,
    "best_error": 4,
    "kkt": 2,
    "rmse": 4,
    "mae": 4,
    "ndcg10": 4,
    "validation_rmse": 4,
}

LOSSES = {
    "frobenius": "Frobenius",
    "kullback-leibler": "Kullback–Leibler",
    "itakura-saito": "Itakura–Saito",
}

TROUBLES = {
    "diverged": "diverged",
    "max_iter": "ran out of iterations",
    "time": "ran out of time",
    "interrupted": "was interrupted",
}

LIMITS = ("max_iter", "time")
MANY = 6
"""Solvers, beyond which those that only met a limit are counted and not named."""

TIE = 1e-4
"""Errors that differ by less, relatively, are called the same in words."""


def number(value: Any, digits: int = 3) -> str:
    """A number to some significant digits; a dash for NaN.

    >>> number(0.31200), number(12345678.0), number(float("nan"))
    ('0.312', '1.23e7', '–')
    """
    value = float(value)
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:.0f}".replace("-", "−")
    return f"{value:#.{digits}g}".rstrip(".").replace("-", "−")


def cell(column: str, value: Any) -> str:
    """One cell of a comparison or quality table as text."""
    if column == "rank" or column == "runs":
        return str(int(value))
    if column == "iterations":
        return "–" if math.isnan(value) else f"{value:.0f}"
    if column in ("solver", "status", "dataset", "loss", "model"):
        return str(value)
    return number(value, DIGITS.get(column, 3))


def duration(seconds: float) -> str:
    """A time in words: ``"12.0 ms"``, ``"3.20 s"``."""
    if seconds < 0.1:
        return f"{number(1000 * seconds)} ms"
    return f"{number(seconds)} s"


def loss_name(loss: str) -> str:
    """The loss as it is written in text."""
    return LOSSES.get(loss, loss)


def listed(words: Iterable[Any]) -> str:
    """``"a, b and c"``."""
    *most, last = map(str, words)
    return f"{', '.join(most)} and {last}" if most else last


def count(n: int, noun: str) -> str:
    """``"1 run"``, ``"3 runs"``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def some(names: Sequence[Any], most: int = 4) -> str:
    """The names while they are few, else the first of them and how many more."""
    if len(names) <= most:
        return listed(names)
    return f"{', '.join(map(str, names[: most - 1]))} and {len(names) - most + 1} more"


def lower_first(sentence: str) -> str:
    """The sentence as it stands after a colon."""
    return sentence[:1].lower() + sentence[1:]


def probability(p: float) -> str:
    """A p-value for a table: ``"0.031"``, ``"< 0.001"``."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def p_is(p: float) -> str:
    """A p-value for a sentence: ``"p = 0.031"``, ``"p < 0.001"``."""
    text = probability(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def overview(summary: pd.DataFrame, table: pd.DataFrame) -> str:
    """What was compared, who won, and what went wrong, in one paragraph."""
    told = [compared(table), *winners(table), *troubles(summary)]
    return " ".join(told)


def compared(table: pd.DataFrame) -> str:
    """Which solvers were run on what."""
    rows = table.to_dict("records")
    datasets = _distinct(rows, "dataset")
    losses = _distinct(rows, "loss")
    solvers = _distinct(rows, "solver")
    seeds = max(int(row["runs"]) for row in rows)
    text = (
        f"{_sum_of(solvers, 'solver')} "
        f"{'was run' if len(solvers) == 1 else 'were compared'} "
        f"on {_sum_of(datasets, 'data set')} with the {listed(map(loss_name, losses))} "
        f"loss{'' if len(losses) == 1 else 'es'} at {_ranks(_distinct(rows, 'rank'))}, "
        f"{count(seeds, 'seed')} each."
    )
    models = _distinct(rows, "model")
    if len(models) > 1:
        text += f" Each with {count(len(models), 'model')} (penalties, offsets)."
    return text


def winners(table: pd.DataFrame) -> list[str]:
    """Who reached the lowest error: at each rank, of many settings in how many."""
    rows = table.to_dict("records")
    if all(len(_distinct(rows, x)) == 1 for x in ("dataset", "loss", "model")):
        return findings(table)
    if len(_distinct(rows, "solver")) == 1:
        return []
    losses = _distinct(rows, "loss")
    if len(losses) == 1:
        return [_tally(rows)]
    return [
        f"{loss_name(loss)} loss: "
        + lower_first(_tally([row for row in rows if row["loss"] == loss]))
        for loss in losses
    ]


def findings(table: pd.DataFrame) -> list[str]:
    """Which solver was best and first at each rank of one data set, loss and model.

    Ranks with the same answer share a sentence.
    """
    rows = table.to_dict("records")
    if len(_distinct(rows, "solver")) == 1:
        errors = _series([row["best_error"] for row in rows])
        return [f"The lowest error was {errors} at {_ranks(_distinct(rows, 'rank'))}."]
    groups: dict[tuple, list[dict]] = {}
    for rank in _distinct(rows, "rank"):
        here = [row for row in rows if row["rank"] == rank]
        there = [row for row in here if not math.isnan(row["seconds_to_1pct"])]
        there.sort(key=lambda row: row["seconds_to_1pct"])
        first, second = [*(row["solver"] for row in there), None, None][:2]
        times = [*(row["seconds_to_1pct"] for row in there), math.nan, math.nan][:2]
        seeds = max(int(row["runs"]) for row in here)
        case = (tuple(_winners(here)), seeds, first, second)
        best = min(row["best_error"] for row in here)
        groups.setdefault(case, []).append({"rank": rank, "best": best, "times": times})
    if len(groups) == 1 and len(_distinct(rows, "rank")) > 1:
        ((case, at),) = groups.items()
        return [_finding("every rank", case, at)]
    return [
        _finding(_ranks([each["rank"] for each in at]), case, at)
        for case, at in groups.items()
    ]


def predicted(predictions: pd.DataFrame) -> str:
    """What validation chose for ratings, and how it does on the test, against the
    baselines; empty where it chose nothing. Of several data sets or losses, for the one
    of the lowest validation error."""
    rows = predictions.to_dict("records")
    chosen = [row for row in rows if row["chosen"]]
    if not chosen:
        return ""
    row = min(chosen, key=lambda row: row["validation_rmse"])
    here = [x for x in rows if all(x[k] == row[k] for k in ("dataset", "loss"))]
    simple = [x for x in here if x["rank"] == 0]
    against = listed(f"{number(x['rmse'], 4)} by {x['solver']}" for x in simple)
    model = f" ({row['model']})" if row["model"] else ""
    return (
        f"Of {count(len(here) - len(simple), 'setting')}, validation chose "
        f"{row['solver']} at rank {row['rank']}{model}: on the test part its RMSE is "
        f"{number(row['rmse'], 4)}, against {against}."
    )


def troubles(summary: pd.DataFrame) -> list[str]:
    """A sentence for each solver that diverged or ran out of anything."""
    rows = summary.to_dict("records")
    every = {str(row["status"]) for row in rows}
    if len(every) == 1 and (words := TROUBLES.get(*every)):
        return [f"Every run {words}."]
    sentences, named = [], dict(TROUBLES)
    if len(_distinct(rows, "solver")) > MANY:
        limits = {status: named.pop(status) for status in LIMITS}
        met = [
            f"{times} {words}"
            for status, words in limits.items()
            if (times := sum(str(row["status"]) == status for row in rows))
        ]
        if met:
            sentences.append(f"Of {count(len(rows), 'run')} {listed(met)}.")
    for solver in _distinct(rows, "solver"):
        statuses = [str(row["status"]) for row in rows if row["solver"] == solver]
        told = []
        for status, words in named.items():
            if times := statuses.count(status):
                of = f"{times} of {count(len(statuses), 'run')}"
                if times == len(statuses):
                    of = "every run"
                told.append(f"{words} in {of}")
        if told:
            sentences.append(f"{solver} {listed(told)}.")
    return sentences


def _distinct(rows: list[dict], column: str) -> list:
    return sorted({row[column] for row in rows})


def _sum_of(names: list, noun: str) -> str:
    """The names while they are few, else how many."""
    return listed(names) if len(names) <= 4 else count(len(names), noun)


def _winners(rows: list[dict]) -> list[str]:
    """The solvers of one setting whose best error is the lowest, ties included."""
    best = min(row["best_error"] for row in rows)
    if not math.isfinite(best):
        return []
    return [r["solver"] for r in rows if r["best_error"] <= best + TIE * abs(best)]


def _finding(where: str, case: tuple, at: list[dict]) -> str:
    winners, seeds, first, second = case
    if not winners:
        return f"At {where}, no run ended with a finite error."
    errors = _series([each["best"] for each in at])
    if len(winners) == 1:
        text = f"At {where}, {winners[0]} reached the lowest error ({errors})"
    else:
        text = f"At {where}, {listed(winners)} reached the same lowest error ({errors})"
    most = " with most seeds" if seeds > 1 else ""
    if first is None:
        return f"{text}, but no solver came within 1 % of it{most}."
    alone = winners == (first,)
    lead = " and" if alone else f"; {first}"
    if second is None:
        return f"{text}{lead} was the only one within 1 % of it{most}."
    lead += " came within 1 % of it"
    times = [each["times"] for each in at]
    ratios = [slow / quick if quick else math.inf for quick, slow in times]
    if max(ratios) < 1.05:
        return f"{text}{lead} no sooner than {second}."
    sooner = f"{_series(ratios, 2, '–')} times sooner than {second}"
    if len(at) > 1:
        return f"{text}{lead} {sooner}."
    quick, slow = map(duration, times[0])
    return f"{text}{lead} {sooner} ({quick} against {slow})."


def _tally(rows: list[dict]) -> str:
    """How many settings each solver won."""
    settings: dict[tuple, list[dict]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("dataset", "loss", "model", "rank"))
        settings.setdefault(key, []).append(row)
    won = Counter(winner for here in settings.values() for winner in _winners(here))
    told = [f"{solver} in {times}" for solver, times in won.most_common()] or ["none"]
    return (
        f"Of the {len(settings)} settings (data set, loss, model and rank), the lowest "
        f"error was reached by {some(told, 6)}, a tie counted for each."
    )


def _ranks(ranks: Sequence) -> str:
    ranks = sorted({int(rank) for rank in ranks})
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    if len(ranks) > 3 and ranks == list(range(ranks[0], ranks[-1] + 1)):
        return f"ranks {ranks[0]} to {ranks[-1]}"
    if len(ranks) > 6:
        return f"{len(ranks)} ranks from {ranks[0]} to {ranks[-1]}"
    return f"ranks {listed(ranks)}"


def _series(values: Iterable[float], digits: int = 4, dash: str = "") -> str:
    """Up to three values in full, more of them (or with a dash) as a range."""
    values = list(values)
    texts = [number(value, digits) for value in values]
    if dash or len(texts) > 3:
        low, high = number(min(values), digits), number(max(values), digits)
        return low if low == high else f"{low}{dash or ' to '}{high}"
    return listed(texts)
