"""What a solver is, and the base class that makes one of a half-step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnmf.matrix import ColumnGrams
from jaxnmf.problem import Problem
from jaxnmf.types import Factors


class Supports(NamedTuple):
    """What a solver can take.

    ``losses``: "quadratic" (Frobenius), "kl" (Kullback-Leibler), "beta" (any
    β-divergence), "split" (any with a split gradient) or "any" (also a user's own).
    ``operands``: kinds of V. ``constraints``: what the factors may be held to.
    ``signed``: which of "V", "W" and "H" may hold negative entries. ``symmetric``: V
    must be a symmetric matrix.
    """

    losses: str = "any"
    operands: frozenset[str] = frozenset({"dense", "sparse"})
    constraints: frozenset[str] = frozenset({"nonnegative"})
    signed: frozenset[str] = frozenset()
    symmetric: bool = False

    def takes(self, loss: Any) -> bool:
        return {
            "quadratic": loss.quadratic,
            "kl": loss.beta == 1,
            "beta": loss.beta is not None,
            "split": loss.has_split,
            "any": True,
        }[self.losses]


QUADRATIC = Supports("quadratic")
KL = Supports("kl")
BETA = Supports("beta")
ANY = Supports("any")
# For a solver that asks of V no more than every operand answers.
EVERY_OPERAND = frozenset({"dense", "sparse", "observed"})

# Of a sweep; measured on a CPU (`experiments/benchmarks`).
TILED_FROM, TILE = 128, 8

# A solver that calls the projection on whole factors takes every constraint; one that
# moves single entries takes those that tie no entries together.
PROJECTED = frozenset({"nonnegative", "box", "simplex"})
ENTRYWISE = frozenset({"nonnegative", "box"})


def constraints_of(solver: Any) -> frozenset[str]:
    """What a solver can hold factors to: a wrapper no more than the solver inside."""
    return solver.supports.constraints & _inner(solver).constraints


def operands_of(solver: Any) -> frozenset[str]:
    """The kinds of V a solver takes: a wrapper no more than the solver inside."""
    return solver.supports.operands & _inner(solver).operands


def _inner(solver: Any) -> Supports:
    return getattr(getattr(solver, "inner", None), "supports", solver.supports)


class Solver(Protocol):
    """A frozen dataclass, registered as a pytree by `jaxnmf.register_solver`.

    Looping, stopping, recording and timing are not its business: `jaxnmf.run` does
    them, alike for all.

    Attributes:
      supports: losses and operands it takes; others are refused by name.
      descends: claims that no step raises the objective; tested.
      variant: minimises something else than the problem's objective (a constraint or
        penalty of its own, a sketch of V), so its fixed points are not the problem's;
        False where a class does not say.
    """

    supports: ClassVar[Supports]
    descends: ClassVar[bool]
    variant: ClassVar[bool]

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> Any:
        """The state that the first step takes: any pytree."""
        ...

    def step(
        self, problem: Problem, factors: Factors, state: Any
    ) -> tuple[Factors, Any]:
        """One iteration: new factors and a state of the same structure."""
        ...

    # Where the data must be of a kind of its own, `check(problem)` as well: on the
    # host, before any compilation, it raises a ValueError for what does not fit.


class Alternating:
    """A solver that improves H with W fixed, then W with H fixed, by one function.

    A subclass gives ``half_step``, or for a quadratic loss ``nnls`` alone, which
    starts from the Gram and cross product and is what `extrapolated` calls; and
    ``half_init`` where it keeps a state.
    """

    supports: ClassVar[Supports] = ANY
    descends: ClassVar[bool] = False
    variant: ClassVar[bool] = False

    def half_init(
        self, problem: Problem, fixed: Float[Array, "p m"], free: Float[Array, "p n"]
    ) -> Any:
        """The state of one factor's half-step; none by default."""
        return ()

    def half_step(
        self,
        problem: Problem,
        fixed: Float[Array, "p m"],
        free: Float[Array, "p n"],
        state: Any,
    ) -> tuple[Float[Array, "p n"], Any]:
        """An improved ``free`` factor of V ≈ fixedᵀ free, and its next state."""
        return self.nnls(problem, *problem.quadratic(fixed), free, state)

    def nnls(
        self,
        problem: Problem,
        gram: Float[Array, "p p"] | ColumnGrams,
        cross: Float[Array, "p n"],
        free: Float[Array, "p n"],
        state: Any,
    ) -> tuple[Float[Array, "p n"], Any]:
        """A smaller ½⟨X, gram X⟩ − ⟨cross, X⟩ + penalty(X) over X ≥ 0, from X = free:
        what a half-step is for the Frobenius loss."""
        raise NotImplementedError

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> Any:
        del key
        Wt, H = factors
        return self.half_init(problem.T, H, Wt), self.half_init(problem, Wt, H)

    def step(
        self, problem: Problem, factors: Factors, state: Any
    ) -> tuple[Factors, Any]:
        Wt, H = factors
        state_W, state_H = state
        H, state_H = self.half_step(problem, Wt, H, state_H)
        Wt, state_W = self.half_step(problem.T, H, Wt, state_W)
        return Factors(Wt, H), (state_W, state_H)


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
    ratio = problem.matrix.entries / free.shape[1]
    # With a Gram matrix a column, making them costs p²/2 an entry, a sweep p² a column.
    ratio = ratio / (problem.project.rank(free) if problem.by_gram else 2)
    return jnp.clip(1 + jnp.floor(share * ratio), 1, most).astype(jnp.int32)


def gives_nnls(solver: Any) -> bool:
    """Whether a solver works on Gram and cross products, by an ``nnls`` of its own."""
    own = getattr(type(solver), "nnls", Alternating.nnls)
    return own is not Alternating.nnls


def inverse(x: jax.Array) -> jax.Array:
    """1/x, and 0 where x is 0: a component without curvature stays as it is."""
    return jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0)


def diagonal(gram: Float[Array, "p p"] | ColumnGrams) -> Float[Array, "p q"]:
    """The Gram matrix's diagonal as a column, (p, 1), or one for each column of X."""
    if isinstance(gram, ColumnGrams):
        return gram.diagonal
    return jnp.diagonal(gram)[:, None]


def by_row(weight: Any, X: Float[Array, "p q"]) -> Callable[[Any], Any]:
    """Row k of a penalty's weight: a number, or what broadcasts to X's shape."""
    if jnp.ndim(weight) == 0:
        return lambda _: weight
    rows = jnp.broadcast_to(weight, (X.shape[0], jnp.shape(weight)[-1]))
    return lambda k: rows[k]


def inverted(matrix: Float[Array, "p p"]) -> Float[Array, "p p"]:
    """The inverse of a positive definite matrix, to be multiplied with.

    A triangular solve with q columns is a threaded LAPACK call on a CPU, which busy
    cores slow down a hundredfold; a product is not.
    """
    root = jnp.linalg.cholesky(matrix)
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    return jax.scipy.linalg.cho_solve((root, True), identity)


def quotient(minus: jax.Array, plus: jax.Array) -> jax.Array:
    """minus / plus, the factor of a multiplicative update. Where plus is 0 so is
    minus, and any value is as good: 1 keeps the entry."""
    return jnp.where(plus > 0, minus / jnp.where(plus > 0, plus, 1), 1)


def multiplied(
    problem: Problem,
    X: Float[Array, "p q"],
    minus: Float[Array, "p q"],
    plus: Float[Array, "p q"],
    floor: jax.Array | float = 0.0,
) -> Float[Array, "p q"]:
    """The multiplicative update max(floor, X ∘ (minus / plus)^γ) of a β-divergence."""
    ratio = quotient(minus, plus)
    beta, exponent = problem.loss.beta, problem.loss.mu_exponent
    step = ratio**exponent if exponent != 1 else ratio
    if beta < 2:
        # x² grows faster than what γ was made for: with it 1/(3−β) descends.
        step = jnp.where(problem.penalty.l2 > 0, ratio ** (1 / (3 - beta)), step)
    return problem.project(X * step, floor)


def joint_update(
    problem: Problem, factors: Factors, floors: tuple[Any, Any]
) -> Factors:
    """Both factors' multiplicative updates from one quotient V / WH, for the
    Kullback-Leibler divergence: H ← H ∘ minus_H / plus_H, then W ← W ∘ minus_W / H⁺1.

    Reference: Marmin, Goulart & Févotte, "Joint majorization-minimization for NMF with
    the β-divergence", Signal Processing 209 (2023).
    """
    Wt, H = factors
    minus, plus = problem.gradients(factors)
    H = multiplied(problem, H, minus.H, plus.H, floors[1])
    total = H.sum(1)[:, None] if problem.whole else problem.matrix.T.weigh(H)
    _, penalised = problem.T.penalty.split(Wt)
    Wt = multiplied(problem.T, Wt, minus.Wt, total + penalised, floors[0])
    return Factors(Wt, H)


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
    # A pinned row stays, (p, 1) or for a Gram matrix a column (p, q).
    steps = jnp.where(problem.project.moves, inverse(curvature), 0)
    l1 = by_row(penalty.l1 - penalty.l2 * penalty.toward, X)
    l2 = by_row(penalty.l2, X)
    # Absent rows are seen to at the end.
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
        return problem.project.restrict(rows(X, gram, cross, 0))
    X = jax.lax.fori_loop(0, p // TILE, lambda i, X: tile(X, i * TILE, TILE), X)
    if p % TILE:
        X = tile(X, p - p % TILE, p % TILE)
    return problem.project.restrict(X)


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


def by_column_blocks(
    problem: Problem,
    free: Float[Array, "p n"],
    columns: Callable[[jax.Array, Float[Array, "p b"]], Float[Array, "p b"]],
) -> Float[Array, "p n"]:
    """``columns(v, X)``, the new columns X of the free factor that belong to the
    columns v of a dense V, a block at a time. v is as stored: turning it would copy."""
    matrix = problem.matrix
    array, axis = matrix.array, 0 if matrix.transposed else 1
    m, n = matrix.shape
    size = min(n, max(1, matrix.block * array.shape[1] // m))
    if size == n:
        return columns(array, free)

    def block(i: Any, done: Any) -> Any:
        # The last block reaches back and finds the same columns again.
        start = jnp.minimum(i * size, n - size)
        v = jax.lax.dynamic_slice_in_dim(array, start, size, axis)
        X = jax.lax.dynamic_slice_in_dim(free, start, size, 1)
        return jax.lax.dynamic_update_slice_in_dim(done, columns(v, X), start, 1)

    return jax.lax.fori_loop(0, -(-n // size), block, free)


def column_changes(
    gram: Float[Array, "p p"] | ColumnGrams,
    cross: Float[Array, "p q"],
    old: Float[Array, "p q"],
    new: Float[Array, "p q"],
) -> Float[Array, " q"]:
    """What each column's ½⟨x, gram x⟩ − ⟨cross, x⟩ changes by from old to new."""
    delta = new - old
    return ((gram @ (old + 0.5 * delta) - cross) * delta).sum(0)


class Momentum(NamedTuple):
    """The β of an extrapolation, with restarts (Ang & Gillis 2019)."""

    beta: jax.Array
    last: jax.Array  # of the last accepted step
    ceiling: jax.Array  # β̄, what β may grow to

    @classmethod
    def start(cls, beta: Any, dtype: Any) -> Momentum:
        beta = jnp.asarray(beta, dtype)
        return cls(beta, beta, jnp.ones((), dtype))

    def grown(self, growth: Any, ceiling_growth: Any) -> Momentum:
        """After a step that was accepted."""
        return Momentum(
            beta=jnp.minimum(self.ceiling, growth * self.beta),
            last=self.beta,
            ceiling=jnp.minimum(1, ceiling_growth * self.ceiling),
        )

    def shrunk(self, decay: Any) -> Momentum:
        """After a step that was undone."""
        return Momentum(beta=self.beta / decay, last=self.last, ceiling=self.last)


def choose(which: jax.Array, yes: Any, no: Any) -> Any:
    """One of two trees."""
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), yes, no)


def gradient_step(
    problem: Problem, gram: Float[Array, "p p"] | ColumnGrams
) -> jax.Array:
    """1/L, with L = `largest_eigenvalue_bound` + l2 no less than the Lipschitz constant
    of the Frobenius loss's gradient, for each column where it has its own Gram matrix;
    0 where L is 0, and so is the gradient."""
    l2 = jnp.asarray(problem.penalty.l2)
    if l2.ndim:
        l2 = l2.max(0)
    return inverse(largest_eigenvalue_bound(gram) + l2)


def first_step(
    problem: Problem, fixed: Float[Array, "p m"], free: Float[Array, "p n"]
) -> jax.Array:
    """A step to try first where no Lipschitz constant is known: the size of an entry
    over the size of ``plus``."""
    _, plus = problem.gradient(fixed, free)
    scale = plus.sum(1).sum()
    size = free.sum(1).sum()
    return jnp.where(scale > 0, size / jnp.where(scale > 0, scale, 1), 1)


def largest_eigenvalue_bound(
    gram: Float[Array, "p p"] | ColumnGrams, steps: int | None = None
) -> jax.Array:
    """An upper bound of λ_max of a non-negative symmetric matrix, or of each of many.

    Collatz-Wielandt: λ_max ≤ max_i (Gx)_i / x_i for every x > 0; a few power
    iterations make x nearly the eigenvector and the bound tight. Only p×p products,
    where LAPACK would stall a compiled loop on busy cores.
    """
    many = isinstance(gram, ColumnGrams)
    if steps is None:
        # Of many, a power iteration costs as much as a gradient.
        steps = 2 if many else 8
    array = gram.array if many else gram
    largest = array.max((0, 1))
    tiny = jnp.finfo(array.dtype).tiny
    scale = jnp.maximum(largest, tiny)
    matrix = ColumnGrams(array=array / scale) if many else array / scale
    x = jnp.ones_like(array[0])

    def power(_, x):
        y = matrix @ x
        return jnp.maximum(y / jnp.maximum(y.max(0), tiny), 1e-6)

    x = jax.lax.fori_loop(0, steps, power, x)
    return jnp.where(largest > 0, scale * ((matrix @ x) / x).max(0), 0)
