"""Studies on a mesh of devices."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxnmf.experiment.cli import main
from jaxnmf.experiment.store import stored

pytestmark = pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")

QUICK = ["dataset=synthetic", "ranks=[2]", "seeds=[0]", "stop.max_iter=20"]


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
