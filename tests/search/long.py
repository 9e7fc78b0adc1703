"""The long search: calls drawn for so many seconds; a failure does not end it.

PYTHONPATH=.:tests:tests/contract python tests/search/long.py 3600 [first seed]
"""

from __future__ import annotations

import collections
import sys
import time

from hypothesis import HealthCheck, given, seed, settings
from search.calls import Call, calls, check

EXAMPLES = 60


def main(seconds: float, first: int = 0) -> None:
    begin, done = time.monotonic(), 0
    ends: collections.Counter[str] = collections.Counter()
    failures: dict[str, str] = {}
    while time.monotonic() - begin < seconds:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        )
        @seed(first)
        @given(calls())
        def search(call: Call) -> None:
            nonlocal done
            done += 1
            try:
                ends[check(call)] += 1
            except Exception as error:
                words = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
                key = f"{call.solver} {call.loss} {call.kind} {words[:40]}"
                if key not in failures:
                    failures[key] = f"{words}\n    {call}"
                    print(f"FOUND {failures[key]}", flush=True)

        search()
        first += 1
    print(f"{done} calls, {len(failures)} kinds of failure")
    for end, count in ends.most_common():
        print(f"{count:6} {end}")


if __name__ == "__main__":
    main(float(sys.argv[1]), *map(int, sys.argv[2:]))
