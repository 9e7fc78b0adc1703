"""Tables: the headings, formats and bold cells of the page, LaTeX and the terminal.

`COLUMNS` is the one place that says how a column is headed and how its values are
written. A `Table` is a frame whose columns are named there; the page, the LaTeX file
and the terminal take the same texts from it, and the CSV file has the values.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxnmf.experiment.report import statistics, words
from jaxnmf.experiment.report.words import number
from jaxnmf.experiment.store.layout import PREDICTION_COLUMNS


def plain(value: Any) -> str:
    """An integer in full, another number to four digits, anything else as it is."""
    if isinstance(value, float | np.floating):
        return number(value, 4)
    return str(value)


def count(value: Any) -> str:
    """A count; a dash for NaN."""
    return "–" if value != value else f"{value:.0f}"


def percent(value: float) -> str:
    return f"{value:.0%}"


def shortest(value: float) -> str:
    """A value of a setting, with no more digits than it needs; a dash for NaN."""
    return "–" if value != value else f"{value:g}".replace("-", "−")


def _rank(value: Any) -> str:
    """A rank; nothing for 0, that of a baseline without factors."""
    return str(int(value)) if value else ""


class Column(NamedTuple):
    """How a column is headed and written.

    ``worded`` columns are aligned left and may wrap. ``narrow`` is the heading on the
    terminal, ``width`` there the least width of numbers, the greatest of words.
    """

    heading: str
    text: Callable[[Any], str] = plain
    narrow: str = ""
    width: int = 7
    worded: bool = False


four = partial(number, digits=4)
two = partial(number, digits=2)

COLUMNS = {
    # what a row is about
    "dataset": Column("data set", width=34, worded=True),
    "loss": Column("loss", words.loss_name, width=17, worded=True),
    "model": Column("model", width=34, worded=True),
    "method": Column("method", width=30, worded=True),
    "solver": Column("solver", width=16, worded=True),
    "setting": Column("setting", width=16, worded=True),
    "pair": Column("pair", worded=True),
    "rank": Column("rank", _rank, "p", 3),
    "p": Column("p"),
    # a comparison of solvers
    "median_error": Column("median error", four, "median\nerror", 8),
    "best_error": Column("best error", four, "best\nerror", 8),
    "seconds_to_1pct": Column("seconds to 1\u00a0%", number, "s to\n1 %", 7),
    "seconds_to_0.1pct": Column("seconds to 0.1\u00a0%", number, "s to\n0.1 %", 7),
    "iterations": Column("iterations", count, "iter.", 5),
    "seconds": Column("total seconds", number, "total\ns", 7),
    "compile_seconds": Column("compile seconds", number, "compile\ns", 7),
    "kkt": Column("KKT residual", two, "KKT", 7),
    "status": Column("stopped by", width=13, worded=True),
    # the quality of factors
    "accuracy": Column("accuracy", number),
    "ari": Column("adjusted Rand index", number),
    "nmi": Column("mutual information", number),
    "npmi": Column("NPMI", number),
    "umass": Column("UMass", number),
    "diversity": Column("topic diversity", number),
    "match_score": Column("factor match", number),
    "sparsity_W": Column("sparsity of W", number),
    "sparsity_H": Column("sparsity of H", number),
    # predictions of held-out ratings
    "rmse": Column("RMSE", four, width=8),
    "mae": Column("MAE", four, width=8),
    "ndcg10": Column("nDCG@10", four, width=8),
    "validation_rmse": Column("validation RMSE", four, "validation\nRMSE", 8),
    # performance profiles
    "fastest_1pct": Column("fastest to 1\u00a0%", percent),
    "twice_1pct": Column("within twice, 1\u00a0%", percent),
    "ever_1pct": Column("ever within 1\u00a0%", percent),
    "fastest_0.1pct": Column("fastest to 0.1\u00a0%", percent),
    "twice_0.1pct": Column("within twice, 0.1\u00a0%", percent),
    "ever_0.1pct": Column("ever within 0.1\u00a0%", percent),
    # ranking and significance
    "mean_rank": Column("mean rank", "{:.2f}".format),
    "alike": Column("not distinguishable from", worded=True),
    "p_value": Column("p", words.probability),
    "holm": Column("p, Holm", words.probability),
    # a choice of p
    "chosen": Column("chosen", count),
    "settled": Column("settled", percent),
    "note": Column("note", worded=True),
    "planted": Column("planted", count),
    "cophenetic": Column("cophenetic"),
    "cophenetic_se": Column("cophenetic, s.e."),
    "dispersion": Column("dispersion"),
    "pac": Column("PAC"),
    "objective": Column("objective"),
    "objective_std": Column("objective, s.d."),
    "error": Column("held-out error"),
    "error_se": Column("held-out error, s.e."),
    "silhouette_min": Column("least silhouette"),
    "silhouette_mean": Column("mean silhouette"),
    "silhouette_std": Column("mean silhouette, s.d."),
    "share": Column("share of runs"),
    "runs": Column("runs"),
    "aic": Column("AIC"),
    "bic": Column("BIC"),
    "mdl": Column("MDL"),
    "parameters": Column("parameters"),
    # sensitivity to settings
    "best": Column("best value", shortest, "best\nvalue"),
    "within_1pct": Column("values within 1\u00a0%", percent, "within\n1 %", 6),
    "within_10pct": Column("values within 10\u00a0%", percent, "within\n10 %", 6),
    "worst": Column("worst over best", number, "worst /\nbest"),
    "diverged": Column("lanes diverged", narrow="lanes\ndiverged", width=8),
}
"""Name of a column → how it is headed and written."""


def column(name: str) -> Column:
    """The column of a name; one that is not in `COLUMNS` is headed by its name."""
    return COLUMNS.get(name) or Column(name)


class Cell(NamedTuple):
    """A text; ``part``, of 1, is how far it is shaded."""

    text: str
    bold: bool = False
    worded: bool = False
    part: float | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """Values to show, a column each of `COLUMNS`.

    Attributes:
      shown: the values, the first column (or the first after ``group``) naming its row.
      caption: what the table shows.
      bold: which cells are bold, an array that broadcasts to the shape of ``shown``.
      group: a column whose equal values are stated once, above the rows they share.
      csv: what the CSV file has, where that is not ``shown``.
      link: the files without their endings, once there are any (`ReportFiles.table`).
    """

    shown: pd.DataFrame
    caption: str
    bold: Any = False
    group: str = ""
    csv: pd.DataFrame | None = None
    link: str = ""

    @property
    def columns(self) -> list[Column]:
        """The columns, without that of the groups."""
        return [column(name) for name in map(str, self.shown) if name != self.group]

    def cells(self) -> list[list[Cell]]:
        """Every cell, row by row."""
        bold = np.broadcast_to(self.bold, self.shown.shape)
        columns = []
        for name, marks in zip(self.shown, bold.T, strict=True):
            of, values = column(str(name)), zip(self.shown[name], marks, strict=True)
            columns.append([Cell(of.text(x), bool(b), of.worded) for x, b in values])
        return [list(row) for row in zip(*columns, strict=True)]

    def groups(self) -> Iterator[tuple[str, list[list[Cell]]]]:
        """(name of the group, its rows); all rows, without a name, where none is."""
        if not self.group:
            yield "", self.cells()
            return
        at = list(self.shown).index(self.group)
        for text, rows in groupby(self.cells(), key=lambda row: row[at].text):
            heading = f"{column(self.group).heading} {text}"
            yield heading, [row[:at] + row[at + 1 :] for row in rows]

    def part(self, rows: slice) -> Table:
        """Some of the rows; the files, if any, have all of them."""
        bold = np.broadcast_to(self.bold, self.shown.shape)[rows]
        return dataclasses.replace(self, shown=self.shown.iloc[rows], bold=bold)

    def to_csv(self) -> str:
        values = self.shown if self.csv is None else self.csv
        return values.to_csv(index=False)

    def to_latex(self, label: str) -> str:
        """A ``table`` environment with rules of booktabs, for T1 fonts."""
        cells = self.cells()
        texts = pd.DataFrame([[escaped(cell.text) for cell in row] for row in cells])
        bold = [["textbf:--rwrap" * cell.bold for cell in row] for row in cells]
        columns = [column(str(name)) for name in self.shown]
        style: Any = texts.style.hide(axis="index").apply(
            lambda _: np.array(bold), axis=None
        )
        style = style.relabel_index(
            [escaped(c.heading) for c in columns], axis="columns"
        )
        return style.to_latex(
            hrules=True,
            position_float="centering",
            column_format="".join("l" if c.worded else "r" for c in columns),
            caption=f"{escaped(self.caption)}.",
            label=re.sub(r"[^a-z0-9:.-]", "-", label),
        )


LATEX = str.maketrans(
    {
        **{x: "\\" + x for x in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "−": "$-$",
        "∞": r"$\infty$",
        "β": r"$\beta$",
        "‖": r"$\Vert$",
        "\u00a0": "~",
        **dict.fromkeys("\n\r\t", " "),
    }
)


def escaped(text: str) -> str:
    """Text as LaTeX prints it.

    >>> print(escaped("50 % of a_b & c"))
    50 \\% of a\\_b \\& c
    """
    return text.translate(LATEX)


def comparison(rows: Any, caption: str) -> Table:
    """Rows of `statistics.comparison_table`, the best of each column at a rank bold."""
    names = ["rank", "solver", *statistics.MEASURES, "status"]
    best = statistics.best_cells(rows)
    kept = [*statistics.SETTING, "solver", "runs", *names[2:]]
    return Table(rows[names], caption, best[names], "rank", csv=rows[kept])


def quality(rows: Any, caption: str) -> Table | None:
    """Rows of `statistics.quality_table`; None where nothing was measured."""
    kept = [*statistics.SETTING, "solver"]
    measured = [name for name in rows.columns[5:] if rows[name].notna().any()]
    if not measured:
        return None
    names = ["rank", "solver", *measured]
    return Table(rows[names], caption, group="rank", csv=rows[[*kept, *measured]])


def predictions(rows: Any, caption: str) -> Table:
    """Rows of `statistics.prediction_table`, the baselines first, the chosen bold."""
    ordered = rows.sort_values("rank", key=lambda rank: rank > 0, kind="stable")
    shown = ordered[["solver", "rank", *PREDICTION_COLUMNS, "model"]]
    return Table(shown, caption, ordered[["chosen"]], csv=rows)
