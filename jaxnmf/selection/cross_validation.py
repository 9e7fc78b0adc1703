"""Cross-validation: entries held out at random are predicted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from jaxnmf.data.observed import Observed
from jaxnmf.selection.base import Data, Measured, one_of, within
from jaxnmf.selection.held_out import RULES, HeldOut, best_of_parts, held_out_error
from jaxnmf.sweeps.lane import DataPerSeed
from jaxnmf.sweeps.result import SweepResult


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossValidation(HeldOut):
    r"""Cross-validation over entries that are held out at random.

    In each of ``repeats`` parts a ``share`` of the known entries of V is held out and
    the others are fitted, as data observed in part; the seeds take the parts in turn,
    and of each part the run of the lowest objective on the fitted entries is used. The
    error is Σ w φ(v, x) / Σ w over the held-out entries, φ the loss; error_se is the
    standard error of its mean over the parts. A sparse V is made dense: its zeros are
    known. Memory: two matrices (m, n) for each part.

    The choice is the smallest p whose mean error is within one standard error of the
    smallest ("one_se"), or the p of the smallest ("smallest"). Both find planted ranks
    where noise is small; "smallest" sometimes takes one more, where the curve is flat
    beyond the right p.

    Args:
      share: the share of the known entries that is held out in each part.
      repeats: the number of parts, ≥ 2.
      select: "one_se" or "smallest".

    References: Wold, "Cross-validatory estimation of the number of components in factor
    and principal components models", Technometrics 20 (1978) [Wold1978]; Kanagal &
    Sindhwani, "Rank selection in low-rank matrix approximations: a study of
    cross-validation for NMFs", NIPS workshop (2010) [Kanagal2010].
    """

    name: ClassVar[str] = "cross_validation"
    rule: ClassVar[str] = "the smallest p with a held-out error near the lowest"
    share: float = 0.1
    repeats: int = 5

    def __post_init__(self) -> None:
        within(self.name, "share", self.share, 0, 1)
        within(self.name, "repeats", self.repeats, 1, np.inf)
        one_of(self.name, "select", self.select, RULES)

    def parts(self, data: Data) -> int:
        return self.repeats

    def split(self, known: Observed, part: int) -> tuple[Observed, Observed]:
        """(fitted entries, held-out entries) of a part, by its number alone."""
        count = int(self.share * known.nnz)
        if not 0 < count < known.nnz:
            raise ValueError(
                f"cross_validation: share={self.share!r} of {known.nnz} known entries "
                "leaves none to hold out or to fit"
            )
        order = np.random.default_rng([part, known.nnz]).permutation(known.nnz)
        out = np.sort(order[:count])
        return known.take(np.sort(order[count:])), known.take(out)

    def data_per_seed(self, data: Data, seeds: Sequence[int]) -> DataPerSeed:
        known = data.known.observed()
        return DataPerSeed([self.split(known, i)[0] for i in range(self.repeats)])

    def measures(
        self, data: Data, ranks: Sequence[int], found: SweepResult
    ) -> dict[int, Measured]:
        known, turns = data.known.observed(), found.builder.data_of_seed
        held_out = [self.split(known, i)[1] for i in range(self.repeats)]
        measures = {}
        for rank in ranks:
            best = best_of_parts(found, rank, self.repeats)
            errors = [
                held_out_error(data.loss, held_out[turns[x.seed]], x) for x in best
            ]
            measures[rank] = self.measured(errors, best)
        return measures
