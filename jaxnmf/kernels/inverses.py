"""Reciprocals and inverses that are safe at zero and fast on busy cores."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxnmf.shapes import Array, Float


def inverse(x: jax.Array) -> jax.Array:
    """1/x, and 0 where x is 0, so that a component without curvature does not move."""
    return jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0)


def inverted(matrix: Float[Array, "p p"]) -> Float[Array, "p p"]:
    """The inverse of a positive definite matrix, by its Cholesky factor.

    For products with many columns: a triangular solve with those is a threaded LAPACK
    call on a CPU, which busy cores slow down a hundredfold, and a product is not.
    """
    root = jnp.linalg.cholesky(matrix)
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    return jax.scipy.linalg.cho_solve((root, True), identity)


def log_growth(change: jax.Array) -> jax.Array:
    """log(1 + change), the change of log x where x grows by that share of itself.

    Where nothing is left of x it is no greater than what the objective takes there: its
    smallest x for v > 0 is far below the rounding of the x before.
    """
    limits = jnp.finfo(change.dtype)
    least = 8 * limits.eps - 1
    left = jnp.log1p(jnp.maximum(change, least))
    return jnp.where(change > least, left, -jnp.log(limits.max))
