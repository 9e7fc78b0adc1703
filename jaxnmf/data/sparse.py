"""A sparse V as an operand."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf._util.platform import on_cpu
from jaxnmf.data.csr import CSR
from jaxnmf.data.moments import Moments
from jaxnmf.data.operand import EntryFn, taken, true_shape
from jaxnmf.shapes import Array, Float, Int
from jaxnmf.types import pytree, static

# Components in each pass over the stored entries.
COMPONENTS = 4
# The density × p from which blocks of X are faster than gathers; entries of a block.
# The second of each is for accelerators (`experiments/accelerator`).
BLOCKS_FROM, ACCELERATOR_BLOCKS_FROM = 1.0, 4.0
X_BLOCK, ACCELERATOR_X_BLOCK = 2**18, 2**26
# Stored entries in each pass over whole rows of the factors, on an accelerator.
ENTRIES = 2**22
# The same in double precision, on any device.
DOUBLE_ENTRIES = 2**16


class Stored:
    """What an operand has that holds V as a list of entries, ``csr``."""

    csr: Any

    @property
    def kind(self) -> str:
        return "sparse" if self.csr.weights is None else "observed"

    @property
    def by_entries(self) -> bool:
        return True

    @property
    def dtype(self) -> Any:
        return self.csr.data.dtype

    def for_lanes(self) -> Any:
        return self

    def to_host(self) -> Any:
        """V as a SciPy array."""
        return self._on_host(self.csr.data)

    def host_weights(self) -> Any:
        """The weights as a SciPy array, None where zeros are data."""
        return None if self.csr.weights is None else self._on_host(self.csr.weights)

    def _on_host(self, data: Any) -> Any:
        """V with these values of its entries as a SciPy array."""
        raise NotImplementedError


@pytree
class Sparse(Stored):
    """A sparse V, whose absent entries are zeros, or unknown where it has weights.

    Stores V and Vᵀ by rows, so that either product is that of a CSR matrix and a thin
    dense one. A product costs O(nnz·p), and no m×n array is ever formed.
    """

    csr: CSR
    csr_t: CSR
    floor: Float[Array, ""]
    moments: Moments
    padded: bool = static(default=False)

    @property
    def shape(self) -> tuple[int, int]:
        return (self.csr_t.columns, self.csr.columns)

    @property
    def entries(self) -> int:
        """The number of entries that a product reads."""
        return self.csr.data.shape[0]

    @property
    def any_known(self) -> Any:
        """Which columns have a known entry: True for all, or (n,)."""
        csr = self.csr_t
        if csr.weights is None:
            return True
        return (jnp.diff(csr.indptr).reshape(csr.blocks, -1) > 0).any(0)

    @property
    def T(self) -> Sparse:
        return dataclasses.replace(
            self, csr=self.csr_t, csr_t=self.csr, moments=self.moments.T
        )

    def padded_to(self, rows: int, columns: int) -> Sparse:
        """V with more rows and columns, all empty."""
        return dataclasses.replace(
            self,
            csr=self.csr.padded_to(rows, columns),
            csr_t=self.csr_t.padded_to(columns, rows),
            padded=True,
        )

    def with_room(self, entries: int) -> Sparse:
        """V with stored zeros, ``entries`` in all, so that data of different counts
        share a program; V itself where rows are padded for a product."""
        if self.csr.padded is not None:
            return self
        return dataclasses.replace(
            self, csr=self.csr.with_room(entries), csr_t=self.csr_t.with_room(entries)
        )

    def scaled_rows(self, scale: Float[np.ndarray, " m"]) -> Sparse:
        """V with row i times scale_i: new values at the same places.

        The moments stay those of V, which rows drawn from it have on average.
        """
        each = jnp.asarray(scale, self.dtype)
        by_rows = self.csr.data * each[self.csr.rows]
        by_columns = self.csr_t.data * each[self.csr_t.indices]
        return dataclasses.replace(
            self,
            csr=dataclasses.replace(self.csr, data=by_rows),
            csr_t=dataclasses.replace(self.csr_t, data=by_columns),
        )

    def without_rows(self) -> Sparse:
        """The same without the row of each entry (`CSR.each_row`)."""
        csr = dataclasses.replace(self.csr, each_row=None)
        csr_t = dataclasses.replace(self.csr_t, each_row=None)
        return dataclasses.replace(self, csr=csr, csr_t=csr_t)

    def stored(self, index: Int[Array, " b"]) -> tuple[Any, Any, Any, Any]:
        """(rows, columns, values, weights) of the stored entries at ``index``."""
        csr = self.csr
        weights = None if csr.weights is None else csr.weights[index]
        return csr.rows[index], csr.indices[index], csr.data[index], weights

    def _on_host(self, data: Any) -> Any:
        from scipy.sparse import coo_array

        data, rows, columns = map(np.asarray, (data, self.csr.rows, self.csr.indices))
        shape = tuple(map(int, true_shape(self)))
        return coo_array((data, (rows, columns)), shape=shape).tocsr()

    def dot(self, fixed: Float[Array, "p m"]) -> Float[Array, "p n"]:
        csr = self.csr_t
        return csr.matmul(fixed.T, csr.weighted(csr.data)).T

    def dot_weights(self, left: Float[Array, "q m"]) -> Float[Array, "q n"]:
        return self.csr_t.matmul(left.T, self.csr_t.weights).T

    def residual(self, fixed: Float[Array, "p m"], free: Float[Array, "p n"]) -> Sparse:
        """V − fixedᵀ free at the known entries, for data observed in part alone: the
        residual at the zeros of a sparse V is not zero."""
        if self.kind == "sparse":
            raise TypeError("the residual of a sparse V is not sparse")
        data = self.csr_t.data - self._product(fixed, free)
        turned = taken(data, self.csr.order)
        return dataclasses.replace(
            self,
            csr=dataclasses.replace(self.csr, data=turned),
            csr_t=dataclasses.replace(self.csr_t, data=data),
        )

    def map_sum(self, fn: EntryFn, fixed: Float[Array, "p m"], *frees: Any) -> Any:
        """Σ fn(v, x…), for each output of fn, over the stored entries, x not kept above
        the floor; the sums of 64-bit numbers where these are enabled."""
        if fixed.dtype != self.dtype:
            return self._sum_in_parts(fn, fixed, *frees)
        # x as in a gradient beside it, so that a record computes x once.
        with jax.enable_x64(self.dtype == np.float64):
            ys = self._at_stored(fn, fixed, *frees, floor=None)
        return jax.tree.map(_blocked_sum, ys)

    def _sum_in_parts(self, fn: EntryFn, fixed: Any, *frees: Any) -> Any:
        """`map_sum` of factors in double precision, some entries at a time."""
        csr, dtype = self.csr_t, fixed.dtype
        size = min(self.entries, DOUBLE_ENTRIES)
        step = jnp.arange(size, dtype=jnp.int32)
        parts = csr.data, csr.rows, csr.indices, csr.weights

        def part(i: Any, totals: Any) -> Any:
            start = jnp.minimum(i * size, self.entries - size)
            data, rows, columns, weights = jax.tree.map(
                lambda x: jax.lax.dynamic_slice_in_dim(x, start, size), parts
            )

            def value(free: Any) -> jax.Array:
                pairs = zip(fixed, free, strict=True)
                return sum(taken(w, columns) * taken(h, rows) for w, h in pairs)  # pyright: ignore

            # The last part reaches back into the one before.
            fresh = (start + step >= i * size).astype(dtype)
            if weights is not None:
                fresh = fresh * weights.astype(dtype)
            ys = fn(data.astype(dtype), *map(value, frees))
            return jax.tree.map(lambda T, y: T + (y * fresh).sum(), totals, ys)

        example = jax.ShapeDtypeStruct((1,), dtype)
        shapes = jax.eval_shape(fn, example, *(example for _ in frees))
        totals = jax.tree.map(lambda _: jnp.zeros((), dtype), shapes)
        return jax.lax.fori_loop(0, -(-self.entries // max(size, 1)), part, totals)

    def map_dot(self, fn: EntryFn, fixed: Any, free: Any) -> tuple[jax.Array, ...]:
        """fixed @ y where y = fn(v, x) at the stored entries and 0 elsewhere."""
        ys = self._at_stored(fn, fixed, free, floor=self.floor)
        return tuple(self.csr_t.matmul(fixed.T, y).T for y in ys)

    def map_dot_both(
        self, fn: EntryFn, fixed: Any, free: Any
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        ys = self._at_stored(fn, fixed, free, floor=self.floor)
        # Reordering y is cheaper than computing x again.
        turned = [taken(y, self.csr.order) for y in ys]
        return (
            tuple(self.csr_t.matmul(fixed.T, y).T for y in ys),
            tuple(self.csr.matmul(free.T, y).T for y in turned),
        )

    def _at_stored(self, fn: EntryFn, fixed: Any, *frees: Any, floor: Any) -> Any:
        """fn(v, x…) times the weights, in the order of Vᵀ's rows."""
        csr = self.csr_t

        def value(free: Any) -> jax.Array:
            x = self._product(fixed, free)
            return x if floor is None else jnp.maximum(x, floor)

        data = csr.data.astype(fixed.dtype)
        return jax.tree.map(csr.weighted, fn(data, *map(value, frees)))

    def _product(self, fixed: Any, free: Any) -> Float[Array, " nnz"]:
        """x at the stored entries, in the order of Vᵀ's rows."""
        m, n = self.shape
        per_entry = self.entries * fixed.shape[0] / (m * n)
        if not on_cpu():
            dense = per_entry >= ACCELERATOR_BLOCKS_FROM
            return (self._from_blocks if dense else self._from_rows)(fixed, free)
        # In one block of columns the rows of X are contiguous.
        dense = per_entry >= BLOCKS_FROM and self.csr_t.blocks == 1
        return (self._from_blocks if dense else self._gathered)(fixed, free)

    def _gathered(self, fixed: Any, free: Any) -> Float[Array, " nnz"]:
        """x at the stored entries, component by component.

        On a CPU, two gathers of nnz numbers at a time are faster than one of nnz × p,
        and need p times less memory. Four components in each pass over the indices are
        three times faster than one, and eight are not faster
        (`experiments/benchmarks`).
        """
        csr, columns = self.csr_t, self.csr_t.rows
        size = min(len(fixed), COMPONENTS)

        def blocks(X: Any) -> Any:
            # Divided beforehand: an unrolled loop is fused less well.
            X = jnp.pad(X, ((0, -len(X) % size), (0, 0)))
            return X.reshape(-1, size, X.shape[1])

        left, right = blocks(fixed), blocks(free)

        def add(i: Any, x: Any) -> Any:
            for w, h in zip(left[i], right[i], strict=True):
                x = x + taken(w, csr.indices) * taken(h, columns)
            return x

        return jax.lax.fori_loop(0, len(left), add, jnp.zeros_like(csr.data))

    def _from_rows(self, fixed: Any, free: Any) -> Float[Array, " nnz"]:
        """x at the stored entries, from whole rows of the factors.

        For an accelerator, where p numbers side by side cost little more than one.
        """
        csr, left, right = self.csr_t, fixed.T, free.T
        both = csr.indices, csr.rows
        size = min(self.entries, ENTRIES)

        def part(i: Any, x: Any) -> Any:
            start = jnp.minimum(i * size, self.entries - size)
            rows, columns = (
                jax.lax.dynamic_slice_in_dim(whole, start, size) for whole in both
            )
            new = (taken(left, rows) * taken(right, columns)).sum(1)
            return jax.lax.dynamic_update_slice_in_dim(x, new, start, 0)

        zero = jnp.zeros_like(csr.data)
        return jax.lax.fori_loop(0, -(-self.entries // max(size, 1)), part, zero)

    def _from_blocks(self, fixed: Any, free: Any) -> Float[Array, " nnz"]:
        """x at the stored entries, gathered from blocks of Xᵀ's rows.

        2mnp operations in products of matrices and one gather for each entry, where
        `_gathered` has 2p: faster from a density of a few per cent.
        """
        csr, columns, (m, n) = self.csr_t, self.csr_t.rows, self.shape
        size = min(n, max(1, (X_BLOCK if on_cpu() else ACCELERATOR_X_BLOCK) // m))
        # A block's entries are processed in parts, since every size must be fixed.
        part = max(1, self.entries * size // (4 * n))

        def block(i: Any, x: Any) -> Any:
            first = jnp.minimum(i * size, n - size)
            X = jax.lax.dynamic_slice_in_dim(free, first, size, 1).T @ fixed
            begin, end = csr.indptr[first], csr.indptr[first + size]

            def fill(j: Any, x: Any) -> Any:
                start = jnp.minimum(begin + j * part, self.entries - part)
                row, column, old = (
                    jax.lax.dynamic_slice_in_dim(whole, start, part)
                    for whole in (columns, csr.indices, x)
                )
                row = row - first
                new = X.at[row, column].get(mode="clip")
                # A part may extend into the neighbouring blocks.
                new = jnp.where((row >= 0) & (row < size), new, old)
                return jax.lax.dynamic_update_slice_in_dim(x, new, start, 0)

            return jax.lax.fori_loop(0, (end - begin + part - 1) // part, fill, x)

        zero = jnp.zeros_like(csr.data)
        return jax.lax.fori_loop(0, -(-n // size), block, zero)


def _blocked_sum(x: jax.Array) -> jax.Array:
    """Σx in two levels, since one long sum in float32 loses digits; the second in
    64-bit numbers where these are enabled."""
    wide = jax.config.jax_enable_x64  # pyright: ignore
    if wide and x.shape[0] <= 2**18:  # of more, the errors of parts average out
        x = x.astype(np.float64)
    size = 64 if x.dtype == np.float32 and wide else 1024
    padded = jnp.pad(x, (0, -x.shape[0] % size))
    parts = padded.reshape(-1, size).sum(1)
    return (parts.astype(np.float64) if wide else parts).sum()
