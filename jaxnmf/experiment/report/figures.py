"""The drawings: small inline SVG panels and PNG pictures, one look for all.

Every panel is a figure of its own, wide as a phone, so that a page sets them side by
side or one below the other without shrinking their text. Ink and rules take the
page's colours, so panels follow its light and dark schemes.
"""

from __future__ import annotations

import base64
import io
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullLocator,
)

# Okabe & Ito's palette without its yellow, which fades on white, and without black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("solid", "6 2.5", "1.5 2", "8 2 1.5 2")
ACCENT, TRUTH = COLOURS[0], COLOURS[1]

# Stand for the page's own colours until the SVG is written.
INK, RULE = "#123456", "#654321"

LOOK: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxnmf",
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


@dataclass(frozen=True)
class Scale:
    """Which colours stand for which values."""

    colours: str
    low: float
    high: float

    @classmethod
    def of(cls, values: Any, colours: str = "gray", *, signed: bool = False) -> Scale:
        """From zero to the largest value, or as far on both sides of zero."""
        values = np.abs(np.asarray(values, float))
        high = float(values[np.isfinite(values)].max(initial=0)) or 1.0
        return cls(colours, -high if signed else 0.0, high)


def solver_lines(solvers: Iterable[str]) -> dict[str, Line]:
    """A colour for each solver; beyond the palette, its colours again in dashes."""
    palette = [Line(colour, dash) for dash in DASHES for colour in COLOURS]
    return {
        solver: palette[i % len(palette)] for i, solver in enumerate(sorted(solvers))
    }


def convergence_panel(
    curves: pd.DataFrame,
    lines: dict[str, Line],
    label: str,
    limits: tuple[float, float],
) -> str:
    """Error above the best against seconds or iterations, one setting and axis."""
    figure, axes = _panel(title="error − best")
    for solver, curve in curves.groupby("solver", sort=True):
        line, x = lines[str(solver)], curve["x"]
        low, middle, high = (
            np.clip(curve[name].to_numpy(float), limits[0] / 10, None)
            for name in ("low", "median", "high")
        )
        axes.fill_between(x, low, high, color=line.colour, alpha=0.15, linewidth=0)
        axes.plot(x, middle, color=line.colour, linestyle=line.pattern)
    axes.set(xscale="log", yscale="log", ylim=limits, xlabel=label)
    _log_ticks(axes.xaxis, *axes.get_xlim())
    _log_ticks(axes.yaxis, *limits)
    return _svg(figure)


def gap_limits(curves: pd.DataFrame) -> tuple[float, float]:
    """One range of error − best for all panels of a problem: at most six decades."""
    gaps = curves[["median", "high"]].to_numpy(float)
    gaps = gaps[np.isfinite(gaps) & (gaps > 0)]
    if not len(gaps):
        return 1e-3, 1.0
    high = gaps.max() * 1.6
    return max(gaps.min() / 1.6, high * 1e-6), high


def rank_panel(
    summary: pd.DataFrame,
    lines: dict[str, Line],
    column: str = "error",
    title: str = "error at the end",
    *,
    limits: tuple[float, float] | None = None,
    level: float | None = None,
) -> str:
    """A measure of the end against rank: the median over seeds, and its range.

    ``limits`` are those of the measure where panels share them, ``level`` is what it is
    compared with, a dotted line.
    """
    figure, axes = _panel(3.0, title=title)
    finite = summary[np.isfinite(summary[column].astype(float))]
    for solver, runs in finite.groupby("solver", sort=True):
        line = lines[str(solver)]
        found = runs.groupby("rank")[column].agg(["min", "median", "max"])
        axes.vlines(
            found.index, found["min"], found["max"], color=line.colour, alpha=0.45
        )
        axes.plot(
            found.index,
            found["median"],
            color=line.colour,
            linestyle=line.pattern,
            marker="o",
            markersize=4,
        )
    if level is not None:
        axes.axhline(level, color=INK, linestyle=(0, (1, 2)), linewidth=1.2)
    if limits is not None:
        axes.set_ylim(limits)
    _plain_ticks(axes.xaxis, 7, integer=True)
    _plain_ticks(axes.yaxis, 5)
    axes.set_xlabel("rank")
    return _svg(figure)


def line_panel(
    x: Any,
    series: Sequence[tuple[Any, str]],
    label: str,
    *,
    title: str = "",
    height: float = 1.6,
    bars: bool = False,
) -> str:
    """Curves over a common axis; (values, colour) each, the later ones dashed."""
    figure, axes = _panel(height, title=title)
    for i, (values, colour) in enumerate(series):
        if bars:
            axes.vlines(x, 0, values, color=colour, linewidth=1.6)
        else:
            pattern = (0, (4, 2)) if i else "solid"
            axes.plot(x, values, color=colour, linestyle=pattern, linewidth=1.3)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    _plain_ticks(axes.xaxis, 5)
    _plain_ticks(axes.yaxis, 3)
    axes.set_xlabel(label)
    return _svg(figure)


def histogram_panel(values: np.ndarray, label: str) -> str:
    """The distribution of values, its counts on a log scale."""
    figure, axes = _panel(2.4, title="entries")
    reach = float(np.abs(values).max(initial=0)) or 1.0
    counts, edges = np.histogram(values, bins=61, range=(-reach, reach))
    axes.stairs(counts, edges, fill=True, color=ACCENT, alpha=0.75, baseline=0.5)
    high = 2 * float(counts.max(initial=1))
    axes.set(yscale="log", ylim=(0.5, high), xlabel=label)
    _plain_ticks(axes.xaxis, 5)
    _log_ticks(axes.yaxis, 0.5, high)
    return _svg(figure)


def heat_panel(
    values: np.ndarray,
    scale: Scale,
    label: str,
    side: str,
    *,
    ticks: Sequence[tuple[float, str]] | None = None,
    height: float = 2.4,
) -> str:
    """A matrix as colours; ``ticks`` name places along its rows."""
    figure, axes = _panel(height, left=1.0 if ticks else 0.3)
    axes.imshow(
        values,
        cmap=scale.colours,
        vmin=scale.low,
        vmax=scale.high,
        aspect="auto",
        interpolation="none",
    )
    axes.grid(visible=False)
    axes.set(xlabel=label, ylabel=side, xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if ticks is not None:
        axes.set_yticks([at for at, _ in ticks], [name for _, name in ticks])
    return _svg(figure)


def picture(values: np.ndarray, scale: Scale | None = None) -> str:
    """An array as a PNG data address; NaN is left transparent."""
    scale = scale or Scale.of(values)
    data = io.BytesIO()
    imsave(
        data,
        np.ma.masked_invalid(values),
        cmap=scale.colours,
        vmin=scale.low,
        vmax=scale.high,
        format="png",
    )
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def page_colour(colour: str) -> str:
    """A palette colour as the page's style sheet names it, lighter on dark paper."""
    return f"var(--c{COLOURS.index(colour)})"


def _panel(
    height: float = 2.7, *, left: float = 0.55, title: str = ""
) -> tuple[Figure, Any]:
    """A figure and its axes; fixed margins, in inches, keep neighbours in line."""
    width, right, bottom, top = 4.2, 0.08, 0.45, 0.3 if title else 0.08
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(width, height))
        inside = (
            left / width,
            bottom / height,
            1 - (left + right) / width,
            1 - (bottom + top) / height,
        )
        axes = figure.add_axes(inside)
        axes.set_title(title, loc="left")
        return figure, axes


def _svg(figure: Figure) -> str:
    """The figure as SVG to stand inside HTML: no width, no ids of others, no XML."""
    text = io.StringIO()
    with mpl.rc_context(LOOK):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    width, height = re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2]
    svg = re.sub(
        r"<svg[^>]*>",
        f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">',
        svg,
        count=1,
    )
    svg = svg.replace("xlink:href", "href")
    svg = svg.replace(INK, "currentColor").replace(RULE, "var(--rule)")
    for colour in COLOURS:
        svg = svg.replace(colour.lower(), page_colour(colour))
    # Two decimals of a point are below what a screen or a printer resolves.
    svg = re.sub(r' d="[^"]*"', lambda d: re.sub(r"(\.\d\d)\d+", r"\1", d.group()), svg)
    # Ids need only be unique on the page and the same in every build of it.
    used = set(re.findall(r'(?:href="|url\()#([\w-]+)', svg))
    svg = re.sub(
        r' id="([\w.-]+)"', lambda i: i.group() if i.group(1) in used else "", svg
    )
    prefix = f"f{zlib.crc32(svg.encode()):08x}"
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    return re.sub(r"\n\s*", "\n", svg)


def _plain_ticks(axis: Any, most: int, *, integer: bool = False) -> None:
    axis.set_major_locator(MaxNLocator(most, integer=integer))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def _log_ticks(axis: Any, low: float, high: float) -> None:
    """Plain numbers at 1 (or at 1, 2, 5 within two decades), about five at most."""
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    steps = (1,) if np.log10(high / low) > 2 else (1, 2, 5)
    ticks = [s * 10.0**k for k in range(first, last + 1) for s in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    ticks = ticks[:: -(-len(ticks) // 6) or 1]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FixedFormatter([_tick(tick) for tick in ticks]))


def _tick(value: float) -> str:
    size = abs(value)
    power = round(np.log10(size)) if size else 0
    if abs(power) > 3 and np.isclose(size, 10.0**power):
        return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value:g}".replace("-", "−")
