"""Studies of ratings: the ratings held out, the predictions and the page."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import jaxnmf
from jaxnmf import datasets, ratings
from jaxnmf.experiment import report
from jaxnmf.experiment.cli import main
from jaxnmf.experiment.config import model_label
from jaxnmf.experiment.report import recommended
from jaxnmf.experiment.store import stored
from jaxnmf.experiment.store.layout import PREDICTION_COLUMNS

pytestmark = pytest.mark.slow

M, N = 40, 30
BASE = ["dataset=films", "seeds=[0,1]", "stop.max_iter=20", "solver=hals"]
PULLED = ["l2=[2,1]", "toward=mean"]


@pytest.fixture(autouse=True)
def films(tmp_path_factory, monkeypatch):
    """A folder with one small set of ratings, of rank 2, with offsets and noise."""
    folder = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    user, item = np.nonzero(rng.random((M, N)) < 0.5)
    X = (
        1.5
        + rng.random((M, 1))
        + rng.random(N)
        + rng.random((M, 2)) @ rng.random((2, N))
    )
    rating = np.round(2 * X[user, item]) / 2
    path = folder / "films.npz"
    titles = np.array([f"<film> {j}" for j in range(N)])
    np.savez(path, shape=[M, N], user=user, item=item, rating=rating, item_title=titles)
    keys = {key: [[1], "x"] for key in ("user", "item", "rating", "item_title")}
    entry = {
        "name": "films",
        "file": path.name,
        "shape": [M, N],
        "keys": keys,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    (folder / "manifest.json").write_text(json.dumps({"datasets": [entry]}))
    monkeypatch.setenv("JAXNMF_DATA", str(folder))


def run(folder, *overrides):
    return main(["run", *BASE, f"folder={folder}", *overrides])


def test_runs_train_on_a_part_and_are_measured_on_another(tmp_path):
    assert run(tmp_path, "ranks=[1,2]", *PULLED, "offsets=true") == 0
    (job,) = stored.read_jobs(tmp_path)
    V = datasets.load("films").V
    for row in job.summary.to_dict("records"):
        parts = ratings.split(V, row["seed"])
        W, H = job.factors(row["run"])
        b, c = job.offsets(row["run"])  # pyright: ignore
        i, j = parts.test.rows, parts.test.cols
        x = (W @ H + b[:, None] + c)[i, j]
        low, high = parts.train.values.min(), parts.train.values.max()
        error = np.sqrt(np.mean((parts.test.values - np.clip(x, low, high)) ** 2))
        assert row["rmse"] == pytest.approx(error, rel=1e-5)
        assert row["ndcg10"] == pytest.approx(ratings.ndcg(parts.test, x))
        mean = parts.train.values.mean()
        error = np.sqrt(np.mean((parts.test.values - mean) ** 2))
        assert row["rmse_mean"] == pytest.approx(error)
        assert row["rmse_offsets"] < row["rmse_mean"]
        assert row["unseen"] == ratings.unseen(parts.train, parts.test)
        assert row["model"] == "l2 2, 1 to the mean, offsets"
        i, j = parts.train.rows, parts.train.cols
        residual = parts.train.values - (W @ H + b[:, None] + c)[i, j]
        relative = np.linalg.norm(residual) / np.linalg.norm(parts.train.values)
        assert row["relative_error"] == pytest.approx(relative, rel=1e-4)


@pytest.mark.slow
def test_splits_are_those_of_every_setting_and_share_a_program(tmp_path):
    run(tmp_path, "ranks=[1,2]", "solver=hals,mu", "l2=[2,1],[4,2]", "toward=mean")
    summary, _ = report.gather(stored.read_jobs(tmp_path))
    assert len(summary) == 16
    by_split = summary.groupby("seed")[["rmse_mean", "rmse_offsets", "test_entries"]]
    assert (by_split.nunique().to_numpy() == 1).all()
    assert len(set(summary["rmse_mean"])) == 2
    # One compilation for the splits and the weights of a rank.
    later = summary.loc[summary["seed"] == 1, "compile_seconds"]
    assert list(later) == [0] * 8


def test_folds_have_runs_of_their_own(tmp_path):
    assert run(tmp_path, "ranks=[2]", "holdout.folds=3", *PULLED) == 0
    (job,) = stored.read_jobs(tmp_path)
    assert list(job.summary["run"]) == [
        f"r2-s{s}-f{f}" for s in (0, 1) for f in range(3)
    ]
    assert list(job.summary["fold"]) == [0, 1, 2] * 2
    assert len(set(job.summary["rmse_mean"])) == 6
    assert job.offsets("r2-s0-f0") is None
    table = report.prediction_table(job.summary)
    assert set(table["runs"]) == {6}
    assert "its run r2-s0-f0" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_another_split_is_another_job(tmp_path):
    for given in ((), ("holdout.test=0.3",), ("offsets=true",), ("offsets=2.0",)):
        assert run(tmp_path, "ranks=[1]", *given) == 0
    assert len(stored.read_jobs(tmp_path)) == 4


def test_other_losses_have_an_error_without_units(tmp_path):
    assert run(tmp_path, "ranks=[2]", "loss=kl", "solver=mu", "stop.max_iter=200") == 0
    (job,) = stored.read_jobs(tmp_path)
    assert max(job.summary["error"]) < 1


def test_the_page_and_the_terminal_tell_what_validation_chose(tmp_path, capsys):
    assert run(tmp_path, "ranks=[1,2,3]", *PULLED, "offsets=false,true") == 0
    jobs = stored.read_jobs(tmp_path)
    table = report.prediction_table(report.gather(jobs)[0])
    chosen = table[table["chosen"]].iloc[0]
    settings = table[table["rank"] > 0]
    assert chosen["validation_rmse"] == settings["validation_rmse"].min()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    printed = " ".join(capsys.readouterr().out.split())
    for text in ("global mean", "user and item", f"{chosen['rmse']:.4f}"):
        assert text in page
        assert text in printed
    for text in (
        "<strong>hals</strong>",
        "Validation RMSE against rank",
        "Recommendations",
        "&lt;film&gt; 3",
        "Residual of the test part",
    ):
        assert text in page
    assert "<film>" not in page


ERRORS = {
    "share": (["holdout.test=1.5"], ["holdout.test=1.5", "share"]),
    "validation": (["holdout.validation=-1"], ["holdout.validation=-1"]),
    "one fold": (["holdout.folds=1"], ["holdout.folds=1", "≥ 2"]),
    "folds of no number": (["holdout.folds=many"], ["holdout.folds", "many"]),
    "mistyped": (["holdout.tset=0.2"], ["holdout.tset", "'test'"]),
    "toward": (["toward=one"], ["toward='one'", "mean"]),
    "offsets": (["offsets=often"], ["offsets='often'"]),
    "offsets of three": (["offsets=[1,2,3]"], ["offsets has 3 values"]),
    "offsets elsewhere": (
        ["dataset=synthetic", "offsets=true"],
        ["offsets=True", "'ratings'", "'synthetic'"],
    ),
    "toward elsewhere": (["dataset=synthetic", "toward=mean"], ["toward='mean'"]),
    "holdout elsewhere": (["dataset=synthetic", "holdout.folds=5"], ["holdout="]),
    "a solver that weighs nothing": (["solver=gcd"], ["'gcd'", "observed"]),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_key(case, tmp_path, capsys):
    overrides, words = ERRORS[case]
    assert run(tmp_path / "study", "ranks=[2]", *overrides) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("jaxnmf: error: ")
    assert printed.count("\n") == 1
    for word in words:
        assert word in printed


def test_models_have_short_names():
    assert model_label({}) == ""
    assert model_label({"l1": [0.0, 0.5], "constraints": ["box", "nonnegative"]}) == (
        "l1 0, 0.5, box, nonnegative"
    )
    given = {"l2": [20.0, 10.0], "toward": "mean", "offsets": [5.0, 3.0]}
    assert model_label(given) == "l2 20, 10 to the mean, offsets 5, 3"
    assert model_label({"offsets": 2.5}) == "offsets 2.5"


def made_up(*rows):
    """A summary of (solver, model, seed, rmse, validation_rmse)."""
    names = ("solver", "model", "seed", "rmse", "validation_rmse")
    table = pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows])
    table = table.assign(dataset="d", loss="frobenius", rank=4, mae=0.5, ndcg10=0.9)
    for name, error in (("mean", 1.0), ("offsets", 0.9)):
        for column in PREDICTION_COLUMNS:
            table[f"{column}_{name}"] = error + 0.01 * table["seed"]
    return table


def test_the_choice_is_by_the_median_of_validation_and_never_by_the_test():
    table = report.prediction_table(
        made_up(
            ("a", "x", 0, 0.8, 0.85),
            ("a", "x", 1, 0.8, 0.85),
            ("a", "x", 2, 0.8, 0.1),
            ("b", "x", 0, 0.9, 0.84),
            ("b", "x", 1, 0.9, 0.84),
            ("b", "x", 2, 0.9, 2.0),
        )
    )
    assert list(table["solver"]) == ["b", "a", "global mean", "user and item offsets"]
    assert list(table["chosen"]) == [True, False, False, False]
    assert list(table["rmse"]) == pytest.approx([0.9, 0.8, 1.01, 0.91])
    unchosen = report.prediction_table(made_up(("a", "", 0, 1, np.nan)))
    assert not any(unchosen["chosen"])


def test_the_printed_predictions_fit():
    rows = [(f"s{k}", "l2 20, 10 to the mean, offsets", 0, 0.8, k) for k in range(20)]
    console = Console(width=100, record=True, file=None)
    with console.capture() as captured:
        report.print_predictions(report.prediction_table(made_up(*rows)), console)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 100
    assert "12 of 20 settings" in captured.get()
    assert "s11" in captured.get()
    assert "s12" not in captured.get()


def test_models_are_compared_each_for_itself_and_splits_too(tmp_path):
    """A weaker penalty has a lower objective, and is no better a solver for it."""
    assert run(tmp_path, "ranks=[2]", "solver=hals,mu", "l2=[2,1],[9,9]") == 0
    summary, trace = report.gather(stored.read_jobs(tmp_path))
    table = report.comparison_table(summary, trace)
    assert list(table["model"]) == ["l2 2, 1"] * 2 + ["l2 9, 9"] * 2
    first = table[table["solver"] == "hals"]["seconds_to_1pct"]
    assert np.isfinite(first.to_numpy(float)).all()
    gaps = report.curves(summary, trace)
    ends = gaps.groupby(["model", "solver", "axis"])[["low", "high"]].last()
    # In each split one of the two solvers ends at the best error there is.
    least = ends["low"].groupby(["model", "axis"]).min()
    np.testing.assert_allclose(least.to_numpy(float), 0, atol=1e-6)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count('<details class="model"') == 2


def test_what_users_are_shown_is_what_a_result_recommends():
    data = datasets.load("films")
    parts = ratings.split(data.V)
    result = jaxnmf.factorize(
        parts.train, 2, l2=(2, 1), toward="mean", offsets=True, max_iter=20
    )
    top, reported, residual = recommended.blocks(
        data, result.W, result.H, result.offsets, parts
    )
    assert [card.caption[0] for card in top.cards] in (["0", "1"], ["1", "0"])
    assert len(reported.cards) == 2 * len(recommended.USERS)
    for liked, new in zip(reported.cards[::2], reported.cards[1::2], strict=True):
        user = int(new.caption.split(",")[0].removeprefix("user "))
        columns = result.recommend(user, 8, exclude=parts.train)
        values = result.predict(user, columns)
        assert [word for word, *_ in new.words] == [f"<film> {j}" for j in columns]
        assert [float(value) for _, value, _ in new.words] == pytest.approx(
            values, abs=0.006
        )
        rated = parts.train.values[parts.train.rows == user]
        expected = sorted(rated, reverse=True)[:8]
        assert [float(value) for _, value, _ in liked.words] == expected
    x = ratings.clipped(result.predict(parts.test.rows, parts.test.cols), parts.train)
    spread = np.std(parts.test.values - x)
    assert f"standard deviation {spread:.3f}" in residual.note
