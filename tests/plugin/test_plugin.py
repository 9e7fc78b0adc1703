"""A third party's solver, the README's and that of the page on adding one: listed, run,
tested, never named here.

`conftest.py` installs the package in this folder as an installer would.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pytest

import jaxnmf
from jaxnmf import registry

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))
(PLUGIN,) = PROJECT["project"]["entry-points"]["jaxnmf.solvers"]


def command_line(*arguments: str, site: Path, cwd: Path) -> Any:
    """`jaxnmf …` as a user of the plugin calls it."""
    path = os.pathsep.join([str(site), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "jaxnmf.experiment.cli", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


def names_listed(done: Any) -> set[str]:
    """The first column of a listing."""
    assert done.returncode == 0, done.stderr
    return {line.split()[0] for line in done.stdout.splitlines() if line.split()}


# --- The example plugin --------------------------------------------------------------


@pytest.mark.slow
def test_it_is_listed(plugin_site, tmp_path):
    done = command_line("list", "solvers", site=plugin_site, cwd=tmp_path)
    assert PLUGIN in names_listed(done)


def test_it_is_not_listed_where_it_is_not_installed(tmp_path):
    done = command_line("list", "solvers", site=tmp_path, cwd=tmp_path)
    listed = names_listed(done)
    assert "hals" in listed
    assert PLUGIN not in listed


@pytest.mark.slow
def test_it_runs_from_the_command_line(plugin_site, tmp_path):
    done = command_line(
        "run",
        f"solver={PLUGIN}",
        "solver.gamma=0.9",
        "dataset=synthetic",
        "dataset.m=8",
        "dataset.n=6",
        "dataset.rank=2",
        "ranks=[2]",
        "seeds=[0]",
        "stop.max_iter=20",
        site=plugin_site,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (page,) = tmp_path.glob("runs/*/report.html")
    assert PLUGIN in page.read_text(encoding="utf-8")
    assert PLUGIN in done.stdout


def test_the_contract_covers_it():
    assert PLUGIN in jaxnmf.solvers()  # pyright: ignore
    assert PLUGIN in {case.solver for case in cases.CASES}
    assert PLUGIN in {case.solver for case in cases.MONOTONE_CASES}


def test_no_line_of_the_package_or_its_configs_names_it():
    files = [
        path
        for folder in ("jaxnmf", "configs")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".yaml"}
    ]
    assert len(files) > 20
    (package,) = PROJECT["tool"]["setuptools"]["packages"]
    word = re.compile(rf"\b{PLUGIN}\b|{package}", re.IGNORECASE)
    assert [path for path in files if word.search(path.read_text("utf-8"))] == []


def test_it_is_one_file_and_one_entry_point():
    (package,) = PROJECT["tool"]["setuptools"]["packages"]
    assert [path.name for path in (HERE / package).glob("*.py")] == ["__init__.py"]
    assert PROJECT["project"]["entry-points"] == {"jaxnmf.solvers": {PLUGIN: package}}


# --- The README ----------------------------------------------------------------------


def blocks(heading: str) -> list[str]:
    """The Python of a section of the README, block by block."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def clean_registry():
    registry.solvers()
    lists = registry._solvers, registry._losses
    before = [dict(known) for known in lists]
    yield
    for known, kept in zip(lists, before, strict=True):
        known.clear()
        known.update(kept)


def test_the_readmes_solver_works_as_written(clean_registry):
    (code,) = blocks("Add a solver")
    (name,) = re.findall(r'@jaxnmf\.register_solver\("([\w-]+)"\)', code)
    assert name not in registry.solvers()
    assert f"jaxnmf run solver={name}" in README
    exec(code, {"__name__": "readme"})
    assert name in registry.solvers()
    V = np.random.default_rng(0).random((8, 6))
    # Its text says that a float is data: a sweep compiles once.
    found = [
        jaxnmf.factorize(V, 2, solver=name, solver_options={"gamma": gamma}, tol=0)
        for gamma in (1.0, 0.5)
    ]
    assert found[0].compile_seconds > 0
    assert found[1].compile_seconds == 0
    for result in found:
        assert (
            np.diff(result.trace.objective) <= 1e-6 * result.trace.objective[0]
        ).all()
        assert min(result.W.min(), result.H.min()) >= 0
    # As good as the default solver after as many steps.
    best = jaxnmf.factorize(V, 2, tol=0)
    assert found[0].objective == pytest.approx(best.objective, rel=0.05)


@pytest.mark.slow
def test_the_readmes_factorisation_works_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the sweep's folder goes
    plain, ratings, sweep = blocks("Factorise a matrix")
    scope: dict[str, Any] = {}
    exec(plain, scope)
    V, result = scope["V"], scope["result"]
    assert result.W.shape == (200, 5)
    assert result.H.shape == (5, 100)
    error = np.linalg.norm(V - result.W @ result.H) / np.linalg.norm(V)
    assert result.relative_error == pytest.approx(error, rel=1e-5)
    assert result.trace.objective[-1] < result.trace.objective[0]

    rng = np.random.default_rng(0)
    places = rng.permutation(30 * 24)[:400]
    scope |= {"users": places // 24, "films": places % 24, "user": 4, "film": 3}
    scope |= {"stars": rng.integers(1, 6, 400), "n_users": 30, "n_films": 24}
    exec(ratings, scope)
    seen = scope["films"][scope["users"] == 4]
    advice = scope["result"].recommend(4, 24, exclude=scope["ratings"])
    assert set(advice) == set(range(24)) - set(seen)
    assert scope["newcomer"].W.shape == (1, 20)

    # With fewer seeds, which are many seconds.
    assert "seeds=20" in sweep
    exec(sweep.replace("seeds=20", "seeds=2"), scope)
    assert len(scope["found"].table) == 9 * 2 * 2
    assert scope["found"].best(5).H.shape == (5, 100)
    assert (tmp_path / "mine" / "sweep.json").exists()


# --- The page on adding --------------------------------------------------------------


@pytest.mark.slow
def test_the_page_on_adding_works_as_written(
    clean_registry, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("JAXNMF_DATA", "")  # which the page sets
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cells = re.findall(r"```\{code-cell\}\n(.*?)```", PAGE, re.DOTALL)
    scope: dict[str, Any] = {"__name__": "page"}
    for cell in cells:
        exec(cell, scope)
    printed = capsys.readouterr().out
    (name,) = re.findall(r'@jaxnmf\.register_solver\("([\w-]+)"\)', PAGE)
    (loss,) = re.findall(r'@jaxnmf\.register_loss\("([\w-]+)"\)\nclass', PAGE)
    assert name in registry.solvers()
    assert loss in registry.losses()
    # What the text says of them.
    assert re.findall("compiled: (\\w+)", printed)[-1] == "False"
    assert scope["lane"].objective == pytest.approx(scope["alone"].objective, rel=1e-5)
    assert list(scope["found"].buckets["sizes"]) == [16]
    assert "does not support the loss" in printed
    assert "does not support the constraint" in printed
    assert scope["error"] < 0.01
    assert scope["loaded"].rank == 3
