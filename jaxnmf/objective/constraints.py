"""Projections on the feasible set of a factor, the only place they are written.

Those on the non-negative orthant and on the simplex also work on NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnmf.types import pytree, static

A = TypeVar("A", jax.Array, np.ndarray)


@pytree
class NonNegative:
    """Projection on {X ≥ 0, rows of absent components 0}.

    ``mask`` (p,) is 1 for a component that is there and 0 for one that only pads
    the factor to a common size; None where all are there. ``pinned`` (p,) is the value
    that a row is held at, NaN for a row that is free; None where all are free.
    """

    name: ClassVar[str] = "nonnegative"
    mask: Float[Array, " p"] | None = None
    pinned: Float[Array, " p"] | None = None

    def __call__(self, X: Float[A, "p q"], floor: A | float = 0.0) -> Float[A, "p q"]:
        """The nearest feasible point with no entry below ``floor`` where its component
        is there."""
        return self.restrict(self.entrywise(X, floor))

    def entrywise(self, x: A, floor: A | float = 0.0) -> A:
        """The projection of single entries, x of any shape: max(x, floor)."""
        xp: Any = _namespace(x)
        return xp.maximum(x, xp.asarray(floor, x.dtype))

    def restrict(self, X: Float[A, "p q"]) -> Float[A, "p q"]:
        """X with the rows of absent components set to 0, and pinned ones to their
        value."""
        if self.pinned is not None:
            xp: Any = _namespace(X)
            X = xp.where(self.moves, X, self.pinned[:, None])
        return self.present(X)

    def present(self, X: Float[A, "p q"]) -> Float[A, "p q"]:
        """X with the rows of absent components set to 0."""
        return X if self.mask is None else X * self.mask[:, None]

    @property
    def moves(self) -> jax.Array | bool:
        """Which rows are free, (p, 1)."""
        return True if self.pinned is None else jnp.isnan(self.pinned)[:, None]

    def start(self, X: Float[Array, "p q"]) -> Float[Array, "p q"]:
        """A feasible point to begin from, of the same direction as X ≥ 0."""
        return X

    def natural_residual(
        self, X: Float[Array, "p q"], gradient: Float[Array, "p q"], unit: jax.Array
    ) -> Float[Array, "p q"]:
        """X − P(X − gradient), 0 at a stationary point: here min(x, g), with each
        component's entries x in units of their mean and its gradient g in units of
        ``unit`` (p, 1)."""
        x, g, _ = _without_units(X, gradient, unit)
        return self.present(jnp.where(self.moves, jnp.minimum(x, g), 0))

    def mean(self, X: Float[Array, "p q"]) -> jax.Array:
        """The mean entry of the components that are there."""
        return X.sum(1).sum() / (X.shape[1] * self.rank(X))

    def rank(self, X: Float[A, "p q"]) -> A:
        """How many components are there."""
        xp: Any = _namespace(X)
        if self.mask is None:
            return xp.asarray(X.shape[0], X.dtype)
        return xp.sum(self.mask)


@pytree
class Box(NonNegative):
    """Projection on {0 ≤ X ≤ upper} entry by entry, rows of absent components 0.

    For factors that are fractions, memberships or probabilities (Boolean-like NMF).
    """

    name: ClassVar[str] = "box"
    upper: float | jax.Array = 1.0

    def entrywise(self, x: A, floor: A | float = 0.0) -> A:
        xp: Any = _namespace(x)
        return xp.minimum(super().entrywise(x, floor), self.upper)

    def start(self, X: Float[Array, "p q"]) -> Float[Array, "p q"]:
        largest = X.max()
        over = jnp.where(largest > self.upper, largest, self.upper)
        return X * (self.upper / over)

    def natural_residual(
        self, X: Float[Array, "p q"], gradient: Float[Array, "p q"], unit: jax.Array
    ) -> Float[Array, "p q"]:
        x, g, size = _without_units(X, gradient, unit)
        upper = self.upper / size
        x = jnp.minimum(x, upper)
        return self.present(x - jnp.clip(x - g, 0, upper))


@pytree
class Simplex(NonNegative):
    """Projection on {X ≥ 0, the entries of every column sum to one}.

    A column of a factor (p, q) is what one sample (of W) or one feature (of H) has of
    every component: abundances in a mixture. The nearest point is (X − θ)₊; θ, one for
    each column, comes from Newton's method from below on Σ(x − θ)₊ = 1, which drops
    entries until those left stay positive.

    ``at_most``: a sum of one or less.

    Reference: Michelot, "A finite algorithm for finding the projection of a point onto
    the canonical simplex of ℝⁿ", J. Optimization Theory and Applications 50 (1986).
    """

    name: ClassVar[str] = "simplex"
    at_most: bool = static(default=False)

    def __call__(self, X: Float[A, "p q"], floor: A | float = 0.0) -> Float[A, "p q"]:
        xp: Any = _namespace(X)
        floor = self.present(xp.broadcast_to(xp.asarray(floor, X.dtype), X.shape))
        mass = xp.maximum(1 - floor.sum(0), 0)
        shifted = X - floor
        # From the mean of all or from the largest alone, whichever is nearer.
        mean = (self.present(shifted).sum(0) - mass) / self.rank(X)
        largest = shifted
        if self.mask is not None:
            largest = xp.where(self.mask[:, None] > 0, shifted, -xp.inf)
        theta = xp.maximum(mean, largest.max(0) - mass)

        def over(theta: Any) -> Any:
            return xp.maximum(self.present(shifted - theta), 0)

        def newton(theta: Any) -> Any:
            above = over(theta)
            count = xp.maximum((above > 0).sum(0), 1).astype(X.dtype)
            return theta + xp.maximum(above.sum(0) - mass, 0) / count

        theta = _repeated(newton, theta, X.shape[0])
        if self.at_most:
            return floor + over(xp.maximum(theta, 0))
        # Rounding, and a θ that was not quite there, leave a sum near one.
        new = over(theta)
        total = new.sum(0)
        scale = xp.where(total > 0, mass / xp.where(total > 0, total, 1), 0)
        return floor + new * scale

    def entrywise(self, x: A, floor: A | float = 0.0) -> A:
        raise NotImplementedError("a sum to one ties the entries of a column")

    def start(self, X: Float[Array, "p q"]) -> Float[Array, "p q"]:
        total = X.sum(0)
        if self.at_most:
            return X / jnp.maximum(total, 1)
        even = self.present(jnp.ones_like(X)) / self.rank(X)
        return jnp.where(total > 0, X / jnp.where(total > 0, total, 1), even)

    def natural_residual(
        self, X: Float[Array, "p q"], gradient: Float[Array, "p q"], unit: jax.Array
    ) -> Float[Array, "p q"]:
        """X − P(X − g): X has a scale of its own, and g one unit for all components."""
        mean = unit.sum() / self.rank(X)
        g = jnp.where(mean > 0, gradient / jnp.where(mean > 0, mean, 1), 0)
        return self.rank(X) * (X - self(X - g))


@pytree
class Free(NonNegative):
    """No bound on the sign: rows of absent components 0. What a solver that allows
    negative entries of a factor has in place of `NonNegative`."""

    name: ClassVar[str] = "free"

    def entrywise(self, x: A, floor: A | float = 0.0) -> A:
        del floor
        return x

    def natural_residual(
        self, X: Float[Array, "p q"], gradient: Float[Array, "p q"], unit: jax.Array
    ) -> Float[Array, "p q"]:
        return self.present(_without_units(X, gradient, unit)[1])


def _namespace(x: Any) -> ModuleType:
    """NumPy for its arrays, JAX's for all others."""
    return np if isinstance(x, np.ndarray) else jnp


def _repeated(fn: Callable[[Any], Any], x: Any, most: int) -> Any:
    """x after ``most`` calls of fn, 16 in a compiled program: on the host fewer, where
    nothing changes any more."""
    if not isinstance(x, np.ndarray):
        return jax.lax.fori_loop(0, min(most, 16), lambda _, x: fn(x), x)
    for _ in range(most):
        x, last = fn(x), x
        if np.array_equal(x, last):
            break
    return x


CONSTRAINTS = {cls.name: cls for cls in (NonNegative, Box, Simplex)}


def _without_units(X: Any, gradient: Any, unit: Any) -> tuple[Any, Any, Any]:
    """(x, g, size): a component's entries over their mean ``size``, its gradient over
    ``unit``."""
    size = X.mean(1, keepdims=True)
    present = size > 0
    size = jnp.where(present, size, 1)
    # A component that is all zero may be revived: judge it as all ones.
    x = jnp.where(present, X / size, 1)
    return x, jnp.where(unit > 0, gradient / jnp.where(unit > 0, unit, 1), 0), size
