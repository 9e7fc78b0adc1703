"""Alternating non-negative least squares, each solved exactly."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnmf.data.grams import ColumnGrams
from jaxnmf.kernels.inverses import diagonal, inverse
from jaxnmf.objective.constraints import NonNegative
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.solvers.base import (
    EVERY_OPERAND,
    QUADRATIC,
    Alternating,
    Supports,
    column_changes,
)
from jaxnmf.types import static

PATIENCE = 3  # full exchanges that may bring no gain, as Kim & Park have it
CG_STEPS = 6  # of conjugate gradients for each exchange
CG_ROUNDS = 20  # exchanges by conjugate gradients at most
CG_ENOUGH = 0.02  # of the columns left: Cholesky factors cost them less than all a step
TILE_ENTRIES = 2**15  # of the Gram matrices that are factorised at once


@register_solver("anls-bpp")
class ANLSBPP(Alternating):
    """Alternating exact non-negative least squares by block principal pivoting.

    H ← argmin_{X ≥ 0} ½⟨X, (G + l2 I) X⟩ − ⟨B − l1, X⟩, with G = WᵀW and B = WᵀV, by
    `nnls`. It starts from the passive sets {k : h_kj > 0} of the last H, which near
    the end are already the right ones.

    Data observed in part give every column a Gram matrix of its own: then it is the
    row-wise weighted least squares of collaborative filtering (ALS), non-negative.

    Cost: the two products, 2mnp, and 14p² a column and exchange by conjugate gradients,
    p³/3 + 4p² for the few columns that are then left. The memory is bounded: Gram
    matrices are factorised a tile of columns at a time. Monotone; every limit point is
    stationary (two blocks, each solved exactly).

    Args:
      exchanges: rounds of exchange before a column that has not finished takes the
        better of its old and new values.

    References: Kim & Park, "Fast nonnegative matrix factorization: an active-set-like
    method and comparisons", SIAM J. Sci. Comput. 33 (2011); Grippo & Sciandrone, "On
    the convergence of the block nonlinear Gauss-Seidel method under convex
    constraints", Operations Research Letters 26 (2000).
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(operands=EVERY_OPERAND)
    monotone: ClassVar[bool] = True
    exchanges: int = static(100)

    def nnls(
        self, problem: Problem, gram: Any, cross: Any, free: Any, state: Any
    ) -> tuple[Any, Any]:
        penalty, project = problem.penalty, problem.project
        cross = cross - penalty.l1 + penalty.l2 * penalty.toward
        gram = diagonal_added(gram, penalty.l2)
        X = nnls(gram, cross, free, exchanges=self.exchanges, free=project.free)
        return project(X), state


class _Columns(NamedTuple):
    """Where every column stands between two exchanges."""

    passive: Bool[Array, "p q"]  # entries that may differ from zero
    X: Float[Array, "p q"]
    finished: Bool[Array, " q"]
    fewest: Int[Array, " q"]  # infeasible entries so far
    patience: Int[Array, " q"]
    rounds: Int[Array, ""]


def nnls(
    gram: Float[Array, "p p"] | ColumnGrams,
    cross: Float[Array, "p q"],
    start: Float[Array, "p q"] | None = None,
    *,
    exchanges: int = 100,
    tile: int = 0,
    free: Bool[Array, "#p #q"] | bool = True,
) -> Float[Array, "p q"]:
    """argmin_{X ≥ 0} ½⟨X, gram X⟩ − ⟨cross, X⟩, every column exactly.

    Block principal pivoting. For a passive set F of a column: X_F solves
    gram_FF X_F = cross_F, X is 0 off F, and Y = gram X − cross. Entries with X < 0
    on F or Y < 0 off F are infeasible and change sides, all at once; after three
    rounds that leave as many of them, only the one of the largest index does, which
    ends after finitely many rounds. A column without any satisfies the KKT
    conditions.

    First all columns at once by conjugate gradients, ``CG_STEPS`` from the last X for
    each exchange: products of matrices, and most signs are right long before X_F is.
    A column is finished when gram_FF X_F = cross_F up to rounding, too. For the few
    that are then left, or all where G is near singular, gram_FF is factorised as
    M G M + I − M, with M the mask of F and G the Gram matrix scaled to a unit diagonal,
    plus a ridge of 100 machine epsilons so that dependent columns stay solvable; a step
    of iterative refinement takes the ridge's effect off again.

    Args:
      gram: (p, p), symmetric positive semidefinite, or one for each column.
      cross: (p, q), the right-hand sides.
      start: (p, q), non-negative; its sign pattern gives the first passive sets.
        Rows where gram has a zero diagonal stay as they are. Zero by default.
      exchanges: rounds at most.
      tile: columns factorised at once; 0 lets the memory decide.
      free: the unknowns; the other entries stay as ``start`` has them.

    Returns:
      (p, q). A column that has not finished, or that rounding left no better than
      ``start``, keeps the better of the two.

    Reference: Kim & Park, SIAM J. Sci. Comput. 33 (2011), algorithm 2.
    """
    p, q = cross.shape
    start = jnp.zeros_like(cross) if start is None else start
    # What is not free is no unknown: its part goes to the right-hand side.
    old = jnp.where(free, start, 0)
    if free is not True:
        cross = cross - gram @ (start - old)
    width = min(q, tile or max(1, TILE_ENTRIES // p**2))
    epsilon = float(jnp.finfo(cross.dtype).eps)
    curvature = diagonal(gram)
    live = curvature > 0
    scale = jnp.where(live, jax.lax.rsqrt(jnp.where(live, curvature, 1)), 0)
    live = live & free
    G, B = scaled(gram, scale), jnp.where(live, cross * scale, 0)
    size = jnp.abs(B).max(0)
    rows = jnp.arange(p, dtype=jnp.int32)[:, None]
    many = isinstance(G, ColumnGrams)

    def factorised(now: _Columns) -> jax.Array:
        # Unfinished columns first, in tiles, so that the rest costs nothing. The last
        # tile is moved back to fit; what it solves twice comes out the same.
        order = jnp.argsort(now.finished)
        count = (~now.finished).sum(dtype=jnp.int32)

        def solve(i: Any, X: Any) -> Any:
            chosen = jax.lax.dynamic_slice_in_dim(order, i * width, width)
            passive = now.passive[:, chosen]
            own = jnp.moveaxis(G.array[..., chosen], -1, 0) if many else G
            x = masked_solve(own, B[:, chosen], passive, 100 * epsilon)
            return X.at[:, chosen].set(x)

        first = jnp.zeros((), jnp.int32)
        return jax.lax.fori_loop(first, (count + width - 1) // width, solve, now.X)

    def iterated(now: _Columns) -> jax.Array:
        X = conjugate_gradients(G, B, now.passive, now.X, CG_STEPS)
        return jnp.where(now.finished, now.X, X)

    def exchange(now: _Columns, solve: Any) -> _Columns:
        X = solve(now)
        Y = G @ X - B
        # Signs of zeros are noise; a NaN counts as infeasible.
        noise = 8 * epsilon * (size + jnp.abs(X).sum(0))
        infeasible = ~jnp.where(now.passive, X >= 0, -noise <= Y) & live
        number = infeasible.sum(0, dtype=jnp.int32)
        solved = jnp.where(now.passive & live, jnp.abs(Y), 0) <= 4 * noise
        # What is factorised is solved as well as can be.
        solved = solved.all(0) | (solve is factorised)
        fewer = number < now.fewest
        last = infeasible & (rows == jnp.where(infeasible, rows, -1).max(0))
        change = jnp.where(fewer | (now.patience > 0), infeasible, last)
        return _Columns(
            passive=now.passive ^ change,
            X=X,
            finished=(number == 0) & solved,
            fewest=jnp.minimum(number, now.fewest),
            patience=jnp.where(fewer, PATIENCE, now.patience - 1),
            rounds=now.rounds + 1,
        )

    def many_left(now: _Columns) -> Any:
        left = (~now.finished).sum(dtype=jnp.int32)
        return (now.rounds < min(CG_ROUNDS, exchanges)) & (left > int(CG_ENOUGH * q))

    def any_left(now: _Columns) -> Any:
        return (now.rounds < exchanges) & ~now.finished.all()

    start_X = jnp.where(live, old / jnp.where(live, scale, 1), 0)
    now = _Columns(
        # From zero the first exchange is known without a solve.
        passive=jnp.where((old > 0).any(0), old > 0, B > 0) & live,
        X=start_X,
        finished=jnp.zeros(q, bool),
        fewest=jnp.full(q, p + 1, jnp.int32),
        patience=jnp.full(q, PATIENCE, jnp.int32),
        rounds=jnp.zeros((), jnp.int32),
    )
    now = jax.lax.while_loop(many_left, lambda now: exchange(now, iterated), now)
    now = now._replace(
        fewest=jnp.full_like(now.fewest, p + 1),
        patience=jnp.full_like(now.patience, PATIENCE),
        rounds=jnp.zeros_like(now.rounds),
    )
    X = jax.lax.while_loop(any_left, lambda now: exchange(now, factorised), now).X
    new = jnp.where(live, NonNegative()(scale * X), old)
    better = column_changes(gram, cross, old, new) <= 0
    return jnp.where(free, jnp.where(better, new, old), start)


def scaled(gram: Any, scale: Float[Array, "p q"]) -> Any:
    """S G S for S = diag(scale), scale (p, 1) or one for each column's Gram matrix."""
    if isinstance(gram, ColumnGrams):
        return ColumnGrams(array=gram.array * scale[:, None] * scale)
    return gram * scale * scale.T


def diagonal_added(gram: Any, l2: Any) -> Any:
    """G + diag(l2)."""
    if isinstance(gram, ColumnGrams):
        p = gram.array.shape[0]
        l2 = jnp.broadcast_to(l2, (p, jnp.shape(l2)[-1] if jnp.ndim(l2) else 1))
        identity = jnp.eye(p, dtype=gram.array.dtype)
        return ColumnGrams(array=gram.array + identity[:, :, None] * l2[:, None])
    return gram + l2 * jnp.eye(gram.shape[0], dtype=gram.dtype)


def conjugate_gradients(
    G: Float[Array, "p p"] | ColumnGrams,
    B: Float[Array, "p q"],
    mask: Bool[Array, "p q"],
    X: Float[Array, "p q"],
    steps: int,
) -> Float[Array, "p q"]:
    """For every column, G_FF x_F ≈ b_F on its mask F, and 0 elsewhere: so many steps
    of conjugate gradients from X."""
    X = jnp.where(mask, X, 0)
    residual = jnp.where(mask, B - G @ X, 0)

    def step(_: Any, carry: Any) -> Any:
        X, residual, direction, squared = carry
        curved = jnp.where(mask, G @ direction, 0)
        length = squared * inverse((direction * curved).sum(0))
        residual = residual - length * curved
        after = (residual * residual).sum(0)
        new = residual + after * inverse(squared) * direction
        return X + length * direction, residual, new, after

    start = (X, residual, residual, (residual * residual).sum(0))
    return jax.lax.fori_loop(0, steps, step, start)[0]


def masked_solve(
    G: Float[Array, "p p"] | Float[Array, "t p p"],
    B: Float[Array, "p t"],
    mask: Bool[Array, "p t"],
    ridge: float,
) -> Float[Array, "p t"]:
    """For every column, G_FF x_F = b_F on its mask F, and 0 elsewhere; G is one for
    all columns, or one for each."""
    M = mask.T
    both = M[:, :, None] & M[:, None, :]
    identity = jnp.eye(G.shape[-1], dtype=G.dtype)
    root = jnp.linalg.cholesky(
        jnp.where(both, G, 0) + jnp.where(M[:, :, None], ridge, 1) * identity,
        symmetrize_input=False,
    )

    def solve(b: jax.Array) -> jax.Array:
        options: dict[str, Any] = {"left_side": True, "lower": True}
        half = jax.lax.linalg.triangular_solve(root, b[..., None], **options)
        whole = jax.lax.linalg.triangular_solve(root, half, transpose_a=True, **options)
        return whole[..., 0]

    b = jnp.where(M, B.T, 0)
    x = solve(b)
    product = x @ G if G.ndim == 2 else jnp.einsum("tp,tpq->tq", x, G)
    return (x + solve(jnp.where(M, b - product, 0))).T
