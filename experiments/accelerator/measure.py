"""Runs the measurements of `parts.py` and writes a table and a page of them.

Each part is a process of its own with a time limit, so that none takes another down.
The table (``results.csv``) and the page (``README.md``) are written again after each.
The answers of a CPU and the time of two cores are computed beside them.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COLUMNS = ("part", "case", "method", "quantity", "value")
# Parts in order, and the seconds that each may take.
PARTS = {
    "machine": 60,
    "forms": 100,
    "blocks": 60,
    "iterations": 150,
    "sparse": 90,
    "lanes": 120,
    "answers": 150,
    "bits": 60,
}
# What a CPU does meanwhile, and on which of its cores: the accelerator's programs are
# compiled on the others.
BESIDE = {"lanes": {0, 1}, "answers": {2, 3, 4, 5}}
TITLES = {
    "machine": "The machine",
    "forms": "Microseconds of a coordinate-descent sweep by its form",
    "blocks": "Milliseconds of an iteration, by the entries of W H in a block",
    "iterations": "Milliseconds of an iteration",
    "sparse": "Milliseconds of the sparse products",
    "lanes": "Seconds of many lanes",
    "answers": "Every solver against the CPU's answer",
    "bits": "Whether two runs have the same bits",
}


class Process:
    """A part that runs, and the rows that it has written so far."""

    def __init__(self, folder: Path, part: str, small: bool, cpu: bool) -> None:
        name = f"{part}-cpu" if cpu else part
        self.part, self.cpu = part, cpu
        self.rows_file = folder / "rows" / f"{name}.jsonl"
        self.rows_file.parent.mkdir(exist_ok=True)
        self.rows_file.unlink(missing_ok=True)
        command = [sys.executable, str(HERE / "parts.py"), part, str(self.rows_file)]
        command += ["--small"] if small else []
        environment = dict(os.environ)
        if cpu:
            environment["JAX_PLATFORMS"] = "cpu"
        self.begun = time.monotonic()
        self.log = (folder / "rows" / f"{name}.log").open("wb")
        self.process = subprocess.Popen(
            command, env=environment, stdout=self.log, stderr=self.log
        )
        there = os.sched_getaffinity(0)
        others = there - set().union(*BESIDE.values())
        os.sched_setaffinity(
            self.process.pid, (there & BESIDE[part] if cpu else others) or there
        )

    def wait(self, seconds: float) -> str:
        """How it ended, after at most so many seconds from its start."""
        left = seconds - (time.monotonic() - self.begun)
        try:
            code = self.process.wait(max(left, 0.1))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return f"stopped after {seconds:.0f} s"
        took = time.monotonic() - self.begun
        return f"{took:.0f} s" if code == 0 else f"failed after {took:.0f} s ({code})"

    @property
    def rows(self) -> list[dict[str, Any]]:
        if not self.rows_file.exists():
            return []
        lines = self.rows_file.read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]


def write(folder: Path, rows: list[dict[str, Any]], ends: dict[str, str]) -> None:
    """The table and the page of what is known so far."""
    with (folder / "results.csv").open("w", newline="") as file:
        table: Any = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    lines = ["# An accelerator, measured", ""]
    for part, title in TITLES.items():
        mine = [row for row in rows if row["part"] == part]
        if part not in ends:
            continue
        lines += [f"## {title}", "", f"{ends[part]}.", ""]
        quantities = list(dict.fromkeys(row["quantity"] for row in mine))
        cells: dict[tuple[str, str], dict[str, Any]] = {}
        for row in mine:
            cell = cells.setdefault((row["case"], row["method"]), {})
            cell[row["quantity"]] = row["value"]
        lines += ["| | | " + " | ".join(quantities) + " |"]
        lines += ["|---|---|" + "---|" * len(quantities)]
        for (case, method), cell in cells.items():
            values = (cell.get(quantity, "") for quantity in quantities)
            values = (f"{x:.4g}" if isinstance(x, float) else str(x) for x in values)
            lines += [f"| {case} | {method} | " + " | ".join(values) + " |"]
        lines += [""]
    (folder / "README.md").write_text("\n".join(lines))


def compared(accelerator: list[Any], cpu: list[Any]) -> list[dict[str, Any]]:
    """Rows that hold the accelerator against the CPU: the ratio of seconds, the
    difference of answers."""
    theirs = {(r["case"], r["method"], r["quantity"]): r["value"] for r in cpu}
    found = []
    for row in accelerator:
        other = theirs.get((row["case"], row["method"], row["quantity"]))
        if other is None or not isinstance(row["value"], float):
            continue
        if row["quantity"] == "seconds":
            found.append({**row, "quantity": "seconds on two cores", "value": other})
            ratio = other / row["value"]
            found.append({**row, "quantity": "times faster", "value": ratio})
        if row["quantity"] == "objective":
            apart = abs(row["value"] - other) / max(abs(other), 1e-30)
            found.append({**row, "quantity": "on the CPU", "value": other})
            found.append({**row, "quantity": "relative difference", "value": apart})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", action="store_true", help="sizes for a trial")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    folder, small = options.folder, options.small
    folder.mkdir(parents=True, exist_ok=True)
    beside = {
        part: Process(folder, part, small, cpu=True)
        for part in BESIDE
        if part in options.parts
    }
    rows: list[dict[str, Any]] = []
    ends: dict[str, str] = {}
    for part in options.parts:
        process = Process(folder, part, small, cpu=False)
        ends[part] = process.wait(PARTS[part])
        mine = process.rows
        if part in beside:
            ends[part] += ", on the CPU " + beside[part].wait(2 * PARTS[part])
            mine += compared(mine, beside[part].rows)
        rows += mine
        print(f"{part}: {ends[part]}, {len(mine)} rows", flush=True)
        write(folder, rows, ends)


if __name__ == "__main__":
    main()
