"""How often a half-step uses its Gram and cross product."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxnmf.data.operand import true_shape
from jaxnmf.objective.problem import Problem
from jaxnmf.types import FreeFactor


def inner_repeats(
    problem: Problem,
    free: FreeFactor,
    inner: int,
    share: float = 0.3,
    most: int = 8,
) -> jax.Array | int:
    """``inner``, or for 0 the number of repeats that the sizes suggest.

    The rule is 1 + share × (cost of the products) / (cost of a sweep), at most
    ``most``. It counts the present components, so that a padded problem takes as many
    repeats as the problem itself. The defaults were measured on a CPU
    (`experiments/benchmarks`).

    Reference: Gillis & Glineur, "Accelerated multiplicative updates and hierarchical
    ALS algorithms for nonnegative matrix factorization", Neural Computation 24 (2012)
    [Gillis2012].
    """
    if inner:
        return inner
    operand = problem.operand
    ratio: Any = operand.entries / operand.shape[1]
    if operand.padded:
        rows, columns = true_shape(operand)
        dense = operand.entries == operand.shape[0] * operand.shape[1]
        ratio = rows if dense else operand.entries / columns
    # A Gram matrix for each column takes p²/2 an entry, and a sweep then p² a column.
    ratio = ratio / (problem.project.rank(free) if problem.by_gram else 2)
    return jnp.clip(1 + jnp.floor(share * ratio), 1, most).astype(jnp.int32)
