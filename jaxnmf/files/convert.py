"""The fast form of a matrix on disk, of which blocks of rows are read alone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxnmf.files.blocks import NAMES, PARTS, SPARSE, open_source, sparse_starts
from jaxnmf.files.labelled import ContentError
from jaxnmf.files.matrices import read

DTYPES = ("float32", "float64")


class Whole:
    """A matrix in memory, in blocks of its rows."""

    def __init__(self, found: Any) -> None:
        V = found.V
        self.row_names, self.column_names = found.row_names, found.column_names
        self.shape, self.dtype = V.shape, V.dtype
        self.sparse = hasattr(V, "tocsr")
        if self.sparse:
            self.indptr = V.indptr
            self.starts = sparse_starts(V.indptr)
        else:
            self.starts = np.array([0, V.shape[0]])
        self.count, self.V = len(self.starts) - 1, V

    def block(self, i: int) -> Any:
        return self.V[self.starts[i] : self.starts[i + 1]]


def convert(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    by_columns: bool = False,
    key: str | None = None,
    layer: str | None = None,
    **reading: Any,
) -> Path:
    """Store a matrix so that `jaxnmf.Blocks` reads it fast.

    A file that `Blocks` reads is never in memory as a whole; any other is read by
    `jaxnmf.read` first.

    Args:
      path: what `jaxnmf.Blocks` or `jaxnmf.read` reads.
      out: where to: a file that ends in .npy for a dense matrix, a new folder for a
        sparse one. It appears complete or not at all.
      dtype: "float32" or "float64"; that of the file by default.
      by_columns: store the entries of each block of a sparse matrix by columns too. It
        takes twice the space, and spares every iteration the sorting.
      key, layer, reading: options of `jaxnmf.read`.

    Returns:
      ``out``.

    Raises:
      ValueError: for what cannot be read or written.
    """
    place = Path(out).expanduser()
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} must be one of {', '.join(DTYPES)}")
    if place.exists():
        raise ValueError(f"out: '{place}' exists; give a new file or folder")
    source = _source(path, key, layer, reading)
    if _is_sparse(source) == (place.suffix == ".npy"):
        kind, fit = "dense", "a file that ends in .npy"
        if _is_sparse(source):
            kind, fit = "sparse", "a folder"
        raise ValueError(f"out: '{place}' does not fit a {kind} matrix; give {fit}")
    if by_columns and not _is_sparse(source):
        raise ValueError("by_columns: is for a sparse matrix, and this one is dense")
    as_dtype = np.dtype(dtype or source.dtype)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _aside(place) as aside:
            if _is_sparse(source):
                _write_sparse(source, aside, as_dtype, by_columns)
            else:
                _write_dense(source, aside, as_dtype)
    except OSError as error:
        raise ValueError(f"out: '{place}' cannot be written ({error})") from error
    return place


def _source(path: Any, key: Any, layer: Any, reading: Any) -> Any:
    """What gives the blocks of a file, itself or from memory."""
    given = {name: x for name, x in {"key": key, "layer": layer}.items() if x}
    if not reading:
        try:
            return open_source(path, **given)
        except ContentError:
            pass  # perhaps stored by columns, or a table
    return Whole(read(path, **given, **reading))


def _is_sparse(source: Any) -> bool:
    return hasattr(source, "indptr")


@contextlib.contextmanager
def _aside(place: Path) -> Iterator[Path]:
    """A name beside a place; what is there in the end takes the place."""
    aside = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
    try:
        yield aside
        os.replace(aside, place)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink(missing_ok=True)


def _header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> None:
    about = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(file, about)


def _write_dense(source: Any, place: Path, dtype: np.dtype) -> None:
    with place.open("wb") as file:
        _header(file, tuple(map(int, source.shape)), dtype)
        for i in range(source.count):
            np.ascontiguousarray(source.block(i), dtype).tofile(file)
        file.flush()
        os.fsync(file.fileno())


def _write_sparse(source: Any, place: Path, dtype: np.dtype, by_columns: bool) -> None:
    place.mkdir()
    m, n = map(int, source.shape)
    stored = int(source.indptr[-1])
    np.save(place / "indptr.npy", np.asarray(source.indptr, np.int64))
    index = np.dtype(np.int32)
    types: dict[str, np.dtype] = {"data": dtype, "indices": index, "indptr": index}
    with contextlib.ExitStack() as stack:

        def opened(name: str, size: int) -> IO[bytes]:
            file = stack.enter_context((place / f"{name}.npy").open("wb"))
            _header(file, (size,), types[name.removeprefix("turned_")])
            return file

        files = [opened(name, stored) for name in PARTS[:2]]
        if by_columns:
            np.save(place / "starts.npy", source.starts)
            sizes = (stored, stored, source.count * (n + 1))
            pairs = zip(PARTS, sizes, strict=True)
            turned = [opened(f"turned_{name}", size) for name, size in pairs]
        for i in range(source.count):
            block = source.block(i)
            for file, name in zip(files, PARTS, strict=False):
                getattr(block, name).astype(types[name]).tofile(file)
            if by_columns:
                block = block.tocsc()
                for file, name in zip(turned, PARTS, strict=True):  # pyright: ignore
                    getattr(block, name).astype(types[name]).tofile(file)
    names = {name: getattr(source, name, None) for name in NAMES}
    names = {name: x if x is None else [*map(str, x)] for name, x in names.items()}
    (place / SPARSE).write_text(json.dumps({"shape": [m, n], **names}), "utf-8")
