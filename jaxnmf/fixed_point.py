"""`fixed_point`: a solution as a differentiable function of what it was fitted to."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxnmf._util.checks import check_amount, check_count
from jaxnmf.build import FOR_FACTORS
from jaxnmf.data.arrays import as_array
from jaxnmf.data.blocks import Blocks
from jaxnmf.data.containers import contents, is_sparse
from jaxnmf.data.observed import Observed, check_weights
from jaxnmf.objective.implicit import Given, Pair, solution
from jaxnmf.objective.losses import Loss
from jaxnmf.objective.units import Units, units_of
from jaxnmf.registry import make_loss
from jaxnmf.result import Result
from jaxnmf.shapes import Array, Float

# The KKT residual of a start above which its derivatives are warned of.
CONVERGED = 1e-3


def fixed_point(
    V: Any,
    rank: int,
    *,
    start: Any,
    loss: Any = "frobenius",
    l1: Any = 0.0,
    l2: Any = 0.0,
    known_W: Any = None,
    known_H: Any = None,
    mask: Any = None,
    loss_options: Mapping[str, Any] | None = None,
) -> tuple[Float[Array, "m p"], Float[Array, "p n"]]:
    """W and H of a fit, as a function of V, penalties and known parts that
    `jax.grad`, `jax.jvp` and the like differentiate.

    At a solution every entry x of W and H is 0, held, or *free*: x > 0 with gradient
    g(x, θ) = 0, θ all of the above. Free entries move with θ so that g stays 0,

    dx/dθ = −(∂g/∂x)⁻¹ ∂g/∂θ    (the implicit function theorem),

    the others do not: entries at 0 have a gradient > 0, which a small change leaves so.
    The Hessian ∂g/∂x of the free entries is never formed: the system is solved by
    preconditioned conjugate gradients, with a product as costly as about two gradients.

    Without penalties, W D and D⁻¹ H fit as well as W and H for every diagonal D > 0,
    and the Hessian is singular. Conjugate gradients from 0 then give a solution without
    a part along these directions, which is right for every function that does not
    depend on how the scale of a component is shared between W and H, such as one of
    W H. Derivatives by ``l1`` or ``l2`` where all of them are 0 depend on that scale;
    take them at weights > 0.

    Args:
      V: (m, n), dense: an array, or a tracer of JAX as in `jax.grad`. Float64 is used
        where it is float64, which JAX has to allow (`jax.enable_x64`).
      rank: p, the number of components.
      start: the `Result` of a fit to these arguments. Derivatives are as exact as it
        is: run it with a small ``tol`` and in float64.
      loss: of that fit: a name, an instance, or your own entrywise φ(v, x), twice
        differentiable in x.
      l1, l2: its penalties, for both factors or as a pair (for W, for H).
      known_W, known_H: held entries of W and H, NaN where an entry is free, of the
        shape of the factor, or of the first columns of W or rows of H.
      mask: the weights of the entries of V, (m, n), as `jaxnmf.factorize` takes them,
        which may be differentiated too.
      loss_options: the options of a loss given by name.

    Returns:
      ``(W, H)`` as JAX arrays, of the values in ``start`` and ``known_W``, ``known_H``.

    Raises:
      ValueError: for arguments that do not fit each other or the start, and for a start
        with offsets, covariates or views, with negative entries, or with a constraint
        besides W, H ≥ 0.

    Example:
      >>> import jax, numpy as np, jaxnmf
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> start = jaxnmf.factorize(V, 3, l2=0.5, max_iter=3000, tol=1e-9)
      >>> def size(l2):
      ...     W, H = jaxnmf.fixed_point(V, 3, start=start, l2=l2)
      ...     return (W @ H).sum()
      >>> bool(jax.grad(size)(0.5) < 0)
      True
    """
    check_count("rank", rank)
    made = make_loss(loss, loss_options)
    V = _dense("V", V)
    if V.ndim != 2:
        raise ValueError(f"V has shape {V.shape}; it must be a matrix of shape (m, n)")
    (m, n), dtype = V.shape, _precision(V)
    _check_start(start, made, m, n, rank)
    weights = None if mask is None else _mask(mask, (m, n))
    if not _traced(V):
        counted = weights is None or _traced(weights) or np.asarray(weights) > 0
        if not np.isfinite(np.asarray(V)).all(where=counted):
            raise ValueError(
                "V holds entries that are not finite; with a mask those of weight 0 "
                "are ignored"
            )
    if weights is not None:
        weights = jnp.asarray(weights, dtype)
        V = jnp.where(weights > 0, V, 0)
    held = Pair(
        _held("W", known_W, start.W, dtype), _held("H", known_H, start.H.T, dtype)
    )
    units = _units(start, made)
    given = Given(
        V=jnp.asarray(V, dtype) / units.V,
        weights=weights,
        l1=_weights("l1", l1, dtype, units, power=1),
        l2=_weights("l2", l2, dtype, units, power=2),
        held=Pair(held.W / units.W, held.H.T / units.H),
    )
    values = Pair(
        jnp.asarray(start.W / np.float64(units.W), dtype),
        jnp.asarray(start.H / np.float64(units.H), dtype),
    )
    W, H = solution(made, given, values)
    return W * units.W, H * units.H


def _traced(x: Any) -> bool:
    return isinstance(x, Tracer)


def _dense(name: str, X: Any) -> Any:
    """X as an array of real numbers, or a tracer as it is."""
    if _traced(X):
        return X
    X = contents(X)
    if is_sparse(X) or isinstance(X, Observed | Blocks):
        raise ValueError(
            f"{name} is a {type(X).__name__}; fixed_point needs a dense array, such as "
            f"{name}.toarray() of SciPy sparse, and what is known of V as mask"
        )
    return as_array(name, X)


def _mask(mask: Any, shape: tuple[int, int]) -> Any:
    """The weights of the entries of a V of this shape."""
    weights = _dense("mask", mask)
    if weights.shape != shape:
        raise ValueError(
            f"mask has shape {weights.shape}; it must be that of V, {shape}"
        )
    if not _traced(weights):
        check_weights("mask", np.asarray(weights))
    return weights


def _precision(V: Any) -> Any:
    """Float64 where V is, and JAX allows it, else float32."""
    wide = V.dtype == np.float64 and jax.config.jax_enable_x64  # pyright: ignore
    return np.dtype(np.float64 if wide else np.float32)


def _units(start: Result, loss: Loss) -> Units:
    """Units of a V of the size of W H."""
    W, H = (np.asarray(X, np.float64) for X in (start.W, start.H))
    return units_of(float((W.max(0) * H.max(1)).max()), loss.beta, False, False)


def _weights(name: str, value: Any, dtype: Any, units: Units, power: int) -> Pair:
    """A weight of the penalty on W and on H, in the problem's units."""
    several = isinstance(value, tuple | list) or getattr(value, "ndim", 0) > 0
    pair = tuple(value) if several else (value, value)
    if len(pair) != 2:
        raise ValueError(f"{name} has {len(pair)} values; give {FOR_FACTORS}")
    for x in pair:
        if not isinstance(x, jax.Array):
            check_amount(name, x)
    scaled = (
        jnp.asarray(x, dtype) * (unit**power / units.objective)
        for x, unit in zip(pair, (units.W, units.H), strict=True)
    )
    return Pair(*scaled)


def _held(
    side: str, known: Any, factor: Float[np.ndarray, "q p"], dtype: Any
) -> Float[Array, "q p"]:
    """The held values of W, or of Hᵀ, NaN for a free entry."""
    if known is None:
        return jnp.full(factor.shape, np.nan, dtype)
    name, (q, p) = f"known_{side}", factor.shape
    known = _dense(name, known)
    turned = known.T if side == "H" and known.ndim == 2 else known
    if turned.ndim != 2 or turned.shape[0] != q or not 1 <= turned.shape[1] <= p:
        fit = f"({q}, k)" if side == "W" else f"(k, {q})"
        raise ValueError(
            f"{name} has shape {known.shape}; it must be {fit} with k ≤ {p}, NaN where "
            f"an entry of {side} is free"
        )
    if not _traced(turned):
        own = np.asarray(turned, np.float64)
        if (own < 0).any() or np.isinf(own).any():
            raise ValueError(
                f"{name} holds entries that are negative or infinite; each must be "
                "≥ 0, or NaN where it is free"
            )
        apart = np.abs(own - factor[:, : own.shape[1]])
        if np.nanmax(apart, initial=0) > 1e-3 * factor.max(initial=0):
            raise ValueError(
                f"{name} is not what start.{side} holds there, by up to "
                f"{np.nanmax(apart):.2g}; give the start of a fit with these values"
            )
    free = p - turned.shape[1]
    turned = jnp.asarray(turned, dtype)
    return jnp.pad(turned, ((0, 0), (0, free)), constant_values=np.nan)


def _check_start(start: Any, loss: Loss, m: int, n: int, rank: int) -> None:
    """Raise a ValueError for a start that is no solution of the problem."""
    if not isinstance(start, Result):
        raise ValueError(
            f"start is a {type(start).__name__}; it must be the Result of a fit"
        )
    shapes = (start.W.shape, start.H.shape)
    if shapes != ((m, rank), (rank, n)):
        raise ValueError(
            f"start has W and H of shapes {shapes[0]} and {shapes[1]}; for this V and "
            f"rank they must be ({m}, {rank}) and ({rank}, {n})"
        )
    for name in ("offsets", "covariates", "views"):
        if getattr(start, name) is not None:
            raise ValueError(f"start has {name}; fit it without")
    if min(start.W.min(), start.H.min()) < 0:
        raise ValueError("start has negative entries; W and H must be ≥ 0")
    if start.model is not None:
        fitted, constraint = start.model.loss, start.model.project.name
        if constraint != "nonnegative":
            raise ValueError(
                f"start was fitted with the constraint {constraint!r} on W; "
                "fixed_point supports 'nonnegative'"
            )
        if type(fitted) is not type(loss) or fitted.beta != loss.beta:
            raise ValueError(
                f"loss is {type(loss).name or 'a function'!r}; start was fitted with "
                f"{type(fitted).name or 'a function'!r}"
            )
    if start.kkt > CONVERGED:
        warnings.warn(
            f"start: its KKT residual is {start.kkt:.2g}; derivatives are those of a "
            f"solution (give factorize a smaller tol, and a larger max_iter)",
            stacklevel=3,
        )
