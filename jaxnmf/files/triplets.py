"""The reader of ratings: tables with a row for each user, item and rating."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxnmf.files.cells import advice, is_missing, is_nearly_number, is_number
from jaxnmf.files.encodings import find_codec, not_encoded
from jaxnmf.files.labelled import ContentError
from jaxnmf.files.layout import SPACES, find_decimal, find_separator, split_rows
from jaxnmf.files.options import TableOptions

SAMPLE = 100
ROLES = ("user", "item", "rating")
REPEATED = ("refuse", "mean", "last")
_USUAL = {
    "user": "user|users|reviewer|customer|account|person|reader|member|u",
    "item": "item|items|movie|film|product|book|isbn|artist|track|song|asin|business"
    "|anime|joke|article|show|game|recipe|i",
    "rating": "rating|ratings|score|scores|stars|value|plays|r",
}


@dataclass(frozen=True, eq=False)
class Triplets:
    """Ratings and what the reader assumed.

    Attributes:
      rows, cols: the user and the item of each rating, integers from 0.
      values: the ratings.
      users, items: the identifiers, numbers in their order, other ones sorted as text.
      assumed: the options with which the file was read, given or detected.
      doubts: sentences on which of these may be wrong.
    """

    rows: np.ndarray
    cols: np.ndarray
    values: np.ndarray
    users: tuple[str, ...]
    items: tuple[str, ...]
    assumed: Mapping[str, Any]
    doubts: tuple[str, ...] = ()


def look_like_ratings(names: Sequence[str]) -> bool:
    """Whether the names of columns are those of a table of ratings."""
    return len(names) <= 6 and None not in _usual_columns(names)


def read_triplets(
    place: Path,
    columns: Mapping[str, str | int | None],
    options: TableOptions,
    repeated: str = "refuse",
) -> Triplets:
    """Read a .csv, .tsv, .dat, .data, .txt or .parquet of ratings.

    Args:
      columns: the columns of ``user``, ``item`` and ``rating``, by name or number; None
        for the one with a usual name, or without a header the first three.
      options: separator, decimal, header and encoding.
      repeated: what to do if a user has rated an item more than once: "refuse", "mean",
        or "last" to use the last one in the file.

    Raises:
      ContentError: the file is not a table of ratings, or has repeated ones.
      ValueError: the file is of another encoding.
    """
    if place.suffix.lower() == ".parquet":
        frame, assumed = _parquet(place, columns)
    else:
        try:
            frame, assumed = _text(place, columns, options)
        except UnicodeError as error:
            raise not_encoded(place, error) from None
    values, doubts = _ratings(frame, assumed)
    known = ~np.isnan(values)
    rows, users = _numbered(frame["user"][known], "user")
    cols, items = _numbered(frame["item"][known], "item")
    rows, cols, values = _distinct(rows, cols, values[known], users, items, repeated)
    return Triplets(rows, cols, values, users, items, assumed, doubts)


def _parquet(place: Path, columns: Mapping[str, str | int | None]) -> tuple[Any, dict]:
    import pandas as pd

    frame = pd.read_parquet(place)
    names = list(map(str, frame.columns))
    found = _columns(names, names, columns)
    frame = frame.iloc[:, found].set_axis(list(ROLES), axis="columns")
    assumed = dict(zip(ROLES, (names[j] for j in found), strict=True))
    return frame.assign(rating=frame["rating"].astype(str)), assumed


def _text(
    place: Path, columns: Mapping[str, str | int | None], options: TableOptions
) -> tuple[Any, dict]:
    import pandas as pd

    codec = options.encoding or find_codec(place)
    with place.open(newline="", encoding=codec) as opened:
        lines = list(itertools.islice(opened, SAMPLE))
    separator = options.separator
    if separator is None:
        colons = bool(lines) and all("::" in line for line in lines if line.strip())
        usual = "," if place.suffix.lower() == ".csv" else "\t"
        separator = "::" if colons else find_separator(lines, usual)
    rows = split_rows(lines, separator)
    if not rows or len(rows[0]) < len(ROLES):
        raise ContentError(
            "has fewer than three columns; expected those of users, items and ratings"
        )
    named = options.header
    if named is None:
        names_given = [name for name in columns.values() if isinstance(name, str)]
        usual_names = None not in _usual_columns(rows[0])
        named = usual_names or bool(names_given)
        if not named:
            rating = columns["rating"]
            cell = rows[0][2 if rating is None else int(rating)]
            named = not (is_number(cell) or is_number(cell, ",") or is_missing(cell))
    first = rows[0]
    found = _columns(first if named else None, first, columns)
    decimal = options.decimal
    if decimal is None:
        cells = [row[found[2]] for row in rows[bool(named) :] if len(row) > found[2]]
        try:
            decimal = find_decimal([cells], None)
        except ValueError as error:
            raise ContentError(str(error)) from None
    spaces = r"\s+" if separator == SPACES else separator
    try:
        frame = pd.read_csv(
            place,
            sep=re.escape(separator) if len(separator) > 1 else spaces,
            engine="python" if len(separator) > 1 else "c",
            header=0 if named else None,
            names=list(range(len(first))),
            usecols=np.unique(found),
            index_col=False,
            dtype=str,
            keep_default_na=False,
            skipinitialspace=True,
            encoding=codec,
        )
    except pd.errors.ParserError as error:
        raise ContentError(f"has rows of other lengths ({error})") from None
    frame = frame[found].set_axis(list(ROLES), axis="columns")
    assumed = {
        "separator": separator,
        "decimal": decimal,
        "header": bool(named),
        "encoding": codec.removesuffix("-sig"),
        **{
            role: first[j] if named else j for role, j in zip(ROLES, found, strict=True)
        },
    }
    return frame, assumed


def _usual_columns(names: Sequence[str]) -> list[int | None]:
    """The columns with the usual names of users, items and ratings."""
    plain = [re.sub(r"[^a-z]", "", name.lower()) for name in names]
    plain = [name.removesuffix("id") or name for name in plain]
    found: list[int | None] = []
    for role in ROLES:
        fits = [j for j, name in enumerate(plain) if re.fullmatch(_USUAL[role], name)]
        found.append(fits[0] if fits else None)
    return found


def _columns(
    names: Sequence[str] | None,
    first: Sequence[str],
    columns: Mapping[str, str | int | None],
) -> list[int]:
    """The columns of users, items and ratings."""
    usual: Sequence[int | None] = range(3) if names is None else _usual_columns(names)
    found = []
    for role, usually in zip(ROLES, usual, strict=True):
        given = columns[role]
        there = ", ".join(names or ()) or f"0 to {len(first) - 1}, without a header"
        if given is None and usually is None:
            raise ContentError(
                f"has no column with a usual name of a {role}: set {role}=…; its "
                f"columns: {there}"
            )
        j = usually if given is None else given
        if isinstance(j, str):
            if j not in (names or ()):
                raise ContentError(f"has no column {j!r}; its columns: {there}")
            j = list(names or ()).index(j)
        if not 0 <= int(j or 0) < len(first):
            raise ContentError(f"has no column {j}; its columns: {there}")
        found.append(int(j or 0))
    if len(set(found)) < len(found):
        raise ContentError(
            "needs three different columns for user, item and rating; found "
            + ", ".join(f"{role}={j}" for role, j in zip(ROLES, found, strict=True))
        )
    return found


def _ratings(frame: Any, assumed: Mapping[str, Any]) -> tuple[np.ndarray, tuple]:
    """The ratings, NaN where one is missing."""
    from pandas import to_numeric

    decimal = assumed.get("decimal", ".")
    text = frame["rating"].fillna("").str.strip()
    plain: Any = text
    if decimal == ",":
        points = text.str.contains(".", regex=False)
        plain = text.str.replace(",", ".", regex=False).mask(points, "")
    values: Any = np.asarray(to_numeric(plain, errors="coerce"), np.float64)
    unread = np.flatnonzero(np.isnan(values))
    wrong = [i for i in unread if not is_missing(text.iloc[i])]
    if wrong:
        cell = text.iloc[wrong[0]]
        raise ContentError(
            f"has text among the ratings: {cell!r} in row {wrong[0] + 1}; "
            + (advice(cell, decimal) if is_nearly_number(cell) else "expected a number")
        )
    if len(unread) == len(values):
        raise ContentError("has no rating; expected a row for each user and item")
    single = values.astype(np.float32)
    if np.array_equal(single, values, equal_nan=True):
        values = single
    if not len(unread):
        return values, ()
    rows = "1 row" if len(unread) == 1 else f"{len(unread)} rows"
    return values, (f"{rows} without a rating left out",)


def _numbered(ids: Any, role: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """(the number of each identifier, the identifiers in order)."""
    from pandas import factorize

    blank = ids.isna() | (ids.astype(str).str.strip() == "")
    if blank.any():
        row = int(ids.index[np.flatnonzero(blank)[0]]) + 1
        raise ContentError(f"has no {role} in row {row}; expected an identifier")
    codes, found = factorize(ids.astype(str).str.strip())
    names = [str(name) for name in found]
    whole = all(re.fullmatch(r"0|[1-9]\d*", name) for name in names)
    order = sorted(
        range(len(names)), key=lambda k: int(names[k]) if whole else names[k]
    )
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    return place[codes], tuple(names[k] for k in order)


def _distinct(
    rows: np.ndarray,
    cols: np.ndarray,
    values: np.ndarray,
    users: Sequence[str],
    items: Sequence[str],
    repeated: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One rating for each user and item."""
    entry = rows * len(items) + cols
    found: Any = np.unique(
        entry, return_index=True, return_inverse=True, return_counts=True
    )
    different, first, of, counts = found
    if len(different) == len(entry):
        return rows, cols, values
    if repeated == "refuse":
        at = first[np.argmax(counts > 1)]
        raise ContentError(
            f"has {len(entry) - len(different)} repeated ratings, such as of item "
            f"{items[int(cols[at])]!r} by user {users[int(rows[at])]!r}: set "
            "repeated='mean' or 'last'"
        )
    if repeated == "mean":
        kept = first
        chosen = np.bincount(of, values) / counts
        chosen = chosen.astype(values.dtype)
    else:
        last: Any = np.unique(entry[::-1], return_index=True)[1]
        kept = len(entry) - 1 - last
        chosen = values[kept]
    return rows[kept], cols[kept], chosen
