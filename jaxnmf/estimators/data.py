"""The X of an estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from jaxnmf.data.arrays import check_columns, widened
from jaxnmf.data.blocks import check_in_memory
from jaxnmf.data.containers import contents, is_frame
from jaxnmf.data.known import is_sparse
from jaxnmf.data.observed import Observed
from jaxnmf.objective.losses import Loss


def suited_to(X: Any, loss: Loss) -> Any:
    """X, dense where a loss needs an entry > 0 everywhere: a sparse X that stores every
    entry is larger."""
    return X.toarray() if is_sparse(X) and loss.positive_data else X


def checked_data(
    estimator: Any, X: Any, *, mask: Any, signed: bool, reset: bool
) -> Any:
    """X as scikit-learn has it: float32 or float64, an array, CSR or CSC.

    Args:
      estimator: keeps the number and the names of the columns, with ``reset``.
      X: what a user gave.
      mask: "nan" if NaN means unknown, or None.
      signed: allow negative entries.
      reset: whether it is a fit.

    Raises:
      ValueError: for data that do not fit.
    """
    if isinstance(X, Observed):
        raise ValueError(
            "X is jaxnmf.Observed, which is for jaxnmf.factorize; an estimator needs "
            "an array (m, n), with mask='nan' and NaN for what is unknown"
        )
    check_in_memory("X", X, f"jaxnmf.{type(estimator).__name__}")
    named = isinstance(mask, str)
    if mask is not None and not (named and mask == "nan"):
        found = f"={mask!r}" if named else f" is a {type(mask).__name__}"
        raise ValueError(
            f"mask{found}; it must be 'nan' or None (jaxnmf.factorize takes arrays "
            "too, which belong to the rows of one X)"
        )
    if isinstance(X, np.ma.MaskedArray):
        if mask is None and np.ma.getmaskarray(X).any():
            raise ValueError(
                "X is a masked array; mask='nan' takes what is masked as unknown"
            )
        X = np.ma.filled(X.astype(np.float64), np.nan)
    X = contents(X)
    if mask is not None and is_sparse(X):
        raise ValueError(
            "X is sparse; mask='nan' needs a dense X, with NaN for what is unknown "
            "(jaxnmf.factorize takes jaxnmf.Observed)"
        )
    if is_frame(X):
        X = check_columns("X", X)
    X = validate_data(
        estimator,
        widened(X),
        reset=reset,
        accept_sparse=("csr", "csc"),
        dtype=[np.float64, np.float32],
        ensure_all_finite="allow-nan",
        ensure_non_negative=not signed,
    )
    if mask is None and not is_sparse(X) and np.isnan(X.min()):
        raise ValueError(
            "X holds NaN; every entry must be a number, or mask='nan' say that NaN "
            "stands for what is unknown"
        )
    return X
