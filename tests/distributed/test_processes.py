"""Processes that factorise together, over loopback."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import scipy.sparse
from jax.sharding import NamedSharding, PartitionSpec

import jaxnmf
from jaxnmf.files.convert import convert

WORKER = Path(__file__).parent / "worker.py"
V = np.random.default_rng(0).random((16, 12), np.float32)
OPTIONS: Any = {"max_iter": 20, "tol": 0, "solver": "hals", "seed": 3}
BIG = V * np.float32(2.0**24)
SPARSE = scipy.sparse.csr_array(V * (V > 0.6))
# Of a shape that does not divide, and most entries in few rows.
UNEVEN = V[:15, :11]
SKEWED = scipy.sparse.csr_array(UNEVEN * (np.arange(15)[:, None] / 15 < UNEVEN))


@contextlib.contextmanager
def started(processes: int, *cases: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes of two devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    count = "xla_force_host_platform_device_count"
    flags = re.sub(f"{count}=[0-9]+", f"{count}=2", os.environ["XLA_FLAGS"])
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    running = [
        subprocess.Popen(
            [sys.executable, str(WORKER), address, str(processes), str(one), *cases],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for one in range(processes)
    ]
    try:
        yield running
    finally:
        for one in running:
            one.kill()
            one.communicate()


def results(processes: int, *cases: str) -> list[list[Any]]:
    """What each process found, case by case."""
    found = []
    with started(processes, *cases) as running:
        for one in running:
            out, err = one.communicate(timeout=200)
            assert one.returncode == 0, err
            lines = [x[7:] for x in out.splitlines() if x.startswith("RESULT ")]
            found.append([json.loads(line) for line in lines])
    return found


def check(case: dict[str, Any], data: Any, **options: Any) -> None:
    """Its factors are those of one process, and its numbers those of its factors."""
    W, H = np.array(case["W"]), np.array(case["H"])
    expected = jaxnmf.factorize(data, 3, **OPTIONS | options)
    np.testing.assert_allclose(W @ H, expected.W @ expected.H, rtol=2e-3)
    assert case["iterations"] == expected.iterations
    assert case["status"] == expected.status
    data = data.toarray() if scipy.sparse.issparse(data) else data
    residual = data.astype(float) - W @ H
    error = np.linalg.norm(residual) / np.linalg.norm(data.astype(float))
    assert case["error"] == pytest.approx(error, rel=1e-4)
    assert case["objective"] == pytest.approx(0.5 * (residual**2).sum(), rel=1e-4)


@pytest.mark.slow
def test_two_processes_factorise_together(tmp_path):
    """A V that is on the devices of both, one that each has as a whole, one of which
    each reads its own rows, and a run that goes on from files of both."""
    np.save(tmp_path / "V.npy", V)
    place = tmp_path / "run"
    np.save(tmp_path / "U.npy", UNEVEN)
    scipy.sparse.save_npz(tmp_path / "S.npz", SKEWED)
    convert(tmp_path / "S.npz", tmp_path / "S")
    blocks = [f"blocks:{tmp_path / name}" for name in ("U.npy", "S")]
    kept = tmp_path / "kept.npz"
    out = tmp_path / "out.npz"
    command = f"file:{tmp_path / 'V.npy'}:{out}"
    cases = f"kept:{kept}", "host", f"resume:{place}", *blocks, command, "start"
    first, second = results(2, *cases)
    assert first == second
    check(first[0], BIG, init="random")
    check(first[1], V[:15, :11])
    moved = first[0].pop("moved")
    assert first[2] == first[0]  # to the same bits
    loaded = jaxnmf.load(kept)
    for name in "WH":
        np.testing.assert_array_equal(getattr(loaded, name), first[0][name])
    np.testing.assert_allclose(moved, loaded.transform(BIG[:2]), rtol=1e-5)
    (tmp_path / "kept-1of2.npz").unlink()
    with pytest.raises(ValueError, match=r"2 processes.*no file kept-1of2\.npz"):
        jaxnmf.load(kept)
    for case, data, name in ((3, UNEVEN, "U.npy"), (4, SKEWED, "S")):
        check(first[case], data, init="random")
        parts = jaxnmf.load(tmp_path / f"{name}-kept.npz")
        for factor in "WH":
            np.testing.assert_array_equal(getattr(parts, factor), first[case][factor])
    check(first[5], V, init="random")
    np.testing.assert_array_equal(jaxnmf.load(out).W, first[5]["W"])
    names = {f"at{i:08}-{k}of2.npz" for i in (10, 20) for k in (0, 1)}
    assert {path.name for path in place.iterdir()} == {"run.json", *names}
    if jax.device_count() < 4:
        return
    # Another number of processes, this one alone, goes on from there to rounding.
    grid = NamedSharding(jax.make_mesh((2, 2), ("a", "b")), PartitionSpec("a", "b"))
    given = OPTIONS | {"init": "random", "max_iter": 30}
    data = jax.device_put(BIG, grid)
    found = jaxnmf.factorize(data, 3, checkpoint=place, **given)
    assert (found.trace.iteration[-2:] == [20, 30]).all()
    before = first[0]["objective"]
    np.testing.assert_allclose(found.trace.objective[-2], before, rtol=1e-12)
    expected = jaxnmf.factorize(BIG, 3, **given)
    np.testing.assert_allclose(found.objective, expected.objective, rtol=1e-4)


@pytest.mark.slow
def test_four_processes_and_other_data():
    found = results(4, "spread", "sparse", "budget", "default")
    assert all(one == found[0] for one in found)
    spread, sparse, budget, default = found[0]
    check(spread, BIG, init="random")
    check(sparse, SPARSE)
    assert budget["status"] == "time"
    assert default["status"] in ("converged", "max_iter")
    moved = np.array(default["moved"])
    np.testing.assert_allclose(moved, np.array(default["W"])[:2], rtol=0.5, atol=1e3)


@pytest.mark.slow
def test_processes_that_differ_are_refused():
    with started(2, "differ") as running:
        for one in running:
            _, err = one.communicate(timeout=200)
            assert one.returncode != 0
            assert "the 2 processes differ in V, start" in err


@pytest.mark.slow
def test_what_a_spread_V_does_not_support_is_refused():
    with started(2, "refused") as running:
        for one in running:
            out, err = one.communicate(timeout=200)
            assert one.returncode == 0, err
            assert "mesh: V is spread over several processes already" in out
            assert "mask: V is spread over several processes, of which every" in out


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_dies_ends_the_others(how):
    with started(2, "long") as (first, second):
        assert second.stdout is not None
        assert second.stdout.readline() == "started\n"
        time.sleep(5)
        begin = time.monotonic()
        # JAX loses an interrupt in its callback of the garbage collector.
        while second.poll() is None and time.monotonic() - begin < 30:
            second.send_signal(how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                second.wait(timeout=5)
        _, err = first.communicate(timeout=60)
        assert first.returncode != 0
        assert time.monotonic() - begin < 60
        # Ours, or that of JAX, which ends a process that lost another.
        assert re.search("another process of this run ended|another task died", err)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("here:1", 2), "process=None; give all three, or none"),
        (("here:1", 2, 2), "process=2 must be less than processes=2"),
        (("here", 2, 0), "coordinator='here' must be 'host:port'"),
        (("here:1", 0, 0), "processes=0 must be an integer ≥ 1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        jaxnmf.distributed.start(*given)
