"""The look of every figure: colours, a line for each solver, matplotlib's settings.

Ink and rules take the page's colours, so figures follow its light and dark schemes; as
files they are black on white.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cycler import cycler

# Okabe & Ito's palette without its yellow, which fades on white, and without black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("solid", "6 2.5", "1.5 2", "8 2 1.5 2")
ACCENT, TRUTH = COLOURS[0], COLOURS[1]

# Ink and rules of the files; the page has its own in their place.
INK, RULE = "#1c2126", "#d9dee4"

LOOK: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxnmf",
    "figure.constrained_layout.use": False,
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlepad": 8,
    "axes.labelsize": 9.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.major.width": 0.6,
    "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
    "path.simplify_threshold": 0.3,
}


def page_colour(colour: str) -> str:
    """A palette colour as the page's style sheet names it, lighter on dark paper."""
    return f"var(--c{COLOURS.index(colour)})"


@dataclass(frozen=True)
class Line:
    """How a solver is drawn, the same on the whole page."""

    colour: str
    dash: str

    @property
    def on_page(self) -> str:
        """The colour as the page names it."""
        return page_colour(self.colour)

    @property
    def pattern(self) -> Any:
        """The dash as matplotlib wants it."""
        if self.dash == "solid":
            return "solid"
        return (0, tuple(float(length) for length in self.dash.split()))


def solver_lines(solvers: Iterable[str]) -> dict[str, Line]:
    """A colour for each solver; beyond the palette, its colours again in dashes."""
    palette = [Line(colour, dash) for dash in DASHES for colour in COLOURS]
    return {
        solver: palette[i % len(palette)] for i, solver in enumerate(sorted(solvers))
    }


def legend(
    lines: Mapping[str, Line], solvers: Iterable[Any]
) -> list[tuple[str, str, Any]]:
    """The lines of the solvers, by name, for `drawn`."""
    names = sorted({str(solver) for solver in solvers})
    return [(shortened(x, 24), lines[x].colour, lines[x].pattern) for x in names]


def styles(lines: Mapping[str, Line]) -> dict[str, dict[str, Any]]:
    """The lines as `jaxnmf.plots` takes them."""
    return {
        name: {"color": line.colour, "linestyle": line.pattern}
        for name, line in lines.items()
    }


def shortened(text: str, most: int) -> str:
    """The text, its end cut where it is longer than a panel has room for."""
    return text if len(text) <= most else text[: most - 1] + "…"
