"""Blocks of rows, for sums over arrays that are not formed at once."""

from __future__ import annotations

from collections.abc import Iterator


def row_blocks(rows: int, columns: int, entries: int) -> Iterator[slice]:
    """Slices that cover the rows, each of at most ``entries`` entries or of one row."""
    step = max(1, entries // max(1, columns))
    return (slice(start, start + step) for start in range(0, rows, step))
