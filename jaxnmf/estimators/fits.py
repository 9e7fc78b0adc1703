"""How an estimator is fitted: by scikit-learn's solvers, or by jaxnmf's own."""

from __future__ import annotations

import dataclasses
import reprlib
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils import check_random_state

from jaxnmf import auto
from jaxnmf.build import Objective, Start, make_problem
from jaxnmf.data.convert import as_operand
from jaxnmf.data.known import is_sparse, what_is_known
from jaxnmf.estimators.data import suited_to
from jaxnmf.factorize import run_factorize
from jaxnmf.fold_in import Model
from jaxnmf.init.start import check_init
from jaxnmf.objective.losses import Loss
from jaxnmf.objective.problem import Problem
from jaxnmf.objective.relative_error import residual_norm
from jaxnmf.objective.units import units_of
from jaxnmf.padding import may_share, shared, unpadded
from jaxnmf.registry import make_solver
from jaxnmf.result import Result, to_result
from jaxnmf.run.clock import divergence
from jaxnmf.run.plain import coordinate_descent, multiplicative_updates
from jaxnmf.run.programs import precision
from jaxnmf.run.stop import Stop
from jaxnmf.shapes import Float
from jaxnmf.types import Factors, Status

PLAIN = ("cd", "mu")  # scikit-learn's two
# Parameters of jaxnmf's own solvers, and what they must be for the others.
OWN = {
    "constraints": ("nonnegative", None),
    "mask": (None,),
    "toward": ("zero", (None, None), [None, None]),
    "known_H": (None,),
    "graph": (None,),
    "solver_options": (None, {}),
}
FROM_SVD = ("nndsvd", "nndsvda", "nndsvdar")


class Fit(NamedTuple):
    """A factorisation, as every solver gives it.

    Attributes:
      W, H: the factors.
      iterations: how many it took.
      error: computes the reconstruction error.
    """

    W: Float[np.ndarray, "m p"]
    H: Float[np.ndarray, "p n"]
    iterations: int
    error: Callable[[], float]


def check_plain(estimator: Any, beta: float | None) -> None:
    """Raise a ValueError for what scikit-learn's solvers do not support."""
    if beta is None or (estimator.solver == "cd" and beta != 2):
        raise ValueError(
            f"Invalid beta_loss parameter: solver {estimator.solver!r} does not handle "
            f"beta_loss = {estimator.beta_loss!r}"
        )
    for name, usual in OWN.items():
        value = getattr(estimator, name)
        if getattr(value, "ndim", 0) > 1 or value not in usual:
            raise ValueError(
                f"{name}={reprlib.repr(value)} is for jaxnmf's own solvers, not for "
                f"{estimator.solver!r}; leave solver='auto', or choose another"
            )


def chosen(estimator: Any, X: Any, objective: Objective) -> Any:
    """The solver, one of jaxnmf's own made where it is "auto"."""
    if estimator.solver != "auto":
        return estimator.solver
    kind = "sparse" if is_sparse(X) else "dense"
    beta = objective.loss.beta
    if kind == "sparse" and beta not in (1, 2) and not objective.has_graph:
        return "mu"  # scikit-learn's alone forms W H block by block
    rank: Any = estimator._n_components
    row = auto.chosen(
        objective,
        kind if estimator.mask is None else "observed",
        X.shape[1] if rank == "auto" else rank,
    )
    return make_solver(row.solver, row.options)


def initial(estimator: Any, X: Any, W: Any, H: Any, *, plain: bool) -> Any:
    """(W, H), or for jaxnmf's own solvers the name of a start."""
    if isinstance(estimator.init, list | tuple):
        check_init(estimator.init)
        W, H = (np.asarray(x, X.dtype) for x in estimator.init)
        if estimator.n_components is None or estimator.n_components == "auto":
            estimator._n_components = len(H)
        return W, H
    if plain or estimator.init == "custom":
        return estimator._check_w_h(X, W, H, update_H=True)
    if W is not None or H is not None:
        warnings.warn(
            "When init!='custom', provided W or H are ignored. Set  init='custom' "
            "to use them as initialization.",
            RuntimeWarning,
            stacklevel=5,
        )
    if estimator._n_components == "auto":
        estimator._n_components = X.shape[1]
    low = estimator._n_components <= min(X.shape)  # pyright: ignore
    if estimator.init in FROM_SVD and not low:
        raise ValueError(
            f"init = '{estimator.init}' can only be used when n_components <= "
            "min(n_samples, n_features)"
        )
    if estimator.init is not None:
        return estimator.init
    if estimator.solver == "auto":
        return auto.AUTO
    return (
        "nndsvda"
        if low
        and estimator.mask is None
        and estimator.known_H is None
        and not estimator._signed
        else "random"
    )


def by_plain(
    estimator: Any,
    X: Any,
    objective: Objective,
    solver: str,
    start: tuple[Any, Any],
    *,
    both: bool,
) -> Fit:
    """By "cd" or "mu" as scikit-learn defines them.

    Args:
      estimator: the parameters.
      X: the data.
      objective: what is minimised.
      solver: which of the two.
      start: (W, H).
      both: whether H is updated too.
    """
    loss = objective.loss
    X = suited_to(X, loss)
    W, H = start
    settings: Any = {
        "tol": estimator.tol,
        "max_iter": estimator.max_iter,
        "both": both,
        "verbose": bool(estimator.verbose),
    }
    with precision(X.dtype) as dtype:
        known = what_is_known(X)
        units = units_of(known.largest(), loss.beta, False, False)
        problem = Problem.of(
            as_operand(known, dtype, unit=units.V),
            loss,
            penalties=objective.penalties,
            units=units,
        )
        factors = Factors(*map(np.ascontiguousarray, (W.T, H)))  # pyright: ignore
        rank = len(H)
        if estimator.pad and may_share(problem, None, rank):
            problem, factors, settings["quick"] = shared(problem, factors)
        if solver == "cd":
            order = _order(estimator, rank, len(factors.H))
            run = coordinate_descent(problem, factors, order=order, **settings)
        else:
            run = multiplicative_updates(problem, factors, **settings)
    if run.iterations == estimator.max_iter and estimator.tol > 0:
        warn_of_max_iter(estimator.max_iter)
    Wt, H = map(np.asarray, unpadded(run.factors, rank, X.shape))
    W = np.ascontiguousarray(Wt.T)
    error = run.error
    known = partial(residual_norm, X, W, H) if error is None else lambda: error
    return Fit(W, H, run.iterations, known)


def _order(estimator: Any, rank: int, padded: int) -> Callable[[], np.ndarray] | None:
    """Draws the order of the components, those last that only pad the rank."""
    if not estimator.shuffle:
        return None
    drawn = check_random_state(estimator.random_state)
    pads = np.arange(rank, padded)
    return lambda: np.concatenate([drawn.permutation(rank), pads])


def by_factorize(
    estimator: Any, X: Any, objective: Objective, solver: Any, init: Any, seed: int
) -> Result:
    """By a solver of jaxnmf's own."""
    found = run_factorize(
        X,
        estimator._n_components,
        solver=solver,
        objective=objective,
        start=Start.of(init, seed),
        stop=Stop.of(estimator.max_iter, estimator.tol),
        mask=estimator.mask,
        dtype=X.dtype.name,
        progress=bool(estimator.verbose) or estimator.progress,
        pad=estimator.pad,
    )
    warn_of_status(estimator, found.status)
    return found


def rows(
    estimator: Any,
    result: Result | None,
    X: Any,
    H: Any,
    objective: Objective,
    solver: Any,
) -> Result:
    """W of the rows of X for a known H.

    Args:
      estimator: the parameters.
      result: of the fit before, if there was one: new rows have its model.
      X: the data.
      H: (p, n).
      objective: what is minimised, where there was no fit.
      solver: of jaxnmf's own, then.
    """
    given: Any = {"mask": estimator.mask, "pad": estimator.pad}
    if result is not None and result.model is not None:
        model = dataclasses.replace(result.model, dtype=X.dtype.name)
        found = dataclasses.replace(result, H=H, model=model).fold_in(X, **given)
    elif objective.toward == "mean":
        raise NotFittedError(
            f"toward={objective.toward!r} needs the mean of the data that were fitted; "
            "call fit first"
        )
    else:
        signed = solver.supports.signed
        model = Model.of_objective(objective, signed, X.dtype.name)
        found = to_result(*model.fit(X, H, **given), solver, model)
    if found.status == Status.MAX_ITER:
        _warn(f"NMF.transform: {found.status.message}, and the loss still falls")
    return found


def reconstruction_error(
    X: Any, W: Any, H: Any, loss: Loss, solver: Any, mask: str | None
) -> float:
    """√(2D) over the known entries; for a loss that is no β-divergence D."""
    if loss.quadratic:
        known = None if mask is None else ~np.isnan(X)
        return residual_norm(X if known is None else np.where(known, X, 0), W, H, known)
    with precision(X.dtype) as dtype:
        problem = make_problem(X, solver, Objective(loss=loss), dtype, mask)
        return error_of(problem, W, H)


def error_of(problem: Problem, W: Any, H: Any) -> float:
    """√(2D) of factors in the units of the user; for a loss that is no β-divergence
    D."""
    dtype = problem.operand.dtype
    factors = Factors(*(np.asarray(x, dtype) for x in (W.T, H)))  # pyright: ignore
    value = divergence(problem, problem.units.inverse.of(factors))
    if problem.loss.beta is None:
        return value
    # Rounding may leave a sum of divergences below 0 where the fit is exact.
    return float(np.sqrt(2 * max(value, 0.0)))


def warn_of_status(estimator: Any, status: Status) -> None:
    """Warn of a fit that did not converge."""
    if status == Status.MAX_ITER and estimator.tol > 0:
        warn_of_max_iter(estimator.max_iter)
    elif status == Status.DIVERGED:
        _warn(f"NMF: {status.message}")


def warn_of_max_iter(max_iter: int) -> None:
    """Warn, as scikit-learn does, of a fit that may not have converged."""
    _warn(
        f"Maximum number of iterations {max_iter} reached. Increase it to improve "
        "convergence."
    )


def _warn(message: str) -> None:
    warnings.warn(message, ConvergenceWarning, stacklevel=5)
