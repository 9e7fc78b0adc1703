"""How a text table is laid out, found from its first lines.

What cannot be decided is a `ValueError` that names the option to set; what is decided
by custom alone is added to the doubts.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

from jaxnmf.files.cells import (
    DECIMALS,
    GROUPING,
    is_grouped,
    is_missing,
    is_nearly_number,
    is_number,
    shape,
)

Rows = Sequence[Sequence[str]]

SPACES = " "
"""The separator that is any run of spaces and tabs."""
CANDIDATES = (",", ";", "\t", "|")
IDS = re.compile(r"(.*[\W_])?(id|ids|idx|index|no|nr|num|number|row|key|code)", re.I)


class Layout(NamedTuple):
    """How a table is laid out.

    Attributes:
      separator: between cells; `SPACES` for runs of spaces and tabs.
      decimal: "." or ",".
      header: the cells of the first line if they name the columns, else None.
      width: the cells of a row of numbers.
      index: the column of row names, or None.
      doubts: sentences on what may be wrong.
    """

    separator: str
    decimal: str
    header: tuple[str, ...] | None
    width: int
    index: int | None
    doubts: tuple[str, ...]


def split_rows(lines: Sequence[str], separator: str) -> list[list[str]]:
    """The cells of each line that is not blank."""
    if separator == SPACES or len(separator) > 1:
        by = None if separator == SPACES else separator
        rows = [line.strip("\r\n").split(by) for line in lines]
        rows = [[cell.strip().strip('"') for cell in row] for row in rows]
    else:
        reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
        rows = [[cell.strip() for cell in row] for row in reader]
    return [row for row in rows if row and row != [""]]


def find_layout(
    lines: Sequence[str],
    *,
    separator: str | None,
    usual: str,
    decimal: str | None,
    thousands: str | None,
    header: bool | None,
    index: str | int | bool | None,
    missing: Sequence[str],
) -> Layout:
    """The layout of a table, from its first lines and the options that are given.

    Args:
      lines: the first lines of the file.
      usual: the separator of the file's suffix, preferred among equals.
      separator, decimal, thousands, header, index, missing: as `TableOptions` has them.

    Raises:
      ValueError: for what cannot be decided, or an index that is not there.
    """
    doubts: list[str] = []
    if separator is None:
        separator = find_separator(lines, usual)
    rows = split_rows(lines, separator)
    if not rows:
        raise ValueError("has no line of text; expected a table of numbers")
    if decimal is None:
        decimal = find_decimal(rows, thousands)

    def kind(cell: str) -> str:
        """What a cell is."""
        if is_missing(cell) or cell in missing:
            return "missing"
        if is_number(cell, decimal) or cell.lower() in ("true", "false"):
            return "number"
        if thousands is not None and is_grouped(cell, thousands):
            return "number"
        return "text"

    kinds = [[kind(cell) for cell in row] for row in rows]
    if header is None:
        named = isinstance(index, str) and index in rows[0]
        header = named or _is_header(rows, kinds, doubts)
    below, kinds = (rows[1:], kinds[1:]) if header else (rows, kinds)
    width = max((len(row) for row in below), default=len(rows[0]))
    names = _names(rows[0], below, kinds, width, separator) if header else None
    index = _find_index(index, names, below, kinds, doubts)
    return Layout(separator, decimal, names, width, index, tuple(doubts))


# --- separator and decimal sign ------------------------------------------------------


def find_separator(lines: Sequence[str], usual: str) -> str:
    """The separator with which all rows have one width and most cells are numbers."""
    best, found = (0.0, 0.0), usual
    for candidate in (usual, *(c for c in CANDIDATES if c != usual), SPACES):
        rows = split_rows(lines, candidate)
        widths = {len(row) for row in rows[1:]} or {len(row) for row in rows}
        if len(widths) != 1 or not rows:
            continue
        (width,) = widths
        # R leaves out the name over the names of the rows.
        if width == 1 or len(rows[0]) not in (width, width - 1):
            continue
        cells = [cell for row in rows[1:] or rows for cell in row]
        numbers = max(
            sum(is_number(cell, sign) or is_missing(cell) for cell in cells)
            for sign in DECIMALS
        )
        score = (numbers / len(cells), float(len(rows[0]) == width))
        if score > best or (candidate == usual and not best[0]):
            best, found = score, candidate
        if best == (1.0, 1.0):
            break
    return found


def find_decimal(rows: Rows, thousands: str | None) -> str:
    """The decimal sign, from cells that can be read in one way alone."""
    cells = [cell for row in rows for cell in row]
    commas = [x for x in cells if "," in x and is_number(x, ",")]
    if thousands is not None:
        return GROUPING[thousands]
    if not commas:
        return "."
    plain = [x for x in cells if "," not in x and "." in x and is_number(x)]
    sure = [x for x in commas if not is_grouped(x, ",")]
    if sure and not plain:
        return ","
    if not plain:
        raise ValueError(
            f"has numbers such as {commas[0]!r}, which may be one or a thousand times "
            "that: set decimal=',' or thousands=','"
        )
    return "."  # the commas are refused where they are


# --- header --------------------------------------------------------------------------


def _is_header(rows: Rows, kinds: Rows, doubts: list[str]) -> bool:
    """Whether the first line names the columns."""
    first, of_first, below = rows[0], kinds[0], rows[1:]
    texts = [j for j, kind in enumerate(of_first) if kind == "text"]
    if not below:
        return len(first) == len(texts)
    if len(below[0]) == len(first) + 1:
        return True
    if not texts:
        return first[0] == "" and len(first) > 1 and _is_plain_index(rows, kinds)
    if all(is_nearly_number(first[j]) for j in texts):
        return False  # refused as numbers, each by its place
    if texts == [0]:
        return _is_corner(rows, kinds, doubts)
    numbers = [j for j, kind in enumerate(of_first) if kind == "number"]
    # Names of columns may be followed by years or wavelengths.
    leading = not numbers or max(texts) < min(numbers)
    if leading and _distinct([first[j] for j in numbers]):
        return True
    raise ValueError(
        f"has numbers and text in its first line ({_start(first)}), which may be a "
        "header or a row: set header=true or header=false"
    )


def _is_plain_index(rows: Rows, kinds: Rows) -> bool:
    """Whether numbers after an empty cell are a header as pandas writes it, over row
    names or a count of the rows."""
    names = rows[0][1:]
    if not _distinct(names):
        return False
    if any(row[0] == "text" for row in kinds[1:]):
        return True
    return _counts([row[0] for row in rows[1:]]) and _ordered(names)


def _is_corner(rows: Rows, kinds: Rows, doubts: list[str]) -> bool:
    """Whether text in the first cell, with numbers after it, begins a header."""
    first, column = rows[0], [row[0] for row in rows[1:]]
    of_column = [row[0] for row in kinds[1:]]
    if len(first) == 1:
        return "text" not in of_column
    numbers = first[1:]
    if "text" not in of_column:
        if _ordered(numbers):
            doubts.append(_as_header(first))
            return True
        raise ValueError(
            f"has text in its first cell, {first[0]!r}, and numbers beside and below "
            "it, so that the first line may be a header or a row: set header=true or "
            "header=false"
        )
    like_a_name = "#" in shape(first[0]) and shape(first[0]) in map(shape, column)
    if like_a_name or first[0] in column or not _distinct(numbers):
        return False
    doubts.append(_as_header(first))
    return True


def _names(
    first: Sequence[str], below: Rows, kinds: Rows, width: int, separator: str
) -> tuple[str, ...]:
    """The names in the header, one for each cell of a row."""
    if len(first) + 1 == width:
        if width == 2 and kinds[0][0] == "number":
            raise ValueError(
                f"has one name, {first[0]!r}, over rows of two cells such as "
                f"{separator.join(below[0])!r}: set separator=';' decimal=',' if a row "
                "is one number, or header=false if the first line is a row"
            )
        # As R writes a table, without a name over the names of the rows; or each row
        # ends in a separator.
        ends = all(len(row) == width and row[-1] == "" for row in below)
        return (*first, "") if ends else ("", *first)
    if len(first) > width and not any(first[width:]):
        return tuple(first[:width])
    if len(first) != width:
        raise ValueError(
            f"names {len(first)} columns ({_start(first)}) over rows of up to {width} "
            "cells; expected one name for each cell"
        )
    return tuple(first)


# --- index ---------------------------------------------------------------------------


def _find_index(
    index: str | int | bool | None,
    header: Sequence[str] | None,
    rows: Rows,
    kinds: Rows,
    doubts: list[str],
) -> int | None:
    """The column of row names, or None."""
    width = max((len(row) for row in rows), default=len(header or ()))
    if index is False:
        return None
    if isinstance(index, str):
        names = list(header or ())
        if names.count(index) != 1:
            there = ", ".join(names[:10]) or "none, for it has no header"
            raise ValueError(
                f"has {names.count(index)} columns named {index!r}, given as "
                f"index; its columns: {there}"
            )
        return names.index(index)
    if index is not None:
        if not 0 <= index < width:
            raise ValueError(f"has columns 0 to {width - 1}; index={index} is none")
        return int(index)
    if not rows or width < 1:
        return None
    column = [row[0] for row in rows]
    texts = [
        cell
        for cell, (kind, *_) in zip(column, kinds, strict=True)
        if kind == "text" and not is_nearly_number(cell)
    ]
    numbers = len(column) - len(texts) - sum(kind == "missing" for kind, *_ in kinds)
    # Mostly numbers are data, and so is what repeats among numbers, such as "n.d.".
    if texts and (not numbers or (len(texts) > numbers and _distinct(column))):
        return 0
    if header is not None and header[0] == "" and width > 1:
        return 0
    if width > 1 and not texts and _looks_like_ids(header, column):
        name = repr(header[0]) if header else "0"
        what = "counts the rows" if _counts(column) else "looks like names of rows"
        by = header[0] if header else 0
        doubts.append(
            f"column {name} {what} ({', '.join(column[:3])}, …) and was read as data; "
            f"set index={by} if it contains the row names"
        )
    return None


def _looks_like_ids(header: Sequence[str] | None, column: Sequence[str]) -> bool:
    whole = all(re.fullmatch(r"\d+", cell) for cell in column)
    if not whole or len(column) < 3 or not _distinct(column):
        return False
    padded = any(re.fullmatch(r"0\d+", cell) for cell in column)
    named = header is not None and IDS.fullmatch(header[0]) is not None
    return padded or named or _counts(column)


# --- helpers -------------------------------------------------------------------------


def _counts(column: Sequence[str]) -> bool:
    """Whether a column is 0, 1, 2, … or 1, 2, 3, …."""
    return column in (
        [str(i) for i in range(len(column))],
        [str(i) for i in range(1, len(column) + 1)],
    )


def _distinct(cells: Sequence[str]) -> bool:
    return len(set(cells)) == len(cells) and not any(map(is_missing, cells))


def _ordered(cells: Sequence[str]) -> bool:
    """Whether the cells are numbers that rise or fall, as years and wavelengths do."""
    try:
        numbers = [float(cell.replace(",", ".")) for cell in cells]
    except ValueError:
        return False
    pairs = list(itertools.pairwise(numbers))
    return all(a < b for a, b in pairs) or all(a > b for a, b in pairs)


def _as_header(first: Sequence[str]) -> str:
    return (
        f"the first line ({_start(first)}) was read as a header; set header=false if "
        "it is a row"
    )


def _start(cells: Sequence[str]) -> str:
    return ", ".join(cells[:4]) + (", …" if len(cells) > 4 else "")
