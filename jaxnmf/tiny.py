"""Tiny problems in NumPy, for which compiling takes longer than the whole run.

The steps are those of `hals` and of `extrapolated` with `hals` inside, to rounding; the
loop, the stop rule and the records are those of `jaxnmf.run.clock`. A compiled program
does an iteration in a third of the time, and takes as long to compile as a thousand
iterations here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnmf._util.platform import on_cpu
from jaxnmf.data.dense import Dense
from jaxnmf.kernels.momentum import Momentum
from jaxnmf.kernels.repeats import suggested_repeats
from jaxnmf.objective.constraints import NonNegative
from jaxnmf.objective.problem import Problem
from jaxnmf.run.clock import clocked, record_kkt_of_ends
from jaxnmf.run.loop import Run
from jaxnmf.run.stop import RECORD_EVERY, Measure, Stop
from jaxnmf.shapes import Float
from jaxnmf.solvers.extrapolated import Extrapolated
from jaxnmf.solvers.hals import HALS
from jaxnmf.types import Factors, Status

# Of so many entries of V and of the factors times p, and of so many iterations at most.
TINY, MOST_ITERATIONS = 2**18, 1000

Matrix = Float[np.ndarray, "p q"]
Pair = tuple[Matrix, Matrix]


def suits(problem: Problem, solver: Any, rank: int, stop: Stop) -> bool:
    """Whether `run` can solve a problem, and compiling would take longer."""
    # Not a subclass, whose steps may be others.
    inner = solver.inner if type(solver) is Extrapolated else solver
    return (
        type(inner) is HALS
        and not inner.delta
        and int(stop.max_iter) <= MOST_ITERATIONS
        and all(project.held is None for project in problem.projects)
        and _is_tiny(problem, rank)
    )


def suits_rows(problem: Problem, rank: int) -> bool:
    """Whether `least_squares` can solve a problem of which H is held: also one without
    l1, which decides between components that are combinations of others."""
    of_W, of_H = problem.projects
    fixed = of_H.held is not None and not np.isnan(np.asarray(of_H.held)).any()
    tiny = of_W.held is None and fixed and _is_tiny(problem, rank)
    return tiny and not float(problem.penalties[0].l1)


def size(operand: Any, rank: int) -> int:
    """The entries of V and of the factors times p."""
    return (operand.entries + sum(operand.shape)) * rank


def _is_tiny(problem: Problem, rank: int) -> bool:
    """A small dense V of which all is known, the Frobenius loss, l1 and l2 as numbers,
    and no other constraint than the sign."""
    V, penalties = problem.operand, problem.penalties
    if not (isinstance(V, Dense) and on_cpu() and problem.loss.quadratic):
        return False
    return bool(
        size(V, rank) <= TINY
        and V.weights is None
        and V.scale is None
        and V.placement is None
        and not V.padded
        and problem.graphs == (None, None)
        and all(project.name == "nonnegative" for project in problem.projects)
        and not any(np.ndim(x) for x in jax.tree.leaves(penalties))
        and not any(float(penalty.toward) for penalty in penalties)
    )


def run(
    problem: Problem,
    solver: Any,
    factors: Factors,
    stop: Stop,
    *,
    record_every: int = RECORD_EVERY,
    kkt: bool = True,
    **given: Any,
) -> Run:
    """The run of `jaxnmf.run.clock.timed`, with its arguments, for a problem that
    `suits`."""
    extrapolated = isinstance(solver, Extrapolated)
    inner = solver.inner if extrapolated else solver
    halves = _halves(problem, len(factors.H), inner.inner)
    look = _Look(halves, problem.units.objective, kkt=kkt)
    begin = _on_host(factors)
    beta = float(solver.beta) if extrapolated else 0.0
    state = _Ahead(begin, begin[1], Momentum(beta, beta, 1.0), 0.0)

    def iterate(factors: Any, state: Any, steps: int) -> Any:
        for _ in range(steps):
            if extrapolated:
                factors, state = _extrapolated(solver, halves, factors, state)
            else:
                factors = _alternated(halves, factors)
        return factors, state

    found = clocked(
        iterate, look, begin, state, stop, record_every=record_every, **given
    )
    if not kkt:
        look.kkt = True
        record_kkt_of_ends(found.trace, look, begin, found.factors)
    return found._replace(factors=problem.units.of(Factors(*found.factors)))


def least_squares(problem: Problem, factors: Factors) -> Run:
    """W of a problem that `suits_rows`: the non-negative least squares of each row,
    exact, in double precision."""
    halves = _halves(problem, len(factors.H), 1)
    look = _Look(halves, problem.units.objective, kkt=True, both=False)

    def solve(factors: Any, state: Any, steps: int) -> Any:
        del steps
        wide = halves[0]._replace(V=look.V.T)
        Wt, H = factors
        of_rows = _solved(*wide.quadratic(H.astype(np.float64)))
        return (of_rows.astype(Wt.dtype), H), state

    begin = _on_host(factors)
    once = Stop(max_iter=1, tol=0.0)
    found = clocked(solve, look, begin, None, once, record_every=1)
    return found._replace(
        factors=problem.units.of(Factors(*found.factors)),
        status=Status.CONVERGED.code,  # pyright: ignore
    )


def _on_host(factors: Any) -> Pair:
    Wt, H = factors
    return np.array(Wt), np.array(H)


class _Half(NamedTuple):
    """What the half-steps of one factor share, V ≈ fixedᵀ free. The penalties are part
    of the Gram and the cross product.

    Attributes:
      V: (m, n).
      l1, l2: the weights of its penalty.
      repeats: sweeps for each Gram and cross product.
    """

    V: Float[np.ndarray, "m n"]
    l1: float
    l2: float
    repeats: int

    def quadratic(self, fixed: Matrix) -> Pair:
        """(G + l2 I, B − l1), with which the objective of the free factor X is
        ½⟨X, G X⟩ − ⟨B, X⟩, up to a constant."""
        gram, cross = fixed @ fixed.T, fixed @ self.V
        if self.l2:
            gram.flat[:: len(gram) + 1] += self.l2
        return gram, cross - self.l1 if self.l1 else cross

    def swept(self, gram: Matrix, cross: Matrix, X: Matrix) -> Matrix:
        """X after its sweeps: x_k ← max(0, (b_k − Σ_{j≠k} G_kj x_j) / G_kk)."""
        curvature = gram.diagonal()
        # A component without curvature does not move.
        moves = np.flatnonzero(curvature >= np.finfo(gram.dtype).tiny)
        inverse = 1 / curvature[moves, None]
        others, targets = gram[moves] * inverse, cross[moves] * inverse
        others[np.arange(len(moves)), moves] = 0
        X, product = X.copy(), np.empty_like(X[0])
        rows = [X[k] for k in moves]
        for _ in range(self.repeats):
            for other, target, x in zip(others, targets, rows, strict=True):
                np.dot(other, X, out=product)
                np.subtract(target, product, out=x)
                np.maximum(x, 0, out=x)
        return X


def _solved(gram: Matrix, cross: Matrix) -> Matrix:
    """argmin over X ≥ 0 of ½⟨X, G X⟩ − ⟨B, X⟩: with A = √S Uᵀ of G = U S Uᵀ, the
    non-negative least squares of A x ≈ S^(−½) Uᵀ b for each column b of B. Components
    are brought to one length before; one without any is 0."""
    from scipy.optimize import nnls

    lengths = np.sqrt(gram.diagonal())
    inverse = np.where(lengths > 0, 1 / np.where(lengths > 0, lengths, 1), 0)[:, None]
    values, vectors = np.linalg.eigh(gram * inverse * inverse.T)
    large = values > len(gram) * np.finfo(gram.dtype).eps * values[-1]
    roots, basis = np.sqrt(values[large, None]), vectors[:, large].T
    if not large.any():
        return np.zeros_like(cross)
    A, targets = roots * basis, basis @ (cross * inverse) / roots
    most = 100 * len(gram)
    X = np.stack([nnls(A, b, maxiter=most)[0] for b in targets.T], 1)
    # What rounding leaves of a zero.
    X[len(gram) * np.finfo(X.dtype).eps * X.max(0) >= X] = 0
    return inverse * X


def _change(gram: Matrix, cross: Matrix, old: Matrix, new: Matrix) -> float:
    """The change of ½⟨X, G X⟩ − ⟨B, X⟩."""
    slope = (0.5 * gram) @ (old + new) - cross
    return _inner(slope, new - old)


def _inner(X: Matrix, Y: Matrix) -> float:
    """⟨X, Y⟩, without BLAS, whose threads wait on each other where cores are busy."""
    return float((X * Y).sum())


def _halves(problem: Problem, rank: int, inner: int) -> tuple[_Half, _Half]:
    """The halves of W and of H."""
    V = np.asarray(problem.operand.array)
    V = V.T if problem.operand.transposed else V

    def half(V: Any, penalty: Any) -> _Half:
        each, columns = V.shape
        usual = suggested_repeats(rank, columns, each, by_entries=False, xp=np)
        return _Half(V, float(penalty.l1), float(penalty.l2), inner or int(usual))

    of_W, of_H = problem.penalties
    return half(V.T, of_W), half(V, of_H)


class _Ahead(NamedTuple):
    """The state of `Extrapolated`."""

    factors: Pair
    H: Matrix
    momentum: Momentum
    moved: float


def _alternated(halves: tuple[_Half, _Half], factors: Pair) -> Pair:
    """The step of `HALS`."""
    half_W, half_H = halves
    W, H = factors
    H = half_H.swept(*half_H.quadratic(W), H)
    return half_W.swept(*half_W.quadratic(H), W), H


def _extrapolated(
    solver: Extrapolated, halves: tuple[_Half, _Half], factors: Pair, state: _Ahead
) -> tuple[Pair, _Ahead]:
    """`Extrapolated.step`."""
    half_W, half_H = halves
    (W, H), (Wy, Hy), momentum = factors, state.factors, state.momentum
    beta = momentum.beta
    gram, cross = half_H.quadratic(Wy)
    next_H = half_H.swept(gram, cross, Hy)
    next_Hy = np.maximum(next_H + beta * (next_H - state.H), 0)
    change = state.moved + _change(gram, cross, H, next_Hy)

    gram, cross = half_W.quadratic(next_Hy)
    next_W = half_W.swept(gram, cross, Wy)
    next_Wy = np.maximum(next_W + beta * (next_W - W), 0)
    change += _change(gram, cross, Wy, next_W)
    if change <= 0:
        return (next_W, next_Hy), _Ahead(
            (next_Wy, next_Hy),
            next_H,
            momentum.grown(solver.growth, solver.ceiling_growth),
            _change(gram, cross, next_W, next_Wy),
        )
    return factors, _Ahead(factors, H, momentum.shrunk(solver.decay), 0.0)


class _Look:
    """The objective, summed in float64, and the KKT residual.

    Args:
      halves: of the problem.
      unit: of the objective.
      kkt: whether to compute the KKT residual.
      both: whether H is free too.
    """

    def __init__(
        self,
        halves: tuple[_Half, _Half],
        unit: float,
        *,
        kkt: bool,
        both: bool = True,
    ) -> None:
        self.halves, self.unit, self.kkt, self.both = halves, unit, kkt, both
        self.V = halves[1].V.astype(np.float64)

    def __call__(self, factors: Pair) -> Measure:
        wide = tuple(X.astype(np.float64) for X in factors)
        residual = self.V - wide[0].T @ wide[1]
        objective = 0.5 * _inner(residual, residual)
        for half, X in zip(self.halves, wide, strict=True):
            if half.l1 or half.l2:
                objective += half.l1 * X.sum() + 0.5 * half.l2 * _inner(X, X)
        kkt = np.asarray(self._kkt(*factors) if self.kkt else np.nan, factors[0].dtype)
        return Measure(np.float64(objective * self.unit), kkt)  # pyright: ignore

    def _kkt(self, W: Matrix, H: Matrix) -> float:
        """`Problem.kkt`."""
        of_W = _residual(self.halves[0], H, W)
        free = (of_W, _residual(self.halves[1], W, H)) if self.both else (of_W,)
        total = sum(_inner(r, r) for r in free)
        return float(np.sqrt(total / sum(r.size for r in free)))


def _residual(half: _Half, fixed: Matrix, X: Matrix) -> Matrix:
    """The natural residual of a factor."""
    gram, cross = half.quadratic(fixed)
    plus, project = gram @ X, NonNegative()
    unit = project.row_means(plus + half.l1)
    return project.natural_residual(X, plus - cross, unit)
