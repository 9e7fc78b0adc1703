"""Folders of 10x Genomics: matrix.mtx, features.tsv (or genes.tsv), barcodes.tsv, each
of them perhaps compressed. Cells are the rows of V."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxnmf.files.labelled import ContentError, LabelledMatrix
from jaxnmf.files.market import read_market

MATRIX = ("matrix.mtx.gz", "matrix.mtx")
FEATURES = ("features.tsv.gz", "features.tsv", "genes.tsv.gz", "genes.tsv")
BARCODES = ("barcodes.tsv.gz", "barcodes.tsv")


def is_ten_x(folder: Path) -> bool:
    """Whether a folder has the matrix that 10x writes."""
    return any((folder / name).is_file() for name in MATRIX)


def read_ten_x(folder: Path) -> LabelledMatrix:
    """Read a folder: cells × features, sparse.

    Raises:
      ContentError: a file is missing, or they do not fit together.
    """
    from scipy.sparse import csr_array

    matrix, features, barcodes = (
        _one_of(folder, names) for names in (MATRIX, FEATURES, BARCODES)
    )
    V: Any = csr_array(csr_array(read_market(matrix)).T)
    rows = [line[0] for line in _lines(barcodes)]
    lines = _lines(features)
    ids = [line[0] for line in lines]
    names = unique([line[1] if len(line) > 1 else line[0] for line in lines], ids)
    for place, found, size in ((barcodes, rows, 0), (features, names, 1)):
        if len(found) != V.shape[size]:
            raise ContentError(
                f"has {len(found)} lines in {place.name} for the {V.shape[size]} of "
                f"{matrix.name}; expected one for each"
            )
    return LabelledMatrix(V, tuple(rows), names)


def unique(names: Sequence[str], ids: Sequence[str]) -> tuple[str, ...]:
    """The names of genes, the id added to those that several genes have."""
    count = Counter(names)
    pairs = zip(names, ids, strict=True)
    return tuple(x if count[x] == 1 else f"{x} ({given})" for x, given in pairs)


def _one_of(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ContentError(f"is a folder without {' or '.join(names)}")


def _lines(place: Path) -> list[list[str]]:
    opened = gzip.open if place.suffix == ".gz" else open
    with opened(place, "rt", encoding="utf-8") as lines:
        return [line.rstrip("\r\n").split("\t") for line in lines if line.strip()]
