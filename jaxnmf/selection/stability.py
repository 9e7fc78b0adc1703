"""Stability: do the components come back when the data are perturbed?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from jaxnmf._util.checks import check_count
from jaxnmf.data.convert import is_sparse
from jaxnmf.data.observed import Observed
from jaxnmf.selection.base import (
    Data,
    Fit,
    Measured,
    Method,
    RankSelection,
    Sweep,
    best_by,
    curve,
    finish,
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

    Every seed fits data of its own: V_ij (1 + noise·N(0, 1)), kept ≥ 0 ("gaussian"), or
    Poisson(V_ij) ("poisson", for counts), and of ``starts`` runs on them the one of the
    lowest loss counts: else a bad local minimum passes for an unstable component. The
    components of these are matched one to one into p clusters, and each gets its
    silhouette by cosine distance. A cluster's silhouette is the mean of its members':

        silhouette_min   of the clusters: one component that does not come back
        silhouette_mean  of all

    with the loss of the runs, each on its own data. Memory: one V a seed.

    The choice is the largest p with silhouette_mean ≥ ``mean`` and silhouette_min ≥
    ``least``, since the loss falls with p; where there is none, the p of the highest
    mean. (Islam et al., whose thresholds these are, go back to a smaller p as long as
    the samples' errors are not significantly larger by a rank-sum test.)

    Args:
      samples: whether samples are "rows" or "columns" of V; the components' profiles
        over the features, rows of H or columns of W, are what is compared.
      resample: "gaussian" or "poisson".
      noise: share of each entry ("gaussian"). Make it as large as the noise in V: less
        leaves that in every sample, and with it components that fit noise come back.
      starts: runs on the data of a seed. Run i of seed s starts from seed
        s · starts + i.
      mean, least: as above.

    References: Alexandrov, Nik-Zainal, Wedge, Campbell & Stratton, "Deciphering
    signatures of mutational processes operative in human cancer", Cell Reports 3
    (2013); Alexandrov & Vesselinov, "Blind source separation for groundwater pressure
    analysis based on nonnegative matrix factorization", Water Resources Research 50
    (2014), for silhouettes that fall beyond the right p; Islam et al., "Uncovering
    novel mutational signatures by de novo extraction with SigProfilerExtractor", Cell
    Genomics 2 (2022), for the rule.
    """

    name: ClassVar[str] = "stability"
    rule: ClassVar[str] = "the largest p whose components are stable"
    least_seeds: ClassVar[int] = 2
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
        drawn = {
            sample: self._resampled(data.V, np.random.default_rng(sample))
            for sample in samples
        }
        masks = None if data.mask is None else [data.mask] * len(seeds)
        return DataPerSeed([drawn[sample] for sample in samples], masks)

    def kept(self, found: SweepResult, rank: int) -> list[Fit]:
        """Of each seed's data the run of the lowest loss."""
        return best_by(fits(found, rank), lambda fit: fit.seed // self.starts)

    def _resampled(self, V: Any, rng: np.random.Generator) -> Any:
        if isinstance(V, Observed):
            values = self._drawn(V.values, rng)
            return Observed(V.rows, V.cols, values, V.shape, V.weights)
        if is_sparse(V):
            V = V.tocsr(copy=True)
            V.data = self._drawn(V.data, rng)
            return V
        return self._drawn(np.asarray(V), rng)

    def _drawn(self, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        unknown = np.isnan(v)
        v = np.where(unknown, 0, v)
        if self.resample == "poisson":
            new = rng.poisson(np.maximum(v, 0)).astype(np.float64)
        else:
            new = np.maximum(v * (1 + self.noise * rng.standard_normal(v.shape)), 0)
        return np.where(unknown, np.nan, new)

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

    def choose(self, table: Any) -> int:
        mean, least = table["silhouette_mean"], table["silhouette_min"]
        stable = table.index[(mean >= self.mean) & (least >= self.least)]
        return int(max(stable)) if len(stable) else int(mean.idxmax())

    def draw(self, selection: RankSelection, figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        curve(left, selection, "silhouette_min", label="silhouette, least component")
        curve(
            left,
            selection,
            "silhouette_mean",
            "silhouette_std",
            label="silhouette, mean",
            marker="s",
        )
        for limit, color in ((self.least, "C0"), (self.mean, "C1")):
            left.axhline(limit, color=color, lw=0.8, ls="--", alpha=0.6)
        finish(left, selection, "silhouette (cosine)")
        left.set_ylim(top=1.05)
        other = left.twinx()
        curve(
            other,
            selection,
            "objective",
            "objective_std",
            label="objective",
            color="C3",
            marker="^",
        )
        other.set_ylabel("objective", color="C3")
        other.set_ylim(bottom=0)
        left.legend(frameon=False, fontsize=8, loc="lower left")
        draw_silhouettes(right, selection.evidence[selection.rank]["silhouettes"])
        right.set_title(f"silhouettes by component, p = {selection.rank}", fontsize=9)


def draw_silhouettes(axis: Any, values: np.ndarray) -> None:
    """The picture of Rousseeuw: a bar a component and run, sorted within clusters."""
    start = 0
    for k in np.argsort(-values.mean(0)):
        bars = np.sort(values[:, k])
        axis.barh(start + np.arange(len(bars)), bars, height=1.0, color=f"C{k % 10}")
        axis.text(-0.02, start + len(bars) / 2, k + 1, ha="right", va="center")
        start += len(bars) + max(2, len(bars) // 8)
    axis.axvline(values.mean(), color="0.3", lw=0.8, ls="--")
    axis.set_xlim(min(0.0, values.min()), 1)
    axis.set_yticks([])
    axis.set_xlabel("silhouette (cosine)")
    axis.set_ylabel("component", labelpad=14)
    axis.spines[["top", "right", "left"]].set_visible(False)
