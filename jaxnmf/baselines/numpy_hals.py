"""A plain NumPy HALS, as a baseline."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from jaxnmf.baselines.base import Baseline, register_baseline
from jaxnmf.solvers.base import QUADRATIC, Supports


@register_baseline("numpy-hals")
class NumPyHALS(Baseline):
    """HALS in twenty lines of NumPy: a reference for compiled code.

    x_k ← max(0, x_k + (cross_k − gram_k X) / gram_kk) for the rows of H, then of Wᵀ.
    A sparse V is multiplied by SciPy. The iterates are those of ``hals`` with
    ``inner=1``.

    Reference: Cichocki & Phan, "Fast local algorithms for large scale nonnegative
    matrix and tensor factorizations", IEICE Transactions E92-A (2009) [Cichocki2009].
    """

    supports: ClassVar[Supports] = QUADRATIC

    def start(self, V: Any, loss: Any, W: np.ndarray, H: np.ndarray) -> Any:
        del loss
        return V, np.ascontiguousarray(W.T), H

    def advance(self, state: Any, iterations: int) -> Any:
        V, Wt, H = state
        for _ in range(iterations):
            sweep(H, Wt @ Wt.T, Wt @ V)
            sweep(Wt, H @ H.T, H @ V.T)
        return state

    def factors(self, state: Any) -> tuple[np.ndarray, np.ndarray]:
        _, Wt, H = state
        return Wt.T, H


def sweep(X: np.ndarray, gram: np.ndarray, cross: np.ndarray) -> None:
    """Update the rows of X in turn, in place; a zero of the diagonal skips a row."""
    for k in range(len(X)):
        if gram[k, k] > 0:
            X[k] += (cross[k] - gram[k] @ X) / gram[k, k]
            np.maximum(X[k], 0, out=X[k])
