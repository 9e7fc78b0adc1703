"""Step sizes of gradient methods."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxnmf.data.grams import Gram
from jaxnmf.kernels.inverses import inverse
from jaxnmf.objective.problem import Problem
from jaxnmf.types import FixedFactor, FreeFactor


def gradient_step(problem: Problem, gram: Gram) -> jax.Array:
    """1/L with L = `largest_eigenvalue_bound` + l2, at least the Lipschitz constant of
    the Frobenius loss's gradient: one number, or one for each column that has a Gram
    matrix or neighbours of its own. 0 where L is 0, for there the gradient is 0."""
    curvature = jnp.asarray(problem.penalty.curvature)
    if curvature.ndim == 2:
        curvature = curvature.max(0)
    return inverse(largest_eigenvalue_bound(gram) + curvature)


def first_step(problem: Problem, fixed: FixedFactor, free: FreeFactor) -> jax.Array:
    """The first trial step where no Lipschitz constant is known: the sum of the
    factor's entries over the sum of ``plus``."""
    _, plus = problem.gradient(fixed, free)
    scale = problem.project.masked(plus).sum(1).sum()
    size = free.sum(1).sum()
    return jnp.where(scale > 0, size / jnp.where(scale > 0, scale, 1), 1)


def largest_eigenvalue_bound(gram: Gram, steps: int | None = None) -> jax.Array:
    """An upper bound of the largest eigenvalue of a non-negative symmetric matrix, or
    of each of many.

    Collatz-Wielandt: λ_max ≤ max_i (Gx)_i / x_i for every x > 0. After a few power
    iterations x is nearly the eigenvector and the bound is tight. It takes only p×p
    products, for LAPACK stalls a compiled loop on busy cores.

    Args:
      gram: (p, p), or a Gram matrix for each column.
      steps: power iterations; by default 8, and 2 for many matrices, where one costs as
        much as a gradient.
    """
    if steps is None:
        steps = 8 if gram.shared else 2
    array = gram.array
    largest = array.max((0, 1))
    tiny = jnp.finfo(array.dtype).tiny
    scale = jnp.maximum(largest, tiny)
    matrix = dataclasses.replace(gram, array=array / scale)
    x = jnp.ones_like(array[0])

    def power(_, x):
        y = matrix @ x
        return jnp.maximum(y / jnp.maximum(y.max(0), tiny), 1e-6)

    x = jax.lax.fori_loop(0, steps, power, x)
    return jnp.where(largest > 0, scale * ((matrix @ x) / x).max(0), 0)
