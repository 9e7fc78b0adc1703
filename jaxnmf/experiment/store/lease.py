"""Leases: which process runs a job, on any machine that shares the folder.

A lease is a numbered file in ``jobs/.<key>.lease/``, and the highest number counts. Its
process renews it every `RENEW` seconds, and says in it when it has released it. A
process takes the job by creating the next number where the last lease was released, was
not renewed for `EXPIRE` seconds, or is of a dead process of the same machine. Creating
a file that must not exist is atomic on NFS too, where locks may be lost or outlive a
machine; and since no process writes to the file of another, one that was suspended and
has lost its job cannot take it back. Ages are compared by the clock of the file system.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

RENEW, EXPIRE = 10.0, 60.0  # seconds
POLL = 0.5  # seconds between two attempts of a process that waits


class Busy(Exception):
    """Another process is running this job."""


class Lease:
    """The right of this process to run a job, until it is released or lost."""

    def __init__(self, path: Path, number: int, file: BinaryIO) -> None:
        self.path, self.number = path, number
        self._file, self._writing = file, threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._write("held")
        self._thread.start()

    @classmethod
    def take(cls, folder: Path, key: str) -> Lease:
        """The lease of a job of a study.

        Raises:
          Busy: another process has it.
          OSError: the folder cannot be written.
        """
        path = folder / "jobs" / f".{key}.lease"
        path.mkdir(parents=True, exist_ok=True)
        number = _last(path)
        if number and _is_held(path / str(number)):
            raise Busy(key)
        try:
            file = (path / str(number + 1)).open("xb", buffering=0)
        except FileExistsError:
            raise Busy(key) from None
        # The list of files may have been out of date.
        if _last(path) != number + 1:
            file.close()
            raise Busy(key)
        return cls(path, number + 1, file)

    def check(self) -> None:
        """Raise Busy if another process has taken the job over."""
        if _last(self.path) != self.number:
            raise Busy(self.path.name)

    def release(self) -> None:
        """Let others take the job."""
        self._stopped.set()
        self._thread.join()
        with contextlib.suppress(OSError), self._file:
            self._write("released")
            for number in range(1, self.number):
                (self.path / str(number)).unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._stopped.wait(RENEW):
            with contextlib.suppress(OSError):  # the disk may come back
                self._write("held")
                os.fsync(self._file.fileno())  # to a server now

    def _write(self, state: str) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        holder = {"state": state, "host": host(), "pid": os.getpid(), "renewed": now}
        with self._writing:
            self._file.seek(0)
            self._file.write(json.dumps(holder).encode())
            self._file.truncate()


@contextlib.contextmanager
def held(folder: Path, key: str, wait: bool) -> Iterator[Lease]:
    """Hold the lease of a job; with ``wait`` as soon as it is free.

    Raises:
      Busy: another process has it, without ``wait``.
      ValueError: the folder cannot be written.
    """
    lease = None
    while lease is None:
        try:
            lease = Lease.take(folder, key)
        except Busy:
            if not wait:
                raise
            time.sleep(POLL)
        except OSError as error:
            raise ValueError(
                f"folder: {str(folder)!r} cannot be written: {error}"
            ) from error
    try:
        yield lease
    finally:
        lease.release()


@functools.cache
def host() -> str:
    """This machine since its start, as seen by processes that know each other's
    numbers: containers have numbers of their own."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _last(path: Path) -> int:
    """The highest number of a lease; 0 where there is none."""
    try:
        return max((int(n) for n in os.listdir(path) if n.isdigit()), default=0)
    except FileNotFoundError:
        return 0


def _is_held(file: Path) -> bool:
    try:
        # A file that is opened is asked for anew from a server.
        with file.open("rb") as opened:
            text, renewed = opened.read(), os.fstat(opened.fileno()).st_mtime
    except FileNotFoundError:  # replaced by a newer one just now
        return True
    try:
        holder = json.loads(text)
    except ValueError:  # being written
        holder = {}
    if holder.get("state") == "released":
        return False
    if holder.get("host") == host() and not _is_alive(holder["pid"]):
        return False
    return _now(file.parent) - renewed < EXPIRE


def _is_alive(pid: int) -> bool:
    if os.name != "posix":  # os.kill would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _now(path: Path) -> float:
    """The time on the clock of the file system, which may be another machine's."""
    probe = path / f".{uuid.uuid4().hex}"
    try:
        with probe.open("xb") as opened:
            return os.fstat(opened.fileno()).st_mtime
    finally:
        probe.unlink(missing_ok=True)
