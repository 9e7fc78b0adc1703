"""Studies on a mesh of devices."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxnmf.experiment.cli import main
from jaxnmf.experiment.jobs import job as jobs
from jaxnmf.experiment.jobs.runs import Runs
from jaxnmf.experiment.store import stored
from jaxnmf.run import folder

pytestmark = pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")

QUICK = ["dataset=synthetic", "ranks=[2]", "seeds=[0]", "stop.max_iter=20"]


@pytest.mark.slow
def test_a_study_on_a_mesh_has_the_results_of_one_device(tmp_path):
    found = []
    for mesh in ("null", "grid"):
        folder = tmp_path / mesh
        run = ["run", *QUICK, "solver=hals", f"mesh={mesh}", f"folder={folder}"]
        assert main(run) == 0
        (job,) = stored.read_jobs(folder)
        assert job.config["mesh"] == (None if mesh == "null" else mesh)
        found.append(job)
    one, grid = (float(job.summary["objective"].iloc[0]) for job in found)
    assert grid == pytest.approx(one, rel=1e-5)
    programs = {job.summary["program"].iloc[0] for job in found}
    assert len(programs) == 2  # the second one was on other devices
    assert len({job.key for job in found}) == 2
    assert np.isfinite(grid)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", ["sweep={l2:[0.0,0.1]}", "select=information"], ids=["sweep", "select"]
)
def test_lanes_of_a_study_on_a_mesh(tmp_path, more):
    found = []
    for mesh in ("null", "grid"):
        folder = tmp_path / mesh
        overrides = ["solver=hals", "ranks=[2,3]", more, f"mesh={mesh}"]
        assert main(["run", *QUICK, *overrides, f"folder={folder}"]) == 0
        (job,) = stored.read_jobs(folder)
        found.append(job)
    one, grid = (job.summary.sort_values("run")["objective"] for job in found)
    np.testing.assert_allclose(grid, one, rtol=1e-4)
    assert len({job.key for job in found}) == 2


@pytest.mark.slow
def test_a_study_of_two_processes_has_the_results_of_one(tmp_path):
    """Each has two devices, and the first one alone writes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = "--xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    given = [*QUICK, "seeds=[0,1]", "solver=hals,mu"]
    own = ["mesh=grid", f"folder={tmp_path / 'two'}"]
    command = [sys.executable, "-m", "jaxnmf", "run", *given, *own, "--join"]
    running = [
        subprocess.Popen(
            [*command, f"{address},2,{process}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            cwd=tmp_path,
        )
        for process in range(2)
    ]
    try:
        said = [one.communicate(timeout=200)[0] for one in running]
    finally:
        for one in running:
            one.kill()
    assert [one.returncode for one in running] == [0, 0], said
    # Gloo's threads may break each other's lines.
    gloo = r"\[Gloo\] Rank \d+ is connected to |\d+ peer ranks\. Expected number of "
    gloo += r"connected peer ranks is : \d+"
    assert not re.sub(gloo, "", said[1]).strip()
    assert main(["run", *given, f"folder={tmp_path / 'one'}"]) == 0
    one, two = (
        {job.config["solver"]["name"]: job.summary for job in stored.read_jobs(folder)}
        for folder in (tmp_path / "one", tmp_path / "two")
    )
    for name, summary in one.items():
        assert two[name]["run"].tolist() == summary["run"].tolist()
        np.testing.assert_allclose(two[name]["objective"], summary["objective"], 1e-4)


@pytest.mark.slow
def test_a_run_of_several_processes_resumes_with_the_same_bits(tmp_path, monkeypatch):
    """In one process, which takes itself for the first of several."""
    monkeypatch.setattr(Runs, "several_processes", True)
    monkeypatch.setattr(jobs, "broadcast", lambda message: None)
    monkeypatch.setattr(folder, "SECONDS", 0.0)
    saved = folder.RunFolder._tidy
    loaded = []
    load = folder.RunFolder.load
    monkeypatch.setattr(
        folder.RunFolder, "load", lambda self: loaded.append(load(self)) or loaded[-1]
    )

    def interrupted(own):
        saved(own)
        if len(list(own.path.glob("at*"))) == 2:
            raise KeyboardInterrupt

    run = ["run", *QUICK, "solver=hals", "mesh=grid", "record_every=4"]
    assert main([*run, f"folder={tmp_path / 'whole'}"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(folder.RunFolder, "_tidy", interrupted)
        assert main([*run, f"folder={tmp_path / 'parts'}"]) == 130
    assert list((tmp_path / "parts").rglob("at00000008-*.npz"))
    assert main([*run, f"folder={tmp_path / 'parts'}"]) == 0
    ends = [None if x is None else x["iteration"][-1] for x in loaded]
    assert ends == [None, None, 8]
    assert not list((tmp_path / "parts").rglob("at*.npz"))
    whole, parts = (
        stored.read_jobs(tmp_path / name)[0].factors("r2-s0")
        for name in ("whole", "parts")
    )
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


def test_processes_that_are_not_named_well_are_refused(capsys):
    assert main(["work", "anywhere", "--join", "4"]) == 2
    assert "expected cluster" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["mesh=row"], "did you mean 'rows'"),
        (["mesh=row", "sweep={l2:[0.1]}"], "did you mean 'rows'"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(tmp_path, capsys, overrides, message):
    run = ["run", *QUICK, "solver=hals", *overrides, f"folder={tmp_path / 'study'}"]
    assert main(run) == 2
    assert message in " ".join(capsys.readouterr().err.split())
