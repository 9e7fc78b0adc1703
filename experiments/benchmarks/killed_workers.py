"""Workers of one study, killed at random: python killed_workers.py [OPTIONS]

Each worker is `jaxnmf work` in a process of its own that takes itself for a machine of
its own, so that no other can see whether it lives. They are killed (SIGKILL) at random
and started again, until every job is complete. Then it is checked that

- every factor and trace has the bits of the same study by one worker;
- each run was stored once, and each job once;
- a run was begun again only where it was under way in a worker that was killed.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from jaxnmf.experiment.store import stored

WORKER = """
import os, sys
from jaxnmf.experiment.cli import main
from jaxnmf.experiment.jobs import job
from jaxnmf.experiment.store import lease
from jaxnmf.experiment.store.unfinished import Unfinished

log, expire = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT), 6.0
lease.host, lease.EXPIRE, lease.RENEW = lambda: f"machine {os.getpid()}", expire, 0.5

def noted(function, what, name):
    def call(*args, **options):
        os.write(log, f"{what} {name(*args, **options)}\\n".encode())
        return function(*args, **options)
    return call

begin, add, write = Unfinished.checkpoint, Unfinished.add, job.write_job
def stored(*args, **options):
    path = write(*args, **options)
    os.write(log, f"job {args[1]}\\n".encode())
    return path
def added(self, run, done):
    found = add(self, run, done)
    os.write(log, f"stored {self.key} {run}\\n".encode())
    return found

Unfinished.checkpoint = noted(begin, "begun", lambda self, run: f"{self.key} {run}")
Unfinished.add, job.write_job = added, stored
sys.exit(main(["work", sys.argv[1]]))
"""


def start(folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """A worker."""
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder), str(log)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def queue(folder: Path, jobs: int, seeds: int, iterations: int) -> None:
    """A study of so many small jobs."""
    data = ["dataset=synthetic", "dataset.m=60", "dataset.n=40", "dataset.rank=3"]
    data.append("dataset.seed=" + ",".join(map(str, range(-(-jobs // 2)))))
    runs = ["solver=hals,mu", "ranks=[3]", f"seeds=${{range:{seeds}}}"]
    runs += ["stop.tol=0", f"stop.max_iter={iterations}", "record_every=100"]
    command = [sys.executable, "-m", "jaxnmf.experiment.cli", "run", "--queue"]
    subprocess.run([*command, *data, *runs, f"folder={folder}"], check=True)


def killed(folder: Path, logs: Path, workers: int, seed: int, events: int) -> int:
    """Let workers be killed until the study is complete; returns how many were.

    A worker's time has come soon after a random number of runs begun and stored.
    """
    chance, kills = random.Random(seed), 0
    running: list[tuple[subprocess.Popen[bytes], Path, int]] = []
    while not complete(folder):
        while len(running) < workers:
            log = logs / f"{len(list(logs.iterdir()))}.txt"
            log.touch()
            most = chance.randint(1, 2 * events)
            running.append((start(folder, log), log, most))
        time.sleep(0.02)
        left = []
        for process, log, most in running:
            if process.poll() is not None:
                # A worker ends by itself once others do the rest.
                if process.returncode:
                    raise SystemExit(f"a worker ended with {process.returncode}")
            elif log.read_bytes().count(b"\n") < most:
                left.append((process, log, most))
            else:
                time.sleep(chance.uniform(0, 0.2))
                process.kill()
                process.wait()
                kills += 1
        running = left
    for process, _, _ in running:
        process.kill()
        process.wait()
    return kills


def complete(folder: Path) -> bool:
    """Whether every job of the queue is."""
    jobs = len(list((folder / "queue").glob("*.json")))
    return len(list(folder.glob("jobs/[!.]*/manifest.json"))) == jobs


def bits(folder: Path) -> dict[str, bytes]:
    """Everything that a study computed, but for times."""
    found = {}
    for job in stored.read_jobs(folder):
        trace = job.trace.drop(columns="seconds").to_csv().encode()
        factors = [job.factors(run) for run in job.summary["run"]]
        arrays = b"".join(X.tobytes() for pair in factors for X in pair)
        found[job.key] = trace + arrays
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2, help="runs of a job")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument(
        "--events", type=int, default=20, help="runs of a worker that begin or end"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        alone, shared = Path(scratch) / "alone", Path(scratch) / "shared"
        for folder in (alone, shared):
            queue(folder, given.jobs, given.seeds, given.iterations)
        begin = time.monotonic()
        if code := start(alone, Path(scratch) / "alone.txt").wait():
            raise SystemExit(f"the worker alone ended with {code}")
        middle, logs = time.monotonic(), Path(scratch) / "logs"
        logs.mkdir()
        kills = killed(shared, logs, given.workers, given.seed, given.events)
        end = time.monotonic()
        texts = [path.read_text() for path in logs.iterdir()]
        lines = Counter(line for text in texts for line in text.splitlines())
        ours, theirs = bits(shared), bits(alone)
    begun, kept, jobs = (
        {line: n for line, n in lines.items() if line.startswith(f"{what} ")}
        for what in ("begun", "stored", "job")
    )
    again = sum(begun.values()) - len(begun)
    print(
        f"{len(ours)} jobs of {given.seeds} runs: one worker {middle - begin:.0f} s; "
        f"{given.workers} workers {end - middle:.0f} s, {kills} killed, {again} runs "
        f"begun again"
    )
    if ours != theirs:
        raise SystemExit("the bits differ")
    # A worker may be killed between storing and noting it.
    if max(kept.values()) > 1 or max(jobs.values()) > 1:
        raise SystemExit("something was stored twice")
    if again > kills:
        raise SystemExit("a run that was not under way was begun again")


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main()
