"""Stability: are the same components found in resampled data?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from jaxnmf._util.checks import check_count
from jaxnmf.data.known import Known, is_sparse
from jaxnmf.data.observed import Observed
from jaxnmf.selection.base import (
    Data,
    Fit,
    Measured,
    Method,
    Sweep,
    best_by,
    fits,
    one_of,
    spread,
    within,
)
from jaxnmf.selection.components import matched, silhouettes, unit
from jaxnmf.sweeps.lane import DataPerSeed
from jaxnmf.sweeps.result import SweepResult


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stability(Method):
    r"""Stability of components under resampling of the data.

    Every seed has data of its own: V_ij (1 + noise·N(0, 1)), with negative values set
    to 0 ("gaussian"), or Poisson(V_ij) ("poisson", for counts). Of ``starts`` runs on
    them the one of the lowest objective is used, so that a bad local minimum is not
    taken for an unstable component. The components of these runs are matched one to one
    into p clusters, and each has a silhouette by cosine distance. The silhouette of a
    cluster is the mean of its members':

        silhouette_min   the smallest of the clusters, of the least stable component
        silhouette_mean  the mean of all

    The table also has the mean objective of the runs, each on its own data. Memory: one
    V for each seed.

    The choice is the largest p with silhouette_mean ≥ ``mean`` and silhouette_min ≥
    ``least``, since the objective falls with p; none where no p has both. (Islam et
    al., whose thresholds these are, go back to a smaller p as long as the samples'
    errors are not significantly larger by a rank-sum test.)

    Args:
      samples: whether samples are "rows" or "columns" of V; the components' profiles
        over the features, rows of H or columns of W, are what is compared.
      resample: "gaussian" or "poisson".
      noise: as a share of each entry ("gaussian"). It should be as large as the noise
        in V: with less, the noise of V is in every sample, and components that fit it
        are stable.
      starts: the number of runs on the data of each seed. Run i of seed s starts from
        seed s · starts + i.
      mean, least: as above.

    References: Alexandrov, Nik-Zainal, Wedge, Campbell & Stratton, "Deciphering
    signatures of mutational processes operative in human cancer", Cell Reports 3 (2013)
    [Alexandrov2013]; Alexandrov & Vesselinov, "Blind source separation for groundwater
    pressure analysis based on nonnegative matrix factorization", Water Resources
    Research 50 (2014) [Alexandrov2014], for silhouettes that fall beyond the right p;
    Islam et al., "Uncovering novel mutational signatures by de novo extraction with
    SigProfilerExtractor", Cell Genomics 2 (2022) [Islam2022], for the rule.
    """

    name: ClassVar[str] = "stability"
    rule: ClassVar[str] = "the largest p whose components are stable"
    least_seeds: ClassVar[int] = 2
    exact: ClassVar[float] = 1e-4  # components are no others at a better fit
    samples: str = "rows"
    resample: str = "gaussian"
    noise: float = 0.05
    starts: int = 3
    mean: float = 0.8
    least: float = 0.2

    def __post_init__(self) -> None:
        one_of(self.name, "samples", self.samples, ("rows", "columns"))
        one_of(self.name, "resample", self.resample, ("gaussian", "poisson"))
        within(self.name, "noise", self.noise, 0, np.inf)
        check_count(f"{self.name}: starts", self.starts)
        within(self.name, "mean", self.mean, -1, 1)
        within(self.name, "least", self.least, -1, 1)

    def run(
        self, sweep: Sweep, data: Data, ranks: Sequence[int], seeds: Sequence[int]
    ) -> SweepResult:
        k = self.starts
        starts = [seed * k + i for seed in seeds for i in range(k)]
        return super().run(sweep, data, ranks, starts)

    def data_per_seed(self, data: Data, seeds: Sequence[int]) -> DataPerSeed:
        samples = [seed // self.starts for seed in seeds]
        data_of = {
            sample: self._resampled(data.known, np.random.default_rng(sample))
            for sample in samples
        }
        masks = [data.known.weights] * len(seeds)
        return DataPerSeed([data_of[sample] for sample in samples], masks)

    def fits_at(self, found: SweepResult, rank: int) -> list[Fit]:
        """The run of the lowest objective on the data of each seed."""
        return best_by(fits(found, rank), lambda fit: fit.seed // self.starts)

    def _resampled(self, known: Known, rng: np.random.Generator) -> Any:
        V, weights = known
        if isinstance(V, Observed):
            values = self._resampled_values(V.values, rng)
            return Observed(V.rows, V.cols, values, V.shape, V.weights)
        if is_sparse(V):
            V = V.copy()
            V.data = self._resampled_values(V.data, rng)
            return V
        V = np.asarray(V)
        return self._resampled_values(
            V if weights is None else np.where(weights > 0, V, 0), rng
        )

    def _resampled_values(self, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        # A NaN stays one: the conversion refuses it.
        invalid = np.isnan(v)
        v = np.where(invalid, 0, v)
        if self.resample == "poisson":
            new = rng.poisson(np.maximum(v, 0)).astype(np.float64)
        else:
            new = np.maximum(v * (1 + self.noise * rng.standard_normal(v.shape)), 0)
        return np.where(invalid, np.nan, new)

    def measure(self, data: Data, rank: int, fits: list[Fit]) -> Measured:
        rows = self.samples == "rows"
        profiles = unit(np.stack([fit.H if rows else fit.Wt for fit in fits]))
        objectives = [fit.objective for fit in fits]
        order = matched(profiles, int(np.argmin(objectives)))
        members = np.take_along_axis(profiles, order[..., None], 1)
        values = silhouettes(members)
        by_cluster = values.mean(0)
        row = {
            "silhouette_min": float(by_cluster.min()),
            "silhouette_mean": float(values.mean()),
            "silhouette_std": spread(values.mean(1).tolist()),
            "objective": float(np.mean(objectives)),
            "objective_std": spread(objectives),
        }
        return Measured(row, {"silhouettes": values, "profiles": members.mean(0)})

    def _stable(self, table: Any) -> Any:
        mean, least = table["silhouette_mean"], table["silhouette_min"]
        return table.index[(mean >= self.mean) & (least >= self.least)]

    def choose(self, table: Any) -> int:
        return int(max(self._stable(table)))

    def near(self, table: Any, evidence: Any) -> list[int]:
        return sorted(self._stable(table), reverse=True)

    def doubt(self, table: Any, evidence: Any) -> str:
        if len(self._stable(table)):
            return ""
        best = int(table["silhouette_mean"].idxmax())
        return (
            f"no p has components with silhouettes of at least {self.mean:g} on "
            f"average and {self.least:g} each; nearest is p = {best}"
        )
