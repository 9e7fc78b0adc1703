"""Studies that were killed, shared, damaged or repeated: always the same bits."""

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxnmf import datasets
from jaxnmf.experiment import command_cache
from jaxnmf.experiment import study as study_module
from jaxnmf.experiment.cli import main
from jaxnmf.experiment.jobs import job as jobs
from jaxnmf.experiment.jobs import runs
from jaxnmf.experiment.store import stored, unfinished
from jaxnmf.experiment.store.write import write_job

SMALL = ["dataset=synthetic", "dataset.m=30", "dataset.n=20", "dataset.rank=3"]
QUICK = [*SMALL, "ranks=[2,3]", "seeds=[0,1]", "stop.max_iter=40", "solver=hals,mu"]
CLOCKS = ("seconds", "compile_seconds")


def run(folder, *overrides):
    return main(["run", *QUICK, f"folder={folder}", *overrides])


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """A study left alone."""
    folder = tmp_path_factory.mktemp("studies") / "alone"
    assert run(folder) == 0
    return folder


def same_bits(folder, other):
    """Two studies have the same jobs, but for wall clocks."""
    ours, theirs = stored.read_jobs(folder), stored.read_jobs(other)
    assert [job.key for job in ours] == [job.key for job in theirs]
    for one, two in zip(ours, theirs, strict=True):
        assert one.complete
        assert two.complete
        for table in ("summary", "trace"):
            a, b = (getattr(x, table) for x in (one, two))
            kept = [column for column in a if column not in CLOCKS]
            assert a[kept].equals(b[kept])
        for name in one.summary["run"]:
            for X, Y in zip(one.factors(name), two.factors(name), strict=True):
                assert X.tobytes() == Y.tobytes()


@pytest.mark.slow
def test_two_runs_give_the_same_bits_and_programs(study, tmp_path):
    assert run(tmp_path) == 0
    same_bits(study, tmp_path)
    for job in stored.read_jobs(study):
        assert job.summary["program"].str.fullmatch("[0-9a-f]{12}").all()
        assert job.manifest["xla_flags"] == os.environ["XLA_FLAGS"]


@pytest.mark.parametrize("command", ["run", "report", "reproduce"])
def test_a_study_of_an_older_format_is_refused(study, tmp_path, capsys, command):
    """Before any job is run, and nothing is changed."""
    folder = tmp_path / "older"
    shutil.copytree(study, folder)
    shutil.rmtree(folder / command_cache.FOLDER)
    path = next(folder.glob("jobs/*/manifest.json"))
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest = {**manifest, "format": 1, "package_version": "0.0.9"}
    path.write_text(json.dumps(manifest), encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}
    if command == "run":
        assert run(folder, "solver=pgd") == 2
    else:
        assert main([command, str(folder)]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert f"{path.parent}: was written by jaxnmf 0.0.9 in format 1; jaxnmf" in printed
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")} == before


SCRIPT = """
import sys
from jaxnmf.experiment.store import unfinished
from jaxnmf.experiment.cli import main

pytestmark = pytest.mark.slow
unfinished.CHECKPOINT_SECONDS = 0.0
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_bits(tmp_path):
    """At random moments, at a small size: nothing lost, nothing half-written seen."""
    arguments = ["stop.max_iter=1500", "stop.tol=0", "record_every=50"]
    assert run(tmp_path / "alone", *arguments) == 0
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", SCRIPT, "run", *QUICK, *arguments]
    moments = random.Random(0)
    ended: dict[Path, int] = {}
    for _ in range(4):
        process = subprocess.Popen(
            [*command, f"folder={folder}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        known, deadline = len(list(folder.glob("jobs/**/*"))), time.monotonic() + 300
        # From the moment that it leaves anything new.
        while len(list(folder.glob("jobs/**/*"))) == known and process.poll() is None:
            assert time.monotonic() < deadline, "nothing was written in five minutes"
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.6))
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if (folder / "jobs").is_dir():
            stored.read_jobs(folder)  # whole, or an error
        for path, written in ended.items():
            # Done is done: a run that ended, or the job that it went into.
            complete = path.parent.with_name(path.parent.name[1:].removesuffix("~runs"))
            assert complete.is_dir() or path.stat().st_mtime_ns == written
        ended = {
            path: path.stat().st_mtime_ns for path in folder.glob("jobs/.*~runs/*.npz")
        }
    assert run(folder, *arguments) == 0
    same_bits(tmp_path / "alone", folder)
    assert not list(folder.glob("jobs/.*~*"))


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["hals", "mu-minibatch", "optax", "extrapolated"])
def test_a_run_goes_on_from_its_checkpoint_with_the_same_bits(
    solver, tmp_path, monkeypatch
):
    """Also one whose state holds random keys."""
    arguments = [f"solver={solver}", "ranks=[2]", "seeds=[0]", "stop.max_iter=60"]
    arguments.append("stop.tol=0")
    assert run(tmp_path / "alone", *arguments) == 0
    monkeypatch.setattr(unfinished, "CHECKPOINT_SECONDS", 0.0)
    saves, save = [], unfinished.RunCheckpoint.save

    def killed(self, progress):
        save(self, progress)
        saves.append(self.path)
        if len(saves) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(unfinished.RunCheckpoint, "save", killed)
    assert run(tmp_path / "cut", *arguments) == 130
    assert saves[0].is_file()
    loaded, timed = [], runs.run_anywhere

    def resumed(*args, **kwargs):
        loaded.append(kwargs["checkpoint"].load())
        return timed(*args, **kwargs)

    monkeypatch.setattr(runs, "run_anywhere", resumed)
    monkeypatch.setattr(unfinished.RunCheckpoint, "save", save)
    assert run(tmp_path / "cut", *arguments) == 0
    assert list(loaded[0]["iteration"]) == [0, 10, 20, 30]
    same_bits(tmp_path / "alone", tmp_path / "cut")


@pytest.mark.slow
def test_what_another_environment_began_is_run_again(tmp_path, monkeypatch, capsys):
    """And kept: a job's runs are all of one version, one device and one commit."""
    add = unfinished.Unfinished.add

    def killed(self, run, done):
        add(self, run, done)
        raise KeyboardInterrupt

    monkeypatch.setattr(unfinished.Unfinished, "add", killed)
    assert run(tmp_path, "solver=hals") == 130
    monkeypatch.setattr(unfinished.Unfinished, "add", add)
    (path,) = tmp_path.glob("jobs/.*~runs/manifest.json")
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "versions": {"jax": "0.0"}}))
    calls, timed = [], runs.run_anywhere
    monkeypatch.setattr(
        runs, "run_anywhere", lambda *a, **k: calls.append(1) or timed(*a, **k)
    )
    assert run(tmp_path, "solver=hals") == 0
    assert len(calls) == 4
    printed = " ".join(capsys.readouterr().out.split())
    assert "was started with another versions" in printed
    (kept,) = (tmp_path / "damaged").iterdir()
    assert (kept / "r2-s0.npz").is_file()


def test_a_checkpoint_outlives_a_disk_that_is_full(tmp_path, monkeypatch, capsys):
    arguments = ["solver=hals", "ranks=[2]", "seeds=[0]", "stop.tol=0"]
    monkeypatch.setattr(unfinished, "CHECKPOINT_SECONDS", 0.0)
    puts, put = [], unfinished.put

    def full(path, data):
        if path.suffix == ".checkpoint":
            puts.append(path)
            if len(puts) == 3:
                raise OSError(28, "No space left on device")
        put(path, data)

    monkeypatch.setattr(unfinished, "put", full)
    assert run(tmp_path, *arguments) == 2
    assert "No space left" in capsys.readouterr().err
    assert puts[0].is_file()


@pytest.mark.slow
def test_another_jobs_damage_does_not_hide_what_happened(study, tmp_path, capsys):
    assert run(tmp_path, "solver=hals") == 0
    (job,) = stored.read_jobs(tmp_path)
    (job.path / "factors.npz").write_bytes(b"damaged")
    assert run(tmp_path, "solver=mu") == 2
    assert "factors.npz: is not the file" in capsys.readouterr().err
    assert run(tmp_path, "solver=mu,pgd", "init=nndsvd", "ranks=[30]") == 2
    assert "min(m, n) = 20" in capsys.readouterr().err  # the reason, not the damage
    assert run(tmp_path) == 0
    same_bits(study, tmp_path)


def one_job(folder, entered, go_on, code):
    """In a process of its own: a job whose first run waits until it may go on."""
    timed = runs.run_anywhere

    def slow(*args, **kwargs):
        entered.set()
        go_on.wait(300)
        return timed(*args, **kwargs)

    runs.run_anywhere = slow
    code.put(main(["run", *QUICK, "solver=hals", f"folder={folder}"]))


@pytest.mark.slow
def test_two_processes_do_not_do_the_same_job(tmp_path, monkeypatch):
    """The second does what is free, then waits; a lock goes with its process."""
    context = multiprocessing.get_context("spawn")
    entered, go_on, code = context.Event(), context.Event(), context.Queue()
    other = context.Process(target=one_job, args=(tmp_path, entered, go_on, code))
    other.start()
    assert entered.wait(300)
    order = []
    run_job = jobs.run_job

    def noted(config, folder, **options):
        order.append((config["solver"]["name"], options["wait"]))
        if options["wait"]:
            go_on.set()
        return run_job(config, folder, **options)

    monkeypatch.setattr(jobs, "run_job", noted)
    calls, timed = [], runs.run_anywhere

    def counted(problem, solver, *args, **kwargs):
        calls.append(solver.name)
        return timed(problem, solver, *args, **kwargs)

    monkeypatch.setattr(runs, "run_anywhere", counted)
    assert run(tmp_path) == 0
    assert order == [("hals", False), ("mu", False), ("hals", True), ("mu", True)]
    assert set(calls) == {"mu"}
    assert code.get(timeout=300) == 0
    other.join(300)
    assert all(job.complete for job in stored.read_jobs(tmp_path))


@pytest.mark.slow
def test_a_dead_process_leaves_no_lock(tmp_path):
    context = multiprocessing.get_context("spawn")
    entered, go_on, code = context.Event(), context.Event(), context.Queue()
    other = context.Process(target=one_job, args=(tmp_path, entered, go_on, code))
    other.start()
    assert entered.wait(300)
    other.kill()
    other.join(300)
    assert run(tmp_path, "solver=hals") == 0
    (job,) = stored.read_jobs(tmp_path)
    assert job.complete


@pytest.mark.slow
def test_force_runs_again_and_nothing_else_does(study, tmp_path, monkeypatch, capsys):
    assert run(tmp_path) == 0
    written = [job.manifest["finished"] for job in stored.read_jobs(tmp_path)]
    capsys.readouterr()
    assert run(tmp_path) == 0
    assert "nothing to do: 2 jobs done before" in capsys.readouterr().out
    assert [job.manifest["finished"] for job in stored.read_jobs(tmp_path)] == written
    calls = []
    timed = runs.run_anywhere
    monkeypatch.setattr(
        runs, "run_anywhere", lambda *a, **k: calls.append(1) or timed(*a, **k)
    )
    arguments = ["run", "--force", *QUICK, f"folder={tmp_path}"]
    assert main(arguments) == 0
    assert len(calls) == 8
    same_bits(study, tmp_path)


@pytest.mark.slow
def test_a_damaged_job_is_run_again_and_moved_away(study, tmp_path, capsys):
    assert run(tmp_path) == 0
    path = stored.read_jobs(tmp_path)[0].path / "factors.npz"
    path.write_bytes(path.read_bytes()[:-100])
    assert main(["report", str(tmp_path)]) == 2
    assert "factors.npz: is not the file" in capsys.readouterr().err
    assert run(tmp_path) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "warning: " in printed
    assert "it is run again" in printed
    same_bits(study, tmp_path)
    assert len(list((tmp_path / "damaged").iterdir())) == 1


def test_reproduce_confirms_the_bits(study, capsys):
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*")}
    assert main(["reproduce", str(study)]) == 0
    printed = capsys.readouterr().out
    assert "all of 2 jobs gave the same bits" in printed
    assert printed.count("4 runs, same bits") == 2
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*")} == before
    assert main(["reproduce", str(study), "--sample", "1"]) == 0
    assert "all of 1 job gave" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_ended_by_the_clock_is_reproduced_to_its_iteration(tmp_path, capsys):
    arguments = ["solver=hals", "stop.time_budget=0.02", "stop.max_iter=100000"]
    assert run(tmp_path, *arguments, "stop.tol=0") == 0
    (job,) = stored.read_jobs(tmp_path)
    assert set(job.summary["status"]) == {"time"}
    assert main(["reproduce", str(tmp_path)]) == 0
    assert "4 runs, same bits" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_ended_in_time_is_reproduced_on_a_loaded_machine(
    tmp_path, monkeypatch, capsys
):
    """Its iterations may take longer than the budget now."""
    assert run(tmp_path, "solver=hals", "stop.time_budget=100") == 0
    timed = runs.run_anywhere

    def slowly(problem, solver, factors, key, stop, **more):
        assert stop.seconds == np.inf
        return timed(problem, solver, factors, key, stop, **more)

    monkeypatch.setattr(runs, "run_anywhere", slowly)
    assert main(["reproduce", str(tmp_path)]) == 0
    assert "4 runs, same bits" in capsys.readouterr().out


def rewritten(path, change):
    """The job, written again with another summary, trace or factors, or environment."""
    job = stored.read_job(path)
    factors = {run: job.factors(run) for run in job.summary["run"]}
    parts = {
        "config": job.config,
        "manifest": dict(job.manifest),
        "trace": job.trace.copy(),
        "summary": job.summary,
        "factors": factors,
    }
    change(parts)
    write_job(path.parents[1], path.name, **parts)


@pytest.mark.slow
def test_reproduce_prints_what_differs_from_which_record(tmp_path, capsys):
    assert run(tmp_path, "solver=hals") == 0
    (job,) = stored.read_jobs(tmp_path)

    def bend(parts):
        rows = parts["trace"].index[parts["trace"]["run"] == "r3-s1"]
        parts["trace"].loc[rows[2:], "objective"] *= 1.001
        W, H = parts["factors"]["r2-s0"]
        parts["factors"]["r2-s0"] = (W + np.float32(1e-3), H)
        parts["manifest"]["versions"] = {**parts["manifest"]["versions"], "jax": "0.0"}

    rewritten(job.path, bend)
    assert main(["reproduce", str(tmp_path)]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 of them differ" in printed
    assert "r3-s1: objective from record 2 (iteration 20): " in printed
    assert "r2-s0: W by up to 0.001" in printed
    assert "jax: 0.0 before" in printed


@pytest.mark.slow
def test_reproduce_refuses_data_that_were_changed(tmp_path, capsys):
    path = tmp_path / "mine.npy"
    V = datasets.load("synthetic", m=12, n=9, rank=2).V
    np.save(path, V)
    data = ["dataset=file", f"dataset.path={path}", "ranks=[2]", "solver=hals"]
    assert main(["run", *data, f"folder={tmp_path / 'study'}"]) == 0
    np.save(path, V + 1)
    assert main(["reproduce", str(tmp_path / "study")]) == 2
    assert "have changed: SHA-256" in capsys.readouterr().err
    # The record of the old data stays, and the new data are a job of their own.
    assert main(["run", *data, f"folder={tmp_path / 'study'}"]) == 0
    assert len(stored.read_jobs(tmp_path / "study")) == 2


def test_reproduce_of_nothing(tmp_path, capsys):
    assert main(["reproduce", str(tmp_path)]) == 2
    assert "contains no complete job" in capsys.readouterr().err


@pytest.mark.slow
def test_a_report_of_several_folders_counts_a_job_once(study, tmp_path, capsys):
    assert run(tmp_path / "more", "solver=pgd") == 0
    both = [str(study), str(tmp_path / "more")]
    assert main(["report", *both]) == 2
    assert "target" in capsys.readouterr().err
    assert main(["report", *both, str(study), "--into", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert "12 runs" in page
    for name in ("hals", "mu", "pgd"):
        assert name in page


def test_the_manifest_says_what_a_reviewer_needs(study):
    manifest = json.loads(
        (stored.read_jobs(study)[0].path / "manifest.json").read_text()
    )
    for key in ("versions", "python", "platform", "device", "precision", "commit",
                "dirty", "data_checksum", "command", "started", "finished", "cores",
                "xla_flags", "files", "sha256", "format", "kind"):  # fmt: skip
        assert key in manifest


@pytest.mark.slow
def test_hydra_gets_the_lowest_error_of_each_job(tmp_path, monkeypatch):
    """By what Hydra's task returns; NaN for a job that cannot be run."""
    monkeypatch.setattr(study_module, "_distributed", lambda: True)
    hydra, returned = study_module._hydra, []
    monkeypatch.setattr(
        study_module,
        "_hydra",
        lambda task: hydra(lambda config: returned.append(task(config))),
    )
    assert run(tmp_path, "solver=hals,kl-newton,pgd") == 0
    hals, pgd = stored.read_jobs(tmp_path)
    best = [float(job.summary["error"].min()) for job in (hals, pgd)]
    np.testing.assert_equal(returned, [best[0], np.nan, best[1]])
