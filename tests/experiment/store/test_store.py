"""The run store: round trips, atomic replacement, refusal of what is damaged."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest

from jaxnmf.experiment.store import stored, unfinished, write
from jaxnmf.experiment.store.layout import DATA_FILES, StoredRun
from jaxnmf.experiment.store.lease import Busy
from jaxnmf.experiment.store.stored import find_job, read_job, read_jobs
from jaxnmf.experiment.store.unfinished import Unfinished
from jaxnmf.experiment.store.write import write_job


def job(error=0.5, seeds=(0,), **changes):
    """Arguments of write_job; runs of one rank that differ by ``error``."""
    rng = np.random.default_rng(0)
    runs = [f"r2-s{seed}" for seed in seeds]
    summary = pd.DataFrame(
        {
            "run": runs,
            "dataset": "digits",
            "loss": "frobenius",
            "solver": "hals",
            "rank": 2,
            "seed": list(seeds),
            "objective": error**2,
            "error": error,
            "relative_error": error,
            "iterations": 10,
            "seconds": 0.1,
            "compile_seconds": 1.0,
            "kkt": np.nan,
            "status": "converged",
        }
    )
    trace = pd.DataFrame(
        [
            {
                "run": run,
                "iteration": i,
                "seconds": i / 100,
                "objective": 1.0,
                "error": error + 1 / (i + 1),
                "kkt": np.nan,
            }
            for run in runs
            for i in (0, 10)
        ]
    )
    factors = {
        run: (rng.random((4, 2), np.float32), rng.random((2, 3), np.float32))
        for run in runs
    }
    return {
        "config": {"dataset": {"name": "digits"}, "ranks": [2], "tol": 1e-5},
        "manifest": {"package_version": "0", "complete": True, "device": "CPU é"},
        "trace": trace,
        "summary": summary,
        "factors": factors,
        **changes,
    }


def error_of(folder, key="a"):
    return read_job(folder / "jobs" / key).summary["error"].item()


def test_round_trip(tmp_path):
    given = job(seeds=(0, 1))
    path = write_job(tmp_path / "study", "digits-hals.1", **given)
    assert path == tmp_path / "study" / "jobs" / "digits-hals.1"
    found = read_job(path)
    assert found.config == given["config"]
    assert found.manifest.items() >= given["manifest"].items()
    assert set(found.manifest["files"]) == set(DATA_FILES)
    pd.testing.assert_frame_equal(
        found.summary, given["summary"], check_dtype=False, check_column_type=False
    )
    pd.testing.assert_frame_equal(
        found.trace, given["trace"], check_dtype=False, check_column_type=False
    )
    for run, (W, H) in given["factors"].items():
        for kept, asked in zip(found.factors(run), (W, H), strict=True):
            assert kept.dtype == np.float32
            np.testing.assert_array_equal(kept, asked)
    with pytest.raises(ValueError, match=r"r2-s9.*r2-s0, r2-s1"):
        found.factors("r2-s9")


def test_offsets_are_kept_where_there_are_any(tmp_path):
    pair = np.arange(3.0), np.ones(2)
    found = read_job(
        write_job(tmp_path, "a", **job(seeds=(0, 1)), offsets={"r2-s0": pair})
    )
    for kept, given in zip(found.offsets("r2-s0"), pair, strict=True):
        np.testing.assert_array_equal(kept, given)
    assert found.offsets("r2-s1") is None


def test_of_two_that_complete_a_job_the_first_stays(tmp_path):
    write_job(tmp_path, "a", **job(0.5), replace=False)
    with pytest.raises(Busy):
        write_job(tmp_path, "a", **job(0.1), replace=False)
    assert error_of(tmp_path) == 0.5
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["a"]
    write_job(tmp_path, "a", **job(0.1))
    assert error_of(tmp_path) == 0.1


def test_who_may_no_longer_store_stores_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(unfinished, "CHECKPOINT_SECONDS", 0.0)
    lost = []

    def check():
        if lost:
            raise Busy("a")

    parts = Unfinished(tmp_path, "a", check)
    parts.begin({"tol": 1e-5}, {"package_version": "0"})
    checkpoint = parts.checkpoint("r2-s0")
    parts.add("r2-s0", finished())
    lost.append(True)
    with pytest.raises(Busy):
        parts.add("r2-s1", finished(seed=1))
    with pytest.raises(Busy):
        checkpoint.save(lambda: pytest.fail("was computed"))
    assert parts.runs() == ["r2-s0"]


def finished(error=0.5, seed=0):
    given = job(error, seeds=(seed,))
    run = f"r2-s{seed}"
    (row,) = given["summary"].to_dict("records")
    return StoredRun(row, given["trace"], given["factors"][run])


def test_a_running_job_is_readable_and_grows(tmp_path):
    unfinished = Unfinished(tmp_path, "a")
    unfinished.begin({"tol": 1e-5}, {"package_version": "0"})
    assert read_jobs(tmp_path) == []
    for seeds in ((0,), (0, 1)):
        unfinished.add(f"r2-s{seeds[-1]}", finished(seed=seeds[-1]))
        (found,) = read_jobs(tmp_path)
        assert found.key == "a"
        assert not found.complete
        assert found.config == {"tol": 1e-5}
        assert list(found.summary["run"]) == [f"r2-s{seed}" for seed in seeds]
        assert list(found.trace["iteration"]) == [0, 10] * len(seeds)
        W, _ = found.factors("r2-s0")
        np.testing.assert_array_equal(W, finished().factors[0])
    write_job(tmp_path, "a", **job(seeds=(0, 1)))
    (grown,) = read_jobs(tmp_path)
    assert grown.complete
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["a"]


def test_a_run_that_ended_reads_back_as_it_was(tmp_path):
    unfinished = Unfinished(tmp_path, "a")
    unfinished.begin({}, {})
    given = finished()._replace(offsets=(np.arange(4.0), np.ones(3)))
    given.row["error"] = np.float32(0.1)
    kept = unfinished.add("r2-s0", given)
    found = unfinished.read("r2-s0")
    # What an interrupted job reads back is what an uninterrupted one goes on with.
    assert found.row.items() - {("kkt", found.row["kkt"])} == (
        kept.row.items() - {("kkt", kept.row["kkt"])}
    )
    assert found.row["error"] == float(np.float32(0.1))
    pd.testing.assert_frame_equal(found.trace, given.trace, check_column_type=False)
    for pair in ("factors", "offsets"):
        for one, other in zip(getattr(found, pair), getattr(given, pair), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_damaged_run_is_as_if_it_were_not_there(tmp_path):
    unfinished = Unfinished(tmp_path, "a")
    unfinished.begin({}, {})
    unfinished.add("r2-s0", finished())
    path = unfinished.path / "r2-s0.npz"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not an archive"):
        path.write_bytes(damaged)
        assert unfinished.read("r2-s0") is None
        assert read_jobs(tmp_path) == []
    assert unfinished.read("r2-s1") is None


def test_checkpoints_are_whole_rare_and_gone_when_the_run_ends(tmp_path, monkeypatch):
    unfinished = Unfinished(tmp_path, "a")
    unfinished.begin({}, {})
    progress = {"leaf0": np.arange(3.0)}
    one = unfinished.checkpoint("r2-s0")
    assert one.load() is None
    one.save(lambda: pytest.fail("too soon"))
    monkeypatch.setattr("jaxnmf.experiment.store.unfinished.CHECKPOINT_SECONDS", 0.0)
    one.save(lambda: progress)
    kept = unfinished.checkpoint("r2-s0").load()
    assert kept is not None
    np.testing.assert_array_equal(kept["leaf0"], progress["leaf0"])
    one.path.write_bytes(one.path.read_bytes()[:-40])
    assert one.load() is None
    unfinished.add("r2-s0", finished())
    assert sorted(path.name for path in unfinished.path.iterdir()) == [
        "config.yaml",
        "manifest.json",
        "r2-s0.npz",
    ]


def test_a_choice_of_rank_is_kept_with_its_evidence(tmp_path):
    choice = pd.DataFrame({"pac": [0.1, 0.2]}, index=pd.Index([2, 3], name="rank"))
    evidence = {2: {"order": np.arange(3)}, 3: {"order": np.arange(3)[::-1]}}
    path = write_job(tmp_path, "a", **job(choice=choice, evidence=evidence))
    found = read_job(path)
    pd.testing.assert_frame_equal(found.choice(), choice)
    np.testing.assert_array_equal(found.evidence()[3]["order"], [2, 1, 0])
    (path / "evidence.npz").unlink()
    with pytest.raises(ValueError, match=r"evidence\.npz: is missing"):
        read_job(path)
    plain = read_job(write_job(tmp_path, "b", **job()))
    assert plain.choice() is None
    assert plain.evidence() == {}


def test_jobs_are_read_in_order_and_without_dot_folders(tmp_path):
    assert read_jobs(tmp_path) == []
    assert find_job(tmp_path, "a") is None
    for key in ("b", "a", "a.b"):
        write_job(tmp_path, key, **job())
    (tmp_path / "jobs" / ".a~0123").mkdir()
    (tmp_path / "jobs" / "notes.txt").write_text("mine")
    assert [each.key for each in read_jobs(tmp_path)] == ["a", "a.b", "b"]
    assert find_job(tmp_path, "a")


class Killed(BaseException):
    """The process is no more: from here on nothing can be moved or removed."""


@pytest.fixture
def kill_at(monkeypatch):
    """Die at the n-th move of a folder, before or after it is made."""

    def arm(n, *, after):
        made, moves, remove = [], os.replace, shutil.rmtree

        def replace(source, target):
            made.append(target)
            if len(made) > n or (len(made) == n and not after):
                raise Killed
            moves(source, target)
            if len(made) == n:
                raise Killed

        def rmtree(path, **kwargs):
            if len(made) >= n:
                raise Killed
            remove(path, **kwargs)

        monkeypatch.setattr(write.os, "replace", replace)
        monkeypatch.setattr(write.shutil, "rmtree", rmtree)

    return arm


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("n", "new"), [(1, False), (2, True)])
def test_killed_while_replacing_leaves_the_old_or_the_new(
    tmp_path, kill_at, monkeypatch, n, new, after
):
    write_job(tmp_path, "a", **job(error=0.5))
    kill_at(n, after=after)
    with pytest.raises(Killed):
        write_job(tmp_path, "a", **job(error=0.25))
    monkeypatch.undo()
    assert find_job(tmp_path, "a")
    assert error_of(tmp_path) == (0.25 if new and after else 0.5)
    (found,) = read_jobs(tmp_path)
    assert found.key == "a"
    found.factors("r2-s0")

    write_job(tmp_path, "a", **job(error=0.125))
    assert error_of(tmp_path) == 0.125
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["a"]


def test_killed_before_the_first_job_is_complete_leaves_none(
    tmp_path, kill_at, monkeypatch
):
    kill_at(1, after=False)
    with pytest.raises(Killed):
        write_job(tmp_path, "a", **job())
    monkeypatch.undo()
    assert find_job(tmp_path, "a") is None
    assert read_jobs(tmp_path) == []


def test_a_failure_in_the_middle_keeps_the_old_job(tmp_path, monkeypatch):
    write_job(tmp_path, "a", **job(error=0.5))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "npz", full)
    with pytest.raises(ValueError, match=r"^folder: .*No space left"):
        write_job(tmp_path, "a", **job(error=0.25))
    assert error_of(tmp_path) == 0.5
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["a"]


def test_a_failed_move_puts_the_old_job_back(tmp_path, monkeypatch):
    write_job(tmp_path, "a", **job(error=0.5))
    moves = os.replace

    def replace(source, target):
        if "~old" not in str(source) and "~old" not in str(target):
            raise OSError(5, "Input/output error")
        moves(source, target)

    monkeypatch.setattr(write.os, "replace", replace)
    with pytest.raises(ValueError, match=r"^folder: .*Input/output error"):
        write_job(tmp_path, "a", **job(error=0.25))
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["a"]
    assert error_of(tmp_path) == 0.5


@pytest.mark.parametrize("name", DATA_FILES)
def test_a_changed_file_is_refused_by_name(tmp_path, name):
    path = write_job(tmp_path, "a", **job())
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: is not the file that was written"):
        read_jobs(tmp_path)
    (path / name).unlink()
    with pytest.raises(ValueError, match=rf"{name}: is missing"):
        read_job(path)


def test_a_damaged_manifest_is_refused_by_name(tmp_path):
    path = write_job(tmp_path, "a", **job())
    (path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest\.json: is malformed"):
        read_job(path)
    (path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match=r"manifest\.json: has no checksums"):
        read_job(path)
    (path / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"manifest\.json: cannot be read"):
        read_jobs(tmp_path)


def test_a_manifest_that_was_edited_is_refused(tmp_path):
    path = write_job(tmp_path, "a", **job()) / "manifest.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("CPU é", "GPU"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"manifest\.json: was changed"):
        read_jobs(tmp_path)


@pytest.mark.parametrize("format", [1, 7])
def test_another_format_is_refused_with_both_versions(tmp_path, monkeypatch, format):
    monkeypatch.setattr(write, "FORMAT", format)
    write_job(tmp_path, "a", **job())
    monkeypatch.undo()
    message = rf"jaxnmf 0 in format {format}; jaxnmf [\d.]+ reads format 2$"
    for refuse in (read_jobs, stored.check_formats):
        with pytest.raises(ValueError, match=message):
            refuse(tmp_path)


def test_an_unfinished_job_of_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unfinished, "FORMAT", 1)
    parts = unfinished.Unfinished(tmp_path, "a")
    parts.begin({}, {"package_version": "0"})
    parts.add("r2-s0", finished())
    monkeypatch.undo()
    for refuse in (read_jobs, stored.check_formats):
        with pytest.raises(ValueError, match="jaxnmf 0 in format 1"):
            refuse(tmp_path)


def test_a_damaged_job_is_moved_away(tmp_path):
    path = write_job(tmp_path, "a", **job())
    kept = write.move_damaged(tmp_path, "a", path)
    assert not path.exists()
    assert sorted(each.name for each in kept.iterdir()) == sorted(
        [*DATA_FILES, "manifest.json"]
    )
    assert read_jobs(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ValueError, match=r"^folder: .*file.*Not a directory"):
        write_job(tmp_path / "file", "a", **job())


@pytest.mark.parametrize("key", ["", ".a", "a/b", "..", "a~b"])
def test_a_key_is_a_plain_name(tmp_path, key):
    with pytest.raises(ValueError, match=r"^key: "):
        write_job(tmp_path, key, **job())


def test_malformed_arguments_are_named_and_nothing_is_written(tmp_path):
    good = job()
    for changes, message in (
        (
            {"summary": good["summary"].drop(columns="kkt")},
            "summary: has no column kkt",
        ),
        ({"trace": good["trace"].drop(columns="error")}, "trace: has no column error"),
        ({"trace": good["trace"].assign(run="x")}, "trace: run 'x' is not in summary"),
        (
            {"factors": {"x": good["factors"]["r2-s0"]}},
            "factors: run 'x' is not in summary",
        ),
        (
            {"summary": pd.concat([good["summary"]] * 2)},
            "summary: run 'r2-s0' occurs twice",
        ),
        ({"config": {"x": object()}}, "config: only plain values"),
        ({"manifest": {"x": object()}}, "manifest: only plain values"),
        ({"manifest": {"x": float("nan")}}, "manifest: only plain values"),
    ):
        with pytest.raises(ValueError, match=message):
            write_job(tmp_path, "a", **{**good, **changes})
    assert not list(tmp_path.iterdir())


def test_a_job_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    write_job(tmp_path, "a", **job(error=0.5))
    digest, replaced = stored.file_sha256, []

    def slow(path):
        # The old manifest is read; now the files change under it.
        if not replaced:
            replaced.append(path)
            write_job(tmp_path, "a", **job(error=0.25))
        return digest(path)

    monkeypatch.setattr(stored, "file_sha256", slow)
    assert error_of(tmp_path) == 0.25
