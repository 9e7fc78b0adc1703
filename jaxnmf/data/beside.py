"""Several V of the same rows as one operand, each a part of its own kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnmf.data.containers import concatenated
from jaxnmf.data.moments import Moments
from jaxnmf.types import pytree, static


@pytree
class Beside:
    """[V_1, V_2, …], the parts beside each other; with ``transposed`` Vᵀ, the parts
    below each other.

    For a loss of each part (`jaxnmf.objective.by_view`): products with V are those of
    the parts, and this has only what is known of V without one.
    """

    parts: tuple[Any, ...]
    moments: Moments
    transposed: bool = static(default=False)
    padded: bool = static(default=False)

    @classmethod
    def of(cls, parts: Sequence[Any]) -> Beside:
        """The operands beside each other."""
        moments = Moments.beside([part.moments for part in parts])
        return cls(parts=tuple(parts), moments=moments)

    @property
    def kind(self) -> str:
        kinds = [part.kind for part in self.parts]
        order = ("observed", "sparse", "dense")
        return next(kind for kind in order if kind in kinds)

    @property
    def shape(self) -> tuple[int, int]:
        along, (first, *_) = sum(self.sizes), self.parts
        if self.transposed:
            return along, first.shape[1]
        return first.shape[0], along

    @property
    def sizes(self) -> list[int]:
        """The columns of each part, its rows where it is transposed."""
        return [part.shape[0 if self.transposed else 1] for part in self.parts]

    @property
    def floor(self) -> Any:
        """The smallest of the parts' floors."""
        return jnp.stack([part.floor for part in self.parts]).min()

    @property
    def entries(self) -> int:
        return sum(part.entries for part in self.parts)

    @property
    def by_entries(self) -> bool:
        return False

    @property
    def dtype(self) -> Any:
        return self.parts[0].dtype

    @property
    def any_known(self) -> Any:
        """Which columns have a known entry: True for all, or (n,)."""
        known = [part.any_known for part in self.parts]
        if (any if self.transposed else all)(one is True for one in known):
            return True
        if self.transposed:
            return jnp.stack(known).any(0)
        pairs = zip(known, self.sizes, strict=True)
        return jnp.concatenate([jnp.broadcast_to(one, (n,)) for one, n in pairs])

    @property
    def T(self) -> Beside:
        parts = tuple(part.T for part in self.parts)
        return Beside(
            parts=parts,
            moments=self.moments.T,
            transposed=not self.transposed,
            padded=self.padded,
        )

    def for_lanes(self) -> Beside:
        """The same V, each part stored as suits the products of many lanes."""
        parts = tuple(part.for_lanes() for part in self.parts)
        return dataclasses.replace(self, parts=parts)

    def cut(self, X: Any) -> list[Any]:
        """The columns of a factor that are of each part."""
        ends = np.cumsum([0, *self.sizes])
        return [X[:, a:b] for a, b in pairwise(ends)]

    def to_host(self) -> Any:
        """V as a NumPy array, or as SciPy sparse where a part is."""
        return self._together([part.to_host() for part in self.parts])

    def host_weights(self) -> Any:
        """The weights likewise, None where every entry is known."""
        if self.kind != "observed":
            return None
        known = [(part.host_weights(), part.shape) for part in self.parts]
        return self._together([np.ones(n) if w is None else w for w, n in known])

    def _together(self, parts: list[Any]) -> Any:
        return concatenated(parts, axis=0 if self.transposed else 1)
