"""A sparse V of which each process has only what its own devices need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnmf.data.placement import Placement
from jaxnmf.data.spread import gathered
from jaxnmf.data.survey import Survey, sums_of


class Parts(NamedTuple):
    """A sparse V as the blocks of this process's devices.

    Attributes:
      shape: (m, n), which divides over the mesh.
      blocks: by their place (a, b) in the grid of the mesh, each a CSR array of its
        rows and columns.
      placement: of V.
      survey: of all of V, the same in every process; its ``stored`` are the entries of
        the fullest block and of all.
    """

    shape: tuple[int, int]
    blocks: Mapping[tuple[int, int], Any]
    placement: Placement
    survey: Survey

    @classmethod
    def of(
        cls,
        shape: tuple[int, int],
        blocks: Mapping[tuple[int, int], Any],
        placement: Placement,
    ) -> Parts:
        """The parts, surveyed by all processes together."""
        counts = [block.nnz for block in blocks.values()]
        sums = sums_of(block.data for block in blocks.values())
        own = [*vars(sums).values(), max(counts), sum(counts)]
        found = gathered(np.array(own, np.float64), placement.several_processes).T
        low, high, least, *totals, most, entries = found
        entries = int(entries.sum())
        return cls(
            shape,
            blocks,
            placement,
            Survey(
                starts=np.array([0, shape[0]]),
                sparse=True,
                stored=(int(most.max()), entries),
                low=float(low.min()) if entries else 0.0,
                high=float(high.max()) if entries else 0.0,
                least=float(least.min()),
                **dict(zip(_TOTALS, (float(x.sum()) for x in totals), strict=True)),
            ),
        )


_TOTALS = ("total", "absolute", "squares")
