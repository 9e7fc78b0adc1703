"""The records of runs as arrays: lowest errors, times to a target, interpolation."""

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
    """The records of each row of ``summary``; empty arrays if it has none.

    Run ids are unique only within a job, so runs are matched by job as well if both
    tables have it.
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
    """The lowest finite error of each run, recorded or final; NaN if there is none."""
    lowest = []
    for end, of_run in zip(summary["error"].to_numpy(float), records, strict=True):
        errors = np.append(of_run.error, end)
        lowest.append(min(errors[np.isfinite(errors)], default=np.nan))
    return np.array(lowest, float)


def time_to(target: float, records: Records) -> float:
    """Seconds until the error first reaches the target; infinite if never.

    Between records the logarithm of the error is interpolated.
    """
    error, seconds = records.error, records.seconds
    reached = np.flatnonzero(error <= target)
    if not len(reached):
        return np.inf
    after = reached[0]
    if after == 0:
        return float(seconds[0])
    high, low = error[after - 1], error[after]
    if not (low > 0 and np.isfinite(high)):
        return float(seconds[after])
    part = np.log(high / target) / np.log(high / low)
    start = seconds[after - 1]
    return float(start + part * (seconds[after] - start))


def median_time(times: Sequence[float]) -> float:
    """The median of times, infinite for never; NaN if more than half are infinite.

    If exactly half are infinite, the largest of the others.
    """
    ordered = sorted(times)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    if np.isinf(low):
        return np.nan
    return low if np.isinf(high) else (low + high) / 2


def value_at(x: np.ndarray, at: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values of a curve at ``x``, interpolated by their logarithms if all are positive.

    Beyond its last record a curve keeps its last value, or is infinite if that is not
    finite.
    """
    finite = np.isfinite(values)
    if not finite.any():
        return np.full(len(x), np.inf)
    if (values[finite] > 0).all():
        found = np.exp(np.interp(x, at[finite], np.log(values[finite])))
    else:
        found = np.interp(x, at[finite], values[finite])
    if not finite[-1]:
        found[x > at[finite][-1]] = np.inf
    return found
