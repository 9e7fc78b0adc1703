"""Greedy coordinate descent."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxnmf.data.grams import Gram
from jaxnmf.kernels.inverses import inverse
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.shapes import Array, Bool, Float, Int
from jaxnmf.solvers.base import ENTRYWISE, QUADRATIC, Alternating, Supports
from jaxnmf.types import Cross, FreeFactor, State, static


class _Best(NamedTuple):
    """The best change of a single entry in every column."""

    gain: Float[Array, "1 n"]
    k: Int[Array, "1 n"]
    move: Float[Array, "1 n"]


# X, its gradient D, the best changes and the number of steps.
_Iterate = tuple[Float[Array, "p n"], Float[Array, "p n"], _Best, Int[Array, ""]]


@register_solver("gcd")
class GCD(Alternating):
    """Greedy coordinate descent: in every column the entry with the largest gain.

    With G = WᵀW + l2 I, B = WᵀV − l1 and D = G H − B, the best change of an entry is
    s_kj = max(0, h_kj − d_kj / G_kk) − h_kj, with a gain of −d_kj s_kj − ½ G_kk s_kj².
    A step updates entry k_j = argmax_k gain_kj of every column j at once:

        h_kj ← h_kj + s_kj, D_:j ← D_:j + s_kj G_:k.

    A column stays as it is while its largest gain is below ``ratio`` times the largest
    of all columns at the start of the half-step.

    Cost: the products with V, 2mnp for each factor, and 2np² a step, since the rank-1
    updates of D are one product; a step costs as much as a sweep of HALS. Monotone; a
    half-step gains no less than its best single entry, so limit points are stationary
    while no component vanishes.

    Use: columns with few non-zero entries; on most data `hals` is faster.

    Args:
      inner: the most steps for each G and B, so the most entries of a column that
        change; 0 for twice the number of components.
      ratio: the fraction of the largest initial gain below which a column stays.

    Reference: Hsieh & Dhillon, "Fast coordinate descent methods with variable selection
    for non-negative matrix factorization", KDD (2011) [Hsieh2011].
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(constraints=ENTRYWISE)
    monotone: ClassVar[bool] = True
    inner: int = static(0)
    ratio: float = 1e-3

    def nnls(
        self,
        problem: Problem,
        gram: Gram,
        cross: Cross,
        free: FreeFactor,
        state: State,
    ) -> tuple[FreeFactor, State]:
        penalty, project = problem.penalty, problem.project
        gram = gram.plus_diagonal(penalty.l2)
        curvature = gram.diagonal
        length = inverse(curvature)
        rows = jnp.arange(free.shape[0], dtype=jnp.int32)[:, None]
        most = self.inner or (2 * project.rank(free)).astype(jnp.int32)

        def best(X: Float[Array, "p n"], D: Float[Array, "p n"]) -> _Best:
            move = project.entrywise(X - D * length) - X
            move = jnp.where(project.free, move, 0)
            gain = -move * (D + 0.5 * curvature * move)
            k = gain.argmax(0).astype(jnp.int32)[None]
            gain, move = (jnp.take_along_axis(x, k, axis=0) for x in (gain, move))
            return _Best(gain, k, move)

        def worth_it(carry: _Iterate) -> Bool[Array, ""]:
            *_, (gain, _, _), count = carry
            return (gain > least).any() & (count < most)

        def step(carry: _Iterate) -> _Iterate:
            X, D, (gain, k, move), count = carry
            move = jnp.where((rows == k) & (gain > least), move, 0)
            X = project.entrywise(X + move)
            D = D + gram @ move
            return X, D, best(X, D), count + 1

        D = gram @ free - cross + penalty.l1
        first = best(free, D)
        least = self.ratio * first.gain.max()
        start = (free, D, first, jnp.zeros((), jnp.int32))
        return project(jax.lax.while_loop(worth_it, step, start)[0]), state
