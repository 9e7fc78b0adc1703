"""The docs against the source: references, rooms and links, without building a page."""

import ast
import importlib.util
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIBLIOGRAPHY = (ROOT / "docs/references.bib").read_text(encoding="utf-8")
KEYS = re.findall(r"^@\w+\{(\w+),", BIBLIOGRAPHY, re.MULTILINE)
GALLERY = sorted((ROOT / "docs/gallery").glob("*.md"))
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
SOURCES = [*(ROOT / "jaxnmf").rglob("*.py"), *(ROOT / "tests").glob("plugin*/*/*.py")]


def docstrings() -> Iterator[tuple[str, str]]:
    """Where a docstring is, and its text."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, documented) and (text := ast.get_docstring(node)):
                name = getattr(node, "name", "")
                yield f"{path.relative_to(ROOT)} {name}", text


def cited(text: str) -> set[str]:
    return set(re.findall(r"\[([A-Z]\w+\d{4})\]", text))


def test_references_of_docstrings_are_in_the_bibliography():
    texts = dict(docstrings())
    unknown = {where: cited(text) - set(KEYS) for where, text in texts.items()}
    assert {where: keys for where, keys in unknown.items() if keys} == {}
    referring = {
        where: text
        for where, text in texts.items()
        if re.search(r"^References?:", text, re.MULTILINE)
    }
    assert len(referring) > 30
    assert [where for where, text in referring.items() if not cited(text)] == []


def test_the_bibliography_is_sorted_and_used():
    assert sorted(KEYS) == KEYS
    assert len(set(KEYS)) == len(KEYS)
    read = [path.read_text(encoding="utf-8") for path in [*PAGES, *SOURCES]]
    # [Key2000] in a docstring, {cite:p}`Key2000` on a page.
    used = set(re.findall(r"[\[`](\w+\d{4})[\]`]", "\n".join(read)))
    assert [key for key in KEYS if key not in used] == []


def test_references_of_pages_are_in_the_bibliography():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r"\{cite:\w\}`(\w+)`", text)) <= set(KEYS), page.name


def test_every_room_says_what_it_is_for():
    path = ROOT / "docs/architecture.py"
    spec = importlib.util.spec_from_file_location("architecture", path)
    assert spec is not None
    assert spec.loader is not None
    architecture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(architecture)
    cells = [line.split("|")[1:3] for line in architecture.table().splitlines()[2:]]
    assert [room for room, what in cells if not what.strip()] == []
    rooms = {room for floor in architecture.floors() for room in floor}
    packages = {path.parent.name for path in (ROOT / "jaxnmf").glob("*/__init__.py")}
    modules = {path.stem for path in (ROOT / "jaxnmf").glob("[a-z]*.py")}
    assert rooms == packages | modules
    for room in rooms:
        assert architecture.imports(room) <= rooms


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)", text)
    files = [link for link in links if "://" not in link]
    assert [link for link in files if not (page.parent / link).exists()] == []


def test_terms_are_in_the_glossary():
    glossary = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^(\S.*)\n  \S", glossary, re.MULTILINE)
    assert sorted(terms, key=str.lower) == terms
    used = {
        re.sub(r".*<(.*)>", r"\1", term)
        for page in PAGES
        for term in re.findall(r"\{term\}`([^`]+)`", page.read_text(encoding="utf-8"))
    }
    assert used - set(terms) == set()


def test_every_page_of_the_gallery_is_listed_and_has_a_figure():
    index = (ROOT / "docs/gallery/index.md").read_text(encoding="utf-8")
    trees = re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL)
    listed = [
        line for tree in trees for line in tree.splitlines() if line[:1].islower()
    ]
    pages = {page.stem: page for page in GALLERY if page.stem != "index"}
    assert sorted(listed) == sorted(pages)
    assert set(re.findall(r"\]\((\w+)\.md\)", index)) == set(pages)
    for name, page in pages.items():
        text = page.read_text(encoding="utf-8")
        cells = re.findall(r"```\{code-cell\}\n(.*?)```", text, re.DOTALL)
        assert any("plt.subplots" in cell for cell in cells), name
        assert text.count("\n## ") >= 3, name


PEERS = json.loads((ROOT / "docs/coming_from/peers.json").read_text(encoding="utf-8"))


def page_of(peer: str) -> str:
    name = peer.replace("_", "-")
    return (ROOT / f"docs/coming_from/{name}.md").read_text(encoding="utf-8")


def named(text: str) -> set[str]:
    """The names in the first column of the tables of a page."""
    rows = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"[\w.]+", row)}


@pytest.mark.parametrize("peer", PEERS)
def test_every_argument_of_another_package_is_on_its_page(peer):
    arguments = {name for some in PEERS[peer]["arguments"].values() for name in some}
    assert len(arguments) > 5
    assert arguments - named(page_of(peer)) == set()


def test_every_argument_of_scikit_learn_is_on_its_page():
    from sklearn.decomposition import NMF

    arguments = set(inspect.signature(NMF).parameters)
    assert arguments - named(page_of("scikit-learn")) == set()
