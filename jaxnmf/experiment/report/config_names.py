"""Names for configs by which they are distinguished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def config_names(
    parts: Sequence[Mapping[str, Any]], but: Sequence[str] = ()
) -> list[str]:
    """A name for each config of one group: its own, and the options that differ, except
    ``but``.

    >>> config_names([{"name": "a", "x": 1, "y": 2}, {"name": "a", "x": 1, "y": 3}])
    ['a, y 2', 'a, y 3']
    """
    found: dict[tuple[str, str], set[str]] = {}
    for part in parts:
        for key, value in part.items():
            found.setdefault((part["name"], key), set()).add(str(value))
    return [
        ", ".join(
            [
                str(part["name"]),
                *(
                    f"{key} {value}"
                    for key, value in part.items()
                    if len(found[part["name"], key]) > 1 and key not in but
                ),
            ]
        )
        for part in parts
    ]
