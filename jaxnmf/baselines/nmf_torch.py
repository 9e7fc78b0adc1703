"""Baselines from nmf-torch (module ``nmf``), a package of single-cell genomics.

HALS, block principal pivoting and multiplicative updates in PyTorch.
"""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

import numpy as np

from jaxnmf.baselines.base import Baseline, register_baseline
from jaxnmf.solvers.base import Supports

DENSE = frozenset({"dense"})


class NMFTorch(Baseline):
    """Common base: the state is one of nmf-torch's models.

    The model starts from the given factors, where its own ``fit`` would draw them. Its
    H is W here, and is updated first. Its products with the data are computed at the
    start, which is not timed, since its loop keeps them between iterations.
    """

    kind: ClassVar[str]
    requires: ClassVar[str | None] = "nmf-torch"

    def _settings(self) -> dict[str, Any]:
        return {}

    def start(self, V: Any, loss: Any, W: np.ndarray, H: np.ndarray) -> Any:
        torch: Any = importlib.import_module("torch")
        models: Any = importlib.import_module("nmf.nmf_models")
        dtype = torch.from_numpy(W).dtype
        model = getattr(models, self.kind)(
            n_components=W.shape[1],
            init="random",
            beta_loss=loss.beta,
            tol=0,
            random_state=0,
            alpha_W=0.0,
            l1_ratio_W=0.0,
            alpha_H=0.0,
            l1_ratio_H=0.0,
            fp_precision=dtype,
            device_type="cpu",
            **self._settings(),
        )
        model.X = torch.tensor(V)
        model.H, model.W = torch.from_numpy(W), torch.from_numpy(H)
        if loss.quadratic:
            # As nmf-torch's `fit` does before its loop.
            model._WWT = model.W @ model.W.T
            model._HTH = model.H.T @ model.H
            model._XWT = model.X @ model.W.T
        return model

    def advance(self, state: Any, iterations: int) -> Any:
        for _ in range(iterations):
            state._update_H()
            state._update_W()
        return state

    def factors(self, state: Any) -> tuple[np.ndarray, np.ndarray]:
        return state.H.numpy(), state.W.numpy()


@register_baseline("nmf-torch-hals")
class NMFTorchHALS(NMFTorch):
    """nmf-torch's HALS, ``run_nmf(algo="halsvar")``, its default.

    Sweeps over one factor until no entry changes by more than hals_tol times the mean
    entry, at most hals_max_iter of them; 1 is its ``algo="hals"``.
    """

    supports: ClassVar[Supports] = Supports("quadratic", DENSE)
    kind: ClassVar[str] = "NMFBatchHALS"
    hals_max_iter: int = 200
    hals_tol: float = 0.05

    def _settings(self) -> dict[str, Any]:
        return {"hals_max_iter": self.hals_max_iter, "hals_tol": self.hals_tol}


@register_baseline("nmf-torch-bpp")
class NMFTorchBPP(NMFTorch):
    """nmf-torch's block principal pivoting, ``run_nmf(algo="bpp")``.

    Alternating least squares, each subproblem solved exactly.
    """

    supports: ClassVar[Supports] = Supports("quadratic", DENSE)
    kind: ClassVar[str] = "NMFBatchNnlsBpp"


@register_baseline("nmf-torch-mu")
class NMFTorchMU(NMFTorch):
    """nmf-torch's multiplicative updates, ``run_nmf(algo="mu")``, for any β.

    Without the exponent that makes them monotone outside 1 ≤ β ≤ 2.
    """

    supports: ClassVar[Supports] = Supports("beta", DENSE)
    monotone: ClassVar[bool] = False
    kind: ClassVar[str] = "NMFBatchMU"
