"""The outcome of a run: the fields of its `Result`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnmf.data.beside import Beside
from jaxnmf.data.placed import Placed
from jaxnmf.data.spread import Spread, is_spread
from jaxnmf.fold_in import Model, known_rows
from jaxnmf.objective.covariates import Design
from jaxnmf.objective.losses import Frobenius
from jaxnmf.objective.offsets import FIRST, has_offsets
from jaxnmf.objective.problem import Problem
from jaxnmf.objective.relative_error import relative_error
from jaxnmf.run.clock import divergence
from jaxnmf.run.loop import Run
from jaxnmf.shapes import Bool, Float, Int
from jaxnmf.types import Factors, Status, Trace


class Offsets(NamedTuple):
    """The terms b (m,) and c (n,), ≥ 0, added to the entries of each row and column."""

    rows: Float[np.ndarray, " m"]
    cols: Float[np.ndarray, " n"]


class Unobserved(NamedTuple):
    """The rows and columns of which nothing is known."""

    rows: Int[np.ndarray, " r"]
    cols: Int[np.ndarray, " c"]


class Covariates(NamedTuple):
    """The term W H added to the approximation of V, of known columns W.

    Attributes:
      W: (m, k), as they were given; of a batch 1 for its rows and 0 for others.
      H: (k, n), what one unit of each adds to each column of V.
      names: (k,), of the columns; of a batch its label.
      batch: (k,), whether it is of a batch.
    """

    W: Float[np.ndarray, "m k"]
    H: Float[np.ndarray, "k n"]
    names: np.ndarray
    batch: Bool[np.ndarray, " k"]


def design_of(fitted: Covariates | None, covariates: Any, batch: Any) -> Design | None:
    """The known columns of new rows, as many as were fitted.

    Raises:
      ValueError: where some are missing, or were not fitted.
    """
    for name, value in {"covariates": covariates, "batch": batch}.items():
        of_batch = name == "batch"
        names = (
            [] if fitted is None else fitted.names[fitted.batch == of_batch].tolist()
        )
        if (value is None) != (not names):
            has = f"has {', '.join(names)}; give those of the new rows"
            raise ValueError(f"{name}: this result {has if names else 'has none'}")
    if fitted is None:
        return None
    design = Design.of(covariates, batch, fitted.names[fitted.batch].tolist())
    assert design is not None
    if len(design) != len(fitted.names):
        own = fitted.names[~fitted.batch].tolist()
        raise ValueError(
            f"covariates has {design.covariates} columns; this result has {len(own)}, "
            f"{', '.join(own)}"
        )
    return design


NOTHING = Unobserved(np.zeros(0, int), np.zeros(0, int))


def outcome(
    run: Run,
    problem: Problem,
    solver: Any,
    model: Model | None = None,
    typical: Float[np.ndarray, " p"] | None = None,
    design: Design | None = None,
) -> dict[str, Any]:
    """The fields of the result of a run, NumPy arrays with W (m, p).

    Args:
      run: the run.
      problem: the problem it solved.
      solver: what it was solved by.
      model: for a run of new rows, the model they were fitted with.
      typical: the row of W where nothing is known; the mean of the others by default.
      design: the covariates of the problem.
    """
    if is_spread(run.factors.H):
        return _spread(run, problem, solver)
    Wt, H = (np.array(X) for X in run.factors)
    unobserved = NOTHING
    if not problem.fully_observed:
        rows, cols = known_rows(problem), known_rows(problem.T)
        alone = ~rows & _without_neighbours(problem, 0)
        usual = Wt[:, rows].mean(1) if typical is None else typical
        Wt = np.where(alone & _free(problem, 0), usual[:, None], Wt)
        if model is None:
            alone = ~cols & _without_neighbours(problem, 1)
            mean = H[:, cols].mean(1, keepdims=True)
            H = np.where(alone & _free(problem, 1), mean, H)
            unobserved = Unobserved(np.flatnonzero(~rows), np.flatnonzero(~cols))
        else:
            unobserved = Unobserved(np.flatnonzero(~rows), NOTHING.cols)
    error = np.nan
    unread = int(run.status) == Status.UNREADABLE.code
    if problem.operand.moments.squares > 0 and not unread:
        own = problem.units.inverse.of(Factors(Wt, H))  # pyright: ignore
        error = _relative_error(problem.operand, own)
    offsets, covariates, model = None, None, model or Model.of(problem)
    if design is not None:
        Wt, own_W, H, own_H = (part for X in (Wt, H) for part in _cut(X, len(design)))
        covariates = Covariates(
            W=np.ascontiguousarray(own_W.T),
            H=own_H,
            names=np.array(design.names),
            batch=np.arange(len(design)) >= design.covariates,
        )
    if has_offsets(problem):
        offsets = Offsets(rows=Wt[0], cols=H[1])
        Wt, H = Wt[FIRST:], H[FIRST:]
    return {
        "W": np.ascontiguousarray(Wt.T),
        "H": H,
        "relative_error": error,
        "offsets": offsets,
        "covariates": covariates,
        "unobserved": unobserved,
        "model": model,
        **_of_run(run, solver),
    }


def _relative_error(operand: Any, factors: Factors) -> float:
    """That of V; of views that are side by side the root mean square of theirs."""
    Wt, H = factors
    if not isinstance(operand, Beside):
        V, weights = operand.to_host(), operand.host_weights()
        return relative_error(V, Wt.T, H, weights)
    sides = zip(operand.parts, operand.cut(H), strict=True)
    known = [(part, own) for part, own in sides if part.moments.squares > 0]
    each = [_relative_error(part, Factors(Wt, own)) for part, own in known]
    return float(np.sqrt(np.mean(np.square(each))))


def _without_neighbours(problem: Problem, side: int) -> Any:
    """The rows of V (``side`` 0) or the columns without a neighbour in a graph."""
    graph = problem.graphs[side]
    return True if graph is None else np.asarray(graph.degrees) == 0


def _free(problem: Problem, side: int) -> Any:
    """The entries of Wt (``side`` 0) or H that no value is held at."""
    held = problem.projects[side].held
    return True if held is None else np.isnan(np.asarray(held))


def _cut(X: np.ndarray, last: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a factor but the last ones, and these."""
    return X[:-last], X[-last:]


def _spread(run: Run, problem: Problem, solver: Any) -> dict[str, Any]:
    """The fields where the factors are spread over processes, and stay there."""
    error, units = np.nan, dataclasses.replace(problem.units, beta=2.0)
    operand, places = problem.operand, (None, None)
    if isinstance(operand, Placed):
        operand, places = operand.on_devices(), operand.places
    size = operand.moments.squares * units.objective
    if size > 0:
        frobenius = Problem.of(operand, Frobenius(), units=units)
        squared = 2 * divergence(frobenius, units.inverse.of(run.factors))
        error = float(np.sqrt(squared / size))
    Wt, H = run.factors
    return {
        "W": Spread(Wt, True, places[0]),
        "H": Spread(H, False, places[1]),
        "relative_error": error,
        "model": Model.of(problem),
        **_of_run(run, solver),
    }


def of_parts(parts: Sequence[tuple[Any, float]]) -> dict[str, Any]:
    """The fields of a result of rows from those of blocks of them.

    Args:
      parts: the result of each block, and its ‖V‖².
    """
    found, sizes = [one for one, _ in parts], np.array([size for _, size in parts])
    iterations = max(one.iterations for one in found)
    off = sum(s * one.relative_error**2 for one, s in parts if s > 0)
    ends = [sum(one.trace.objective[k] for one in found) for k in (0, -1)]
    seconds = sum(one.seconds for one in found)
    statuses = [one.status for one in found]
    offsets = found[0].offsets
    if offsets is not None:
        rows = np.concatenate([one.offsets.rows for one in found])
        offsets = offsets._replace(rows=rows)
    return {
        "W": np.concatenate([one.W for one in found]),
        "objective": float(ends[-1]),
        "relative_error": float(np.sqrt(off / sizes.sum())) if sizes.any() else np.nan,
        "kkt": np.nan,
        "iterations": iterations,
        "status": next((x for x in statuses if x != Status.CONVERGED), statuses[0]),
        "trace": Trace(
            np.array([0, iterations]),
            np.array(ends),
            np.full(2, np.nan),
            np.array([0.0, seconds]),
        ),
        "seconds": seconds,
        "compile_seconds": sum(one.compile_seconds for one in found),
        "offsets": offsets,
    }


def _of_run(run: Run, solver: Any) -> dict[str, Any]:
    """The fields of a result that are of its run alone."""
    trace = run.trace
    return {
        "objective": float(trace.objective[-1]),
        "kkt": float(trace.kkt[-1]),
        "iterations": int(run.iterations),
        "status": Status.from_code(int(run.status)),
        "trace": trace,
        "seconds": float(trace.seconds[-1]),
        "compile_seconds": run.compile_seconds,
        "solver": solver if isinstance(solver, str) else solver.name,
    }
