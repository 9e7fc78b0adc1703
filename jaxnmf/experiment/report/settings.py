"""Settings swept in lanes: what an error owes to a setting, and how sensitive it is.

Of each solver, rank and combination of values the median error over the seeds counts,
infinite where most seeds diverged. Where several settings were swept, one is shown with
the others at their best: the least over them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from jaxnmf.experiment import config as configs
from jaxnmf.experiment.report import words
from jaxnmf.experiment.report.choices import told_apart
from jaxnmf.experiment.report.contents import Contents
from jaxnmf.experiment.report.drawing import (
    SHADES,
    Drawing,
    drawn,
    log_ticks,
    panel,
    plain_ticks,
)
from jaxnmf.experiment.report.figures import Line
from jaxnmf.experiment.report.tables import Table, shortest
from jaxnmf.experiment.store.stored import StoredJob
from jaxnmf.sweeps.lane import PENALTIES

TITLE = "Sensitivity to settings"
LABEL = "Settings"
TEMPLATE = "settings.html.j2"

NEAR = {"within_1pct": 0.01, "within_10pct": 0.1}
"""Column of the sensitivity table → how far above the best error counts as there."""

CELLS = 7  # columns of a heat map, up to which it has room for numbers


def problems(jobs: Sequence[StoredJob]) -> Iterator[tuple[dict[str, Any], Any]]:
    """({dataset, loss, model, settings}, the runs) of each data set, loss, model and
    choice of settings to sweep among the jobs, in order."""
    jobs = [job for job in jobs if job.manifest.get("settings")]
    datasets = told_apart([job.config["dataset"] for job in jobs])
    found: dict[tuple[Any, ...], list[pd.DataFrame]] = {}
    for job, dataset in zip(jobs, datasets, strict=True):
        loss = str(job.summary["loss"].iloc[0])
        names = tuple(job.manifest["settings"])
        # Penalties that are swept are not those of the config.
        held = {k: v for k, v in job.config.items() if k not in names}
        key = (dataset, loss, configs.model_label(held), names)
        runs = job.summary.assign(
            error=job.summary["error"].astype(float).fillna(np.inf), job=job.key
        )
        found.setdefault(key, []).append(runs)
    for key in sorted(found):
        dataset, loss, model, names = key
        about = {"dataset": dataset, "loss": loss, "model": model, "settings": names}
        yield about, pd.concat(found[key], ignore_index=True)


def medians(runs: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """A row a solver, rank and combination: the median error over the seeds, and its
    ``low`` and ``high``."""
    by = runs.groupby(["solver", "rank", *settings])["error"]
    # Two infinite values in the middle have no mean.
    median = by.quantile(0.5, interpolation="higher")
    even = by.size() % 2 == 0
    with np.errstate(invalid="ignore"):
        median = median.where(~even | np.isinf(median), by.median())
    return pd.DataFrame(
        {"error": median, "low": by.min(), "high": by.max()}
    ).reset_index()


def profile(table: pd.DataFrame, setting: str) -> pd.DataFrame:
    """Of each value of a setting, the row with the others at their best; ``table`` is
    of one solver and rank."""
    rows = table.loc[table.groupby(setting)["error"].idxmin()]
    return rows.sort_values(setting, ignore_index=True)


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
    told = []
    penalties = [setting for setting in settings if setting in PENALTIES]
    for solver, of_solver in table.groupby("solver", sort=True):
        parts = [
            _told(setting, _by_rank(of_solver, setting))
            for setting in settings
            if setting not in penalties
        ]
        lanes = runs[runs["solver"] == solver]
        gone = list(lanes["status"]).count("diverged")
        if gone:
            parts.append(f"{gone} of {words.count(len(lanes), 'lane')} diverged")
        if parts:
            told.append(f"{solver}: {', '.join(parts)}.")
    for setting in penalties:
        most = max(
            _ratio(float(errors.max()), float(errors.min()))
            for _, of_solver in table.groupby("solver")
            for _, errors in _by_rank(of_solver, setting).items()
        )
        told.append(
            f"The penalty {setting} is a part of the error, and multiplies it by up to "
            f"{words.number(most)}."
        )
    return told


def _by_rank(of_solver: pd.DataFrame, setting: str) -> pd.DataFrame:
    """The error of one solver: a row a value of the setting, a column a rank."""
    return pd.DataFrame(
        {
            rank: profile(here, setting).set_index(setting)["error"]
            for rank, here in of_solver.groupby("rank", sort=True)
        }
    )


def _told(setting: str, by: Any) -> str:
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
                f"{stem} {setting} rank {rank}", setting_panel(here, setting, used)
            ),
        )
        for setting in settings
        for rank, here in table.groupby("rank", sort=True)
    ]
    maps = [
        (name, contents.files.figure(f"{stem} {name}", drawing))
        for name, drawing in _maps(table, most_influential(table, settings))
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


def _maps(
    table: pd.DataFrame, settings: Sequence[str]
) -> Iterator[tuple[str, Drawing]]:
    """(name, heat map) of each solver, and rank where two settings span the map."""
    least = table.groupby("rank")["error"].transform("min")
    table = table.assign(times=table["error"] / least)
    norm = times_norm(table["times"])
    column = settings[0]
    row = settings[1] if len(settings) > 1 else "rank"
    keys = ["solver"] if row == "rank" else ["solver", "rank"]
    groups: Any = table.groupby(keys, sort=True)
    for key, here in groups:
        name = str(key[0]) if row == "rank" else f"{key[0]}, rank {key[1]}"
        errors, times = (
            here.pivot_table(
                index=row, columns=column, values=name, aggfunc="min", dropna=False
            )
            for name in ("error", "times")
        )
        yield name, heat_map(errors, times, norm)


def times_norm(times: Any) -> Normalize:
    """From 1 to the most times the least error, on a log scale beyond a decade."""
    times = np.asarray(times, float)
    most = float(times[np.isfinite(times)].max(initial=1.0))
    return LogNorm(1, most) if most > 10 else Normalize(1, max(most, 1.01))


def heat_map(values: pd.DataFrame, times: pd.DataFrame, norm: Normalize) -> Drawing:
    """Errors, coloured by how many times the least of the rank they are, bright for 1;
    a row a value of the index, grey where nothing finite was reached."""
    rows, columns = values.shape
    height = max(1.5, 0.75 + 0.32 * rows)
    wide = columns > CELLS
    figure, axes = panel(height, left=0.7, bottom=0.5)
    colours = mpl.colormaps["viridis_r"].resampled(SHADES).with_extremes(bad="#b8bfc7")
    parts = times.to_numpy(float)
    image = axes.imshow(
        np.where(np.isfinite(parts), parts, np.nan),
        cmap=colours,
        norm=norm,
        aspect="auto",
        interpolation="none",
    )
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    step = -(-columns // 8)
    axes.set_xticks(
        range(0, columns, step), [shortest(x) for x in values.columns[::step]]
    )
    axes.set_yticks(range(rows), [shortest(y) for y in values.index])
    axes.set(xlabel=str(values.columns.name), ylabel=str(values.index.name))
    if wide:
        bar = figure.colorbar(image, ax=axes, pad=0.02, label="times the least error")
        bar.outline.set_visible(False)
        return drawn(figure)
    for (i, j), error in np.ndenumerate(values.to_numpy(float)):
        bright = not np.isfinite(error) or float(norm(parts[i, j])) < 0.5
        axes.text(
            j,
            i,
            words.number(error) if np.isfinite(error) else "diverged",
            ha="center",
            va="center",
            size=8,
            color="#111111" if bright else "#fffffe",
        )
    return drawn(figure)


def setting_panel(table: pd.DataFrame, setting: str, lines: dict[str, Line]) -> Drawing:
    """The median error against a setting, a line a solver, and the range of its seeds;
    ``table`` is of one rank. Where nothing finite was reached the line breaks."""
    figure, axes = panel(2.9, title="median error")
    shown = []
    for solver, here in table.groupby("solver", sort=True):
        by, line = profile(here, setting), lines[str(solver)]
        by = by.replace(np.inf, np.nan)
        x = by[setting]
        axes.fill_between(
            x, by["low"], by["high"], color=line.colour, alpha=0.15, linewidth=0
        )
        axes.plot(
            x,
            by["error"],
            color=line.colour,
            linestyle=line.pattern,
            marker="o",
            markersize=4,
        )
        shown.append(by[["error", "low", "high"]].to_numpy(float))
    values = np.unique(table[setting].to_numpy(float))
    _setting_axis(axes, values)
    axes.set_xlabel(setting, parse_math=False)
    errors = np.concatenate(shown)
    errors = errors[np.isfinite(errors)]
    if len(errors) and 0 < 10 * errors.min() < errors.max():
        limits = errors.min() / 1.2, errors.max() * 1.2
        axes.set(yscale="log", ylim=limits)
        log_ticks(axes.yaxis, *limits)
    else:
        plain_ticks(axes.yaxis, 5)
    return drawn(figure)


def _setting_axis(axes: Any, values: np.ndarray) -> None:
    """A log scale where values are positive, with a place for 0 beside it."""
    positive = values[values > 0]
    if (values < 0).any() or len(positive) < 2:
        plain_ticks(axes.xaxis, 5)
        return
    if len(positive) == len(values):
        axes.set_xscale("log")
    else:
        axes.set_xscale("symlog", linthresh=positive[0], linscale=1.0)
    ticks = values[:: -(-len(values) // 7)]
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FixedFormatter([shortest(tick) for tick in ticks]))
