"""Ratings from a file of the user's own."""

import os
from pathlib import Path
from typing import no_type_check

from jaxnmf.data.observed import Observed
from jaxnmf.datasets.base import Card, Dataset

RATINGS = Card(
    name="ratings",
    shape=None,
    kind="ratings",
    about="your own ratings: a table with a row for each user, item and rating",
    source="",
    licence="your own",
)
_SUFFIXES = (".csv", ".tsv", ".txt", ".dat", ".data", ".parquet")


@no_type_check  # it checks its settings itself
def ratings(
    path: str | os.PathLike[str],
    user: str | int | None = None,
    item: str | int | None = None,
    rating: str | int | None = None,
    repeated: str = "refuse",
    separator: str | None = None,
    decimal: str | None = None,
    header: bool | None = None,
    encoding: str | None = None,
) -> Dataset:
    """Ratings of items (columns) by users (rows); entries without one are unknown.

    Args:
      path: a `.csv`, `.tsv`, `.txt`, `.dat`, `.data` or `.parquet` with a row for each
        rating; other columns, such as times, are not read.
      user, item, rating: the columns, by name or number from 0. By default those with a
        usual name (userId, movieId, rating), or without a header the first three.
      repeated: what to do if a user has rated an item more than once: "refuse", "mean",
        or "last" to use the last one in the file.
      separator, decimal, header, encoding: as for the data set `file`; the separator
        may also be "::".

    Returns:
      The data set, named after the file. V is `jaxnmf.Observed`; ``row_names`` are the
      users and ``column_names`` the items, any identifiers, numbers in their order.

    Raises:
      ValueError: the file does not exist, is not a table of ratings, has more than
        one rating of an item by a user, or an option is out of its range.
    """
    from jaxnmf.files.labelled import ContentError
    from jaxnmf.files.options import TableOptions
    from jaxnmf.files.triplets import REPEATED, read_triplets

    expected = ", ".join(_SUFFIXES)
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"path: {path!r} is not a path; expected a file ({expected})")
    place = Path(path).expanduser()
    if not place.is_file():
        found = "is a folder" if place.is_dir() else "does not exist"
        raise ValueError(f"path: '{place}' {found}; expected a file ({expected})")
    if place.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"path: '{place}' does not end in {expected}")
    columns = {"user": user, "item": item, "rating": rating}
    for name, value in columns.items():
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, str | int)
        ):
            raise ValueError(f"{name}: {value!r} is not the name or number of a column")
    if repeated not in REPEATED:
        raise ValueError(f"repeated: {repeated!r} is none of {', '.join(REPEATED)}")
    options = TableOptions(
        separator=separator, decimal=decimal, header=header, encoding=encoding
    )
    try:
        found = read_triplets(place, columns, options, repeated)
    except ContentError as error:
        raise ValueError(f"path: '{place}' {error}") from None
    shape = len(found.users), len(found.items)
    return RATINGS.dataset(
        Observed(found.rows, found.cols, found.values, shape),
        name=place.stem,
        about=f"{len(found.values)} ratings of {shape[1]} items by {shape[0]} users",
        source=str(path),
        row_names=found.users,
        column_names=found.items,
        assumed=found.assumed,
        doubts=found.doubts,
    )
