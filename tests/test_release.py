"""What a release repeats: versions, dependencies, the table of benchmarks."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pandas as pd
import pytest

import jaxnmf

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
RECIPE = (ROOT / "recipe/meta.yaml").read_text(encoding="utf-8")


def results():
    path = ROOT / "experiments/benchmarks/results.py"
    spec = importlib.util.spec_from_file_location("benchmark_results", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_wheel_has_every_package():
    folders = (path.parent for path in (ROOT / "jaxnmf").rglob("__init__.py"))
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    listed = PYPROJECT["tool"]["setuptools"]["packages"]
    assert names == {name for name in listed if "configs" not in name}


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("CHANGELOG.md", r"^## (\S+)"),
        ("CITATION.cff", r"^version: (\S+)"),
        ("recipe/meta.yaml", r'set version = "(\S+)"'),
    ],
)
def test_the_version_is_the_same_everywhere(file, pattern):
    text = (ROOT / file).read_text(encoding="utf-8")
    found = re.search(pattern, text, re.MULTILINE)
    assert found is not None
    assert found[1] == jaxnmf.__version__


def test_the_recipe_has_the_dependencies_of_the_package():
    run = RECIPE.split("  run:\n")[1].split("\n\n")[0]
    found = {line.strip("- ").replace(" ", "", 1) for line in run.splitlines()}
    expected = {
        line.replace("matplotlib>", "matplotlib-base>")
        for line in [*PROJECT["dependencies"], f"python{PROJECT['requires-python']}"]
    }
    assert found == expected


def test_the_page_of_benchmarks_is_that_of_the_table():
    module = results()
    page = module.PAGE.read_text(encoding="utf-8")
    assert page == module.page(pd.read_parquet(module.TABLE))


def rows(*given):
    columns = ["version", "machine", "script", "case", "measure", "unit", "value"]
    return pd.DataFrame(
        [(v, m, "s.py", "case", measure, unit, x) for v, m, measure, unit, x in given],
        columns=columns,
    )


def test_a_slowdown_shows():
    table = rows(
        ("0.9.0", "a", "hals", "ms", 10.0),
        ("0.10.0", "a", "hals", "ms", 13.0),
        ("0.9.0", "a", "mu", "ms", 10.0),
        ("0.10.0", "a", "mu", "ms", 11.0),
        ("0.9.0", "a", "sweep", "lanes a second", 10.0),
        ("0.10.0", "a", "sweep", "lanes a second", 13.0),
        ("0.10.0", "b", "hals", "ms", 100.0),
    )
    page = results().page(table)
    assert "1 of 3 figures" in page
    assert "| hals | 13 ms | 0.10.0 | 10 (0.9.0) | 1.30 **slower** |" in page
    assert page.count("**slower**") == 1
    assert "| hals | 100 ms | 0.10.0 |  |  |" in page


def test_a_figure_replaces_that_of_the_same_version_and_machine():
    before = rows(
        ("0.2.0", "a", "hals", "ms", 10.0), ("0.1.0", "a", "hals", "ms", 12.0)
    )
    after = results().merged(before, rows(("0.2.0", "a", "hals", "ms", 9.0)))
    assert dict(zip(after["version"], after["value"], strict=True)) == {
        "0.1.0": 12.0,
        "0.2.0": 9.0,
    }
