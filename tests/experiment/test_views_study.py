"""Studies and `jaxnmf factorize` of several files, whose rows are the same."""

import json

import numpy as np
import pandas as pd
import pytest

import jaxnmf
from jaxnmf import datasets
from jaxnmf.experiment.cli import main
from jaxnmf.experiment.store import stored

RNG = np.random.default_rng(0)
W = RNG.gamma(0.6, size=(12, 2))
COUNTS = RNG.poisson(5 * W @ RNG.random((2, 6)))
VALUES = W @ RNG.random((2, 4))
LOSSES = ("kl", "frobenius")


@pytest.fixture
def files(tmp_path):
    rows = [f"r{i}" for i in range(12)]
    made = {"genes": COUNTS, "doses": VALUES}
    for name, V in made.items():
        columns = [f"{name[0]}{j}" for j in range(V.shape[1])]
        pd.DataFrame(V, rows, columns).to_csv(tmp_path / f"{name}.csv")
    return [str(tmp_path / f"{name}.csv") for name in made]


def expected(**given):
    views = jaxnmf.Views([COUNTS, VALUES], weights=[1, 2.5])
    return jaxnmf.factorize(views, 2, max_iter=20, **given)


def jobs_of(folder):
    return [path.parent for path in folder.glob("jobs/*/manifest.json")]


def test_a_data_set_of_several_files(files, tmp_path):
    found = datasets.load("views", paths=files, weights=[1, 2.5])
    np.testing.assert_allclose(found.V, np.hstack([COUNTS, VALUES]), 1e-6)
    assert found.name == "genes+doses"
    assert found.column_names is not None
    assert found.column_names[5:7] == ("genes: g5", "doses: d0")
    checksums = {
        datasets.load("views", paths=paths, weights=weights).checksum
        for paths in (files, files[::-1])
        for weights in (None, [1, 2.5])
    }
    assert len(checksums) == 4
    (tmp_path / "other.csv").write_text(",x\nr0,1\nr2,2\n")
    (tmp_path / "like.csv").write_text(",x\nr0,1\nr1,2\n")
    both = [str(tmp_path / f"{name}.csv") for name in ("like", "other")]
    with pytest.raises(ValueError, match="row 2 is 'r1' in like and 'r2' in other"):
        datasets.load("views", paths=both)
    with pytest.raises(ValueError, match=r"paths: .a\.csv. is not a list"):
        datasets.load("views", paths="a.csv")


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["frobenius", "[kl,frobenius]"])
def test_a_study_of_views(files, tmp_path, loss):
    folder = tmp_path / "study"
    given = ["dataset=views", f"dataset.paths=[{','.join(files)}]", f"loss={loss}"]
    given += ["dataset.weights=[1,2.5]", "solver=mu", "ranks=[2]", "seeds=[3]"]
    given += ["stop.max_iter=20", "stop.tol=0", f"folder={folder}"]
    assert main(["run", *given]) == 0
    (path,) = jobs_of(folder)
    job = stored.read_job(path)
    losses = LOSSES if loss.startswith("[") else loss
    alone = expected(solver="mu", loss=losses, seed=3, init="random", tol=0)
    row = job.summary.iloc[0]
    assert row["objective"] == pytest.approx(alone.objective, rel=1e-5)
    assert row["loss"] == "+".join(np.atleast_1d(losses)).replace(
        "kl", "kullback-leibler"
    )
    _, H = job.factors(row["run"])
    np.testing.assert_allclose(H, alone.H, 1e-3, 1e-5)
    page = (folder / "report.html").read_text("utf-8")
    assert ("Kullback–Leibler + Frobenius loss" in page) == loss.startswith("[")
    again = [x.replace("2.5", "2") for x in given]
    assert main(["run", *again]) == 0  # other weights are another job
    assert len(jobs_of(folder)) == 2


@pytest.mark.slow
def test_settings_of_views_are_lanes(files, tmp_path):
    folder = tmp_path / "study"
    given = ["dataset=views", f"dataset.paths=[{','.join(files)}]", "ranks=[2]"]
    given += ["dataset.weights=[1,2.5]", "solver=mu", "seeds=[0,1]", f"folder={folder}"]
    given += ["loss=[kl,frobenius]", "sweep=l2", "sweep.l2=[0,0.1]", "stop.max_iter=20"]
    assert main(["run", *given]) == 0
    (path,) = jobs_of(folder)
    table = stored.read_job(path).summary
    alone = expected(solver="mu", loss=LOSSES, seed=1, init="random", l2=0.1)
    row = table[(table["seed"] == 1) & (table["l2"] == 0.1)].iloc[0]
    assert row["objective"] == pytest.approx(alone.objective, rel=1e-4)


@pytest.mark.slow
def test_what_a_study_of_views_does_not_support(files, tmp_path, capsys):
    given = ["dataset=views", f"dataset.paths=[{','.join(files)}]", "ranks=[2]"]
    given += ["seeds=[0]", f"folder={tmp_path / 'study'}"]
    for more, message in {
        "select=consensus solver=mu": "a choice of p is for one matrix",
        "loss=[kl,frobenius] solver=hals": "does not support the loss",
        "loss=[kl,kl,kl] solver=mu": "3 losses for 2 views",
        "loss=[kl,wrong] solver=mu": "wrong",
        "loss=[kl,3] solver=mu": "must be a list with a loss for each view",
        "dataset.weights=[1] solver=mu": "weights: 1 for 2 views",
    }.items():
        assert main(["run", *given, *more.split()]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_factorize_takes_several_files(files, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["factorize", *files, "-p2", "-o", str(out), "--max-iter", "20"]
    assert main([*given, "--loss", "kl,frobenius", "--weights", "1,2.5"]) == 0
    result = jaxnmf.load(out / "factors.npz")
    alone = expected(loss=LOSSES)
    np.testing.assert_array_equal(result.W, alone.W)
    H = pd.read_csv(out / "H.csv", index_col=0)
    assert H.columns[5:7].tolist() == ["genes: g5", "doses: d0"]
    assert "doses: d0" in (out / "index.html").read_text("utf-8")
    for more, message in {
        "--weights 1,x": "must be numbers",
        "--weights 1": "weights: 1 for 2 views",
        "--blocks": "blocks: several files",
    }.items():
        assert main([*given, *more.split()]) == 2
        assert message in capsys.readouterr().err
    assert main(["factorize", files[0], *given[3:], "--weights", "1"]) == 2
    assert "are of several files" in capsys.readouterr().err
    holes = json.dumps(COUNTS.tolist()).replace("[[", "").replace("]]", "")
    text = holes.replace("], [", "\n").replace(str(COUNTS[0, 0]), "NA", 1)
    (tmp_path / "holes.csv").write_text(text + "\n")
    given[1] = str(tmp_path / "holes.csv")
    assert main(given) == 2
    assert "holes.csv' has missing values: --mask nan" in capsys.readouterr().err
    assert main([*given, "--mask", "nan"]) == 0
