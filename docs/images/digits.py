"""The picture of the README: four solvers on the digits, and what the best found."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

import jaxnmf
from jaxnmf import datasets

SOLVERS = {"hals": "#0173b2", "mu": "#de8f05", "pgd": "#cc78bc", "optax": "#029e73"}
RANK = 16


def main() -> None:
    V = datasets.load("digits").V
    norm = np.linalg.norm(V)
    best, curves = None, {}
    for solver in SOLVERS:
        for seed in range(3):
            result = jaxnmf.factorize(
                V, RANK, solver=solver, seed=seed, max_iter=1000, tol=0, kkt=False
            )
            error = np.sqrt(2 * result.trace.objective) / norm
            curves.setdefault(solver, []).append((result.trace.seconds[1:], error[1:]))
            if best is None or result.objective < best.objective:
                best = result
    assert best is not None
    lowest = best.relative_error

    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False})
    figure = Figure(figsize=(9, 3.1), layout="constrained", dpi=150)
    halves: Any = figure.subfigures(1, 2, width_ratios=[1.05, 1])
    left, right = halves
    axes = left.subplots()
    for solver, color in SOLVERS.items():
        for k, (seconds, error) in enumerate(curves[solver]):
            label = solver if k == 0 else None
            axes.loglog(seconds, error / lowest - 1, color=color, lw=1.4, label=label)
    axes.spines["right"].set_visible(False)
    axes.set(
        xlabel="seconds of iterating",
        ylabel="relative error above the best",
        ylim=(1e-4, None),
        title=f"Handwritten digits, p = {RANK}, three starts",
    )
    axes.legend(frameon=False)
    order = np.argsort(-best.W.sum(0) * best.H.sum(1))
    for k, axes in zip(order, right.subplots(4, 4).flat, strict=True):
        axes.imshow(best.H[k].reshape(8, 8), cmap="gray_r")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color="0.8")
    right.suptitle("The components of the best run (rows of H)", fontsize=10)
    figure.savefig(Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
