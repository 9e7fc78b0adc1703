"""Coordinate descent over the rows of a factor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnmf.data.grams import ColumnGrams
from jaxnmf.kernels.nnls import diagonal, inverse
from jaxnmf.objective.problem import Problem

# Of a sweep; measured on a CPU (`experiments/benchmarks`).
TILED_FROM, TILE = 128, 8


def inner_repeats(
    problem: Problem,
    free: Float[Array, "p q"],
    inner: int,
    share: float = 0.3,
    most: int = 8,
) -> jax.Array | int:
    """How often a half-step may use its Gram and cross product again.

    ``inner`` where it is given; for 0 the rule of Gillis & Glineur (2012),
    1 + share × (cost of the products) / (cost of a sweep), here at most ``most``. The
    share and the bound were measured on a CPU (`experiments/benchmarks`). It counts the
    components that are there, so that a padded run repeats as often as a bare one.
    """
    if inner:
        return inner
    ratio = problem.operand.entries / free.shape[1]
    # With a Gram matrix a column, making them costs p²/2 an entry, a sweep p² a column.
    ratio = ratio / (problem.project.rank(free) if problem.by_gram else 2)
    return jnp.clip(1 + jnp.floor(share * ratio), 1, most).astype(jnp.int32)


def by_row(weight: Any, X: Float[Array, "p q"]) -> Callable[[Any], Any]:
    """Row k of a penalty's weight: a number, or what broadcasts to X's shape."""
    if jnp.ndim(weight) == 0:
        return lambda _: weight
    rows = jnp.broadcast_to(weight, (X.shape[0], jnp.shape(weight)[-1]))
    return lambda k: rows[k]


def sweep(
    problem: Problem,
    gram: Any,  # (p, p), or `ColumnGrams`
    cross: Float[Array, "p q"],
    X: Float[Array, "p q"],
    project: Any = None,
    rough: Float[Array, " p"] | None = None,
) -> Float[Array, "p q"]:
    """One pass of coordinate descent over the rows of X: each is set to the best for
    the others, projected by ``project`` (on the feasible set, entry by entry, by
    default); with ``rough`` weights of ½‖D x_k‖² too, D the differences of neighbours,
    by a majoriser.

    From ``TILED_FROM`` components on X is too large for the cache: tiles of ``TILE``
    rows then take the others' part by one product, which changes rounding alone."""
    penalty = problem.penalty
    curvature = diagonal(gram) + penalty.l2
    if rough is not None:
        curvature = curvature + 4 * rough[:, None]
    # A held entry does not move.
    steps = jnp.where(problem.project.free, inverse(curvature), 0)
    l1 = by_row(penalty.l1 - penalty.l2 * penalty.toward, X)
    l2 = by_row(penalty.l2, X)
    project = project or problem.project.entrywise

    def rows(X: Any, gram: Any, cross: Any, first: Any) -> Any:
        """Every row of X in turn, which are those of the factor from ``first`` on."""

        def row(k: Any, X: Any) -> Any:
            x = X[k]
            # gram[k] @ X as one vector-matrix product: ten times faster than a sum.
            descent = cross[k] - gram[k] @ X - l1(first + k) - l2(first + k) * x
            if rough is not None:
                bend = jnp.diff(jnp.pad(jnp.diff(x), 1))
                descent = descent + rough[first + k] * bend
            return X.at[k].set(project(x + descent * steps[first + k]))

        return jax.lax.fori_loop(0, X.shape[0], row, X)

    def tile(X: Any, first: Any, size: int) -> Any:
        x, G, B = (
            jax.lax.dynamic_slice_in_dim(whole, first, size)
            for whole in (X, gram, cross)
        )
        own = jax.lax.dynamic_slice_in_dim(G, first, size, 1)
        # The rest of the factor by one product, without what the tile itself adds.
        x = rows(x, own, B - G @ X + own @ x, first)
        return jax.lax.dynamic_update_slice_in_dim(X, x, first, 0)

    p = X.shape[0]
    if p < TILED_FROM or isinstance(gram, ColumnGrams):
        return problem.project.hold(rows(X, gram, cross, 0))
    X = jax.lax.fori_loop(0, p // TILE, lambda i, X: tile(X, i * TILE, TILE), X)
    if p % TILE:
        X = tile(X, p - p % TILE, p % TILE)
    return problem.project.hold(X)


def sweeps(
    problem: Problem,
    gram: Float[Array, "p p"] | ColumnGrams,
    cross: Float[Array, "p q"],
    X: Float[Array, "p q"],
    inner: int,
) -> Float[Array, "p q"]:
    """``inner`` sweeps, or for 0 as many as the sizes decide (`inner_repeats`)."""
    count = inner_repeats(problem, X, inner)
    return jax.lax.fori_loop(0, count, lambda _, X: sweep(problem, gram, cross, X), X)
