"""Synthetic data with planted factors, of any size, dense or sparse."""

import math
import numbers
from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np

from jaxnmf.datasets.base import Card, Dataset, Truth

SYNTHETIC = Card(
    name="synthetic",
    shape=(200, 100),
    kind="synthetic",
    about="planted factors; any size, rank, density and noise",
    source="jaxnmf",
    licence="none needed",
    rank=5,
)

NOISES = ("none", "gaussian", "poisson")


@no_type_check  # it checks its settings itself
def synthetic(
    m: int = 200,
    n: int = 100,
    rank: int = 5,
    density: float = 1.0,
    sparsity: float = 0.5,
    noise: str = "none",
    noise_level: float = 0.1,
    mean: float | None = None,
    seed: int = 0,
) -> Dataset:
    r"""V = W H from planted factors, with noise, dense or sparse.

    Each entry of W and H is 0 with probability `sparsity`, else exponentially
    distributed; no row or column of either is empty. Both are scaled by the same
    number, so that the mean entry of W H is `mean`. Dense V (`density = 1`):

    - `none`: V = W H
    - `gaussian`: V = max(W H + N, 0), ‖N‖_F = noise_level · ‖W H‖_F before the cut
    - `poisson`: V_ij ~ Poisson((W H)_ij)

    Sparse V (`density < 1`): a CSR array with about density · m · n non-zeros (fewer
    where Gaussian noise gives 0), without an m×n array in memory:

    - `none`, `gaussian`: V = B ∘ (W H + N), where B keeps each non-zero of W H with the
      same probability c. If the entries outside B are unknown, W H is exact; if
      they are zeros, E[V] = c W H (without noise).
    - `poisson`: V_ij ~ Poisson((W H)_ij) over the whole matrix, as in text counts. By
      superposition, component k draws Poisson(Σ_i W_ik Σ_j H_kj) tokens, each at row i
      with probability ∝ W_ik and column j ∝ H_kj; V counts them. The mean of W H is
      then the one that gives the density, the solution of E[1 − exp(−(W H)_ij)] =
      density.

    Args:
      m: rows.
      n: columns.
      rank: planted components p.
      density: share of entries stored, in (0, 1]; below 1, V is sparse.
      sparsity: share of zeros in W and H, in [0, 1). NMF is identifiable only when
        the factors have zeros.
      noise: "none", "gaussian" or "poisson".
      noise_level: relative size of Gaussian noise; unused otherwise.
      mean: mean entry of W H; None for 1, or with Poisson noise and density < 1 for the
        mean that gives the density.
      seed: of `numpy.random.default_rng`.

    Returns:
      The data set, in float64, with the planted factors as `truth`.

    Raises:
      ValueError: an option is out of its range, or W H has too few non-zeros for
        `density`.
    """
    m, n, rank = _count("m", m), _count("n", n), _count("rank", rank)
    density = _number("density", density, "in (0, 1]", lambda x: 0 < x <= 1)
    sparsity = _number("sparsity", sparsity, "in [0, 1)", lambda x: 0 <= x < 1)
    noise_level = _number("noise_level", noise_level, "≥ 0", lambda x: x >= 0)
    if noise not in NOISES:
        raise ValueError(f"noise={noise!r} must be one of {', '.join(NOISES)}")
    if mean is not None:
        mean = _number("mean", mean, "> 0", lambda x: x > 0)
        if noise == "poisson" and density < 1:
            raise ValueError(
                f"mean={mean} with Poisson noise and density={density}, which sets "
                "the mean; expected mean=None"
            )
    rng = np.random.default_rng(_count("seed", seed, least=0))

    W = _planted(rng, m, rank, sparsity)
    H = _planted(rng, rank, n, sparsity)
    scale = np.sqrt((mean or 1.0) / (W.mean(axis=0) @ H.mean(axis=1)))
    W, H = W * scale, H * scale
    models = {"none": "V = W H", "gaussian": "V = W H + N", "poisson": "E[V] = W H"}
    note = models[noise]
    if density == 1.0:
        V = W @ H
        if noise == "gaussian":
            V = np.maximum(V + _gaussian(rng, V, noise_level), 0.0)
        elif noise == "poisson":
            V = rng.poisson(V).astype(np.float64)
    elif noise == "poisson":
        scale = np.sqrt(_scale_for_density(rng, W, H, density))
        W, H = W * scale, H * scale
        V = _poisson_counts(rng, W, H)
    else:
        level = noise_level if noise == "gaussian" else 0.0
        V, kept = _sampled(rng, W, H, density, level)
        note += f" where V is stored; with zeros as data about E[V] = {kept:.3g} W H"
    return SYNTHETIC.dataset(
        V,
        rank=rank,
        loss="kullback-leibler" if noise == "poisson" else "frobenius",
        truth=Truth(W=W, H=H, note=note),
    )


def _planted(rng, rows: int, columns: int, sparsity: float) -> np.ndarray:
    """Exponential entries, `sparsity` of them 0, with no empty row or column."""
    keep = rng.random((rows, columns)) >= sparsity
    keep[np.arange(rows), rng.integers(columns, size=rows)] |= ~keep.any(axis=1)
    keep[rng.integers(rows, size=columns), np.arange(columns)] |= ~keep.any(axis=0)
    return keep * rng.exponential(size=(rows, columns))


def _gaussian(rng, X: np.ndarray, level: float) -> np.ndarray:
    """Noise N with ‖N‖_F = level · ‖X‖_F."""
    noise = rng.standard_normal(X.shape)
    return noise * (level * np.linalg.norm(X) / np.linalg.norm(noise))


def _entries(W: np.ndarray, H: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """(W H)_ij at the positions (i, j), one component at a time."""
    total = np.zeros(len(i))
    for w, h in zip(W.T, H, strict=True):
        total += w[i] * h[j]
    return total


def _at_random(rng, W, H, density: float, share: float = 1.0) -> np.ndarray:
    """Some entries of W H, refused if fewer than density / share of them are > 0."""
    i = rng.integers(W.shape[0], size=2**16)
    j = rng.integers(H.shape[1], size=2**16)
    values = _entries(W, H, i, j)
    reach = share * np.mean(values > 0)
    if density > reach:
        raise ValueError(
            f"density={density}: the planted W H allows at most about {reach:.3g}; use "
            "a lower sparsity or a higher rank"
        )
    return values


def _sampled(rng, W: np.ndarray, H: np.ndarray, density: float, level: float):
    """(B ∘ (W H + N), the probability c with which B keeps a non-zero)."""
    m, n = W.shape[0], H.shape[1]
    kept = min(1.0, density / np.mean(_at_random(rng, W, H, density) > 0))
    i, j = np.divmod(_distinct(rng, m * n, rng.binomial(m * n, kept)), n)
    values = _entries(W, H, i, j)
    i, j, values = i[values > 0], j[values > 0], values[values > 0]
    if level > 0 and values.size:
        values = np.maximum(values + _gaussian(rng, values, level), 0.0)
    V = _csr(values, i, j, (m, n))
    V.eliminate_zeros()
    return V, kept


def _distinct(rng, size: int, count: int) -> np.ndarray:
    """`count` distinct integers below `size`, in memory O(count)."""
    if count > size // 2:  # the few excluded are faster to draw
        return np.delete(np.arange(size), _distinct(rng, size, size - count))
    drawn = np.empty(0, dtype=np.int64)
    while drawn.size < count:
        more = rng.integers(size, size=count - drawn.size)
        drawn = np.sort(np.concatenate([drawn, more]))  # np.unique is far slower
        drawn = drawn[np.diff(drawn, prepend=-1) > 0]
    return drawn


def _scale_for_density(rng, W: np.ndarray, H: np.ndarray, density: float) -> float:
    """The s with E[1 − exp(−s (W H)_ij)] = density, the expectation by sampling."""
    from scipy.optimize import brentq

    # The counts diverge as the density approaches the share of non-zeros of W H.
    x = _at_random(rng, W, H, density, share=0.9)
    log_scale: Any = brentq(
        lambda t: np.mean(-np.expm1(-np.exp(t) * x)) - density, -50, 50
    )
    return float(np.exp(log_scale))


def _poisson_counts(rng, W: np.ndarray, H: np.ndarray):
    """V_ij ~ Poisson((W H)_ij), token by token."""
    rows, columns = [], []
    for w, h in zip(W.T, H, strict=True):
        tokens = rng.poisson(w.sum() * h.sum())
        rows.append(rng.choice(len(w), size=tokens, p=w / w.sum()))
        columns.append(rng.choice(len(h), size=tokens, p=h / h.sum()))
    i, j = np.concatenate(rows), np.concatenate(columns)
    return _csr(np.ones(len(i)), i, j, (W.shape[0], H.shape[1]))


def _csr(values: np.ndarray, i: np.ndarray, j: np.ndarray, shape: tuple[int, int]):
    """CSR array of the values, summed where positions repeat, with narrow indices."""
    from scipy.sparse import csr_array

    width = np.int32 if max(*shape, len(values)) < 2**31 else np.int64
    return csr_array((values, (i.astype(width), j.astype(width))), shape=shape)


def _count(name: str, value: Any, least: int = 1) -> int:
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Integral)
        or value < least
    ):
        raise ValueError(f"{name}={value!r} must be an integer ≥ {least}")
    return int(value)


def _number(name: str, value: Any, span: str, fits: Callable[[float], bool]) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Real)
        or not math.isfinite(value)
        or not fits(float(value))
    ):
        raise ValueError(f"{name}={value!r} must be a number {span}")
    return float(value)
