"""Readers of a matrix from a file."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import IO, Any, no_type_check

import numpy as np

from jaxnmf.files.encodings import EncodingError
from jaxnmf.files.labelled import ContentError, LabelledMatrix, count_missing
from jaxnmf.files.options import TableOptions
from jaxnmf.files.tables import read_table


@no_type_check  # it checks its arguments itself
def read(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    transpose: bool = False,
    **options: Any,
) -> LabelledMatrix:
    """Read a matrix and the names of its axes. Pickled data are never loaded.

    Args:
      path: a file that ends in .npy, .npz, .csv, .tsv, .parquet or .mtx.
      key: the name of the array in an .npz.
      transpose: exchange rows and columns.
      options: of a .csv or .tsv, see `TableOptions`; of a .parquet ``index`` alone.

    Raises:
      ValueError: the file does not exist, cannot be read, or does not contain one 2-D
        numeric array, or an option does not fit.
    """
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"path: {path!r} is not the path of a file ({_SUFFIXES})")
    place = Path(path).expanduser()
    if not place.is_file():
        found = "is a folder" if place.is_dir() else "does not exist"
        raise ValueError(f"path: '{place}' {found}; expected a file ({_SUFFIXES})")
    reader = _READERS.get(place.suffix.lower())
    if reader is None:
        raise ValueError(f"path: '{place}' does not end in {_SUFFIXES}")
    if key is not None and reader is not _npz:
        raise ValueError(
            f"key: '{place}' contains one array; only .npz files have keys"
        )
    if not isinstance(transpose, bool | np.bool_):
        raise ValueError(f"transpose: {transpose!r} is not True or False")
    table = TableOptions(**options)
    for name in table.given:
        if reader is not _text and not (name == "index" and reader is _parquet):
            raise ValueError(f"{name}: '{place}' is not a .csv or .tsv file")
    try:
        found = reader(place, key=key, options=table)
    except ContentError as error:
        raise ValueError(f"path: '{place}' {error}") from None
    except EncodingError:
        raise
    except Exception as error:  # each format fails in ways of its own
        raise ValueError(
            f"path: '{place}' cannot be read as {place.suffix} "
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


def _npy(place: Path, **_) -> LabelledMatrix:
    loaded = np.load(place, allow_pickle=False)
    if not isinstance(loaded, np.ndarray):
        raise ContentError("is an .npz archive under the suffix .npy; rename it")
    return LabelledMatrix(loaded)


def _npz(place: Path, key: str | None, **_) -> LabelledMatrix:
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
    from scipy.sparse import csr_array, load_npz

    loaded = load_npz(opened)
    if hasattr(loaded, "check_format"):
        # indices out of range would be read as addresses by compiled code
        loaded.check_format(full_check=True)
    V = csr_array(loaded)
    V.sum_duplicates()
    return V


def _mtx(place: Path, **_) -> LabelledMatrix:
    from scipy.io import mmread
    from scipy.sparse import csr_array

    with warnings.catch_warnings():
        # It warns that its default sparse type will change: both are converted here.
        warnings.simplefilter("ignore", DeprecationWarning)
        loaded: Any = mmread(place)
    return LabelledMatrix(csr_array(loaded) if hasattr(loaded, "tocsr") else loaded)


def _parquet(place: Path, options: TableOptions, **_) -> LabelledMatrix:
    import pandas as pd

    return _from_frame(pd.read_parquet(place), options.index)


def _text(place: Path, options: TableOptions, **_) -> LabelledMatrix:
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
    V = frame.to_numpy()
    if V.dtype == object:  # booleans or nullable integers beside floats
        V = frame.to_numpy(dtype=np.float64, na_value=np.nan)
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
}
_SUFFIXES = ", ".join(_READERS)
