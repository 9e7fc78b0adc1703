"""The result of a sweep."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnmf.data.containers import Names
from jaxnmf.data.views import ViewParts
from jaxnmf.joint import of_views
from jaxnmf.result import Result, to_result
from jaxnmf.run.loop import Run
from jaxnmf.run.programs import precision
from jaxnmf.sweeps.lane import Lane, LaneBuilder
from jaxnmf.types import Status


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SweepResult:
    """The lanes of a sweep and their runs.

    Attributes:
      lanes: rank, seed and settings of each lane.
      runs: the run of each lane, None for one that is unfinished.
      builder: the specification that all lanes share.
      buckets: the ranks that factors were padded to, and the waste: the share of the
        work that padding added.
      batching: how lanes were spread over threads and groups, with the seconds
        measured for each way.
      seconds: of the sweep; compile_seconds: of those, spent compiling.
      names: of the rows and columns of V.
      views: how the views were joined, or None.
      complete: whether every lane is finished.

    Example:
      >>> import numpy as np, jaxnmf
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> found = jaxnmf.sweep(V, ranks=[2, 3], seeds=2, max_iter=20)
      >>> found.table[["lane", "rank", "seed"]].values.tolist()
      [[0, 2, 0], [1, 2, 1], [2, 3, 0], [3, 3, 1]]
      >>> W, H = found.factors(lane=3)
      >>> H.shape, found.best(rank=2).H.shape
      ((3, 20), (2, 20))
    """

    lanes: tuple[Lane, ...]
    runs: tuple[Run | None, ...]
    builder: LaneBuilder
    buckets: dict[str, Any]
    batching: dict[str, Any]
    seconds: float
    compile_seconds: float
    names: Names
    views: ViewParts | None = None

    @property
    def complete(self) -> bool:
        return all(run is not None for run in self.runs)

    @property
    def table(self) -> Any:
        """A `pandas.DataFrame` with a row for each finished lane: lane, rank, seed, its
        settings, objective, relative_error (Frobenius only: ‖V − WH‖_F / ‖V‖_F from
        the objective), kkt, iterations, status."""
        import pandas as pd

        rows = []
        for i, (lane, run) in enumerate(zip(self.lanes, self.runs, strict=True)):
            if run is None:
                continue
            rows.append(
                {
                    "lane": i,
                    "rank": lane.rank,
                    "seed": lane.seed,
                    **lane.settings,
                    "objective": float(run.trace.objective[-1]),
                    "relative_error": self._relative_error(lane, run),
                    "kkt": float(run.trace.kkt[-1]),
                    "iterations": int(run.iterations),
                    "status": str(Status.from_code(int(run.status))),
                }
            )
        return pd.DataFrame(rows)

    def _relative_error(self, lane: Lane, run: Run) -> float:
        """From the objective; NaN for another loss than Frobenius, and for V = 0."""
        problem = self.builder.problem(lane)
        squares = float(problem.operand.moments.squares)
        if not problem.loss.quadratic or squares == 0:
            return float("nan")
        with precision(self.builder.dtype.name):
            own = problem.units.inverse.of(run.factors)
            pairs = zip((problem.T.penalty, problem.penalty), own, strict=True)
            penalty = sum(
                float(p.value(jnp.asarray(X))) for p, X in pairs if not p.is_zero
            )
        objective = float(run.trace.objective[-1]) / problem.units.objective
        fit = max(objective - penalty, 0.0)
        return float(np.sqrt(2 * fit / squares))

    def factors(self, lane: int) -> tuple[np.ndarray, np.ndarray]:
        """(W, H) of a lane, (m, p) and (p, n)."""
        result = self.result(lane)
        return result.W, result.H

    def result(self, lane: int) -> Result:
        """The `Result` of a lane, as `jaxnmf.factorize` gives it.

        Raises:
          ValueError: for a lane that does not exist or is unfinished.
        """
        if not 0 <= lane < len(self.lanes):
            raise ValueError(f"lane={lane!r} must be within 0 … {len(self.lanes) - 1}")
        run = self.runs[lane]
        if run is None:
            raise ValueError(f"lane {lane} is unfinished: {self.lanes[lane]}")
        problem = self.builder.problem(self.lanes[lane])
        given = self.builder.solver, None, None, self.builder.objective.design
        found = to_result(run, problem, *given).named(self.names)
        return found if self.views is None else of_views(found, self.views)

    def best(self, rank: int | None = None) -> Result:
        """The result of the lowest objective, its own penalties included.

        Args:
          rank: of the lanes of this rank; None for all.

        Raises:
          ValueError: when no lane of that rank finished without diverging.
        """
        found = [
            (float(run.trace.objective[-1]), i)
            for i, (lane, run) in enumerate(zip(self.lanes, self.runs, strict=True))
            if run is not None
            and rank in (None, lane.rank)
            and int(run.status) != Status.DIVERGED.code
        ]
        if not found:
            ranks = sorted({lane.rank for lane in self.lanes})
            raise ValueError(
                f"no finished lane of rank {rank}; the sweep has ranks {ranks}"
            )
        return self.result(min(found)[1])

    def __repr__(self) -> str:
        done = sum(run is not None for run in self.runs)
        ranks = sorted({lane.rank for lane in self.lanes})
        return (
            f"SweepResult({done} of {len(self.lanes)} lanes, p = {ranks}, "
            f"{self.seconds:.3g} s of which {self.compile_seconds:.2g} s compiling)"
        )
