"""Coverage of the intervals of `jaxnmf.uncertainty` on planted factors.

    python experiments/benchmarks/uncertainty_coverage.py [trials [replicates [method]]]

V = W H with noise, W and H separable (each component has rows and columns of its own),
so that the factors are identifiable. Every trial draws the noise anew, and for the
bootstrap the rows. Coverage is the share of the entries of H, and of W, above a tenth
of their component's mean whose planted value is in their interval of nominal 90 %.
"""

import sys

import numpy as np

import jaxnmf
from jaxnmf.metrics import match_components

SHAPE, RANK, LEVEL = (200, 24), 4, 0.9
CASES = (
    # method, loss, noise
    ("bootstrap", "frobenius", "even"),
    ("bootstrap", "frobenius", "relative"),
    ("bootstrap", "kullback-leibler", "counts"),
    ("poisson", "kullback-leibler", "counts"),
    ("residual", "frobenius", "even"),
    ("residual", "kullback-leibler", "counts"),
    ("displacement", "frobenius", "even"),
)


def planted(rng: np.random.Generator, shape=SHAPE, rank=RANK):
    """(W, H), (m, p) and (p, n), separable both ways; rows of H sum to one."""
    (m, n), p = shape, rank
    W = rng.uniform(0.5, 2.0, (m, p)) * (rng.random((m, p)) < 0.9)
    H = rng.uniform(0.5, 2.0, (p, n)) * (rng.random((p, n)) < 0.9)
    for k in range(p):
        H[:, 2 * k : 2 * k + 2] *= np.arange(p)[:, None] == k
        H[k, 2 * k : 2 * k + 2] = rng.uniform(1.0, 3.0, 2)
        own = slice(k * m // 20, (k + 1) * m // 20)
        W[own] *= np.arange(p) == k
        W[own, k] = rng.uniform(1.0, 3.0, len(W[own]))
    return W, H / H.sum(1, keepdims=True)


def noisy(kind: str, W: np.ndarray, H: np.ndarray, rng: np.random.Generator):
    """(V, W) with noise of a kind, W in the units of V."""
    X = W @ H
    if kind == "counts":  # 40 an entry on average
        scale = 40 / X.mean()
        return rng.poisson(X * scale).astype(float), W * scale
    if kind == "relative":  # 10 % of each entry
        return X * np.maximum(1 + 0.1 * rng.standard_normal(X.shape), 0), W
    # Of one size, 2 % of the mean, but for entries that are 0: noise that falls below 0
    # would be cut off there.
    noise = 0.02 * X.mean() * rng.standard_normal(X.shape)
    return np.where(X > 0, np.maximum(X + noise, 0), 0), W


def covered(found, W: np.ndarray, H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which entries of W, and of H, above a tenth of their component's mean are in
    their interval."""
    order = match_components(None, found.result.H, None, H)[0]
    low, high = (x[order] for x in found.H_interval)
    in_H = (low <= H) & (high >= H)
    low, high = (x[:, order] for x in found.W_interval)
    in_W = (low <= W) & (high >= W)
    large_W, large_H = 0.1 * W.mean(0), 0.1 * H.mean(1, keepdims=True)
    return in_W[large_W < W], in_H[large_H < H]


def coverage(
    method: str, loss: str, noise: str, trials: int, replicates: int, **options
) -> tuple[float, float]:
    """The share of covered entries of W and of H over all trials."""
    hits = []
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        W, H = planted(np.random.default_rng(1000))
        if method == "bootstrap":  # rows are a sample
            W = planted(rng)[0]
        V, W = noisy(noise, W, H, rng)
        found = jaxnmf.uncertainty(
            V,
            RANK,
            method=method,
            loss=loss,
            replicates=replicates,
            level=LEVEL,
            seed=trial,
            progress=False,
            **options,
        )
        hits.append(covered(found, W, H))
    in_W, in_H = (np.concatenate(x) for x in zip(*hits, strict=True))
    return float(in_W.mean()), float(in_H.mean())


def main(trials: int = 20, replicates: int = 100, method: str = "") -> None:
    for case in CASES:
        if method in ("", case[0]):
            in_W, in_H = coverage(*case, trials, replicates)
            print(f"{', '.join(case)}: W {in_W:.1%}, H {in_H:.1%}", flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(*map(int, given[:2]), method="".join(given[2:]))
