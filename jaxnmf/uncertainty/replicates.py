"""Data of the replicates of a factorisation, as lanes of a sweep work on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxnmf.build import Objective, make_problem
from jaxnmf.data.known import Known, is_sparse
from jaxnmf.data.observed import Observed
from jaxnmf.objective.losses import Loss
from jaxnmf.objective.problem import Problem
from jaxnmf.shapes import Float, Int
from jaxnmf.solvers.base import gives_nnls
from jaxnmf.sweeps.lane import DataPerSeed


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DrawnRows(DataPerSeed):
    r"""Rows of V drawn with replacement, as weights: row i occurs c_i times.

    For a β-divergence, β ≠ 0, c D_β(v | x) = D_β(c^{1/β} v | c^{1/β} x). So the
    weighted problem

        min over W, H ≥ 0 of Σ_i c_i D_β(v_i | w_i H)

    is that of S V ≈ (S W) H with S = diag(c^{1/β}), for every solver: the lanes share V
    and have m numbers of their own.

    Attributes:
      counts: (r, m), of the rows in each replicate.
    """

    counts: Int[np.ndarray, "r m"]

    @classmethod
    def of(
        cls,
        known: Known,
        counts: Int[np.ndarray, "r m"],
        beta: float | None,
        start: tuple[Any, Any] | None,
    ) -> DrawnRows:
        """The replicates of V, from the factors ``start`` of V."""
        assert beta
        starts = None
        if start is not None:
            W, H = start
            starts = [(W * scales(one, beta)[:, None], H) for one in counts]
        return cls([known], starts=starts, counts=counts)

    def problems(
        self, solver: Any, objective: Objective, dtype: Any, *, mesh: bool = False
    ) -> tuple[Problem, ...]:
        assert not mesh
        problem = make_problem(self.data[0], solver, objective, dtype)
        operand, beta = problem.operand.for_lanes(), objective.loss.beta
        assert beta
        return tuple(
            dataclasses.replace(problem, operand=operand.scaled_rows(scales(one, beta)))
            for one in self.counts
        )


def scales(counts: Int[np.ndarray, " m"], beta: float) -> Float[np.ndarray, " m"]:
    """c^{1/β}, what rows that occur c times are multiplied by."""
    return np.asarray(counts, np.float64) ** (1 / beta)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DrawnData(DataPerSeed):
    """New data for each replicate, which are in memory once, as operands.

    Attributes:
      draw: the V of a replicate by its number, as `Known`.
      replicates: how many there are.
      signed: whether V may have negative entries.
    """

    draw: Callable[[int], Known]
    replicates: int
    signed: bool = False

    def problems(
        self, solver: Any, objective: Objective, dtype: Any, *, mesh: bool = False
    ) -> tuple[Problem, ...]:
        assert not mesh
        signed = frozenset("V") if self.signed else None
        largest = self.data[0].largest()
        return tuple(
            make_problem(
                self.draw(i), solver, objective, dtype, largest=largest, signed=signed
            )
            for i in range(self.replicates)
        )


def row_counts(
    m: int, replicates: int, rng: np.random.Generator
) -> Int[np.ndarray, "r m"]:
    """How often each of m rows is among m that are drawn with replacement."""
    return rng.multinomial(m, np.full(m, 1 / m), size=replicates)


def rows_drawn(known: Known, counts: Int[np.ndarray, " m"]) -> Known:
    """V with row i ``counts[i]`` times, for a loss without `DrawnRows`."""
    V, weights = known
    index = np.repeat(np.arange(len(counts)), counts)
    if isinstance(V, Observed):
        raise ValueError(
            "mask: fewer than a fifth of the entries of V are known, and the loss has "
            "no row weights; use loss='frobenius' or 'kullback-leibler' without "
            "penalties on W, or method='residual'"
        )
    V = V[index] if is_sparse(V) else np.asarray(V)[index]
    return Known(V, None if weights is None else weights[index])


class Noise:
    r"""Data drawn anew around the fit X = W H.

    "poisson": Poisson(x_ij). "residual": x + e √(x^{2−β}), with e drawn with
    replacement from the residuals (v − x) / √(x^{2−β}) of the same column. They have
    one variance in a column for the model whose likelihood the β-divergence is:
    Gaussian (β = 2, the residuals themselves), Poisson up to a factor (1), gamma (0).
    Since the fit follows the noise, they are multiplied by
    √(N / (N − p (m + n − p))), N the number of known entries.

    Args:
      known: V.
      X: (m, n), the fit.
      rank: p.
      loss: with its β, 2 for a loss without.
      poisson: which of the two.
      clip: whether negative entries are set to 0.
    """

    def __init__(
        self,
        known: Known,
        X: Float[np.ndarray, "m n"],
        rank: int,
        loss: Loss,
        *,
        poisson: bool,
        clip: bool,
    ) -> None:
        self.known, self.X, self.poisson, self.clip = known, X, poisson, clip
        if poisson:
            return
        beta = 2.0 if loss.beta is None else loss.beta
        V, there = _dense(known)
        floor = max(1e-12 * float(np.abs(X).max()), np.finfo(np.float64).tiny)
        self.size = np.maximum(X, floor) ** ((2 - beta) / 2)
        m, n = X.shape
        count = int(there.sum())
        free = max(count - rank * (m + n - rank), 0.05 * count)
        residuals = (V - X) / self.size * np.sqrt(count / free)
        self.columns = [residuals[there[:, j], j] for j in range(n)]
        self.all_known = count == m * n

    def draw(self, rng: np.random.Generator) -> Known:
        """V of a replicate, known where V is."""
        if self.poisson:
            V = rng.poisson(self.X).astype(np.float64)
        else:
            V = self.X + self._residuals(rng).T * self.size
            if self.clip:
                V = np.maximum(V, 0)
        given = self.known.V
        if isinstance(given, Observed):
            values = V[given.rows, given.cols]
            places = given.rows, given.cols
            return Known(Observed(*places, values, given.shape, given.weights), None)
        return Known(V, self.known.weights)

    def _residuals(self, rng: np.random.Generator) -> Float[np.ndarray, "n m"]:
        m = len(self.X)
        if self.all_known:  # at once, what column after column would draw
            index = rng.integers(0, m, (len(self.columns), m))
            columns = zip(self.columns, index, strict=True)
            return np.stack([column.take(each) for column, each in columns])
        drawn = [rng.choice(e, m) if len(e) else np.zeros(m) for e in self.columns]
        return np.stack(drawn)


def may_be_signed(loss: Loss, solver: Any) -> bool:
    """Whether a loss and a solver for it work on V with negative entries too: on Gram
    and cross products of the Frobenius loss."""
    inner = getattr(solver, "inner", solver)
    return loss.quadratic and (gives_nnls(solver) or gives_nnls(inner))


def _dense(known: Known) -> tuple[np.ndarray, np.ndarray]:
    """V in float64 and where it is known, both (m, n)."""
    V, weights = known
    if isinstance(V, Observed):
        dense, there = np.zeros(V.shape), np.zeros(V.shape, bool)
        dense[V.rows, V.cols], there[V.rows, V.cols] = V.values, True
        return dense, there
    V = np.asarray(V, np.float64)
    there = np.ones(V.shape, bool) if weights is None else np.asarray(weights) > 0
    return np.where(there, V, 0.0), there
