"""Readers of a matrix from a file."""

from __future__ import annotations

import csv
import os
import warnings
from pathlib import Path
from typing import IO, Any, no_type_check

import numpy as np


@no_type_check  # it checks its arguments itself
def read_matrix(
    path: str | os.PathLike[str], key: str | None = None, header: bool | None = None
) -> tuple[Any, dict[str, tuple[str, ...] | None]]:
    """Read a matrix and the names of its axes. Pickled data are never loaded.

    Args:
      path: a file that ends in .npy, .npz, .csv, .tsv, .parquet or .mtx.
      key: the name of the array in an .npz.
      header: whether the first line of a .csv or .tsv names the columns; None to detect
        it.

    Returns:
      The matrix, an array or CSR, and its ``row_names`` and ``column_names`` if the
      format has names.

    Raises:
      ValueError: the file does not exist, cannot be read, or does not contain one 2-D
        numeric array.
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
    if header is not None and reader is not _text:
        raise ValueError(f"header: '{place}' is not a .csv or .tsv file")
    try:
        V, names = reader(place, key=key, header=header)
    except _ContentError as error:
        raise ValueError(f"path: '{place}' {error}") from None
    except Exception as error:  # each format fails in ways of its own
        raise ValueError(
            f"path: '{place}' cannot be read as {place.suffix} "
            f"({type(error).__name__}: {error}); expected a complete file of numbers "
            "without pickled objects"
        ) from error
    if V.ndim != 2 or V.dtype.kind not in "buif":
        raise ValueError(
            f"path: '{place}' contains an array of shape {V.shape} and dtype "
            f"{V.dtype}; expected a 2-D array of real numbers"
        )
    return V, names


class _ContentError(Exception):
    """The file was read and does not contain a matrix; the message says what it has."""


def _npy(place: Path, **_) -> tuple[Any, dict]:
    loaded = np.load(place, allow_pickle=False)
    if not isinstance(loaded, np.ndarray):
        raise _ContentError("is an .npz archive under the suffix .npy; rename it")
    return loaded, {}


def _npz(place: Path, key: str | None, **_) -> tuple[Any, dict]:
    with place.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
        if key is None and {"format", "shape", "data"} <= set(archive.files):
            opened.seek(0)
            return _sparse_npz(opened), {}
        if key is not None and key not in archive.files:
            raise _ContentError(
                f"has no array '{key}'; it has {', '.join(archive.files)}"
            )
        arrays = {name: archive[name] for name in ([key] if key else archive.files)}
    if key is not None:
        return arrays[key], {}
    matrices = [name for name, array in arrays.items() if array.ndim == 2]
    if len(matrices) != 1:
        listed = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise _ContentError(
            f"contains {len(matrices)} 2-D arrays ({listed or 'no arrays'}); "
            "expected one, or set key to the name of the array to read"
        )
    return arrays[matrices[0]], {}


def _sparse_npz(opened: IO[bytes]) -> Any:
    from scipy.sparse import csr_array, load_npz

    loaded = load_npz(opened)
    if hasattr(loaded, "check_format"):
        # indices out of range would be read as addresses by compiled code
        loaded.check_format(full_check=True)
    V = csr_array(loaded)
    V.sum_duplicates()
    return V


def _mtx(place: Path, **_) -> tuple[Any, dict]:
    from scipy.io import mmread
    from scipy.sparse import csr_array

    with warnings.catch_warnings():
        # It warns that its default sparse type will change: both are converted here.
        warnings.simplefilter("ignore", DeprecationWarning)
        loaded: Any = mmread(place)
    return csr_array(loaded) if hasattr(loaded, "tocsr") else loaded, {}


def _text(place: Path, header: bool | None, **_) -> tuple[Any, dict]:
    import pandas as pd

    separator = "\t" if place.suffix.lower() == ".tsv" else ","
    if header is None:
        with place.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.reader(lines, delimiter=separator)
            header = _is_header(next(rows, []), next(rows, []))
    frame = pd.read_csv(
        place,
        sep=separator,
        header=0 if header else None,
        low_memory=False,
        skipinitialspace=True,
    )
    return _from_frame(frame, named=bool(header))


def _is_header(first: list[str], second: list[str]) -> bool:
    if any(not _is_number(cell) for cell in first[1:]):
        return True
    corner = first[0].strip() if first else ""
    if not corner:
        return True
    return not _is_number(corner) and bool(second) and _is_number(second[0])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell.strip()  # a missing value is no name
    return True


def _parquet(place: Path, **_) -> tuple[Any, dict]:
    import pandas as pd

    return _from_frame(pd.read_parquet(place), named=True)


def _from_frame(frame: Any, named: bool) -> tuple[Any, dict]:
    """The numbers of a table, and its row and column names where it has them."""
    from pandas import RangeIndex
    from pandas.api.types import is_numeric_dtype

    row_names = None
    if not isinstance(frame.index, RangeIndex):
        row_names = frame.index
    elif frame.shape[1] and (
        not is_numeric_dtype(frame.dtypes.iloc[0])
        or str(frame.columns[0]).startswith("Unnamed: 0")
    ):
        row_names, frame = frame.iloc[:, 0], frame.iloc[:, 1:]
    text = [
        str(name)
        for name, dtype in zip(frame.columns, frame.dtypes, strict=True)
        if not is_numeric_dtype(dtype)
    ]
    if text:
        raise _ContentError(
            f"has columns that are not numbers ({', '.join(text[:5])}); expected "
            "numbers, optionally after a first column of row names"
        )
    if not frame.shape[1]:
        raise _ContentError("has no column of numbers; expected a table of numbers")
    names = {
        "row_names": None if row_names is None else tuple(map(str, row_names)),
        "column_names": tuple(map(str, frame.columns)) if named else None,
    }
    V = frame.to_numpy()
    if V.dtype == object:  # booleans or nullable integers beside floats
        V = frame.to_numpy(dtype=np.float64, na_value=np.nan)
    return V, names


_READERS = {
    ".npy": _npy,
    ".npz": _npz,
    ".csv": _text,
    ".tsv": _text,
    ".parquet": _parquet,
    ".mtx": _mtx,
}
_SUFFIXES = ", ".join(_READERS)
