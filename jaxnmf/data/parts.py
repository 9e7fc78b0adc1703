"""V on a mesh of which each process has only what its own devices need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnmf.data.placement import Placement
from jaxnmf.data.spread import gathered
from jaxnmf.data.survey import Survey, sums_of

TOLERATED = 1.1  # entries of the fullest part over the mean, that stay where they are


class Ranges(NamedTuple):
    """The rows of V, or its columns, that each part of a mesh has, padded to one
    height.

    Attributes:
      bounds: the first of each part, and the number of all.
      height: of a part, with what pads it.
    """

    bounds: np.ndarray
    height: int

    @classmethod
    def even(cls, size: int, height: int, parts: int) -> Ranges:
        """Parts of one height, what pads V at the end."""
        return cls(np.minimum(np.arange(parts + 1) * height, size), height)

    @classmethod
    def balanced(cls, counts: np.ndarray, own: Ranges) -> Ranges:
        """Parts of about as many stored entries, where those of ``own`` are not: of no
        more than about twice the mean of the entries, nor of the rows.

        Args:
          counts: the entries of each row.
          own: parts of one height.
        """
        total, parts = counts.sum(), len(own.bounds) - 1
        ends = np.concatenate([[0], np.cumsum(counts)])
        if np.diff(ends[own.bounds]).max() * parts <= TOLERATED * total:
            return own
        # Half by entries, half by rows: a part of many short rows would make all high.
        share = ends / total + np.arange(len(ends)) / len(counts)
        middle = (share[1:] + share[:-1]) / 2  # of each row
        bounds = np.searchsorted(middle, np.linspace(0, 2, parts + 1)[:-1])
        least = np.arange(parts)
        bounds = np.maximum.accumulate(bounds - least) + least  # a row for each
        bounds = np.minimum(bounds, len(counts) - parts + least)
        bounds = np.append(bounds, len(counts))
        return cls(bounds, int(np.diff(bounds).max()))

    @property
    def size(self) -> int:
        """How many there are."""
        return int(self.bounds[-1])

    @property
    def padded(self) -> int:
        """How many there are with what pads the parts."""
        return self.height * (len(self.bounds) - 1)

    @property
    def places(self) -> np.ndarray | None:
        """Where each is on the mesh, None where nothing pads."""
        if self.size == self.padded:
            return None
        first = np.arange(len(self.bounds) - 1) * self.height - self.bounds[:-1]
        return np.arange(self.size) + np.repeat(first, np.diff(self.bounds))

    @property
    def order(self) -> np.ndarray | None:
        """Their order on the mesh, where what pads V is the last of all; None where
        they stay in that order."""
        places = self.places
        if places is None or places[-1] == self.size - 1:
            return None
        pads = np.ones(self.padded, bool)
        pads[places] = False
        return np.argsort(np.concatenate([places, np.flatnonzero(pads)]))


class Parts(NamedTuple):
    """What was read of V onto a mesh.

    Attributes:
      ranges: of the rows of V and of its columns.
      blocks: a dense V as one array over the mesh, 0 where it is padded; of a sparse
        one the blocks of this process's devices, by their place (a, b) in the grid,
        each a CSR array of its rows and columns.
      placement: of V.
      survey: of all of V, the same in every process; its ``stored`` are the entries of
        the fullest block and of all.
    """

    ranges: tuple[Ranges, Ranges]
    blocks: jax.Array | Mapping[tuple[int, int], Any]
    placement: Placement
    survey: Survey

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        rows, columns = self.ranges
        return rows.size, columns.size


def survey_of(
    values: Iterable[np.ndarray], m: int, *, sparse: bool, together: bool
) -> Survey:
    """The survey of a V of m rows from the entries of each block of this process, by
    all processes together."""
    counted = list(values)
    counts = [x.size for x in counted]
    own = [*vars(sums_of(x for x in counted if x.size)).values(), max(counts)]
    found = gathered(np.array([*own, sum(counts)], np.float64), together).T
    low, high, least, *totals, most, entries = found
    stored = int(entries.sum())
    return Survey(
        starts=np.array([0, m]),
        sparse=sparse,
        stored=(int(most.max()), stored),
        low=float(low.min()) if stored else 0.0,
        high=float(high.max()) if stored else 0.0,
        least=float(least.min()),
        **dict(zip(_TOTALS, (float(x.sum()) for x in totals), strict=True)),
    )


_TOTALS = ("total", "absolute", "squares")
