"""Sparse matrices in compressed rows, and their product with a dense one."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf._util.platform import on_cpu, platform
from jaxnmf.data.padded_rows import PaddedRows
from jaxnmf.shapes import Array, Float, Int
from jaxnmf.types import pytree, static

# Columns of a sparse product on a CPU come in multiples of this.
CPU_COLUMNS = 8
# Columns in a block of a sparse V's entries: so many rows of a factor stay in
# the cache of a CPU. And the entries that a row must have, on average, in each block.
COLUMNS_TOGETHER = 2**16
ROW_ENTRIES = 32
# Where there is a compiled product of a CSR matrix; elsewhere rows are padded.
COMPILED = ("cpu", "gpu")


@pytree
class CSR:
    """A matrix in compressed rows.

    ``each_row`` is the row of each entry, or None for a program that is not expected to
    use it, and computes it otherwise. ``order`` is the position of each entry in the
    other orientation; ``padded`` is the pattern in padded rows, for a platform without
    a compiled product. Many columns are divided into ``blocks``, each with all rows, so
    that the part of a dense factor that a block reads stays in the cache.
    """

    data: Float[Array, " nnz"]
    indices: Int[Array, " nnz"]
    indptr: Int[Array, " r1"]  # blocks × r + 1
    each_row: Int[Array, " nnz"] | None
    order: Int[Array, " nnz"]
    weights: Float[Array, " nnz"] | None = None
    padded: PaddedRows | None = None
    columns: int = static()
    blocks: int = static(1)

    @property
    def rows(self) -> Int[Array, " nnz"]:
        """The row of each entry."""
        if self.each_row is not None:
            return self.each_row
        r, stored = (len(self.indptr) - 1) // self.blocks, len(self.data)
        rows = jnp.tile(jnp.arange(r, dtype=jnp.int32), self.blocks)
        return jnp.repeat(rows, jnp.diff(self.indptr), total_repeat_length=stored)

    def padded_to(self, rows: int, columns: int) -> CSR:
        """The same entries with more rows and columns, all empty."""
        indptr = np.asarray(self.indptr)
        starts = indptr[:-1].reshape(self.blocks, -1)
        ends = np.append(starts[1:, :1], indptr[-1:])[:, None]
        extra = rows - starts.shape[1]
        starts = np.concatenate([starts, np.repeat(ends, extra, 1)], 1)
        indptr = np.append(starts.ravel(), indptr[-1:])
        pattern = self.padded and PaddedRows.of(np.asarray(self.indices), indptr)
        return dataclasses.replace(
            self, indptr=jnp.asarray(indptr), padded=pattern, columns=columns
        )

    def with_room(self, entries: int) -> CSR:
        """The same with stored zeros in the last place, ``entries`` in all."""
        r, extra = (len(self.indptr) - 1) // self.blocks, entries - len(self.data)

        def grown(x: Any, value: int) -> jax.Array:
            return jnp.asarray(np.pad(x, (0, extra), constant_values=value))

        weights = None if self.weights is None else grown(self.weights, 0)
        return dataclasses.replace(
            self,
            data=grown(self.data, 0),
            indices=grown(self.indices, self.columns - 1),
            indptr=jnp.asarray(np.append(self.indptr[:-1], np.int32(entries))),
            each_row=grown(self.rows, r - 1),
            order=jnp.asarray(
                np.append(
                    self.order, np.arange(len(self.data), entries, dtype=np.int32)
                )
            ),
            weights=weights,
        )

    def weighted(self, y: Float[Array, " nnz"]) -> Float[Array, " nnz"]:
        return y if self.weights is None else y * self.weights.astype(y.dtype)

    def matmul(self, right: Float[Array, "c p"], data: Any) -> Float[Array, "r p"]:
        """A @ right with A's pattern and the values ``data``."""
        if self.padded is not None:
            return self.padded.matmul(right, data)
        parts = _csr_matmul(data, self.indices, self.indptr, right, self.columns)
        return parts.reshape(self.blocks, -1, right.shape[1]).sum(0)


def both_ways(
    rows: np.ndarray,
    columns: np.ndarray,
    values: Any,
    weights: Any,
    shape: tuple[int, int],
    dtype: Any,
    *,
    most: int | None = None,
) -> tuple[CSR, CSR]:
    """A matrix and its transpose, from its entries.

    Args:
      rows, columns: int32, where the entries are.
      values, weights: of the entries; weights may be None.
      shape: (m, n).
      dtype: the precision.
      most: for matrices that are to have the structure of this one, the largest number
        of entries among them. Zeros are stored up to it, and no pattern of padded rows.
    """
    (m, n), count = shape, len(rows) if most is None else most
    pick, indptr, blocks = _by_rows(rows, columns, (m, n), count)
    pick_t, indptr_t, blocks_t = _by_rows(columns, rows, (n, m), count)
    compiled = platform() in COMPILED or most is not None

    def made(pick: Any, by: Any, across: Any, indptr: Any, other: Any, **static: Any):
        by, across = by[pick], across[pick]
        # The position of each entry in the other order.
        place = np.empty_like(other)
        place[other] = np.arange(len(other), dtype=np.int32)
        return CSR(
            data=jnp.asarray(values[pick], dtype),
            indices=jnp.asarray(across),
            indptr=jnp.asarray(indptr, np.int32),
            each_row=jnp.asarray(by),
            order=jnp.asarray(place[pick]),
            weights=None if weights is None else jnp.asarray(weights[pick], dtype),
            padded=None if compiled else PaddedRows.of(across, indptr),
            **static,
        )

    by_rows = made(pick, rows, columns, indptr, pick_t, columns=n, blocks=blocks)
    by_columns = made(pick_t, columns, rows, indptr_t, pick, columns=m, blocks=blocks_t)
    if most is None:
        return by_rows, by_columns
    return by_rows.with_room(most), by_columns.with_room(most)


def _by_rows(
    rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int], count: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """(the order of the entries, the start of each row, blocks): row by row,
    and before that in blocks of columns where there are many (`CSR`). ``count`` is the
    number of entries that decides how many blocks."""
    from scipy.sparse import coo_array

    r, c = shape
    blocks = 1
    if on_cpu():
        # Each block's product has all rows: without entries enough it would cost more.
        blocks = min(-(-c // COLUMNS_TOGETHER), count // (ROW_ENTRIES * r))
        blocks = max(1, blocks)
    place = np.arange(len(rows), dtype=np.int32)
    if blocks > 1:
        rows = columns // np.int32(-(-c // blocks)) * np.int32(r) + rows
    ordered = coo_array((place, (rows, columns)), shape=(blocks * r, c)).tocsr()
    return ordered.data, ordered.indptr, blocks


def _csr_matmul(data: Any, indices: Any, indptr: Any, right: Any, columns: int) -> Any:
    """CSR times dense. Lanes with the same pattern are combined in one product.

    The compiled kernel does not support a batch dimension: a batch of right-hand sides
    becomes more columns, and a batch of values is processed in sequence. On a CPU it
    is up to four times faster where the columns fill whole vectors: with half a million
    entries, 20 columns take 4.7 ms and 24 take 1.1 ms.
    """
    # Imported here, since the import takes half as long as that of jax.
    from jax.experimental import sparse as jsparse

    shape = (indptr.shape[0] - 1, columns)

    @jax.custom_batching.custom_vmap
    def product(data, indices, indptr, right):
        # BCSR is compiled on a CPU, but on a GPU without a flag it is a scatter; CSR
        # is cuSPARSE there.
        # cuSPARSE's library is there only beside a GPU, not where a program is lowered
        # for one.
        cpu = on_cpu() or jax.default_backend() == "cpu"
        form = jsparse.BCSR if cpu else jsparse.CSR
        matrix: Any = form((data, indices, indptr), shape=shape)
        width = right.shape[1]
        padding = -width % CPU_COLUMNS if cpu else 0
        if not padding:
            return matrix @ right
        return (matrix @ jnp.pad(right, ((0, 0), (0, padding))))[:, :width]

    @product.def_vmap
    def _(size, batched, data, indices, indptr, right):
        if not any(batched[:3]):
            wide = jnp.moveaxis(right, 0, 1).reshape(right.shape[1], -1)
            out = product(data, indices, indptr, wide)
            return jnp.moveaxis(out.reshape(shape[0], size, -1), 1, 0), True

        def one(i):
            args = zip((data, indices, indptr, right), batched, strict=True)
            return product(*(a[i] if b else a for a, b in args))

        return jax.lax.map(one, jnp.arange(size)), True

    return product(data, indices, indptr, right)
