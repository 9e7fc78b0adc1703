"""Does the start matter more than the solver?

Every solver from the SVD, with zeros as they are ("nndsvd") and filled with the mean
("nndsvda"), and from ten random starts, all as lanes, after 25 and 200 iterations. Two
numbers each: how far the objective is above the lowest that any solver reached with
that loss, and how well the largest component of each sample agrees with its label
(adjusted Rand index). It writes runs.csv and starts.png beside itself and prints the
table of the page. It needs all_aml and newsgroups20_w1000 in the folder JAXNMF_DATA.

    python experiments/starts/starts.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import jaxnmf
from jaxnmf.metrics import adjusted_rand_index, cluster_by_component

HERE = Path(__file__).parent
SOLVERS = {
    "frobenius": ("mu", "hals", "extrapolated", "nenmf", "ao-admm"),
    "kullback-leibler": ("mu", "mu-extrapolated", "kl-newton"),
}
ITERATIONS, SEEDS = (25, 200), 10
STARTS = {"random": "0.6", "nndsvd": "C0", "nndsvda": "C1"}


def cells() -> tuple[np.ndarray, np.ndarray]:
    """Counts of 400 genes in 600 cells of six types, which share half of their genes;
    a type has 20 to 200 cells, and cells differ in depth."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), (200, 150, 100, 80, 50, 20))
    profiles = rng.gamma(0.5, size=(6, 400)) + rng.gamma(0.5, size=400)
    means = profiles[labels] * rng.lognormal(0, 0.5, (600, 1))
    return rng.poisson(means).astype(np.float32), labels


def data() -> Iterator[tuple[str, Any, Any, int]]:
    """(name, V, label of each row, p)."""
    genes = jaxnmf.datasets.load("all_aml")
    yield "all_aml", genes.V, genes.labels, 3
    digits = jaxnmf.datasets.load("digits")
    yield "digits", digits.V, digits.labels, 10
    yield "cells", *cells(), 6
    words = jaxnmf.datasets.load("newsgroups20_w1000")
    assert words.labels is not None
    yield "newsgroups", words.V[::10], words.labels[::10], 20


def runs(name: str, V: Any, labels: np.ndarray, p: int) -> Iterator[dict[str, Any]]:
    """A row for every run."""
    for loss, solvers in SOLVERS.items():
        for solver in solvers:
            if solver == "kl-newton" and name == "newsgroups":  # dense data alone
                continue
            for start in STARTS:
                for iterations in ITERATIONS:
                    found = jaxnmf.sweep(
                        V, [p], SEEDS if start == "random" else 1, solver=solver,
                        loss=loss, init=start, max_iter=iterations, tol=0.0,
                    )  # fmt: skip
                    for lane, row in found.table.iterrows():
                        clusters = cluster_by_component(*found.factors(lane))
                        yield {
                            "data": name, "loss": loss, "solver": solver,
                            "start": start, "seed": row["seed"],
                            "iterations": iterations, "objective": row["objective"],
                            "rand": adjusted_rand_index(labels, clusters),
                        }  # fmt: skip
            print(name, loss, solver, file=sys.stderr, flush=True)


def page(table: pd.DataFrame) -> str:
    """The table of the page: medians of the random starts, and the SVD's."""
    head = "| data | loss | solver | iterations | " + " | ".join(
        f"{what}: {start}" for what in ("above best", "Rand") for start in STARTS
    )
    lines = [head + " |", "|---" * 10 + "|"]
    keys = ["data", "loss", "solver", "iterations"]
    key: Any
    for key, group in table.groupby(keys, sort=False):
        cells = [
            f"{group.loc[group['start'] == start, column].median():{form}}"
            for column, form in (("above", ".1%"), ("rand", ".2f"))
            for start in STARTS
        ]
        lines.append(f"| {' | '.join(map(str, (*key, *cells)))} |")
    return "\n".join(lines)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Both numbers of every run, by solver."""
    names = list(table["data"].unique())
    figure, panels = plt.subplots(
        len(names), 4, figsize=(13, 2.6 * len(names)), layout="constrained", sharex=True
    )
    keys = [(loss, solver) for loss, solvers in SOLVERS.items() for solver in solvers]
    shown = [(column, its) for column in ("above", "rand") for its in ITERATIONS]
    for name, row in zip(names, panels, strict=True):
        for (column, iterations), axes in zip(shown, row, strict=True):
            part = table[(table["data"] == name) & (table["iterations"] == iterations)]
            for start, colour in STARTS.items():
                own = part[part["start"] == start]
                at = [
                    keys.index(x) for x in zip(own["loss"], own["solver"], strict=True)
                ]
                marker = "." if start == "random" else "D"
                values = own[column].clip(1e-4) if column == "above" else own[column]
                axes.scatter(at, values, c=colour, marker=marker, s=22, label=start)
            if column == "above":
                axes.set_yscale("log")
            axes.axvline(len(SOLVERS["frobenius"]) - 0.5, color="0.8", linewidth=0.8)
            what = "above the best" if column == "above" else "adjusted Rand index"
            axes.set_title(f"{name}: {what}, {iterations} iterations", fontsize=9)
    labels = [f"{solver}{' (KL)' if loss[0] == 'k' else ''}" for loss, solver in keys]
    for axes in panels[-1]:
        axes.set_xticks(range(len(keys)), labels, rotation=60, ha="right", fontsize=8)
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=90)


def main() -> None:
    table = pd.DataFrame([row for each in data() for row in runs(*each)])
    lowest = table.groupby(["data", "loss"])["objective"].transform("min")
    table["above"] = table["objective"] / lowest - 1
    table.to_csv(HERE / "runs.csv", index=False, float_format="%.6g")
    draw(table, HERE / "starts.png")
    print(page(table))


if __name__ == "__main__":
    main()
