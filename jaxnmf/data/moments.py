"""Moments of what is known of V."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf._util.blocks import row_blocks
from jaxnmf.data.spread import fetch
from jaxnmf.data.survey import Survey
from jaxnmf.types import pytree

BLOCK = 2**18  # entries that are summed in float64 at a time, in the cache


@pytree
class Moments:
    """Sums over the known entries of V, and its size.

    All are leaves, float64 on the host: V padded to a shape that programs share keeps
    its own, and no program is compiled for their values.

    Attributes:
      mean: of the known entries, with their weights.
      total: Σ|v|; of data observed in part, mn times the weighted mean of |v|.
      squares: Σ w v².
      smallest: of the known entries, of sparse V of those it stores.
      least: of the positive ones among these, infinite where there is none.
      largest: of the known |v|.
      known: how many entries are known.
      stored: how many are stored, without those that only pad V.
      rows, columns: m and n.
    """

    mean: Any
    total: Any
    squares: Any
    smallest: Any
    least: Any
    largest: Any
    known: Any
    stored: Any
    rows: Any
    columns: Any

    @classmethod
    def of(
        cls,
        data: jax.Array,
        weights: jax.Array | None,
        *,
        mean: float,
        smallest: float,
        shape: tuple[int, int],
    ) -> Moments:
        """Moments of a dense V (m, n), or of the entries (nnz,) that a sparse one
        stores.

        Args:
          data, weights: in the operand's precision.
          mean: of the known entries, by `weighted_mean` where there are weights.
          smallest: of the known entries, before they were rounded to this precision.
          shape: (m, n).
        """
        m, n = shape
        at_hand = _in_memory(data)
        sums = (_on_host if at_hand else _on_device)(data, weights)
        total, squares, whole, known = sums
        if weights is not None:
            total *= m * n / whole
        least, largest = _extremes(data, weights, at_hand)
        numbers = {
            "mean": mean,
            "total": total,
            "squares": squares,
            "smallest": np.dtype(data.dtype).type(smallest),
            "least": smallest if smallest > 0 else least,
            "largest": largest,
            "known": m * n if weights is None else known,
            "stored": data.size,
            "rows": m,
            "columns": n,
        }
        return cls(**{name: np.float64(x) for name, x in numbers.items()})

    @classmethod
    def of_survey(cls, found: Survey, shape: tuple[int, int], dtype: Any) -> Moments:
        """Moments of a V (m, n) that was surveyed part by part."""
        m, n = shape
        numbers = {
            "mean": found.total / (m * n),
            "total": found.absolute,
            "squares": found.squares,
            "smallest": np.dtype(dtype).type(found.low),
            "least": found.least,
            "largest": found.largest,
            "known": m * n,
            "stored": found.stored[1],
            "rows": m,
            "columns": n,
        }
        return cls(**{name: np.float64(x) for name, x in numbers.items()})

    @classmethod
    def beside(cls, parts: Sequence[Moments]) -> Moments:
        """Moments of several V of the same rows beside each other."""
        given = {
            f.name: [getattr(one, f.name) for one in parts]
            for f in dataclasses.fields(cls)
        }
        numbers = {
            "mean": np.average(given["mean"], weights=np.maximum(given["known"], 1)),
            "smallest": min(given["smallest"]),
            "least": min(given["least"]),
            "largest": max(given["largest"]),
            "rows": parts[0].rows,
        }
        sums = {name: sum(x) for name, x in given.items() if name not in numbers}
        return cls(**{k: np.float64(x) for k, x in {**sums, **numbers}.items()})

    @property
    def T(self) -> Moments:
        """Those of Vᵀ."""
        return dataclasses.replace(self, rows=self.columns, columns=self.rows)

    def sample(self, rows: Any) -> Moments:
        """Those of a sample of V's rows, as they are expected to be."""
        share = rows / self.rows
        return dataclasses.replace(
            self,
            total=self.total * share,
            squares=self.squares * share,
            known=self.known * share,
            stored=self.stored * share,
            rows=rows,
        )


def weighted_mean(values: Any, weights: np.ndarray) -> float:
    """Σ w v / Σ w of arrays of one precision, by the devices that hold the values."""
    if isinstance(values, jax.Array) and not _in_memory(values):
        return float((values * weights).sum() / weights.sum())
    return float(np.average(np.asarray(values), weights=weights))


def _in_memory(x: jax.Array) -> bool:
    """Whether NumPy can read an array without a copy."""
    return len(x.devices()) == 1 and next(iter(x.devices())).platform == "cpu"


def _on_host(data: jax.Array, weights: jax.Array | None) -> np.ndarray:
    """Σ w|v|, Σ w v², Σ w and how many weights are not 0; the last two are 0 without
    weights."""
    v, w = (x if x is None else np.asarray(x) for x in (data, weights))
    assert v is not None
    blocks = row_blocks(len(v), v[:1].size, BLOCK)
    parts = [_sums(v[rows], None if w is None else w[rows]) for rows in blocks]
    return np.sum(parts, axis=0) if parts else np.zeros(4)


def _sums(v: np.ndarray, w: np.ndarray | None) -> tuple[Any, ...]:
    # No BLAS: its threads wait on each other where the cores are busy.
    squares, sizes = np.square(v, dtype=np.float64), np.abs(v, dtype=np.float64)
    if w is None:
        return sizes.sum(), squares.sum(), 0.0, 0.0
    wide = w.astype(np.float64)
    return (sizes * w).sum(), (squares * w).sum(), wide.sum(), np.count_nonzero(w)


def _on_device(data: jax.Array, weights: jax.Array | None) -> np.ndarray:
    """The same by the devices that hold the data, row by row."""
    scale = float(jnp.abs(data).max()) or 1.0
    sizes = jnp.abs(data / scale)
    w = jnp.ones((), data.dtype) if weights is None else weights
    rows = [(sizes * w).sum(-1), (sizes * sizes * w).sum(-1)]
    if weights is not None:
        rows += [weights.sum(-1), (weights > 0).sum(-1)]
    sums = [float(fetch(x).sum(dtype=np.float64)) for x in rows]
    return np.array([*sums, 0.0, 0.0][:4]) * [scale, scale**2, 1, 1]


def _extremes(
    data: jax.Array, weights: jax.Array | None, at_hand: bool
) -> tuple[float, float]:
    """(the least entry > 0, the largest |v|) of the known entries."""
    if not data.size:
        return np.inf, 0.0
    if not at_hand:
        known = data if weights is None else jnp.where(weights > 0, data, 0)
        least = jnp.where(known > 0, known, np.inf).min()
        return float(least), float(jnp.abs(known).max())
    v, w = (x if x is None else np.asarray(x) for x in (data, weights))
    assert v is not None
    least, largest = np.inf, 0.0
    for rows in row_blocks(len(v), v[:1].size, BLOCK):
        block = v[rows] if w is None else np.where(w[rows] > 0, v[rows], 0)
        largest = max(largest, float(block.max()), -float(block.min()))
        least = min(least, float(np.where(block > 0, block, np.inf).min()))
    return least, largest
