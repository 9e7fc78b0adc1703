"""Random initial factors, keyed per component."""

from __future__ import annotations

import functools

import numpy as np

from jaxnmf.data.operand import Described, true_shape


def component_normals(seed: int, factor: int, component: int, size: int) -> np.ndarray:
    """Standard normals that depend on (seed, factor, component) alone.

    Keyed per component and not per matrix, so that a run at p is the same whether
    its factors are padded or not, and the first p components of a larger run.
    """
    return (_kept if size <= KEPT_SIZE else _drawn)(seed, factor, component, size)


def _drawn(seed: int, factor: int, component: int, size: int) -> np.ndarray:
    stream = np.random.SeedSequence([seed, factor, component])
    normals = np.random.default_rng(stream).standard_normal(size)
    normals.setflags(write=False)
    return normals


# Runs at several ranks or by several solvers start from the same components. At most
# 64 MB are kept.
KEPT_SIZE = 2**14


_kept = functools.lru_cache(maxsize=512)(_drawn)


def key_seed(seed: int) -> int:
    """The seed of a solver's random key: the seed itself, or where it takes more than
    63 bits a number that depends on all of them."""
    if seed < 2**63:
        return seed
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1)


def random_factors(
    operand: Described, rank: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """|N(0, 1)| entries, scaled alike in both factors so that ΣWH = Σ|V|."""
    m, n = map(int, true_shape(operand))
    Wt, H = np.empty((rank, m)), np.empty((rank, n))
    for factor, X in enumerate((Wt, H)):
        for k, x in enumerate(X):
            np.abs(component_normals(seed, factor, k, x.size), out=x)
    scale = np.sqrt(operand.moments.total / (Wt.T.sum(0) @ H.sum(1)))
    Wt *= scale  # in place: W may be large
    return Wt.T, H * scale
