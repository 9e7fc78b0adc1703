"""The examples of the public names: there is one for each, and they run."""

import ast
import doctest
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import jaxnmf
from jaxnmf import registry

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs/api").glob("*.md"))
# It joins the processes of a cluster; tests/distributed runs it in some.
APART = {"jaxnmf.distributed.start"}
# Their examples are those of the page on adding a solver, which test_plugin.py runs.
PROTOCOL = {
    f"jaxnmf.solvers.base.{name}" for name in ("Solver", "Alternating", "Supports")
}


SLOW = {
    "jaxnmf.Blocks",
    "jaxnmf.MiniBatchNMF",
    "jaxnmf.NMF",
    "jaxnmf.RankSelection",
    "jaxnmf.Simplex",
    "jaxnmf.SweepResult",
    "jaxnmf.Uncertainty",
    "jaxnmf.plots.error_against_rank",
    "jaxnmf.plots.intervals",
    "jaxnmf.plots.objectives",
    "jaxnmf.plots.relevance",
    "jaxnmf.plots.selection",
    "jaxnmf.plots.silhouettes",
    "jaxnmf.select_rank",
    "jaxnmf.uncertainty",
}


def documented() -> list[str]:
    """The dotted names that the pages on the public names document."""
    names = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        names += re.findall(r"\.\. auto(?:function|class):: (\S+)", text)
        for module, members in re.findall(
            r"\.\. automodule:: (\S+)\n +:members: (.+)", text
        ):
            names += [f"{module}.{member}" for member in members.split(", ")]
    return sorted(names)


def found(name: str) -> Any:
    """What a dotted name is."""
    parts = name.split(".")
    thing = importlib.import_module(parts[0])
    for k, part in enumerate(parts[1:], 2):
        if not hasattr(thing, part):
            importlib.import_module(".".join(parts[:k]))
        thing = getattr(thing, part)
    return thing


def exported() -> set[str]:
    """The names that `jaxnmf/__init__.py` offers, which are no modules."""
    tree = ast.parse((ROOT / "jaxnmf/__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {alias.asname for node in imports for alias in node.names} - {None}
    return {
        f"jaxnmf.{name}"
        for name in names
        if not isinstance(getattr(jaxnmf, str(name)), ModuleType)
        and not str(name).startswith("_")
    }


def test_every_public_name_is_documented():
    names = documented()
    assert len(set(names)) == len(names) > 60
    assert exported() - set(names) == set()
    offered = {
        f"jaxnmf.plots.{name}"
        for name, thing in vars(importlib.import_module("jaxnmf.plots")).items()
        if callable(thing)
    }
    assert offered - set(names) == set()


def cases() -> list[Any]:
    """The names whose examples are run; what compiles many programs is marked slow."""
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in sorted(set(documented()) - APART - PROTOCOL)
    ]


@pytest.mark.parametrize("name", cases())
def test_its_example_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    solvers, losses = dict(registry._solvers), dict(registry._losses)
    thing = found(name)
    text = thing.__doc__ or ""
    (example,) = [
        test
        for test in doctest.DocTestFinder(recurse=False).find(thing, name, globs={})
        if test.examples
    ] or [None]
    assert example is not None, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    printed: list[str] = []
    runner.run(example, out=printed.append)
    assert runner.failures == 0, "".join(printed)
    assert text.count("Example") == 1
    for known, before in ((registry._solvers, solvers), (registry._losses, losses)):
        known.clear()
        known.update(before)
