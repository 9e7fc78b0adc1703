"""Information criteria: the likelihood against the number of parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from jaxnmf.selection.base import (
    Data,
    Fit,
    Measured,
    Method,
    one_of,
    spread,
)
from jaxnmf.sweeps.result import SweepResult

FLAT = 2.0  # a difference of AIC or BIC that is "not worth more than a bare mention"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Information(Method):
    r"""AIC, BIC and MDL of the best run of each rank.

    With N known entries, d = p (m + n − p) free parameters (the dimension of the
    matrices of rank p) and L the likelihood, up to a constant that all ranks share,

        −2 log L = N log(2 D / N)   Frobenius: Gaussian noise of unknown variance
        −2 log L = 2 D              Kullback-Leibler: Poisson counts

        AIC = −2 log L + 2 d,   BIC = −2 log L + d log N,   MDL = BIC / 2.

    They are relative to their smallest. d does not allow for the bounds W, H ≥ 0 that
    are active, so the penalty of sparse factors is too large; a Poisson likelihood is
    meaningless for counts that are rescaled or overdispersed. With strong noise BIC,
    whose penalty of a component is log N / 2 times that of AIC, takes too few.

    The choice is the p of the smallest ``criterion``; none where all are within 2 of
    each other (1 for MDL; Kass & Raftery).

    Args:
      criterion: "bic" (as good as "mdl") or "aic".

    References: Akaike, "A new look at the statistical model identification", IEEE
    Trans. Automatic Control 19 (1974) [Akaike1974]; Schwarz, "Estimating the dimension
    of a model", Annals of Statistics 6 (1978) [Schwarz1978]; Rissanen, "Modeling by
    shortest data description", Automatica 14 (1978) [Rissanen1978]; Kass & Raftery,
    "Bayes factors", J. American Statistical Association 90 (1995) [Kass1995].
    """

    name: ClassVar[str] = "information"
    rule: ClassVar[str] = "the smallest information criterion"
    exact: ClassVar[float] = 0.0  # without noise there is no likelihood
    criterion: str = "bic"

    def __post_init__(self) -> None:
        one_of(self.name, "criterion", self.criterion, ("aic", "bic", "mdl"))

    def check(self, data: Data, ranks: Sequence[int], seeds: Sequence[int]) -> None:
        super().check(data, ranks, seeds)
        if data.loss.beta not in (1, 2):
            raise ValueError(
                "method 'information' has a likelihood for 'frobenius' and "
                f"'kullback-leibler', none for {data.loss!r}"
            )

    def measures(
        self, data: Data, ranks: Sequence[int], found: SweepResult
    ) -> dict[int, Measured]:
        known = int(found.builder.problems[0].operand.moments.known)
        return {
            rank: self._measured(data, known, rank, self.fits_at(found, rank))
            for rank in ranks
        }

    def _measured(self, data: Data, known: int, rank: int, fits: list[Fit]) -> Measured:
        objectives = [fit.objective for fit in fits]
        m, n = data.shape
        N, d = known, rank * (m + n - rank)
        D = max(min(objectives), float(np.finfo(np.float64).tiny) * N)
        fit = N * np.log(2 * D / N) if data.loss.quadratic else 2 * D
        bic = float(fit + d * np.log(N))
        row = {"aic": float(fit + 2 * d), "bic": bic, "mdl": bic / 2}
        row |= {
            "parameters": d,
            "objective": min(objectives),
            "objective_std": spread(objectives),
        }
        return Measured(row, {"objectives": np.array(objectives)})

    def complete_table(self, table: Any) -> Any:
        names = ["aic", "bic", "mdl"]
        table[names] = table[names] - table[names].min()
        return table

    def choose(self, table: Any) -> int:
        return int(table[self.criterion].idxmin())

    def near(self, table: Any, evidence: Any) -> list[int]:
        values = table[self.criterion].sort_values()
        return list(values.index[values <= self._flat])

    def doubt(self, table: Any, evidence: Any) -> str:
        if np.ptp(table[self.criterion]) < self._flat:
            return f"{self.criterion.upper()} differs by less than {self._flat:g}"
        return ""

    @property
    def _flat(self) -> float:
        return FLAT / 2 if self.criterion == "mdl" else FLAT
