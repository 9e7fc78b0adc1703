"""Cells of text tables: numbers, missing values, and what is neither."""

from __future__ import annotations

import re

MISSING = frozenset(
    {"", "na", "n/a", "#n/a", "#na", "#n/a n/a", "<na>", "null", "none"}
    | {"nan", "-nan", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"}
    | {"-", "--", "?", "."}
)
"""Cells that stand for a missing value, in lower case."""

DECIMALS = {".": ",", ",": "."}
"""The decimal signs, each with the other one."""

GROUPING = {",": ".", ".": ",", " ": ".", "'": "."}
"""The thousands separators, each with the decimal sign that goes with it."""

_EXPONENT = r"([eE][+-]?\d+)?"
_NUMBER = {
    sign: re.compile(
        rf"[+-]?(\d+({re.escape(sign)}\d*)?|{re.escape(sign)}\d+){_EXPONENT}"
        r"|[+-]?inf(inity)?",
        re.IGNORECASE | re.ASCII,
    )
    for sign in DECIMALS
}
_GROUPED = {
    mark: re.compile(
        rf"[+-]?[1-9]\d{{0,2}}({re.escape(mark)}\d{{3}})+"
        rf"({re.escape(sign)}\d*)?{_EXPONENT}",
        re.ASCII,
    )
    for mark, sign in GROUPING.items()
}
# What laboratories and spreadsheets write beside a number: "<0.1", "5 %", "3*".
_MARKS = re.compile(r"^[<>≤≥~≈=±*$€£(\s]+|[%*†‡)\s]+$")


def is_missing(cell: str) -> bool:
    """Whether a cell is empty or a usual mark of a missing value."""
    return cell.strip().lower() in MISSING


def is_number(cell: str, decimal: str = ".") -> bool:
    """Whether a cell is a number with that decimal sign, without thousands."""
    return _NUMBER[decimal].fullmatch(cell.strip()) is not None


def is_grouped(cell: str, thousands: str) -> bool:
    """Whether a cell is a number with that thousands separator in it."""
    return _GROUPED[thousands].fullmatch(cell.strip()) is not None


def is_nearly_number(cell: str) -> bool:
    """Whether a cell is a number but for its signs or a mark beside it, as "<0.1"."""
    core = _MARKS.sub("", cell.strip())
    return any(is_number(core, sign) for sign in DECIMALS) or any(
        is_grouped(core, mark) for mark in GROUPING
    )


def shape(cell: str) -> str:
    """A cell with each run of digits as one sign: "g12" and "g3" have the same."""
    return re.sub(r"\d+", "#", cell.strip())


def advice(cell: str, decimal: str) -> str:
    """The options with which a cell is a number, or what was expected instead."""
    other = DECIMALS[decimal]
    fits = []
    if is_number(cell, other):
        fits.append(f"decimal={other!r}")
    for mark, sign in GROUPING.items():
        if is_grouped(cell, mark):
            also = "" if sign == decimal or sign not in cell else f" decimal={sign!r}"
            fits.append(f"thousands={mark!r}{also}")
    if fits:
        return "set " + " or ".join(fits)
    return f"expected a number (set missing={cell!r} if it marks a missing value)"
