"""Work by blocks of columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnmf.objective.problem import Problem


def by_column_blocks(
    problem: Problem,
    free: Float[Array, "p n"],
    columns: Callable[[jax.Array, Float[Array, "p b"]], Float[Array, "p b"]],
) -> Float[Array, "p n"]:
    """``columns(v, X)``, the new columns X of the free factor that belong to the
    columns v of a dense V, a block at a time. v is as stored: turning it would copy."""
    operand = problem.operand
    array, axis = operand.array, 0 if operand.transposed else 1
    m, n = operand.shape
    size = min(n, max(1, operand.block * array.shape[1] // m))
    if size == n:
        return columns(array, free)

    def block(i: Any, done: Any) -> Any:
        # The last block reaches back and finds the same columns again.
        start = jnp.minimum(i * size, n - size)
        v = jax.lax.dynamic_slice_in_dim(array, start, size, axis)
        X = jax.lax.dynamic_slice_in_dim(free, start, size, 1)
        return jax.lax.dynamic_update_slice_in_dim(done, columns(v, X), start, 1)

    return jax.lax.fori_loop(0, -(-n // size), block, free)
