"""Cores and devices that a process has for itself."""

import os
import subprocess
import sys

import jax
import pytest

from jaxnmf.experiment import exclusive

TAKE = (
    "import os, sys\n"
    "from jaxnmf.experiment.exclusive import take\n"
    "print(*take(int(sys.argv[1])), *os.sched_getaffinity(0), flush=True)\n"
    "sys.stdin.read()"
)
needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two cores that a process may choose from",
)


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """Locks that no other process knows, and none kept from one test to the next."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(exclusive.tempfile, "tempdir", None)
    monkeypatch.setattr(exclusive, "_kept", [])
    exclusive.take.cache_clear()
    yield
    exclusive.take.cache_clear()


@pytest.mark.slow
@needs_affinity
def test_two_processes_have_different_cores_and_a_third_waits(alone):
    def started(count="1"):
        return subprocess.Popen(
            [sys.executable, "-c", TAKE, count],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )

    total = len(exclusive._cores())
    one, rest = started(), started(str(total - 1))
    first, others = (p.stdout.readline().split() for p in (one, rest))
    assert len(first) == 2
    assert len(others) == 2 * (total - 1)
    assert not set(first) & set(others)
    third = started()
    assert "waiting" in third.stderr.readline()
    one.kill()
    one.communicate()
    assert third.stdout.readline().split() == first
    for process in (rest, third):
        process.communicate("")


def test_a_device_comes_before_cores(alone, tmp_path, monkeypatch):
    for name in ("nvidia0", "nvidia1", "nvidiactl"):
        (tmp_path / name).touch()
    monkeypatch.setattr(exclusive, "DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    chosen = []
    monkeypatch.setattr(jax.config, "update", lambda *given: chosen.append(given))
    assert exclusive.take(1) == ("cuda-0",)
    exclusive.take.cache_clear()  # as another process
    assert exclusive.take(1) == ("cuda-1",)
    assert chosen == [("jax_cuda_visible_devices", number) for number in "01"]
    # Locks have the names of devices, and jax the numbers of those that are visible.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,1,7")
    exclusive.take.cache_clear()
    assert exclusive.take(2) == ("cuda-5", "cuda-7")
    assert chosen[-1] == ("jax_cuda_visible_devices", "0,2")


def test_more_than_there_are_is_refused(alone, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(ValueError, match=r"exclusive=9999: .* may use \d+ cores"):
        exclusive.take(9999)
    with pytest.raises(ValueError, match="exclusive=-1"):
        exclusive.take(-1)
