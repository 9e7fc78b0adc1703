"""The protocol of an operand: what a solver may ask of V, however V is stored.

Every operand answers the same questions about X = fixedᵀ free. ``.T`` is the transposed
operand, without a copy of dense data. X is never stored in full: a dense pass
works on blocks of rows, a sparse one on the stored entries. In products, values of x
are kept above ``floor``, which a problem sets for its loss, so that v/x is finite.

With weights an operand is observed in part: every sum and product is over the known
entries alone, each times its weight. They are those where a dense V has a weight > 0,
or all that a sparse V stores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax

from jaxnmf.data.moments import Moments
from jaxnmf.shapes import Array, Float

EntryFn = Callable[..., Any]
"""A function of entries (v, x, …), applied entrywise."""


@runtime_checkable  # for the type checker of the tests
class Described(Protocol):
    """What is known of V (m, n) without a product, also of one that is read in blocks;
    a pytree."""

    @property
    def floor(self) -> jax.Array:
        """What entries of X are kept above."""
        ...

    @property
    def moments(self) -> Moments:
        """Sums over the known entries of V, and its size."""
        ...

    @property
    def kind(self) -> str:
        """ "dense", "sparse", "observed" or "blocks"."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        ...

    @property
    def padded(self) -> bool:
        """Whether V has rows and columns that only pad it: then its moments say how
        many others there are."""
        ...

    @property
    def entries(self) -> int:
        """How many numbers a product reads."""
        ...

    @property
    def by_entries(self) -> bool:
        """Whether V is a list of entries. A batch of data is then a set of entries
        (`stored`), and otherwise of rows."""
        ...

    @property
    def dtype(self) -> Any:
        """The precision."""
        ...

    @property
    def T(self) -> Described:
        """Vᵀ."""
        ...

    @property
    def any_known(self) -> Any:
        """Which columns have a known entry: True for all, or (n,)."""
        ...

    def to_host(self) -> Any:
        """V as a NumPy array or SciPy sparse."""
        ...

    def host_weights(self) -> Any:
        """The weights likewise, None where every entry is known."""
        ...


@runtime_checkable
class Operand(Described, Protocol):
    """V as solvers see it."""

    @property
    def T(self) -> Operand:
        """Vᵀ."""
        ...

    def padded_to(self, rows: int, columns: int) -> Any:
        """V with rows and columns that only pad it."""
        ...

    def dot(self, fixed: Float[Array, "p m"]) -> Float[Array, "p n"]:
        """fixed V, of known entries times their weights."""
        ...

    def dot_weights(self, left: Float[Array, "q m"]) -> Float[Array, "q n"]:
        """left times the matrix of weights, for data observed in part."""
        ...

    def residual(self, fixed: Float[Array, "p m"], free: Float[Array, "p n"]) -> Any:
        """V − X as an operand, dense or observed in part."""
        ...

    def map_sum(self, fn: EntryFn, fixed: Float[Array, "p m"], *frees: Any) -> Any:
        """Σ fn(v, x, …) over all entries, with an x for each of ``frees``, not kept
        above the floor; of a sparse V over its stored entries."""
        ...

    def map_dot(self, fn: EntryFn, fixed: Any, free: Any) -> tuple[jax.Array, ...]:
        """fixed Y (p, n) with Y = fn(V, X), for each output of fn."""
        ...

    def map_dot_both(
        self, fn: EntryFn, fixed: Any, free: Any
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        """fixed Y (p, n) and free Yᵀ (p, m) from one pass over X."""
        ...

    def scaled_rows(self, scale: Any) -> Operand:
        """V with row i times scale_i, sharing what it can with V; its moments are those
        of V."""
        ...

    def for_lanes(self) -> Operand:
        """The same V, stored as suits the products of many lanes."""
        ...


def true_shape(operand: Any) -> tuple[Any, Any]:
    """(m, n) of V without what pads it: numbers, or leaves where it is padded."""
    if not operand.padded:
        return operand.shape
    return operand.moments.rows, operand.moments.columns


def taken(x: jax.Array, index: jax.Array) -> jax.Array:
    """x[index], the index known to be within x."""
    return x.at[index].get(mode="promise_in_bounds")
