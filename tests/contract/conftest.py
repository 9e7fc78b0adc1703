"""The order of the contract: all tests of one case before those of the next.

Tests of a case share compiled programs. So ordered, they are in one worker when the
suite is shared out over processes, and none is compiled twice.
"""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = [i for i, item in enumerate(items) if _case(item)]
    ordered = sorted((items[i] for i in places), key=_case)
    for i, item in zip(places, ordered, strict=True):
        items[i] = item


def _case(item: pytest.Item) -> str:
    """The solver and loss that a test is about, "" for another kind of test."""
    given = getattr(item, "callspec", None)
    return "" if given is None else str(given.params.get("case", ""))
