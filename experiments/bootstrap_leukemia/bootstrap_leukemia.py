"""Which of the leukaemias belong to their component, whichever genes are measured?

200 bootstrap replicates of 5000 genes × 38 samples: genes are drawn with replacement.
It needs all_aml in the folder JAXNMF_DATA.

    python experiments/bootstrap_leukemia/bootstrap_leukemia.py PICTURE.png [p …]

The picture is of the first p.
"""

from __future__ import annotations

import sys
import time

import matplotlib.pyplot as plt
import numpy as np

import jaxnmf

REPLICATES = 200


def main(picture: str, *ranks: str) -> None:
    data = jaxnmf.datasets.load("all_aml")
    V = np.asarray(data.V, np.float32)
    if V.shape[0] < V.shape[1]:
        V = V.T  # genes are the rows, which are drawn
    labels, names = np.asarray(data.labels), list(data.label_names or ())
    samples = data.row_names or range(len(labels))
    print(f"V is {V.shape[0]}×{V.shape[1]}")
    order = np.argsort(labels, kind="stable")
    print("| p | component | stability | share of ‖W H‖² | 90 % | largest for |")
    print("|---|---|---|---|---|---|")
    shown = None
    for rank in map(int, ranks or ("3", "5")):
        start = time.perf_counter()
        found = jaxnmf.uncertainty(
            V, rank, loss="kullback-leibler", replicates=REPLICATES, progress=False
        )
        seconds = time.perf_counter() - start
        H = found.result.H
        # A sample's component is that which gives it most of its expression.
        size = found.result.W.sum(0)[:, None]
        strongest = (found.H_replicates * size).argmax(1)
        of_sample = (H * size).argmax(0)
        low, high = found.variance_interval
        for k in range(rank):
            here = labels[of_sample == k]
            counts = ", ".join(
                f"{(here == i).sum()} {name}"
                for i, name in enumerate(names)
                if (here == i).any()
            )
            print(
                f"| {rank} | {k} | {found.stability[k]:.2f} | {found.variance[k]:.2f} "
                f"| {low[k]:.2f} … {high[k]:.2f} | {counts or 'none'} |"
            )
        same = (strongest == of_sample).mean(0)
        unsure = [f"{samples[j]} ({same[j]:.0%})" for j in np.flatnonzero(same < 0.9)]
        print(f"\np = {rank}: {len(unsure)} of {len(labels)} samples are in another")
        print(f"component in over a tenth of the replicates: {', '.join(unsure)}")
        print(f"{seconds:.1f} s\n")
        shown = shown or found
    assert shown is not None
    low, high = (part[:, order] for part in shown.H_interval)
    H = shown.result.H[:, order]
    plt.style.use("seaborn-v0_8-colorblind")
    figure, axes = plt.subplots(
        len(H), 1, figsize=(6, 1.5 * len(H)), sharex=True, layout="constrained"
    )
    where = np.arange(H.shape[1])
    for k, ax in enumerate(axes):
        for i, name in enumerate(names):
            of = labels[order] == i
            x = where[of]
            ax.errorbar(
                x, H[k, of],
                [H[k, of] - np.minimum(low[k, of], H[k, of]),
                 np.maximum(high[k, of], H[k, of]) - H[k, of]],
                fmt=".", capsize=2, linewidth=1, color=f"C{i}",
                label=name if k == 0 else None,
            )  # fmt: skip
        ax.set_ylabel(f"component {k}")
        ax.set_ylim(bottom=0)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, ncols=3, fontsize="small")
    axes[-1].set_xlabel("sample")
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
