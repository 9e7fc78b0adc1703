"""An estimator of several views of the same samples."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxnmf.build import Objective, make_problem
from jaxnmf.data.views import Views
from jaxnmf.estimators.fits import PLAIN, error_of, warn_of_status
from jaxnmf.factorize import factorize
from jaxnmf.joint import data_of
from jaxnmf.objective.losses import Loss
from jaxnmf.result import Result
from jaxnmf.run.programs import precision


def fit_views(estimator: Any, views: Views, W: Any, H: Any) -> np.ndarray:
    """`jaxnmf.factorize` by the parameters of an `jaxnmf.NMF`, and its attributes.

    Args:
      estimator: the parameters; it gets the attributes.
      views: X.
      W, H: the start, for init="custom".

    Returns:
      W (m, p).

    Raises:
      ValueError: for "cd" and "mu" of scikit-learn, and what does not fit.
    """
    if isinstance(estimator.solver, str) and estimator.solver in PLAIN:
        raise ValueError(
            f"X is jaxnmf.Views, which solver={estimator.solver!r} does not support; "
            "leave solver='auto', or choose one of jaxnmf's own (jaxnmf.solvers.MU())"
        )
    init = (W, H) if estimator.init == "custom" else estimator.init
    rank = estimator.n_components
    if rank is None or rank == "auto":
        rank = views.shape[1] if init is None or isinstance(init, str) else len(init[1])
    l1_W, l1_H, l2_W, l2_H = estimator._compute_regularization(views)
    dtype, loss = views.dtype, estimator._loss()
    result = factorize(
        views,
        rank,
        solver=estimator.solver,
        loss=loss,
        init="auto" if init is None else init,
        seed=estimator._seed(),
        max_iter=estimator.max_iter,
        tol=estimator.tol,
        l1=(l1_W, l1_H),
        l2=(l2_W, l2_H),
        constraints=estimator.constraints,
        mask=estimator.mask,
        toward=estimator.toward,
        known_H=estimator.known_H,
        graph=estimator.graph,
        graph_weight=estimator.graph_weight,
        dtype=dtype,
        progress=bool(estimator.verbose) or estimator.progress,
        pad=estimator.pad,
        solver_options=estimator.solver_options,
    )
    estimator.result_, estimator.components_ = result, result.H
    estimator.n_components_, estimator.n_features_in_ = result.H.shape
    estimator.n_iter_ = result.iterations
    warn_of_status(estimator, result.status)
    estimator.reconstruction_err_ = _error(estimator, views, result, loss)
    vars(estimator).pop("feature_names_in_", None)
    if result.column_names is not None:
        estimator.feature_names_in_ = result.column_names.astype(object)
    return result.W.copy()


def _error(estimator: Any, views: Views, result: Result, loss: Loss) -> float:
    """√(2D) of all views, for a loss that is no β-divergence D."""
    data = data_of(views, None, Objective(loss=loss), None)
    assert data.views is not None
    solver = estimator._made("pgd" if estimator.solver == "auto" else estimator.solver)
    with precision(views.dtype) as dtype:
        problem = make_problem(data.V, solver, data.objective, dtype)
        return error_of(problem, result.W, result.H * data.views.of_columns)


def rows_of_views(estimator: Any, views: Views) -> np.ndarray:
    """W (r, p) of new rows with H = ``components_``.

    Raises:
      ValueError: for an estimator that was not fitted to views.
    """
    result = getattr(estimator, "result_", None)
    if result is None:
        raise ValueError("X is jaxnmf.Views; this estimator was not fitted to views")
    return dataclasses.replace(result, H=estimator.components_).transform(views)
