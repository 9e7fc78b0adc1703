"""Files of which a block of rows can be read alone, and their fast form on disk.

The fast form of a dense matrix is a `.npy` file, that of a sparse one a folder:

    blocks.json      shape, and the names of rows and columns
    data.npy, indices.npy, indptr.npy          compressed rows (CSR)
    starts.npy, turned_data.npy, turned_indices.npy, turned_indptr.npy
                     the same entries by columns, for each block of rows (optional)
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnmf.files.labelled import ContentError
from jaxnmf.files.stores import is_zarr, needed, opened_store, rows_of_store

BYTES = 2**26  # of a block of a dense matrix
LEAST_ROWS = 64  # of a block, where rows are long
ENTRIES = 3 * 2**19  # of a block of a sparse matrix
MOST_ROWS = 2**20
SPARSE = "blocks.json"
STORES = (".h5ad", ".h5", ".hdf5", ".zarr")
PARTS = ("data", "indices", "indptr")
NAMES = ("row_names", "column_names")
Memory = tuple[np.ndarray, np.ndarray] | None
"""For the data and the indices of a sparse block."""


def block_rows(shape: Sequence[int], itemsize: int) -> int:
    """The rows of a block of a dense matrix."""
    m, n = shape
    return min(m, max(LEAST_ROWS, BYTES // (n * itemsize)))


def open_source(
    path: str | os.PathLike[str],
    *,
    rows: int | None = None,
    key: str | None = None,
    layer: str | None = None,
) -> Any:
    """What reads the blocks of a file or folder (`jaxnmf.data.blocks.Source`).

    Raises:
      ValueError, ContentError: for what is not there, or does not fit.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise ContentError("does not exist")
    suffix = place.suffix.lower()
    store = suffix in STORES or is_zarr(place)
    if not store and (key is not None or layer is not None):
        raise ContentError("has no key or layer, which are of .h5, .h5ad and .zarr")
    if store:
        return StoreRows(place, rows, key, layer)
    if place.is_dir():
        if (place / SPARSE).is_file():
            return SparseRows(place, rows)
        return Stacked(shards(place), rows)
    if suffix == ".npy":
        return Stacked([Array.of(place)], rows)
    if suffix == ".parquet":
        return RowGroups(place)
    raise ContentError(
        "cannot be read block by block; jaxnmf convert makes a file that can, of "
        "whatever jaxnmf.read reads"
    )


def has_blocks(place: Path) -> bool:
    """Whether `open_source` reads files or folders that are called so."""
    if place.is_dir():
        return is_zarr(place) or (place / SPARSE).is_file() or any(place.glob("*.npy"))
    return place.suffix.lower() in (*STORES, ".npy", ".parquet")


class Array(NamedTuple):
    """A `.npy` file: its shape and type, and where its entries begin."""

    place: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int

    @classmethod
    def of(cls, place: Path, fit: str = "a 2-D array of real numbers") -> Array:
        """The header of a file, its size checked."""
        try:
            with place.open("rb") as opened:
                major, _ = np.lib.format.read_magic(opened)
                form = np.lib.format
                header = (
                    form.read_array_header_1_0(opened)
                    if major == 1
                    else form.read_array_header_2_0(opened)
                )
                offset = opened.tell()
        except FileNotFoundError:
            raise ContentError(f"has no file {place.name}") from None
        except (ValueError, OSError) as error:
            raise ContentError(f"is no .npy file ({place.name}: {error})") from None
        shape, fortran, dtype = header
        if dtype.kind not in "buif":
            raise ContentError(f"contains {dtype} ({place.name}); expected {fit}")
        if fortran and len(shape) > 1 and min(shape) > 1:
            raise ContentError(
                f"is stored by columns ({place.name}); jaxnmf convert stores it by rows"
            )
        expected = offset + int(np.prod(shape)) * dtype.itemsize
        found = place.stat().st_size
        if found < expected:
            raise ContentError(
                f"ends early: {place.name} has {found} bytes, and {expected} for shape "
                f"{shape} and dtype {dtype}"
            )
        return cls(place, shape, dtype, offset)

    def read(self, start: int, stop: int, into: np.ndarray | None = None) -> np.ndarray:
        """The rows from start to stop. Not a memory map, whose pages would stay in the
        memory of the process."""
        shape = (stop - start, *self.shape[1:])
        if into is None:
            into = np.empty(shape, self.dtype)
        size = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        view = into.reshape(-1).view(np.uint8).data
        with self.place.open("rb", buffering=0) as opened:
            opened.seek(self.offset + start * size)
            done = 0
            while done < len(view):
                more = opened.readinto(view[done:])
                if not more:
                    raise OSError(f"{self.place.name} ends early")
                done += more
        return into


class Stacked:
    """A dense matrix in `.npy` files, one below the other, in blocks of rows."""

    def __init__(self, arrays: Sequence[Array], rows: int | None) -> None:
        first = arrays[0]
        for one in arrays:
            fits = len(one.shape) == 2 and one.shape[1:] == first.shape[1:]
            if not fits or one.dtype != first.dtype:
                raise ContentError(
                    f"contains {one.place.name} of shape {one.shape} and dtype "
                    f"{one.dtype}; expected a 2-D array of numbers, in every file of "
                    f"the columns and dtype of the first: {first.shape[1:]} and "
                    f"{first.dtype}"
                )
        self.shape = sum(one.shape[0] for one in arrays), first.shape[1]
        self.dtype = first.dtype
        height = rows or block_rows(self.shape, self.dtype.itemsize)
        self.places = [
            (one, start, min(start + height, one.shape[0]))
            for one in arrays
            for start in range(0, one.shape[0], height)
        ]
        self.count = len(self.places)
        heights = [stop - start for _, start, stop in self.places]
        self.starts = np.cumsum([0, *heights])

    def block(self, i: int) -> np.ndarray:
        one, start, stop = self.places[i]
        return one.read(start, stop)

    def read_into(self, i: int, into: np.ndarray) -> None:
        """The block, read into an array of its shape and type."""
        one, start, stop = self.places[i]
        one.read(start, stop, into)


def shards(folder: Path) -> list[Array]:
    """The `.npy` files of a folder, in the order of their numbers."""
    places = sorted(folder.glob("*.npy"), key=_numbered)
    if not places:
        raise ContentError("is a folder without .npy files")
    counted = [_numbered(place)[0] for place in places]
    missing = sorted(set(range(counted[0], counted[-1] + 1)) - set(counted))
    if len(places) > 1 and missing and counted[0] >= 0:
        raise ContentError(
            f"has no part {missing[0]}: its files are numbered from {counted[0]} to "
            f"{counted[-1]}"
        )
    return [Array.of(place) for place in places]


def _numbered(place: Path) -> tuple[int, str]:
    """The last number in the name of a file, and its name."""
    numbers = re.findall(r"\d+", place.stem)
    return (int(numbers[-1]) if numbers else -1), place.name


class SparseRows:
    """A sparse matrix in compressed rows, in the files of a folder.

    Memory for the data and the indices of a block may be given, which are read into it
    where it has their types.
    """

    takes_memory = True

    def __init__(self, folder: Path, rows: int | None) -> None:
        try:
            about = json.loads((folder / SPARSE).read_text("utf-8"))
            self.shape = tuple(map(int, about["shape"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ContentError(f"has a damaged {SPARSE} ({error})") from None
        names = map(about.get, NAMES)
        self.row_names, self.column_names = (x and tuple(x) for x in names)
        self.data, self.indices, indptr = (
            Array.of(folder / f"{name}.npy", "a list of numbers") for name in PARTS
        )
        self.dtype = self.data.dtype
        self.indptr = indptr.read(0, indptr.shape[0])
        _check_csr(self.shape, self.data, self.indices, self.indptr)
        self.turned = None
        if (folder / "starts.npy").is_file():
            starts = Array.of(folder / "starts.npy", "a list of integers")
            self.starts = starts.read(0, starts.shape[0])
            parts = (Array.of(folder / f"turned_{name}.npy") for name in PARTS)
            self.turned = tuple(parts)
            _check_turned(self)
        else:
            self.starts = sparse_starts(self.indptr, rows)
        self.count = len(self.starts) - 1

    def block(self, i: int, memory: Memory = None) -> Any:
        a, b = self.starts[i : i + 2].tolist()
        return _csr(self, a, b, memory)

    def all_rows(self) -> Any:
        """All rows."""
        return _csr(self, 0, self.shape[0])

    def block_turned(
        self, i: int, memory: Memory = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(data, indices, indptr) of the transpose of a block."""
        assert self.turned is not None
        *parts, indptr = self.turned
        begin, end = self.indptr[self.starts[i : i + 2]].tolist()
        n = self.shape[1] + 1
        data, indices = _read(parts, begin, end, memory)
        return data, indices, indptr.read(i * n, (i + 1) * n)


def _read(arrays: Any, begin: int, end: int, memory: Memory) -> list[np.ndarray]:
    """The entries from begin to end of arrays."""
    found = []
    for x, own in zip(arrays, memory or (None, None), strict=True):
        if not isinstance(x, Array):
            found.append(x[begin:end])
        elif own is None or own.dtype != x.dtype or len(own) < end - begin:
            found.append(x.read(begin, end))
        else:
            found.append(x.read(begin, end, own[: end - begin]))
    return found


def _csr(source: Any, a: int, b: int, memory: Memory = None) -> Any:
    """The rows from a to b, of compressed rows in arrays that give slices."""
    from scipy.sparse import csr_array

    begin, end = int(source.indptr[a]), int(source.indptr[b])
    data, indices = _read((source.data, source.indices), begin, end, memory)
    # Of one type with the indices, which SciPy would copy otherwise.
    small = end - begin <= np.iinfo(indices.dtype).max
    indptr = source.indptr[a : b + 1] - begin
    indptr = indptr.astype(indices.dtype if small else np.int64)
    return csr_array((data, indices, indptr), shape=(b - a, source.shape[1]))


def sparse_starts(indptr: np.ndarray, rows: int | None = None) -> np.ndarray:
    """The first rows of blocks of about `ENTRIES` entries, or of ``rows``; and m."""
    m, most = len(indptr) - 1, rows or MOST_ROWS
    starts = [0]
    while starts[-1] < m:
        a = starts[-1]
        b = min(a + most, m)
        if rows is None:
            full = int(np.searchsorted(indptr, indptr[a] + ENTRIES, "right")) - 1
            b = max(a + 1, min(b, full))
        starts.append(b)
    return np.array(starts)


def _check_csr(shape: Any, data: Any, indices: Any, indptr: np.ndarray) -> None:
    """Raise a ContentError where the three arrays of a CSR matrix do not fit."""
    stored = data.shape[0]
    fits = (
        len(data.shape) == len(indices.shape) == indptr.ndim == 1
        and indices.shape[0] == stored
        and len(indptr) == shape[0] + 1
        and (indptr[0], indptr[-1]) == (0, stored)
        and bool((np.diff(indptr) >= 0).all())
        and indices.dtype.kind in "iu"
    )
    if not fits:
        raise ContentError(
            f"has data {data.shape}, indices {indices.shape} and indptr "
            f"{indptr.shape}, which do not make a CSR matrix of shape {shape}"
        )


def _check_turned(source: SparseRows) -> None:
    data, indices, indptr = source.turned  # pyright: ignore
    stored, (m, n), starts = source.data.shape, source.shape, source.starts
    fits = (
        data.shape == indices.shape == stored
        and indptr.shape == ((len(starts) - 1) * (n + 1),)
        and (starts[0], starts[-1]) == (0, m)
        and bool((np.diff(starts) > 0).all())
    )
    if not fits:
        raise ContentError("has files of the transpose that do not fit the matrix")


class StoreRows:
    """The rows of an array, or of a CSR matrix, in HDF5 or Zarr."""

    def __init__(
        self, place: Path, rows: int | None, key: str | None, layer: str | None
    ) -> None:
        self.opened = opened_store(place)  # open for as long as the source is used
        found, *names = rows_of_store(self.opened, place, key, layer)
        self.row_names, self.column_names = names
        self.sparse = isinstance(found, dict)
        if isinstance(found, dict):
            self.shape = tuple(map(int, found["shape"]))
            self.data, self.indices = found["data"], found["indices"]
            self.indptr = np.asarray(found["indptr"][()])
            _check_csr(self.shape, self.data, self.indices, self.indptr)
            self.starts = sparse_starts(self.indptr, rows)
        else:
            self.data, self.shape = found, tuple(found.shape)
            m = self.shape[0]
            height = rows or block_rows(self.shape, found.dtype.itemsize)
            self.starts = np.append(np.arange(0, m, height), m)
        self.dtype = self.data.dtype
        self.count = len(self.starts) - 1

    def block(self, i: int) -> Any:
        a, b = self.starts[i : i + 2].tolist()
        return _csr(self, a, b) if self.sparse else self.data[a:b]


class RowGroups:
    """The row groups of a Parquet file of numbers."""

    def __init__(self, place: Path) -> None:
        self.file = needed("pyarrow.parquet").ParquetFile(place)
        schema = self.file.schema_arrow
        types = [field.type.to_pandas_dtype() for field in schema]
        text = [
            name
            for name, one in zip(schema.names, types, strict=True)
            if np.dtype(one).kind not in "buif"
        ]
        if text or not types:
            raise ContentError(
                f"has columns that are not numbers ({', '.join(text[:5])}); jaxnmf "
                "convert takes one as row names"
            )
        self.column_names = list(schema.names)
        self.shape = self.file.metadata.num_rows, len(types)
        self.dtype = np.result_type(*types)
        self.count = self.file.num_row_groups
        groups = map(self.file.metadata.row_group, range(self.count))
        self.starts = np.cumsum([0, *(group.num_rows for group in groups)])

    def block(self, i: int) -> np.ndarray:
        table = self.file.read_row_group(i)
        block = np.empty((table.num_rows, table.num_columns), self.dtype)
        for j, column in enumerate(table.itercolumns()):
            block[:, j] = column.to_numpy()
        return block
