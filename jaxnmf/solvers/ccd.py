"""Cyclic coordinate descent by blocks of components, on the residual."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxnmf.data.operand import Operand
from jaxnmf.kernels.coordinate import sweep
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.shapes import Array, Float
from jaxnmf.solvers.base import ENTRYWISE, QUADRATIC, Supports
from jaxnmf.types import Factors, FixedFactor, FreeFactor, Index, State, static

# The residual, and a block of rows of Wt and of H.
_Block = tuple[Operand, Float[Array, "b m"], Float[Array, "b n"]]


@register_solver("ccd")
class CCD:
    """CCD++: both factors of one block of components after another, on the residual.

    For k = 1 … p, with R = V − W H at the observed entries and their weights w,

        h_kj ← max(0, h_kj + (Σᵢ w_ij r_ij w_ik − l1 − l2 h_kj) / (Σᵢ w_ij w_ik² + l2))

    and likewise for the column w_k, ``inner`` times each, with R updated after every
    change. With ``block=1`` this is the non-negative form of the paper's method, l2 its
    λ; otherwise the update is a sweep of HALS over ``block`` components of one factor.

    Cost: O(nnz p block) for data observed in part, where HALS needs O(nnz p²), and
    memory of nnz + (m + n) block² numbers beside the factors, where HALS needs
    max(m, n) p². R is recomputed in every iteration, so that rounding errors do not
    accumulate; for a dense V it has m×n numbers. Monotone; limit points are stationary
    while no component vanishes.

    Use: data observed in part with many components: from p = 64 on it is faster than
    weighted `hals`, with less memory.

    Args:
      block: components improved together. On a CPU the compiled product of a sparse
        matrix with eight columns costs no more than with one.
      inner: updates of a block before the next block.

    Reference: Yu, Hsieh, Si & Dhillon, "Scalable coordinate descent approaches to
    parallel matrix factorization for recommender systems", ICDM (2012) [Yu2012].
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(
        constraints=ENTRYWISE, operands=frozenset({"dense", "observed"}), toward=True
    )
    monotone: ClassVar[bool] = True
    own_objective: ClassVar[bool] = False
    block: int = static(8)
    inner: int = static(1)

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> State:
        del problem, factors, key
        return ()

    def step(
        self, problem: Problem, factors: Factors, state: State
    ) -> tuple[Factors, State]:
        p = factors.H.shape[0]

        def improve(
            first: Index, size: int, carry: tuple[Operand, Factors]
        ) -> tuple[Operand, Factors]:
            """Update components ``first`` to ``first + size`` of both factors."""
            residual, factors = carry
            part = _components(problem, p, first, size)
            cut = [jax.lax.dynamic_slice_in_dim(X, first, size) for X in factors]

            def update(_: Index, carry: _Block) -> _Block:
                residual, Wt, H = carry
                part_now = dataclasses.replace(part, operand=residual)
                H, residual = _improved(part_now, Wt, H)
                part_now = dataclasses.replace(part, operand=residual)
                Wt, residual = _improved(part_now.T, H, Wt)
                return residual.T, Wt, H

            residual, *cut = jax.lax.fori_loop(0, self.inner, update, (residual, *cut))
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


def _improved(
    problem: Problem, fixed: FixedFactor, free: FreeFactor
) -> tuple[FreeFactor, Operand]:
    """An improved ``free`` where the problem's V is the residual, and the new
    residual."""
    gram, cross = problem.quadratic(fixed)
    new = sweep(problem, gram, cross + gram @ free, free)
    return new, problem.operand.residual(fixed, new - free)


def _components(problem: Problem, p: int, first: Index, size: int) -> Problem:
    """The problem restricted to some components: their constraints and penalties."""

    def rows(x: Any) -> Any:
        """The rows of the components, of an array that broadcasts to the factor."""
        if not jnp.ndim(x):
            return x
        x = jnp.broadcast_to(x, (p, x.shape[-1]))
        return jax.lax.dynamic_slice_in_dim(x, first, size)

    return dataclasses.replace(
        problem,
        projects=jax.tree.map(rows, problem.projects),
        penalties=jax.tree.map(rows, problem.penalties),
    )
