"""Baselines from scikit-learn: the two solvers of `sklearn.decomposition.NMF`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from jaxnmf.baselines.base import Baseline, register_baseline
from jaxnmf.solvers.base import BETA, QUADRATIC, Supports


@register_baseline("sklearn-cd")
class SklearnCD(Baseline):
    """scikit-learn's coordinate descent, ``NMF(solver="cd")``: HALS, W first.

    Calls ``_fit_coordinate_descent`` with tol=0, since the public function would check
    its input again for every record.
    """

    supports: ClassVar[Supports] = QUADRATIC

    def start(self, V: Any, loss: Any, W: np.ndarray, H: np.ndarray) -> Any:
        del loss
        return V, W, H

    def advance(self, state: Any, iterations: int) -> Any:
        from sklearn.decomposition._nmf import _fit_coordinate_descent

        V, W, H = state
        W, H, _ = _fit_coordinate_descent(V, W, H, tol=0, max_iter=iterations)
        return V, W, H

    def factors(self, state: Any) -> tuple[np.ndarray, np.ndarray]:
        return state[1:]


@register_baseline("sklearn-mu")
class SklearnMU(Baseline):
    """scikit-learn's multiplicative updates, ``NMF(solver="mu")``, W first.

    Calls ``_multiplicative_update_w`` and ``_h``, since the loop around them evaluates
    the objective whenever it starts. For β ≤ 1 that loop sets entries below 2e-16 to
    zero (of H; for β < 1 of W too), and so does this one.
    """

    supports: ClassVar[Supports] = BETA

    def start(self, V: Any, loss: Any, W: np.ndarray, H: np.ndarray) -> Any:
        return V, loss, W, H

    def advance(self, state: Any, iterations: int) -> Any:
        from sklearn.decomposition import _nmf

        V, loss, W, H = state
        beta, gamma = loss.beta, loss.mu_exponent
        tiny = np.finfo(np.float64).eps
        for _ in range(iterations):
            W, *_ = _nmf._multiplicative_update_w(V, W, H, beta, 0, 0, gamma)
            if beta < 1:
                W[tiny > W] = 0
            H = _nmf._multiplicative_update_h(V, W, H, beta, 0, 0, gamma)
            if beta <= 1:
                H[tiny > H] = 0
        return V, loss, W, H

    def factors(self, state: Any) -> tuple[np.ndarray, np.ndarray]:
        return state[2:]
