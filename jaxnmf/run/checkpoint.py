"""Checkpoints: a run in progress as arrays, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.data.placement import put
from jaxnmf.data.spread import Pieces, is_spread, pieces_of

Progress = Callable[[], Mapping[str, np.ndarray]]


@runtime_checkable  # for the type checker of the tests
class Checkpoint(Protocol):
    """A place for a run in progress, from which a killed run resumes."""

    def load(self) -> Mapping[str, np.ndarray] | None:
        """The last save, None at the start."""
        ...

    def save(self, progress: Progress) -> None:
        """Called after every record, off the clock; calls ``progress`` when a save is
        due."""
        ...

    def end(self, progress: Progress) -> None:
        """Called where a run ends that might continue: after the most iterations or
        seconds, or because V cannot be read."""

    def misfit(self) -> None:
        """Called where the last save does not fit the run, which then starts over."""


def to_arrays(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree by number, random keys as their bits; of one that is spread
    over processes the pieces that this process has, by their place."""
    arrays = {}
    for i, x in enumerate(jax.tree.leaves(tree)):
        if is_spread(x) and not x.is_fully_replicated:
            arrays |= pieces_of(x, f"leaf{i}")
        else:
            arrays[f"leaf{i}"] = np.asarray(jax.random.key_data(x) if _is_key(x) else x)
    return arrays


def from_arrays(saved: Mapping[str, np.ndarray], like: Any) -> Any:
    """The inverse of `to_arrays`.

    Args:
      saved: the leaves.
      like: a tree of the structure to restore.

    Returns:
      The tree; None where the leaves do not fit, saved by another version of a solver
      or on another mesh.
    """
    leaves, structure = jax.tree.flatten(like)
    expected = {f"leaf{i}": _shape(x) for i, x in enumerate(leaves)}
    found = {}
    for name, array in saved.items():
        leaf, _, place = name.partition("/")
        if leaf.startswith("leaf") and place in ("", "shape"):
            found[leaf] = tuple(array.tolist()) if place else array.shape
    if found != expected:
        return None
    try:
        made = [_leaf(saved, f"leaf{i}", x) for i, x in enumerate(leaves)]
    except KeyError:
        return None
    return structure.unflatten(made)


def _leaf(saved: Mapping[str, np.ndarray], name: str, x: Any) -> Any:
    """A leaf like x, where x is."""
    if name not in saved:
        pieces = Pieces(saved, name)
        if is_spread(x):
            read: Any = pieces.read
            return jax.make_array_from_callback(x.shape, x.sharding, read)
        array = pieces.read(tuple(slice(None) for _ in x.shape))
    else:
        array = saved[name]
    if _is_key(x):
        bits = jnp.asarray(array)
        return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(x))
    if not isinstance(x, jax.Array):
        return array
    return jnp.asarray(array) if len(x.devices()) == 1 else put(array, x.sharding)


def _shape(x: Any) -> tuple[int, ...]:
    return jax.random.key_data(x).shape if _is_key(x) else np.shape(x)


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
