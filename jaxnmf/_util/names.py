"""Lookup by name, with a suggestion for a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def check_free(kind: str, name: str, new: Any, known: Mapping[str, Any]) -> None:
    """Raise a ValueError if a name is taken.

    Defining the same class or function again, as in a notebook, is allowed.
    """
    taken = known.get(name)
    if taken is not None and taken.__qualname__ != getattr(new, "__qualname__", None):
        raise ValueError(f"{kind} name {name!r} is taken by {taken.__qualname__}")


def lookup(kind: str, name: str, known: Mapping[str, T]) -> T:
    """known[name], or a ValueError that suggests the nearest name and lists all."""
    if name not in known:
        raise ValueError(
            f"{kind} {name!r} is not known{suggestion(name, known)}; choose from: "
            + ", ".join(sorted(known))
        )
    return known[name]


def suggestion(name: str, known: Iterable[str]) -> str:
    """The nearest known name, as part of a message, or nothing."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
