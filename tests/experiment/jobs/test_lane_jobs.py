"""Choices of p and sweeps of settings from the command line, and their report."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import jaxnmf
from jaxnmf import datasets, registry
from jaxnmf.experiment.cli import main
from jaxnmf.experiment.jobs import lanes as lane_jobs
from jaxnmf.experiment.report import build_report, choices, planted, settings
from jaxnmf.experiment.store import stored
from jaxnmf.experiment.store.write import write_job
from jaxnmf.selection.base import Data
from jaxnmf.selection.bi_cross_validation import BiCrossValidation
from jaxnmf.selection.consensus import Consensus

pytestmark = pytest.mark.slow

SMALL = [
    "dataset=synthetic",
    "dataset.m=30",
    "dataset.n=20",
    "dataset.rank=3",
    "dataset.noise=gaussian",
]
QUICK = [*SMALL, "stop.max_iter=60", "ranks=[2,3,4]", "seeds=[0,1,2]"]
STEPS = {"step_size": [0.01, 1.0], "l2": [0.0, 0.1]}


def run(folder, *overrides):
    return main(["run", *QUICK, f"folder={folder}", *overrides])


def words_of(capsys):
    said = capsys.readouterr()
    return " ".join((said.out + said.err).split())


@pytest.fixture(scope="session")
def V():
    return datasets.load("synthetic", m=30, n=20, rank=3, noise="gaussian").V


@pytest.fixture(scope="session")
def chosen(tmp_path_factory):
    """A study of two methods."""
    folder = tmp_path_factory.mktemp("chosen")
    assert run(folder, "solver=hals", "select=consensus,information") == 0
    return folder


@pytest.fixture(scope="session")
def swept(tmp_path_factory):
    """A study of two settings of one solver, and one of them of two."""
    folder = tmp_path_factory.mktemp("swept")
    steps = "sweep={step_size:[0.01,1.0],l2:[0.0,0.1]}"
    assert run(folder, "solver=pgd,hals", "ranks=[2,3]", steps) == 0
    assert run(folder, "solver=mu,hals", "ranks=[2]", "sweep={l1:[0.0,0.5]}") == 0
    return folder


def by_method(folder):
    return {job.manifest["method"]: job for job in stored.read_jobs(folder)}


# ------------------------------------------------------------------------ the jobs


@pytest.mark.slow
@pytest.mark.parametrize("method", ["consensus", "information"])
def test_a_selection_job_chooses_what_select_rank_chooses(chosen, V, method):
    job = by_method(chosen)[method]
    # The command line's tol is that of its config.
    tol = job.config["stop"]["tol"]
    found = jaxnmf.select_rank(
        V,
        [2, 3, 4],
        method=method,
        seeds=[0, 1, 2],
        solver="hals",
        max_iter=60,
        tol=tol,
    )
    assert job.manifest["chosen"] == found.rank
    assert job.manifest["planted"] == 3
    assert job.manifest["rule"] == found.method.rule
    pd.testing.assert_frame_equal(job.choice(), found.table)
    assert set(job.evidence()) == {2, 3, 4}


@pytest.mark.slow
def test_a_settings_job_holds_the_table_of_a_sweep(swept, V):
    (job,) = [j for j in stored.read_jobs(swept) if "step_size" in j.summary]
    stop = job.config["stop"]
    found = jaxnmf.sweep(
        V,
        [2, 3],
        [0, 1, 2],
        solver="pgd",
        settings=STEPS,
        max_iter=60,
        tol=stop["tol"],
        record_every=job.config["record_every"],
    ).table
    keys = ["rank", "seed", *STEPS]
    assert job.manifest["settings"] == list(STEPS)
    assert len(job.summary) == len(found) == 2 * 3 * 2 * 2
    pd.testing.assert_frame_equal(job.summary[keys], found[keys])
    np.testing.assert_allclose(job.summary["objective"], found["objective"], rtol=1e-6)
    assert list(job.summary["iterations"]) == list(found["iterations"])
    assert list(job.summary["status"]) == list(found["status"])


def test_a_solver_without_the_setting_is_left_out_by_name(tmp_path, capsys):
    sweep = "sweep={step_size:[0.1,1.0]}"
    assert run(tmp_path, "solver=pgd,hals", "ranks=[2]", "seeds=[0]", sweep) == 0
    assert [j.config["solver"]["name"] for j in stored.read_jobs(tmp_path)] == ["pgd"]
    said = words_of(capsys)
    assert "skipped: solver 'hals' has no setting 'step_size' to sweep" in said


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["select=consensus", "sweep=l1"], "a job is one or the other"),
        (["select=consensus", "stop.time_budget=5"], "stop.time_budget=5"),
        (["select=consensus", "record_growth=0.1"], "record_growth=0.1"),
        (["sweep=l1", "stop.target=0.1"], "stop.target=0.1"),
        (["select=consensu"], "did you mean 'consensus'?"),
        (["select=consensus", "select.slak=1"], "slack"),
        (["sweep={l1:0.1}"], "l1=0.1 must be a list of at least one number"),
        (["sweep=l1", "ranks=[2,2]"], "contains duplicates"),
    ],
)
def test_what_cannot_be_run_is_refused(tmp_path, capsys, overrides, message):
    assert run(tmp_path, "solver=hals", *overrides) != 0
    assert message in words_of(capsys)
    assert stored.read_jobs(tmp_path) == []


def test_errors_of_lanes_are_of_what_they_were_fitted_to(tmp_path, V):
    """Of a part of V where a method fits parts; relative_error without penalties."""
    held_out = ["select=bi_cross_validation", "seeds=[0,1,2,3]", "ranks=[2]"]
    assert run(tmp_path, "solver=hals", *held_out) == 0
    assert run(tmp_path, "solver=hals", "ranks=[2]", "sweep={l2:[0.5]}") == 0
    blocks, swept = stored.read_jobs(tmp_path)
    assert blocks.manifest["method"] == "bi_cross_validation"
    data = Data(V=V, mask=None, shape=V.shape, loss=registry.make_loss("frobenius"))
    fitted = BiCrossValidation().data_per_seed(data, [0, 1, 2, 3]).data
    for row in blocks.summary.to_dict("records"):
        half = 0.5 * np.square(fitted[row["seed"]]).sum()
        assert row["error"] == pytest.approx((row["objective"] / half) ** 0.5)
    table = swept.summary
    relative, own = (table[x].to_numpy() for x in ("relative_error", "error"))
    assert (relative < own).all()
    for row in table.to_dict("records"):
        if row["seed"] == table.loc[table["objective"].idxmin(), "seed"]:
            W, H = swept.factors(row["run"])
            own = np.linalg.norm(V - W @ H) / np.linalg.norm(V)
            assert row["relative_error"] == pytest.approx(own, rel=1e-4)


def test_ctrl_c_before_the_first_lane_ends_the_call(tmp_path, monkeypatch, capsys):
    swept = lane_jobs.run_sweep

    def cut(*args, **kwargs):
        found = swept(*args, **kwargs)
        return dataclasses.replace(found, runs=(None,) * len(found.runs))

    monkeypatch.setattr(lane_jobs, "run_sweep", cut)
    assert run(tmp_path, "solver=pgd,pgd-lin", "sweep={l1:[0.0]}") == 130
    assert "interrupted" in words_of(capsys)
    assert len(list(tmp_path.glob("jobs/.*~runs"))) == 1  # the next was not started


@pytest.mark.parametrize("lanes", ["select=consensus", "sweep={l1:[0.0,0.5]}"])
def test_another_system_has_no_lanes(lanes, tmp_path, capsys):
    assert run(tmp_path, "solver=sklearn-cd", lanes) == 2
    assert "solver 'sklearn-cd' is not known" in words_of(capsys)
    assert not list(tmp_path.glob("jobs/*"))


def test_lanes_are_kept_where_the_choice_fails(tmp_path, monkeypatch, capsys):
    def failed(*_):
        raise ValueError("every run of a part diverged")

    monkeypatch.setattr(Consensus, "choose", failed)
    assert run(tmp_path, "solver=hals", "select=consensus") == 2
    assert "diverged" in words_of(capsys)
    assert list(tmp_path.glob("jobs/.*~runs/lanes/lanes-*.npz"))


@pytest.mark.slow
def test_lanes_are_reproduced_up_to_rounding(chosen, swept, capsys):
    for folder in (chosen, swept):
        assert main(["reproduce", str(folder)]) == 0
        assert "same up to rounding" in words_of(capsys)


def test_a_second_call_runs_nothing(chosen, monkeypatch, capsys):
    monkeypatch.setattr(
        "jaxnmf.experiment.jobs.lanes.run_selection",
        lambda *_, **__: pytest.fail("was run again"),
    )
    before = {m: job.manifest for m, job in by_method(chosen).items()}
    assert run(chosen, "solver=hals", "select=consensus,information") == 0
    assert {m: job.manifest for m, job in by_method(chosen).items()} == before
    assert "nothing to do" in words_of(capsys)


# -------------------------------------------------------------------- what is reported


def test_page_and_terminal_hold_the_choice(chosen, capsys):
    assert main(["report", str(chosen)]) == 0
    said = words_of(capsys)
    for method, job in by_method(chosen).items():
        assert f"{method} {job.manifest['chosen']} 3" in said
    page = (chosen / "report.html").read_text(encoding="utf-8")
    job = by_method(chosen)["consensus"]
    rule = job.manifest["rule"]
    assert f"p = {job.manifest['chosen']} was chosen: {rule}; planted: 3." in page
    # The consensus matrix of every rank.
    for rank in (2, 3, 4):
        assert f"Consensus matrix, p = {rank}, " in page
    table = pd.read_csv(chosen / "tables" / "choices.csv")
    assert list(table["method"]) == ["consensus", "information"]
    assert list(table["planted"]) == [3, 3]


def test_page_and_terminal_hold_the_sensitivity(swept, capsys):
    assert main(["report", str(swept)]) == 0
    said = words_of(capsys)
    for sweep in ("step_size", "l1"):
        assert sweep in said
    page = (swept / "report.html").read_text(encoding="utf-8")
    for sentence in settings_sentences(swept):
        assert sentence in page
    assert "pgd: within 1\u00a0% of its best at every rank only at step_size 1" in page


def settings_sentences(folder):
    jobs = [job for job in stored.read_jobs(folder) if job.kind == "settings"]
    return [
        sentence
        for about, runs in settings.problems(jobs)
        for sentence in settings.sentences(runs, about["settings"])
    ]


@pytest.mark.slow
def test_a_report_over_all_kinds_merges(chosen, swept, tmp_path):
    assert run(tmp_path / "runs", "solver=hals", "ranks=[2]", "seeds=[0]") == 0
    folders = [tmp_path / "runs", chosen, swept]
    page = build_report(folders, target=tmp_path / "all").read_text(encoding="utf-8")
    for reported in ("Comparison", choices.TITLE, settings.TITLE, "6 jobs"):
        assert reported in page


def test_hostile_names_are_escaped(chosen, swept, tmp_path):
    bad = "<script>$x$&"
    for job in [*stored.read_jobs(chosen), *stored.read_jobs(swept)]:
        config = {**job.config, "dataset": {**job.config["dataset"], "name": bad}}
        job = dataclasses.replace(job, config=config)
        write_job(
            tmp_path,
            job.key,
            config=config,
            manifest=job.manifest,
            trace=job.trace,
            summary=job.summary.assign(dataset=bad, solver=bad),
            factors={},
            choice=job.choice(),
            evidence=job.evidence(),
        )
    page = build_report(tmp_path).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;$x$&amp;" in page


# ------------------------------------------------------------- numbers, by hand


def lanes(errors, setting="a"):
    """Runs of one solver: {(rank, value): errors of the seeds}."""
    return pd.DataFrame(
        [
            {
                "solver": "s",
                "rank": rank,
                setting: value,
                "seed": seed,
                "error": error,
                "status": "diverged" if np.isinf(error) else "converged",
            }
            for (rank, value), found in errors.items()
            for seed, error in enumerate(found)
        ]
    )


INF = np.inf


def test_sensitivity_by_hand():
    runs = lanes(
        {
            (2, 0.1): [0.9, 1.0, 1.5],
            (2, 1.0): [1.0, 1.005, 2.0],
            (2, 10.0): [1.0, 1.08, INF],
            (2, 100.0): [4.0, INF, INF],
        }
    )
    (row,) = settings.sensitivity(runs, ["a"]).to_dict("records")
    assert (row["best"], row["error"]) == (0.1, 1.0)
    assert (row["within_1pct"], row["within_10pct"]) == (0.5, 0.75)
    assert row["worst"] == INF
    assert (row["diverged"], row["lanes"]) == (3, 12)
    (reported,) = settings.sentences(runs, ["a"])
    assert reported == (
        "s: within 1\u00a0% of its best at a 0.1 and 1, 3 of 12 lanes diverged."
    )


def test_an_even_number_of_seeds_has_the_mean_of_the_middle_two():
    runs = lanes({(2, 1.0): [1.0, 3.0], (2, 2.0): [1.0, INF], (2, 3.0): [INF, INF]})
    assert list(settings.medians(runs, ["a"])["error"]) == [2.0, INF, INF]


def test_another_setting_counts_at_its_best():
    runs = pd.concat(
        [
            lanes({(2, 1.0): [5.0], (2, 2.0): [2.0]}).assign(b=0.0),
            lanes({(2, 1.0): [1.0], (2, 2.0): [7.0]}).assign(b=1.0),
        ]
    )
    found = settings.sensitivity(runs, ["a", "b"]).set_index("setting")
    assert list(found["best"]) == [1.0, 1.0]
    assert list(found["worst"]) == [2.0, 2.0]


def test_how_often_planted_ranks_are_found_by_hand():
    table = pd.DataFrame(
        {
            "method": ["m"] * 4 + ["k"],
            "loss": "frobenius",
            "solver": "hals",
            "noise": ["low", "low", "low", "high", "low"],
            "chosen": [3, 4, 7, 5, 3],
            "planted": [3.0, 3.0, 3.0, 5.0, np.nan],
        }
    )
    found = planted.how_often(table).set_index(["method", "noise"])
    assert list(found.loc["m", "low"][["of", "found", "near"]]) == [3, 1, 2]
    assert list(found.loc["m", "high"][["of", "found", "near"]]) == [1, 1, 1]
    assert "k" not in found.index.get_level_values("method")
