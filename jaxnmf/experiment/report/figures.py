"""The panels that compare solvers, and those that show data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from jaxnmf.experiment.report.drawing import (
    ACCENT,
    COLOURS,
    DASHES,
    INK,
    SHADES,
    Drawing,
    Scale,
    drawn,
    log_ticks,
    page_colour,
    panel,
    plain_ticks,
)

MOST_RATIO = 1e4  # of times, that a profile shows


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


def convergence_panel(
    curves: pd.DataFrame,
    lines: dict[str, Line],
    label: str,
    limits: tuple[float, float],
    title: str = "error − best",
) -> Drawing:
    """A value on its way against seconds or iterations, one setting and axis."""
    figure, axes = panel(title=title)
    for solver, curve in curves.groupby("solver", sort=True):
        line, x = lines[str(solver)], curve["x"]
        low, middle, high = (
            np.clip(curve[name].to_numpy(float), limits[0] / 10, None)
            for name in ("low", "median", "high")
        )
        axes.fill_between(x, low, high, color=line.colour, alpha=0.15, linewidth=0)
        axes.plot(x, middle, color=line.colour, linestyle=line.pattern)
    axes.set(xscale="log", yscale="log", ylim=limits, xlabel=label)
    log_ticks(axes.xaxis, *axes.get_xlim())
    log_ticks(axes.yaxis, *limits)
    return drawn(figure, legend(lines, curves["solver"]))


def profile_panel(
    profiles: Mapping[str, tuple[np.ndarray, np.ndarray]], lines: dict[str, Line]
) -> Drawing:
    """Performance profiles: steps of (τ, share of the problems), τ on a log scale."""
    figure, axes = panel(3.0, title="share of the problems")
    most = max(float(tau[-1]) for tau, _ in profiles.values())
    end = min(max(most, 2.0), MOST_RATIO) * 1.15
    for solver, (tau, share) in sorted(profiles.items()):
        line = lines[solver]
        axes.step(
            np.append(tau, max(end, tau[-1])),
            np.append(share, share[-1]),
            where="post",
            color=line.colour,
            linestyle=line.pattern,
            clip_on=True,
        )
    axes.set(xscale="log", xlim=(1, end), ylim=(0, 1.03))
    axes.set_xlabel("τ: time over the fastest solver’s")
    log_ticks(axes.xaxis, 1, end)
    plain_ticks(axes.yaxis, 5)
    return drawn(figure, legend(lines, profiles))


def rank_diagram(
    ranks: pd.Series, critical: float, cliques: Sequence[tuple[int, int]]
) -> Drawing:
    """A critical-difference diagram: mean ranks, and bars over what cannot be told
    apart.

    Better solvers stand to the left; ``cliques`` are (first, last) places of ``ranks``.
    """
    solvers = len(ranks)
    half = -(-solvers // 2)
    below = len(cliques) * 0.09 + 0.14
    height = 0.55 + below + 0.2 * half + 0.1
    figure, axes = panel(height, left=0.08, bottom=0.05)
    span = 4.2 - 0.16  # inches, as everything below
    names, inset = 1.25, span - 1.25
    low, high = 1.0, float(solvers)

    def at(rank: float) -> float:
        return names + (rank - low) / (high - low) * (inset - names)

    axes.set(xlim=(0, span), ylim=(height - 0.13, 0))
    axes.axis("off")
    ink: dict[str, Any] = {"color": INK, "linewidth": 0.7}
    top = 0.5
    axes.plot([names, inset], [top, top], **ink)
    step = -(-solvers // 8)
    for rank in range(1, solvers + 1, step):
        axes.plot([at(rank)] * 2, [top - 0.05, top], **ink)
        axes.text(at(rank), top - 0.08, f"{rank}", ha="center", va="bottom", size=8)
    length = min(at(1 + critical), span) - names
    axes.plot([names, names + length], [0.22, 0.22], color=INK, linewidth=1.2)
    for end in (names, names + length):
        axes.plot([end, end], [0.18, 0.26], color=INK, linewidth=1.2)
    label = f"critical difference {critical:.2f}"
    axes.text(names, 0.14, label, ha="left", va="bottom", size=8)
    for i, (first, last) in enumerate(cliques):
        y = top + 0.12 + 0.09 * i
        ends = [at(ranks.iloc[first]) - 0.03, at(ranks.iloc[last]) + 0.03]
        axes.plot(ends, [y, y], color=INK, linewidth=2.6)
    for place, (solver, rank) in enumerate(ranks.items()):
        left = place < half
        row = place if left else solvers - 1 - place
        y = top + below + 0.2 * (row + 0.5)
        end = names - 0.06 if left else inset + 0.06
        axes.plot([at(rank), at(rank), end], [top, y, y], **ink)
        axes.text(
            end - 0.04 if left else end + 0.04,
            y,
            shortened(str(solver), 18),
            ha="right" if left else "left",
            va="center",
            size=8.5,
            parse_math=False,
        )
    return drawn(figure)


def cost_panel(costs: pd.DataFrame, lines: dict[str, Line]) -> Drawing:
    """Seconds of compilation (pale) and of running (full) of each solver, log scale."""
    height = 0.75 + 0.3 * len(costs)
    figure, axes = panel(height, left=1.35, title="seconds")
    for y, (solver, cost) in enumerate(costs.iterrows()):
        colour = lines[str(solver)].colour
        axes.barh(y - 0.17, cost["seconds"], 0.32, color=colour)
        axes.barh(y + 0.17, cost["compile_seconds"], 0.32, color=colour, alpha=0.35)
    seconds = costs.to_numpy(float)
    seconds = seconds[np.isfinite(seconds) & (seconds > 0)]
    low = 10 ** np.floor(np.log10(seconds.min(initial=1.0)))
    high = seconds.max(initial=10 * low) * 1.3
    axes.set(xscale="log", xlim=(low, high), ylim=(len(costs) - 0.5, -0.5))
    log_ticks(axes.xaxis, low, high)
    axes.grid(visible=False, axis="y")
    labels = [shortened(str(solver), 20) for solver in costs.index]
    axes.set_yticks(range(len(costs)), labels, parse_math=False)
    return drawn(figure)


def shortened(text: str, most: int) -> str:
    """The text, its end cut where it is longer than a panel has room for."""
    return text if len(text) <= most else text[: most - 1] + "…"


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
    title: str = "final error",
    *,
    limits: tuple[float, float] | None = None,
    level: float | None = None,
) -> Drawing:
    """A measure of the end against rank: the median over seeds, and its range.

    ``limits`` are those of the measure where panels share them, ``level`` is what it is
    compared with, a dotted line.
    """
    figure, axes = panel(3.0, title=title)
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
    plain_ticks(axes.xaxis, 7, integer=True)
    plain_ticks(axes.yaxis, 5)
    axes.set_xlabel("rank")
    return drawn(figure, legend(lines, finite["solver"]))


def line_panel(
    x: Any,
    series: Sequence[tuple[Any, str]],
    label: str,
    *,
    title: str = "",
    height: float = 1.6,
    bars: bool = False,
) -> Drawing:
    """Curves over a common axis; (values, colour) each, the later ones dashed."""
    figure, axes = panel(height, title=title)
    for i, (values, colour) in enumerate(series):
        if bars:
            axes.vlines(x, 0, values, color=colour, linewidth=1.6)
        else:
            pattern = (0, (4, 2)) if i else "solid"
            axes.plot(x, values, color=colour, linestyle=pattern, linewidth=1.3)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    plain_ticks(axes.xaxis, 5)
    plain_ticks(axes.yaxis, 3)
    axes.set_xlabel(label)
    return drawn(figure)


def histogram_panel(values: np.ndarray, label: str) -> Drawing:
    """The distribution of values, its counts on a log scale."""
    figure, axes = panel(2.4, title="entries")
    reach = float(np.abs(values).max(initial=0)) or 1.0
    counts, edges = np.histogram(values, bins=61, range=(-reach, reach))
    axes.stairs(counts, edges, fill=True, color=ACCENT, alpha=0.75, baseline=0.5)
    high = 2 * float(counts.max(initial=1))
    axes.set(yscale="log", ylim=(0.5, high), xlabel=label)
    plain_ticks(axes.xaxis, 5)
    log_ticks(axes.yaxis, 0.5, high)
    return drawn(figure)


def heat_panel(
    values: np.ndarray,
    scale: Scale,
    label: str,
    side: str,
    *,
    ticks: Sequence[tuple[float, str]] | None = None,
    height: float = 2.4,
) -> Drawing:
    """A matrix as colours; ``ticks`` name places along its rows."""
    figure, axes = panel(height, left=1.0 if ticks else 0.3)
    axes.imshow(
        values,
        cmap=mpl.colormaps[scale.colours].resampled(SHADES),
        vmin=scale.low,
        vmax=scale.high,
        aspect="auto",
        interpolation="none",
    )
    axes.grid(visible=False)
    axes.set(xlabel=label, ylabel=side, xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if ticks is not None:
        axes.set_yticks(
            [at for at, _ in ticks], [name for _, name in ticks], parse_math=False
        )
    return drawn(figure)
