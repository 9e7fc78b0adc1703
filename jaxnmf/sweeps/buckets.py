"""Buckets: the few ranks that the ranks of a sweep are padded to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

WASTE = 0.25  # of the work, what padding to a bucket's rank may add


def buckets(ranks: Sequence[int], most: float = WASTE) -> dict[int, int]:
    """The bucket rank that each rank is padded to.

    As few buckets as keep the waste of all lanes together below ``most``, and of those
    the ones with the least waste, by dynamic programming. The work of a lane is assumed
    proportional to its rank, as its products with V are.
    """
    distinct = sorted(set(ranks))
    counts = [sum(rank == one for rank in ranks) for one in distinct]
    work = sum(rank * count for rank, count in zip(distinct, counts, strict=True))

    def cost(first: int, last: int) -> int:
        """Of the ranks first … last padded to the last."""
        return distinct[last] * sum(counts[first : last + 1])

    n = len(distinct)
    # best[j]: (work, ends of the buckets) of the first j ranks in so many buckets.
    best: list[tuple[float, tuple[int, ...]]] = [(0, ())] + [(np.inf, ())] * n
    for _ in range(n):
        best = [(np.inf, ())] + [
            min(
                (best[i][0] + cost(i, j), (*best[i][1], distinct[j]))
                for i in range(j + 1)
            )
            for j in range(n)
        ]
        if best[n][0] < (1 + most) * work:
            break
    return {rank: next(end for end in best[n][1] if end >= rank) for rank in distinct}


def waste(ranks: Sequence[int], sizes: Mapping[int, int]) -> float:
    """The share of the work that padding adds."""
    return sum(sizes[rank] for rank in ranks) / sum(ranks) - 1
