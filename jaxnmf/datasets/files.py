"""A matrix from a file of the user's own."""

import os
from pathlib import Path
from typing import no_type_check

from jaxnmf.datasets.base import Card, Dataset, as_float

FILE = Card(
    name="file",
    shape=None,
    kind="table",
    about="your own file: .npy, .npz, .csv, .tsv, .parquet or .mtx",
    source="",
    licence="your own",
)


@no_type_check  # it checks its settings itself
def file(
    path: str | os.PathLike[str],
    key: str | None = None,
    header: bool | None = None,
) -> Dataset:
    """The matrix in a file: rows are samples, columns are features.

    Args:
      path: a file that ends in
        `.npy`: one array;
        `.npz`: what `numpy.savez` writes (its one 2-D array, or `key`), or
        `scipy.sparse.save_npz`;
        `.csv`, `.tsv`: numbers, with or without a header; a first column of text, or
        one under an empty header, contains the row names;
        `.parquet`: columns of numbers, the row names as in `.csv`;
        `.mtx`: Matrix Market, sparse or dense.
        Pickled data are never loaded.
      key: the name of the array in an `.npz`.
      header: whether the first line of a `.csv` or `.tsv` names the columns. With
        None it does if it has text after its first cell, or in its first cell above a
        column of numbers, or if its first cell is empty.

    Returns:
      The data set, named after the file. Sparse formats stay sparse.

    Raises:
      ValueError: the file does not exist, cannot be read, or does not contain one 2-D
        numeric array.
    """
    from jaxnmf.files.matrices import read_matrix

    V, names = read_matrix(path, key, header)
    return FILE.dataset(as_float(V), name=Path(path).stem, source=str(path), **names)
