"""The choice of p: what each method chose, and its evidence.

Where p was planted in many data sets, how often each method finds it comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxnmf import plots
from jaxnmf.experiment import config as configs
from jaxnmf.experiment.report import figures, planted, words
from jaxnmf.experiment.report.config_names import config_names
from jaxnmf.experiment.report.contents import Contents
from jaxnmf.experiment.report.drawing import Drawing, drawn, panel
from jaxnmf.experiment.report.look import solver_lines
from jaxnmf.experiment.report.pixels import canvases, pixels
from jaxnmf.experiment.report.tables import Table
from jaxnmf.experiment.store.stored import StoredJob
from jaxnmf.selection import METHODS, RankSelection

TITLE = "Choice of p"
LABEL = "Chosen p"
TEMPLATE = "choices.html.j2"

MOST = 12  # choices that are shown one by one where p was planted in more
NOT_NOISE = ("m", "n", "rank", "seed")
"""Options of a data set that are no part of how hard its p is to find."""

BESIDE = {
    "consensus": plots.consensus,
    "stability": plots.silhouettes,
    "ard": plots.relevance,
    "information": plots.objectives,
    "residual_spread": plots.objectives,
}
"""Method → what is drawn beside its measures."""


def choices_table(jobs: Sequence[StoredJob]) -> pd.DataFrame:
    """A row a choice among the jobs, in order: dataset (with the options that differ),
    loss, solver, method, model, noise, chosen, planted (NaN for unknown), job."""
    jobs = [job for job in jobs if "chosen" in job.manifest]
    if not jobs:
        return pd.DataFrame()
    datasets = config_names([job.config["dataset"] for job in jobs])
    noises = config_names([job.config["dataset"] for job in jobs], but=NOT_NOISE)
    methods = config_names([job.config["select"] for job in jobs])
    rows = [
        {
            "dataset": dataset,
            "loss": str(job.summary["loss"].iloc[0]),
            "solver": str(job.summary["solver"].iloc[0]),
            "method": method,
            "model": configs.model_label(job.config),
            "noise": noise,
            "chosen": job.manifest["chosen"],
            "planted": job.manifest.get("planted"),
            "job": job.key,
        }
        for job, dataset, noise, method in zip(
            jobs, datasets, noises, methods, strict=True
        )
    ]
    table = pd.DataFrame(rows)
    table["planted"] = table["planted"].astype(float)
    if any(row["chosen"] is None for row in rows):
        table["chosen"] = table["chosen"].astype(float)
    order = ["dataset", "loss", "solver", "method", "model", "planted", "job"]
    return table.sort_values(order, kind="stable", ignore_index=True)


def sentence(row: Mapping[str, Any], reason: str = "") -> str:
    """``"p = 4 was chosen: …; planted: 4."``"""
    chosen = row["chosen"]
    text = "No p was chosen" if np.isnan(chosen) else f"p = {chosen:.0f} was chosen"
    if reason:
        text += f": {reason}"
    if np.isfinite(row["planted"]):
        text += f"; planted: {row['planted']:.0f}"
    return f"{text}."


def summary(shown: Mapping[str, Any]) -> list[str]:
    """What was chosen, in a few sentences."""
    table: Any = shown["rows"]
    known = table.dropna(subset=["planted"])
    if len(table) == 1:
        (row,) = table.to_dict("records")
        return [f"{sentence(row)[:-1]} by {row['method']} for {row['dataset']}."]
    if len(known) == len(table):
        found = int((known["chosen"] == known["planted"]).sum())
        return [f"The planted p was found in {found} of {len(known)} choices."]
    sentences = []
    for (dataset, loss), here in table.groupby(["dataset", "loss"], sort=True):
        by = here.groupby("chosen", dropna=False)["method"]
        by = by.agg(lambda x: list(dict.fromkeys(x)))
        ways = [
            f"{'none' if np.isnan(p) else f'p = {p:.0f}'} by {words.some(names)}"
            for p, names in by.items()
        ]
        sentences.append(
            f"{dataset}, {words.loss_name(loss)} loss: {words.listed(ways)}."
        )
    return sentences


def section(contents: Contents) -> dict[str, Any] | None:
    """The choices in a table, and each with its evidence."""
    table = choices_table(contents.of_kind("selection"))
    if table.empty:
        return None
    by_key = {job.key: job for job in contents.jobs}
    many = len(table) > MOST and bool(np.isfinite(table["planted"]).all())
    shown = table.head(MOST) if many else table
    return {
        "rows": table,
        "overview": contents.files.table("choices", overview(table, "What was chosen"))
        if len(table) > 1
        else None,
        "many": many,
        "recovery": planted.recovery(contents, table) if many else None,
        "choices": [
            _choice(contents, by_key[str(row["job"])], row)
            for row in shown.to_dict("records")
        ],
    }


def overview(table: Any, caption: str) -> Table:
    """`choices_table` as it is shown."""
    names = ["dataset", "loss", "solver", "method", "model", "chosen", "planted"]
    if not any(table["model"]):
        names.remove("model")
    return Table(table[names], caption, csv=table.drop(columns="noise"))


def _choice(
    contents: Contents, job: StoredJob, row: Mapping[str, Any]
) -> dict[str, Any]:
    """One choice: its table, the method's pictures, and the losses of its runs."""
    found = selection_of(job)
    about = [row["dataset"], f"{words.loss_name(row['loss'])} loss", row["model"]]
    if row["solver"] != row["method"]:
        about.append(row["solver"])
    title = f"{', '.join(filter(None, about))}: {row['method']}"
    stem = "choice {dataset} {loss} {solver} {model} {method}".format(**row)
    drawings = [_panel(plots.selection, found)]
    maps = None
    if all("consensus" in parts for parts in found.evidence.values()):
        # Alone, the fall of the cophenetic correlation can be seen.
        drawings.append(_panel(plots.selection, found, measures=["cophenetic"]))
        maps = _maps(contents, stem, found)
    beside = BESIDE.get(found.method.name)
    if beside is not None:
        drawings.append(_panel(beside, found))
    if len(set(job.summary["rank"])) > 1:
        lines = solver_lines([str(row["solver"])])
        drawings.append(
            figures.rank_panel(job.summary, lines, title="final error of each run")
        )
    values = found.table.reset_index()
    table = Table(
        values.set_axis(["p", *values.columns[1:]], axis="columns"),
        f"Measures by rank, {title}",
        (values.iloc[:, [0]] == found.rank),
        csv=values,
    )
    return {
        "title": title,
        "sentence": sentence(row, str(job.manifest["reason"])),
        "facts": _facts(job),
        "panels": [
            contents.files.figure(f"{stem} {i}", d) for i, d in enumerate(drawings)
        ],
        "maps": maps,
        "table": contents.files.table(stem, table),
    }


def _panel(draw: Any, found: RankSelection, **options: Any) -> Drawing:
    with panel(3.1, margins=False) as axes:
        draw(found, ax=axes, **options)
    return drawn(axes)


def _facts(job: StoredJob) -> str:
    """How many lanes there were, and how long they took."""
    manifest = job.manifest
    facts = [words.count(len(job.summary), "run")]
    diverged = list(job.summary["status"]).count("diverged")
    if diverged:
        facts.append(f"{diverged} diverged")
    if manifest.get("seconds") is not None:
        facts.append(words.duration(manifest["seconds"]))
    if compiling := manifest.get("compile_seconds"):
        facts.append(f"{words.duration(compiling)} of it compilation")
    return " · ".join(facts)


def selection_of(job: StoredJob) -> RankSelection:
    """A choice of p as its method drew it, from the store; without its runs."""
    name, options = configs.split_name(job.config["select"])
    return RankSelection(
        method=METHODS[name](**options),
        rank=job.manifest["chosen"],
        reason=job.manifest["reason"],
        table=job.choice(),
        evidence=job.evidence(),
    )


def _maps(contents: Contents, stem: str, found: RankSelection) -> dict[str, Any]:
    """The reordered consensus matrix of every rank, as pictures and as one figure."""
    rho = found.table["cophenetic"]
    captions = {
        p: f"p = {p}, cophenetic {words.number(rho[p], 4)}" for p in found.evidence
    }
    link = ""
    if contents.files.figures:
        link = contents.files.figure(
            f"{stem} consensus", _maps_figure(found, captions)
        ).link
    pictures = []
    for (rank, caption), axes in zip(
        captions.items(), canvases(len(captions)), strict=True
    ):
        plots.consensus(found, rank=rank, colorbar=False, ax=axes)
        pictures.append((caption, pixels(axes), rank == found.rank))
    samples = getattr(found.method, "samples", "rows")
    return {"pictures": pictures, "link": link, "samples": samples}


def _maps_figure(found: RankSelection, captions: Mapping[Any, str]) -> Drawing:
    """The consensus matrices of every rank side by side."""
    columns = min(3, len(captions))
    rows = -(-len(captions) // columns)
    figure = Figure(figsize=(2.1 * columns, 2.3 * rows), layout="constrained")
    every = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (rank, caption) in zip(every, captions.items(), strict=False):
        plots.consensus(found, rank=rank, colorbar=False, ax=axes)
        axes.set_title(caption, fontsize=8)
        axes.set_xlabel("")
    for axes in every[len(captions) :]:
        axes.remove()
    return drawn(every[0])
