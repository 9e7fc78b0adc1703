"""The picture of the README: four solvers on the digits, and what the best found.

`python docs/images/digits.py` writes it.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

import jaxnmf
from jaxnmf import datasets

HERE = Path(__file__).parent
SOLVERS = ("extrapolated", "hals", "mu", "pgd")
RANK = 16


def main() -> None:
    V = datasets.load("digits").V
    norm = np.linalg.norm(V)
    best, curves = None, {}
    for solver in SOLVERS:
        for seed in range(3):
            result = jaxnmf.factorize(
                V, RANK, solver=solver, init="random", seed=seed, max_iter=1000, tol=0
            )
            error = np.sqrt(2 * result.trace.objective) / norm
            curves.setdefault(solver, []).append((result.trace.seconds[1:], error[1:]))
            if best is None or result.objective < best.objective:
                best = result
    assert best is not None
    lowest = best.relative_error

    mpl.rc_file(HERE.parent / "matplotlibrc")
    # Stacked, so that the text is readable on a phone.
    figure = Figure(figsize=(5.2, 4.9), layout="constrained", dpi=200)
    halves: Any = figure.subfigures(2, 1, height_ratios=[1.55, 1])
    above, below = halves
    axes = above.subplots()
    for place, solver in enumerate(SOLVERS):
        for k, (seconds, error) in enumerate(curves[solver]):
            label = solver if k == 0 else None
            axes.loglog(seconds, error / lowest - 1, color=f"C{place}", label=label)
    axes.set(
        xlabel="seconds of iterating",
        ylabel="error above the best",
        ylim=(1e-4, 8),
        title=f"Handwritten digits, p = {RANK}, three starts",
    )
    axes.legend(loc="upper right", ncols=2)
    order = np.argsort(-best.W.sum(0) * best.H.sum(1))
    for k, axes in zip(order, below.subplots(2, 8).flat, strict=True):
        axes.imshow(best.H[k].reshape(8, 8), cmap="gray_r")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color="0.8")
    below.suptitle("The components of the best run (rows of H)", fontsize=12)
    figure.savefig(HERE / "digits.png")


if __name__ == "__main__":
    main()
