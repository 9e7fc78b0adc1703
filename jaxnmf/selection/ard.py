"""Automatic relevance determination: the components that remain of a large rank."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from jaxnmf.data.convert import as_operand
from jaxnmf.registry import make_solver
from jaxnmf.run.programs import precision
from jaxnmf.run.stop import Stop
from jaxnmf.selection.base import (
    Data,
    Fit,
    Measured,
    Method,
    Sweep,
    fits,
    one_of,
    within,
)
from jaxnmf.solvers.ard import ARD
from jaxnmf.sweeps.result import SweepResult
from jaxnmf.types import Factors

PILOT_SEEDS = (0, 1, 2)
LEAST_DISPERSION = 0.01  # of an estimate, in units of μ^β


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relevance(Method):
    r"""Automatic relevance determination, by the solver `ard`.

    Every seed starts with the largest of the ranks; the effective rank of a run is how
    many of its relevance weights are above their bound, (λ_k − b/c)/(b/c) >
    ``threshold``. The table has the share of runs that end at each p, and their mean
    objective; the choice is the p of the most runs, the smallest of a tie; none
    where every component remains, or no two runs agree.

    The noise must be that of the loss. For Frobenius φ is one variance for all entries;
    where noise grows with them (V = WH ∘ noise), the residual of the large entries is
    far above φ, and components are spent on it.

    Args:
      dispersion: φ, as D/φ is minus the logarithm of the likelihood; None for 1 with
        Kullback-Leibler (Poisson counts), and else from three runs without a prior at
        the largest rank: for Frobenius 2D/(mn − p (m + n − p)), the variance of
        Gaussian noise, for other β-divergences D over the same. An estimate is at least
        0.01 μ^β, μ the mean of V: with less noise the prior is so weak that components
        which split one of the data's have not merged after 10000 iterations.
      a, prior: of the solver; with "l2" unused components stay above the bound, and
        ``threshold`` must be larger.
      threshold: as above.

    Reference: Tan & Févotte, "Automatic relevance determination in nonnegative matrix
    factorization with the β-divergence", IEEE Trans. PAMI 35 (2013) [Tan2013].
    """

    name: ClassVar[str] = "ard"
    rule: ClassVar[str] = "the number of relevant components of most runs"
    solver: ClassVar[str | None] = "ard"
    stop: ClassVar[Stop] = Stop(max_iter=10000, tol=0.0)
    dispersion: float | None = None
    a: float = 5.0
    prior: str = "l1"
    threshold: float = 1e-2

    def __post_init__(self) -> None:
        one_of(self.name, "prior", self.prior, ("l1", "l2"))
        within(self.name, "a", self.a, 1 if self.prior == "l2" else 2, np.inf)
        within(self.name, "threshold", self.threshold, 0, np.inf)
        if self.dispersion is not None:
            within(self.name, "dispersion", self.dispersion, 0, np.inf)

    def check(self, data: Data, ranks: Sequence[int], seeds: Sequence[int]) -> None:
        super().check(data, ranks, seeds)
        if data.loss.beta is None:
            raise ValueError(f"method 'ard' is for β-divergences, not {data.loss!r}")

    def run(
        self, sweep: Sweep, data: Data, ranks: Sequence[int], seeds: Sequence[int]
    ) -> SweepResult:
        most = max(ranks)
        beta = data.loss.beta
        unit = mean_of(data) ** beta
        if self.dispersion is not None or beta == 1:
            dispersion = (self.dispersion or 1.0) / unit
        else:
            estimate = self._estimate(sweep, data, most) / unit
            dispersion = max(estimate, LEAST_DISPERSION)
        options = {"dispersion": dispersion, "a": self.a, "prior": self.prior}
        given = {"solver": make_solver("ard", options), "mask": data.mask}
        return sweep(data.V, [most], seeds, **given)

    def _estimate(self, sweep: Sweep, data: Data, most: int) -> float:
        name = "hals" if data.loss.quadratic else "mu"
        given = {"solver": make_solver(name), "folder": None}
        found = sweep(data.V, [most], PILOT_SEEDS, mask=data.mask, **given)
        D = min(fit.objective for fit in fits(found, most))
        m, n = data.shape
        left = m * n - most * (m + n - most)
        return (2 if data.loss.quadratic else 1) * D / (left if left > 0 else m * n)

    def measures(
        self, data: Data, ranks: Sequence[int], found: SweepResult
    ) -> dict[int, Measured]:
        runs = fits(found, max(ranks))
        relevance = np.stack([self._relevance(found, fit) for fit in runs])
        ends = (relevance > self.threshold).sum(1)
        rows = {}
        for rank in sorted({*ranks, *(int(end) for end in ends if end)}):
            here = ends == rank
            objectives = [
                fit.objective
                for fit, is_here in zip(runs, here, strict=True)
                if is_here
            ]
            row = {
                "share": float(here.mean()),
                "runs": int(here.sum()),
                "objective": float(np.mean(objectives)) if objectives else float("nan"),
            }
            rows[rank] = Measured(row, {"relevance": relevance[here]})
        return rows

    def _relevance(self, found: SweepResult, fit: Fit) -> np.ndarray:
        solver: ARD = found.builder.solver
        with precision(found.builder.dtype.name):
            problem = found.builder.problems[found.builder.data_of_seed[fit.seed]]
            own = problem.units.inverse.of(Factors(fit.Wt, fit.H))  # pyright: ignore
            factors = Factors(*map(jnp.asarray, own))
            return np.asarray(solver.relevance(problem, factors))

    def choose(self, table: Any) -> int:
        return int(table["share"].idxmax())

    def near(self, table: Any, evidence: Mapping[int, Mapping[str, Any]]) -> list[int]:
        runs = table["runs"].sort_values(ascending=False, kind="stable")
        return list(runs.index[2 * runs >= runs.iloc[0]])

    def doubt(self, table: Any, evidence: Mapping[int, Mapping[str, Any]]) -> str:
        ends, start = table["runs"], max(table.index)
        if not ends.any():
            return "no component is relevant in any run"
        if ends.max() == 1 < ends.sum():
            return "no two runs end at the same p"
        if self.choose(table) == start:
            return f"no component fades; start from more than {start}"
        return ""

    def fits_at(self, found: SweepResult, rank: int) -> list[Fit]:
        """The relevant components of the runs that ended at the rank."""
        most = found.lanes[0].rank
        found_fits = []
        for fit in fits(found, most):
            relevant = self._relevance(found, fit) > self.threshold
            if relevant.sum() == rank:
                found_fits.append(fit._replace(Wt=fit.Wt[relevant], H=fit.H[relevant]))
        if not found_fits:
            raise ValueError(f"no run ended at rank {rank}")
        return found_fits


def mean_of(data: Data) -> float:
    """The mean of what is known of V."""
    with precision("float64"):
        return float(as_operand(data.V, "float64", mask=data.mask).moments.mean)
