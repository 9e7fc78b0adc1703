"""Cyclic coordinate descent on the residual, a few components at a time."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnmf.kernels.coordinate import sweep
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.solvers.base import ENTRYWISE, QUADRATIC, Supports
from jaxnmf.types import Factors, static


@register_solver("ccd")
class CCD:
    """CCD++: the residual is kept at the known entries, and one component after the
    other is improved in both factors.

    For k = 1 … p, with R = V − W H, sums over the known entries and weights w, and
    each line ``inner`` times, R following every change:
    h_kj ← max(0, h_kj + (Σᵢ w_ij r_ij w_ik − l1 − l2 h_kj) / (Σᵢ w_ij w_ik² + l2)),
    and the same for the column w_k. That is the paper's method for ``block=1``, with
    l2 for its λ and non-negative; with more, a sweep of HALS over ``block`` components
    of one factor stands for each line.

    Cost: O(nnz p block) for entries known in part, where HALS takes O(nnz p²), and
    nnz + (m + n) block² numbers beside the factors, where HALS has max(m, n) p². R is
    computed anew in every iteration, so that rounding does not build up. For a dense
    V it has m×n numbers. Monotone; limit points are stationary while no component
    vanishes.

    Args:
      block: components improved together. A compiled product of a sparse matrix with
        eight columns costs a CPU no more than with one.
      inner: how often a block is improved before the next.

    Reference: Yu, Hsieh, Si & Dhillon, "Scalable coordinate descent approaches to
    parallel matrix factorization for recommender systems", ICDM (2012).
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(
        constraints=ENTRYWISE, operands=frozenset({"dense", "observed"})
    )
    monotone: ClassVar[bool] = True
    own_objective: ClassVar[bool] = False
    block: int = static(8)
    inner: int = static(1)

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> Any:
        del problem, factors, key
        return ()

    def step(
        self, problem: Problem, factors: Factors, state: Any
    ) -> tuple[Factors, Any]:
        p = factors.H.shape[0]

        def improve(first: Any, size: int, carry: Any) -> Any:
            """Components ``first`` to ``first + size`` of both factors."""
            residual, factors = carry
            part = _components(problem, p, first, size)
            cut = [jax.lax.dynamic_slice_in_dim(X, first, size) for X in factors]

            def again(_: Any, carry: Any) -> Any:
                residual, Wt, H = carry
                part_now = dataclasses.replace(part, operand=residual)
                H, residual = _descend(part_now, Wt, H)
                part_now = dataclasses.replace(part, operand=residual)
                Wt, residual = _descend(part_now.T, H, Wt)
                return residual.T, Wt, H

            residual, *cut = jax.lax.fori_loop(0, self.inner, again, (residual, *cut))
            return residual, Factors(
                *(
                    jax.lax.dynamic_update_slice_in_dim(X, x, first, 0)
                    for X, x in zip(factors, cut, strict=True)
                )
            )

        size = min(self.block, p)
        carry = (problem.operand.residual(*factors), factors)
        carry = jax.lax.fori_loop(
            0, p // size, lambda i, carry: improve(i * size, size, carry), carry
        )
        if p % size:
            carry = improve(p - p % size, p % size, carry)
        return carry[1], state


def _descend(
    problem: Problem, fixed: Float[Array, "b m"], free: Float[Array, "b n"]
) -> tuple[Float[Array, "b n"], Any]:
    """A better ``free`` where the problem's V is the residual, and the new residual."""
    gram, cross = problem.quadratic(fixed)
    new = sweep(problem, gram, cross + gram @ free, free)
    return new, problem.operand.residual(fixed, new - free)


def _components(problem: Problem, p: int, first: Any, size: int) -> Problem:
    """The problem of some components alone: their constraints and penalties."""

    def rows(x: Any) -> Any:
        """The components' rows of a number, or of what broadcasts to the factor."""
        if not jnp.ndim(x):
            return x
        x = jnp.broadcast_to(x, (p, x.shape[-1]))
        return jax.lax.dynamic_slice_in_dim(x, first, size)

    return dataclasses.replace(
        problem,
        projects=jax.tree.map(rows, problem.projects),
        penalties=jax.tree.map(rows, problem.penalties),
    )
