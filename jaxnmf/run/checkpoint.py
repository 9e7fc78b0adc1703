"""Checkpoints: a run in progress as arrays, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.data.placement import put
from jaxnmf.data.spread import is_spread

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
            arrays[f"leaf{i}/shape"] = np.array(x.shape)
            for shard in x.addressable_shards:
                place = _place(shard.index, x.shape)
                arrays[f"leaf{i}/{place}"] = np.asarray(shard.data)
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
        pieces = _Pieces(saved, name)
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


class _Pieces:
    """The pieces of an array, and any part of it from them."""

    def __init__(self, saved: Mapping[str, np.ndarray], name: str) -> None:
        self.shape = tuple(saved[f"{name}/shape"].tolist())
        self.pieces = {
            place: array
            for key, array in saved.items()
            if (place := key.removeprefix(f"{name}/")) not in (key, "shape")
        }

    def read(self, index: tuple[slice, ...]) -> np.ndarray:
        """The part at an index.

        Raises:
          KeyError: a piece of it is missing.
        """
        place = _place(index, self.shape)
        if place in self.pieces:
            return self.pieces[place]
        bounds = _bounds(place)
        some = next(iter(self.pieces.values()), np.zeros(0))
        part = np.zeros([stop - start for start, stop in bounds], some.dtype)
        filled = np.zeros(part.shape, bool)
        for own, array in self.pieces.items():
            own = _bounds(own)
            common = [
                (max(a, c), min(b, d))
                for (a, b), (c, d) in zip(bounds, own, strict=True)
            ]
            if all(a < b for a, b in common):
                to = _within(common, bounds)
                part[to], filled[to] = array[_within(common, own)], True
        if not filled.all():
            raise KeyError(place)
        return part


def _within(bounds: Any, of: Any) -> tuple[slice, ...]:
    """Bounds as an index of what has the bounds ``of``."""
    pairs = zip(bounds, of, strict=True)
    return tuple(slice(a - first, b - first) for (a, b), (first, _) in pairs)


def _place(index: tuple[slice, ...], shape: tuple[int, ...]) -> str:
    """An index as text: "0-4,8-16"."""
    ranges = (one.indices(size) for one, size in zip(index, shape, strict=True))
    return ",".join(f"{start}-{stop}" for start, stop, _ in ranges)


def _bounds(place: str) -> list[tuple[int, int]]:
    """The inverse of `_place`."""
    pairs = (one.split("-") for one in place.split(","))
    return [(int(start), int(stop)) for start, stop in pairs]


def _shape(x: Any) -> tuple[int, ...]:
    return jax.random.key_data(x).shape if _is_key(x) else np.shape(x)


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
