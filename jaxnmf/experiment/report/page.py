"""The page: everything a study found, in one file that needs no other."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np
import pandas as pd
import yaml
from markupsafe import Markup

from jaxnmf.experiment.layout import PREDICTION_COLUMNS
from jaxnmf.experiment.report import (
    figures,
    pictures,
    recommended,
    statistics,
    words,
)
from jaxnmf.experiment.store import StoredJob, read_jobs
from jaxnmf.operand import Observed
from jaxnmf.ratings import split

LoadDataset = Callable[[str, dict[str, Any]], Any]
"""(name, options) → a `jaxnmf.datasets.Dataset`."""

ENVIRONMENT = {
    "package_version": "jaxnmf",
    "commit": "commit",
    "python": "Python",
    "platform": "platform",
    "device": "device",
    "device_count": "devices",
    "dtype": "dtype",
    "precision": "matmul precision",
}
CURVES = {"error": "error at the end", "npmi": "", "nmi": "", "ari": ""}
"""What is drawn against rank, where it was recorded: column → title, or its heading."""

SETTINGS = 20  # of ratings, by validation, that are open at first
LINKED = ("summary.parquet", "trace.parquet", "factors.npz", "manifest.json")


def build_report(
    folder: str | Path, *, load_dataset: LoadDataset | None = None
) -> Path:
    """Write ``report.html`` into a study folder, from its store alone.

    Args:
      folder: the study folder.
      load_dataset: gives the data set of a job's config, to show factors in the
        data's own form. Where it raises, the page says why and leaves them out.

    Returns:
      The page's path.

    Raises:
      ValueError: when the folder holds no run, a corrupt job, or cannot be written.
    """
    folder = Path(folder)
    jobs = [job for job in read_jobs(folder) if len(job.summary)]
    if not jobs:
        raise ValueError(f"folder: {str(folder)!r} holds no runs under jobs/")
    page = _template().render(**_context(folder, jobs, load_dataset))
    path = folder / "report.html"
    part = path.with_name(".report.html.part")
    try:
        part.write_text(page, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise ValueError(
            f"folder: a report cannot be written into {str(folder)!r}: {error}"
        ) from error
    return path


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = Markup  # only our own drawings go through it
    return environment.get_template("page.html.j2")


def _context(
    folder: Path, jobs: Sequence[StoredJob], load_dataset: LoadDataset | None
) -> dict[str, Any]:
    summary, trace = statistics.gather(jobs)
    table = statistics.comparison_table(summary, trace)
    lines = figures.solver_lines(summary["solver"].unique())
    curves = statistics.curves(summary, trace)
    quality = statistics.quality_table(summary)
    predictions = statistics.prediction_table(summary)
    by_key = {job.key: job for job in jobs}
    loaded: dict[str, Any] = {}
    problems = []
    for number, (_, rows) in enumerate(table.groupby(statistics.PROBLEM, sort=True)):
        dataset, loss = rows["dataset"].iloc[0], rows["loss"].iloc[0]

        def of_problem(
            frame: pd.DataFrame, dataset: str = dataset, loss: str = loss
        ) -> Any:
            return frame[(frame["dataset"] == dataset) & (frame["loss"] == loss)]

        runs, predicted = of_problem(summary), of_problem(predictions)
        frames = [rows, of_problem(quality), of_problem(curves), runs]
        show = _factors if predicted.empty else _predicted
        models = sorted(set(rows["model"]))
        problems.append(
            {
                "id": f"problem-{number}",
                "dataset": dataset,
                "loss": loss,
                "title": f"{dataset}, {words.loss_name(loss)} loss",
                "error": _error_meaning(loss),
                "lines": {name: lines[name] for name in sorted(set(rows["solver"]))},
                "models": [
                    _model(model, lines, *(x[x["model"] == model] for x in frames))
                    for model in models
                ],
                "predictions": _predictions(predicted, runs, lines),
                "about": None,
                **show(runs, by_key, load_dataset, loaded),
            }
        )
    return {
        "name": _name(folder, jobs),
        "overview": " ".join(
            [words.overview(summary, table), words.predicted(predictions)]
            if len(problems) == 1
            else [words.overview(summary, table)]
        ),
        "facts": _facts(jobs, summary),
        "problems": problems,
        "environment": _environment(jobs, summary),
        "jobs": [_job(folder, job) for job in jobs],
        "style": Markup((Path(__file__).parent / "page.css").read_text("utf-8")),
    }


def _name(folder: Path, jobs: Sequence[StoredJob]) -> str:
    """What the study was called, or the folder's name."""
    names = {job.config.get("name") for job in jobs} - {None, "run"}
    return " and ".join(sorted(names)) or folder.resolve().name  # pyright: ignore


def _model(
    model: str, lines: dict, rows: Any, quality: Any, curves: Any, runs: Any
) -> dict[str, Any]:
    """What is shown of the solvers of one data set, loss and model."""
    measured = [x for x in quality.columns[5:] if quality[x].notna().any()]
    ranked = runs["rank"].nunique() > 1
    ranks = []
    for column in CURVES if ranked else ():
        if column in runs and runs[column].notna().any():
            title = CURVES[column] or words.HEADINGS[column]
            svg = figures.rank_panel(runs, lines, column, title)
            ranks.append((title, svg))
    return {
        "label": model,
        "findings": " ".join(words.findings(rows)),
        "table": _table(rows, statistics.MEASURES, statistics.best_cells(rows)),
        "quality": _table(quality, measured),
        "convergence": _convergence(curves, lines),
        "ranks": ranks,
    }


def _predictions(predicted: Any, runs: Any, lines: dict) -> dict[str, Any] | None:
    """How held-out ratings are predicted: the table, and RMSE against rank."""
    if predicted.empty:
        return None
    columns = ["rank", *PREDICTION_COLUMNS, "model"]
    simple = predicted["rank"] == 0
    settings, baselines = predicted[~simple], predicted[simple]
    panels = {}
    for column, title in (("rmse", "Test"), ("validation_rmse", "Validation")):
        found = runs[column].astype(float)
        found = found[np.isfinite(found)]
        if runs["rank"].nunique() < 2 or found.empty:
            continue
        level = float(baselines[column].iloc[-1])
        low, high = min(found.min(), level), max(found.quantile(0.95), level)
        room = 0.04 * (high - low)
        panels[f"{title} RMSE against rank"] = [
            (
                model or "no penalty",
                figures.rank_panel(
                    of_model,
                    lines,
                    column,
                    words.HEADINGS[column],
                    limits=(low - room, high + room),
                    level=level,
                ),
            )
            for model, of_model in runs.groupby("model", sort=True)
        ]
    return {
        "finding": words.predicted(predicted),
        "headings": [words.HEADINGS[column] for column in columns],
        "rows": [
            (
                row["solver"],
                bool(row["chosen"]),
                [
                    ""
                    if column == "rank" and not row["rank"]
                    else words.cell(column, row[column])
                    for column in columns
                ],
            )
            for row in (*baselines.to_dict("records"), *settings.to_dict("records"))
        ],
        "shown": len(baselines) + SETTINGS,
        "panels": panels,
    }


def _table(
    rows: pd.DataFrame, columns: list[str], best: pd.DataFrame | None = None
) -> dict[str, Any] | None:
    """Headings and, by rank, the cells of each solver: (text, whether it is best)."""
    if rows.empty:
        return None
    last = [name for name in ("status",) if name in rows]
    ranks: dict[int, list] = {}
    for index, row in zip(rows.index, rows.to_dict("records"), strict=True):
        cells = [
            (
                words.cell(column, row[column]),
                best is not None and bool(best.at[index, column]),
            )
            for column in [*columns, *last]
        ]
        ranks.setdefault(int(row["rank"]), []).append((row["solver"], cells))
    headings = [words.HEADINGS.get(column, column) for column in [*columns, *last]]
    return {"headings": headings, "ranks": ranks, "words": bool(last)}


def _convergence(curves: pd.DataFrame, lines: dict) -> dict[str, list]:
    """Axis → a panel a rank, all with one range of errors."""
    limits = figures.gap_limits(curves)
    panels: dict[str, list] = {}
    for (axis, rank), here in curves.groupby(["axis", "rank"], sort=True):  # pyright: ignore
        svg = figures.convergence_panel(here, lines, axis, limits)
        panels.setdefault(axis, []).append((rank, svg))
    return {axis: panels[axis] for axis in ("seconds", "iterations") if axis in panels}


def _factors(
    runs: pd.DataFrame,
    jobs: Mapping[str, StoredJob],
    load_dataset: LoadDataset | None,
    loaded: dict[str, Any],
) -> dict[str, Any]:
    """The best run of each rank in the data's own form, or why it is not shown."""
    try:
        shown = []
        dataset = None
        for best in statistics.best_runs(runs).to_dict("records"):
            job = jobs[best["job"]]
            dataset, W, H = _with_data(job, best["run"], load_dataset, loaded)
            model = f"{best['model']}, " if best["model"] else ""
            shown.append(
                {
                    "rank": best["rank"],
                    "run": f"best run: {best['solver']}, {model}seed {best['seed']}, "
                    f"error {words.number(best['error'], 4)}",
                    "blocks": pictures.components(dataset, W, H)
                    + pictures.residual(dataset, W, H),
                }
            )
        return {"factors": shown, "missing": "", "about": dataset}
    except (_NotLoaded, ValueError) as error:
        return {"factors": [], "missing": str(error)}


def _predicted(
    runs: pd.DataFrame,
    jobs: Mapping[str, StoredJob],
    load_dataset: LoadDataset | None,
    loaded: dict[str, Any],
) -> dict[str, Any]:
    """The setting that validation chose, on its first split: items and users."""
    table = statistics.prediction_table(runs)
    # Where nothing was kept for validation the first setting is shown.
    row = table.sort_values("chosen", ascending=False, kind="stable").iloc[0]
    keys = ["model", "rank", "solver"]
    run = runs[(runs[keys] == row[keys]).all(axis=1)].iloc[0]
    job = jobs[run["job"]]
    try:
        dataset, W, H = _with_data(job, run["run"], load_dataset, loaded)
        fold = run.get("fold")
        parts = split(
            Observed.stored(dataset.V),
            int(run["seed"]),
            **job.config["holdout"],
            fold=0 if fold is None or pd.isna(fold) else int(fold),
        )
    except (_NotLoaded, ValueError) as error:
        return {"factors": [], "missing": str(error)}
    model = f", {run['model']}" if run["model"] else ""
    shown = {
        "rank": run["rank"],
        "run": f"chosen by validation: {run['solver']}{model}; its run {run['run']}",
        "blocks": recommended.blocks(dataset, W, H, job.offsets(run["run"]), parts),
    }
    return {"factors": [shown], "missing": "", "about": dataset}


class _NotLoaded(Exception):
    """Why a data set is not there to be shown."""


def _with_data(
    job: StoredJob,
    run: str,
    load_dataset: LoadDataset | None,
    loaded: dict[str, Any],
) -> tuple[Any, Any, Any]:
    """(the data set, W, H) of a run, when they still fit each other."""
    dataset = _dataset(job, load_dataset, loaded)
    W, H = job.factors(run)
    if dataset.V.shape != (len(W), H.shape[1]):
        raise ValueError(
            f"the data is {dataset.V.shape[0]}×{dataset.V.shape[1]} now, the "
            f"factors are of a matrix {len(W)}×{H.shape[1]}"
        )
    return dataset, W, H


def _dataset(
    job: StoredJob, load_dataset: LoadDataset | None, loaded: dict[str, Any]
) -> Any:
    if load_dataset is None:
        raise _NotLoaded("no loader of data sets was given")
    options = dict(job.config.get("dataset") or {})
    name = options.pop("name", "")
    key = repr((name, options))
    if key not in loaded:
        try:
            loaded[key] = load_dataset(name, options)
        except Exception as error:  # a loader is anyone's code
            loaded[key] = _NotLoaded(str(error) or type(error).__name__)
    if isinstance(loaded[key], _NotLoaded):
        raise loaded[key]
    return loaded[key]


def _error_meaning(loss: str) -> str:
    if loss.startswith("frobenius"):
        return "relative error ‖V − W H‖ / ‖V‖"
    return "loss divided by the loss of the row means"


def _facts(jobs: Sequence[StoredJob], summary: pd.DataFrame) -> list[str]:
    facts = [words.count(len(summary), "run"), words.count(len(jobs), "job")]
    if unfinished := sum(not job.complete for job in jobs):
        facts.append(f"{unfinished} of them not complete")
    days = sorted(str(job.manifest.get("finished") or "")[:10] for job in jobs)
    facts += [day for day in days[-1:] if day]
    return facts


def _environment(
    jobs: Sequence[StoredJob], summary: pd.DataFrame
) -> list[tuple[str, str]]:
    """(what, its value), every distinct value where jobs differ."""
    found: dict[str, dict[str, None]] = {}

    def add(label: str, value: Any) -> None:
        if value not in (None, ""):
            found.setdefault(label, {})[str(value)] = None

    for job in jobs:
        manifest = job.manifest
        for key, label in ENVIRONMENT.items():
            value = manifest.get(key)
            if key == "commit" and value and manifest.get("dirty"):
                value = f"{value}, with changes that are not committed"
            add(label, value)
        versions = manifest.get("versions")
        for package, version in (versions or {}).items():
            add(package, version)
        dataset = job.summary["dataset"].iloc[0]
        add(f"SHA-256 of {dataset}", manifest.get("data_checksum"))
    seconds = [float(s) for s in summary["compile_seconds"] if s == s]
    if seconds:
        longest = words.duration(max(seconds))
        add("compilation", f"up to {longest} a run, in no other time on this page")
    return [(label, " · ".join(values)) for label, values in found.items()]


def _job(folder: Path, job: StoredJob) -> dict[str, Any]:
    row = job.summary.iloc[0]
    state = "" if job.complete else ", not complete"
    inside = job.path.relative_to(folder).as_posix()
    return {
        "title": f"{row['solver']} on {row['dataset']}, {row['loss']}",
        "runs": words.count(len(job.summary), "run") + state,
        "command": job.manifest.get("command") or "",
        "config": yaml.safe_dump(job.config, sort_keys=False, allow_unicode=True),
        "files": [(name, quote(f"{inside}/{name}")) for name in LINKED],
        "key": job.key,
    }
