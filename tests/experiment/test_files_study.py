"""Studies of a user's own file: what was read is said, and what changed is noticed."""

import json

import numpy as np
import pytest

from jaxnmf.experiment.cli import main
from jaxnmf.experiment.store import stored

pytestmark = pytest.mark.slow

ROWS = "7,NA,5,3\n1,2,3,4\n4,3,9,1\n5,1,2,2\n2,8,8,6\n"
QUICK = ["solver=hals", "ranks=[1]", "seeds=[0]", "stop.max_iter=20"]


@pytest.fixture
def run(tmp_path):
    """Run a study of a table; returns the exit code."""

    def run(text, *overrides, name="table.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        path = [f"dataset.path={tmp_path / name}", f"folder={tmp_path / 'study'}"]
        return main(["run", "dataset=file", *QUICK, *path, *overrides])

    return run


def page_of(tmp_path):
    return (tmp_path / "study" / "report.html").read_text(encoding="utf-8")


def test_what_was_read_is_on_the_screen_the_page_and_in_the_manifest(
    run, tmp_path, capsys
):
    assert run("id;x;y\n1;2,5;3\n2;3;4\n3;5;6,5\n4;1;1\n") == 0
    printed = " ".join(capsys.readouterr().out.split())
    page = page_of(tmp_path).replace("&#39;", "'")
    for where in (printed, page):
        assert "separator ';', decimal sign ',', a header, no row names" in where
        assert "olumn 'id' counts the rows (1, 2, 3, …)" in where
        assert "index=id" in where
    (path,) = (tmp_path / "study").glob("jobs/*/manifest.json")
    manifest = json.loads(path.read_text())
    assert manifest["data_assumed"] == {
        "separator": ";",
        "decimal": ",",
        "thousands": None,
        "header": True,
        "index": None,
        "encoding": "utf-8",
        "missing": 0,
    }
    assert len(manifest["data_doubts"]) == 1


def test_missing_values_are_refused_or_unknown(run, tmp_path, capsys):
    assert run(ROWS) == 2
    said = capsys.readouterr().err
    assert "1 missing value, the first in row 1, column 2: set mask=nan" in said
    assert run(ROWS, "mask=nan") == 0
    (job,) = stored.read_jobs(tmp_path / "study")
    V = np.array(
        [[7, np.nan, 5, 3], [1, 2, 3, 4], [4, 3, 9, 1], [5, 1, 2, 2], [2, 8, 8, 6]]
    )
    W, H = job.factors("r1-s0")
    assert W.shape == (5, 1)
    squares = np.nansum((V - W @ H) ** 2) / np.nansum(V**2)
    error = float(job.summary["relative_error"].to_numpy()[0])
    assert error == pytest.approx(np.sqrt(squares), rel=1e-4)
    # a least-squares fit of rank one to the known entries, by alternating in float64
    w = np.ones(5)
    known = ~np.isnan(V)
    filled = np.where(known, V, 0)
    for _ in range(500):
        h = (w @ filled) / (w**2 @ known)
        w = (filled @ h) / (known @ h**2)
    best = np.nansum((V - np.outer(w, h)) ** 2) / np.nansum(V**2)
    assert squares == pytest.approx(best, rel=1e-3)
    assert "could not be shown" not in page_of(tmp_path)


@pytest.mark.parametrize("mask", ["zero", "nan"])
def test_a_mask_that_the_data_cannot_have_is_refused(mask, tmp_path, capsys):
    data = ["dataset=synthetic", "dataset.m=30", "dataset.n=20", "dataset.density=0.3"]
    assert main(["run", *data, *QUICK, f"mask={mask}", f"folder={tmp_path}/s"]) == 2
    assert f"mask='{mask}'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["1,2,3\n", "x\n1\n2\n3\n", "5\n"])
def test_one_row_and_one_column_run(run, text, tmp_path):
    assert run(text) == 0
    (job,) = stored.read_jobs(tmp_path / "study")
    row = job.summary.iloc[0]
    m, n = (len(job.factors("r1-s0")[0]), job.factors("r1-s0")[1].shape[1])
    assert np.isnan(float(row["sparsity_W"])) == (m == 1)
    assert np.isnan(float(row["sparsity_H"])) == (n == 1)
    if m * n > 1:
        assert "has no sparsity" in page_of(tmp_path)


def test_a_report_of_changed_data_is_refused(run, tmp_path, capsys):
    assert run("a,b\n1,2\n3,4\n5,7\n") == 0
    assert "U = V − W H" in page_of(tmp_path)
    (tmp_path / "table.csv").write_text("a,b\n9,2\n3,4\n5,7\n")
    capsys.readouterr()
    assert main(["report", str(tmp_path / "study")]) == 2
    assert "'table' have changed: SHA-256" in capsys.readouterr().err
    page = page_of(tmp_path)
    assert "have changed: SHA-256" in page
    assert "U = V − W H" not in page
