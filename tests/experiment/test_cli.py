"""The command line: a study from one command, and errors that a user can correct."""

import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

import jaxnmf
from jaxnmf import baselines, datasets, registry, topics
from jaxnmf.build import Objective
from jaxnmf.experiment.cli import main
from jaxnmf.experiment.config import register_configs, resolved, split_name
from jaxnmf.experiment.jobs.specification import make_solver
from jaxnmf.experiment.overrides import as_overrides
from jaxnmf.experiment.store import stored
from jaxnmf.registry import solver_class
from jaxnmf.solvers.base import operands_of

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = ["dataset=synthetic", "dataset.m=30", "dataset.n=20", "dataset.rank=3"]
QUICK = [*SMALL, "ranks=[2,3]", "seeds=[0,1]", "stop.max_iter=20"]


def run(folder, *overrides):
    return main(["run", *QUICK, f"folder={folder}", *overrides])


def test_a_study_leaves_tables_factors_and_a_page(tmp_path, capsys):
    assert run(tmp_path / "study") == 0
    jobs = stored.read_jobs(tmp_path / "study")
    assert {job.config["solver"]["name"] for job in jobs} == {
        "hals",
        "mu",
        "optax",
        "pgd",
    }
    V = datasets.load("synthetic", m=30, n=20, rank=3).V
    for job in jobs:
        assert job.complete
        assert list(job.summary["run"]) == ["r2-s0", "r2-s1", "r3-s0", "r3-s1"]
        W, H = job.factors("r3-s1")
        row = job.summary.set_index("run").loc["r3-s1"]
        error = np.linalg.norm(V - W @ H) / np.linalg.norm(V)
        assert error == pytest.approx(row["relative_error"], rel=1e-4)
        assert error == pytest.approx(row["error"], rel=1e-4)
        assert np.isfinite(row["kkt"])
        assert row["match_score"] <= 1
    page = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    assert "hals" in page
    printed = capsys.readouterr().out
    assert "report.html" in printed
    assert "converged" in printed or "max_iter" in printed


@pytest.mark.slow
def test_solvers_of_a_study_start_from_the_same_factors(tmp_path):
    run(tmp_path, "solver=hals,mu,pgd")
    starts = {
        tuple(job.trace.query("iteration == 0")["objective"])
        for job in stored.read_jobs(tmp_path)
    }
    assert len(starts) == 1


def test_a_complete_job_is_not_run_again(tmp_path, monkeypatch):
    run(tmp_path, "solver=hals")
    before = stored.read_jobs(tmp_path)[0].manifest
    monkeypatch.setattr(
        "jaxnmf.experiment.jobs.runs.run_anywhere",
        lambda *_, **__: pytest.fail("was run again"),
    )
    assert run(tmp_path, "solver=hals") == 0
    assert stored.read_jobs(tmp_path)[0].manifest == before


@pytest.mark.slow
def test_a_solver_that_does_not_support_the_loss_is_skipped(tmp_path, capsys):
    assert run(tmp_path, "loss=kl", "solver=hals,mu") == 0
    assert [j.config["solver"]["name"] for j in stored.read_jobs(tmp_path)] == ["mu"]
    assert "skipped: solver 'hals'" in " ".join(capsys.readouterr().out.split())


def test_the_environment_is_recorded(tmp_path):
    run(tmp_path, "solver=hals", "ranks=[2]", "seeds=[0]")
    (job,) = stored.read_jobs(tmp_path)
    manifest = job.manifest
    assert manifest["package_version"] == jaxnmf.__version__
    assert manifest["versions"]["jax"]
    assert manifest["precision"] == "highest"
    assert manifest["command"].startswith("jaxnmf run dataset=synthetic")
    assert len(manifest["data_checksum"]) == 64


@pytest.mark.slow
def test_a_users_file_and_an_optax_optimiser(tmp_path):
    path = tmp_path / "mine.csv"
    V = np.random.default_rng(0).random((12, 9))
    pd.DataFrame(V, columns=list("abcdefghi")).to_csv(path, index=False)
    code = main(
        [
            "run",
            "dataset=file",
            f"dataset.path={path}",
            "solver=optax",
            "solver.optimizer=sgd",
            "+solver.options.momentum=0.9",
            "ranks=[2]",
            "seeds=[0]",
            "stop.max_iter=20",
            f"folder={tmp_path / 'study'}",
        ]
    )
    assert code == 0
    (job,) = stored.read_jobs(tmp_path / "study")
    assert job.config["solver"]["options"] == {"momentum": 0.9}
    assert job.factors("r2-s0")[0].shape == (12, 2)


@pytest.mark.slow
def test_a_users_documents_give_topics(tmp_path):
    for i, (label, text) in enumerate(
        [("pets", "cat dog mouse"), ("pets", "dog cat"), ("money", "bank rate loan")]
        * 4
    ):
        path = tmp_path / "texts" / label / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    options = ["dataset=documents", f"dataset.path={tmp_path / 'texts'}"]
    options += ["dataset.max_df=0.9", "dataset.min_df=3", "dataset.max_words=5"]
    options += ["solver=mu", "loss=kl", "ranks=[2]", "seeds=[0]", "stop.max_iter=50"]
    assert main(["run", *options, f"folder={tmp_path / 'study'}"]) == 0
    (job,) = stored.read_jobs(tmp_path / "study")
    (row,) = job.summary.to_dict("records")
    data = datasets.load(
        "documents", path=tmp_path / "texts", max_df=0.9, min_df=3, max_words=5
    )
    _, H = job.factors("r2-s0")
    for measure in ("npmi", "umass"):
        expected = topics.coherence(H, data.V, measure).mean()
        assert row[measure] == pytest.approx(expected)
    assert row["diversity"] == topics.topic_diversity(H)
    assert row["accuracy"] == row["nmi"] == 1
    page = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    for text in ("NPMI", "UMass", "topic diversity", "mutual information", "money"):
        assert text in page
    assert "Topics and labels" in page


ERRORS = {
    "documents that are not there": (
        ["dataset=documents", "dataset.path=nowhere"],
        ["nowhere", "does not exist", "a folder of .txt files"],
    ),
    "an option of documents of a wrong type": (
        ["dataset=documents", "dataset.path=.", "dataset.ngrams=two"],
        ["dataset.ngrams", "two"],
    ),
    "unknown solver": (["solver=halls"], ["solver=halls", "'hals'", "mu"]),
    "unknown data set": (["dataset=digit"], ["dataset=digit", "'digits'"]),
    "unknown loss": (["loss=frobenus"], ["'frobenius'"]),
    "unknown experiment": (["experiment=fases"], ["'faces'"]),
    "mistyped key": (["solver=hals", "solver.iner=2"], ["solver.iner", "'inner'"]),
    "mistyped root key": (["rank=3"], ["rank", "'ranks'"]),
    "wrong type": (["solver=hals", "solver.inner=2.5"], ["solver.inner=2.5"]),
    "rank of 0": (["ranks=[0]"], ["ranks=0", "≥ 1"]),
    "no ranks": (["ranks=[]"], ["ranks is empty"]),
    "a rank twice": (["ranks=[2,2]"], ["contains duplicates"]),
    "rank above the SVD's": (["init=nndsvd", "ranks=[30]"], ["min(m, n) = 20"]),
    "loss a solver cannot take": (
        ["solver=hals", "loss=kl"],
        ["solvers that do: ", " mu,"],
    ),
    "file that is not there": (
        ["dataset=file", "dataset.path=nowhere.npy"],
        ["nowhere.npy", "does not exist"],
    ),
    "no path": (["dataset=file"], ["dataset.path is missing"]),
    "no such optimiser": (
        ["solver=optax", "solver.optimizer=sdg"],
        ["'sdg'", "did you mean 'sgd'"],
    ),
    "max_iter of -1": (["stop.max_iter=-1"], ["max_iter=-1", "≥ 1"]),
    "dtype": (["dtype=float16"], ["float16", "float32"]),
    "mistyped key of Hydra's": (["hydra.sweep.dri=x"], ["hydra.sweep.dri"]),
    "no key": (["hals"], ["'hals' is not an override", "key=value"]),
    "a list cut by a space": (["ranks=[8,"], ["ranks=[8,", "'ranks=[8, 16]'"]),
    "a character of Hydra's": (
        ["dataset=file", "dataset.path=x.csv", "dataset.separator=;"],
        ["""'dataset.separator=";"'"""],
    ),
    "a path that is not there": (
        ["dataset=file", "dataset.path=nowhere (1).csv"],
        ["""'dataset.path="nowhere (1).csv"'"""],
    ),
    "one seed without brackets": (["seeds=3"], ["seeds=3 must be a list", "seeds=[…]"]),
    "a rank that is a word": (["ranks=x"], ["ranks='x' must be a list of integers"]),
    "a path that is no text": (
        ["dataset=file", "dataset.path=b\udcff.csv"],
        ["is not UTF-8", "rename"],
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_one_line_and_exit_code_2(case, tmp_path, capsys):
    overrides, words = ERRORS[case]
    base = [] if any(x.startswith("dataset=") for x in overrides) else QUICK[:-3]
    folder = tmp_path / "study"
    assert main(["run", *base, *overrides, f"folder={folder}"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("jaxnmf: error: ")
    assert printed.count("\n") == 1
    assert "Traceback" not in printed
    for word in words:
        assert word in printed
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["müller (R&D), x=1", "a,b", "it's"])
def test_a_folder_may_have_any_name(name, tmp_path):
    """Also one that means something in Hydra's grammar."""
    folder = tmp_path / name
    assert main(["run", *QUICK, f"folder={folder}"]) == 0
    assert (folder / "report.html").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


ODD = [
    "example (1).csv", "größe.csv", "a,b.csv", "[x].csv", "a=b.csv", "it's.csv",
    'q".csv', "a${b}.csv", "a\\${b}.csv", "tr\\.csv", "a#b;c&d.csv", "数", "n\nl.csv",
]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "l2", "toward", "offsets"),
    [([], [20, 10], "mean", True), (["l2=[5,5]", "offsets=false"], [5, 5], "mean", 0)],
)
def test_ratings_begin_with_the_usual_settings(overrides, l2, toward, offsets):
    register_configs()
    GlobalHydra.instance().clear()
    given = ["dataset=ratings", "dataset.path=x.csv", *overrides]
    with initialize_config_module("jaxnmf.configs", version_base="1.3"):
        config = resolved(compose("config", overrides=given))
    assert config["dataset"]["path"] == "x.csv"
    found = [config[name] for name in ("l2", "toward", "offsets")]
    assert found == [l2, toward, offsets]


@pytest.mark.parametrize("name", ODD)
def test_a_path_that_exists_is_taken_as_it_is(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("a,b\n1,2\n3,5\n")
    (overridden,) = as_overrides([f"dataset.path={name}"])
    register_configs()
    GlobalHydra.instance().clear()
    with initialize_config_module("jaxnmf.configs", version_base="1.3"):
        config = resolved(compose("config", overrides=["dataset=file", overridden]))
    assert config["dataset"]["path"] == name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["größe, (1) [b].csv", "a${b}.csv"])
def test_a_study_of_a_path_of_any_name(name, tmp_path):
    path = tmp_path / name
    path.write_text("a,b\n1,2\n3,5\n")
    given = ["dataset=file", f"dataset.path={path}", "ranks=1", "seeds=[0]"]
    folder = tmp_path / "study"
    assert main(["run", *given, "solver=hals,mu", f"folder={folder}"]) == 0
    jobs = stored.read_jobs(folder)
    assert [job.config["dataset"]["path"] for job in jobs] == [str(path)] * 2
    assert [job.config["ranks"] for job in jobs] == [[1], [1]]
    assert main(["report", str(folder)]) == 0


def test_other_values_are_hydras_whatever_files_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("hals,mu", "[8]", "0", "20", "hals"):
        (tmp_path / name).touch()
    given = ["solver=hals,mu", "ranks=[8]", "dataset.index=0", "stop.max_iter=20"]
    given += ["dataset.path=a.csv,b.csv", "+solver.options.momentum=0.9", "~sweep"]
    assert as_overrides(given) == given
    assert as_overrides(["dataset.path=20"]) == ["dataset.path='20'"]


def test_several_paths_are_quoted_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("größe.csv", "b (1).csv"):
        (tmp_path / name).touch()
    with pytest.raises(
        ValueError, match=r"""'dataset.path="größe.csv","b \(1\).csv"'"""
    ):
        as_overrides(["dataset.path=größe.csv,b (1).csv"])
    given = ['dataset.path="größe.csv","b (1).csv"']
    assert as_overrides(given) == given


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    assert main(["run", *QUICK, f"folder={tmp_path / 'taken'}"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere")]) == 2


def test_lists(capsys):
    assert main(["list", "solvers"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in jaxnmf.solvers())  # pyright: ignore
    for what, word in (
        ("losses", "kullback-leibler"),
        ("datasets", "digits"),
        ("experiments", "faces"),
    ):
        assert main(["list", what]) == 0
        assert word in capsys.readouterr().out


EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_study_composes_and_builds(name, shared_data):
    register_configs()
    GlobalHydra.instance().clear()
    with initialize_config_module("jaxnmf.configs", version_base="1.3"):
        chosen = [f"experiment={name}"]
        raw = compose("config", overrides=chosen, return_hydra_config=True)
        sweep = raw.hydra.sweeper.params
        losses = str(sweep.get("loss", raw.loss.name)).split(",")
        taken = {}
        for solver, loss in itertools.product(sweep.solver.split(","), losses):
            config = resolved(
                compose(
                    "config", overrides=[*chosen, f"solver={solver}", f"loss={loss}"]
                )
            )
            built = make_solver(*split_name(config["solver"]))
            made = registry.make_loss(*split_name(config["loss"]))
            taken[solver, loss] = built.supports.includes(made)
        # A study of several losses skips what does not fit, but no solver and no loss.
        for solver in sweep.solver.split(","):
            assert any(taken[solver, loss] for loss in losses)
        for loss in losses:
            assert any(taken[solver, loss] for solver in sweep.solver.split(","))
        if len(losses) == 1:
            assert all(taken.values())
        for name_of in str(sweep.get("dataset", config["dataset"]["name"])).split(","):
            assert name_of in datasets.names()
    assert config["name"] == name


@pytest.mark.parametrize("name", ["ratings", "ratings_folds"])
def test_studies_of_ratings_choose_from_what_can_be_run(name, shared_data):
    """Every penalty and offset of the sweep is one that the data set takes."""
    register_configs()
    GlobalHydra.instance().clear()
    with initialize_config_module("jaxnmf.configs", version_base="1.3"):
        chosen = [f"experiment={name}"]
        raw = compose("config", overrides=chosen, return_hydra_config=True)
        sweep = raw.hydra.sweeper.params
        solvers = sweep.solver.split(",")
        assert all("observed" in operands_of(solver_class(s)) for s in solvers)
        for offsets in sweep.offsets.split(","):
            config = resolved(
                compose("config", overrides=[*chosen, f"offsets={offsets}"])
            )
            Objective.of(offsets=config["offsets"])
    assert datasets.load(config["dataset"]["name"]).kind == "ratings"
    assert config["toward"] == "mean"


def solvers_of(experiment):
    register_configs()
    GlobalHydra.instance().clear()
    with initialize_config_module("jaxnmf.configs", version_base="1.3"):
        chosen = [f"experiment={experiment}"]
        raw = compose("config", overrides=chosen, return_hydra_config=True)
    return raw.hydra.sweeper.params.solver.split(",")


@pytest.mark.slow
def test_a_new_solver_is_in_the_comparisons_of_its_losses(monkeypatch):
    """Unless it minimises an objective of its own."""
    monkeypatch.setattr(registry, "_solvers", {**registry._solvers})
    names = ("frobenius_shootout", "kl_shootout", "solver_comparison")
    before = {name: solvers_of(name) for name in names}
    assert all("smooth" not in solvers for solvers in before.values())

    @registry.register_solver("zz-new")
    class New(solver_class("hals")):
        pass

    after = {name: solvers_of(name) for name in names}
    for name in ("frobenius_shootout", "solver_comparison"):
        assert after[name] == [*before[name], "zz-new"]
    assert after["kl_shootout"] == before["kl_shootout"]
    assert set(before["solver_comparison"]) == {
        *before["frobenius_shootout"],
        *before["kl_shootout"],
    }


def test_peers_are_compared_as_they_are_listed():
    assert set(baselines.names()) <= set(solvers_of("versus_peers"))


def test_a_list_of_solvers_for_an_unknown_loss_is_refused():
    config = OmegaConf.create({"solver": "${solvers:frobenus}"})
    with pytest.raises(InterpolationResolutionError, match=r"frobenus.*'frobenius'"):
        _ = config.solver


@pytest.mark.slow
def test_an_interrupted_study_keeps_its_finished_runs(tmp_path):
    """Ctrl-C in the second run: the first is readable, and a second call goes on."""
    script = (
        "import os, signal, sys\n"
        # A suite that runs in the background leaves it ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import jaxnmf.experiment.jobs.runs as runs\n"
        "from jaxnmf.experiment.cli import main\n"
        "timed, calls = runs.run_anywhere, []\n"
        "def interrupted(*args, **kwargs):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 2:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return timed(*args, **kwargs)\n"
        "runs.run_anywhere = interrupted\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["run", *QUICK, "solver=hals", f"folder={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 130, done.stderr
    (job,) = stored.read_jobs(tmp_path)
    assert list(job.summary["run"]) == ["r2-s0"]
    assert not job.complete
    assert main(arguments) == 0
    (job,) = stored.read_jobs(tmp_path)
    assert job.complete
    assert len(job.summary) == 4


@pytest.mark.slow
def test_a_killed_study_leaves_nothing_half_written(tmp_path):
    arguments = [*QUICK, "stop.max_iter=2000", "stop.tol=0", f"folder={tmp_path}"]
    command = [sys.executable, "-m", "jaxnmf.experiment.cli", "run", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("jobs/*/manifest.json")):
        assert time.monotonic() < deadline, "nothing was written in five minutes"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for job in stored.read_jobs(tmp_path):  # each verified against its checksums
        assert json.loads((job.path / "manifest.json").read_text())["files"]
