"""Folders of studies and sweeps with files that were cut, or are of something else: a
sentence or the lanes anew, and nothing that was there is lost."""

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxnmf
from jaxnmf._util import disk
from jaxnmf.experiment.cli import main
from jaxnmf.experiment.store import unfinished

V = np.random.default_rng(0).random((12, 9)) + 0.1
SWEEP: Any = {"ranks": [2], "seeds": 3, "max_iter": 10}


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _zip(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def _parquet() -> bytes:
    file = io.BytesIO()
    pd.DataFrame({"a": [1]}).to_parquet(file)
    return file.getvalue()


ARCHIVES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "text": lambda data: b"no archive\n",
    "npy": lambda data: _npy(V),
    "other arrays": lambda data: disk.npz({"a": V, "x/status": V, "row": V}),
    "other files": lambda data: _zip(readme=b"hello", status=b""),
    "zeros": lambda data: data[:100] + bytes(len(data) - 100),
    "table": lambda data: _parquet(),
}
JSONS = {
    "empty": b"",
    "cut": b'{"version": "0.2',
    "list": b"[1, 2]",
    "number": b"3",
    "null": b"null",
    "other": b'{"a": 1}',
    "bytes": b"\xff\xfe\x00",
}


# --- Sweeps ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def swept(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("swept")
    jaxnmf.sweep(V, folder=folder, **SWEEP)
    return folder


@pytest.mark.parametrize("damage", ARCHIVES)
def test_lanes_that_cannot_be_read_are_run_again(swept, tmp_path, damage):
    folder = tmp_path / "sweep"
    shutil.copytree(swept, folder)
    (path,) = folder.glob("lanes-*.npz")
    path.write_bytes(ARCHIVES[damage](path.read_bytes()))
    damaged = path.read_bytes()
    found = jaxnmf.sweep(V, folder=folder, **SWEEP)
    assert found.complete
    whole = jaxnmf.sweep(V, folder=swept, **SWEEP)
    np.testing.assert_array_equal(found.best().W, whole.best().W)
    assert path.read_bytes() == damaged
    # And are found the next time.
    assert len(list(folder.glob("lanes-*.npz"))) == 2


@pytest.mark.parametrize("damage", JSONS)
def test_a_sweep_without_its_card_is_refused(swept, tmp_path, damage):
    folder = tmp_path / "sweep"
    shutil.copytree(swept, folder)
    (folder / "sweep.json").write_bytes(JSONS[damage])
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=r"^folder=.*(sweep\.json|a sweep of)") as e:
        jaxnmf.sweep(V, folder=folder, **SWEEP)
    assert "\n" not in str(e.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


# --- Studies --------------------------------------------------------------------------

JOB = ["dataset=synthetic", "dataset.m=12", "dataset.n=8", "dataset.rank=2"]
JOB += ["solver=mu", "ranks=[2]", "seeds=[0,1]", "stop.max_iter=40", "stop.tol=0"]


def run(folder: Path) -> int:
    return main(["run", *JOB, f"folder={folder}"])


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    assert run(folder) == 0
    return folder


@pytest.fixture(scope="session")
def started(tmp_path_factory) -> Path:
    """A study whose second run was cut after a checkpoint."""
    folder = tmp_path_factory.mktemp("started")
    save = unfinished.RunCheckpoint.save
    seen = []

    def killed(self, progress):
        save(self, progress)
        seen.append(self.path.name)
        if self.path.name == "r2-s1.checkpoint" and seen.count(self.path.name) == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unfinished, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(unfinished.RunCheckpoint, "save", killed)
        assert run(folder) == 130
    names = {path.name for path in folder.glob("jobs/.*~runs/*")}
    assert {"r2-s0.npz", "r2-s1.checkpoint"} <= names
    return folder


def factors(folder: Path) -> list[bytes]:
    (path,) = folder.glob("jobs/[!.]*/factors.npz")
    return [array.tobytes() for _, array in sorted(disk.read_arrays(path).items())]


@pytest.mark.parametrize("damage", ["cut", "npy", "other arrays", "other files"])
@pytest.mark.slow
@pytest.mark.parametrize("name", ["r2-s0.npz", "r2-s1.checkpoint"])
def test_a_job_in_progress_runs_again_what_it_cannot_read(
    study, started, tmp_path, name, damage
):
    folder = tmp_path / "study"
    shutil.copytree(started, folder)
    (path,) = folder.glob(f"jobs/.*~runs/{name}")
    path.write_bytes(ARCHIVES[damage](path.read_bytes()))
    assert run(folder) == 0
    assert factors(folder) == factors(study)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "list", "null"])
def test_a_job_in_progress_without_its_manifest_is_run_again(
    study, started, tmp_path, damage, capsys
):
    folder = tmp_path / "study"
    shutil.copytree(started, folder)
    (path,) = folder.glob("jobs/.*~runs/manifest.json")
    path.write_bytes(JSONS[damage])
    main(["report", str(folder)])
    assert run(folder) == 0
    assert factors(folder) == factors(study)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "number", "null"])
def test_a_job_without_its_manifest_is_refused_and_kept(
    study, tmp_path, damage, capsys
):
    folder = tmp_path / "study"
    shutil.copytree(study, folder)
    (path,) = folder.glob("jobs/[!.]*/manifest.json")
    path.write_bytes(JSONS[damage])
    for command in ("report", "reproduce"):
        assert main([command, str(folder)]) == 2
        message = capsys.readouterr().err.strip()
        assert "manifest.json: " in message
        assert "\n" not in message
    for kept in folder.glob("*/*.json"):  # of commands that need no run
        kept.write_bytes(JSONS[damage])
    assert run(folder) == 0
    assert factors(folder) == factors(study)
    # What was there is beside it.
    (aside,) = (folder / "damaged").iterdir()
    assert (aside / "manifest.json").read_bytes() == JSONS[damage]
    assert (aside / "factors.npz").is_file()


@pytest.mark.parametrize("damage", ARCHIVES)
@pytest.mark.parametrize("name", ["factors.npz", "summary.parquet"])
def test_a_job_with_a_damaged_file_is_refused_by_its_name(
    study, tmp_path, name, damage, capsys
):
    folder = tmp_path / "study"
    shutil.copytree(study, folder)
    (path,) = folder.glob(f"jobs/[!.]*/{name}")
    path.write_bytes(ARCHIVES[damage](path.read_bytes()))
    assert main(["report", str(folder)]) == 2
    message = capsys.readouterr().err.strip()
    assert f"{name}: is not the file that was written" in message
    assert "\n" not in message


# --- Results --------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ARCHIVES)
def test_a_damaged_result_is_refused(tmp_path, damage):
    path = jaxnmf.factorize(V, 2, max_iter=10).save(tmp_path / "result.npz")
    path.write_bytes(ARCHIVES[damage](path.read_bytes()))
    with pytest.raises(ValueError, match="is not a complete file of a result"):
        jaxnmf.load(path)


@pytest.mark.parametrize(
    "about",
    [
        {"format": 1},
        {"format": 1, "model": 3},
        [1],
        "format",
        {"format": None},
    ],
    ids=str,
)
def test_a_result_of_something_else_is_refused(tmp_path, about):
    path = jaxnmf.factorize(V, 2, max_iter=10).save(tmp_path / "result.npz")
    arrays = disk.read_arrays(path)
    arrays["about"] = np.array(json.dumps(about))
    path.write_bytes(disk.npz(arrays))
    with pytest.raises(ValueError, match="is not a complete file of a result"):
        jaxnmf.load(path)
