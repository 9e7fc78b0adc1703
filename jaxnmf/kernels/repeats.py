"""How often a half-step uses its Gram and cross product."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxnmf._util.platform import on_cpu
from jaxnmf.data.operand import true_shape
from jaxnmf.objective.problem import Problem
from jaxnmf.types import FreeFactor

# The rows of a tile of a sweep, and the seconds of a launch, operations and bytes a
# second of an accelerator (an H200): only their ratios matter.
UNROLLED, LAUNCH, FLOPS, BYTES = 32, 5e-6, 50e12, 4e12
SPARSE_COST = 20


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
    (`experiments/benchmarks`). On an accelerator a cost is a time: that of the
    launches, or of the numbers moved and multiplied where that is longer
    (`experiments/accelerator`).

    Reference: Gillis & Glineur, "Accelerated multiplicative updates and hierarchical
    ALS algorithms for nonnegative matrix factorization", Neural Computation 24 (2012)
    [Gillis2012].
    """
    if inner:
        return inner
    columns, each = _sizes(problem.operand)
    return suggested_repeats(
        problem.project.rank(free),
        columns,
        each,
        by_entries=problem.operand.by_entries,
        by_gram=problem.by_gram,
        share=share,
        most=most,
    )


def suggested_repeats(
    p: Any,
    columns: Any,
    each: Any,
    *,
    by_entries: bool,
    by_gram: bool = True,
    share: float = 0.3,
    most: int = 8,
    xp: Any = jnp,
) -> Any:
    """`inner_repeats` of a half-step over so many columns.

    Args:
      p: the number of components.
      columns: of the free factor.
      each: entries of V in a column.
      by_entries: whether V is a list of entries.
      by_gram: whether one Gram matrix is that of all columns.
      share, most: of the rule.
      xp: `jax.numpy`, or `numpy` on the host.
    """
    if on_cpu():
        # A Gram matrix for each column takes p²/2 an entry, and a sweep then p² a
        # column.
        ratio = each / (p if by_gram else 2)
    else:
        ratio = _seconds(p, columns, each, by_entries, by_gram)
    return xp.clip(1 + xp.floor(share * ratio), 1, most).astype(xp.int32)


def _seconds(p: Any, columns: Any, each: Any, by_entries: bool, by_gram: bool) -> Any:
    """The time of the products over that of a sweep, on an accelerator."""
    # What a stored entry of a sparse V costs beside one of a dense V.
    entries = columns * each * (SPARSE_COST if by_entries else 1)
    pairs = p if by_gram else p**2 / 2
    products = 2 * entries * pairs / FLOPS + 4 * entries / BYTES
    moved = 4 * columns * p * (3 if by_gram else p) / BYTES
    return products / (2 * LAUNCH * jnp.ceil(p / UNROLLED) + moved)


def _sizes(operand: Any) -> tuple[Any, Any]:
    """(columns, entries a column) of V without what pads it."""
    if not operand.padded:
        return operand.shape[1], operand.entries / operand.shape[1]
    columns = true_shape(operand)[1]
    return columns, operand.moments.stored / columns
