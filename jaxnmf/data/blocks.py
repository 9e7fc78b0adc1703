"""V as blocks of rows that are read when they are needed."""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from jaxnmf._util.blocks import row_blocks
from jaxnmf._util.checks import check_count
from jaxnmf.data.arrays import NUMBERS
from jaxnmf.data.containers import Names, is_sparse
from jaxnmf.files.blocks import NAMES, block_rows, open_source
from jaxnmf.files.labelled import ContentError

T = TypeVar("T")

AHEAD = 2  # blocks that are read ahead of the one in use
CACHED = 2**18  # entries that are looked at together, in the cache


class ReadError(ValueError):
    """A block of V cannot be read, or is not what it should be."""


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


class Survey(NamedTuple):
    """What one pass over the blocks finds.

    Attributes:
      starts: the first row of each block, and m.
      sparse: whether the blocks are SciPy sparse.
      stored: the entries of the block that stores most, and of all.
      low, high: the smallest and largest stored entry.
      least: the least positive one, infinite where there is none.
      total, absolute, squares: Σv, Σ|v| and Σv².
    """

    starts: np.ndarray
    sparse: bool
    stored: tuple[int, int]
    low: float
    high: float
    least: float
    total: float
    absolute: float
    squares: float

    @property
    def largest(self) -> float:
        """The largest |v|."""
        return max(self.high, -self.low)


class Blocks:
    """V as blocks of rows, each read when it is needed: for a V larger than memory.

    Everything that takes V takes this too, with the solvers that need one block at a
    time (`jaxnmf list solvers`): they read V once an iteration, and once more before
    the first, after one pass that checks the entries and sums them. While a block is in
    use a thread reads the next.

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
        return len(self.survey().starts) - 1

    def __repr__(self) -> str:
        m, n = self.shape
        return f"Blocks({m}×{n} {self.dtype})"

    def over(self, unit: float) -> Blocks:
        """The same V divided by a power of two."""
        other = copy.copy(self)
        other.unit = self.unit * unit
        return other

    def block(self, i: int) -> Any:
        """The i-th block, an array or a CSR array of SciPy.

        Raises:
          ReadError: it cannot be read, or does not fit.
        """
        with self._named(i):
            block = self.source.block(i)
            block = _canonical(block) if is_sparse(block) else np.asarray(block)
        rows = None
        if self._kept:
            a, b = self._kept[0].starts[i : i + 2]
            rows = int(b - a)
        return self._checked(block, i, rows)

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

    def both(self, i: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """(data, indices, indptr) of the i-th block of a sparse V, by rows and by
        columns.

        Raises:
          ReadError: it cannot be read, or does not fit.
        """
        block = self.block(i)
        if getattr(self.source, "turned", None) is not None:
            with self._named(i):
                data, *pattern = self.source.block_turned(i)
            turned = (data if self.unit == 1 else self._scaled(data), *pattern)
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

    def _checked(self, block: Any, i: int, rows: int | None) -> Any:
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
            parts = self._scaled(block.data), block.indices, block.indptr
            return type(block)(parts, shape=shape)
        return self._scaled(block)

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        return np.divide(x, self.unit, dtype=np.float64)

    def survey(self) -> Survey:
        """The sums over V, by one pass over its blocks at the first call.

        Raises:
          ReadError: a block cannot be read or does not fit.
          ValueError: an entry is NaN or infinite.
        """
        if not self._kept:
            self._kept.append(_survey(self))
        found = self._kept[0]
        if self.unit == 1:
            return found
        u = self.unit
        return found._replace(
            low=found.low / u,
            high=found.high / u,
            least=found.least / u,
            total=found.total / u,
            absolute=found.absolute / u,
            squares=found.squares / u / u,
        )

    def each(self) -> Iterator[tuple[slice, Any]]:
        """(its rows, the block) for every block, read ahead by a thread."""
        starts = self.survey().starts
        rows = map(slice, starts[:-1].tolist(), starts[1:].tolist())
        yield from zip(rows, ahead(self.block, len(self)), strict=True)


def ahead(load: Callable[[int], T], count: int | None) -> Generator[T]:
    """``load(0)``, …, ``load(count - 1)``, up to ``AHEAD`` of them made by a thread
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
                while asked < min(count, i + 1 + AHEAD):
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

    def block(self, i: int) -> Any:
        return self.array[i * self.height : (i + 1) * self.height]


def _canonical(block: Any) -> Any:
    from scipy.sparse import csr_array

    block = csr_array(block)
    # Compiled code would read indices that are out of range as addresses.
    block.check_format(full_check=True)
    if not block.has_canonical_format:
        block.sum_duplicates()
    return block


def _survey(blocks: Blocks) -> Survey:
    m, n = blocks.shape
    starts, stored, sums, sparse = [0], [], _Sums(), False
    plain = blocks.over(1 / blocks.unit)
    count = getattr(blocks.source, "count", None)
    with contextlib.closing(ahead(plain.block, count)) as reading:
        while starts[-1] < m:
            i = len(starts) - 1
            block = next(reading, None)
            if block is None or not block.shape[0]:
                raise ReadError(
                    f"V: its {i} blocks have {starts[-1]} rows; expected the {m} of "
                    f"its shape ({m}, {n})"
                )
            sparse = is_sparse(block) if i == 0 else sparse
            if is_sparse(block) != sparse:
                raise ReadError(
                    f"V: block {i} is {'not ' if sparse else ''}sparse, unlike those "
                    "before it"
                )
            values = block.data if sparse else block
            stored.append(values.size)
            for part in _parts(values):
                sums.add(part)
            starts.append(starts[-1] + block.shape[0])
    if starts[-1] > m:
        raise ReadError(
            f"V: its blocks have {starts[-1]} rows; expected the {m} of its shape "
            f"({m}, {n})"
        )
    if not sum(stored):
        sums.low = sums.high = 0.0
    numbers = {name: float(x) for name, x in vars(sums).items()}
    return Survey(np.array(starts), sparse, (max(stored), sum(stored)), **numbers)


class _Sums:
    """The sums of `Survey`, of what was added so far."""

    def __init__(self) -> None:
        self.low, self.high, self.least = np.inf, -np.inf, np.inf
        self.total = self.absolute = self.squares = 0.0

    def add(self, part: np.ndarray) -> None:
        low = part.min()
        self.low = np.minimum(self.low, low)  # NaN where one is
        self.high = np.maximum(self.high, part.max())
        positive = part if low > 0 else np.where(part > 0, part, np.inf)
        self.least = min(self.least, positive.min())
        wide = part.astype(np.float64, copy=False)
        total = wide.sum()
        self.total += total
        self.absolute += np.abs(wide).sum() if low < 0 else total
        self.squares += np.square(wide).sum()


def _parts(values: np.ndarray) -> Iterator[np.ndarray]:
    """The entries, so many at a time that they stay in the cache."""
    columns = values[:1].size
    return (values[rows] for rows in row_blocks(len(values), columns, CACHED))
