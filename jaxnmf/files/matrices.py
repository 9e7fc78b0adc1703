"""Readers of a matrix from a file."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import IO, Any, no_type_check

import numpy as np

from jaxnmf._util.checks import check_count
from jaxnmf.files.blocks import SPARSE, SparseRows
from jaxnmf.files.encodings import EncodingError
from jaxnmf.files.frames import numbers_of
from jaxnmf.files.labelled import (
    ContentError,
    LabelledMatrix,
    as_csr,
    check_memory,
    count_missing,
)
from jaxnmf.files.market import read_market
from jaxnmf.files.options import TableOptions
from jaxnmf.files.sound import read_sound
from jaxnmf.files.stores import is_zarr, read_store
from jaxnmf.files.tables import read_table
from jaxnmf.files.ten_x import is_ten_x, read_ten_x


@no_type_check  # it checks its arguments itself
def read(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    layer: str | None = None,
    window: int | None = None,
    hop: int | None = None,
    transpose: bool = False,
    **options: Any,
) -> LabelledMatrix:
    """Read a matrix and the names of its axes. Pickled data are never loaded.

    Args:
      path: a file that ends in .npy, .npz, .csv, .tsv, .parquet, .mtx or .mtx.gz; with
        the extra ``jaxnmf[files]`` in .h5ad, .h5 or .hdf5, or a folder of Zarr; a
        folder of 10x Genomics (matrix.mtx.gz, features.tsv.gz, barcodes.tsv.gz), or
        one that ``jaxnmf convert`` wrote; a
        .wav, read as a magnitude spectrogram, frames × frequencies; or AnnData in
        memory.
      key: the name of the array in an .npz, .h5 or Zarr folder of several.
      layer: of AnnData, in place of X.
      window, hop: of a spectrogram, in samples; by default about 46 ms and a quarter of
        it.
      transpose: exchange rows and columns.
      options: of a .csv or .tsv: ``separator``, ``decimal``, ``thousands``, ``header``,
        ``index``, ``encoding`` and ``missing``; of a .parquet ``index`` alone. What is
        not given is detected, see `jaxnmf.files.options.TableOptions`.

    Returns:
      The matrix ``V`` with ``row_names``, ``column_names``, and what was ``assumed``;
      everything that factorises takes it as it is.

    Raises:
      ValueError: the file does not exist, cannot be read, does not fit the memory, or
        does not contain one 2-D numeric array, or an option does not fit.

    Example:
      >>> import jaxnmf, pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "table.csv"
      >>> _ = path.write_text("sample,a,b\\ns1,1,2\\ns2,3,4\\n")
      >>> data = jaxnmf.read(path)
      >>> data.V.shape, data.row_names, data.column_names
      ((2, 2), ('s1', 's2'), ('a', 'b'))
      >>> jaxnmf.factorize(data, 1).frames().H.columns.tolist()
      ['a', 'b']
    """
    for name, value in (("window", window), ("hop", hop)):
        if value is not None:
            check_count(name, value)
    if not isinstance(transpose, bool | np.bool_):
        raise ValueError(f"transpose: {transpose!r} is not True or False")
    if hasattr(path, "obs_names") and hasattr(path, "layers"):
        return _of_anndata(path, layer, transpose)
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"path: {path!r} is not the path of a file ({_SUFFIXES})")
    place = Path(path).expanduser()
    suffix, reader = _reader(place)
    table = TableOptions(**options)
    given = {"key": key, "layer": layer, "window": window, "hop": hop}
    own = {name: value for name, value in given.items() if value is not None}
    for name in (*own, *table.given):
        if name not in _OPTIONS.get(reader, ()):
            fits = [x for x in _READERS if name in _OPTIONS.get(_READERS[x], ())]
            raise ValueError(f"{name}: '{place}' is not a {' or '.join(fits)}")
    if table.given or reader in (_text, _parquet):
        own["options"] = table
    try:
        if place.is_file():
            check_memory(place.stat().st_size)
        found = reader(place, **own)
    except ContentError as error:
        raise ValueError(f"path: '{place}' {error}") from None
    except EncodingError:
        raise
    except Exception as error:  # each format fails in ways of its own
        raise ValueError(
            f"path: '{place}' cannot be read as {suffix} "
            f"({type(error).__name__}: {error}); expected a complete file of numbers "
            "without pickled objects"
        ) from error
    V = found.V
    if V.ndim != 2 or V.dtype.kind not in "buif":
        raise ValueError(
            f"path: '{place}' contains an array of shape {V.shape} and dtype "
            f"{V.dtype}; expected a 2-D array of real numbers"
        )
    return found.T if transpose else found


def is_matrix(folder: Path) -> bool:
    """Whether a folder contains a matrix that `read` reads."""
    return is_zarr(folder) or is_ten_x(folder) or (folder / SPARSE).is_file()


def _reader(place: Path) -> tuple[str, Any]:
    """(what a file or folder is, its reader), or a ValueError."""
    if place.is_dir():
        if is_zarr(place):
            return "a folder of Zarr", read_store
        if is_ten_x(place):
            return "a folder of 10x", read_ten_x
        if (place / SPARSE).is_file():
            return "a folder of compressed rows", _compressed
        raise ValueError(
            f"path: '{place}' is a folder; expected a file ({_SUFFIXES}), or a folder "
            "of Zarr, of 10x (matrix.mtx.gz) or of jaxnmf convert; the words of a "
            "folder of texts are counted by jaxnmf.datasets.load('documents', path=…)"
        )
    if not place.is_file():
        raise ValueError(
            f"path: '{place}' does not exist; expected a file ({_SUFFIXES})"
        )
    name = place.name.lower()
    suffix = ".mtx.gz" if name.endswith(".mtx.gz") else place.suffix.lower()
    if suffix not in _READERS:
        raise ValueError(f"path: '{place}' does not end in {_SUFFIXES}")
    return suffix, _READERS[suffix]


def _of_anndata(V: Any, layer: str | None, transpose: bool) -> LabelledMatrix:
    """AnnData in memory, its names kept."""
    if layer is not None and layer not in V.layers:
        layers = ", ".join(map(repr, V.layers)) or "none"
        raise ValueError(f"layer={layer!r} is none of the layers of V: {layers}")
    X = V.X if layer is None else V.layers[layer]
    X = X.to_memory() if hasattr(X, "to_memory") else X
    given = {} if layer is None else {"layer": layer}
    found = LabelledMatrix(X, tuple(V.obs_names), tuple(V.var_names), given)
    return found.T if transpose else found


def _npy(place: Path) -> LabelledMatrix:
    loaded = np.load(place, allow_pickle=False)
    if not isinstance(loaded, np.ndarray):
        raise ContentError("is an .npz archive under the suffix .npy; rename it")
    return LabelledMatrix(loaded)


def _npz(place: Path, key: str | None = None) -> LabelledMatrix:
    with place.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
        if key is None and {"format", "shape", "data"} <= set(archive.files):
            opened.seek(0)
            return LabelledMatrix(_sparse_npz(opened))
        if key is not None and key not in archive.files:
            raise ContentError(
                f"has no array '{key}'; it has {', '.join(archive.files)}"
            )
        arrays = {name: archive[name] for name in ([key] if key else archive.files)}
    if key is not None:
        return LabelledMatrix(arrays[key])
    matrices = [name for name, array in arrays.items() if array.ndim == 2]
    if len(matrices) != 1:
        listed = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ContentError(
            f"contains {len(matrices)} 2-D arrays ({listed or 'no arrays'}); "
            "expected one, or set key to the name of the array to read"
        )
    return LabelledMatrix(arrays[matrices[0]])


def _sparse_npz(opened: IO[bytes]) -> Any:
    from scipy.sparse import load_npz

    return as_csr(load_npz(opened))


def _compressed(place: Path) -> LabelledMatrix:
    source = SparseRows(place, None)
    check_memory(int(source.indptr[-1]) * (source.dtype.itemsize + 4))
    return LabelledMatrix(
        as_csr(source.all_rows()), source.row_names, source.column_names
    )


def _mtx(place: Path) -> LabelledMatrix:
    return LabelledMatrix(read_market(place))


def _parquet(place: Path, options: TableOptions) -> LabelledMatrix:
    import pandas as pd

    return _from_frame(pd.read_parquet(place), options.index)


def _text(place: Path, options: TableOptions) -> LabelledMatrix:
    return read_table(place, options)


def _from_frame(frame: Any, index: Any) -> LabelledMatrix:
    """The numbers of a table, and its row and column names where it has them."""
    from pandas import RangeIndex
    from pandas.api.types import is_numeric_dtype

    columns = list(map(str, frame.columns))
    row_names, taken = None, None
    if index is None and not isinstance(frame.index, RangeIndex):
        row_names, taken = frame.index, str(frame.index.name or "the index")
    elif index is None and columns:
        data = is_numeric_dtype(frame.dtypes.iloc[0]) and columns[0] != "Unnamed: 0"
        index = None if data else 0
    if index is not None and index is not False:
        if isinstance(index, str) and index not in columns:
            raise ContentError(
                f"has no column {index!r}, given as index; its columns: "
                f"{', '.join(columns[:10])}"
            )
        j = columns.index(index) if isinstance(index, str) else index
        if not 0 <= j < len(columns):
            raise ContentError(
                f"has columns 0 to {len(columns) - 1}; index={index} is none"
            )
        row_names, taken = frame.iloc[:, j], columns[j]
        frame = frame.drop(columns=frame.columns[j])
    text = [
        str(name)
        for name, dtype in zip(frame.columns, frame.dtypes, strict=True)
        if not is_numeric_dtype(dtype)
    ]
    if text:
        raise ContentError(
            f"has columns that are not numbers ({', '.join(text[:5])}); expected "
            "numbers, and one column of row names at most (index=…)"
        )
    if not frame.shape[1]:
        raise ContentError("has no column of numbers; expected a table of numbers")
    V = numbers_of(frame)
    return LabelledMatrix(
        V,
        None if row_names is None else tuple(map(str, row_names)),
        tuple(map(str, frame.columns)),
        {"index": taken, "missing": count_missing(V)},
    )


_READERS = {
    ".npy": _npy,
    ".npz": _npz,
    ".csv": _text,
    ".tsv": _text,
    ".parquet": _parquet,
    ".mtx": _mtx,
    ".mtx.gz": _mtx,
    ".h5ad": read_store,
    ".h5": read_store,
    ".hdf5": read_store,
    ".zarr": read_store,
    ".wav": read_sound,
}
_OPTIONS = {
    _npz: ("key",),
    _text: tuple(field.name for field in dataclasses.fields(TableOptions)),
    _parquet: ("index",),
    read_store: ("key", "layer"),
    read_sound: ("window", "hop"),
}
_SUFFIXES = ", ".join(_READERS)
