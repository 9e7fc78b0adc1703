"""A matrix from a file of the user's own."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import no_type_check

from jaxnmf.datasets.base import Card, Dataset, as_float
from jaxnmf.files.labelled import LabelledMatrix

FILE = Card(
    name="file",
    shape=None,
    kind="table",
    about="your own file: a table, NumPy, Matrix Market, HDF5, Zarr, sound and others",
    source="",
    licence="your own",
)


@no_type_check  # it checks its settings itself
def file(
    path: str | os.PathLike[str],
    key: str | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    header: bool | None = None,
    index: str | int | bool | None = None,
    encoding: str | None = None,
    missing: str | Sequence[str] | None = None,
    transpose: bool = False,
    layer: str | None = None,
) -> Dataset:
    """The matrix in a file: rows are samples, columns are features.

    Args:
      path: a file that ends in
        `.npy`: one array;
        `.npz`: what `numpy.savez` writes (its one 2-D array, or `key`), or
        `scipy.sparse.save_npz`;
        `.csv`, `.tsv`: numbers, with or without names of the columns and rows. Options
        that are not given are detected: `assumed` lists them, `doubts` says which of
        them may be wrong, and a file that can be read in two ways is refused;
        `.parquet`: columns of numbers; the row names are its index, or a first column
        of text;
        `.mtx`: Matrix Market, sparse or dense;
        `.h5ad`, `.h5`, `.zarr`, `.wav` and folders of 10x Genomics: see `jaxnmf.read`.
        Pickled data are never loaded.
      key: the name of the array in an `.npz`, `.h5` or `.zarr`.
      separator: between the cells of a `.csv` or `.tsv`: "comma", "semicolon", "tab",
        "space" (any run of spaces and tabs), or the character itself.
      decimal: "point" or "comma", or the character.
      thousands: the thousands separator: "comma", "point", "apostrophe", "space", or
        the character. Without it numbers such as "1,234" are refused.
      header: whether the first line of a `.csv` or `.tsv` names the columns.
      index: the column of the row names, by name or by number from 0; False for none.
      encoding: of a `.csv` or `.tsv`; by default UTF-8, or what its byte order mark
        states.
      missing: one or more spellings of a missing value, in addition to the empty
        one, NA, N/A, NaN, null, None, "-", "?" and ".". Missing values are NaN in V;
        with ``mask="nan"`` they are unknown entries.
      transpose: exchange rows and columns.
      layer: of AnnData, in place of X.

    Returns:
      The data set, named after the file. Sparse formats stay sparse.

    Raises:
      ValueError: the file does not exist, cannot be read, or does not contain one 2-D
        numeric array, or an option does not fit.
    """
    from jaxnmf.files.matrices import read

    found = read(
        path,
        key=key,
        transpose=transpose,
        layer=layer,
        separator=separator,
        decimal=decimal,
        thousands=thousands,
        header=header,
        index=index,
        encoding=encoding,
        missing=missing,
    )
    return dataset_of(found, path)


def dataset_of(found: LabelledMatrix, path: str | os.PathLike[str]) -> Dataset:
    """The data set of what was read from a file, named after the file."""
    from jaxnmf.files.triplets import look_like_ratings

    doubts = found.doubts
    columns = found.column_names or ()
    if look_like_ratings(columns):
        names = ", ".join(columns)
        doubts += (
            f"the columns ({names}) look like those of a table of ratings, which was "
            "read as a matrix; dataset=ratings reads users, items and ratings",
        )
    return FILE.dataset(
        as_float(found.V),
        name=Path(path).stem,
        source=str(path),
        row_names=found.row_names,
        column_names=found.column_names,
        assumed=found.assumed,
        doubts=doubts,
    )
