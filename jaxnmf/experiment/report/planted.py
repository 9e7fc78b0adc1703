"""How often each method of rank selection finds a planted p."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from jaxnmf.experiment.report import words
from jaxnmf.experiment.report.contents import Contents
from jaxnmf.experiment.report.drawing import Drawing, drawn, panel
from jaxnmf.experiment.report.look import TRUTH
from jaxnmf.experiment.report.tables import Table
from jaxnmf.plots.axes import plain_ticks
from jaxnmf.plots.heatmap import SHADES


def how_often(table: pd.DataFrame) -> pd.DataFrame:
    """Of choices whose p is known, how often it was found: a row a method, loss,
    solver and noise, with ``of``, ``found`` and ``near``, those at most 1 off."""
    known: Any = table.dropna(subset=["planted"])
    off = (known["chosen"] - known["planted"]).abs()
    known = known.assign(of=1, found=off == 0, near=off <= 1)
    by = known.groupby(["method", "loss", "solver", "noise"])
    counts: Any = by[["of", "found", "near"]].sum()
    return counts.astype(int).reset_index()


def recovery(contents: Contents, table: pd.DataFrame) -> dict[str, Any]:
    """How often each method finds the planted p, and what it chooses instead."""
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
    columns = pd.Index(["method", "loss", "solver", *noises])
    shown = pd.DataFrame(rows, columns=columns)
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
    known: Any = table.dropna(subset=["planted", "chosen"])[["planted", "chosen"]]
    counts: Any = pd.crosstab(*(known[name].astype(int) for name in known))
    low = int(min(counts.index.min(), counts.columns.min()))
    high = int(max(counts.index.max(), counts.columns.max()))
    every = range(low, high + 1)
    values = counts.reindex(index=every, columns=every, fill_value=0).to_numpy(float)
    with panel(4.1) as axes:
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
    return drawn(axes)
