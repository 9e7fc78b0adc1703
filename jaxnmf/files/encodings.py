"""Encodings of text files."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def as_codec(encoding: Any) -> str:
    """The name of an encoding for Python, or a ValueError.

    UTF-8 is read with or without a byte order mark, which is not text.
    """
    try:
        name = codecs.lookup(encoding).name
        "".encode(name)  # codecs such as base64 are not of text
    except (LookupError, TypeError, ValueError):
        raise ValueError(
            f"encoding: {encoding!r} is unknown; expected a codec of Python, such as "
            "'utf-8' or 'latin-1'"
        ) from None
    return "utf-8-sig" if name == "utf-8" else name


def find_codec(place: Path) -> str:
    """The encoding that a file's byte order mark states, else UTF-8."""
    with place.open("rb") as opened:
        start = opened.read(4)
    for mark, name in _MARKS.items():
        if start.startswith(mark):
            return name
    return "utf-8-sig"


class EncodingError(ValueError):
    """A file has another encoding than the one it was read with."""


def not_encoded(place: Path, error: UnicodeError) -> EncodingError:
    """The error of a file that has another encoding."""
    if not isinstance(error, UnicodeDecodeError):
        return EncodingError(f"path: '{place}' cannot be decoded ({error})")
    with place.open("rb") as opened:
        start = opened.read(1024)
    likely = find_codec(place)
    if likely == "utf-8-sig":
        likely = "latin-1"
        if start.count(0) >= len(start) // 4:  # every second byte of Latin letters is 0
            likely = "utf-16-le" if start[1:2] == b"\0" else "utf-16-be"
    return EncodingError(
        f"path: '{place}' is not {error.encoding} ({error.reason} at byte "
        f"{error.start}); save the file as UTF-8, or set encoding to that of the file, "
        f"such as {likely!r}"
    )
