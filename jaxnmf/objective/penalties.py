"""Penalties on a factor."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnmf.types import pytree


@pytree
class Penalty:
    """Σ l1·x + ½·l2·(x − toward)² on one factor (x ≥ 0: the first is an L1 norm).

    Each is a number, or an array (p, q) or what broadcasts to that, for weights of
    their own. ``toward`` is where l2 pulls, 0 by default; solvers for data observed in
    part know of it.
    """

    l1: float | jax.Array = 0.0
    l2: float | jax.Array = 0.0
    toward: float | jax.Array = 0.0

    def value(self, X: Float[Array, "p q"]) -> jax.Array:
        # Rows first: one long float32 sum would lose digits.
        return (self.l1 * X + 0.5 * self.l2 * (X - self.toward) ** 2).sum(1).sum()

    def split(self, X: Float[Array, "p q"]) -> tuple[jax.Array, jax.Array]:
        """(minus, plus), both ≥ 0, of the gradient plus − minus."""
        minus = jnp.broadcast_to(self.l2 * self.toward, X.shape)
        return minus, self.l1 + self.l2 * X

    def gradient(self, X: Float[Array, "p q"]) -> Float[Array, "p q"]:
        return self.l1 + self.l2 * (X - self.toward)
