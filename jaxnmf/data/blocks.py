"""V as blocks of rows that are read when they are needed."""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from jaxnmf._util.checks import check_count
from jaxnmf.data.arrays import NUMBERS
from jaxnmf.data.containers import Names, is_sparse
from jaxnmf.data.survey import ReadError, Survey, survey
from jaxnmf.files.blocks import (
    NAMES,
    Memory,
    RowGroups,
    SparseRows,
    Stacked,
    StoreRows,
    block_rows,
    open_source,
)
from jaxnmf.files.labelled import ContentError

T = TypeVar("T")

AHEAD = 2  # blocks that are read ahead of the one in use


@runtime_checkable
class Source(Protocol):
    """What V can be read from, one block of rows after the other.

    ``block(i)`` is the i-th block, an array (r, n) or SciPy sparse; blocks may differ
    in height, and together have the m rows of V. It is called from another thread, for
    one block at a time.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        ...

    @property
    def dtype(self) -> Any:
        """Of the entries."""
        ...

    def block(self, i: int) -> Any:
        """The i-th block."""
        ...


class Blocks:
    """V as blocks of rows, each read when it is needed: for a V larger than memory.

    Everything that takes V takes this too, with the solvers that need one block at a
    time (`jaxnmf list solvers`): they read V once an iteration, and once more before
    the first, after one pass that checks the entries and sums them; those for which a
    block is a batch also at each record. While a block is in use a thread reads the
    next.

    Args:
      source: the path of
        a `.npy` file, read without a memory map;
        a folder of `.npy` files, one below the other in the order of their numbers;
        what ``jaxnmf convert`` wrote, dense or sparse;
        a `.h5ad`, `.h5` or `.zarr`; a `.parquet`, whose row groups are the blocks;
        or an object with ``shape``, ``dtype`` and ``block(i)``, the i-th block of rows
        as an array or SciPy sparse; or one with ``shape`` and ``dtype`` that gives
        rows as ``source[a:b]``, such as an array of h5py, Zarr or `numpy.memmap`.
      rows: the rows of a block, where the source leaves them open. By default a block
        of a dense V takes about 64 MB.
      key, layer: of an `.h5`, `.h5ad` or `.zarr`, as for `jaxnmf.read`.

    Attributes:
      shape: (m, n).
      dtype: of the entries.

    Raises:
      ValueError: nothing at the path, a file missing or not of the size, shape or type
        that it should be, or a source without one of these attributes.

    Example:
      >>> import jaxnmf, numpy as np, pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "V.npy"
      >>> np.save(path, np.random.default_rng(0).random((300, 20)))
      >>> V = jaxnmf.Blocks(path, rows=100)
      >>> V
      Blocks(300×20 float64)
      >>> jaxnmf.factorize(V, 4, solver="hals").W.shape
      (300, 4)
    """

    def __init__(
        self,
        source: Any,
        *,
        rows: int | None = None,
        key: str | None = None,
        layer: str | None = None,
    ) -> None:
        if rows is not None:
            check_count("rows", rows)
        if isinstance(source, str | os.PathLike):
            try:
                source = open_source(source, rows=rows, key=key, layer=layer)
            except ContentError as error:
                raise ValueError(f"source: '{source}' {error}") from None
        elif key is not None or layer is not None:
            raise ValueError("key and layer are for the path of a file")
        missing = [name for name in ("shape", "dtype") if not hasattr(source, name)]
        if missing or not (hasattr(source, "block") or hasattr(source, "__getitem__")):
            raise ValueError(
                f"source is a {type(source).__name__} without "
                f"{' and '.join(missing) or 'block(i) or slices of rows'}; it must be "
                "the path of a file, or an object with shape, dtype and block(i)"
            )
        shape = tuple(source.shape)
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(
                f"source has shape {shape}; it must be that of a matrix, (m, n)"
            )
        self.shape = int(shape[0]), int(shape[1])
        self.dtype = np.dtype(source.dtype)
        if self.dtype.kind not in NUMBERS:
            raise ValueError(
                f"source has dtype {self.dtype}; it must contain real numbers"
            )
        if not hasattr(source, "block"):
            source = RowSlices(source, rows)
        self.source: Any = source
        self.unit = 1.0
        self._kept: list[Survey] = []

    @property
    def names(self) -> Names:
        """The names of rows and columns, where the source has some."""
        pair = (getattr(self.source, name, None) for name in NAMES)
        return Names(*(None if x is None else np.asarray(x, str) for x in pair))

    def __len__(self) -> int:
        """How many blocks there are; counting may read V once."""
        return len(self.starts) - 1

    def __repr__(self) -> str:
        m, n = self.shape
        return f"Blocks({m}×{n} {self.dtype})"

    @property
    def starts(self) -> np.ndarray:
        """The first row of each block, and m; finding them may read V once."""
        own = isinstance(self.source, STARTED)
        return self.source.starts if own else self.survey().starts

    @property
    def row_entries(self) -> np.ndarray | None:
        """How many entries each row of a sparse V stores, where the source says so
        before it is read."""
        indptr: Any = getattr(self.source, "indptr", None)
        fits = isinstance(indptr, np.ndarray) and len(indptr) == self.shape[0] + 1
        return np.diff(indptr) if fits else None

    def over(self, unit: float) -> Blocks:
        """The same V divided by a power of two."""
        other = copy.copy(self)
        other.unit = self.unit * unit
        return other

    def block(self, i: int, memory: Memory = None) -> Any:
        """The i-th block, an array or a CSR array of SciPy.

        Args:
          i: its number.
          memory: where to read the data and the indices of a sparse block.

        Raises:
          ReadError: it cannot be read, or does not fit.
        """
        with self._named(i):
            more = () if memory is None else (memory,)
            block = self.source.block(i, *more)
            block = _canonical(block) if is_sparse(block) else np.asarray(block)
        rows = None
        if self._kept:
            a, b = self._kept[0].starts[i : i + 2]
            rows = int(b - a)
        return self._checked(block, i, rows, memory)

    def read_into(self, i: int, into: np.ndarray) -> None:
        """The i-th block of a dense V, read into an array of its shape.

        Raises:
          ReadError: it cannot be read, or does not fit.
        """
        direct = hasattr(self.source, "read_into") and self.unit == 1
        if not direct or into.dtype != self.dtype:
            into[:] = self.block(i)
            return
        with self._named(i):
            self.source.read_into(i, into)

    def both(
        self, i: int, memory: tuple[Memory, Memory] = (None, None)
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """(data, indices, indptr) of the i-th block of a sparse V, by rows and by
        columns.

        Args:
          i: its number.
          memory: where to read the data and the indices of the two, if the source can.

        Raises:
          ReadError: it cannot be read, or does not fit.
        """
        if not getattr(self.source, "takes_memory", False):
            memory = (None, None)
        block = self.block(i, memory[0])
        if getattr(self.source, "turned", None) is not None:
            with self._named(i):
                more = () if memory[1] is None else (memory[1],)
                data, *pattern = self.source.block_turned(i, *more)
            turned = (self._scaled(data, memory[1]), *pattern)
        else:
            by_columns = block.tocsc()
            turned = by_columns.data, by_columns.indices, by_columns.indptr
        return (block.data, block.indices, block.indptr), turned

    @contextlib.contextmanager
    def _named(self, i: int) -> Iterator[None]:
        """Name the block in what is raised."""
        try:
            yield
        except Exception as error:  # of the user's own code, or of any file system
            where = f"block {i}"
            if self._kept:
                a, b = self._kept[0].starts[i : i + 2]
                where += f" (rows {a} to {b - 1})"
            raise ReadError(
                f"V: {where} cannot be read ({type(error).__name__}: {error})"
            ) from error

    def _checked(
        self, block: Any, i: int, rows: int | None, memory: Memory = None
    ) -> Any:
        """A block in the form that others expect, or a ReadError."""
        shape, n = tuple(block.shape), self.shape[1]
        fits = len(shape) == 2 and shape[1] == n and (rows is None or shape[0] == rows)
        if not fits or block.dtype.kind not in NUMBERS:
            expected = f"({'r' if rows is None else rows}, {n})"
            raise ReadError(
                f"V: block {i} has shape {shape} and dtype {block.dtype}; expected "
                f"real numbers of shape {expected}"
            )
        if self._kept and is_sparse(block) != self.survey().sparse:
            raise ReadError(f"V: block {i} is not sparse as the others, or alone is")
        if self.unit == 1:
            return block
        if is_sparse(block):
            parts = self._scaled(block.data, memory), block.indices, block.indptr
            return type(block)(parts, shape=shape)
        return self._scaled(block)

    def _scaled(self, x: np.ndarray, memory: Memory = None) -> np.ndarray:
        """x in the unit; where it lies in memory for it, there: the unit is a power of
        two, so that a division rounds once in any precision."""
        if self.unit == 1:
            return x
        own = memory is not None and np.shares_memory(x, memory[0])
        if own and x.dtype.kind == "f":
            return np.divide(x, self.unit, out=x)
        return np.divide(x, self.unit, dtype=np.float64)

    def survey(self) -> Survey:
        """The sums over V, by one pass over its blocks at the first call.

        Raises:
          ReadError: a block cannot be read or does not fit.
          ValueError: an entry is NaN or infinite.
        """
        if not self._kept:
            plain = self.over(1 / self.unit).block
            reading = ahead(plain, getattr(self.source, "count", None))
            with contextlib.closing(reading) as blocks:
                self._kept.append(survey(self.shape, blocks))
        return self._kept[0].over(self.unit)

    def map(self, function: Callable[[slice, Any], Any], dtype: Any) -> Blocks:
        """Blocks ``function(rows, block)`` of this shape, made when they are read."""
        return Blocks(_Mapped(self, function, dtype))

    def each(self) -> Iterator[tuple[slice, Any]]:
        """(its rows, the block) for every block, read ahead by a thread."""
        starts = self.survey().starts
        rows = map(slice, starts[:-1].tolist(), starts[1:].tolist())
        yield from zip(rows, ahead(self.block, len(self)), strict=True)


def check_in_memory(name: str, V: Any, needs: str) -> None:
    """Raise a ValueError for `Blocks` where V must be in memory."""
    if isinstance(V, Blocks):
        raise ValueError(
            f"{name} is Blocks; {needs} needs it in memory (jaxnmf.factorize, "
            "jaxnmf.fit_W and jaxnmf.MiniBatchNMF take it block by block)"
        )


def ahead(
    load: Callable[[int], T], count: int | None, most: int = AHEAD
) -> Generator[T]:
    """``load(0)``, …, ``load(count - 1)``, up to ``most`` of them made by a thread
    before they are needed; each when it is needed, and without end, where there is no
    count."""
    if count is None:
        yield from map(load, itertools.count())
        return
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[T]] = deque()
        asked = 0
        try:
            for i in range(count):
                while asked < min(count, i + 1 + most):
                    waiting.append(pool.submit(load, asked))
                    asked += 1
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class RowSlices:
    """The rows ``array[a:b]`` of an array of h5py, Zarr, NumPy or the like."""

    def __init__(self, array: Any, rows: int | None = None) -> None:
        self.array, self.shape, self.dtype = array, tuple(array.shape), array.dtype
        self.height = rows or block_rows(self.shape, np.dtype(self.dtype).itemsize)
        self.count = -(-self.shape[0] // self.height)
        self.starts = np.append(np.arange(0, self.shape[0], self.height), self.shape[0])

    def block(self, i: int) -> Any:
        return self.array[i * self.height : (i + 1) * self.height]


STARTED = (RowSlices, RowGroups, SparseRows, Stacked, StoreRows)
"""Sources that know the first row of each block."""


class _Mapped:
    """A function of blocks, as a source of blocks."""

    def __init__(self, blocks: Blocks, function: Any, dtype: Any) -> None:
        self.blocks, self.function, self.dtype = blocks, function, dtype
        self.shape = blocks.shape

    @property
    def count(self) -> int:
        return len(self.blocks)

    def block(self, i: int) -> Any:
        rows = slice(*self.blocks.survey().starts[i : i + 2].tolist())
        return self.function(rows, self.blocks.block(i))


def _canonical(block: Any) -> Any:
    from scipy.sparse import csr_array

    block = csr_array(block)
    # Compiled code would read indices that are out of range as addresses.
    block.check_format(full_check=True)
    if not block.has_canonical_format:
        block.sum_duplicates()
    return block
