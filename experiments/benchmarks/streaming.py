"""A V larger than memory: time of an iteration and of a record, reads, peak memory.

    python streaming.py dense --gigabytes 12 --columns 10000 --cold
    python streaming.py sparse --entries 1e8 --rows 200000 --columns 50000

Each fit is a process of its own, whose peak is that of its resident memory. With
``--cold`` the pages of every block leave the file cache once they were read, so that
the disk is measured; without it a file that fits the free memory is cached.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxnmf
from jaxnmf.data.blocks import ahead
from jaxnmf.data.convert import as_operand
from jaxnmf.files.blocks import Array, open_source
from jaxnmf.files.convert import convert
from jaxnmf.objective.losses import Frobenius
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import make_solver
from jaxnmf.run import programs
from jaxnmf.run.loop import advance
from jaxnmf.types import Factors


class Counted:
    """A source that counts its reads, notes when each pass began, and may drop the
    pages that it has read."""

    def __init__(self, source: Any, cold: bool) -> None:
        self.source, self.cold, self.reads = source, cold, 0
        self.begun: list[float] = []
        self.shape, self.dtype, self.count = source.shape, source.dtype, source.count
        for name in ("turned", "starts", "indptr", "takes_memory"):
            if hasattr(source, name):
                setattr(self, name, getattr(source, name))
        if hasattr(source, "read_into"):
            self.read_into = self._read_into

    def _dropped(self) -> None:
        self.reads += 1
        if self.cold:
            for place in self.files():
                descriptor = os.open(place, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)

    def files(self) -> list[Path]:
        if hasattr(self.source, "places"):
            return sorted({one.place for one, *_ in self.source.places})
        parts = [self.source.data, self.source.indices, *(self.source.turned or ())]
        return [x.place for x in parts if isinstance(x, Array)]

    def _noted(self, i: int) -> None:
        if i == 0:
            self.begun.append(time.perf_counter())

    def block(self, *given: Any) -> Any:
        self._noted(given[0])
        block = self.source.block(*given)
        self._dropped()
        return block

    def block_turned(self, *given: Any) -> Any:
        return self.source.block_turned(*given)

    def _read_into(self, i: int, into: np.ndarray) -> None:
        self._noted(i)
        self.source.read_into(i, into)
        self._dropped()


def make_dense(place: Path, gigabytes: float, columns: int, rank: int) -> None:
    """A file of a product of random factors and noise."""
    rows = int(gigabytes * 1e9 / 4 / columns)
    rng = np.random.default_rng(0)
    H = rng.random((rank, columns), dtype=np.float32)
    about = {"descr": "<f4", "fortran_order": False, "shape": (rows, columns)}
    with place.open("wb") as file:
        np.lib.format.write_array_header_2_0(file, about)
        for start in range(0, rows, 2000):
            size = min(2000, rows - start)
            block = rng.random((size, rank), dtype=np.float32) @ H
            block += rng.random((size, columns), dtype=np.float32)
            block.tofile(file)


def make_sparse(place: Path, entries: int, rows: int, columns: int) -> None:
    """CSR triples of columns drawn at random, as `jaxnmf convert` stores them."""
    rng = np.random.default_rng(0)
    each = entries // rows
    place.mkdir(parents=True)
    np.save(place / "indptr.npy", np.arange(rows + 1, dtype=np.int64) * each)
    with (
        (place / "data.npy").open("wb") as data,
        (place / "indices.npy").open("wb") as indices,
    ):
        for file, descr in ((data, "<f4"), (indices, "<i4")):
            about = {"descr": descr, "fortran_order": False, "shape": (rows * each,)}
            np.lib.format.write_array_header_2_0(file, about)
        step = columns // each
        for start in range(0, rows, 20000):
            size = min(20000, rows - start)
            # One column in each of as many stretches: sorted and distinct.
            found = np.arange(each) * step + rng.integers(step, size=(size, each))
            found.astype(np.int32).tofile(indices)
            rng.random((size, each), dtype=np.float32).tofile(data)
    (place / "blocks.json").write_text(json.dumps({"shape": [rows, columns]}))


def iteration(V: Any, rank: int, steps: int = 5) -> float:
    """Seconds of an iteration of HALS on a V in memory."""
    with programs.precision("float32"):
        problem = Problem.of(as_operand(V), Frobenius())
        rng = np.random.default_rng(0)
        m, n = V.shape
        factors = Factors(
            *(jax.numpy.asarray(rng.random((rank, k), np.float32)) for k in (m, n))
        )
        solver = make_solver("hals")
        run = jax.jit(advance)
        state = solver.init(problem, factors, jax.random.key(0))
        jax.block_until_ready(run(problem, solver, factors, state, 1))
        start = time.perf_counter()
        jax.block_until_ready(run(problem, solver, factors, state, steps))
        return (time.perf_counter() - start) / steps


def fit(path: str, rank: int, iterations: int, cold: bool, rows: int | None) -> None:
    """The process of one fit; prints what it measured."""
    source = Counted(open_source(path, rows=rows), cold)
    result = jaxnmf.factorize(
        jaxnmf.Blocks(source),
        rank,
        solver="hals",
        max_iter=iterations,
        record_every=iterations,
        tol=0,
    )
    # Not ``ru_maxrss``, in which the peak of the parent counts too.
    (peak,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    error = result.relative_error
    # The passes of all iterations but the last, which is the one with a record; one
    # pass sums V before them, one is the first products, one the error's at the end.
    each = np.diff(source.begun[2:])
    found = {
        "seconds": float(np.median(each[:-1])),
        "recorded": float(each[-1]),
        "reads": source.reads / source.count,
        "peak": 1024 * int(peak),
        "error": error,
    }
    print(json.dumps(found))


def in_child(path: Path, given: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "fit", "--path", str(path)]
    command += ["--rank", str(given.rank), "--iterations", str(given.iterations)]
    command += ["--cold"] if given.cold else []
    command += ["--block", str(given.block)] if given.block else []
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def read_rate(path: Path, size: float, cold: bool, rows: int | None) -> float:
    """Bytes a second of reading alone, in the blocks of the fit."""
    source = Counted(open_source(path, rows=rows), cold)
    if cold:
        source._dropped()
    start = time.perf_counter()
    for _ in ahead(source.block, source.count):
        pass
    return size / (time.perf_counter() - start)


def dense(given: argparse.Namespace) -> None:
    path = given.folder / f"dense_{given.gigabytes:g}_{given.columns}.npy"
    if not path.exists():
        make_dense(path, given.gigabytes, given.columns, given.rank)
    size = path.stat().st_size
    V = open_source(path).block(0)
    product = V.nbytes / iteration(V, given.rank)
    del V
    reading = read_rate(path, size, given.cold, given.block)
    found = in_child(path, given)
    rate = size / found["seconds"]
    print(
        f"dense {size / 1e9:.3g} GB, p={given.rank}, "
        f"{'from disk' if given.cold else 'cached where it fits'}: "
        f"{found['seconds']:.3g} s an iteration, {rate / 1e9:.2f} GB/s; reading "
        f"{reading / 1e9:.2f}, products {product / 1e9:.2f} GB/s: "
        f"{rate / min(reading, product):.0%} of the lower; peak "
        f"{found['peak'] / 1e9:.2f} GB; {found['reads']:g} reads in "
        f"{given.iterations} iterations, 3 of them before and after"
    )


def sparse(given: argparse.Namespace) -> None:
    name = f"sparse_{given.entries:g}_{given.rows}_{given.columns}"
    plain, both = given.folder / name, given.folder / f"{name}_by_columns"
    if not plain.exists():
        make_sparse(plain, int(given.entries), given.rows, given.columns)
    if not both.exists():
        convert(plain, both, by_columns=True)
    from scipy.sparse import csr_array

    parts = (np.load(plain / f"{x}.npy") for x in ("data", "indices", "indptr"))
    V = csr_array(tuple(parts), shape=(given.rows, given.columns))
    memory = iteration(V, given.rank)
    del V
    print(f"sparse {given.entries:g} entries, p={given.rank}: in memory {memory:.3g} s")
    for form, path in (("by rows", plain), ("and by columns", both)):
        found = in_child(path, given)
        print(
            f"  {form}: {found['seconds']:.3g} s an iteration, "
            f"{found['seconds'] / memory:.2f} x, with a record {found['recorded']:.3g} "
            f"s; peak {found['peak'] / 1e9:.2f} GB; "
            f"{found['reads']:g} reads in {given.iterations} iterations"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("dense", "sparse", "fit"))
    parser.add_argument("--folder", type=Path, default=Path("/tmp"))
    parser.add_argument("--path")
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--entries", type=float, default=1e7)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=10_000)
    parser.add_argument("--rank", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--block", type=int, help="rows of a block")
    parser.add_argument("--cold", action="store_true")
    given = parser.parse_args()
    if given.what == "fit":
        fit(given.path, given.rank, given.iterations, given.cold, given.block)
    else:
        {"dense": dense, "sparse": sparse}[given.what](given)


if __name__ == "__main__":
    main()
