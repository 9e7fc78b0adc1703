"""Options of the reader of text tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxnmf.files.cells import DECIMALS, GROUPING
from jaxnmf.files.encodings import as_codec

_NAMES = {
    "comma": ",",
    "semicolon": ";",
    "tab": "\t",
    "\\t": "\t",
    "space": " ",
    "point": ".",
    "apostrophe": "'",
}
"""Characters by name, as some have a meaning in a shell or in Hydra's grammar."""


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How a text table is to be read; options that are None are detected.

    Attributes:
      separator: between cells: a character, its name ("comma", "semicolon", "tab"), or
        "space" for any run of spaces and tabs.
      decimal: "." or ",", or "point", "comma".
      thousands: the thousands separator, "," "." "'" or " ", or its name. Without it
        numbers such as "1,234" are refused.
      header: whether the first line names the columns.
      index: the column of the row names, by name or number from 0; False for none.
      encoding: of the file; None for UTF-8, or what its byte order mark states.
      missing: one or more spellings of a missing value, in addition to the usual
        ones ("", NA, n/a, NaN, null, None, "-", "?", "." and more).

    Raises:
      ValueError: names the option with an unexpected value.
    """

    separator: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    header: bool | None = None
    index: str | int | bool | None = None
    encoding: str | None = None
    missing: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        marks = {
            "separator": None,
            "decimal": DECIMALS,
            "thousands": GROUPING,
        }
        for name, known in marks.items():
            given = getattr(self, name)
            mark = _NAMES.get(given, given) if isinstance(given, str) else given
            if mark is not None and (
                not isinstance(mark, str)
                or (known is not None and mark not in known)
                or not re.fullmatch(r"[^\w\"\n\r]+", mark)
            ):
                fits = ", ".join(map(repr, known or [",", ";", "tab", "space"]))
                raise ValueError(f"{name}: {given!r} is none of {fits}")
            object.__setattr__(self, name, mark)
        for one, other in (("decimal", "separator"), ("thousands", "decimal")):
            if getattr(self, one) is not None and (
                getattr(self, one) == getattr(self, other)
            ):
                raise ValueError(f"{one}: {getattr(self, one)!r} is the {other} too")
        if self.header is not None and not isinstance(self.header, bool | np.bool_):
            raise ValueError(f"header: {self.header!r} is not True or False")
        number = isinstance(self.index, int | np.integer) and self.index is not True
        if self.index is not None and not (number or isinstance(self.index, str)):
            raise ValueError(
                f"index: {self.index!r} is none of the name of a column, its number "
                "from 0, or False for no index"
            )
        if self.encoding is not None:
            object.__setattr__(self, "encoding", as_codec(self.encoding))
        cells = self.missing
        if cells is None or isinstance(cells, str | int | float):
            cells = () if cells is None else (cells,)
        object.__setattr__(self, "missing", tuple(str(cell) for cell in cells))

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the options that are given."""
        return tuple(
            name for name, value in vars(self).items() if value not in (None, ())
        )
