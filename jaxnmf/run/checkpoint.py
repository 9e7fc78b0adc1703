"""Checkpoints: a run in progress as arrays, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.data.placement import put


@runtime_checkable  # for the type checker of the tests
class Checkpoint(Protocol):
    """A place for a run in progress, from which a killed run resumes."""

    def load(self) -> Mapping[str, np.ndarray] | None:
        """The last save, None at the start."""
        ...

    def save(self, progress: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Called after every record, off the clock; calls ``progress`` when a save is
        due."""
        ...


def to_arrays(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree by number, random keys as their bits."""
    return {
        f"leaf{i}": np.asarray(jax.random.key_data(x) if _is_key(x) else x)
        for i, x in enumerate(jax.tree.leaves(tree))
    }


def from_arrays(saved: Mapping[str, np.ndarray], like: Any) -> Any:
    """The inverse of `to_arrays`.

    Args:
      saved: the leaves.
      like: a tree of the structure to restore.

    Returns:
      The tree; None where the leaves do not fit, saved by another version of a solver.
    """
    expected = {name: array.shape for name, array in to_arrays(like).items()}
    found = {name: saved[name].shape for name in saved if name.startswith("leaf")}
    if found != expected:
        return None

    def leaf(i: int, x: Any) -> Any:
        array = saved[f"leaf{i}"]
        if _is_key(x):
            return jax.random.wrap_key_data(
                jnp.asarray(array), impl=jax.random.key_impl(x)
            )
        if not isinstance(x, jax.Array):
            return array
        return jnp.asarray(array) if len(x.devices()) == 1 else put(array, x.sharding)

    leaves, structure = jax.tree.flatten(like)
    return structure.unflatten([leaf(i, x) for i, x in enumerate(leaves)])


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
