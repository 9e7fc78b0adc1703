"""Panels that compare solvers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxnmf import plots
from jaxnmf.experiment.report.drawing import WIDTH, Drawing, drawn, panel
from jaxnmf.experiment.report.look import (
    INK,
    Line,
    legend,
    shortened,
    styles,
)
from jaxnmf.plots.axes import log_ticks, plain_ticks
from jaxnmf.plots.lines import band

MOST_RATIO = 1e4  # of times, that a profile shows


def convergence_panel(
    curves: pd.DataFrame,
    lines: dict[str, Line],
    label: str,
    limits: tuple[float, float],
    title: str = "error − best",
) -> Drawing:
    """A recorded value against seconds or iterations, of one setting."""
    with panel(title=title) as axes:
        for solver, curve in curves.groupby("solver", sort=True):
            low, middle, high = (
                np.clip(curve[name].to_numpy(float), limits[0] / 10, None)
                for name in ("low", "median", "high")
            )
            style = styles(lines)[str(solver)]
            band(axes, curve["x"].to_numpy(), middle, low, high, style)
        axes.set(xscale="log", yscale="log", ylim=limits, xlabel=label)
        log_ticks(axes.xaxis, *axes.get_xlim())
        log_ticks(axes.yaxis, *limits)
    return drawn(axes, legend(lines, curves["solver"]))


def gap_limits(curves: pd.DataFrame) -> tuple[float, float]:
    """One range of error − best for all panels of a problem: at most six decades."""
    gaps = curves[["median", "high"]].to_numpy(float)
    gaps = gaps[np.isfinite(gaps) & (gaps > 0)]
    if not len(gaps):
        return 1e-3, 1.0
    high = gaps.max() * 1.6
    return max(gaps.min() / 1.6, high * 1e-6), high


def rank_panel(
    runs: pd.DataFrame,
    lines: dict[str, Line],
    column: str = "error",
    title: str = "final error",
    *,
    limits: tuple[float, float] | None = None,
    level: float | None = None,
) -> Drawing:
    """A measure of the end of runs against rank; ``limits`` are those of the measure
    where panels share them, ``level`` is what it is compared with."""
    finite = runs[np.isfinite(runs[column].astype(float))]
    with panel(3.0, title=title) as axes:
        plots.error_against_rank(
            runs,
            value=column,
            by="solver",
            styles=styles(lines),
            level=level,
            legend=False,
            ax=axes,
        )
        if limits is not None:
            axes.set_ylim(limits)
    return drawn(axes, legend(lines, finite["solver"]))


def cost_panel(costs: pd.DataFrame, lines: dict[str, Line]) -> Drawing:
    """Seconds of compilation (pale) and of running (full) of each solver, log scale."""
    height = 0.75 + 0.3 * len(costs)
    with panel(height, left=1.35, title="seconds") as axes:
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
    return drawn(axes)


def profile_panel(
    profiles: Mapping[str, tuple[np.ndarray, np.ndarray]], lines: dict[str, Line]
) -> Drawing:
    """Performance profiles: steps of (τ, share of the problems), τ on a log scale."""
    with panel(3.0, title="share of the problems") as axes:
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
    return drawn(axes, legend(lines, profiles))


def rank_diagram(
    ranks: pd.Series, critical: float, cliques: Sequence[tuple[int, int]]
) -> Drawing:
    """A critical-difference diagram: mean ranks, the best at the left, and bars over
    solvers that do not differ; ``cliques`` are (first, last) places of ``ranks``."""
    solvers = len(ranks)
    half = -(-solvers // 2)
    below = len(cliques) * 0.09 + 0.14
    height = 0.55 + below + 0.2 * half + 0.1
    with panel(height, left=0.08, bottom=0.05) as axes:
        span = WIDTH - 0.16  # inches, as everything below
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
    return drawn(axes)
