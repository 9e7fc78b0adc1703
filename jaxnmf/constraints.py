"""The non-negativity projection, the only place it is written, and the penalties."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnmf.types import pytree


@pytree
class NonNegative:
    """Projection on {X ≥ 0, rows of absent components 0}.

    ``mask`` (p,) is 1 for a component that is there and 0 for one that only pads
    the factor to a common size; None where all are there.
    """

    mask: Float[Array, " p"] | None = None

    def __call__(
        self, X: Float[Array, "p q"], floor: jax.Array | float = 0.0
    ) -> Float[Array, "p q"]:
        """max(X, floor), then 0 in the rows of absent components."""
        return self.restrict(jnp.maximum(X, jnp.asarray(floor, X.dtype)))

    def restrict(self, X: Float[Array, "p q"]) -> Float[Array, "p q"]:
        """X with the rows of absent components set to 0."""
        return X if self.mask is None else X * self.mask[:, None]

    def mean(self, X: Float[Array, "p q"]) -> jax.Array:
        """The mean entry of the components that are there."""
        return X.sum(1).sum() / (X.shape[1] * self.rank(X))

    def rank(self, X: Float[Array, "p q"]) -> jax.Array:
        """How many components are there."""
        if self.mask is None:
            return jnp.asarray(X.shape[0], X.dtype)
        return self.mask.sum()


@pytree
class Penalty:
    """l1·Σx + ½·l2·Σx² on one factor (x ≥ 0, so the sum is the L1 norm)."""

    l1: float | jax.Array = 0.0
    l2: float | jax.Array = 0.0

    def value(self, X: Float[Array, "p q"]) -> jax.Array:
        # Rows first: one long float32 sum would lose digits.
        return (self.l1 * X.sum(1) + 0.5 * self.l2 * (X * X).sum(1)).sum()

    def gradient(self, X: Float[Array, "p q"]) -> Float[Array, "p q"]:
        return self.l1 + self.l2 * X
