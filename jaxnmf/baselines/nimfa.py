"""Baselines from nimfa: standard NMF and alternating least squares."""

from __future__ import annotations

import importlib
import types
from typing import Any, ClassVar

import numpy as np

from jaxnmf.baselines.base import Baseline, FrobeniusOrKL, register_baseline
from jaxnmf.solvers.base import Supports

DENSE = frozenset({"dense"})


class Nimfa(Baseline):
    """Common base: the state is one of nimfa's models.

    nimfa always works in float64, whatever the precision of V. Only dense V is
    supported, since nimfa's sparse products are loops in Python.
    """

    requires: ClassVar[str | None] = "nimfa"

    def _model(
        self, kind: str, V: Any, W: np.ndarray, H: np.ndarray, **options: Any
    ) -> Any:
        nimfa: Any = importlib.import_module("nimfa")
        # nimfa 1.4 calls np.mat, which NumPy 2 removed: the one module of nimfa that
        # the steps use gets its own namespace with it, and NumPy stays as it is.
        linalg = importlib.import_module("nimfa.utils.linalg")
        if not hasattr(np, "mat"):
            linalg.np = types.SimpleNamespace(**vars(np), mat=np.asmatrix)  # pyright: ignore
        # Copies: nimfa overwrites zeros of V with a small number.
        V, W, H = (np.array(x, np.float64) for x in (V, W, H))
        make = getattr(nimfa, kind)
        return make(V, seed=None, W=W, H=H, rank=W.shape[1], **options)

    def factors(self, state: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(state.W), np.asarray(state.H)


@register_baseline("nimfa-nmf")
class NimfaNMF(Nimfa):
    """nimfa's multiplicative updates, ``nimfa.Nmf``, in float64.

    An iteration is ``update`` followed by the floor on small entries, as in nimfa's
    ``factorize``, which would also evaluate the objective every time.
    """

    supports: ClassVar[Supports] = FrobeniusOrKL("quadratic, kl", DENSE)

    def start(self, V: Any, loss: Any, W: np.ndarray, H: np.ndarray) -> Any:
        update = "euclidean" if loss.quadratic else "divergence"
        return self._model("Nmf", V, W, H, update=update)

    def advance(self, state: Any, iterations: int) -> Any:
        for _ in range(iterations):
            state.update()
            state._adjustment()
        return state


@register_baseline("nimfa-lsnmf")
class NimfaLSNMF(Nimfa):
    """nimfa's alternating least squares by projected gradients, ``nimfa.Lsnmf``.

    In float64; each subproblem is solved to a tolerance that decreases.

    Reference: Lin, "Projected gradient methods for nonnegative matrix factorization",
    Neural Computation 19 (2007) [Lin2007].
    """

    supports: ClassVar[Supports] = Supports("quadratic", DENSE)

    def start(self, V: Any, loss: Any, W: np.ndarray, H: np.ndarray) -> Any:
        del loss
        model = self._model("Lsnmf", V, W, H)
        # As nimfa's `factorize` does before its loop.
        V, W, H = model.V, model.W, model.H
        model.gW = W @ (H @ H.T) - V @ H.T
        model.gH = (W.T @ W) @ H - W.T @ V
        model.init_grad = np.sqrt(np.square(model.gW).sum() + np.square(model.gH).sum())
        model.epsW = model.epsH = max(1e-3, model.min_residuals) * model.init_grad
        model.iterW = model.iterH = 10
        return model

    def advance(self, state: Any, iterations: int) -> Any:
        for _ in range(iterations):
            state.update()
        return state
