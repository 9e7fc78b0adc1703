"""Traces as arrays: what of a run's way the numbers of a comparison need."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

FIELDS = ("iteration", "seconds", "error", "kkt")


class Records(NamedTuple):
    """The records of one run, by iteration."""

    iteration: np.ndarray
    seconds: np.ndarray
    error: np.ndarray
    kkt: np.ndarray


def by_run(summary: pd.DataFrame, trace: pd.DataFrame) -> list[Records]:
    """The records of each row of ``summary``; empty arrays where there are none.

    Run ids are unique only within a job, so they are matched by job too where both
    tables name it.
    """
    keys = ["job", "run"] if "job" in summary and "job" in trace else ["run"]
    runs, rows = (
        pd.MultiIndex.from_arrays([table[key].astype(str) for key in keys])
        for table in (summary, trace)
    )
    at = runs.get_indexer(rows)
    fields = [trace[name].to_numpy(float) for name in FIELDS]
    order = np.lexsort((fields[0], at))
    ends = np.searchsorted(at[order], np.arange(len(summary) + 1))
    fields = [field[order] for field in fields]
    return [
        Records(*(field[start:stop] for field in fields))
        for start, stop in pairwise(ends)
    ]


def lowest_errors(summary: pd.DataFrame, records: Sequence[Records]) -> np.ndarray:
    """The lowest finite error of each run, at its end or on its way; NaN for none."""
    lowest = []
    for end, way in zip(summary["error"].to_numpy(float), records, strict=True):
        errors = np.append(way.error, end)
        lowest.append(min(errors[np.isfinite(errors)], default=np.nan))
    return np.array(lowest, float)


def time_to(target: float, records: Records) -> float:
    """Seconds at which the error first reaches the target; infinite if never.

    Between records the logarithm of the error is interpolated.
    """
    error, seconds = records.error, records.seconds
    there = np.flatnonzero(error <= target)
    if not len(there):
        return np.inf
    after = there[0]
    if after == 0:
        return float(seconds[0])
    high, low = error[after - 1], error[after]
    if not (low > 0 and np.isfinite(high)):
        return float(seconds[after])
    passed = np.log(high / target) / np.log(high / low)
    start = seconds[after - 1]
    return float(start + passed * (seconds[after] - start))


def median_time(times: Sequence[float]) -> float:
    """The median with infinity for never, NaN when more than half are never.

    When exactly half get there, the median is the last of them.
    """
    ordered = sorted(times)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    if np.isinf(low):
        return np.nan
    return low if np.isinf(high) else (low + high) / 2


def value_at(
    x: np.ndarray, at: np.ndarray, values: np.ndarray, *, gone: float = np.inf
) -> np.ndarray:
    """Values of a curve at ``x``, their logarithms interpolated where all are positive.

    Beyond its last record a curve keeps its last value, or is ``gone`` where that
    record is not finite.
    """
    finite = np.isfinite(values)
    if not finite.any():
        return np.full(len(x), gone)
    if (values[finite] > 0).all():
        found = np.exp(np.interp(x, at[finite], np.log(values[finite])))
    else:
        found = np.interp(x, at[finite], values[finite])
    if not finite[-1]:
        found[x > at[finite][-1]] = gone
    return found
