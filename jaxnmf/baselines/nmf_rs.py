"""Baselines from nmf-rs, a port to Rust of the NMF package of R."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar, NamedTuple

import numpy as np

from jaxnmf._util.platform import cores
from jaxnmf.baselines.base import Baseline, FrobeniusOrKL, register_baseline
from jaxnmf.solvers.base import Supports

DENSE = frozenset({"dense"})


class State(NamedTuple):
    V: np.ndarray
    W: np.ndarray
    H: np.ndarray
    method: str


class NMFRS(Baseline):
    """Common base: the state is V and the factors in float64, which nmf-rs always uses.

    Calls the compiled function inside ``nmf_rs.nmf``, which would copy and check V for
    every record. It has as many threads as the process has cores, set before its first
    call.
    """

    requires: ClassVar[str | None] = "nmf-rs"
    methods: ClassVar[dict[float, str]]  # nmf-rs's name by β

    def start(self, V: Any, loss: Any, W: np.ndarray, H: np.ndarray) -> Any:
        nmf_rs: Any = importlib.import_module("nmf_rs")
        nmf_rs.set_num_threads(cores())
        V, W, H = (np.ascontiguousarray(x, np.float64) for x in (V, W, H))
        return State(V, W, H, self.methods[loss.beta])

    def advance(self, state: Any, iterations: int) -> Any:
        nmf_rs: Any = importlib.import_module("nmf_rs")
        V, W, H, method = state
        # Without R's rescaling of W, which H would not follow before its next update.
        found = nmf_rs._nmf_run(method, V, W, H, iterations, rescale=False)
        return state._replace(W=found["W"], H=found["H"])

    def factors(self, state: Any) -> tuple[np.ndarray, np.ndarray]:
        return state.W, state.H


@register_baseline("nmf-rs-hals")
class NMFRSHALS(NMFRS):
    """nmf-rs's HALS, ``nmf_rs.nmf(method="hals")``, H first.

    Entries are at least 1e-9, whatever the scale of V.
    """

    supports: ClassVar[Supports] = Supports("quadratic", DENSE)
    methods: ClassVar[dict[float, str]] = {2: "hals"}


@register_baseline("nmf-rs-mu")
class NMFRSMU(NMFRS):
    """nmf-rs's multiplicative updates, methods "lee" and "brunet" of R's NMF, H first.

    They add small constants, whatever the scale of V.
    """

    supports: ClassVar[Supports] = FrobeniusOrKL("quadratic, kl", DENSE)
    monotone: ClassVar[bool] = False
    methods: ClassVar[dict[float, str]] = {2: "lee", 1: "brunet"}
