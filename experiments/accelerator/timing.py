"""Reports and timing of the measurements on an accelerator."""

from __future__ import annotations

import concurrent.futures
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnmf.run.programs import precision

SMALL = "--small" in sys.argv
THREADS = 6  # that compile at once; with more, each waits for the device


def report(case: str, method: str, **quantities: Any) -> None:
    """Write a row for each quantity."""
    with Path(sys.argv[2]).open("a") as file:
        for quantity, value in quantities.items():
            row = {
                "part": sys.argv[1],
                "case": case,
                "method": method,
                "quantity": quantity.replace("_", " "),
                "value": value,
            }
            file.write(json.dumps(row) + "\n")
    shown = " ".join(f"{k}={v}" for k, v in quantities.items())
    print(f"{sys.argv[1]} | {case} | {method} | {shown}", flush=True)


def attempt(case: str, method: str, call: Callable[[], Any]) -> Any:
    """What a call returns; an exception is reported in its place."""
    try:
        return call()
    except Exception as error:
        traceback.print_exc()
        words = str(error).strip().splitlines() or [""]
        report(case, method, failed=f"{type(error).__name__}: {words[0][:200]}")
        return None


def seconds_of(call: Callable[[int], Any], about: float = 0.1) -> float:
    """Seconds of one repeat; ``call(n)`` does n and waits. The median of five."""

    def took(n: int) -> float:
        begin = time.perf_counter()
        call(n)
        return (time.perf_counter() - begin) / n

    call(2)
    n = int(min(max(about / max(took(3), 1e-7), 2), 2000))
    return statistics.median(took(n) for _ in range(5))


def together(calls: list[Callable[[], Any]]) -> list[Any]:
    """The results of calls on several threads, as they compile."""

    def one(call: Callable[[], Any]) -> Any:
        with precision("float32"):  # a setting of the thread
            return call()

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, calls))


def repeated(function: Callable[[Any], Any], x: Any) -> Callable[[int], Any]:
    """``call(n)``, which applies a function to x n times in one program."""

    def many(x: Any, n: Any) -> Any:
        return jax.lax.fori_loop(0, n, lambda _, x: function(x), x)

    program = jax.jit(many).lower(x, np.int32(1)).compile()
    return lambda n: jax.block_until_ready(program(x, np.int32(n)))
