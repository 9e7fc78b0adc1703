"""Rows of a sparse pattern padded to few lengths, for platforms without a compiled
sparse product."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.data.operand import taken
from jaxnmf.shapes import Array, Float, Int
from jaxnmf.types import pytree

# Rows of the dense factor that a product of padded rows gathers at a time.
PASS = 2**16


@pytree
class PaddedRows:
    """Rows of a CSR pattern in buckets, filled up to a power of two of entries.

    A product is gathers and dense sums alone, no scatter: for platforms without a
    compiled one. At most two places an entry; a pass holds ``PASS`` rows of the dense
    factor, or one for each row of a bucket.
    """

    places: tuple[Int[Array, "r l"], ...]  # of the entries, nnz where filled up
    columns: tuple[Int[Array, "r l"], ...]
    back: Int[Array, " r"]  # the position of each row in the concatenated buckets

    @classmethod
    def of(cls, indices: np.ndarray, indptr: np.ndarray) -> PaddedRows:
        """The buckets of a pattern, made on the host."""
        lengths = np.diff(indptr)
        widths = 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(int)
        order = np.argsort(widths, kind="stable")
        places, columns = [], []
        for width in np.unique(widths):
            rows = np.flatnonzero(widths == width)
            step = np.arange(width)
            there = step < lengths[rows, None]
            place = np.where(there, indptr[rows, None] + step, len(indices))
            column = np.append(indices, 0)[place]
            places.append(jnp.asarray(place, np.int32))
            columns.append(jnp.asarray(column, np.int32))
        back = jnp.asarray(np.argsort(order), np.int32)
        return cls(places=tuple(places), columns=tuple(columns), back=back)

    def matmul(self, right: Float[Array, "c p"], data: Any) -> Float[Array, "r p"]:
        data = jnp.append(data, jnp.zeros((), data.dtype))

        def bucket(place: Any, column: Any) -> jax.Array:
            rows, width = place.shape
            # A power of two, as the width is.
            size = min(width, 1 << (max(1, PASS // rows).bit_length() - 1))

            def add(i: Any, total: Any) -> Any:
                now, there = (
                    jax.lax.dynamic_slice_in_dim(x, i * size, size, 1)
                    for x in (place, column)
                )
                part = jnp.einsum("rl,rlp->rp", taken(data, now), taken(right, there))
                return total + part

            zero = jnp.zeros((rows, right.shape[1]), right.dtype)
            return jax.lax.fori_loop(0, width // size, add, zero)

        parts = [bucket(*x) for x in zip(self.places, self.columns, strict=True)]
        return taken(jnp.concatenate(parts), self.back)
