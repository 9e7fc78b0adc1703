"""Alternating non-negative least squares, each solved exactly."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnmf.constraints import NonNegative
from jaxnmf.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.solvers.base import QUADRATIC, Alternating, Supports, column_changes
from jaxnmf.types import static

PATIENCE = 3  # full exchanges that may bring no gain, as Kim & Park have it
TILE_ENTRIES = 2**19  # of the Gram matrices that are factorised at once


@register_solver("anls-bpp")
class ANLSBPP(Alternating):
    """Alternating exact non-negative least squares by block principal pivoting.

    H ← argmin_{X ≥ 0} ½⟨X, (G + l2 I) X⟩ − ⟨B − l1, X⟩, with G = WᵀW and B = WᵀV, by
    `nnls`. It starts from the passive sets {k : h_kj > 0} of the last H, which near
    the end are already the right ones.

    Cost: the two products, 2mnp, and p³/3 + 4p² a column and exchange; only columns
    whose passive set is not yet right take part. The memory is bounded: Gram matrices
    are factorised a tile of columns at a time. Monotone; every limit point is
    stationary (two blocks, each solved exactly).

    Args:
      exchanges: rounds of exchange before a column that has not finished takes the
        better of its old and new values.

    References: Kim & Park, "Fast nonnegative matrix factorization: an active-set-like
    method and comparisons", SIAM J. Sci. Comput. 33 (2011); Grippo & Sciandrone, "On
    the convergence of the block nonlinear Gauss-Seidel method under convex
    constraints", Operations Research Letters 26 (2000).
    """

    supports: ClassVar[Supports] = QUADRATIC
    descends: ClassVar[bool] = True
    exchanges: int = static(100)

    def nnls(
        self, problem: Problem, gram: Any, cross: Any, free: Any, state: Any
    ) -> tuple[Any, Any]:
        penalty = problem.penalty
        ridge = penalty.l2 * jnp.eye(gram.shape[0], dtype=gram.dtype)
        X = nnls(gram + ridge, cross - penalty.l1, free, exchanges=self.exchanges)
        return problem.project(X), state


class _Columns(NamedTuple):
    """Where every column stands between two exchanges."""

    passive: Bool[Array, "p q"]  # entries that may differ from zero
    X: Float[Array, "p q"]
    finished: Bool[Array, " q"]
    fewest: Int[Array, " q"]  # infeasible entries so far
    patience: Int[Array, " q"]
    rounds: Int[Array, ""]


def nnls(
    gram: Float[Array, "p p"],
    cross: Float[Array, "p q"],
    start: Float[Array, "p q"] | None = None,
    *,
    exchanges: int = 100,
    tile: int = 0,
) -> Float[Array, "p q"]:
    """argmin_{X ≥ 0} ½⟨X, gram X⟩ − ⟨cross, X⟩, every column exactly.

    Block principal pivoting. For a passive set F of a column: X_F solves
    gram_FF X_F = cross_F, X is 0 off F, and Y = gram X − cross. Entries with X < 0
    on F or Y < 0 off F are infeasible and change sides, all at once; after three
    rounds that leave as many of them, only the one of the largest index does, which
    ends after finitely many rounds. A column without any satisfies the KKT
    conditions.

    gram_FF is factorised as M G M + I − M, with M the mask of F and G the Gram matrix
    scaled to a unit diagonal, plus a ridge of 100 machine epsilons so that
    dependent columns stay solvable; a step of iterative refinement takes the ridge's
    effect off again.

    Args:
      gram: (p, p), symmetric positive semidefinite.
      cross: (p, q), the right-hand sides.
      start: (p, q), non-negative; its sign pattern gives the first passive sets.
        Rows where gram has a zero diagonal stay as they are. Zero by default.
      exchanges: rounds at most.
      tile: columns factorised at once; 0 lets the memory decide.

    Returns:
      (p, q). A column that has not finished, or that rounding left no better than
      ``start``, keeps the better of the two.

    Reference: Kim & Park, SIAM J. Sci. Comput. 33 (2011), algorithm 2.
    """
    p, q = cross.shape
    old = jnp.zeros_like(cross) if start is None else start
    width = min(q, tile or max(1, TILE_ENTRIES // p**2))
    epsilon = float(jnp.finfo(gram.dtype).eps)
    diagonal = jnp.diagonal(gram)
    live = (diagonal > 0)[:, None]
    scale = jnp.where(live, jax.lax.rsqrt(jnp.where(live, diagonal[:, None], 1)), 0)
    G, B = gram * scale * scale.T, cross * scale
    size = jnp.abs(B).max(0)
    rows = jnp.arange(p, dtype=jnp.int32)[:, None]

    def solve(order: Any, passive: Any, i: Any, X: Any) -> Any:
        chosen = jax.lax.dynamic_slice_in_dim(order, i * width, width)
        return X.at[:, chosen].set(
            masked_solve(G, B[:, chosen], passive[:, chosen], 100 * epsilon)
        )

    def exchange(now: _Columns) -> _Columns:
        # Unfinished columns first, in tiles, so that the rest costs nothing. The last
        # tile is moved back to fit; what it solves twice comes out the same.
        order = jnp.argsort(now.finished)
        count = (~now.finished).sum(dtype=jnp.int32)
        X = jax.lax.fori_loop(
            jnp.zeros((), jnp.int32),
            (count + width - 1) // width,
            lambda i, X: solve(order, now.passive, i, X),
            now.X,
        )
        Y = G @ X - B
        # Signs of zeros are noise; a NaN counts as infeasible.
        noise = 8 * epsilon * (size + jnp.abs(X).sum(0))
        infeasible = ~jnp.where(now.passive, X >= 0, -noise <= Y) & live
        number = infeasible.sum(0, dtype=jnp.int32)
        fewer = number < now.fewest
        last = infeasible & (rows == jnp.where(infeasible, rows, -1).max(0))
        change = jnp.where(fewer | (now.patience > 0), infeasible, last)
        return _Columns(
            passive=now.passive ^ change,
            X=X,
            finished=number == 0,
            fewest=jnp.minimum(number, now.fewest),
            patience=jnp.where(fewer, PATIENCE, now.patience - 1),
            rounds=now.rounds + 1,
        )

    def unfinished(now: _Columns) -> Any:
        return (now.rounds < exchanges) & ~now.finished.all()

    first = _Columns(
        passive=(old > 0) & live,
        X=jnp.zeros_like(cross),
        finished=jnp.zeros(q, bool),
        fewest=jnp.full(q, p + 1, jnp.int32),
        patience=jnp.full(q, PATIENCE, jnp.int32),
        rounds=jnp.zeros((), jnp.int32),
    )
    X = jax.lax.while_loop(unfinished, exchange, first).X
    new = jnp.where(live, NonNegative()(scale * X), old)
    return jnp.where(column_changes(gram, cross, old, new) <= 0, new, old)


def masked_solve(
    G: Float[Array, "p p"],
    B: Float[Array, "p t"],
    mask: Bool[Array, "p t"],
    ridge: float,
) -> Float[Array, "p t"]:
    """For every column, G_FF x_F = b_F on its mask F, and 0 elsewhere."""
    M = mask.T
    both = M[:, :, None] & M[:, None, :]
    identity = jnp.eye(G.shape[0], dtype=G.dtype)
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
    return (x + solve(jnp.where(M, b - x @ G, 0))).T
