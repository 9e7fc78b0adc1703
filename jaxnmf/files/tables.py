"""The reader of text tables: .csv and .tsv.

Separator, decimal sign, header, index and missing values are given or detected, and
recorded in `LabelledMatrix.assumed` and ``doubts``. A table that can be read in two
ways is refused, with the option to set.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnmf.files.cells import (
    MISSING,
    advice,
    is_grouped,
    is_nearly_number,
    is_number,
)
from jaxnmf.files.encodings import find_codec, not_encoded
from jaxnmf.files.frames import numbers_of
from jaxnmf.files.labelled import ContentError, LabelledMatrix, count_missing
from jaxnmf.files.layout import SPACES, Layout, find_layout, split_rows
from jaxnmf.files.options import TableOptions
from jaxnmf.files.triplets import look_like_ratings

SAMPLE = 200
CHARACTERS = 200_000
"""The lines from which the layout is found, fewer of them in a wide table; every line
is checked against it."""


def read_table(place: Path, options: TableOptions) -> LabelledMatrix:
    """Read a text table of numbers, with or without names of rows and columns.

    Raises:
      ContentError: the table is not one of numbers, or what it is cannot be decided.
      ValueError: the file is of another encoding.
    """
    codec = options.encoding or find_codec(place)
    usual = "\t" if place.suffix.lower() == ".tsv" else ","
    try:
        with place.open(newline="", encoding=codec) as lines:
            sample = _sample(lines)
        if any("\0" in line for line in sample):
            raise ContentError(
                "contains zero bytes: it is not text, or it is in UTF-16 (set "
                "encoding='utf-16-le')"
            )
        layout = find_layout(
            sample,
            separator=options.separator,
            usual=usual,
            decimal=options.decimal,
            thousands=options.thousands,
            header=options.header,
            index=options.index,
            missing=options.missing or (),
        )
        frame = _frame(place, codec, layout, options)
        row_names = _row_names(frame, place, codec, layout)
        numbers = _numbers(frame, place, codec, layout, options)
    except UnicodeError as error:
        raise not_encoded(place, error) from None
    except ValueError as error:
        raise ContentError(str(error)) from None
    if not numbers.shape[1]:
        raise ContentError("has no column of numbers; expected a table of numbers")
    V = numbers_of(numbers)
    index, header = layout.index, layout.header
    return LabelledMatrix(
        V,
        row_names,
        None if header is None else tuple(header[j] for j in numbers.columns),
        {
            "separator": layout.separator,
            "decimal": layout.decimal,
            "thousands": options.thousands,
            "header": header is not None,
            "index": index if header is None or index is None else header[index],
            "encoding": codec.removesuffix("-sig"),
            "missing": count_missing(V),
        },
        layout.doubts,
    )


def _sample(lines: Iterable[str]) -> list[str]:
    """The first lines, at least three of them."""
    found, characters = [], 0
    for line in itertools.islice(lines, SAMPLE):
        found.append(line)
        characters += len(line)
        if characters > CHARACTERS and len(found) > 2:
            break
    return found


def _frame(place: Path, codec: str, layout: Layout, options: TableOptions) -> Any:
    """The table as pandas reads it, its columns numbered."""
    import pandas as pd

    by = layout.separator
    how: dict[str, Any] = {
        "sep": r"\s+" if by == SPACES else re.escape(by) if len(by) > 1 else by,
        "engine": "python" if len(by) > 1 else "c",
    }
    if how["engine"] == "c":
        how["low_memory"] = False
    try:
        frame = pd.read_csv(
            place,
            header=None if layout.header is None else 0,
            names=list(range(layout.width)),
            index_col=False,
            decimal=layout.decimal,
            # Names are text: "007" is a name like others.
            dtype={} if layout.index is None else {layout.index: str},
            keep_default_na=False,
            na_values=[*_spellings(MISSING), *(options.missing or ())],
            skipinitialspace=True,
            encoding=codec,
            **how,
        )
    except pd.errors.ParserError as error:
        ragged = re.search(
            r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error)
        )
        if ragged is None:
            raise
        raise ValueError(
            f"has {ragged[3]} cells in line {ragged[2]} and {ragged[1]} in those "
            f"before it, with the separator {by!r}; expected rows of equal length"
        ) from None
    if frame.empty:
        raise ValueError("has no row of numbers; expected a table of numbers")
    if frame.iloc[:, -1].isna().any():
        _check_widths(place, codec, layout)
    return frame


def _check_widths(place: Path, codec: str, layout: Layout) -> None:
    """Raise a ValueError for a row that is too short, which pandas pads."""
    for number, row in _rows(place, codec, layout):
        if len(row) != layout.width:
            cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
            raise ValueError(
                f"has {cells} in line {number} and {layout.width} in others, with the "
                f"separator {layout.separator!r}; expected rows of equal length"
            )


def _numbers(
    frame: Any, place: Path, codec: str, layout: Layout, options: TableOptions
) -> Any:
    """The columns of numbers, those of text converted.

    Raises:
      ValueError: names the first cell that is no number, by row, line and column.
    """
    from pandas.api.types import is_numeric_dtype

    kinds = zip(frame.columns, frame.dtypes, strict=True)
    text = [j for j, kind in kinds if not is_numeric_dtype(kind) and j != layout.index]
    converted = {}
    for j in text:
        values = frame[j]
        numbers = _converted(values, layout, options.thousands)
        wrong = np.flatnonzero(values.notna() & numbers.isna())
        if len(wrong):
            raise ValueError(_not_a_number(place, codec, layout, j, values, wrong))
        converted[j] = numbers
    left_out = [] if layout.index is None else [layout.index]
    if _is_unused(frame, layout):
        left_out.append(layout.width - 1)
    for j, numbers in converted.items():
        frame[j] = numbers
    return frame.drop(columns=left_out) if left_out else frame


def _converted(values: Any, layout: Layout, thousands: str | None) -> Any:
    """A column of text as numbers, NaN where it is none."""
    from pandas import to_numeric

    text = values.astype("string").str.strip()
    if thousands is not None:
        grouped = text.map(lambda cell: is_grouped(cell, thousands), na_action="ignore")
        whole = text.str.replace(thousands, "", regex=False)
        text = whole.where(grouped.fillna(False).astype(bool), text)
    plain = text.map(lambda cell: is_number(cell, layout.decimal), na_action="ignore")
    text = text.where(plain.fillna(False).astype(bool))
    if layout.decimal != ".":
        text = text.str.replace(layout.decimal, ".", regex=False)
    return to_numeric(text.astype(object), errors="coerce")


def _is_unused(frame: Any, layout: Layout) -> bool:
    """Whether the last column only follows a separator at the end of each line."""
    named = layout.header is not None and layout.header[-1] == ""
    return named and layout.width > 1 and bool(frame.iloc[:, -1].isna().all())


def _not_a_number(
    place: Path,
    codec: str,
    layout: Layout,
    j: int,
    values: Any,
    wrong: np.ndarray,
) -> str:
    """The message for a column that contains more than numbers."""
    row, cell = int(wrong[0]), str(values.iloc[wrong[0]])
    line = next(itertools.islice(_rows(place, codec, layout), row, None), (None,))[0]
    name = repr(layout.header[j]) if layout.header else str(j)
    said = f"has text in column {name}: {cell!r} in row {row + 1} (line {line})"
    if len(wrong) > 1:
        said += f" and text in {len(wrong) - 1} more of its {len(values)} rows"
    if look_like_ratings(layout.header or ()):
        return f"{said}; dataset=ratings reads a row for each user, item and rating"
    if is_nearly_number(cell):
        return f"{said}; {advice(cell, layout.decimal)}"
    if len(wrong) == int(values.notna().sum()):
        said += "; expected numbers, and one column of row names at most"
    else:
        said += f"; {advice(cell, layout.decimal)}"
    if j == 0 and layout.index is None:
        by = layout.header[j] if layout.header else 0
        said += f" (set index={by} if the column contains row names)"
    return said


def _rows(place: Path, codec: str, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """The lines of the data, numbered from 1 as an editor does, and their cells."""
    header = layout.header is not None
    with place.open(newline="", encoding=codec) as lines:
        if layout.separator == SPACES or len(layout.separator) > 1:
            parts = (
                (i, split_rows([x], layout.separator)) for i, x in enumerate(lines)
            )
            found = ((i + 1, rows[0]) for i, rows in parts if rows)
        else:
            found = _read_csv(lines, layout.separator)
        yield from itertools.islice(found, int(header), None)


def _read_csv(lines: Any, separator: str) -> Iterator[tuple[int, list[str]]]:
    import csv

    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    for row in reader:
        if row:
            yield reader.line_num, row


def _row_names(
    frame: Any, place: Path, codec: str, layout: Layout
) -> tuple[str, ...] | None:
    if layout.index is None:
        return None
    names = frame[layout.index]
    if not names.isna().any():
        return tuple(map(str, names))
    # "NA" is a name like others.
    rows = _rows(place, codec, layout)
    return tuple(row[layout.index].strip() for _, row in rows)


def _spellings(cells: Sequence[str] | frozenset[str]) -> list[str]:
    """Each cell in lower, upper and mixed case."""
    found = {"NaN", "-NaN", "N/a"}
    for cell in cells:
        found |= {cell, cell.upper(), cell.title(), cell.capitalize()}
    return sorted(found)
