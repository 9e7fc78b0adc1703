"""Studies that several processes work on: a queue, and jobs that a process loses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxnmf.experiment import study, worker
from jaxnmf.experiment.cli import main
from jaxnmf.experiment.jobs import runs
from jaxnmf.experiment.store import lease, queue, stored

KILLED = Path(__file__).parents[2] / "experiments/benchmarks/killed_workers.py"
SMALL = ["dataset=synthetic", "dataset.m=30", "dataset.n=20", "dataset.rank=3"]
QUICK = [*SMALL, "ranks=[2,3]", "seeds=[0,1]", "stop.max_iter=20", "solver=hals"]
# A process of another machine, which waits in its second run and renews no lease.
OTHER = """
import sys, time
from pathlib import Path
from jaxnmf.experiment.cli import main
from jaxnmf.experiment.jobs import runs
from jaxnmf.experiment.store import lease

folder, lease.host = Path(sys.argv[1]), lambda: "elsewhere"
lease.Lease._renew = lambda self: None
timed, calls = runs.run_anywhere, []

def slow(*args, **options):
    calls.append(1)
    if len(calls) == 2:
        (folder / "entered").touch()
        while not (folder / "go on").exists():
            time.sleep(0.05)
    return timed(*args, **options)

runs.run_anywhere = slow
sys.exit(main(["work", sys.argv[1]]))
"""


def begin(folder, *overrides):
    assert main(["run", "--queue", *QUICK, *overrides, f"folder={folder}"]) == 0


@pytest.fixture
def other(tmp_path):
    """A process of another machine in the second run of a job of tmp_path."""
    begin(tmp_path)
    command = [sys.executable, "-c", OTHER, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (tmp_path / "entered").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def calls(monkeypatch):
    """The runs of this process, which does not wait long for another machine."""
    monkeypatch.setattr(lease, "EXPIRE", 1.0)
    monkeypatch.setattr(worker, "WAIT", 0.1)
    found, timed = [], runs.run_anywhere
    monkeypatch.setattr(
        runs, "run_anywhere", lambda *a, **k: found.append(1) or timed(*a, **k)
    )
    return found


def factors(folder):
    return {
        (job.key, run): [X.tobytes() for X in job.factors(run)]
        for job in stored.read_jobs(folder)
        for run in job.summary["run"]
    }


@pytest.mark.slow
def test_work_takes_the_jobs_of_a_study_and_writes_its_report(tmp_path, capsys):
    folder, alone = tmp_path / "shared", tmp_path / "alone"
    few = ["solver=hals,mu", "ranks=[2]", "seeds=[0]"]
    begin(folder, *few)
    assert "2 jobs in the queue" in capsys.readouterr().out
    assert not stored.read_jobs(folder)
    assert main(["work", str(folder)]) == 0
    assert "2 of 2 jobs run, 0 in progress elsewhere" in capsys.readouterr().out
    assert (folder / "report.html").is_file()
    assert main(["work", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "0 of 2 jobs run" in printed
    assert "nothing to do: 2 jobs done before" in printed
    # The same jobs as by run, and its command in their manifest.
    assert main(["run", *QUICK, *few, f"folder={alone}"]) == 0
    assert factors(folder) == factors(alone)
    assert len(queue.read(alone)) == 2
    (one, _) = stored.read_jobs(folder)
    assert one.manifest["command"].startswith("jaxnmf run dataset=synthetic")


def test_paths_are_those_of_where_the_study_began(tmp_path, monkeypatch):
    np.save(tmp_path / "V.npy", np.random.default_rng(0).random((12, 9)))
    data = ["dataset=file", "dataset.path=V.npy", "ranks=[2]", "seeds=[0]"]
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--queue", *data, "solver=hals", "folder=study"]) == 0
    (tmp_path / "other").mkdir()
    monkeypatch.chdir("other")
    assert main(["work", "../study"]) == 0
    (job,) = stored.read_jobs(tmp_path / "study")
    assert job.complete


@pytest.mark.slow
def test_a_process_that_lost_its_job_stores_nothing_more(tmp_path, other, calls):
    """Its lease had expired, as that of a machine without a connection."""
    assert main(["work", "--wait", str(tmp_path)]) == 0
    assert len(calls) == 3  # the first run was stored
    (job,) = stored.read_jobs(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in job.path.iterdir()}
    (tmp_path / "go on").touch()
    printed, _ = other.communicate(timeout=300)
    assert other.returncode == 0
    assert "0 of 1 jobs run" in printed
    assert before == {path: path.stat().st_mtime_ns for path in job.path.iterdir()}
    assert not list(tmp_path.glob("jobs/.*~*"))


@pytest.mark.slow
def test_a_job_of_a_machine_that_died_is_free_after_a_while(tmp_path, other, calls):
    other.kill()
    other.wait()
    lease.EXPIRE = 1e6  # put back by the fixture
    assert main(["work", str(tmp_path)]) == 0
    assert not calls
    lease.EXPIRE = 1.0
    assert main(["work", "--wait", str(tmp_path)]) == 0
    assert len(calls) == 3
    assert main(["run", *QUICK, f"folder={tmp_path / 'alone'}"]) == 0
    assert factors(tmp_path) == factors(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs signals to a process")
def test_sigterm_releases_the_job(tmp_path, other):
    other.send_signal(signal.SIGTERM)
    other.communicate(timeout=300)
    assert other.returncode == 130
    (path,) = tmp_path.glob("jobs/.*.lease/*")
    assert json.loads(path.read_text())["state"] == "released"


@pytest.mark.slow
def test_killed_workers_give_the_same_bits_and_do_nothing_twice():
    command = [sys.executable, str(KILLED), "--jobs=3", "--workers=2", "--events=3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 killed" not in done.stdout


def test_what_has_no_jobs_to_take_is_refused(tmp_path, capsys, monkeypatch):
    for command in (["work"], ["submit", "--slurm"]):
        assert main([*command, str(tmp_path)]) == 2
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1
        assert "has no jobs to take" in printed
        assert "jaxnmf run --queue" in printed
    begin(tmp_path)
    (path,) = tmp_path.glob("queue/*.json")
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({**whole, "version": "0.0"}))
    assert main(["work", str(tmp_path)]) == 2
    assert "but for 0.0" in capsys.readouterr().err
    path.write_text("{}")
    assert main(["work", str(tmp_path)]) == 2
    assert f"{path}: is malformed: has no config" in capsys.readouterr().err
    monkeypatch.setattr(study, "_distributed", lambda: True)
    assert main(["run", "--queue", *QUICK, f"folder={tmp_path / 'other'}"]) == 2
    assert "--queue: hydra/launcher" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_job_that_cannot_be_run_does_not_stop_the_others(tmp_path, capsys):
    begin(tmp_path, "init=nndsvd,random", "ranks=[30]")
    assert main(["work", str(tmp_path)]) == 2
    assert "min(m, n) = 20" in capsys.readouterr().err
    (job,) = stored.read_jobs(tmp_path)
    assert job.config["init"]["name"] == "random"
