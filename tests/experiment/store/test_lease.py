"""Leases of jobs: one holder at a time, also of another machine, and none for ever."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from jaxnmf.experiment.store import lease
from jaxnmf.experiment.store.lease import Busy, Lease, held


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lease, "EXPIRE", 2.0)
    monkeypatch.setattr(lease, "RENEW", 0.1)
    monkeypatch.setattr(lease, "POLL", 0.05)


@pytest.fixture
def elsewhere(monkeypatch):
    """Takes a lease as a process of another machine that then stops to renew it."""
    taken = []

    def take(folder, key="a"):
        with monkeypatch.context() as there:
            there.setattr(lease, "host", lambda: "elsewhere")
            there.setattr(Lease, "_renew", lambda self: None)
            taken.append(Lease.take(folder, key))
        return taken[-1]

    yield take
    for one in taken:
        one._file.close()


def test_one_process_at_a_time(tmp_path):
    with held(tmp_path, "a", wait=False) as own:
        with pytest.raises(Busy), held(tmp_path, "a", wait=False):
            pass
        with held(tmp_path, "b", wait=False):
            own.check()
    with held(tmp_path, "a", wait=False):
        pass


def test_who_waits_gets_it_when_it_is_released(tmp_path):
    order = []

    def second():
        with held(tmp_path, "a", wait=True):
            order.append("second")

    with held(tmp_path, "a", wait=False):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.slow
def test_a_renewed_lease_does_not_expire(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "host", lambda: "elsewhere")
    with held(tmp_path, "a", wait=False) as own:
        monkeypatch.setattr(lease, "host", lambda: "here")
        time.sleep(3)
        with pytest.raises(Busy):
            Lease.take(tmp_path, "a")
        own.check()


@pytest.mark.slow
def test_a_lease_of_another_machine_expires_and_is_lost(tmp_path, elsewhere):
    old = elsewhere(tmp_path)
    start = time.monotonic()
    with pytest.raises(Busy):
        Lease.take(tmp_path, "a")
    old.check()
    with held(tmp_path, "a", wait=True) as new:
        assert 1.8 <= time.monotonic() - start < 10
        with pytest.raises(Busy):
            old.check()
        old._write("held")  # a process that was suspended, and goes on
        old.release()
        new.check()
        with pytest.raises(Busy):
            Lease.take(tmp_path, "a")


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "EXPIRE", 1e6)
    code = (
        "import os, sys; from pathlib import Path\n"
        "from jaxnmf.experiment.store.lease import Lease\n"
        "Lease.take(Path(sys.argv[1]), 'a'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert done.returncode == -9
    holder = json.loads((tmp_path / "jobs" / ".a.lease" / "1").read_text())
    assert holder["host"] == lease.host()
    assert holder["state"] == "held"
    with held(tmp_path, "a", wait=False):
        pass


@pytest.mark.slow
def test_of_many_that_see_it_expire_one_takes_it(tmp_path, elsewhere):
    elsewhere(tmp_path)
    time.sleep(2.1)
    ready, found = threading.Barrier(8), []

    def race():
        ready.wait()
        try:
            found.append(Lease.take(tmp_path, "a"))
        except Busy:
            found.append(None)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (taken,) = filter(None, found)
    assert len(found) == 8
    taken.release()


def test_who_looked_long_ago_gets_no_second_lease(tmp_path, monkeypatch):
    """Between the look at the last lease and the next one others came and went."""
    Lease.take(tmp_path, "a").release()
    own, is_held = [], lease._is_held

    def slow(path):
        found = is_held(path)
        if path.name == "1" and not own:
            own.append(None)
            for _ in range(3):
                Lease.take(tmp_path, "a").release()
            own[0] = Lease.take(tmp_path, "a")
        return found

    monkeypatch.setattr(lease, "_is_held", slow)
    with pytest.raises(Busy):
        Lease.take(tmp_path, "a")
    (own,) = own
    assert sorted(os.listdir(own.path)) == ["2", "4", "5"]
    own.check()
    own.release()


@pytest.mark.parametrize("text", [b"", b'{"state": "he', b"{}"])
def test_a_lease_that_cannot_be_read_is_held_until_it_expires(tmp_path, text):
    path = tmp_path / "jobs" / ".a.lease" / "1"
    path.parent.mkdir(parents=True)
    path.write_bytes(text)
    with pytest.raises(Busy):
        Lease.take(tmp_path, "a")
    os.utime(path, (0, 0))
    Lease.take(tmp_path, "a").release()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "jobs").write_text("")
    with pytest.raises(ValueError, match=r"folder: .* cannot be written"):
        held(tmp_path, "a", wait=False).__enter__()
