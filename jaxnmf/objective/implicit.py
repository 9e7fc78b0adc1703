"""A solution as a differentiable function of the data, the penalties and what is held,
by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnmf.objective.losses import Loss
from jaxnmf.shapes import Array, Float

# Conjugate gradients: relative residual, by the bytes of a number, and iterations.
TOLERANCE = {4: 1e-5, 8: 1e-11}
MOST = 2000


class Pair(NamedTuple):
    """Something of each factor; the factors themselves have shapes (m, p), (p, n)."""

    W: Any
    H: Any


class Given(NamedTuple):
    """What a solution is a function of.

    Attributes:
      V: (m, n).
      weights: of its entries, 0 where unknown; None where all count alike.
      l1, l2: of each factor.
      held: the values of held entries of each factor, NaN where an entry is free.
    """

    V: Float[Array, "m n"]
    weights: Float[Array, "m n"] | None
    l1: Pair
    l2: Pair
    held: Pair


@jax.custom_jvp
def _held_start(loss: Loss, given: Given, start: Pair) -> Pair:
    """The start, with the held entries at their values."""
    del loss
    return _where(_is_held(given), given.held, start)


@_held_start.defjvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Pair, Pair]:
    (loss, given, start), (d_loss, d_given, _) = primals, tangents
    factors = _held_start(loss, given, start)
    free, scales, diagonal = _at_solution(loss, given, factors)
    zeros = jax.tree.map(jnp.zeros_like, factors)

    def on_free(X: Pair) -> Pair:
        return _where(free, X, zeros)

    def hessian(d: Pair) -> Pair:
        slope = lambda X: _gradient(loss, given, X)  # noqa: E731
        return on_free(jax.jvp(slope, (factors,), (on_free(d),))[1])

    d_held = _where(_is_held(given), d_given.held, zeros)
    moved = jax.jvp(_gradient, (loss, given, factors), (d_loss, d_given, d_held))[1]
    found = jax.lax.custom_linear_solve(
        hessian,
        _without(scales, on_free(moved)),
        lambda A, b: _conjugate_gradients(A, b, diagonal),
        symmetric=True,
    )
    # What the system leaves alone must not enter its transpose either.
    found = _without(scales, on_free(found))
    return factors, jax.tree.map(jnp.subtract, d_held, found)


solution = jax.jit(_held_start)


def _conjugate_gradients(A: Callable[[Pair], Pair], b: Pair, diagonal: Pair) -> Pair:
    """x with A x = b for a semidefinite A, from x = 0, preconditioned by its diagonal.

    Not jax.scipy's, which does not transpose in a rule of a derivative.
    """
    # Relative to its largest entry, so that squares are numbers of float32.
    scale = jnp.maximum(*(jnp.abs(x).max() for x in b))
    b = jax.tree.map(lambda x: _ratio(x, scale), b)
    tolerance = TOLERANCE[b.W.dtype.itemsize] ** 2 * _dot(b, b)

    def moved(X: Pair, share: Any, Y: Pair) -> Pair:
        return jax.tree.map(lambda x, y: x + share * y, X, Y)

    def unfinished(state: Any) -> Any:
        _, r, _, size, count = state
        return (_dot(r, r) > tolerance) & (size > 0) & (count < MOST)

    def step(state: Any) -> Any:
        x, r, p, size, count = state
        Ap = A(p)
        curved = _dot(p, Ap)
        # 0 where rounding leaves a direction without curvature.
        length = _ratio(size, curved)
        x, r = moved(x, length, p), moved(r, -length, Ap)
        z = jax.tree.map(jnp.divide, r, diagonal)
        after = jnp.where(curved > 0, _dot(r, z), 0)
        return x, r, moved(z, after / size, p), after, count + 1

    z = jax.tree.map(jnp.divide, b, diagonal)
    zeros = jax.tree.map(jnp.zeros_like, b)
    start = zeros, b, z, _dot(b, z), jnp.zeros((), jnp.int32)
    found = jax.lax.while_loop(unfinished, step, start)[0]
    return jax.tree.map(lambda x: scale * x, found)


def _dot(X: Pair, Y: Pair) -> Any:
    return (X.W * Y.W).sum(0).sum() + (X.H * Y.H).sum(1).sum()


def _gradient(loss: Loss, given: Given, factors: Pair) -> Pair:
    """The gradient of the objective in both factors."""
    slope = _weighted(given, _slope(loss, given.V, _product(factors)))
    return _penalised(given, factors, _products(slope, factors))


def _at_solution(loss: Loss, given: Given, factors: Pair) -> tuple[Pair, Pair, Pair]:
    """Which entries are free; along which directions the scale of components is
    undetermined; and the Hessian's diagonal, 1 where it is none to divide by.

    An entry is free where x > g, both without units: x over the mean of its component,
    g over the mean of the positive part of the gradient there, as the KKT residual
    min(x, g) has it. So entries at a solver's floor count as 0.
    """
    X = _product(factors)
    plus = _weighted(given, loss.split(given.V, X)[1])
    plus = _penalised(given, factors, _products(plus, factors))
    free, axes = [], (0, 1)
    rows = zip(factors, _gradient(loss, given, factors), plus, given.held, strict=True)
    for axis, (x, g, p, held) in zip(axes, rows, strict=True):
        size, unit = (y.mean(axis, keepdims=True) for y in (x, jnp.abs(p)))
        free.append(jnp.isnan(held) & (_ratio(x, size) > _ratio(g, unit)))
    free = Pair(*free)

    l1, l2 = given.l1, given.l2
    penalised = (l1.W + l1.H + l2.W + l2.H) > 0
    fixed = jax.tree.map(
        lambda x, held: (x > 0) & ~jnp.isnan(held), factors, given.held
    )
    tied = fixed.W.any(0) | fixed.H.any(1) | penalised
    W, H = _where(free, factors, jax.tree.map(jnp.zeros_like, factors))
    scales = Pair(jnp.where(tied, 0, W), jnp.where(tied[:, None], 0, -H))

    ones = jnp.ones_like(X)
    curve = jax.jvp(lambda X: _slope(loss, given.V, X), (X,), (ones,))[1]
    squares = jax.tree.map(jnp.square, factors)
    diagonal = _products(_weighted(given, curve), squares)
    diagonal = Pair(diagonal.W + l2.W, diagonal.H + l2.H)
    return free, scales, jax.tree.map(lambda d: jnp.where(d > 0, d, 1), diagonal)


def _slope(loss: Loss, V: Any, X: Any) -> Float[Array, "m n"]:
    """∂φ/∂x, entrywise."""
    if loss.has_split:
        minus, plus = loss.split(V, X)
        return plus - minus
    ones = jnp.ones_like(X)
    return jax.jvp(lambda X: loss.pointwise(V, X), (X,), (ones,))[1]


def _product(factors: Pair) -> Float[Array, "m n"]:
    """W H, kept above 0 so that v/x is finite, with the derivative of W H."""
    X = jnp.matmul(*factors, precision="highest")
    floor = jnp.asarray(float(jnp.finfo(X.dtype).tiny) ** 0.25, X.dtype)
    return X + jax.lax.stop_gradient(jnp.maximum(floor - X, 0))


def _products(D: Float[Array, "m n"], factors: Pair) -> Pair:
    """(D Hᵀ, Wᵀ D)."""
    W, H = factors
    times = lambda A, B: jnp.matmul(A, B, precision="highest")  # noqa: E731
    return Pair(times(D, H.T), times(W.T, D))


def _weighted(given: Given, D: Float[Array, "m n"]) -> Float[Array, "m n"]:
    return D if given.weights is None else given.weights * D


def _penalised(given: Given, factors: Pair, gradient: Pair) -> Pair:
    """The gradient with that of the penalties."""
    of = lambda l1, l2, x, g: g + l1 + l2 * x  # noqa: E731
    return jax.tree.map(of, given.l1, given.l2, factors, gradient)


def _without(scales: Pair, X: Pair) -> Pair:
    """X without its part along each component's direction, those being orthogonal."""

    def along(Y: Pair) -> Any:
        return (scales.W * Y.W).sum(0) + (scales.H * Y.H).sum(1)

    share = _ratio(along(X), along(scales))
    return Pair(X.W - scales.W * share, X.H - scales.H * share[:, None])


def _is_held(given: Given) -> Pair:
    return jax.tree.map(lambda held: ~jnp.isnan(held), given.held)


def _where(condition: Pair, one: Pair, other: Pair) -> Pair:
    return jax.tree.map(jnp.where, condition, one, other)


def _ratio(x: Any, y: Any) -> Any:
    """x / y, 0 where y is 0."""
    return jnp.where(y > 0, x / jnp.where(y > 0, y, 1), 0)
