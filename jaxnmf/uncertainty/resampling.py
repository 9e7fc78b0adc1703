"""Replicates of a fit: what is drawn, and the factors that are found in it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxnmf.build import Objective, Start
from jaxnmf.data.known import Known, is_sparse
from jaxnmf.data.observed import Observed
from jaxnmf.fold_in import ONCE, Model, RowsOnly, overlap
from jaxnmf.registry import make_solver
from jaxnmf.result import Result
from jaxnmf.run.stop import Stop
from jaxnmf.sweeps.lane import DataPerSeed
from jaxnmf.sweeps.sweep import run_sweep
from jaxnmf.types import Status
from jaxnmf.uncertainty.replicates import (
    DrawnData,
    DrawnRows,
    Noise,
    may_be_signed,
    row_counts,
    rows_drawn,
)
from jaxnmf.uncertainty.rows import exact_rows

METHODS = ("bootstrap", "poisson", "residual")
TOGETHER = 2**30  # bytes of replicates of V that are in memory at a time


def shares_V(objective: Objective) -> bool:
    """Whether rows drawn are weights of the rows of one V (`DrawnRows`)."""
    penalised = objective.l1[0] > 0 or objective.l2[0] > 0
    return bool(objective.loss.beta) and not penalised


def check_method(method: str, known: Known, objective: Objective, solver: Any) -> None:
    """Raise a ValueError for what a method is not for, before anything is compiled."""
    V, loss = known.V, objective.loss
    name = loss.label
    if method in ("poisson", "residual") and is_sparse(V):
        raise ValueError(
            f"method={method!r} draws every entry anew, also where the sparse V is "
            "zero: pass V.toarray(), or use method='bootstrap'"
        )
    if solver.supports.signed or solver.supports.symmetric:
        raise ValueError(
            f"solver {solver.name!r}: intervals are of V ≈ W H with W, H ≥ 0; use "
            "another, such as 'hals' or 'mu'"
        )
    if method == "poisson":
        values = V.values if isinstance(V, Observed) else np.asarray(V)
        if known.weights is not None:
            values = values[known.weights > 0]
        if not np.allclose(values, np.round(values)):
            raise ValueError(
                "method='poisson' is for counts, and V holds entries that are no "
                "integers; use method='residual'"
            )
    in_rows = shares_V(objective) or not (is_sparse(V) or isinstance(V, Observed))
    if method == "bootstrap" and not in_rows:
        raise ValueError(
            f"method='bootstrap': with penalties on W, or the loss {name!r}, rows have "
            "no weights, and are copied; for this V, sparse or known in small part, "
            "use 'frobenius' or 'kullback-leibler' and l1=(0, …), l2=(0, …)"
        )
    if method == "displacement":
        if not loss.quadratic or known.in_part:
            raise ValueError(
                f"method='displacement' is for the Frobenius loss and a V of which "
                f"every entry is known, not for the loss {name!r} on {known.kind} "
                "data; use method='bootstrap'"
            )
        if objective.l1 != (0, 0) or objective.l2 != (0, 0):
            raise ValueError(
                f"method='displacement' does not support l1={objective.l1} and "
                f"l2={objective.l2}: penalties, unlike the loss, depend on the scale "
                "of the rows of H"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Resampling:
    """The specification of the replicates of a fit.

    Attributes:
      known, result: V and its fit.
      method: one of `METHODS`.
      solver, objective, stop: of every replicate.
      replicates, seed: how many, and the seed of all draws.
      fitted: whether they start from the fit, or from random factors.
    """

    known: Known
    result: Result
    method: str
    solver: Any
    objective: Objective
    stop: Stop
    replicates: int
    seed: int
    fitted: bool
    dtype: Any
    progress: bool | None

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """W (r, m, p) and H (r, p, n) of the replicates."""
        if self.method != "bootstrap":
            noise = self._noise(self.solver, poisson=self.method == "poisson")
            start = self._start(1.0, self.result.H) if self.fitted else None
            return self._drawn(noise, [start] * self.replicates)
        rng = np.random.default_rng([self.seed, 0])
        counts = row_counts(len(self.result.W), self.replicates, rng)
        if shares_V(self.objective):
            start = (self.result.W, self.result.H) if self.fitted else None
            data = DrawnRows.of(self.known, counts, self.objective.loss.beta, start)
            H = self._lanes(data, range(self.replicates))[1]
        else:
            H = self._copied(counts)
        return self._rows(H), H

    def _copied(self, counts: np.ndarray) -> np.ndarray:
        """H of V with its rows copied as often as they are drawn."""
        W, H = self.result.W, self.result.H
        starts = [(np.repeat(W, one, axis=0), H) for one in counts]
        return self._in_parts(
            lambda i: rows_drawn(self.known, counts[i]),
            starts if self.fitted else [None] * len(starts),
        )[1]

    def _rows(self, H: np.ndarray) -> np.ndarray:
        """W for each H: of V with its noise drawn anew, of a sparse V as it is.

        Least squares are solved exactly at once, but for components that overlap, for
        which single precision has no digit to spare.
        """
        model = Model.of_objective(self.objective, frozenset(), self.dtype)
        solver, stop = model.solver, self.stop
        exact = model.pivots and not any(map(overlap, H))
        if exact:
            solver, stop = "anls-bpp", ONCE
        inner = make_solver(solver)
        rows = dataclasses.replace(self, solver=RowsOnly(inner=inner), stop=stop)
        # From the W of the fit, each component in the scale of its row of H.
        total = H.sum(2, dtype=np.float64)
        ratio = self.result.H.sum(1) / np.where(total > 0, total, np.inf)
        starts = [self._start(*one) for one in zip(ratio, H, strict=True)]
        if is_sparse(self.known.V):
            data = DataPerSeed([self.known] * len(H), starts=starts)
            return rows._lanes(data, range(len(H)))[0]
        noise = self._noise(inner, poisson=False)
        if exact and self.known.kind == "dense":
            return exact_rows(
                self.known,
                functools.partial(self._replicate, noise),
                starts,
                solver=rows.solver,
                objective=self.objective,
                dtype=self.dtype,
                progress=self.progress,
            )
        return rows._drawn(noise, starts)[0]

    def _start(self, scale: Any, H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.result.W * scale, H

    def _noise(self, solver: Any, *, poisson: bool) -> Noise:
        W, H = (x.astype(np.float64) for x in (self.result.W, self.result.H))
        loss = self.objective.loss
        clip = not may_be_signed(loss, solver)
        return Noise(self.known, W @ H, len(H), loss, poisson=poisson, clip=clip)

    def _drawn(
        self, noise: Noise, starts: Sequence[Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Factors of V with its noise drawn anew."""
        draw = functools.partial(self._replicate, noise)
        return self._in_parts(draw, starts, signed=not noise.clip)

    def _replicate(self, noise: Noise, i: int) -> Known:
        return noise.draw(np.random.default_rng([self.seed, 1, i]))

    def _in_parts(
        self,
        draw: Callable[[int], Known],
        starts: Sequence[Any],
        *,
        signed: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Factors of replicates with a V of their own, so many at a time as fit."""
        m, n = self.known.V.shape
        size = max(8, TOGETHER // (8 * m * n))
        found = []
        for first in range(0, len(starts), size):
            part = range(first, min(first + size, len(starts)))
            own = [starts[i] for i in part]
            data = DrawnData(
                [self.known],
                starts=own if own[0] is not None else None,
                draw=lambda i, first=first: draw(first + i),
                replicates=len(part),
                signed=signed,
            )
            found.append(self._lanes(data, part))
        W, H = (np.concatenate(x) for x in zip(*found, strict=True))
        return W, H

    def _lanes(
        self, data: DataPerSeed, part: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """W (r, m, p) and H (r, p, n) of some replicates, as lanes of one sweep.

        Raises:
          ValueError: one of them diverged.
          KeyboardInterrupt: they were interrupted.
        """
        found = run_sweep(
            data,
            [len(self.result.H)],
            [self.seed + 1 + i for i in part],
            solver=self.solver,
            objective=self.objective,
            start=Start.of("random"),
            stop=self.stop,
            dtype=self.dtype,
            progress=self.progress,
        )
        runs = [run for run in found.runs if run is not None]
        if len(runs) < len(found.runs):
            raise KeyboardInterrupt
        failed = sum(int(run.status) == Status.DIVERGED.code for run in runs)
        if failed:
            raise ValueError(
                f"{failed} of {len(runs)} replicates diverged; try another solver"
            )
        W = np.stack([np.asarray(run.factors.Wt).T for run in runs])
        return W, np.stack([np.asarray(run.factors.H) for run in runs])
