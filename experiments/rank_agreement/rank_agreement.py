"""Do the methods of choosing p agree, and with the planted p?

Eight kinds of data, 60×40 with p = 4 planted, three draws of each; p = 2 … 8, ten seeds
a rank and what the methods do by default. A cell has what was chosen for each draw, –
for none. Below, in how many draws the planted p was chosen, and was a candidate.

    python experiments/rank_agreement/rank_agreement.py [METHOD …]
"""

from __future__ import annotations

import sys
import time
import warnings
from typing import Any

import numpy as np

import jaxnmf
from jaxnmf.selection import METHODS

M, N, P = 60, 40, 4
DRAWS = (10, 11, 12)
RANKS = range(2, 9)
EVERY: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in METHODS},
    "residual_spread, objective": ("residual_spread", {"of": "objective"}),
}


def product(rng: np.random.Generator, shape: float = 0.5) -> np.ndarray:
    """W H with gamma factors, mean 1; a smaller shape has more entries near zero."""
    X = rng.gamma(shape, size=(M, P)) @ rng.gamma(shape, size=(P, N))
    return X / X.mean()


def dense(rng: np.random.Generator, X: np.ndarray, noise: float) -> np.ndarray:
    """X with Gaussian noise of a share of its norm."""
    size = noise * np.sqrt((X**2).mean())
    return np.maximum(X + size * rng.standard_normal(X.shape), 0)


def weak(rng: np.random.Generator) -> np.ndarray:
    W, H = rng.gamma(0.5, size=(M, P)), rng.gamma(0.5, size=(P, N))
    X = (W * [1, 1, 1, 0.25]) @ H
    return X / X.mean()


def grouped(rng: np.random.Generator) -> np.ndarray:
    W = 0.1 * rng.gamma(0.5, size=(M, P))
    W[np.arange(M), np.arange(M) % P] += rng.uniform(0.7, 1.3, M)
    X = W @ rng.gamma(0.5, size=(P, N))
    return X / X.mean()


# Kind → (loss, data of a random generator).
KINDS = {
    "dense, noise 5 %": ("frobenius", lambda r: dense(r, product(r), 0.05)),
    "dense, noise 30 %": ("frobenius", lambda r: dense(r, product(r), 0.3)),
    "dense, components overlap": (
        "frobenius",
        lambda r: dense(r, product(r, 3.0), 0.02),
    ),
    "dense, one is weak": ("frobenius", lambda r: dense(r, weak(r), 0.05)),
    "dense, samples in groups": ("frobenius", lambda r: dense(r, grouped(r), 0.1)),
    "counts, 30 an entry": ("kl", lambda r: r.poisson(30 * product(r)).astype(float)),
    "counts, 2 an entry": ("kl", lambda r: r.poisson(2 * product(r)).astype(float)),
    "counts, overdispersed": (
        "kl",
        lambda r: r.poisson(30 * product(r) * r.gamma(5, 0.2, (M, N))).astype(float),
    ),
}


def options(method: str, loss: str) -> dict[str, Any]:
    return {"resample": "poisson"} if (method, loss) == ("stability", "kl") else {}


def main(*methods: str) -> None:
    ways = {name: EVERY[name] for name in methods or EVERY}
    right = dict.fromkeys(ways, 0)
    among, seconds = dict(right), dict.fromkeys(ways, 0.0)
    names = [f"`{name}`" for name in ways]
    print(f"| data | {' | '.join(names)} |\n|---{'|---' * len(names)}|", flush=True)
    for kind, (loss, draw) in KINDS.items():
        cells = []
        for name, (method, own) in ways.items():
            chosen = []
            for i in DRAWS:
                V = draw(np.random.default_rng(i))
                start = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found = jaxnmf.select_rank(
                        V, RANKS, method=method, seeds=10, loss=loss, progress=False,
                        **own, **options(method, loss),
                    )  # fmt: skip
                seconds[name] += time.perf_counter() - start
                chosen.append("–" if found.rank is None else str(found.rank))
                right[name] += found.rank == P
                among[name] += P in found.candidates
            cells.append(" ".join(chosen))
        print(f"| {kind} | {' | '.join(cells)} |", flush=True)
    count = len(KINDS) * len(DRAWS)
    for what, of in (("chosen", right), ("a candidate", among)):
        cells = [f"{of[name]} of {count}" for name in ways]
        print(f"| **planted p {what}** | {' | '.join(cells)} |")
    cells = [f"{seconds[name]:.0f}" for name in ways]
    print(f"| seconds, compilation included | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
