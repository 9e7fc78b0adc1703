"""A sparse V over the devices of a mesh as an operand: each has its own block."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from jaxnmf.data.csr import CSR, both_ways
from jaxnmf.data.moments import Moments
from jaxnmf.data.operand import EntryFn
from jaxnmf.data.parts import Parts
from jaxnmf.data.placement import Axes, Placement, put, summed
from jaxnmf.data.sparse import Sparse, Stored
from jaxnmf.shapes import Array, Float, Int
from jaxnmf.types import pytree, static


@pytree
class Shards(Stored):
    """A sparse V, also one observed in part, of which each device has a block.

    Device (a, b) of the mesh has the block of V whose rows are the a-th part of all and
    whose columns are the b-th, as `Sparse`: an answer is that of its own block, summed
    over the devices of a row or a column of the mesh. All blocks store as many entries
    as the fullest; the others have zeros in their last place.

    Attributes:
      csr, csr_t: of the blocks, each array with the two axes of the mesh before its
        own.
      counts: how many entries of a block are V's.
      entries: how many entries V stores.
      over: the axes of the mesh that the arrays begin with.
    """

    csr: CSR
    csr_t: CSR
    counts: Int[Array, "a b"]
    floor: Float[Array, ""]
    moments: Moments
    entries: int = static()
    placement: Placement = static()
    over: tuple[Axes, Axes] = static()
    padded: bool = static(default=False)

    @classmethod
    def of(cls, V: Sparse, placement: Placement, orders: Any = (None, None)) -> Shards:
        """The blocks of a V whose shape divides over the mesh, its rows and columns in
        these orders."""
        (m, n), (a, b) = V.shape, placement.grid
        shape = m // a, n // b
        by = V.csr
        rows, columns, values = map(np.asarray, (by.rows, by.indices, by.data))
        rows, columns = (
            place if order is None else np.argsort(order).astype(place.dtype)[place]
            for place, order in zip((rows, columns), orders, strict=True)
        )
        weights = None if by.weights is None else np.asarray(by.weights)
        block = rows // shape[0] * b + columns // shape[1]
        order = np.argsort(block, kind="stable")
        counts = np.bincount(block, minlength=a * b)
        most = max(1, int(counts.max()))
        made = []
        for own in np.split(order, np.cumsum(counts)[:-1]):
            entries = rows[own] % shape[0], columns[own] % shape[1], values[own]
            weight = None if weights is None else weights[own]
            made.append(both_ways(*entries, weight, shape, V.dtype, most=most))
        axes = placement.rows, placement.columns

        def together(*blocks: Any) -> jax.Array:
            stacked = np.stack([np.asarray(x) for x in blocks])
            return put(stacked.reshape(a, b, *stacked.shape[1:]), sharding)

        sharding = placement.sharding(*axes)
        csr, csr_t = jax.tree.map(together, *made)
        return cls(
            csr=csr,
            csr_t=csr_t,
            counts=together(*counts.astype(np.int32)),
            floor=put(V.floor, placement.sharding()),
            moments=V.moments,
            entries=V.entries,
            placement=placement,
            over=axes,
            padded=V.padded,
        )

    @classmethod
    def of_parts(
        cls, parts: Parts, floor: jax.Array, dtype: Any, unit: float
    ) -> Shards:
        """The blocks that each process has, divided by a power of two."""
        placement = parts.placement
        axes, (a, b) = (placement.rows, placement.columns), placement.grid
        sharding, (most, entries) = placement.sharding(*axes), parts.survey.stored
        most = max(1, most)
        made = {}
        rows, columns = parts.ranges
        blocks: Any = parts.blocks
        for place, block in blocks.items():
            entry = block.tocoo()
            of_rows, of_columns = (x.astype(np.int32) for x in entry.coords)
            values = np.divide(entry.data, unit, dtype=np.float64)
            given = of_rows, of_columns, values, None, block.shape, dtype
            count = jnp.asarray(block.nnz, jnp.int32)
            made[place] = (*both_ways(*given, most=most), count)
        places = sharding.addressable_devices_indices_map((a, b))

        def together(*leaves: Any) -> jax.Array:
            own = dict(zip(made, leaves, strict=True))
            arrays = [
                jax.device_put(np.asarray(own[_place(index)])[None, None], device)
                for device, index in places.items()
            ]
            shape = (a, b, *arrays[0].shape[2:])
            return jax.make_array_from_single_device_arrays(shape, sharding, arrays)

        csr, csr_t, counts = jax.tree.map(together, *made.values())
        return cls(
            csr=csr,
            csr_t=csr_t,
            counts=counts,
            floor=put(floor, placement.sharding()),
            moments=Moments.of_survey(parts.survey.over(unit), parts.shape, dtype),
            entries=entries,
            placement=placement,
            over=axes,
            padded=(rows.padded, columns.padded) != parts.shape,
        )

    @property
    def shape(self) -> tuple[int, int]:
        a, b = self.placement.grid
        return self.csr_t.columns * a, self.csr.columns * b

    @property
    def any_known(self) -> Any:
        """Which columns have a known entry: True for all, or (n,)."""
        if self.csr.weights is None:
            return True
        ones = jnp.ones((1, self.shape[0]), self.dtype)
        return self.dot_weights(ones)[0] > 0

    @property
    def T(self) -> Shards:
        return dataclasses.replace(
            self,
            csr=self.csr_t,
            csr_t=self.csr,
            moments=self.moments.T,
            placement=self.placement.T,
        )

    def padded_to(self, rows: int, columns: int) -> Shards:
        raise TypeError("V is padded before it is divided over devices")

    def scaled_rows(self, scale: Any) -> Shards:
        raise TypeError("rows are scaled before V is divided over devices")

    def _on_host(self, data: Any) -> Any:
        from scipy.sparse import coo_array

        (m, n), (a, b) = self.shape, self.placement.grid
        parts = (data, self.csr.rows, self.csr.indices)
        data, rows, columns = (np.asarray(x) for x in parts)
        there = np.arange(data.shape[-1]) < np.asarray(self.counts)[..., None]
        first, second = np.indices(data.shape[:2])[..., None]
        if self.over != (self.placement.rows, self.placement.columns):
            first, second = second, first
        where = rows + first * (m // a), columns + second * (n // b)
        entries = data[there], tuple(x[there] for x in where)
        return coo_array(entries, shape=(m, n)).tocsr()

    def dot(self, fixed: Float[Array, "p m"]) -> Float[Array, "p n"]:
        return self._on_blocks(lambda block, fixed: block.dot(fixed), fixed)

    def dot_weights(self, left: Float[Array, "q m"]) -> Float[Array, "q n"]:
        return self._on_blocks(lambda block, left: block.dot_weights(left), left)

    def residual(self, fixed: Float[Array, "p m"], free: Float[Array, "p n"]) -> Shards:
        """V − fixedᵀ free at the known entries, for data observed in part alone."""

        def own(block: Sparse, fixed: Any, free: Any) -> Any:
            found = block.residual(fixed, free)
            return found.csr.data[None, None], found.csr_t.data[None, None]

        place = P(*self.over)
        data, data_t = self._mapped(own, (place, place), fixed, free)
        return dataclasses.replace(
            self,
            csr=dataclasses.replace(self.csr, data=data),
            csr_t=dataclasses.replace(self.csr_t, data=data_t),
        )

    def map_sum(self, fn: EntryFn, fixed: Float[Array, "p m"], *frees: Any) -> Any:
        """Σ fn(v, x…), for each output of fn, over the stored entries, x not kept above
        the floor."""

        def own(block: _Block, fixed: Any, *frees: Any) -> Any:
            return block.entries_of_V.map_sum(fn, fixed, *frees)

        both = (*self.placement.rows, *self.placement.columns)
        return self._mapped(summed(own, both), P(), fixed, *frees)

    def map_dot(self, fn: EntryFn, fixed: Any, free: Any) -> tuple[jax.Array, ...]:
        def own(block: _Block, fixed: Any, free: Any) -> Any:
            return block.entries_of_V.map_dot(fn, fixed, free)

        return self._on_blocks(own, fixed, free)

    def map_dot_both(
        self, fn: EntryFn, fixed: Any, free: Any
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        def own(block: _Block, fixed: Any, free: Any) -> Any:
            return block.entries_of_V.map_dot_both(fn, fixed, free)

        own, out = self.placement.both_sums(own)
        return self._mapped(own, out, fixed, free)

    def _on_blocks(self, own: Callable[..., Any], *factors: Any) -> Any:
        """The sum over V's rows of what each block gives for its columns."""
        out = P(None, self.placement.columns)
        return self._mapped(summed(own, self.placement.rows), out, *factors)

    def _mapped(
        self, own: Callable[..., Any], out: Any, fixed: Any, *frees: Any
    ) -> Any:
        """``own(block, fixed, *frees)`` on every device, of its own block and of its
        parts of the factors."""

        def on_device(arrays: Any, rest: Any, fixed: Any, *frees: Any) -> Any:
            csr, csr_t, count = jax.tree.map(lambda x: x[0, 0], arrays)
            floor, moments = rest
            block = _Block(
                csr=csr, csr_t=csr_t, floor=floor, moments=moments, count=count
            )
            return own(block, fixed, *frees)

        arrays, rest = (self.csr, self.csr_t, self.counts), (self.floor, self.moments)
        specs = P(*self.over)
        return self.placement.mapped(on_device, arrays, specs, out, rest, fixed, *frees)


@pytree
class _Block(Sparse):
    """The block of a device, and how many of its entries are V's."""

    count: Any

    @property
    def entries_of_V(self) -> Sparse:
        """The block with weight 0 for the entries that only fill it."""
        csr = self.csr_t
        if csr.weights is not None:
            return self
        there = jnp.arange(csr.data.shape[0], dtype=jnp.int32) < self.count
        csr = dataclasses.replace(csr, weights=there.astype(self.dtype))
        return dataclasses.replace(self, csr_t=csr)


def _place(index: Any) -> tuple[int, int]:
    """The place in a grid of what a device has at an index."""
    first, second = (one.start or 0 for one in index)
    return first, second


def balanced_order(counts: np.ndarray, parts: int) -> np.ndarray:
    """An order of rows in which each of so many parts of equal size has about as many
    entries: as they are where the fullest part has at most a tenth more than the mean;
    else dealt to the parts in turn from the fullest row on, back and forth.

    Args:
      counts: the entries of each row, a multiple of ``parts`` rows.
      parts: how many parts.
    """
    own = np.arange(len(counts))
    sums = counts.reshape(parts, -1).sum(1)
    if sums.max() * parts <= 1.1 * sums.sum():
        return own
    dealt = np.argsort(-counts, kind="stable").reshape(-1, parts)
    dealt[1::2] = dealt[1::2, ::-1]
    return np.sort(dealt, axis=0).T.ravel()
