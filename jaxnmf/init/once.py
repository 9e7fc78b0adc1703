"""Results that are computed once for an operand, for all seeds that ask."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from jaxnmf.data.operand import Described

T = TypeVar("T")


def once(function: Callable[..., T]) -> Callable[..., T]:
    """``function(operand, *key)`` with its results kept for as long as the operand.

    Lanes draw their starts in several threads: one computes, the others wait.
    """
    kept: weakref.WeakKeyDictionary[Any, tuple[threading.Lock, dict[Any, T]]]
    kept = weakref.WeakKeyDictionary()
    guard = threading.Lock()

    @functools.wraps(function)
    def found(operand: Described, *key: Any) -> T:
        with guard:
            lock, results = kept.setdefault(operand, (threading.Lock(), {}))
        with lock:
            if key not in results:
                results[key] = function(operand, *key)
            return results[key]

    return found
