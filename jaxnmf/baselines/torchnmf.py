"""A baseline from torchnmf, multiplicative updates in PyTorch."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar, NamedTuple

import numpy as np

from jaxnmf.baselines.base import Baseline, register_baseline
from jaxnmf.solvers.base import Supports


class State(NamedTuple):
    V: Any  # torch tensor
    model: Any  # torchnmf's NMF, whose H is W here and whose W is Hᵀ here
    loss: Any


@register_baseline("torchnmf")
class TorchNMF(Baseline):
    """torchnmf's multiplicative updates, ``torchnmf.nmf.NMF(...).fit``, H first.

    On the CPU, with gradients from automatic differentiation. An iteration is one
    ``_double_backward_update`` of each factor, since ``fit`` would evaluate the
    objective at its start and every ten iterations.
    """

    supports: ClassVar[Supports] = Supports("beta", frozenset({"dense"}))
    # torchnmf adds 1e-7 to both parts of the gradient, whatever the scale of V.
    monotone: ClassVar[bool] = False
    requires: ClassVar[str | None] = "torchnmf"

    def start(self, V: Any, loss: Any, W: np.ndarray, H: np.ndarray) -> Any:
        torch: Any = importlib.import_module("torch")
        nmf: Any = importlib.import_module("torchnmf.nmf")
        V, W, Ht = (torch.tensor(x) for x in (V, W, H.T))
        model = nmf.NMF(W=Ht, H=W).to(V.dtype)
        # The constructor rounded them to torch's default precision.
        model.W.data, model.H.data = Ht, W
        return State(V, model, loss)

    def advance(self, state: Any, iterations: int) -> Any:
        nmf: Any = importlib.import_module("torchnmf.nmf")
        V, model, loss = state
        W, H, beta = model.W, model.H, loss.beta
        settings = (beta, loss.mu_exponent, 0, 0)
        for _ in range(iterations):
            plus = nmf._get_W_kl_positive(H.detach()) if beta == 1 else None
            X = model.reconstruct(H.detach(), W)
            nmf._double_backward_update(V, X, W, *settings, plus)
            plus = nmf._get_H_kl_positive(W.detach()) if beta == 1 else None
            X = model.reconstruct(H, W.detach())
            nmf._double_backward_update(V, X, H, *settings, plus)
        return state

    def factors(self, state: Any) -> tuple[np.ndarray, np.ndarray]:
        W, H = state.model.H.detach().numpy(), state.model.W.detach().numpy().T
        return W, H
