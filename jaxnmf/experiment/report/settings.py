"""Settings swept in lanes: what an error owes to a setting, and how sensitive it is.

Of each solver, rank and combination of values the median error over the seeds counts,
infinite where most seeds diverged. Where several settings were swept, one is shown with
the others at their best: the least over them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxnmf import plots
from jaxnmf.experiment import config as configs
from jaxnmf.experiment.report import words
from jaxnmf.experiment.report.config_names import config_names
from jaxnmf.experiment.report.contents import Contents
from jaxnmf.experiment.report.drawing import Drawing, drawn, panel
from jaxnmf.experiment.report.look import Line, styles
from jaxnmf.experiment.report.tables import Table, shortest
from jaxnmf.experiment.store.stored import StoredJob
from jaxnmf.plots.sensitivity import medians as of_runs
from jaxnmf.plots.sensitivity import profile
from jaxnmf.plots.sensitivity_map import times_norm
from jaxnmf.sweeps.lane import PENALTIES

TITLE = "Sensitivity to settings"
LABEL = "Settings"
TEMPLATE = "settings.html.j2"

NEAR = {"within_1pct": 0.01, "within_10pct": 0.1}
"""Column of the sensitivity table → how far above the best error counts as there."""


def problems(jobs: Sequence[StoredJob]) -> Iterator[tuple[dict[str, Any], Any]]:
    """({dataset, loss, model, settings}, the runs) of each data set, loss, model and
    choice of settings to sweep among the jobs, in order."""
    jobs = [job for job in jobs if job.manifest.get("settings")]
    datasets = config_names([job.config["dataset"] for job in jobs])
    found: dict[tuple[Any, ...], list[pd.DataFrame]] = {}
    for job, dataset in zip(jobs, datasets, strict=True):
        loss = str(job.summary["loss"].iloc[0])
        names = tuple(job.manifest["settings"])
        # Penalties that are swept are not those of the config.
        others = {k: v for k, v in job.config.items() if k not in names}
        key = (dataset, loss, configs.model_label(others), names)
        runs = job.summary.assign(
            error=job.summary["error"].astype(float).fillna(np.inf), job=job.key
        )
        found.setdefault(key, []).append(runs)
    for key in sorted(found):
        dataset, loss, model, names = key
        about = {"dataset": dataset, "loss": loss, "model": model, "settings": names}
        yield about, pd.concat(found[key], ignore_index=True)


def medians(runs: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """A row for each solver, rank and combination of values, as
    `jaxnmf.plots.sensitivity.medians` has them."""
    return of_runs(runs, ["solver", "rank", *settings])


def sensitivity(runs: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """A row a rank, solver and setting: ``best`` value and the median ``error`` there,
    the share of the values whose error is within 1 % and within 10 % of it, the
    ``worst`` over the best, and how many ``lanes`` there were and ``diverged``."""
    groups: Any = medians(runs, settings).groupby(["rank", "solver"], sort=True)
    rows = []
    for (rank, solver), here in groups:
        lanes = runs[(runs["rank"] == rank) & (runs["solver"] == solver)]
        for setting in settings:
            by = profile(here, setting)
            errors = by["error"].to_numpy(float)
            least = int(np.argmin(errors))
            finite = bool(np.isfinite(errors[least]))
            error = errors[least] if finite else np.nan
            rows.append(
                {
                    "rank": int(rank),
                    "solver": str(solver),
                    "setting": setting,
                    "best": float(by[setting].to_numpy()[least]) if finite else np.nan,
                    "error": error,
                    **{
                        name: float((errors <= error + part * abs(error)).mean())
                        for name, part in NEAR.items()
                    },
                    "worst": _ratio(errors.max(), error),
                    "lanes": len(lanes),
                    "diverged": list(lanes["status"]).count("diverged"),
                }
            )
    return pd.DataFrame(rows)


def _ratio(a: float, b: float) -> float:
    return 1.0 if a == b else a / b if b else np.inf


def sensitivity_table(jobs: Sequence[StoredJob]) -> pd.DataFrame:
    """`sensitivity` of every problem, which its first columns name."""
    parts = []
    for about, runs in problems(jobs):
        table = sensitivity(runs, about["settings"])
        for i, name in enumerate(("dataset", "loss", "model")):
            table.insert(i, name, about[name])
        table.insert(3, "swept", ", ".join(about["settings"]))
        parts.append(table)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def as_table(table: Any, caption: str) -> Table:
    """`sensitivity` as it is shown."""
    lanes = zip(table["diverged"], table["lanes"], strict=True)
    shown = table.rename(columns={"error": "median_error"})
    shown = shown.assign(diverged=[f"{n} of {lanes}" for n, lanes in lanes])
    names = ["rank", "solver", "setting", "best", "median_error", *NEAR]
    names += ["worst", "diverged"]
    return Table(shown[names], caption, group="rank", csv=table)


def sentences(runs: pd.DataFrame, settings: Sequence[str]) -> list[str]:
    """A sentence a solver: at which values it comes within 1 % of its best at every
    rank, and what diverged; and one a penalty."""
    table = medians(runs, settings)
    sentences = []
    penalties = [setting for setting in settings if setting in PENALTIES]
    for solver, of_solver in table.groupby("solver", sort=True):
        parts = [
            _near_best(setting, _by_rank(of_solver, setting))
            for setting in settings
            if setting not in penalties
        ]
        lanes = runs[runs["solver"] == solver]
        gone = list(lanes["status"]).count("diverged")
        if gone:
            parts.append(f"{gone} of {words.count(len(lanes), 'lane')} diverged")
        if parts:
            sentences.append(f"{solver}: {', '.join(parts)}.")
    for setting in penalties:
        most = max(
            _ratio(float(errors.max()), float(errors.min()))
            for _, of_solver in table.groupby("solver")
            for _, errors in _by_rank(of_solver, setting).items()
        )
        sentences.append(
            f"The penalty {setting} is a part of the error, and multiplies it by up to "
            f"{words.number(most)}."
        )
    return sentences


def _by_rank(of_solver: pd.DataFrame, setting: str) -> pd.DataFrame:
    """The error of one solver: a row a value of the setting, a column a rank."""
    return pd.DataFrame(
        {
            rank: profile(here, setting).set_index(setting)["error"]
            for rank, here in of_solver.groupby("rank", sort=True)
        }
    )


def _near_best(setting: str, by: Any) -> str:
    """Of one setting, from `_by_rank`."""
    least = by.min()
    if not np.isfinite(least).all():
        return f"{setting} leads to no finite error"
    near = by.index[(by <= least * (1 + NEAR["within_1pct"])).all(axis=1)]
    where = "" if by.shape[1] == 1 else " at every rank"
    if len(near) == len(by):
        return f"within 1\u00a0% of its best at every {setting}"
    if not len(near):
        return f"no {setting} is within 1\u00a0% of its best{where}"
    only = "only " if len(near) == 1 else ""
    values = words.some([shortest(value) for value in near], 6)
    return f"within 1\u00a0% of its best{where} {only}at {setting} {values}"


def summary(shown: Mapping[str, Any]) -> list[str]:
    """The sentences of every problem."""
    problems = shown["problems"]
    if len(problems) == 1:
        return list(problems[0]["sentences"])
    return [f"{each['about']}: {' '.join(each['sentences'])}" for each in problems]


def section(contents: Contents) -> dict[str, Any] | None:
    """The heat maps, curves and sensitivity of each problem."""
    found = list(problems(contents.of_kind("settings")))
    if not found:
        return None
    lines = contents.lines
    swept = {setting for about, _ in found for setting in about["settings"]}
    return {
        "problems": [_problem(contents, lines, *each) for each in found],
        "penalties": not swept.isdisjoint(PENALTIES),
    }


def _problem(
    contents: Contents,
    lines: dict[str, Line],
    about: dict[str, Any],
    runs: pd.DataFrame,
) -> dict[str, Any]:
    settings = list(about["settings"])
    where = f"{about['dataset']}, {words.loss_name(about['loss'])} loss"
    if about["model"]:
        where += f", {about['model']}"
    title = f"{where}: {words.listed(settings)}"
    stem = f"settings {about['dataset']} {about['loss']} {about['model']} "
    stem += " ".join(settings)
    table = medians(runs, settings)
    used = {name: lines[name] for name in sorted(set(table["solver"]))}
    values = as_table(sensitivity(runs, settings), f"Sensitivity, {title}")
    curves = [
        (
            f"{setting}, rank {rank}",
            contents.files.figure(
                f"{stem} {setting} rank {rank}", _curve(here, setting, settings, used)
            ),
        )
        for setting in settings
        for rank, here in runs.groupby("rank", sort=True)
    ]
    maps = [
        (name, contents.files.figure(f"{stem} {name}", drawing))
        for name, drawing in _maps(runs, most_influential(table, settings), settings)
    ]
    return {
        "title": title,
        "about": where,
        "sentences": sentences(runs, settings),
        "several": len(settings) > 1,
        "lines": used,
        "curves": curves,
        "maps": maps,
        "table": contents.files.table(stem, values),
    }


def most_influential(table: pd.DataFrame, settings: Sequence[str]) -> list[str]:
    """The two settings, in their order, that the error depends on most."""

    def influence(setting: str) -> float:
        ratios = []
        for _, here in table.groupby(["solver", "rank"]):
            errors = profile(here, setting)["error"].to_numpy(float)
            ratios.append(_ratio(errors.max(), errors.min()))
        return float(np.nanmax(ratios))

    first = sorted(settings, key=influence, reverse=True)[:2]
    return [setting for setting in settings if setting in first]


def _curve(
    runs: pd.DataFrame, setting: str, others: Sequence[str], lines: dict[str, Line]
) -> Drawing:
    """The median error of one rank against a setting, a line for each solver."""
    with panel(2.9, title="median error") as axes:
        plots.sensitivity(
            runs,
            setting,
            others=others,
            value="error",
            by="solver",
            styles=styles(lines),
            legend=False,
            ax=axes,
        )
    return drawn(axes)


def _maps(
    runs: pd.DataFrame, settings: Sequence[str], swept: Sequence[str]
) -> Iterator[tuple[str, Drawing]]:
    """(name, heat map) of each solver, and rank where two settings span the map."""
    table = medians(runs, swept)
    least: Any = table.groupby("rank")["error"].min()
    best = least.to_dict()
    norm = times_norm(table["error"] / table["rank"].map(best))
    column = settings[0]
    row = settings[1] if len(settings) > 1 else "rank"
    groups: Any = runs.groupby(["solver"] if row == "rank" else ["solver", "rank"])
    for key, here in groups:
        name = str(key[0]) if row == "rank" else f"{key[0]}, rank {key[1]}"
        height = max(1.5, 0.75 + 0.32 * here[row].nunique())
        with panel(height, left=0.7, bottom=0.5) as axes:
            plots.sensitivity_map(
                here,
                row,
                column,
                others=swept,
                value="error",
                best=best,
                norm=norm,
                ax=axes,
            )
        yield name, drawn(axes)
