"""The penalty on a factor: weighted sums of its entries and of their squares."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxnmf.types import pytree


@pytree
class Penalty:
    """Σ l1·x + ½·l2·(x − toward)² over the entries x of one factor.

    For x ≥ 0 the first term is an L1 norm. Each field is a number, or an array that
    broadcasts to the factor's (p, q). ``toward`` is the value that l2 shrinks entries
    to, 0 by default; only solvers for data observed in part support another.
    """

    l1: float | jax.Array = 0.0
    l2: float | jax.Array = 0.0
    toward: float | jax.Array = 0.0

    def value(
        self, X: Float[Array, "p q"], where: Bool[Array, "#p #q"] | bool = True
    ) -> Float[Array, ""]:
        """The penalty, summed over the entries ``where`` is true."""
        values = self.l1 * X + 0.5 * self.l2 * (X - self.toward) ** 2
        # Rows first: one long float32 sum would lose digits.
        return jnp.where(where, values, 0).sum(1).sum()

    def split(self, X: Float[Array, "p q"]) -> tuple[jax.Array, jax.Array]:
        """(minus, plus), both ≥ 0, with gradient plus − minus."""
        minus = jnp.broadcast_to(self.l2 * self.toward, X.shape)
        return minus, self.l1 + self.l2 * X

    def gradient(self, X: Float[Array, "p q"]) -> Float[Array, "p q"]:
        """l1 + l2·(x − toward), entrywise."""
        return self.l1 + self.l2 * (X - self.toward)
