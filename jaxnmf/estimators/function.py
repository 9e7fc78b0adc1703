"""`non_negative_factorization` with scikit-learn's signature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn import config_context

from jaxnmf.estimators.nmf import NMF
from jaxnmf.objective.losses import Loss
from jaxnmf.shapes import Float


def non_negative_factorization(
    X: Any,
    W: Any = None,
    H: Any = None,
    n_components: int | str | None = "auto",
    *,
    init: str | Sequence[Any] | None = None,
    update_H: bool = True,
    solver: Any = "auto",
    beta_loss: float | str | Loss | Callable[..., Any] = "frobenius",
    tol: float = 1e-4,
    max_iter: int = 200,
    alpha_W: float = 0.0,
    alpha_H: float | str = "same",
    l1_ratio: float = 0.0,
    random_state: int | np.random.RandomState | None = None,
    verbose: int = 0,
    shuffle: bool = False,
    **others: Any,
) -> tuple[Float[np.ndarray, "m p"], Float[np.ndarray, "p n"], int]:
    """Factorise X ≈ W H, in place of scikit-learn's function of this name.

    Args:
      X: (m, n), non-negative: an array, a data frame or SciPy sparse.
      W, H: the start (m, p) and (p, n), for init="custom"; with update_H=False H is
        held, and W not used.
      update_H: whether H is fitted too.
      n_components, init, solver, beta_loss, tol, max_iter: as for `jaxnmf.NMF`.
      alpha_W, alpha_H, l1_ratio, random_state, verbose, shuffle, others: as there.

    Returns:
      W (m, p), H (p, n) and the number of iterations.

    Raises:
      ValueError: for anything that does not fit.

    Example:
      >>> import numpy as np, jaxnmf
      >>> X = np.random.default_rng(0).random((30, 20))
      >>> W, H, iterations = jaxnmf.non_negative_factorization(X, n_components=4)
      >>> W.shape, H.shape
      ((30, 4), (4, 20))
    """
    model = NMF(
        n_components,
        init=init,
        solver=solver,
        beta_loss=beta_loss,
        tol=tol,
        max_iter=max_iter,
        random_state=random_state,
        alpha_W=alpha_W,
        alpha_H=alpha_H,
        l1_ratio=l1_ratio,
        verbose=verbose,
        shuffle=shuffle,
        **others,
    )
    if not isinstance(update_H, bool | np.bool_):
        raise ValueError(f"update_H={update_H!r} must be True or False")
    model._validate_params()
    X = model._checked(X, reset=True)
    with config_context(assume_finite=True):
        return model._fit_transform(X, W=W, H=H, update_H=bool(update_H))
