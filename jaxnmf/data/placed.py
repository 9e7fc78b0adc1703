"""A V that was read onto a mesh as an operand."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.data.dense import Dense, rows_together
from jaxnmf.data.moments import Moments
from jaxnmf.data.parts import Parts, Ranges
from jaxnmf.data.placement import Placement
from jaxnmf.data.shards import Shards


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """What is known of a V that was read onto a mesh, and the way to it.

    It has no products of its own: `on_devices` has them, once the floor is that of the
    loss, which is what pads a dense V.
    """

    floor: jax.Array
    moments: Moments
    dtype: Any
    unit: float
    ranges: tuple[Ranges, Ranges]
    placement: Placement
    by_entries: bool
    entries: int
    kept: dict[str, Any]  # the parts, and later the operand in their place
    padded: bool = False  # whether the shape is that on the mesh

    any_known = True

    @classmethod
    def of(cls, parts: Parts, floor: jax.Array, dtype: Any, unit: float) -> Placed:
        """The operand of parts, divided by a power of two, whose entries were
        checked."""
        return cls(
            floor=floor,
            moments=Moments.of_survey(parts.survey.over(unit), parts.shape, dtype),
            dtype=np.dtype(dtype),
            unit=unit,
            ranges=parts.ranges,
            placement=parts.placement,
            by_entries=parts.survey.sparse,
            entries=parts.survey.stored[1],
            kept={"parts": parts},
        )

    @property
    def kind(self) -> str:
        return "sparse" if self.by_entries else "dense"

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.ranges
        if self.padded:
            return rows.padded, columns.padded
        return rows.size, columns.size

    @property
    def T(self) -> Placed:
        """What is known of Vᵀ."""
        return dataclasses.replace(
            self,
            moments=self.moments.T,
            ranges=self.ranges[::-1],
            placement=self.placement.T,
            kept={},
        )

    @property
    def on_mesh(self) -> Placed:
        """The same with the shape that it has on the mesh."""
        pads = any(places is not None for places in self.places)
        return dataclasses.replace(self, padded=True) if pads else self

    @property
    def places(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Where the rows and the columns are on the mesh."""
        rows, columns = self.ranges
        return rows.places, columns.places

    def on_devices(self) -> Dense | Shards:
        """The operand with products, of the shape on the mesh."""
        if "operand" not in self.kept:
            # What was read is not kept beside it.
            make = self._sparse if self.by_entries else self._dense
            self.kept["operand"] = make(self.kept.pop("parts"))
        return dataclasses.replace(self.kept["operand"], floor=self.floor)

    def _sparse(self, parts: Parts) -> Shards:
        return Shards.of_parts(parts, self.floor, self.dtype, self.unit)

    def _dense(self, parts: Parts) -> Dense:
        array: Any = parts.blocks
        if self.unit != 1:
            array = array / jnp.asarray(self.unit, array.dtype)
        padding = max(float(self.floor), 0.0)
        if padding > 0 and array.shape != parts.shape:
            array = _filled(array, parts.shape, padding)
        return Dense(  # pyright: ignore
            array=array,
            floor=self.floor,
            moments=self.moments,
            block=rows_together(*array.shape),
            padded=array.shape != parts.shape,
            placement=self.placement,
        )

    def to_host(self) -> Any:
        """V itself, as NumPy or SciPy have it."""
        V = self.on_devices().to_host()
        if self.by_entries:
            for axis, places in enumerate(self.places):
                if places is not None:
                    V = V[:, places] if axis else V[places]
        return V

    def host_weights(self) -> None:
        """None: every entry is known."""
        return None


def _filled(array: Any, shape: tuple[int, int], value: float) -> Any:
    """The array with a value beyond a shape, in its own memory."""

    def fill(x: jax.Array) -> jax.Array:
        rows, columns = (jax.lax.broadcasted_iota(np.int32, x.shape, i) for i in (0, 1))
        there = (rows < shape[0]) & (columns < shape[1])
        return jnp.where(there, x, jnp.asarray(value, x.dtype))

    return jax.jit(fill, donate_argnums=0, out_shardings=array.sharding)(array)
