"""The data of several lanes: what is one object in all of them, and what is each's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def apart(matrices: Sequence[Any]) -> tuple[Any, Any]:
    """(shared, own): the operands' arrays that are one object in all lanes, and the
    others stacked. Either has None in the place of what is in the other; ``own`` is
    None where all lanes have the same operand."""
    first = matrices[0]
    if same(matrices, [first] * len(matrices)):
        return first, None
    structure = jax.tree.structure(first)
    leaves = list(zip(*map(jax.tree.leaves, matrices), strict=True))
    one = [same(x, x[:1] * len(x)) for x in leaves]
    shared = [x[0] if same else None for x, same in zip(leaves, one, strict=True)]
    own = [None if same else jnp.stack(x) for x, same in zip(leaves, one, strict=True)]
    return structure.unflatten(shared), structure.unflatten(own)


def joined(operand: tuple[Any, Any]) -> Any:
    """The operand of a lane, from what it shares and what is its own."""
    shared, own = operand
    if own is None:
        return shared
    return jax.tree.map(
        lambda x, y: y if x is None else x, shared, own, is_leaf=lambda x: x is None
    )


def same(some: Any, others: Any) -> bool:
    """Whether two sequences are of the same objects."""
    if some is None or len(some) != len(others):
        return False
    return all(x is y for x, y in zip(some, others, strict=True))
