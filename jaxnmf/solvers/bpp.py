"""Alternating non-negative least squares, each solved exactly by active sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxnmf._util.platform import on_cpu
from jaxnmf.data.grams import Gram
from jaxnmf.kernels.inverses import inverse
from jaxnmf.objective.constraints import NonNegative
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.shapes import Array, Bool, Float, Int
from jaxnmf.solvers.base import (
    BLOCKS,
    EVERY_OPERAND,
    QUADRATIC,
    Alternating,
    Supports,
    column_changes,
)
from jaxnmf.types import Cross, FreeFactor, Index, State, static

PATIENCE = 3  # full exchanges without progress, as in Kim & Park
CG_STEPS = 6  # of conjugate gradients for each exchange
CG_ROUNDS = 20  # exchanges by conjugate gradients at most
CG_UNTIL = 50  # one column of so many left, for which Cholesky factors are cheaper
TILE_ENTRIES = 2**15  # of the Gram matrices that are factorised at once
BLOCK_ENTRIES = 2**14  # of X in a block of columns, whose exchanges stay in a cache
WRITTEN_OUT = 5  # the largest p for which Cholesky factors are written out


@register_solver("anls-bpp")
class ANLSBPP(Alternating):
    """Alternating exact non-negative least squares by block principal pivoting.

        H ← argmin_{X ≥ 0} ½⟨X, (G + l2 I) X⟩ − ⟨B − l1, X⟩

    with G = WᵀW and B = WᵀV, by `nnls`. It starts from the passive sets
    {k : h_kj > 0} of the last H, which near convergence are already the right ones.

    With data observed in part every column has a Gram matrix of its own: this is the
    non-negative form of the row-wise weighted least squares (ALS) of collaborative
    filtering.

    Cost: the products with V, 2mnp for each factor, and 14p² for each column and
    exchange by conjugate gradients, p³/3 + 4p² for the few columns that are then left,
    or for p ≤ 5 for all.
    Memory is bounded: Gram matrices are factorised for a tile of columns at a time.
    Monotone; every limit point is stationary (two blocks, each solved exactly).

    Use: where each half-step has to be exact; cheaper half-steps reach the same error
    earlier.

    Args:
      exchanges: the most rounds of exchange; a column that has not converged then keeps
        the better of its old and new values.

    References: Kim & Park, "Fast nonnegative matrix factorization: an active-set-like
    method and comparisons", SIAM J. Sci. Comput. 33 (2011) [Kim2011]; Grippo &
    Sciandrone, "On the convergence of the block nonlinear Gauss-Seidel method under
    convex constraints", Operations Research Letters 26 (2000) [Grippo2000].
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(
        operands=EVERY_OPERAND | BLOCKS, toward=True
    )
    monotone: ClassVar[bool] = True
    exchanges: int = static(100)

    def nnls(
        self,
        problem: Problem,
        gram: Gram,
        cross: Cross,
        free: FreeFactor,
        state: State,
    ) -> tuple[FreeFactor, State]:
        penalty, project = problem.penalty, problem.project
        cross = cross - penalty.l1 + penalty.l2 * penalty.toward
        gram = gram.plus_diagonal(penalty.l2)
        X = nnls_by_blocks(gram, cross, free, self.exchanges, project.free)
        return project(X), state


def nnls_by_blocks(
    gram: Gram,
    cross: Float[Array, "p q"],
    start: Float[Array, "p q"],
    exchanges: int,
    free: Bool[Array, "#p #q"] | bool,
) -> Float[Array, "p q"]:
    """`nnls` of one block of columns after the other, where they share a Gram matrix:
    on a CPU several times faster than of many columns at once, whose dozen arrays are
    read from memory in every step of conjugate gradients."""
    p, q = cross.shape
    width = BLOCK_ENTRIES // p
    if not (gram.shared and on_cpu() and q > 2 * width):
        return nnls(gram, cross, start, exchanges=exchanges, free=free)
    count = -(-q // width)

    def cut(X: jax.Array) -> jax.Array:
        more = jnp.pad(X, ((0, 0), (0, count * width - q)))
        return more.reshape(len(X), count, width).swapaxes(0, 1)

    # One for each column, where some columns have held entries of their own.
    own: list[Any] = [X for X in (free,) if jnp.shape(X)[1:] == (q,)]

    def solve(block: Any) -> Float[Array, "p w"]:
        cross, start, *some = block
        (unknown,) = some or (free,)
        return nnls(gram, cross, start, exchanges=exchanges, free=unknown)

    blocks = tuple(map(cut, (cross, start, *own)))
    found = jax.lax.map(solve, blocks)
    return found.swapaxes(0, 1).reshape(p, -1)[:, :q]


class _Columns(NamedTuple):
    """The columns between two exchanges."""

    passive: Bool[Array, "p q"]  # entries that may differ from zero
    X: Float[Array, "p q"]
    converged: Bool[Array, " q"]
    fewest: Int[Array, " q"]  # infeasible entries so far
    patience: Int[Array, " q"]
    rounds: Int[Array, ""]


def nnls(
    gram: Gram,
    cross: Float[Array, "p q"],
    start: Float[Array, "p q"] | None = None,
    *,
    exchanges: int = 100,
    tile: int = 0,
    free: Bool[Array, "#p #q"] | bool = True,
) -> Float[Array, "p q"]:
    """argmin_{X ≥ 0} ½⟨X, gram X⟩ − ⟨cross, X⟩, every column exactly.

    Block principal pivoting. For the passive set F of a column, X_F solves
    gram_FF X_F = cross_F, X is 0 off F, and Y = gram X − cross. Entries with X < 0
    on F or Y < 0 off F are infeasible and are exchanged, all at once; after three
    rounds without fewer of them, only the one with the largest index is, which
    ends after finitely many rounds. A column without infeasible entries satisfies the
    KKT conditions.

    Where there is one Gram matrix, of p up to ``WRITTEN_OUT``, each exchange solves all
    columns by `written_out`. Otherwise, in the first stage all columns are solved at
    once by conjugate gradients, ``CG_STEPS`` from the last X for each exchange, which
    are matrix products; most signs are right long before X_F is. A column has converged
    when also gram_FF X_F = cross_F up to rounding. For the few columns that are then
    left, or all where G is nearly singular, gram_FF is factorised as M G M + I − M,
    with M the mask of F and G the Gram matrix scaled to a unit diagonal, plus a ridge
    of 100 machine epsilons, with which dependent columns stay solvable; a step of
    iterative refinement removes the effect of the ridge.

    Args:
      gram: symmetric positive semidefinite.
      cross: (p, q), the right-hand sides.
      start: (p, q), non-negative; its sign pattern gives the first passive sets.
        Rows where gram has a zero diagonal stay as they are. Zero by default.
      exchanges: the most rounds.
      tile: columns factorised at once; 0 chooses by the memory that they need.
      free: the unknowns; the other entries keep their values in ``start``.

    Returns:
      (p, q). A column that has not converged, or that rounding made no better than
      ``start``, is the better of the two.

    Reference: Kim & Park, SIAM J. Sci. Comput. 33 (2011) [Kim2011], algorithm 2.
    """
    p, q = cross.shape
    start = jnp.zeros_like(cross) if start is None else start
    # The part of entries that are not free goes to the right-hand side.
    old = jnp.where(free, start, 0)
    unknown: Any = q  # columns
    if free is not True:
        cross = cross - gram @ (start - old)
        unknown = jnp.broadcast_to(jnp.any(free, 0), (q,)).sum(dtype=jnp.int32)
    width = min(q, tile or max(1, TILE_ENTRIES // p**2))
    epsilon = float(jnp.finfo(cross.dtype).eps)
    curvature = gram.diagonal
    live = curvature > 0
    scale = jnp.where(live, jax.lax.rsqrt(jnp.where(live, curvature, 1)), 0)
    live = live & free
    G, B = gram.scaled(scale), jnp.where(live, cross * scale, 0)
    size = jnp.abs(B).max(0)
    rows = jnp.arange(p, dtype=jnp.int32)[:, None]

    def factorised(now: _Columns) -> jax.Array:
        # Columns that have not converged come first, in tiles, so that the others cost
        # nothing. The last tile is moved back to fit; it solves some columns twice.
        order = jnp.argsort(now.converged)
        count = (~now.converged).sum(dtype=jnp.int32)

        def solve(i: Index, X: Float[Array, "p q"]) -> Float[Array, "p q"]:
            chosen = jax.lax.dynamic_slice_in_dim(order, i * width, width)
            passive = now.passive[:, chosen]
            own = G.of_columns(chosen)
            x = masked_solve(own, B[:, chosen], passive, 100 * epsilon)
            return X.at[:, chosen].set(x)

        first = jnp.zeros((), jnp.int32)
        return jax.lax.fori_loop(first, (count + width - 1) // width, solve, now.X)

    def all_factorised(now: _Columns) -> jax.Array:
        X = written_out(G, B, now.passive, 100 * epsilon)
        return jnp.where(now.converged, now.X, X)

    def iterated(now: _Columns) -> jax.Array:
        X = conjugate_gradients(G, B, now.passive, now.X, CG_STEPS)
        return jnp.where(now.converged, now.X, X)

    def exchange(
        now: _Columns, solve: Callable[[_Columns], Float[Array, "p q"]]
    ) -> _Columns:
        X = solve(now)
        Y = G @ X - B
        # Signs of zeros are noise; a NaN counts as infeasible.
        noise = 8 * epsilon * (size + jnp.abs(X).sum(0))
        infeasible = ~jnp.where(now.passive, X >= 0, -noise <= Y) & live
        number = infeasible.sum(0, dtype=jnp.int32)
        solved = jnp.where(now.passive & live, jnp.abs(Y), 0) <= 4 * noise
        # By factorisation a column is solved as well as it can be.
        solved = solved.all(0) | (solve is not iterated)
        fewer = number < now.fewest
        last = infeasible & (rows == jnp.where(infeasible, rows, -1).max(0))
        change = jnp.where(fewer | (now.patience > 0), infeasible, last)
        return _Columns(
            passive=now.passive ^ change,
            X=X,
            converged=(number == 0) & solved,
            fewest=jnp.minimum(number, now.fewest),
            patience=jnp.where(fewer, PATIENCE, now.patience - 1),
            rounds=now.rounds + 1,
        )

    def many_left(now: _Columns) -> Bool[Array, ""]:
        left = (~now.converged).sum(dtype=jnp.int32)
        return (now.rounds < min(CG_ROUNDS, exchanges)) & (left > unknown // CG_UNTIL)

    def any_left(now: _Columns) -> Bool[Array, ""]:
        return (now.rounds < exchanges) & ~now.converged.all()

    start_X = jnp.where(live, old / jnp.where(live, scale, 1), 0)
    now = _Columns(
        # The first exchange from zero needs no solve.
        passive=jnp.where((old > 0).any(0), old > 0, B > 0) & live,
        X=start_X,
        converged=jnp.zeros(q, bool),
        fewest=jnp.full(q, p + 1, jnp.int32),
        patience=jnp.full(q, PATIENCE, jnp.int32),
        rounds=jnp.zeros((), jnp.int32),
    )
    small = gram.shared and p <= WRITTEN_OUT
    exactly = all_factorised if small else factorised
    if not small:
        now = jax.lax.while_loop(many_left, lambda now: exchange(now, iterated), now)
        now = now._replace(
            fewest=jnp.full_like(now.fewest, p + 1),
            patience=jnp.full_like(now.patience, PATIENCE),
            rounds=jnp.zeros_like(now.rounds),
        )
    X = jax.lax.while_loop(any_left, lambda now: exchange(now, exactly), now).X
    new = jnp.where(live, NonNegative()(scale * X), old)
    better = column_changes(gram, cross, old, new) <= 0
    return jnp.where(free, jnp.where(better, new, old), start)


_Iterate = tuple[
    Float[Array, "p q"],  # X
    Float[Array, "p q"],  # the residual
    Float[Array, "p q"],  # the direction
    Float[Array, " q"],  # the squared norm of the residual
]


def conjugate_gradients(
    G: Gram,
    B: Float[Array, "p q"],
    mask: Bool[Array, "p q"],
    X: Float[Array, "p q"],
    steps: int,
) -> Float[Array, "p q"]:
    """For every column, G_FF x_F ≈ b_F on its mask F, and 0 elsewhere, by ``steps`` of
    conjugate gradients from X."""
    X = jnp.where(mask, X, 0)
    residual = jnp.where(mask, B - G @ X, 0)

    def step(_: Index, carry: _Iterate) -> _Iterate:
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
        x = jax.lax.linalg.triangular_solve(root, half, transpose_a=True, **options)
        return x[..., 0]

    b = jnp.where(M, B.T, 0)
    x = solve(b)
    product = x @ G if G.ndim == 2 else jnp.einsum("tp,tpq->tq", x, G)
    return (x + solve(jnp.where(M, b - product, 0))).T


def written_out(
    G: Gram, B: Float[Array, "p q"], mask: Bool[Array, "p q"], ridge: float
) -> Float[Array, "p q"]:
    """`masked_solve` of all columns, entry by entry of the Cholesky factors, each for
    all columns at once: for a small p ten times faster than a factorisation for each
    column, and longer to compile."""
    p, A, root = len(B), G.array, {}
    for j in range(p):
        squared = jnp.where(mask[j], A[j, j] + ridge, 1)
        squared = squared - sum(root[j, k] ** 2 for k in range(j))
        root[j, j] = jax.lax.rsqrt(squared)  # of the diagonal the inverse
        for i in range(j + 1, p):
            entry = jnp.where(mask[i] & mask[j], A[i, j], 0)
            entry = entry - sum(root[i, k] * root[j, k] for k in range(j))
            root[i, j] = entry * root[j, j]

    def solve(b: jax.Array) -> jax.Array:
        y, x = [], {}
        for i in range(p):
            rest = b[i] - sum(root[i, k] * y[k] for k in range(i))
            y.append(rest * root[i, i])
        for i in reversed(range(p)):
            rest = y[i] - sum(root[k, i] * x[k] for k in range(i + 1, p))
            x[i] = rest * root[i, i]
        return jnp.stack([x[i] for i in range(p)])

    def refine(_: Index, x: jax.Array) -> jax.Array:
        return x + solve(jnp.where(mask, B - G @ x, 0))

    return jax.lax.fori_loop(0, 2, refine, jnp.zeros_like(B))
