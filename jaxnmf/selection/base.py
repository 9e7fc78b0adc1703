"""The methods of rank selection and its result: the classes that they share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from jaxnmf._util.names import suggestion
from jaxnmf.data.known import Known, what_is_known
from jaxnmf.fold_in import fit_W
from jaxnmf.run.stop import RECORD_EVERY, Stop
from jaxnmf.selection.components import median_components
from jaxnmf.shapes import Float
from jaxnmf.sweeps.result import SweepResult
from jaxnmf.types import Status

UNSETTLED = 1e-2  # change of an objective over ten iterations, relative to itself


class Fit(NamedTuple):
    """A lane of a sweep that did not diverge."""

    seed: int
    Wt: Float[np.ndarray, "p m"]
    H: Float[np.ndarray, "p n"]
    objective: float


class Measured(NamedTuple):
    """The measures of one rank: a row of the table, and arrays for its pictures."""

    row: dict[str, float]
    evidence: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """V and its mask as they were given, the shape of V, and the loss."""

    V: Any
    mask: Any
    shape: tuple[int, int]
    loss: Any

    @functools.cached_property
    def known(self) -> Known:
        """What is known of V."""
        return what_is_known(self.V, self.mask)


Sweep = Callable[..., SweepResult]
"""sweep(V, ranks, seeds, **changes): with all else as it was given to `select_rank`."""


class Method:
    """A method of rank selection: a frozen dataclass of its options.

    A subclass gives ``measure``, ``choose`` and ``near``, and ``data_per_seed`` where
    each seed has data of its own; its pictures are in `jaxnmf.plots`.
    """

    name: ClassVar[str] = ""
    rule: ClassVar[str] = ""
    least_seeds: ClassVar[int] = 1
    solver: ClassVar[str | None] = None  # where the method is a solver's own
    consensus: ClassVar[bool] = True  # whether the runs' components may be merged
    # A criterion compares objectives of different p: runs go on until they change by
    # little of themselves. What is below `exact` times the first is an exact fit.
    stop: ClassVar[Stop] = Stop(max_iter=2000, tol=1e-10, settle=1e-3)
    exact: ClassVar[float] = 1e-8

    def check(self, data: Data, ranks: Sequence[int], seeds: Sequence[int]) -> None:
        """Raise a ValueError for what does not fit, before anything is run."""
        if len(seeds) < self.least_seeds:
            raise ValueError(
                f"seeds={list(seeds)}: method {self.name!r} compares runs; give at "
                f"least {self.least_seeds} seeds"
            )

    def limit(self, data: Data) -> tuple[int, str]:
        """The largest rank that can be judged, and why none above it can."""
        axis = int(np.argmin(data.shape))
        size, name = data.shape[axis], ("rows", "columns")[axis]
        return size - 1, f"as many components as V has {name} ({size}) fit every V"

    def data_per_seed(self, data: Data, seeds: Sequence[int]) -> Any:
        """The data of the sweep: V itself, or `DataPerSeed`."""
        return data.V

    def run(
        self, sweep: Sweep, data: Data, ranks: Sequence[int], seeds: Sequence[int]
    ) -> SweepResult:
        """Every run that is needed, in one sweep."""
        V = self.data_per_seed(data, seeds)
        return sweep(V, ranks, seeds, mask=data.mask if V is data.V else None)

    def measure(self, data: Data, rank: int, fits: list[Fit]) -> Measured:
        raise NotImplementedError

    def measures(
        self, data: Data, ranks: Sequence[int], found: SweepResult
    ) -> dict[int, Measured]:
        """The measures of each rank, the smallest rank first."""
        return {
            rank: self.measure(data, rank, self.fits_at(found, rank)) for rank in ranks
        }

    def complete_table(self, table: Any) -> Any:
        """The table with the columns that depend on all ranks."""
        return table

    def choose(self, table: Any) -> int:
        """The rank of the rule, from the table with a row for each rank."""
        raise NotImplementedError

    def near(self, table: Any, evidence: Mapping[int, Mapping[str, Any]]) -> list[int]:
        """The ranks that are nearly as good as the chosen one, the best first."""
        raise NotImplementedError

    def doubt(self, table: Any, evidence: Mapping[int, Mapping[str, Any]]) -> str:
        """Why the table does not distinguish the ranks, empty where it does."""
        return ""

    def settled(self, run: Any) -> bool:
        """Whether the objective of a run is near its end, and no matter of when the run
        stopped."""
        iteration, objective = np.asarray(run.trace[:2], np.float64)
        if len(objective) < 2 or objective[-1] <= self.exact * objective[0]:
            return True
        tens = (iteration[-1] - iteration[-2]) / RECORD_EVERY
        change = abs(objective[-2] - objective[-1]) / tens
        return bool(change <= UNSETTLED * objective[-1])

    def fits_at(self, found: SweepResult, rank: int) -> list[Fit]:
        """The runs of a rank that are measured, and whose components are merged."""
        return fits(found, rank)


def fits(found: SweepResult, rank: int) -> list[Fit]:
    """The lanes of a rank that did not diverge.

    Raises:
      ValueError: where there is none.
    """
    pairs = zip(found.lanes, found.runs, strict=True)
    found_fits = [
        Fit(
            seed=lane.seed,
            Wt=np.asarray(run.factors.Wt),
            H=np.asarray(run.factors.H),
            objective=float(run.trace.objective[-1]),
        )
        for lane, run in pairs
        if lane.rank == rank
        and run is not None
        and int(run.status) != Status.DIVERGED.code
    ]
    if not found_fits:
        raise ValueError(f"every run of rank {rank} diverged; try another solver")
    return found_fits


def best_by(fits: Sequence[Fit], part: Callable[[Fit], int]) -> list[Fit]:
    """The run of the lowest objective of each part, in the order of the parts."""
    best: dict[int, Fit] = {}
    for fit in fits:
        here = part(fit)
        if here not in best or fit.objective < best[here].objective:
            best[here] = fit
    return [best[here] for here in sorted(best)]


def spread(values: Sequence[float]) -> float:
    """The standard deviation of values over runs, 0 for one run."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def listed(ranks: Sequence[int]) -> str:
    """Ranks as part of a message: ``"p = 3, 4"``."""
    return f"p = {', '.join(map(str, ranks))}"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RankSelection:
    """A choice of p: the rank, and the measures it was chosen by.

    `jaxnmf.plots.selection` draws it.

    Attributes:
      method: the method with its options; ``method.rule`` is its rule in words.
      rank: the chosen p; None where the method cannot decide.
      reason: why this p, or why none.
      table: a `pandas.DataFrame` with a row for each rank: the method's measures and
        their spread, and the share of runs that were near their end when they stopped,
        "settled". Ranks that cannot be judged have no measures and a "note".
      evidence: {rank: {name: array}}, further arrays that are drawn.
      sweep: all runs; None, as data is, in a selection that was read from a study,
        which has all that is drawn.
      dtype: the precision of the runs.

    Example:
      >>> import numpy as np, jaxnmf
      >>> rng = np.random.default_rng(0)
      >>> V = rng.gamma(0.3, size=(30, 3)) @ rng.gamma(0.3, size=(3, 20))
      >>> V *= rng.gamma(100, 0.01, size=V.shape)
      >>> choice = jaxnmf.select_rank(V, [2, 3, 4], method="information", seeds=3)
      >>> choice.rank, choice.candidates, list(choice.table.index)
      (3, [3], [2, 3, 4])
      >>> W, H = choice.factors()  # which the runs agree on
      >>> W.shape, H.shape
      ((30, 3), (3, 20))
    """

    method: Method
    rank: int | None
    table: Any
    evidence: Mapping[int, Mapping[str, Any]]
    reason: str = ""
    sweep: SweepResult | None = None
    data: Data | None = None
    dtype: str = "float32"

    @property
    def candidates(self) -> list[int]:
        """The chosen p, and others that the method finds nearly as good, the best
        first; empty where it cannot decide.

        What is nearly as good depends on the method: "consensus", a cophenetic
        correlation that is as high as the rule asks for to within its standard error;
        "cross_validation" and "bi_cross_validation", an error that exceeds the smallest
        by no more than a standard error of their difference; "stability", components
        that reach both thresholds; "ard", half as many runs that end there as at the
        chosen p; "information", a criterion within 2 of the smallest (1 for MDL);
        "residual_spread", a jump of the spread beyond it.
        """
        if self.rank is None:
            return []
        near = self.method.near(self.table.loc[list(self.evidence)], self.evidence)
        return [self.rank, *(int(p) for p in near if p != self.rank)]

    def factors(self, rank: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        r"""The consensus of the runs of a rank: (W, H), (m, p) and (p, n).

        The components of all runs, scaled to Σ_j H_kj = 1, are matched; H has the
        median of each, scaled again, and W = argmin over W ≥ 0 of D(V | W H).

        Args:
          rank: by default the chosen one.

        Raises:
          ValueError: for a rank without runs, a method whose runs are not all of the
            rows and columns of V, or a selection without its runs.

        Reference: Kotliar et al., "Identifying gene expression programs of cell-type
        identity and cellular activity with single-cell RNA-Seq", eLife 8 (2019)
        [Kotliar2019], where outlying components are left out first.
        """
        rank = self.rank if rank is None else rank
        if rank is None:
            raise ValueError(f"no p was chosen: {self.reason}; give a rank")
        if not self.method.consensus:
            raise ValueError(
                f"method {self.method.name!r} fits parts of V, which have no factors "
                "in common; jaxnmf.factorize(V, rank) gives some"
            )
        if rank not in self.evidence:
            raise ValueError(
                f"rank={rank!r} is none of those measured: {list(self.evidence)}"
            )
        if self.sweep is None or self.data is None:
            raise ValueError("the runs of this selection were not stored")
        H = median_components(self.method.fits_at(self.sweep, rank))
        V, mask, loss = self.data.V, self.data.mask, self.data.loss
        return fit_W(V, H, loss=loss, mask=mask, dtype=self.dtype), H

    def __repr__(self) -> str:
        ranks = list(self.table.index)
        return (
            f"RankSelection(rank {self.rank} of {ranks[0]} … {ranks[-1]} by "
            f"{self.method.name}: {self.reason or self.method.rule})"
        )


def one_of(method: str, name: str, value: Any, known: Sequence[str]) -> None:
    """Raise a ValueError unless value is one of those known."""
    if value not in known:
        raise ValueError(
            f"{method}: {name}={value!r} must be one of {', '.join(known)}"
            f"{suggestion(value, known)}"
        )


def within(method: str, name: str, value: float, low: float, high: float) -> None:
    """Raise a ValueError unless low < value < high."""
    if not low < value < high:
        raise ValueError(
            f"{method}: {name}={value!r} must be between {low:g} and {high:g}"
        )
