"""The order of the contract, and which part of it is slow.

All tests of one case run before those of the next, since they share compiled programs:
so ordered, they are in one worker when the suite is shared out over processes, and none
is compiled twice.

The fast tests hold a few solvers of different kinds to the contract, each with its
first loss. All tests hold every solver to it with each of its losses, as does
`pytest tests/contract -k NAME` a single one.
"""

from __future__ import annotations

from typing import Any

import cases
import pytest

FAST = {"extrapolated", "hals", "kl-newton", "msom", "mu", "pgd"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = [i for i, item in enumerate(items) if _case(item) is not None]
    ordered = sorted((items[i] for i in places), key=lambda item: str(_case(item)))
    for i, item in zip(places, ordered, strict=True):
        items[i] = item
        case = _case(item)
        if case not in cases.FIRST_CASES or case.solver not in FAST:
            item.add_marker(pytest.mark.slow)


def _case(item: pytest.Item) -> Any:
    """The solver and loss that a test is about, None for another kind of test."""
    return getattr(getattr(item, "callspec", None), "params", {}).get("case")
