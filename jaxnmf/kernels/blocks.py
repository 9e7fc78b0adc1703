"""Updates of a factor by blocks of its columns, for methods that hold W H."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnmf.objective.problem import Problem
from jaxnmf.shapes import Array, Float


def by_column_blocks(
    problem: Problem,
    free: Float[Array, "p n"],
    columns: Callable[[jax.Array, Float[Array, "p b"], Problem], Any],
) -> Float[Array, "p n"]:
    """The factor updated block by block, so that W H is held for one block alone.

    Args:
      problem: of a dense V.
      free: (p, n), or more rows where an update carries numbers for each column.
      columns: (v, X, part) → the update of the columns X that belong to the columns v
        of V; part is the problem with the held entries of X. v is as V is stored, (m,
        b) or its transpose (b, m), for a transposition copies.
    """
    operand, held = problem.operand, problem.project.held
    array, axis = operand.array, 0 if operand.transposed else 1
    m, n = operand.shape
    size = min(n, max(1, operand.block * array.shape[1] // m))
    if size == n:
        return columns(array, free, problem)

    def block(i: Any, done: Any) -> Any:
        # The last block overlaps the one before and computes some columns again.
        start = jnp.minimum(i * size, n - size)
        v = jax.lax.dynamic_slice_in_dim(array, start, size, axis)
        X = jax.lax.dynamic_slice_in_dim(free, start, size, 1)
        part = problem
        if held is not None and held.shape[1] > 1:
            own = jax.lax.dynamic_slice_in_dim(held, start, size, 1)
            project = dataclasses.replace(problem.project, held=own)
            part = dataclasses.replace(problem, projects=(problem.projects[0], project))
        new = columns(v, X, part)
        return jax.lax.dynamic_update_slice_in_dim(done, new, start, 1)

    return jax.lax.fori_loop(0, -(-n // size), block, free)
