"""What a method of rank selection is, and what a selection leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxnmf._util.names import suggestion
from jaxnmf.selection.components import median_components
from jaxnmf.sweeps.result import SweepResult
from jaxnmf.types import Status


class Fit(NamedTuple):
    """A lane of a sweep that did not diverge."""

    seed: int
    Wt: Float[np.ndarray, "p m"]
    H: Float[np.ndarray, "p n"]
    objective: float


class Measured(NamedTuple):
    """A row of the table and what pictures need beside it, of one rank."""

    row: dict[str, float]
    evidence: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """V as the user gave it, what is known of it, and the solver's choice."""

    V: Any
    mask: Any
    shape: tuple[int, int]
    loss: Any


Sweep = Callable[..., SweepResult]
"""sweep(V, ranks, seeds, **changes), all else as the user asked."""


class Method:
    """A method of rank selection: a frozen dataclass of its options.

    A subclass gives ``measure`` and ``choose``, ``data_per_seed`` where each seed works
    on data of its own, and ``draw``.
    """

    name: ClassVar[str] = ""
    rule: ClassVar[str] = ""
    least_seeds: ClassVar[int] = 1
    solver: ClassVar[str | None] = None  # where the method is a solver's own
    consensus: ClassVar[bool] = True  # whether the runs' components may be merged
    max_iter: ClassVar[int] = 500
    tol: ClassVar[float] = 1e-5

    def check(self, data: Data, ranks: Sequence[int], seeds: Sequence[int]) -> None:
        """Raise a ValueError for what does not fit, before anything is run."""
        if len(seeds) < self.least_seeds:
            raise ValueError(
                f"seeds={list(seeds)}: method {self.name!r} compares runs; give at "
                f"least {self.least_seeds} seeds"
            )

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
        """Of each rank, smallest first."""
        return {
            rank: self.measure(data, rank, self.kept(found, rank)) for rank in ranks
        }

    def complete_table(self, table: Any) -> Any:
        """The table, with what takes all ranks."""
        return table

    def choose(self, table: Any) -> int:
        """The rank, from the table indexed by rank."""
        raise NotImplementedError

    def kept(self, found: SweepResult, rank: int) -> list[Fit]:
        """The runs of a rank that count, and whose components are merged."""
        return fits(found, rank)

    def draw(self, selection: RankSelection, figure: Any) -> None:
        """The picture, from ``rank``, ``table`` and ``evidence`` alone, which can be
        stored."""
        raise NotImplementedError


def fits(found: SweepResult, rank: int) -> list[Fit]:
    """The lanes of a rank that did not diverge.

    Raises:
      ValueError: where there is none.
    """
    pairs = zip(found.lanes, found.runs, strict=True)
    kept = [
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
    if not kept:
        raise ValueError(f"every run of rank {rank} diverged; try another solver")
    return kept


def best_by(fits: Sequence[Fit], part: Callable[[Fit], int]) -> list[Fit]:
    """Of each part the run of the lowest loss, in the order of parts."""
    best: dict[int, Fit] = {}
    for fit in fits:
        here = part(fit)
        if here not in best or fit.objective < best[here].objective:
            best[here] = fit
    return [best[here] for here in sorted(best)]


def spread(values: Sequence[float]) -> float:
    """The standard deviation of values over runs, 0 of one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RankSelection:
    """A rank that was chosen, and why.

    Attributes:
      method: what chose it, with its options; ``method.rule`` in words.
      rank: the choice.
      table: a `pandas.DataFrame`, a row a rank: the method's measures and their spread.
      evidence: {rank: {name: array}}, what the pictures show.
      sweep: all the runs; None, with data and refit, where only the above was stored,
        which is enough for `plot`.
    """

    method: Method
    rank: int
    table: Any
    evidence: Mapping[int, Mapping[str, Any]]
    sweep: SweepResult | None = None
    data: Data | None = None
    refit: Callable[[np.ndarray], np.ndarray] | None = None

    def factors(self, rank: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        r"""(W, H) that the runs of a rank agree on, (m, p) and (p, n).

        The components of all runs, scaled to Σ_j H_kj = 1, are matched; H has the
        median of each, scaled again, and W = argmin over W ≥ 0 of D(V | W H).

        Args:
          rank: the chosen one by default.

        Raises:
          ValueError: for a rank without runs, a method whose runs are not all of the
            rows and columns of V, or a selection without its runs.

        Reference: Kotliar et al., "Identifying gene expression programs of cell-type
        identity and cellular activity with single-cell RNA-Seq", eLife 8 (2019), where
        outlying components are left out first.
        """
        rank = self.rank if rank is None else rank
        if not self.method.consensus:
            raise ValueError(
                f"method {self.method.name!r} fits parts of V, which have no factors "
                "in common; jaxnmf.factorize(V, rank) gives some"
            )
        if rank not in self.table.index:
            raise ValueError(
                f"rank={rank!r} is none of those measured: {list(self.table.index)}"
            )
        if self.sweep is None or self.refit is None:
            raise ValueError("the runs of this selection were not stored")
        H = median_components(self.method.kept(self.sweep, rank))
        return self.refit(H), H

    def plot(self) -> Any:
        """A `matplotlib` Figure: the measures against p, the choice marked, and what
        the method shows of the chosen p."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=120)
        self.method.draw(self, figure)
        return figure

    def __repr__(self) -> str:
        ranks = list(self.table.index)
        return (
            f"RankSelection(rank {self.rank} of {ranks[0]} … {ranks[-1]} by "
            f"{self.method.name}: {self.method.rule})"
        )


def curve(
    axis: Any,
    selection: RankSelection,
    name: str,
    error: str | None = None,
    **style: Any,
) -> None:
    """A measure against p, with its spread, where the table has one."""
    table = selection.table
    bars = None if error is None else table[error]
    given = {"marker": "o", "markersize": 4, "capsize": 3, "lw": 1.4, **style}
    axis.errorbar(table.index, table[name], bars, **given)


def finish(axis: Any, selection: RankSelection, ylabel: str) -> None:
    """Label the axis, and mark the choice."""
    axis.axvline(selection.rank, color="0.6", lw=8, alpha=0.35, zorder=0)
    axis.set_xlabel(f"components p (chosen: {selection.rank})")
    axis.set_ylabel(ylabel)
    axis.set_xticks(list(selection.table.index))
    axis.spines[["top", "right"]].set_visible(False)


def one_of(method: str, name: str, value: Any, known: Sequence[str]) -> None:
    """Raise a ValueError unless value is one of the known."""
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
