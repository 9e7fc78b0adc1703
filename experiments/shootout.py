"""The tables and the picture of a solver shoot-out.

    python experiments/shootout.py STUDY_FOLDER PICTURE.png

Reads the store of a finished `jaxnmf run experiment=…_shootout`, prints the tables of
its README (median milliseconds to within 1 % and 0.1 % of the best error of any solver
and seed, a row per solver, a column per data set) and draws the convergence curves.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from keep import fewer_colors

from jaxnmf.experiment.report import comparison_table, gather
from jaxnmf.experiment.report.look import solver_lines
from jaxnmf.experiment.store.stored import read_jobs

EXACT = 1e-5  # a best error below this is rounding: then what counts is 1e-4
WITHIN = {"1 %": "seconds_to_1pct", "0.1 %": "seconds_to_0.1pct"}


def milliseconds(seconds: float) -> str:
    """Milliseconds to two digits; a dash where the error was not reached."""
    return "–" if not np.isfinite(seconds) else f"{1e3 * float(f'{seconds:.2g}'):g}"


def with_exact(
    table: pd.DataFrame, summary: pd.DataFrame, trace: pd.DataFrame
) -> pd.DataFrame:
    """The table, with the time to an error of 1e-4 for data that are fitted exactly."""
    table = table.copy()
    best: Any = summary.groupby("dataset")["error"].transform("min")
    names: Any = summary.loc[best < EXACT, ["job", "run", "solver", "dataset"]]
    there = trace.merge(names, on=["job", "run"])
    first = there[there["error"] <= 1e-4].groupby(["job", "run"])["seconds"].min()
    names = names.set_index(["job", "run"]).assign(seconds=first).fillna(np.inf)
    median = names.groupby(["dataset", "solver"])["seconds"].median()
    for (dataset, solver), seconds in median.items():  # pyright: ignore
        row = (table["dataset"] == dataset) & (table["solver"] == solver)
        value = seconds if np.isfinite(seconds) else np.nan
        table.loc[row, list(WITHIN.values())] = value
    return table


def markdown(table: pd.DataFrame) -> str:
    """A table per tolerance, solvers by their geometric mean over the data sets."""
    parts = []
    for name, column in WITHIN.items():
        wide = table.pivot_table(
            index="solver", columns="dataset", values=column, dropna=False
        )
        # A data set that a solver does not solve counts as ten times the slowest time.
        ranked: Any = wide.fillna(10 * wide.max()).fillna(1.0)
        score = np.exp(np.log(ranked / ranked.min()).mean(axis=1)).sort_values()
        lowest = wide.min()
        head = ["solver", *wide.columns, "geometric mean over the fastest"]
        lines = [
            f"Milliseconds to within {name} of the best error, median over the seeds:",
            "",
            "| " + " | ".join(head) + " |",
            "|---" * len(head) + "|",
        ]
        for solver in score.index:
            cells = [
                f"**{milliseconds(x)}**" if x == lowest[dataset] else milliseconds(x)
                for dataset, x in wide.loc[solver].items()
            ]
            lines.append(f"| `{solver}` | {' | '.join(cells)} | {score[solver]:.1f} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def draw(summary: pd.DataFrame, trace: pd.DataFrame, path: Path) -> None:
    """Draw the relative distance to the best error against seconds, per data set."""
    lines = solver_lines(summary["solver"].unique())
    datasets = sorted(summary["dataset"].unique())
    columns = 3
    rows = -(-len(datasets) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(13, 3.6 * rows), layout="constrained", squeeze=False
    )
    for ax in axes.flat[len(datasets) :]:
        ax.axis("off")
    for ax, dataset in zip(axes.flat, datasets, strict=False):
        runs = summary[summary["dataset"] == dataset]
        best: Any = runs["error"].min()
        exact = best < EXACT
        names: Any = runs[["job", "run", "solver"]]
        every = trace.merge(names, on=["job", "run"])
        grid = np.geomspace(1e-3, max(every["seconds"].max(), 2e-3), 120)
        for solver, of_solver in every.groupby("solver", sort=True):
            gaps = []
            for _, one in of_solver.groupby(["job", "run"]):
                # What the run had reached by then; nothing before its first record.
                lowest = np.minimum.accumulate(one["error"].to_numpy(float))
                at = np.searchsorted(one["seconds"], grid, side="right") - 1
                gaps.append(lowest[at] if exact else lowest[at] / best - 1)
            line = lines[str(solver)]
            ax.plot(
                grid,
                np.clip(np.median(gaps, axis=0), 1e-6, None),
                color=line.colour,
                linestyle=line.pattern,
                linewidth=1.4,
                label=solver,
            )
        title = f"{dataset}: the error itself" if exact else dataset
        ax.set(xscale="log", yscale="log", ylim=(1e-5, 10), title=title)
        ax.set_xlabel("seconds")
        ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel("error over the best, − 1")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=8, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    fewer_colors(path, path)


def main(study: str, picture: str) -> None:
    summary, trace = gather(read_jobs(Path(study)))
    table = with_exact(comparison_table(summary, trace), summary, trace)
    print(markdown(table), end="")
    draw(summary, trace, Path(picture))


if __name__ == "__main__":
    main(*sys.argv[1:])
