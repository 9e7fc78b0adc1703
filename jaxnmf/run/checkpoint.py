"""Checkpoints: a run on its way as arrays, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np


@runtime_checkable  # for the type checker of the tests
class Checkpoint(Protocol):
    """Where a run on its way is kept, so that one that was killed goes on."""

    def load(self) -> Mapping[str, np.ndarray] | None:
        """What was saved last, None at the start."""
        ...

    def save(self, progress: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Called after every record, off the clock; calls ``progress`` where it is time
        to save."""
        ...


def _kept(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree by number; of random keys their bits."""
    return {
        f"leaf{i}": np.asarray(jax.random.key_data(x) if _is_key(x) else x)
        for i, x in enumerate(jax.tree.leaves(tree))
    }


def _restored(saved: Mapping[str, np.ndarray], like: Any) -> Any:
    """The tree that `_kept` took apart, of the structure of another; None where it does
    not fit that, having been saved by another version of a solver."""
    expected = {name: array.shape for name, array in _kept(like).items()}
    found = {name: saved[name].shape for name in saved if name.startswith("leaf")}
    if found != expected:
        return None

    def leaf(i: int, x: Any) -> Any:
        kept = saved[f"leaf{i}"]
        if _is_key(x):
            return jax.random.wrap_key_data(
                jnp.asarray(kept), impl=jax.random.key_impl(x)
            )
        return jnp.asarray(kept) if isinstance(x, jax.Array) else kept

    leaves, structure = jax.tree.flatten(like)
    return structure.unflatten([leaf(i, x) for i, x in enumerate(leaves)])


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
