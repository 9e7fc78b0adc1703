"""The part of the page on one data set and loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from jaxnmf.experiment.report import (
    convergence,
    figures,
    pictures,
    recommended,
    residual,
    sentences,
    statistics,
    tables,
    words,
)
from jaxnmf.experiment.report.blocks import Block
from jaxnmf.experiment.report.contents import Contents
from jaxnmf.experiment.report.files import ReportFiles
from jaxnmf.experiment.store.stored import StoredJob
from jaxnmf.ratings import split

LoadDataset = Callable[[str, dict[str, Any]], Any]
"""(name, options) → a `jaxnmf.datasets.Dataset`."""

CURVES = {"error": "final error", "npmi": "", "nmi": "", "ari": ""}
"""What is drawn against rank, where it was recorded: column → title, or its heading."""

SETTINGS = 20  # of ratings, by validation, that are open at first


def problems(
    contents: Contents, load_dataset: LoadDataset | None
) -> list[dict[str, Any]]:
    """What the page shows of each data set and loss."""
    of_all = {
        "rows": contents.table,
        "quality": statistics.quality_table(contents.summary),
        "curves": convergence.curves(contents.summary, contents.trace),
        "kkt": convergence.curves(contents.summary, contents.trace, value="kkt"),
        "runs": contents.summary,
        "predicted": statistics.prediction_table(contents.summary),
    }
    by_key = {job.key: job for job in contents.jobs}
    loaded: dict[str, Any] = {}
    shown = []
    found_problems: Any = contents.table.groupby(statistics.PROBLEM, sort=True)
    for number, ((dataset, loss), _) in enumerate(found_problems):
        of_problem: dict[str, Any] = {
            name: each[(each["dataset"] == dataset) & (each["loss"] == loss)]
            for name, each in of_all.items()
        }
        rows, runs = of_problem["rows"], of_problem["runs"]
        predicted = of_problem.pop("predicted")
        title = f"{dataset}, {words.loss_name(loss)} loss"
        stem = f"{dataset} {loss}"
        show = _factors if predicted.empty else _predicted
        found = show(runs, by_key, load_dataset, loaded)
        for factor in found["factors"]:
            name = f"{stem} rank {factor['rank']}"
            if len(set(rows["model"])) > 1 and factor.get("model"):
                name += f" {factor['model']}"
            factor["blocks"] = [
                named(contents.files, name, b) for b in factor["blocks"]
            ]
        models = [
            _model(
                contents,
                str(model),
                title,
                " ".join([stem, str(model)]),
                {name: x[x["model"] == model] for name, x in of_problem.items()},
            )
            for model in sorted(set(rows["model"]))
        ]
        solvers = sorted(set(map(str, rows["solver"])))
        lines = {name: contents.lines[name] for name in solvers}
        shown.append(
            {
                "id": f"problem-{number}",
                "dataset": dataset,
                "loss": loss,
                "title": title,
                "first": number == 0,
                "error": _error_meaning(str(loss)),
                "lines": lines,
                "models": models,
                "predictions": _predictions(
                    contents.files, stem, title, predicted, runs, lines
                ),
                "about": None,
                **found,
            }
        )
    return shown


def _model(
    contents: Contents, model: str, title: str, stem: str, of: Mapping[str, Any]
) -> dict[str, Any]:
    """What is shown of the solvers of one data set, loss and model."""
    files, lines = contents.files, contents.lines
    rows, quality, runs = of["rows"], of["quality"], of["runs"]
    ranked = runs["rank"].nunique() > 1
    ranks = []
    for column in CURVES if ranked else ():
        if column in runs and runs[column].notna().any():
            heading = CURVES[column] or tables.column(column).heading
            drawn = figures.rank_panel(runs, lines, column, heading)
            ranks.append((heading, files.figure(f"{stem} {column} by rank", drawn)))
    of_model = f"{title}, {model}" if model else title
    measured = tables.quality(quality, f"Quality of the factors on {of_model}")
    return {
        "label": model,
        "ranks_compared": rows["rank"].nunique(),
        "sentences": " ".join(sentences.best_by_rank(rows)),
        "table": files.table(
            f"{stem} comparison",
            tables.comparison(rows, f"Comparison of solvers on {of_model}"),
        ),
        "quality": measured and files.table(f"{stem} quality", measured),
        "cost": _cost(files, stem, rows, lines),
        "convergence": _convergence(
            files,
            f"{stem} error",
            of["curves"],
            lines,
            figures.gap_limits(of["curves"]),
        ),
        "kkt": _convergence(
            files,
            f"{stem} kkt",
            of["kkt"],
            lines,
            figures.gap_limits(of["kkt"]),
            "KKT residual",
        ),
        "ranks": ranks,
    }


def _cost(files: ReportFiles, stem: str, rows: Any, lines: dict) -> Any:
    """Compilation against running, medians over ranks and seeds; None if unknown."""
    columns = ["compile_seconds", "seconds"]
    costs = rows.groupby("solver", sort=True)[columns].median()
    if not (costs["compile_seconds"] > 0).any():
        return None
    return files.figure(f"{stem} cost", figures.cost_panel(costs, lines))


def _predictions(
    files: ReportFiles, stem: str, title: str, predicted: Any, runs: Any, lines: dict
) -> dict[str, Any] | None:
    """How held-out ratings are predicted: the table, and RMSE against rank."""
    if predicted.empty:
        return None
    baselines = predicted[predicted["rank"] == 0]
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
                files.figure(
                    f"{stem} {column} by rank {model}",
                    figures.rank_panel(
                        of_model,
                        lines,
                        column,
                        tables.column(column).heading,
                        limits=(low - room, high + room),
                        level=level,
                    ),
                ),
            )
            for model, of_model in runs.groupby("model", sort=True)
        ]
    caption = f"Predictions of held-out ratings, {title}"
    table, first = tables.predictions(predicted, caption), len(baselines) + SETTINGS
    return {
        "sentence": sentences.predictions(predicted),
        "table": files.table(f"{stem} predictions", table).part(slice(first)),
        "rest": table.part(slice(first, None)) if len(predicted) > first else None,
        "panels": panels,
    }


def _convergence(
    files: ReportFiles,
    stem: str,
    curves: pd.DataFrame,
    lines: dict,
    limits: tuple[float, float],
    title: str = "error − best",
) -> dict[str, list]:
    """Axis → a panel a rank, all with one range of values."""
    panels: dict[str, list] = {}
    for (axis, rank), here in curves.groupby(["axis", "rank"], sort=True):  # pyright: ignore
        drawn = figures.convergence_panel(here, lines, str(axis), limits, title)
        figure = files.figure(f"{stem} by {axis} rank {rank}", drawn)
        panels.setdefault(str(axis), []).append((rank, figure))
    return {axis: panels[axis] for axis in ("seconds", "iterations") if axis in panels}


def named(files: ReportFiles, stem: str, block: Block) -> Block:
    """The block, its panels with names of files, its pictures filed too."""
    name = f"{stem} {block.heading}"
    pictured = [[address for address, _ in card.pictures] for card in block.cards]
    pictured = [row for row in pictured if row]
    if block.layout == "thumbnails":
        flat = [address for row in pictured for address in row]
        wide = int(np.ceil(np.sqrt(len(flat))))
        pictured = [flat[i : i + wide] for i in range(0, len(flat), wide)]
    if pictured:
        files.sheet(name, pictured)
    cards = []
    for card in block.cards:
        of_card = f"{name} {card.caption}" if len(block.cards) > 1 else name
        panels = [files.figure(of_card, panel) for panel in card.panels]
        cards.append(dataclasses.replace(card, panels=panels))
    return dataclasses.replace(block, cards=cards)


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
                    "model": best["model"],
                    "run": f"best run: {best['solver']}, {model}seed {best['seed']}, "
                    f"error {words.number(best['error'], 4)}",
                    "blocks": pictures.components(dataset, W, H)
                    + residual.residual(dataset, W, H),
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
    # Without a validation part the first setting is shown.
    row = table.sort_values("chosen", ascending=False, kind="stable").iloc[0]
    keys = ["model", "rank", "solver"]
    run = runs[(runs[keys] == row[keys]).all(axis=1)].iloc[0]
    job = jobs[run["job"]]
    try:
        dataset, W, H = _with_data(job, run["run"], load_dataset, loaded)
        fold = run.get("fold")
        parts = split(
            dataset.V,
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
    """(the data set, W, H) of a run, if the data are those of the job."""
    dataset, checksum = _dataset(job, load_dataset, loaded)
    W, H = job.factors(run)
    if dataset.V.shape != (len(W), H.shape[1]):
        raise ValueError(
            f"the data is {dataset.V.shape[0]}×{dataset.V.shape[1]} now, the "
            f"factors are of a matrix {len(W)}×{H.shape[1]}"
        )
    job.check_data(checksum)
    return dataset, W, H


def _dataset(
    job: StoredJob, load_dataset: LoadDataset | None, loaded: dict[str, Any]
) -> tuple[Any, str]:
    """The data set of a job and its checksum."""
    if load_dataset is None:
        raise _NotLoaded("no loader of data sets was given")
    options = dict(job.config.get("dataset") or {})
    name = options.pop("name", "")
    key = repr((name, options))
    if key not in loaded:
        try:
            dataset = load_dataset(name, options)
            loaded[key] = dataset, dataset.checksum
        except Exception as error:  # a loader is anyone's code
            loaded[key] = _NotLoaded(str(error) or type(error).__name__)
    if isinstance(loaded[key], _NotLoaded):
        raise loaded[key]
    return loaded[key]


def _error_meaning(loss: str) -> str:
    if loss.startswith("frobenius"):
        return "relative error ‖V − W H‖ / ‖V‖"
    return "loss divided by the loss of the row means"
