"""Projections on the feasible set of a factor, the only place they are written."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnmf.types import pytree, static


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

    def __call__(
        self, X: Float[Array, "p q"], floor: jax.Array | float = 0.0
    ) -> Float[Array, "p q"]:
        """The nearest feasible point with no entry below ``floor`` where its component
        is there."""
        return self.restrict(self.entrywise(X, floor))

    def entrywise(self, x: jax.Array, floor: jax.Array | float = 0.0) -> jax.Array:
        """The projection of single entries, x of any shape: max(x, floor)."""
        return jnp.maximum(x, jnp.asarray(floor, x.dtype))

    def restrict(self, X: Float[Array, "p q"]) -> Float[Array, "p q"]:
        """X with the rows of absent components set to 0, and pinned ones to their
        value."""
        if self.pinned is not None:
            X = jnp.where(self.moves, X, self.pinned[:, None])
        return self.present(X)

    def present(self, X: Float[Array, "p q"]) -> Float[Array, "p q"]:
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

    def rank(self, X: Float[Array, "p q"]) -> jax.Array:
        """How many components are there."""
        if self.mask is None:
            return jnp.asarray(X.shape[0], X.dtype)
        return self.mask.sum()


@pytree
class Box(NonNegative):
    """Projection on {0 ≤ X ≤ upper} entry by entry, rows of absent components 0.

    For factors that are fractions, memberships or probabilities (Boolean-like NMF).
    """

    name: ClassVar[str] = "box"
    upper: float | jax.Array = 1.0

    def entrywise(self, x: jax.Array, floor: jax.Array | float = 0.0) -> jax.Array:
        return jnp.minimum(super().entrywise(x, floor), self.upper)

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

    def __call__(
        self, X: Float[Array, "p q"], floor: jax.Array | float = 0.0
    ) -> Float[Array, "p q"]:
        floor = self.present(jnp.broadcast_to(jnp.asarray(floor, X.dtype), X.shape))
        mass = jnp.maximum(1 - floor.sum(0), 0)
        shifted = X - floor
        present = self.present(jnp.ones_like(X))
        # From the mean of all or from the largest alone, whichever is nearer.
        mean = ((present * shifted).sum(0) - mass) / self.rank(X)
        largest = jnp.where(present > 0, shifted, -jnp.inf).max(0)
        theta = jnp.maximum(mean, largest - mass)

        def over(theta: Any) -> jax.Array:
            return jnp.maximum(present * (shifted - theta), 0)

        def newton(_: Any, theta: Any) -> Any:
            above = over(theta)
            count = jnp.maximum((above > 0).sum(0), 1).astype(X.dtype)
            return theta + jnp.maximum(above.sum(0) - mass, 0) / count

        theta = jax.lax.fori_loop(0, min(X.shape[0], 16), newton, theta)
        if self.at_most:
            return floor + over(jnp.maximum(theta, 0))
        # Rounding, and a θ that was not quite there, leave a sum near one.
        new = over(theta)
        total = new.sum(0)
        scale = jnp.where(total > 0, mass / jnp.where(total > 0, total, 1), 0)
        return floor + new * scale

    def entrywise(self, x: jax.Array, floor: jax.Array | float = 0.0) -> jax.Array:
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

    def entrywise(self, x: jax.Array, floor: jax.Array | float = 0.0) -> jax.Array:
        del floor
        return x

    def natural_residual(
        self, X: Float[Array, "p q"], gradient: Float[Array, "p q"], unit: jax.Array
    ) -> Float[Array, "p q"]:
        return self.present(_without_units(X, gradient, unit)[1])


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
