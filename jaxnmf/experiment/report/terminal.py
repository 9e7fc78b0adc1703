"""The tables of a study on the terminal, within 100 columns."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxnmf.experiment.report import settings
from jaxnmf.experiment.report.statistics import MEASURES, PROBLEM, best_cells
from jaxnmf.experiment.report.words import HEADINGS, cell, loss_name
from jaxnmf.experiment.store.layout import PREDICTION_COLUMNS

# Heading and least width, so that the parts of a study stand in line.
NARROW = {
    "median_error": ("median\nerror", 8),
    "best_error": ("best\nerror", 8),
    "seconds_to_1pct": ("s to\n1 %", 7),
    "seconds_to_0.1pct": ("s to\n0.1 %", 7),
    "iterations": ("iter.", 5),
    "seconds": ("s in\nall", 7),
    "compile_seconds": ("s com-\npile", 6),
    "kkt": ("KKT", 7),
}

SETTINGS = 12  # of ratings, that the terminal shows
CHOICES = 40  # of p, that the terminal shows


def print_table(table: pd.DataFrame, console: Console) -> None:
    """Print a comparison table, one part a data set and loss, within 100 columns.

    The best of each column at a rank is bold (see `statistics.best_cells`).
    """
    best = best_cells(table)
    for _, part in table.groupby([*PROBLEM, "model"], sort=True):
        console.print(_part(part, best))


def print_predictions(predictions: pd.DataFrame, console: Console) -> None:
    """Print how ratings are predicted: the settings of lowest validation error, the
    one it chooses bold, and the baselines below."""
    for _, part in predictions.groupby(PROBLEM, sort=True):
        simple: Any = part["rank"] == 0
        settings: Any = part[~simple]
        title = f"{part['dataset'].iloc[0]}: predictions of the test part"
        if len(settings) > SETTINGS:
            title += f", {SETTINGS} of {len(settings)} settings by validation"
        shown = _table(title)
        shown.add_column("p", justify="right", no_wrap=True, min_width=3)
        shown.add_column("solver", overflow="fold", width=16)
        shown.add_column("model", overflow="fold", width=34)
        for column in PREDICTION_COLUMNS:
            heading = HEADINGS[column].replace(" ", "\n")
            shown.add_column(heading, justify="right", no_wrap=True, min_width=8)
        baselines: Any = part[simple]
        for i, rows in enumerate((settings[:SETTINGS], baselines)):
            if i:
                shown.add_section()
            for row in rows.to_dict("records"):
                cells = (cell(column, row[column]) for column in PREDICTION_COLUMNS)
                shown.add_row(
                    str(row["rank"] or ""),
                    Text(str(row["solver"])),
                    Text(str(row["model"])),
                    *cells,
                    style="bold" if row["chosen"] else "",
                )
        console.print(shown)


def print_choices(choices: pd.DataFrame, console: Console) -> None:
    """Print which p was chosen for what (`choices.choices_table`), if any was."""
    if choices.empty:
        return
    shown = _table("choice of p")
    for heading, width in (("data set", 34), ("loss", 17), ("method", 30)):
        shown.add_column(heading, overflow="fold", max_width=width)
    for heading in ("chosen", "planted"):
        shown.add_column(heading, justify="right", no_wrap=True, min_width=7)
    for row in choices.head(CHOICES).to_dict("records"):
        planted = row["planted"]
        shown.add_row(
            *(Text(str(row[x])) for x in ("dataset", "loss", "method")),
            str(row["chosen"]),
            "–" if planted != planted else f"{planted:.0f}",
        )
    console.print(shown)
    if len(choices) > CHOICES:
        more = f"and {len(choices) - CHOICES} more, on the page"
        console.print(more, highlight=False)


def print_sensitivity(table: pd.DataFrame, console: Console) -> None:
    """Print how sensitive solvers are (`settings.sensitivity_table`), if any is."""
    if table.empty:
        return
    keys = [*PROBLEM, "model", "swept"]
    groups: Any = table.groupby(keys, sort=True)
    for (dataset, loss, model, _), part in groups:
        about = f"{dataset}, {loss_name(loss)} loss"
        shown = _table(f"{about}, {model}" if model else about)
        cells = settings.cells(part).rename(columns={"rank": "p"})
        for heading in cells.columns:
            worded = heading in ("solver", "setting")
            shown.add_column(
                heading.replace("values ", ""),
                justify="left" if worded else "right",
                overflow="fold",
                max_width=16 if worded else 9,
            )
        for row in cells.itertuples(index=False, name=None):
            shown.add_row(*(Text(str(cell)) for cell in row))
        console.print(shown)


def _part(part: pd.DataFrame, best: pd.DataFrame) -> Table:
    title = f"{part['dataset'].iloc[0]}, {loss_name(part['loss'].iloc[0])} loss"
    if model := part["model"].iloc[0]:
        title += f", {model}"
    shown = _table(title)
    shown.add_column("p", justify="right", no_wrap=True, min_width=3)
    shown.add_column("solver", overflow="fold", width=16)
    for column in MEASURES:
        heading, width = NARROW[column]
        shown.add_column(heading, justify="right", no_wrap=True, min_width=width)
    shown.add_column("stopped by", overflow="fold", width=13)
    rank = None
    for index, row in zip(part.index, part.to_dict("records"), strict=True):
        if rank not in (None, row["rank"]):
            shown.add_section()
        first = "" if row["rank"] == rank else str(row["rank"])
        rank = row["rank"]
        # Text, not str: a label may hold brackets, which rich would take for markup.
        shown.add_row(
            first,
            Text(str(row["solver"])),
            *(
                Text(
                    cell(column, row[column]),
                    style="bold" if best.at[index, column] else "",
                )
                for column in MEASURES
            ),
            Text(str(row["status"])),
        )
    return shown


def _table(title: str) -> Table:
    return Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
    )
