"""The platform that programs are compiled for.

A program is the same function on every platform. Where a CPU and an accelerator need
another form of it, for layout or for the number of launches, the form is chosen here.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any

import jax

# Part of the key of jax's caches: a function that was traced for one platform is traced
# again for another.
_platform: Any = jax.make_user_context(None)


def on_cpu() -> bool:
    """Whether programs are compiled for a CPU."""
    return platform() == "cpu"


def platform() -> str:
    """The platform: "cpu", "gpu" or "tpu"."""
    return _platform.value or jax.default_backend()


def compiled_for(name: str) -> AbstractContextManager[None]:
    """Within it the forms are those of another platform, for `jax.export` and tests.

    Args:
      name: "cpu", "gpu" or "tpu".
    """
    return _platform(name)


def cores() -> int:
    """The number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
