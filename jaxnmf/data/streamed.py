"""A V that is read block by block as an operand."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf._util.platform import platform
from jaxnmf.data.blocks import Blocks, ahead
from jaxnmf.data.csr import CSR
from jaxnmf.data.dense import Dense, rows_together
from jaxnmf.data.moments import Moments
from jaxnmf.data.padded_rows import PaddedRows
from jaxnmf.data.sparse import Sparse
from jaxnmf.shapes import Array, Float
from jaxnmf.types import pytree, static

# Blocks in memory: one that a program works on, the next, and one that is being read.
PLACES = 3
ALIGNED = 64  # bytes: jax reads such memory of the host without a copy


class Part(NamedTuple):
    """A block as an operand, padded to the height of all.

    Attributes:
      operand: of the rows, with the moments of all of V.
      held: (1, height), what the columns of Wt are held at: NaN for a row, 0 for one
        that only pads.
    """

    operand: Dense | Sparse
    held: Float[Array, "1 b"]


@pytree
class Streamed:
    """What is known of a V in blocks, and the way to them.

    It has no products of its own: `jaxnmf.run.streamed` takes the parts one by one.
    """

    floor: Float[Array, ""]
    moments: Moments
    shape: tuple[int, int] = static()
    entries: int = static()
    by_entries: bool = static()
    dtype: Any = static()
    source: Blocks | None = static(None)

    kind = "blocks"
    padded = False
    any_known = True

    @classmethod
    def of(cls, blocks: Blocks, floor: jax.Array, dtype: Any) -> Streamed:
        """The operand of blocks whose entries were checked."""
        found, shape = blocks.survey(), blocks.shape
        return cls(
            floor=floor,
            moments=Moments.of_survey(found, shape, dtype),
            shape=shape,
            entries=found.stored[1],
            by_entries=found.sparse,
            dtype=np.dtype(dtype),
            source=blocks,
        )

    @property
    def head(self) -> Streamed:
        """The same without its source, for a program that reads nothing."""
        return dataclasses.replace(self, source=None)

    @property
    def T(self) -> Streamed:
        """What is known of Vᵀ."""
        return dataclasses.replace(
            self.head, shape=self.shape[::-1], moments=self.moments.T
        )

    def to_host(self) -> Any:
        """The blocks."""
        return self.source

    def host_weights(self) -> None:
        """None: every entry is known."""
        return None

    @property
    def blocks(self) -> Blocks:
        assert self.source is not None
        return self.source

    @property
    def starts(self) -> np.ndarray:
        """The first row of each block, and m."""
        return self.blocks.survey().starts

    @property
    def height(self) -> int:
        """The rows of a part. A sparse one has a row that only pads it, for the stored
        zeros that make parts of one size."""
        return int(np.diff(self.starts).max()) + self.by_entries

    def parts(
        self, order: Sequence[int] | None = None, *, each_row: bool = True
    ) -> Iterator[Part]:
        """The blocks in turn, or in this order, read ahead. A part is to be done with
        before the one after the next is asked for, which may use its memory.

        ``each_row``: whether a sparse one has the row of each entry
        (`jaxnmf.data.csr.CSR`), which takes as long as reading its indices.
        """
        load = self._load_sparse(each_row) if self.by_entries else self._load_dense()
        heights = np.diff(self.starts)
        chosen = range(len(heights)) if order is None else order
        place = np.arange(self.height)[None]
        held = {
            rows: jnp.asarray(np.where(place < rows, np.nan, 0), self.dtype)
            for rows in set(heights.tolist())
        }
        loaded = ahead(lambda k: load(k, chosen[k]), len(chosen), PLACES - 2)
        with contextlib.closing(loaded) as loading:
            for part, rows in zip(loading, heights[chosen].tolist(), strict=True):
                yield Part(jax.device_put(part), held[rows])

    def _load_dense(self) -> Callable[[int, int], Dense]:
        """What loads the k-th part of a pass, block i."""
        shape = self.height, self.shape[1]
        buffers = [aligned(shape, self.dtype) for _ in range(PLACES)]
        heights, blocks = np.diff(self.starts), self.blocks
        padding = max(float(self.floor), 0.0)
        block = rows_together(*shape)

        def load(k: int, i: int) -> Dense:
            buffer, rows = buffers[k % len(buffers)], heights[i]
            blocks.read_into(i, buffer[:rows])
            buffer[rows:] = padding
            return Dense(
                array=buffer,  # pyright: ignore
                floor=self.floor,
                moments=self.moments,
                block=block,
                padded=True,
            )

        return load

    def _load_sparse(self, each_row: bool) -> Callable[[int, int], Sparse]:
        blocks, n = self.blocks, self.shape[1]
        room = blocks.survey().stored[0]
        buffers = [
            (_Room(self.height, room, self.dtype), _Room(n, room, self.dtype))
            for _ in range(PLACES)
        ]
        compiled = platform() in ("cpu", "gpu")

        def load(k: int, i: int) -> Sparse:
            by_rows, by_columns = buffers[k % len(buffers)]
            block, turned = blocks.both(i, (by_rows.memory, by_columns.memory))
            by_rows.fill(block, n)
            by_columns.fill(turned, self.height)
            return Sparse(
                csr=by_rows.csr(n, compiled, each_row),
                csr_t=by_columns.csr(self.height, compiled, each_row),
                floor=self.floor,
                moments=self.moments,
                padded=True,
            )

        return load


class _Room:
    """Memory for the compressed rows of one block after another."""

    def __init__(self, rows: int, entries: int, dtype: Any) -> None:
        self.data = aligned((entries,), dtype)
        self.indices, self.rows = (aligned((entries,), np.int32) for _ in range(2))
        self.indptr = aligned((rows + 1,), np.int32)

    @property
    def memory(self) -> tuple[np.ndarray, np.ndarray]:
        """For the data and the indices of a block."""
        return self.data, self.indices

    def fill(self, parts: tuple[Any, Any, Any], columns: int) -> None:
        """Take (data, indices, indptr), and stored zeros in the last place."""
        data, indices, indptr = parts
        stored, rows = len(data), len(indptr) - 1
        for own, given in zip(self.memory, (data, indices), strict=True):
            if given.ctypes.data != own.ctypes.data:  # it was not read into it
                own[:stored] = given
        self.data[stored:], self.indices[stored:] = 0, columns - 1
        self.indptr[: rows + 1], self.indptr[rows + 1 :] = indptr, stored
        self.indptr[-1] = len(self.data)

    def csr(self, columns: int, compiled: bool, each_row: bool) -> CSR:
        pattern = None if compiled else PaddedRows.of(self.indices, self.indptr)
        if each_row:
            rows = np.arange(len(self.indptr) - 1, dtype=np.int32)
            self.rows[:] = np.repeat(rows, np.diff(self.indptr))
        return CSR(
            data=self.data,  # pyright: ignore
            indices=self.indices,  # pyright: ignore
            indptr=self.indptr,  # pyright: ignore
            each_row=self.rows if each_row else None,  # pyright: ignore
            # Both orders are multiplied apart, so that none is needed.
            order=np.zeros(0, np.int32),  # pyright: ignore
            padded=pattern,
            columns=columns,
        )


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Memory that jax uses without a copy on a CPU."""
    size, itemsize = int(np.prod(shape)), np.dtype(dtype).itemsize
    # Not of bytes: SciPy copies a view that has less than half the items of its base.
    memory = np.empty(size + ALIGNED // itemsize, dtype)
    first = -memory.ctypes.data % ALIGNED // itemsize
    return memory[first : first + size].reshape(shape)
