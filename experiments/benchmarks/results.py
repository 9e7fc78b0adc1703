"""The table of benchmark results by version and machine, and its page.

    python -m experiments.benchmarks.results measure   # a minute or two, then the page
    python -m experiments.benchmarks.results page      # RESULTS.md from results.parquet

`results.parquet` has a row for each figure: version, machine, script, case, measure,
unit, value. A figure that is measured again by the same version on the same machine
replaces the old one. In the page a figure is beside that of the version before on the
same machine; one that is more than 1.2 times as slow is marked.

The scripts of this folder compare with other packages, by hand; their committed figures
are part of the table. `measure` has a few cases of jaxnmf alone, for every release.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxnmf._version import __version__

FOLDER = Path(__file__).parent
TABLE, PAGE = FOLDER / "results.parquet", FOLDER / "RESULTS.md"
KEY = ["machine", "script", "case", "measure", "unit"]
COLUMNS = ["version", *KEY, "value"]
TIMES = ("s", "ms", "µs", "ms per iteration")
SLOWER = 1.2


def machine() -> str:
    """The processor and the number of cores."""
    name, info = platform.processor(), Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*:\s*(.*)", info.read_text())
        name = found[1].strip() if found else name
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def figures(repeats: int) -> Iterator[tuple[str, str, str, float]]:
    """(case, measure, unit, value) of jaxnmf alone."""
    import scipy.sparse

    import jaxnmf

    rng = np.random.default_rng(0)
    dense = rng.random((2000, 20)) @ rng.random((20, 1000))
    dense += 0.1 * rng.random(dense.shape)
    where = tuple(rng.integers(size, size=10**6) for size in (20_000, 5000))
    values = 1.0 + rng.poisson(2, size=10**6)
    counts = scipy.sparse.coo_array((values, where), (20_000, 5000)).tocsr()
    digits = jaxnmf.datasets.load("digits").V
    cases = [
        ("dense 2000×1000 p=20", dense, 20, ("hals", "extrapolated"), ("mu",)),
        ("digits p=16", digits, 16, ("hals", "anls-bpp"), ("mu", "kl-newton")),
        ("sparse 20 000×5000 p=20", counts, 20, ("hals",), ("mu",)),
    ]
    for case, V, rank, quadratic, kl in cases:
        both = [("frobenius", quadratic), ("kullback-leibler", kl)]
        for loss, solver in ((loss, name) for loss, some in both for name in some):
            options: dict[str, Any] = {"solver": solver, "loss": loss, "init": "random"}
            options |= {"tol": 0, "kkt": False, "max_iter": 100, "record_every": 100}
            seconds = []
            for _ in range(repeats):
                result = jaxnmf.factorize(V, rank, **options)
                seconds.append(float(result.trace.seconds[-1]) / result.iterations)
            yield case, f"{solver}, {loss}", "ms per iteration", 1e3 * min(seconds)
    begin = time.perf_counter()
    jaxnmf.sweep(dense[:200, :100], [5], 64, solver="hals", max_iter=200, tol=0)
    yield "200×100 p=5", "sweep of 64 lanes", "s", time.perf_counter() - begin
    starts = []
    for _ in range(repeats):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import jaxnmf"], check=True)
        starts.append(time.perf_counter() - begin)
    yield "a fresh process", "import jaxnmf", "s", min(starts)


def merged(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The table with new rows in place of those of the same version and key."""
    every = pd.concat([table, rows], ignore_index=True)
    every = every.drop_duplicates(["version", *KEY], keep="last")
    return every.sort_values(["version", *KEY], ignore_index=True)


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """The newest figure of each key, the one of the version before, and their ratio."""
    rows = []
    for key, group in table.groupby(KEY, sort=True):
        ordered = sorted(group["version"], key=_order, reverse=True)
        value = group.set_index("version")["value"]
        row: dict[str, Any] = dict(zip(KEY, key, strict=True))  # pyright: ignore
        row |= {"version": ordered[0]}
        row |= {"value": value[ordered[0]], "before": None, "was": np.nan}
        if ordered[1:]:
            row |= {"before": ordered[1], "was": value[ordered[1]]}
        rows.append(row)
    found = pd.DataFrame(rows)
    found["ratio"] = found["value"] / found["was"]
    found["twice"] = found["was"].notna()
    found["slower"] = found["unit"].isin(TIMES) & (found["ratio"] > SLOWER)
    return found


def page(table: pd.DataFrame) -> str:
    """The page: a section for each machine, a table for each script."""
    found = compared(table)
    slower, twice = (np.count_nonzero(found[of]) for of in ("slower", "twice"))
    lines = [
        "# Benchmark results by version",
        "",
        "Written from `results.parquet` by `python -m experiments.benchmarks.results "
        "page`; how",
        "each figure is measured is described in [README.md](README.md). Figures are "
        "comparable",
        "within a machine only.",
        "",
        "Slower than in the version before by more than "
        f"{SLOWER} times: {slower} of {twice} figures that were measured twice.",
    ]
    for name, of_machine in found.groupby("machine", sort=True):
        lines += ["", f"## {name}"]
        for script, part in of_machine.groupby("script", sort=True):
            lines += ["", f"### {script}", ""]
            lines += ["| case | measure | value | version | before | ratio |"]
            lines += ["|---|---|---|---|---|---|"]
            for _, row in part.iterrows():
                before, ratio = "", ""
                if isinstance(row["before"], str):
                    before = f"{row['was']:.4g} ({row['before']})"
                    ratio = f"{row['ratio']:.2f}" + " **slower**" * bool(row["slower"])
                lines.append(
                    f"| {row['case']} | {row['measure']} | {row['value']:.4g} "
                    f"{row['unit']} | {row['version']} | {before} | {ratio} |"
                )
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Benchmark results by version.")
    parser.add_argument("what", choices=("measure", "page"))
    parser.add_argument("--machine", default=machine(), help="its name in the table")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args(arguments)
    table = pd.read_parquet(TABLE)
    if given.what == "measure":
        rows = []
        for case, measure, unit, value in figures(given.repeats):
            print(f"{case:26} {measure:26} {value:10.4g} {unit}", flush=True)
            where = (__version__, given.machine, "results.py")
            rows.append((*where, case, measure, unit, value))
        table = merged(table, pd.DataFrame(rows, columns=pd.Index(COLUMNS)))
        table.to_parquet(TABLE, index=False)
    PAGE.write_text(page(table), encoding="utf-8")


if __name__ == "__main__":
    main()
