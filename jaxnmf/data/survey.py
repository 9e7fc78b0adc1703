"""The sums over a V that is read block by block, found in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxnmf._util.blocks import row_blocks
from jaxnmf.data.containers import is_sparse

CACHED = 2**18  # entries that are looked at together, in the cache


class ReadError(ValueError):
    """A block of V cannot be read, or is not what it should be."""


class Survey(NamedTuple):
    """What one pass over the blocks finds.

    Attributes:
      starts: the first row of each block, and m.
      sparse: whether the blocks are SciPy sparse.
      stored: the entries of the block that stores most, and of all.
      low, high: the smallest and largest stored entry.
      least: the least positive one, infinite where there is none.
      total, absolute, squares: Σv, Σ|v| and Σv².
    """

    starts: np.ndarray
    sparse: bool
    stored: tuple[int, int]
    low: float
    high: float
    least: float
    total: float
    absolute: float
    squares: float

    def over(self, unit: float) -> Survey:
        """That of V divided by a power of two."""
        return self._replace(
            low=self.low / unit,
            high=self.high / unit,
            least=self.least / unit,
            total=self.total / unit,
            absolute=self.absolute / unit,
            squares=self.squares / unit / unit,
        )

    @property
    def largest(self) -> float:
        """The largest |v|."""
        return max(self.high, -self.low)


def survey(shape: tuple[int, int], blocks: Iterator[Any]) -> Survey:
    """The survey of a V of this shape, from its blocks in turn.

    Raises:
      ReadError: they do not have the rows of V, or are not of one kind.
    """
    m, n = shape
    starts, stored, sums, sparse = [0], [], _Sums(), False
    while starts[-1] < m:
        i = len(starts) - 1
        block = next(blocks, None)
        if block is None or not block.shape[0]:
            raise ReadError(
                f"V: its {i} blocks have {starts[-1]} rows; expected the {m} of "
                f"its shape ({m}, {n})"
            )
        sparse = is_sparse(block) if i == 0 else sparse
        if is_sparse(block) != sparse:
            raise ReadError(
                f"V: block {i} is {'not ' if sparse else ''}sparse, unlike those "
                "before it"
            )
        values = block.data if sparse else block
        stored.append(values.size)
        for part in _parts(values):
            sums.add(part)
        starts.append(starts[-1] + block.shape[0])
    if starts[-1] > m:
        raise ReadError(
            f"V: its blocks have {starts[-1]} rows; expected the {m} of its shape "
            f"({m}, {n})"
        )
    if not sum(stored):
        sums.low = sums.high = 0.0
    numbers = {name: float(x) for name, x in vars(sums).items()}
    return Survey(np.array(starts), sparse, (max(stored), sum(stored)), **numbers)


def sums_of(values: Iterable[np.ndarray]) -> _Sums:
    """The sums over the entries of some arrays."""
    sums = _Sums()
    for one in values:
        for part in _parts(one):
            sums.add(part)
    return sums


class _Sums:
    """The sums of `Survey`, of what was added so far."""

    def __init__(self) -> None:
        self.low, self.high, self.least = np.inf, -np.inf, np.inf
        self.total = self.absolute = self.squares = 0.0

    def add(self, part: np.ndarray) -> None:
        low = part.min()
        self.low = np.minimum(self.low, low)  # NaN where one is
        self.high = np.maximum(self.high, part.max())
        positive = part if low > 0 else np.where(part > 0, part, np.inf)
        self.least = min(self.least, positive.min())
        wide = part.astype(np.float64, copy=False)
        total = wide.sum()
        self.total += total
        self.absolute += np.abs(wide).sum() if low < 0 else total
        self.squares += np.square(wide).sum()


def _parts(values: np.ndarray) -> Iterator[np.ndarray]:
    """The entries, so many at a time that they stay in the cache."""
    columns = values[:1].size
    return (values[rows] for rows in row_blocks(len(values), columns, CACHED))
