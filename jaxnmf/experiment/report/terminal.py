"""The tables of a study on the terminal, within 100 columns."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as Printed
from rich.text import Text

from jaxnmf.experiment.report import choices, settings, tables
from jaxnmf.experiment.report.statistics import PROBLEM
from jaxnmf.experiment.report.tables import Table
from jaxnmf.experiment.report.words import loss_name
from jaxnmf.experiment.store.layout import BASELINES

SETTINGS = 12  # of ratings, at most
CHOICES = 40  # of p, at most


def print_table(table: pd.DataFrame, console: Console) -> None:
    """Print a comparison table, one part per data set, loss and model."""
    for (dataset, loss, model), part in _parts(table, [*PROBLEM, "model"]):
        title = f"{dataset}, {loss_name(loss)} loss"
        title += f", {model}" if model else ""
        _print(tables.comparison(part, title), console)


def print_predictions(predictions: pd.DataFrame, console: Console) -> None:
    """Print how ratings are predicted: the baselines, and the settings of lowest
    validation error, the chosen one bold."""
    for (dataset, _), part in _parts(predictions, PROBLEM):
        title = f"{dataset}: predictions of the test part"
        count = int((part["rank"] > 0).sum())
        if count > SETTINGS:
            title += f", {SETTINGS} of {count} settings by validation"
        table = tables.predictions(part, title)
        _print(table.part(slice(len(BASELINES) + SETTINGS)), console)


def print_choices(table: pd.DataFrame, console: Console) -> None:
    """Print which p was chosen for what (`choices.choices_table`), if any was."""
    if table.empty:
        return
    _print(choices.overview(table.head(CHOICES), "choice of p"), console)
    if len(table) > CHOICES:
        more = f"and {len(table) - CHOICES} more, on the page"
        console.print(more, highlight=False)


def print_sensitivity(table: pd.DataFrame, console: Console) -> None:
    """Print how sensitive solvers are (`settings.sensitivity_table`), if any is."""
    if table.empty:
        return
    for (dataset, loss, model, _), part in _parts(table, [*PROBLEM, "model", "swept"]):
        title = f"{dataset}, {loss_name(loss)} loss"
        title += f", {model}" if model else ""
        _print(settings.as_table(part, title), console)


def _parts(table: pd.DataFrame, keys: list[str]) -> Any:
    """((values of the keys), the rows that share them), in order."""
    return table.groupby(keys, sort=True)


def _print(table: Table, console: Console) -> None:
    """Print a table under its caption, the groups as a first column."""
    printed = Printed(
        title=Text(table.caption, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
    )
    for name in map(str, table.shown):
        of = tables.column(name)
        heading = of.narrow or of.heading
        if of.worded:
            # In groups the widths are fixed, so that the tables of a study line up.
            fixed = of.width if table.group else None
            printed.add_column(
                heading, overflow="fold", width=fixed, max_width=of.width
            )
        else:
            heading = heading.replace(" ", "\n") if not of.narrow else heading
            printed.add_column(
                heading, justify="right", no_wrap=True, min_width=of.width
            )
    grouped = list(table.shown).index(table.group) if table.group else None
    last = None
    for row in table.cells():
        texts = [Text(cell.text, style="bold" if cell.bold else "") for cell in row]
        if grouped is not None:
            group = row[grouped].text
            if group == last:
                texts[grouped] = Text("")
            elif last is not None:
                printed.add_section()
            last = group
        # Text, not str: a name may hold brackets, which rich takes for markup.
        printed.add_row(*texts)
    console.print(printed)
