"""Bi-cross-validation: held-out blocks are predicted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from jaxnmf.data.known import is_sparse
from jaxnmf.data.observed import Observed
from jaxnmf.fold_in import Model
from jaxnmf.selection.base import Data, Fit, Measured, one_of, within
from jaxnmf.selection.held_out import RULES, HeldOut, best_of_parts, held_out_error
from jaxnmf.sweeps.lane import DataPerSeed
from jaxnmf.sweeps.result import SweepResult


@dataclasses.dataclass(frozen=True, kw_only=True)
class BiCrossValidation(HeldOut):
    r"""Bi-cross-validation: a block of rows and columns is held out.

    Rows and columns are put into ``folds`` groups each at random, all equally large;
    any that are left over are never held out. For every pair of a row group and a
    column group,

        V = [A B; C D],  A held out:   D ≈ W_D H_D,
        W_A = argmin over W ≥ 0 of D(B | W H_D),
        H_A = argmin over H ≥ 0 of D(C | W_D H),   A ≈ W_A H_A,

    so A is predicted by a model that was fitted to none of its entries. The seeds take
    the folds² blocks in turn, and of each block the run of the lowest objective is
    used. The error is the mean loss of an entry of A, error_se the standard error of
    its mean over blocks.

    The choice is the smallest p whose mean error is within one standard error of the
    smallest ("one_se"), or the p of the smallest ("smallest"), which is often too
    large.

    Args:
      folds: how many groups of rows, and of columns; with 2 a quarter of V is held out.
      select: "one_se" or "smallest".

    Reference: Owen & Perry, "Bi-cross-validation of the SVD and the nonnegative matrix
    factorization", Annals of Applied Statistics 3 (2009) [Owen2009].
    """

    name: ClassVar[str] = "bi_cross_validation"
    rule: ClassVar[str] = "the smallest p with a held-out error near the lowest"
    consensus: ClassVar[bool] = False
    folds: int = 2

    def __post_init__(self) -> None:
        within(self.name, "folds", self.folds, 1, np.inf)
        one_of(self.name, "select", self.select, RULES)

    def parts(self, data: Data) -> int:
        return self.folds**2

    def check(self, data: Data, ranks: Sequence[int], seeds: Sequence[int]) -> None:
        super().check(data, ranks, seeds)
        if data.known.in_part:
            raise ValueError(
                "method 'bi_cross_validation' needs every entry of V; "
                "'cross_validation' supports data observed in part"
            )
        if min(data.shape) < self.folds:
            raise ValueError(
                f"folds={self.folds} are more than V of shape {data.shape} has rows or "
                "columns"
            )

    def limit(self, data: Data) -> tuple[int, str]:
        size = min(size - size // self.folds for size in data.shape)
        left = f"folds={self.folds} leaves {size} rows or columns of V, which as many"
        return min((size - 1, f"{left} components fit"), super().limit(data))

    def blocks(self, data: Data) -> list[tuple[np.ndarray, np.ndarray]]:
        """(rows, columns) of each block that is held out."""
        m, n = data.shape
        rng = np.random.default_rng([m, n, self.folds])
        rows, cols = (
            rng.permutation(size)[: size - size % self.folds].reshape(self.folds, -1)
            for size in (m, n)
        )
        return [(np.sort(i), np.sort(j)) for i in rows for j in cols]

    def data_per_seed(self, data: Data, seeds: Sequence[int]) -> DataPerSeed:
        V = data.known.V
        V = V if is_sparse(V) else np.asarray(V)
        rest = []
        for rows, cols in self.blocks(data):
            D: Any = V[others(rows, data.shape[0])][:, others(cols, data.shape[1])]
            # Sparse blocks differ in how much they store.
            rest.append(D.toarray() if is_sparse(D) else D)
        return DataPerSeed(rest)

    def measures(
        self, data: Data, ranks: Sequence[int], found: SweepResult
    ) -> dict[int, Measured]:
        V = data.known.V
        V = V.toarray() if is_sparse(V) else np.asarray(V)
        V = np.asarray(V, found.builder.dtype)
        blocks, turns = self.blocks(data), found.builder.data_of_seed
        measures = {}
        for rank in ranks:
            best = best_of_parts(found, rank, len(blocks))
            errors = [
                self._error(found, V, *blocks[turns[fit.seed]], fit, max(ranks))
                for fit in best
            ]
            measures[rank] = self.measured(errors, best)
        return measures

    def _error(
        self, found: SweepResult, V: Any, rows: Any, cols: Any, fit: Fit, most: int
    ) -> float:
        problem = found.builder.problems[found.builder.data_of_seed[fit.seed]]
        other_rows, other_cols = (
            others(index, size)
            for index, size in zip((rows, cols), V.shape, strict=True)
        )
        # Padded with components that are 0, so that one program serves every rank.
        pad = ((0, most - len(fit.H)), (0, 0))
        Wt, H = np.pad(fit.Wt, pad), np.pad(fit.H, pad)
        right = Model.of(problem).fit(V[np.ix_(rows, other_cols)], H, exact=False)
        below = Model.of(problem.T).fit(V[np.ix_(other_rows, cols)].T, Wt, exact=False)
        i, j = np.ix_(rows, cols)
        i, j = (x.ravel() for x in np.broadcast_arrays(i, j))
        place = np.searchsorted(rows, i), np.searchsorted(cols, j)
        block = Observed(*place, V[i, j], (len(rows), len(cols)))
        W_A, H_A = (
            np.asarray(run.factors.Wt)[: len(fit.H)] for run, _ in (right, below)
        )
        predicted = Fit(fit.seed, W_A, H_A, fit.objective)
        return held_out_error(problem.loss, block, predicted)


def others(index: np.ndarray, size: int) -> np.ndarray:
    """The numbers below size that are not in the index."""
    return np.setdiff1d(np.arange(size), index)
