"""The types that every part of the package shares: factors and arrays of their shapes,
the status of a run, its trace."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar, dataclass_transform

import jax
import numpy as np

from jaxnmf.shapes import Array, Float, Int, PyTree

T = TypeVar("T")


def static(default: Any = dataclasses.MISSING, **kwargs: Any) -> Any:
    """A dataclass field that is part of a program's structure.

    A program is compiled for each of its values; every other field is a leaf of the
    pytree, which may be traced.
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
    children, aux = _getter(leaves), _getter(statics)

    def flatten(x: Any) -> tuple[Any, Any]:
        return children(x), aux(x)

    def flatten_with_keys(x: Any) -> tuple[Any, Any]:
        return tuple(zip(keys, children(x), strict=True)), aux(x)

    def unflatten(aux: Any, children: Any) -> T:
        named = zip(leaves + statics, (*children, *aux), strict=True)
        return cls(**dict(named))

    # Not jax's register_dataclass: under it (jax 0.10) the trees of two classes with
    # the same fields compare equal, and jit now and then serves one class with the
    # program of the other.
    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """The attributes of these names as a tuple: on the way of every call of a program,
    so by `operator.attrgetter`, which is three times faster than `getattr` in turn."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda x: tuple(getattr(x, name) for name in names)


class Factors(NamedTuple):
    """Rank-major factors, V ≈ Wtᵀ H: every component is a contiguous row of each."""

    Wt: Float[Array, "p m"]
    H: Float[Array, "p n"]

    @property
    def T(self) -> Factors:
        """The factors of Vᵀ."""
        return Factors(self.H, self.Wt)


class Status(StrEnum):
    """Why a run stopped. A string: ``result.status == "converged"`` is a comparison.

    Example:
      >>> import numpy as np, jaxnmf
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> result = jaxnmf.factorize(V, 4, max_iter=10)
      >>> result.status == "max_iter", result.status.message
      (True, 'max_iter iterations were done')
    """

    RUNNING = "running"
    CONVERGED = "converged"
    KKT = "kkt"
    TARGET = "target"
    MAX_ITER = "max_iter"
    TIME = "time"
    DIVERGED = "diverged"
    UNREADABLE = "unreadable"

    @property
    def code(self) -> int:
        """The status as a number, for compiled programs."""
        return _CODES[self]

    @classmethod
    def from_code(cls, code: int) -> Status:
        """The status with a `code`."""
        return list(cls)[int(code)]

    @property
    def message(self) -> str:
        """The status as a sentence."""
        return {
            Status.RUNNING: "still running",
            Status.CONVERGED: "the objective fell by less than tol over ten iterations",
            Status.KKT: "the KKT residual fell below kkt_tol times the first",
            Status.TARGET: "the objective reached the target",
            Status.MAX_ITER: "max_iter iterations were done",
            Status.TIME: "the time budget was spent",
            Status.DIVERGED: "the objective became infinite or NaN; the factors are "
            "the last finite ones recorded",
            Status.UNREADABLE: "a block of V could not be read; the factors are the "
            "last recorded",
        }[self]


_CODES = {status: code for code, status in enumerate(Status)}


class Trace(NamedTuple):
    """The records of a run, one entry each; the first is the start (iteration 0).

    Attributes:
      iteration: iterations before the record.
      objective: its value there.
      kkt: the KKT residual, NaN where it was not recorded.
      seconds: of the iterations alone, without compilation and without recording.

    Example:
      >>> import numpy as np, jaxnmf
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> trace = jaxnmf.factorize(V, 4, max_iter=20, tol=0).trace
      >>> trace.iteration.tolist()
      [0, 10, 20]
      >>> bool(trace.objective[-1] < trace.objective[0])
      True
    """

    iteration: np.ndarray
    objective: np.ndarray
    kkt: np.ndarray
    seconds: np.ndarray


FixedFactor = Float[Array, "p m"]
"""The factor that a half-step leaves as it is, in V ≈ fixedᵀ free."""

FreeFactor = Float[Array, "p n"]
"""The factor that a half-step improves."""

Cross = Float[Array, "p n"]
"""The cross product of the fixed factor and V, fixed V."""

State = PyTree[Array]
"""The state of a solver: a pytree with the same structure, shapes and types after every
step. A solver names its own class where it has one."""

Index = Int[Array, ""] | int
"""The index of a compiled loop, an int where nothing is compiled."""

Scalar = Float[Array, ""]
"""A number on the device."""

Pointwise = Callable[[jax.Array, jax.Array], jax.Array]
"""An entrywise function of (v, x) with v an entry of V and x the entry of W H."""
