"""Coordinate descent over the rows of a factor, for quadratic losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnmf.data.grams import Gram
from jaxnmf.kernels.inverses import inverse
from jaxnmf.kernels.repeats import inner_repeats
from jaxnmf.objective.constraints import NonNegative
from jaxnmf.objective.problem import Problem

# The components from which a sweep works on tiles, and the rows of a tile: measured on
# a CPU (`experiments/benchmarks`).
TILED_FROM, TILE = 128, 8


def by_row(weight: Any, X: Float[Array, "p q"]) -> Callable[[Any], Any]:
    """The function that gives row k of a penalty's weight, which is a number or an
    array that broadcasts to the shape of X."""
    if jnp.ndim(weight) == 0:
        return lambda _: weight
    rows = jnp.broadcast_to(weight, (X.shape[0], jnp.shape(weight)[-1]))
    return lambda k: rows[k]


def sweep(
    problem: Problem,
    gram: Gram,
    cross: Float[Array, "p q"],
    X: Float[Array, "p q"],
    project: Any = None,
    rough: Float[Array, " p"] | None = None,
) -> Float[Array, "p q"]:
    """One pass of coordinate descent over the rows of X.

    For k = 1 … p, with G = ``gram``, B = ``cross`` and the projection P:

        x_k ← P(x_k + (b_k − G_k X − l1 − l2 (x_k − toward)) / (G_kk + l2)).

    From ``TILED_FROM`` components on, X is too large for the cache: tiles of ``TILE``
    rows then get the part of the other rows by one product, which changes rounding
    only.

    Args:
      problem: gives the penalty, the projection and the held entries.
      gram: (p, p), or a Gram matrix for each column.
      cross: (p, q).
      X: (p, q), feasible.
      project: the projection of a row; that of the problem, entry by entry, by default.
      rough: (p,), weights of ½‖D x_k‖², D the differences of neighbours. The row then
        minimises a majoriser of it, whose curvature is 4 ``rough``.
    """
    penalty = problem.penalty
    curvature = gram.diagonal + penalty.l2
    if rough is not None:
        curvature = curvature + 4 * rough[:, None]
    # A held entry does not move.
    steps = jnp.where(problem.project.free, inverse(curvature), 0)
    l1 = by_row(penalty.l1 - penalty.l2 * penalty.toward, X)
    l2 = by_row(penalty.l2, X)
    project = project or problem.project.entrywise

    def rows(X: Any, gram: Any, cross: Any, first: Any) -> Any:
        """X after a pass over its rows, the factor's rows from ``first`` on."""

        def row(k: Any, X: Any) -> Any:
            x = X[k]
            # gram[k] @ X as one vector-matrix product: ten times faster than a sum.
            descent = cross[k] - gram[k] @ X - l1(first + k) - l2(first + k) * x
            if rough is not None:
                bend = jnp.diff(jnp.pad(differences(problem.project, x), 1))
                descent = descent + rough[first + k] * bend
            return X.at[k].set(project(x + descent * steps[first + k]))

        return jax.lax.fori_loop(0, X.shape[0], row, X)

    def tile(X: Any, first: Any, size: int) -> Any:
        x, G, B = (
            jax.lax.dynamic_slice_in_dim(whole, first, size)
            for whole in (X, gram.array, cross)
        )
        own = jax.lax.dynamic_slice_in_dim(G, first, size, 1)
        # The rest of the factor by one product, without what the tile itself adds.
        x = rows(x, own, B - G @ X + own @ x, first)
        return jax.lax.dynamic_update_slice_in_dim(X, x, first, 0)

    p = X.shape[0]
    if p < TILED_FROM or not gram.shared:
        return problem.project.hold(rows(X, gram, cross, 0))
    X = jax.lax.fori_loop(0, p // TILE, lambda i, X: tile(X, i * TILE, TILE), X)
    if p % TILE:
        X = tile(X, p - p % TILE, p % TILE)
    return problem.project.hold(X)


def differences(
    project: NonNegative, X: Float[Array, "*p q"]
) -> Float[Array, "*p q-1"]:
    """The differences of neighbouring columns, 0 where one of them is absent."""
    steps = jnp.diff(X)
    if project.held is None:
        return steps
    present = project.columns(jnp.atleast_2d(X))[0]
    return jnp.where(present[1:] & present[:-1], steps, 0)


def sweeps(
    problem: Problem,
    gram: Gram,
    cross: Float[Array, "p q"],
    X: Float[Array, "p q"],
    inner: int,
) -> Float[Array, "p q"]:
    """X after `inner_repeats` sweeps."""
    count = inner_repeats(problem, X, inner)
    return jax.lax.fori_loop(0, count, lambda _, X: sweep(problem, gram, cross, X), X)
