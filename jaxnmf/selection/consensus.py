"""Consensus clustering: are samples in the same clusters whatever the seed?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from jaxnmf.metrics import cluster_by_component
from jaxnmf.selection.base import (
    Data,
    Fit,
    Measured,
    Method,
    one_of,
    spread,
)
from jaxnmf.shapes import Float, Int

GROUPS = 5  # of the jackknife


@dataclasses.dataclass(frozen=True, kw_only=True)
class Consensus(Method):
    r"""Consensus clustering of samples over random starts.

    C_ij is the share of runs that put samples i and j into one cluster, each sample
    being in that of its largest component (`jaxnmf.metrics.cluster_by_component`).

        cophenetic  correlation of 1 − C with the cophenetic distances of its average
                    linkage; 1 where C is constant
        dispersion  4 Σ_ij (C_ij − ½)² / m²
        pac         share of pairs i < j with u1 < C_ij ≤ u2

    cophenetic_se is a jackknife over groups of runs. All are perfect, 1, 1 and 0, where
    every run agrees. Memory: m² numbers.

    The choice is the largest p whose cophenetic correlation is within ``slack`` of the
    highest, before it falls. (Brunet et al. choose where it begins to fall; with
    ``slack`` 0 only the highest is taken.) None is chosen where it does not fall,
    or the clusters have two samples or fewer on average.

    Args:
      samples: whether samples are "rows" or "columns" of V.
      slack: as above.
      u1, u2: a pair between them is ambiguous.

    References: Brunet, Tamayo, Golub & Mesirov, "Metagenes and molecular pattern
    discovery using matrix factorization", PNAS 101 (2004) [Brunet2004]; Kim & Park,
    "Sparse non-negative matrix factorizations via alternating
    non-negativity-constrained least squares for microarray data analysis",
    Bioinformatics 23 (2007) [Kim2007], for dispersion; Șenbabaoğlu, Michailidis & Li,
    "Critical limitations of consensus clustering in class discovery", Scientific
    Reports 4 (2014) [Senbabaoglu2014], for PAC.
    """

    name: ClassVar[str] = "consensus"
    rule: ClassVar[str] = "the largest p before the cophenetic correlation falls"
    least_seeds: ClassVar[int] = 2
    exact: ClassVar[float] = 1e-4  # components are no others at a better fit
    samples: str = "rows"
    slack: float = 0.005
    u1: float = 0.1
    u2: float = 0.9

    def __post_init__(self) -> None:
        one_of(self.name, "samples", self.samples, ("rows", "columns"))
        if not 0 <= self.u1 < self.u2 <= 1:
            raise ValueError(
                f"consensus: u1={self.u1!r} and u2={self.u2!r} must be 0 ≤ u1 < u2 ≤ 1"
            )

    def check(self, data: Data, ranks: Sequence[int], seeds: Sequence[int]) -> None:
        super().check(data, ranks, seeds)
        if min(ranks) < 2:
            raise ValueError(
                "ranks: with 1 every sample is in one cluster, in all runs; "
                "method 'consensus' is for ranks from 2 on"
            )

    def measure(self, data: Data, rank: int, fits: list[Fit]) -> Measured:
        labels = np.stack([self._labels(fit) for fit in fits])
        C = consensus(labels)
        coefficient, order = cophenetic(C)
        row = {
            "cophenetic": coefficient,
            "cophenetic_se": jackknife(labels),
            "dispersion": dispersion(C),
            "pac": pac(C, self.u1, self.u2),
            "objective": float(np.mean([fit.objective for fit in fits])),
            "objective_std": spread([fit.objective for fit in fits]),
        }
        return Measured(row, {"consensus": C, "order": order, "labels": labels})

    def _labels(self, fit: Fit) -> np.ndarray:
        W, H = fit.Wt.T, fit.H
        if self.samples == "columns":
            W, H = H.T, W.T
        return cluster_by_component(W, H)

    def choose(self, table: Any) -> int:
        rho = table["cophenetic"]
        return int(max(rho.index[rho >= rho.max() - self.slack]))

    def near(self, table: Any, evidence: Mapping[int, Mapping[str, Any]]) -> list[int]:
        rho, error = table["cophenetic"], table["cophenetic_se"].fillna(0.0)
        near = rho[rho + error >= rho.max() - self.slack]
        return list(near.sort_values(ascending=False).index)

    def doubt(self, table: Any, evidence: Mapping[int, Mapping[str, Any]]) -> str:
        rho, rank = table["cophenetic"], self.choose(table)
        size = evidence[rank]["labels"].shape[1]
        if size <= 2 * rank:
            return f"too few samples: {rank} clusters of {size} have two or fewer each"
        if (rho >= rho.max() - self.slack).all():
            return "the cophenetic correlation does not fall at any p"
        return ""


def consensus(labels: Int[np.ndarray, "r m"]) -> Float[np.ndarray, "m m"]:
    """The share of clusterings in which two samples are in one cluster."""
    together = np.zeros((labels.shape[1],) * 2)
    for one in labels:
        member = np.eye(one.max() + 1)[one]
        together += member @ member.T
    return together / len(labels)


def cophenetic(C: Float[np.ndarray, "m m"]) -> tuple[float, Int[np.ndarray, " m"]]:
    """The cophenetic correlation of a consensus matrix, and the order of its leaves."""
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    if len(C) < 2:
        return 1.0, np.arange(len(C))
    distances = squareform(1 - C, checks=False)
    tree = hierarchy.linkage(distances, "average")
    order = hierarchy.leaves_list(tree)
    if np.ptp(distances) == 0:
        return 1.0, order
    heights = hierarchy.cophenet(tree)
    return float(np.corrcoef(distances, heights)[0, 1]), order


def dispersion(C: Float[np.ndarray, "m m"]) -> float:
    """4 Σ_ij (C_ij − ½)² / m²: 1 where every entry is 0 or 1."""
    return float(4 * np.mean((C - 0.5) ** 2))


def pac(C: Float[np.ndarray, "m m"], u1: float = 0.1, u2: float = 0.9) -> float:
    """The proportion of ambiguous clustering: of pairs with u1 < C_ij ≤ u2."""
    pairs = C[np.triu_indices(len(C), 1)]
    return float(np.mean((pairs > u1) & (pairs <= u2))) if len(pairs) else 0.0


def jackknife(labels: Int[np.ndarray, "r m"]) -> float:
    """Standard error of the cophenetic correlation, leaving out a group of runs at a
    time: √((g − 1)/g Σ (ρ_i − ρ̄)²). NaN for two runs."""
    groups = min(GROUPS, len(labels))
    if len(labels) < 3:
        return float("nan")
    parts = np.array_split(np.arange(len(labels)), groups)
    rho = [cophenetic(consensus(np.delete(labels, part, 0)))[0] for part in parts]
    return float(np.sqrt((groups - 1) * np.var(rho)))
