"""Names: lookup with a suggestion, and names that are taken."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def check_free(kind: str, name: str, new: Any, known: Mapping[str, Any]) -> None:
    """Refuse a name that is taken, but by what is defined anew, as in a notebook."""
    taken = known.get(name)
    if taken is not None and taken.__qualname__ != getattr(new, "__qualname__", None):
        raise ValueError(f"{kind} name {name!r} is taken by {taken.__qualname__}")


def lookup(kind: str, name: str, known: Mapping[str, T]) -> T:
    """known[name], or a ValueError with the nearest name and all there are."""
    if name not in known:
        raise ValueError(
            f"{kind} {name!r} is not known{suggestion(name, known)}; there are: "
            + ", ".join(sorted(known))
        )
    return known[name]


def suggestion(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
