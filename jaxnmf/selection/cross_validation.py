"""Cross-validation: what is held out tells a component from noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnmf.data.convert import is_sparse
from jaxnmf.data.observed import Observed
from jaxnmf.fold_in import Model
from jaxnmf.run.programs import precision
from jaxnmf.selection.base import (
    Data,
    Fit,
    Measured,
    Method,
    RankSelection,
    best_by,
    curve,
    finish,
    fits,
    one_of,
    spread,
    within,
)
from jaxnmf.sweeps.lane import DataPerSeed
from jaxnmf.sweeps.result import SweepResult

RULES = ("smallest", "one_se")


class Held(NamedTuple):
    """Entries that no fit has seen."""

    rows: np.ndarray
    cols: np.ndarray
    values: np.ndarray
    weights: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut(Method):
    """What both methods of cross-validation share: errors of parts, and the rule."""

    select: str = "one_se"

    def parts(self, data: Data) -> int:
        """How many parts are held out, each by itself."""
        raise NotImplementedError

    def check(self, data: Data, ranks: Sequence[int], seeds: Sequence[int]) -> None:
        super().check(data, ranks, seeds)
        parts = self.parts(data)
        if len(seeds) < parts:
            raise ValueError(
                f"seeds: {len(seeds)} are fewer than the {parts} parts that method "
                f"{self.name!r} holds out; every part needs one"
            )

    def choose(self, table: Any) -> int:
        error = table["error"]
        best = error.idxmin()
        if self.select == "smallest":
            return int(best)
        limit = error[best] + table["error_se"][best]
        return int(min(error.index[error <= limit]))

    def measured(self, errors: Sequence[float], fits: list[Fit]) -> Measured:
        row = {
            "error": float(np.mean(errors)),
            "error_se": spread(errors) / np.sqrt(len(errors)),
            "objective": float(np.mean([fit.objective for fit in fits])),
        }
        return Measured(row, {"errors": np.asarray(errors)})

    def draw(self, selection: RankSelection, figure: Any) -> None:
        axis = figure.subplots()
        figure.set_size_inches(5, 3.6)
        ranks = list(selection.table.index)
        errors = np.stack([selection.evidence[rank]["errors"] for rank in ranks])
        axis.plot(ranks, errors, color="0.75", lw=0.8, zorder=1)
        curve(axis, selection, "error", "error_se", label="mean ± standard error")
        low, high = fences(errors)
        mean = float(selection.table["error"][selection.rank])
        low, high = min(low, mean), max(high, mean)
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        axis.set_ylim(low - margin, high + margin)
        beyond = int(((errors < low) | (errors > high)).sum())
        title = f"{beyond} of {errors.size} errors are beyond" if beyond else None
        axis.legend(frameon=False, fontsize=8, title=title, title_fontsize=8)
        finish(axis, selection, "loss of a held-out entry")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossValidation(HeldOut):
    r"""Cross-validation over entries that are held out at random.

    In each of ``repeats`` parts a ``share`` of the known entries of V is held out and
    the others are fitted, as data observed in part; the seeds take the parts in turn,
    and of each part the run of the lowest loss on what it was fitted to counts. The
    error is Σ_held w φ(v, x) / Σ_held w, in the loss; error_se is the standard error of
    its mean over the parts. A sparse V is made dense: its zeros are known. Memory: two
    matrices (m, n) a part.

    The choice is the smallest p whose mean error is within one standard error of the
    smallest ("one_se"), or the p of the smallest ("smallest"). Both find planted ranks
    where noise is small; "smallest" takes one more now and then, where the curve is
    flat beyond the right p.

    Args:
      share: of the known entries, held out in each part.
      repeats: how many parts, ≥ 2.
      select: "one_se" or "smallest".

    References: Wold, "Cross-validatory estimation of the number of components in
    factor and principal components models", Technometrics 20 (1978); Kanagal &
    Sindhwani, "Rank selection in low-rank matrix approximations: a study of
    cross-validation for NMFs", NIPS workshop (2010).
    """

    name: ClassVar[str] = "cross_validation"
    rule: ClassVar[str] = "the smallest p of a held-out error near the least"
    share: float = 0.1
    repeats: int = 5

    def __post_init__(self) -> None:
        within(self.name, "share", self.share, 0, 1)
        within(self.name, "repeats", self.repeats, 1, np.inf)
        one_of(self.name, "select", self.select, RULES)

    def parts(self, data: Data) -> int:
        return self.repeats

    def known(self, data: Data) -> Observed:
        """The entries of V that there are to hold out."""
        V, mask = data.V, data.mask
        if isinstance(V, Observed):
            return V
        V = V.toarray() if is_sparse(V) else np.asarray(V)
        if isinstance(mask, str):
            mask = ~np.isnan(V)
        weights: Any = np.ones(V.shape) if mask is None else mask
        weights = weights.toarray() if is_sparse(weights) else np.asarray(weights)
        rows, cols = np.nonzero(weights)
        return Observed(rows, cols, V[rows, cols], V.shape, weights[rows, cols] * 1.0)

    def split(self, known: Observed, part: int) -> tuple[Observed, Held]:
        """What is fitted and what is held out, from the part's number alone."""
        count = int(self.share * known.nnz)
        if not 0 < count < known.nnz:
            raise ValueError(
                f"cross_validation: share={self.share!r} of {known.nnz} known entries "
                "leaves none to hold out or to fit"
            )
        order = np.random.default_rng([part, known.nnz]).permutation(known.nnz)
        out = np.sort(order[:count])
        held = (x[out] for x in (known.rows, known.cols, known.values, known.weights))
        return known.take(np.sort(order[count:])), Held(*held)

    def data_per_seed(self, data: Data, seeds: Sequence[int]) -> DataPerSeed:
        known = self.known(data)
        return DataPerSeed([self.split(known, i)[0] for i in range(self.repeats)])

    def measures(
        self, data: Data, ranks: Sequence[int], found: SweepResult
    ) -> dict[int, Measured]:
        known, turns = self.known(data), found.builder.data_of_seed
        held = [self.split(known, i)[1] for i in range(self.repeats)]
        measures = {}
        for rank in ranks:
            best = best_of_parts(found, rank, self.repeats)
            errors = [held_error(data.loss, held[turns[x.seed]], x) for x in best]
            measures[rank] = self.measured(errors, best)
        return measures


@dataclasses.dataclass(frozen=True, kw_only=True)
class BiCrossValidation(HeldOut):
    r"""Bi-cross-validation: a block of rows and columns is held out.

    Rows and columns are put into ``folds`` groups each at random, all equally large;
    what is left over is never held out. For every pair of a row and a column group,

        V = [A B; C D],  A held out:   D ≈ W_D H_D,
        W_A = argmin over W ≥ 0 of D(B | W H_D),
        H_A = argmin over H ≥ 0 of D(C | W_D H),   A ≈ W_A H_A,

    so A is predicted by a model that has seen none of its entries. The seeds take the
    folds² blocks in turn, and of each block the run of the lowest loss counts. The
    error is the mean loss of an entry of A, error_se the standard error of its mean
    over blocks.

    The choice is the smallest p whose mean error is within one standard error of the
    smallest ("one_se"), or the p of the smallest ("smallest"), which is often too
    large.

    Args:
      folds: groups of rows, and of columns; 2 holds out a quarter of V.
      select: "one_se" or "smallest".

    Reference: Owen & Perry, "Bi-cross-validation of the SVD and the nonnegative matrix
    factorization", Annals of Applied Statistics 3 (2009).
    """

    name: ClassVar[str] = "bi_cross_validation"
    rule: ClassVar[str] = "the smallest p of a held-out error near the least"
    consensus: ClassVar[bool] = False
    folds: int = 2

    def __post_init__(self) -> None:
        within(self.name, "folds", self.folds, 1, np.inf)
        one_of(self.name, "select", self.select, RULES)

    def parts(self, data: Data) -> int:
        return self.folds**2

    def check(self, data: Data, ranks: Sequence[int], seeds: Sequence[int]) -> None:
        super().check(data, ranks, seeds)
        if data.mask is not None or isinstance(data.V, Observed):
            raise ValueError(
                "method 'bi_cross_validation' needs every entry of V; "
                "'cross_validation' takes data observed in part"
            )
        most = min(size - size // self.folds for size in data.shape)
        if max(ranks) > most or min(data.shape) < self.folds:
            raise ValueError(
                f"ranks: {max(ranks)} is above the {most} rows or columns that "
                f"folds={self.folds} leave of V of shape {data.shape}"
            )

    def blocks(self, data: Data) -> list[tuple[np.ndarray, np.ndarray]]:
        """(rows, columns) that are held out, of each block."""
        m, n = data.shape
        rng = np.random.default_rng([m, n, self.folds])
        rows, cols = (
            rng.permutation(size)[: size - size % self.folds].reshape(self.folds, -1)
            for size in (m, n)
        )
        return [(np.sort(i), np.sort(j)) for i in rows for j in cols]

    def data_per_seed(self, data: Data, seeds: Sequence[int]) -> DataPerSeed:
        V = data.V.tocsr() if is_sparse(data.V) else np.asarray(data.V)
        kept = []
        for rows, cols in self.blocks(data):
            D: Any = V[others(rows, data.shape[0])][:, others(cols, data.shape[1])]
            # Sparse blocks differ in how much they store.
            kept.append(D.toarray() if is_sparse(D) else D)
        return DataPerSeed(kept)

    def measures(
        self, data: Data, ranks: Sequence[int], found: SweepResult
    ) -> dict[int, Measured]:
        V = data.V.toarray() if is_sparse(data.V) else np.asarray(data.V)
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
        right = Model.of(problem, Wt, H).fit(V[np.ix_(rows, other_cols)])
        below = Model.of(problem.T, H, Wt).fit(V[np.ix_(other_rows, cols)].T)
        i, j = np.ix_(rows, cols)
        i, j = (x.ravel() for x in np.broadcast_arrays(i, j))
        place = np.searchsorted(rows, i), np.searchsorted(cols, j)
        held = Held(*place, V[i, j], np.ones(len(i)))
        W_A, H_A = (
            np.asarray(run.factors.Wt)[: len(fit.H)] for run, _ in (right, below)
        )
        predicted = Fit(fit.seed, W_A, H_A, fit.objective)
        return held_error(problem.loss, held, predicted)


def fences(values: np.ndarray) -> tuple[float, float]:
    """The least and greatest finite value within 1.5 interquartile ranges of the
    quartiles: few outliers do not flatten a picture.

    Reference: Tukey, "Exploratory Data Analysis" (1977).
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    first, third = np.percentile(values, [25, 75])
    reach = 1.5 * (third - first)
    inside = values[(values >= first - reach) & (values <= third + reach)]
    return float(inside.min()), float(inside.max())


def others(index: np.ndarray, size: int) -> np.ndarray:
    """The numbers below size that are not in the index."""
    return np.setdiff1d(np.arange(size), index)


def best_of_parts(found: SweepResult, rank: int, parts: int) -> list[Fit]:
    """Of each part the run of the lowest loss on what it was fitted to."""
    best = best_by(fits(found, rank), lambda fit: found.builder.data_of_seed[fit.seed])
    if len(best) < parts:
        raise ValueError(f"rank {rank}: every run of a part diverged")
    return best


def held_error(loss: Any, held: Held, fit: Fit) -> float:
    """Σ w φ(v, x) / Σ w over the held-out entries."""
    with precision("float64"):
        x = np.zeros(len(held.values))
        for w, h in zip(fit.Wt, fit.H, strict=True):
            x += w[held.rows].astype(np.float64) * h[held.cols]
        v = np.asarray(held.values, np.float64)
        # As where it was fitted, x is not 0 where v is not.
        x = np.maximum(x, max(1e-10 * np.abs(v).mean(), 1e-300))
        values = np.asarray(loss.pointwise(jnp.asarray(v), jnp.asarray(x)))
    return float((held.weights * values).sum() / held.weights.sum())
