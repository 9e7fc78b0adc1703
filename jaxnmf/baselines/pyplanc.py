"""Baselines from pyplanc, the Python bindings of PLANC (C++)."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
import scipy.sparse

from jaxnmf._util.platform import cores
from jaxnmf.baselines.base import Baseline, register_baseline
from jaxnmf.solvers.base import QUADRATIC, Supports


class State(NamedTuple):
    V: Any
    W: np.ndarray
    Ht: np.ndarray


class PyPLANC(Baseline):
    """Common base: the state is V and the factors in float64 and in column order.

    pyplanc works in that form alone, and copies V in every call. It needs a NumPy
    before 2.3, and so is not among jaxnmf's extras.
    """

    requires: ClassVar[str | None] = "pyplanc"
    install: ClassVar[str] = "pyplanc"
    algorithm: ClassVar[str]

    def start(self, V: Any, loss: Any, W: np.ndarray, H: np.ndarray) -> Any:
        del loss
        if scipy.sparse.issparse(V):
            V = scipy.sparse.csc_matrix(V, dtype=np.float64)
        else:
            V = np.asfortranarray(V, np.float64)
        W, Ht = (np.asfortranarray(x, np.float64) for x in (W, H.T))
        return State(V, W, Ht)

    def advance(self, state: Any, iterations: int) -> Any:
        pyplanc: Any = importlib.import_module("pyplanc")
        V, W, Ht = state
        with silent():
            found = pyplanc.nmf(
                V, W.shape[1], iterations, self.algorithm, cores(), Winit=W, Hinit=Ht
            )
        W, Ht = (np.asfortranarray(x) for x in (found.W, found.H))
        return State(V, W, Ht)

    def factors(self, state: Any) -> tuple[np.ndarray, np.ndarray]:
        return state.W, state.Ht.T


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Without what compiled code writes to the standard output."""
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


@register_baseline("pyplanc-bpp")
class PyPLANCBPP(PyPLANC):
    """PLANC's alternating least squares by block principal pivoting,
    ``pyplanc.nmf(algo="anlsbpp")``."""

    supports: ClassVar[Supports] = Supports("quadratic", frozenset({"dense"}))
    algorithm: ClassVar[str] = "anlsbpp"


@register_baseline("pyplanc-hals")
class PyPLANCHALS(PyPLANC):
    """PLANC's HALS, ``pyplanc.nmf(algo="hals")``."""

    supports: ClassVar[Supports] = QUADRATIC
    algorithm: ClassVar[str] = "hals"
