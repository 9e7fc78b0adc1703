"""Tables for papers: LaTeX with booktabs, everything escaped."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "\u00a0": "~",
    "−": "$-$",
    "×": r"$\times$",
    "∞": r"$\infty$",
    "β": r"$\beta$",
    "‖": r"$\Vert$",
    "–": "--",
    "’": "'",
    "…": r"\ldots{}",
    "\n": " ",
    "\r": " ",
    "\t": " ",
}


def escaped(text: Any) -> str:
    """Text that LaTeX sets as it stands.

    >>> print(escaped("50 % of a_b & c"))
    50 \\% of a\\_b \\& c
    """
    return "".join(SPECIAL.get(c, c) for c in str(text))


def latex_table(table: pd.DataFrame, caption: str, label: str) -> str:
    """A ``table`` environment with booktabs rules; ``\\usepackage{booktabs}`` and
    ``\\usepackage[T1]{fontenc}`` are needed.

    The cells are texts; those in a column of numbers stand to the right, the best of
    them, marked ``(text, True)``, are bold.
    """
    columns = list(map(str, table.columns))
    numeric = [
        all(_is_number(cell) for cell in table.iloc[:, i]) for i in range(len(columns))
    ]
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escaped(caption)}}}",
        rf"  \label{{{re.sub(r'[^a-z0-9:.-]', '-', label)}}}",
        rf"  \begin{{tabular}}{{{''.join('r' if n else 'l' for n in numeric)}}}",
        r"    \toprule",
        "    " + " & ".join(map(escaped, columns)) + r" \\",
        r"    \midrule",
        *(
            "    " + " & ".join(map(_cell, row)) + r" \\"
            for row in table.itertuples(index=False, name=None)
        ),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _cell(cell: Any) -> str:
    if isinstance(cell, tuple):
        text, best = cell
        return rf"\textbf{{{escaped(text)}}}" if best else escaped(text)
    return escaped(cell)


def _is_number(cell: Any) -> bool:
    text = str(cell[0] if isinstance(cell, tuple) else cell)
    return bool(re.fullmatch(r"[<≤]?\s*[−-]?[\d.]+(e[−-]?\d+)?\s?%?|[–∞]|", text))
