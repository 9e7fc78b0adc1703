"""Whole calls against a float64 reference; `long.py` searches on."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from search.calls import Call, calls, check


@pytest.mark.slow
def test_a_call_is_refused_or_true():
    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(calls())
    def search(call: Call) -> None:
        check(call)

    search()
