"""What every part of the package speaks of: factors, why a run stopped, its trace."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar, dataclass_transform

import jax
import numpy as np
from jaxtyping import Array, Float

T = TypeVar("T")


def static(default: Any = dataclasses.MISSING, **kwargs: Any) -> Any:
    """A dataclass field that is part of the program, not of its data.

    Changing it compiles anew; every other field is a leaf that may be traced.
    """
    metadata = {"static": True, **kwargs.pop("metadata", {})}
    return dataclasses.field(default=default, metadata=metadata, **kwargs)


@dataclass_transform(
    frozen_default=True,
    kw_only_default=True,
    field_specifiers=(static, dataclasses.field),
)
def pytree(cls: type[T]) -> type[T]:
    """Make a class a frozen, keyword-only dataclass and a JAX pytree."""
    cls = dataclasses.dataclass(frozen=True, kw_only=True, eq=False)(cls)
    fields = [f for f in dataclasses.fields(cls) if f.init]  # pyright: ignore
    statics = tuple(f.name for f in fields if f.metadata.get("static"))
    leaves = tuple(f.name for f in fields if f.name not in statics)
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in leaves)

    def flatten(x: Any) -> tuple[Any, Any]:
        children = tuple(getattr(x, name) for name in leaves)
        return children, tuple(getattr(x, name) for name in statics)

    def flatten_with_keys(x: Any) -> tuple[Any, Any]:
        children, aux = flatten(x)
        return tuple(zip(keys, children, strict=True)), aux

    def unflatten(aux: Any, children: Any) -> T:
        named = zip(leaves + statics, (*children, *aux), strict=True)
        return cls(**dict(named))

    # Not jax's register_dataclass: under it (jax 0.10) the trees of two classes with
    # the same fields compare equal, and jit now and then serves one class with the
    # program of the other.
    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


class Factors(NamedTuple):
    """Rank-major factors: V ≈ Wtᵀ H, so that a component is one contiguous row."""

    Wt: Float[Array, "p m"]
    H: Float[Array, "p n"]

    @property
    def T(self) -> Factors:
        """The factors of Vᵀ."""
        return Factors(self.H, self.Wt)


class Status(StrEnum):
    """Why a run stopped. A string, so that ``result.status == "converged"`` reads."""

    RUNNING = "running"
    CONVERGED = "converged"
    KKT = "kkt"
    TARGET = "target"
    MAX_ITER = "max_iter"
    TIME = "time"
    DIVERGED = "diverged"

    @property
    def code(self) -> int:
        """The number that stands for it inside a compiled program."""
        return _CODES[self]

    @classmethod
    def from_code(cls, code: int) -> Status:
        return list(cls)[int(code)]

    @property
    def message(self) -> str:
        return {
            Status.RUNNING: "still running",
            Status.CONVERGED: "the loss fell by less than tol over ten iterations",
            Status.KKT: "the KKT residual fell below kkt_tol times the first",
            Status.TARGET: "the loss reached the target",
            Status.MAX_ITER: "max_iter iterations were done",
            Status.TIME: "the time budget was spent",
            Status.DIVERGED: "the loss became infinite or NaN; the factors are the "
            "last finite ones recorded",
        }[self]


_CODES = {status: code for code, status in enumerate(Status)}


class Trace(NamedTuple):
    """What was recorded, one entry a record; the first is the start (iteration 0).

    ``kkt`` is NaN where it was not asked for. ``seconds`` counts the iterations
    alone: neither compilation nor the recording itself.
    """

    iteration: np.ndarray
    objective: np.ndarray
    kkt: np.ndarray
    seconds: np.ndarray


Pointwise = Callable[[jax.Array, jax.Array], jax.Array]
"""An entrywise function of (v, x), x being the entry of W H."""
