"""Reciprocals and inverses that are safe at zero and fast on busy cores."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnmf.data.grams import ColumnGrams


def inverse(x: jax.Array) -> jax.Array:
    """1/x, and 0 where x is 0, so that a component without curvature does not move."""
    return jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0)


def diagonal(gram: Float[Array, "p p"] | ColumnGrams) -> Float[Array, "p q"]:
    """The diagonal of a Gram matrix as a column (p, 1); of one for each column of X all
    of them (p, q)."""
    if isinstance(gram, ColumnGrams):
        return gram.diagonal
    return jnp.diagonal(gram)[:, None]


def inverted(matrix: Float[Array, "p p"]) -> Float[Array, "p p"]:
    """The inverse of a positive definite matrix, by its Cholesky factor.

    For products with many columns: a triangular solve with those is a threaded LAPACK
    call on a CPU, which busy cores slow down a hundredfold, and a product is not.
    """
    root = jnp.linalg.cholesky(matrix)
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    return jax.scipy.linalg.cho_solve((root, True), identity)
