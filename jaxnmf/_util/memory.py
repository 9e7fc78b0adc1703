"""The memory that is free."""

from __future__ import annotations

import re
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """Bytes that this process may still use, by the machine and by the limit of its
    container; None where neither is known."""
    found = []
    try:
        text = MEMINFO.read_text()
        found.append(1024 * int(re.findall(r"MemAvailable:\s*(\d+) kB", text)[0]))
    except (OSError, IndexError):
        pass
    try:
        limit = int((GROUP / "memory.max").read_text())
        used = int((GROUP / "memory.current").read_text())
        cached = re.findall(
            r"^inactive_file (\d+)", (GROUP / "memory.stat").read_text(), re.M
        )
        found.append(limit - used + sum(map(int, cached)))
    except (OSError, ValueError):  # no limit is "max"
        pass
    return min(found, default=None)
