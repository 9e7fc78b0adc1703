"""The choice of p: what each method chose, and its evidence.

Where p was planted in many data sets, how often each method finds it comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxnmf.experiment import config as configs
from jaxnmf.experiment.report import figures, words
from jaxnmf.experiment.report.contents import Contents
from jaxnmf.experiment.report.drawing import (
    COLOURS,
    LOOK,
    SHADES,
    TRUTH,
    Drawing,
    Scale,
    drawn,
    panel,
    picture,
    plain_ticks,
)
from jaxnmf.experiment.report.tables import Table
from jaxnmf.experiment.store.stored import StoredJob
from jaxnmf.selection import METHODS, RankSelection
from jaxnmf.selection.base import curve, finish

TITLE = "Choice of p"
LABEL = "Chosen p"
TEMPLATE = "choices.html.j2"

MOST = 12  # choices that are shown one by one where p was planted in more
PIXELS = 240  # of a consensus matrix on the page, at most
NOT_NOISE = ("m", "n", "rank", "seed")
"""Options of a data set that are no part of how hard its p is to find."""


class Apart:
    """Stands for a figure where `Method.draw` is to draw: its subplots become panels,
    each a figure of its own, in the page's look."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []

    def subplots(self, rows: int = 1, columns: int = 1) -> Any:
        self.figures = [
            Figure(figsize=(4.2, 3.1), layout="constrained")
            for _ in range(rows * columns)
        ]
        axes = [figure.subplots() for figure in self.figures]
        return axes if len(axes) > 1 else axes[0]

    def colorbar(self, image: Any, ax: Any, **options: Any) -> Any:
        return ax.figure.colorbar(image, ax=ax, **options)

    def set_size_inches(self, *_: float) -> None:
        """A panel is as wide as any other."""


def choices_table(jobs: Sequence[StoredJob]) -> pd.DataFrame:
    """A row a choice among the jobs, in order: dataset (with the options that differ),
    loss, solver, method, model, noise, chosen, planted (NaN for unknown), job."""
    jobs = [job for job in jobs if "chosen" in job.manifest]
    if not jobs:
        return pd.DataFrame()
    datasets = told_apart([job.config["dataset"] for job in jobs])
    noises = told_apart([job.config["dataset"] for job in jobs], but=NOT_NOISE)
    methods = told_apart([job.config["select"] for job in jobs])
    rows = [
        {
            "dataset": dataset,
            "loss": str(job.summary["loss"].iloc[0]),
            "solver": str(job.summary["solver"].iloc[0]),
            "method": method,
            "model": configs.model_label(job.config),
            "noise": noise,
            "chosen": int(job.manifest["chosen"]),
            "planted": job.manifest.get("planted"),
            "job": job.key,
        }
        for job, dataset, noise, method in zip(
            jobs, datasets, noises, methods, strict=True
        )
    ]
    table = pd.DataFrame(rows)
    table["planted"] = table["planted"].astype(float)
    order = ["dataset", "loss", "solver", "method", "model", "planted", "job"]
    return table.sort_values(order, kind="stable", ignore_index=True)


def told_apart(
    parts: Sequence[Mapping[str, Any]], but: Sequence[str] = ()
) -> list[str]:
    """A name for each config of one group: its own, and the options that differ.

    >>> told_apart([{"name": "a", "x": 1, "y": 2}, {"name": "a", "x": 1, "y": 3}])
    ['a, y 2', 'a, y 3']
    """
    found: dict[tuple[str, str], set[str]] = {}
    for part in parts:
        for key, value in part.items():
            found.setdefault((part["name"], key), set()).add(str(value))
    return [
        ", ".join(
            [
                str(part["name"]),
                *(
                    f"{key} {value}"
                    for key, value in part.items()
                    if len(found[part["name"], key]) > 1 and key not in but
                ),
            ]
        )
        for part in parts
    ]


def how_often(table: pd.DataFrame) -> pd.DataFrame:
    """Of choices whose p is known, how often it was found: a row a method, loss,
    solver and noise, with ``of``, ``found`` and ``near``, those at most 1 off."""
    known: Any = table.dropna(subset=["planted"])
    off = (known["chosen"] - known["planted"]).abs()
    known = known.assign(of=1, found=off == 0, near=off <= 1)
    by = known.groupby(["method", "loss", "solver", "noise"])
    counts: Any = by[["of", "found", "near"]].sum()
    return counts.astype(int).reset_index()


def sentence(row: Mapping[str, Any], rule: str = "") -> str:
    """``"p = 4 was chosen: …; planted: 4."``"""
    text = f"p = {row['chosen']} was chosen"
    if rule:
        text += f": {rule}"
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
    told = []
    for (dataset, loss), here in table.groupby(["dataset", "loss"], sort=True):
        by = here.groupby("chosen")["method"].agg(lambda x: list(dict.fromkeys(x)))
        ways = [f"p = {p} by {words.some(names)}" for p, names in by.items()]
        told.append(f"{dataset}, {words.loss_name(loss)} loss: {words.listed(ways)}.")
    return told


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
        "recovery": _recovery(contents, table) if many else None,
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
    with mpl.rc_context({**LOOK, "axes.prop_cycle": cycler(color=COLOURS)}):
        apart: Any = Apart()
        found.method.draw(found, apart)
        drawings = [drawn(figure) for figure in apart.figures]
        maps = None
        if all("consensus" in parts for parts in found.evidence.values()):
            drawings.insert(1, _cophenetic(found))
            maps = _maps(contents, stem, found)
    if len(set(job.summary["rank"])) > 1:
        lines = figures.solver_lines([str(row["solver"])])
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
        "sentence": sentence(row, str(job.manifest["rule"])),
        "facts": _facts(job),
        "panels": [
            contents.files.figure(f"{stem} {i}", d) for i, d in enumerate(drawings)
        ],
        "maps": maps,
        "table": contents.files.table(stem, table),
    }


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
        rank=int(job.manifest["chosen"]),
        table=job.choice(),
        evidence=job.evidence(),
    )


def _cophenetic(found: RankSelection) -> Drawing:
    """The cophenetic correlation alone, where its fall can be seen."""
    figure = Figure(figsize=(4.2, 3.1), layout="constrained")
    axes = figure.subplots()
    curve(axes, found, "cophenetic", "cophenetic_se")
    finish(axes, found, "cophenetic correlation")
    return drawn(figure)


def reordered(parts: Mapping[str, np.ndarray], most: int = PIXELS) -> np.ndarray:
    """A consensus matrix by the leaves of its tree, blocks of it averaged where it
    has more than ``most`` rows."""
    order = parts["order"]
    C = parts["consensus"][np.ix_(order, order)]
    if len(C) <= most:
        return C
    starts = np.unique(np.linspace(0, len(C), most, endpoint=False).astype(int))
    sizes = np.diff(np.append(starts, len(C)))
    C = np.add.reduceat(np.add.reduceat(C, starts, 0), starts, 1)
    return C / np.outer(sizes, sizes)


def _maps(contents: Contents, stem: str, found: RankSelection) -> dict[str, Any]:
    """The reordered consensus matrix of every rank, as pictures and as one figure."""
    scale = Scale("viridis", 0.0, 1.0)
    shown = {rank: reordered(found.evidence[rank]) for rank in found.table.index}
    rho = found.table["cophenetic"]
    captions = {
        rank: f"p = {rank}, cophenetic {words.number(rho[rank], 4)}" for rank in shown
    }
    link = ""
    if contents.files.figures:
        figure = _maps_figure(shown, captions)
        link = contents.files.figure(f"{stem} consensus", drawn(figure)).link
    pictures = [
        (captions[rank], picture(C, scale), rank == found.rank)
        for rank, C in shown.items()
    ]
    samples = getattr(found.method, "samples", "rows")
    return {"pictures": pictures, "link": link, "samples": samples}


def _maps_figure(
    shown: Mapping[Any, np.ndarray], captions: Mapping[Any, str]
) -> Figure:
    """The consensus matrices of every rank side by side."""
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(2.1 * columns, 2.3 * rows), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, (rank, C) in zip(figure.axes, shown.items(), strict=False):
        axes.imshow(C, vmin=0, vmax=1, cmap="viridis", interpolation="none")
        axes.set_title(captions[rank], fontsize=8)
    return figure


def _recovery(contents: Contents, table: pd.DataFrame) -> dict[str, Any]:
    """How often each method finds the planted p, and what it takes it for."""
    often = how_often(table)
    noises = list(dict.fromkeys(often["noise"]))
    rows = []
    groups: Any = often.groupby(["method", "loss", "solver"], sort=True)
    for (method, loss, solver), here in groups:
        by = here.set_index("noise")
        cells = [
            f"{by.at[x, 'found']} of {by.at[x, 'of']} (±1: {by.at[x, 'near']})"
            if x in by.index
            else "–"
            for x in noises
        ]
        rows.append([method, loss, solver, *cells])
    shown = pd.DataFrame(rows, columns=["method", "loss", "solver", *noises])
    caption = "How often the planted p is found"
    panels = []
    groups = table.groupby(["method", "loss", "solver"], sort=True)
    for (method, loss, solver), here in groups:
        title = f"{method}, {words.loss_name(loss)} loss, {solver}"
        stem = f"planted and chosen {method} {loss} {solver}"
        panels.append((title, contents.files.figure(stem, confusion_panel(here))))
    return {
        "table": contents.files.table(
            "planted and found", Table(shown, caption, csv=often)
        ),
        "panels": panels,
    }


def confusion_panel(table: pd.DataFrame) -> Drawing:
    """Counts of planted p against chosen p; those on the diagonal were found."""
    known: Any = table.dropna(subset=["planted"])
    counts: Any = pd.crosstab(known["planted"].astype(int), known["chosen"])
    low = int(min(counts.index.min(), counts.columns.min()))
    high = int(max(counts.index.max(), counts.columns.max()))
    every = range(low, high + 1)
    values = counts.reindex(index=every, columns=every, fill_value=0).to_numpy(float)
    figure, axes = panel(4.1)
    most = values.max()
    axes.imshow(
        np.where(values > 0, values, np.nan),
        cmap=mpl.colormaps["Blues"].resampled(SHADES),
        vmin=0,
        vmax=most,
        origin="lower",
        extent=(low - 0.5, high + 0.5, low - 0.5, high + 0.5),
        aspect="auto",
        interpolation="none",
    )
    axes.grid(visible=False)
    for p in every:
        box = (p - 0.5, p - 0.5), 1, 1
        axes.add_patch(Rectangle(*box, fill=False, edgecolor=TRUTH, linewidth=0.9))
    for i, j in zip(*np.nonzero(values), strict=True):
        axes.text(
            low + j,
            low + i,
            f"{values[i, j]:.0f}",
            ha="center",
            va="center",
            size=8,
            color="#fffffe" if values[i, j] > 0.6 * most else "#111111",
        )
    axes.set(xlabel="chosen p", ylabel="planted p")
    for axis in (axes.xaxis, axes.yaxis):
        plain_ticks(axis, 10, integer=True)
    return drawn(figure)
