"""Coordinate descent over the rows of a factor, for quadratic losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnmf._util.platform import on_cpu
from jaxnmf.data.grams import Gram
from jaxnmf.kernels.inverses import inverse
from jaxnmf.kernels.repeats import UNROLLED, inner_repeats
from jaxnmf.objective.constraints import NonNegative
from jaxnmf.objective.problem import Problem
from jaxnmf.shapes import Array, Float

# The components from which a sweep works on tiles on a CPU, and the rows of a tile
# there: measured (`experiments/benchmarks`).
TILED_FROM, TILE = 128, 8


def by_row(weight: Any, X: Float[Array, "p q"]) -> Callable[[Any], Any]:
    """The function that gives row k of a penalty's weight, which is a number or an
    array that broadcasts to the shape of X."""
    if jnp.ndim(weight) == 0:
        return lambda _: weight
    rows = jnp.broadcast_to(weight, (X.shape[0], jnp.shape(weight)[-1]))
    return lambda k: rows[k]


def over_tiles(
    p: int, size: int, tile: Callable[[Any, Any, int], Any], carry: Any
) -> Any:
    """What ``carry`` is after tile(carry, first, rows) on tiles of ``size`` of p rows;
    the last has the rest."""
    carry = jax.lax.fori_loop(
        0, p // size, lambda i, carry: tile(carry, i * size, size), carry
    )
    return tile(carry, p - p % size, p % size) if p % size else carry


def unrolled_rows(p: int) -> int:
    """The rows of a tile on an accelerator, where tiles are of about one size."""
    return -(-p // -(-p // UNROLLED))


def unrolled(
    X: Any, gram: Any, slope: Any, moved: Callable[[Any, Any, int], Any]
) -> tuple[Any, Any]:
    """The rows X of a tile after their steps one after the other, and their changes, as
    one expression.

    Args:
      X: the rows at the start.
      gram: of these rows with each other, (size, size) or one for each column.
      slope: of these rows at the start.
      moved: (row, its slope, its place in the tile) → the row after its step.
    """
    rows, changes = [], []
    for k, x in enumerate(X):
        product = sum(gram[k, j] * change for j, change in enumerate(changes))
        rows.append(moved(x, slope[k] + product, k))
        changes.append(rows[-1] - x)
    return jnp.stack(rows), jnp.stack(changes)


def sweep(
    problem: Problem,
    gram: Gram,
    cross: Float[Array, "p q"],
    X: Float[Array, "p q"],
    project: Any = None,
    more: Float[Array, "#p #q"] | None = None,
) -> Float[Array, "p q"]:
    """One pass of coordinate descent over the rows of X.

    For k = 1 … p, with G = ``gram``, B = ``cross`` and the projection P:

        x_k ← P(x_k + (b_k − G_k X − l1 − l2 (x_k − toward)) / (G_kk + l2)).

    The form depends on the platform and changes rounding only. On a CPU rows follow
    each other in a loop; from ``TILED_FROM`` components on, where X is too large for
    the cache, tiles of ``TILE`` rows get the part of the other rows by one product. On
    an accelerator, where every operation is a launch, tiles have up to ``UNROLLED``
    rows, unrolled into one expression: a sweep is two launches for each tile.

    Args:
      problem: gives the penalty, the projection and the held entries.
      gram: (p, p), or a Gram matrix for each column.
      cross: (p, q).
      X: (p, q), feasible.
      project: the projection of a row; that of the problem, entry by entry, by default.
      more: curvature of terms that are in ``cross`` as their descent at X, which is a
        majoriser of terms that do not couple the rows of X. With a graph, the penalty
        on it is such a term.
    """
    penalty = problem.penalty
    curvature = gram.diagonal + penalty.curvature
    if more is not None:
        curvature = curvature + more
    if penalty.graph is not None:
        cross = cross - penalty.bent(X)
    # A held entry does not move.
    steps = jnp.where(problem.project.free, inverse(curvature), 0)
    l1 = by_row(penalty.l1 - penalty.l2 * penalty.toward, X)
    l2 = by_row(penalty.l2, X)
    project = project or problem.project.entrywise

    def moved(x: Any, cross: Any, product: Any, k: Any) -> Any:
        """Row k of the factor after its step; ``product`` is row k of G X."""
        # gram[k] @ X as one vector-matrix product: ten times faster than a sum.
        descent = cross - product - l1(k) - l2(k) * x
        return project(x + descent * steps[k])

    def looped(X: Any, gram: Any, cross: Any, first: Any) -> Any:
        """X after a pass over its rows, the factor's rows from ``first`` on."""

        def row(k: Any, X: Any) -> Any:
            return X.at[k].set(moved(X[k], cross[k], gram[k] @ X, first + k))

        return jax.lax.fori_loop(0, X.shape[0], row, X)

    def by_tiles(X: Any, size: int, rows: Any) -> Any:
        def tile(X: Any, first: Any, size: int) -> Any:
            x, B = (
                jax.lax.dynamic_slice_in_dim(whole, first, size) for whole in (X, cross)
            )
            G, own = gram.tile(first, size)
            # The whole factor by one product; a row then adds what the tile changes.
            x = rows(x, own, B - G @ X, first)
            return jax.lax.dynamic_update_slice_in_dim(X, x, first, 0)

        return over_tiles(X.shape[0], size, tile, X)

    def looped_tile(X: Any, gram: Any, rest: Any, first: Any) -> Any:
        return looped(X, gram, rest + gram @ X, first)

    def unrolled_tile(X: Any, gram: Any, rest: Any, first: Any) -> Any:
        return unrolled(
            X, gram, -rest, lambda x, slope, k: moved(x, 0, slope, first + k)
        )[0]

    p = X.shape[0]
    if not on_cpu():
        X = by_tiles(X, unrolled_rows(p), unrolled_tile)
    elif p < TILED_FROM or not gram.shared:
        X = looped(X, gram, cross, 0)
    else:
        X = by_tiles(X, TILE, looped_tile)
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
