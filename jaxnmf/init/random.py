"""Random initial factors, keyed per component."""

from __future__ import annotations

import functools
from collections.abc import Sequence

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
    (Wt,), H = random_parts(operand, rank, seed, [slice(None)])
    return Wt.T, H


def random_parts(
    operand: Described, rank: int, seed: int, parts: Sequence[slice]
) -> tuple[list[np.ndarray], np.ndarray]:
    """`random_factors`, of Wt some columns alone. A stream of normals cannot begin in
    the middle, so that each component is drawn as a whole, one after the other."""
    m, n = map(int, true_shape(operand))
    sums, H = np.empty(rank), np.empty((rank, n))
    own = [np.empty((rank, len(range(m)[part]))) for part in parts]
    for k in range(rank):
        x = np.abs(component_normals(seed, 0, k, m))
        sums[k] = x.sum()
        for Wt, part in zip(own, parts, strict=True):
            Wt[k] = x[part]
        np.abs(component_normals(seed, 1, k, n), out=H[k])
    scale = np.sqrt(operand.moments.total / (sums @ H.sum(1)))
    for Wt in own:
        Wt *= scale  # in place: W may be large
    return own, H * scale
