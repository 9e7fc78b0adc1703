"""Are known mutational signatures better than those found in a few genomes?

The 21 breast cancers are halved at random, ten times. Signatures are found in one half,
and the genomes of the other are new: of 1, 2, 4, 8 or all of them every mutation is
dealt to one of two tables by a coin. One table is fitted, three ways, and the other
predicted. It needs breast21_mutations in the folder JAXNMF_DATA.

    python experiments/known_signatures/known_signatures.py PICTURE.png
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import numpy as np

import jaxnmf
from jaxnmf import metrics

RANK, HALVINGS, STARTS = 4, 10, 5
GENOMES = (1, 2, 4, 8, 11)
WAYS = ("held", "held and one free", "found anew")
GIVEN = {"loss": "kullback-leibler", "max_iter": 2000, "tol": 1e-8}
LEAST = 0.01  # mutations that are expected of a kind, at least


def deviance(counts: np.ndarray, mean: np.ndarray) -> float:
    """The Poisson deviance of an entry, on average: 1 for the true mean."""
    mean = np.maximum(mean, LEAST)
    ratio = np.where(counts > 0, counts, 1) / mean
    terms = np.where(counts > 0, counts * np.log(ratio), 0) - counts + mean
    return float(2 * terms.mean())


def found(V: np.ndarray, rank: int) -> jaxnmf.Result:
    """The best of several starts."""
    return jaxnmf.sweep(V, [rank], STARTS, progress=False, **GIVEN).best(rank)


def predictions(train: np.ndarray, H: np.ndarray) -> dict[str, np.ndarray]:
    """W H of each way, for signatures H that are known."""
    free = np.concatenate([H, np.full((1, H.shape[1]), np.nan)])
    held = jaxnmf.factorize(train, len(H), known_H=H, **GIVEN)
    more = jaxnmf.factorize(train, len(free), known_H=free, init="random", **GIVEN)
    anew = found(train, min(RANK, len(train)))
    fits = dict(zip(WAYS, (held, more, anew), strict=True))
    return {way: fit.W @ fit.H for way, fit in fits.items()}


def main(picture: str) -> None:
    V = np.asarray(jaxnmf.datasets.load("breast21_mutations").V, np.float64)
    errors = {way: {count: [] for count in GENOMES} for way in WAYS}
    agreement = []
    for halving in range(HALVINGS):
        rng = np.random.default_rng(halving)
        order = rng.permutation(len(V))
        known, new = V[order[:10]], V[order[10:]]
        H = found(known, RANK).H
        H = H / H.sum(1, keepdims=True)
        agreement.append(metrics.match_components(None, found(new, RANK).H, None, H)[1])
        for count in GENOMES:
            counts = new[:count].astype(int)
            train = rng.binomial(counts, 0.5)
            for way, mean in predictions(train.astype(float), H).items():
                errors[way][count].append(deviance(counts - train, mean))
    print("cosines of the signatures of both halves, sorted, median of the halvings:")
    print(np.round(np.median(np.sort(agreement, 1), 0), 3), "\n")
    print("| new genomes | " + " | ".join(WAYS) + " |\n|---|---|---|---|")
    for count in GENOMES:
        cells = [
            f"{np.median(errors[way][count]):.2f} "
            f"({np.min(errors[way][count]):.2f} … {np.max(errors[way][count]):.2f})"
            for way in WAYS
        ]
        print(f"| {count} | " + " | ".join(cells) + " |")
    plt.style.use("seaborn-v0_8-colorblind")
    figure, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for way, marker in zip(WAYS, "os^", strict=True):
        values = np.array([errors[way][count] for count in GENOMES])
        (line,) = ax.plot(GENOMES, np.median(values, 1), marker=marker, label=way)
        low, high = np.percentile(values, [25, 75], axis=1)
        ax.fill_between(GENOMES, low, high, color=line.get_color(), alpha=0.15)
    ax.set(xlabel="new genomes", ylabel="deviance of an entry that was left out")
    ax.set_xticks(GENOMES)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
