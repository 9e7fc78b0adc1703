"""`jaxnmf factorize`: one file in, factors with names and a page out."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

import jaxnmf
from jaxnmf.experiment import factorization
from jaxnmf.experiment.cli import main

V = np.random.default_rng(0).random((12, 9)).round(4) + 0.1
ROWS = [f"sample {i}" for i in range(12)]
COLUMNS = [f"gène <{j}>" for j in range(9)]


def written(name, folder, V=V):
    path = folder / name
    if path.suffix == ".csv":
        pd.DataFrame(V, ROWS, COLUMNS).to_csv(path, sep=";", decimal=",")
    elif path.suffix == ".mtx":
        scipy.io.mmwrite(path, sp.coo_array(V))
    else:
        np.save(path, V)
    return str(path)


class Page(HTMLParser):
    """The links and the number of pictures of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.drawings = [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.drawings += tag == "svg"
        self.links += [value for name, value in attrs if tag == "a" and name == "href"]


def test_what_may_be_wrong_is_on_the_screen_and_the_page(tmp_path, capsys):
    file, out = tmp_path / "a.csv", tmp_path / "out"
    file.write_text("id,g1,g2\n1,5,6\n2,7,8\n3,4,5\n4,1,9\n")
    assert main(["factorize", str(file), "-p", "1", "-o", str(out)]) == 0
    doubt = "set index=id if it contains the row names"
    assert doubt in capsys.readouterr().out
    assert doubt in (out / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["a.csv", "a.mtx", "a.npy"])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_folder_has_factors_tables_and_a_page(name, form, tmp_path):
    file, out = written(name, tmp_path), tmp_path / "out"
    given = ["factorize", file, "-p", "3", "-o", str(out), "--format", form]
    assert main([*given, "--seed", "1", "--max-iter", "20"]) == 0
    files = {"factors.npz", f"W.{form}", f"H.{form}", "index.html"}
    assert {path.name for path in out.iterdir()} == files
    result = jaxnmf.load(out / "factors.npz")
    expected = jaxnmf.factorize(jaxnmf.read(file).V, 3, seed=1, max_iter=20)
    np.testing.assert_array_equal(result.W, expected.W)
    reader = pd.read_csv if form == "csv" else pd.read_parquet
    index = {"index_col": 0} if form == "csv" else {}
    W, H = (reader(out / f"{name}.{form}", **index) for name in "WH")
    np.testing.assert_allclose(W, result.W, rtol=1e-6)
    np.testing.assert_allclose(H, result.H, rtol=1e-6)
    if name == "a.csv":
        assert W.index.tolist() == ROWS
        assert H.columns.tolist() == COLUMNS
    page = (out / "index.html").read_text("utf-8")
    found = Page(page)
    assert found.links == ["factors.npz", f"W.{form}", f"H.{form}"]
    assert found.drawings >= 6
    assert f"{100 * result.relative_error:.3g} % of ‖V‖" in page
    assert ("gène &lt;3&gt;" in page) == (name == "a.csv")


@pytest.mark.slow
def test_a_file_larger_than_memory_is_read_block_by_block(tmp_path, monkeypatch):
    file, out = written("a.npy", tmp_path), tmp_path / "out"
    given = ["factorize", file, "-p2", "--max-iter", "5", "--solver", "hals"]
    assert main([*given, "-o", str(tmp_path / "asked.npz"), "--blocks"]) == 0
    monkeypatch.setattr(factorization, "free_memory", lambda: 100)
    monkeypatch.setattr(factorization, "read", lambda *_, **__: pytest.fail("read"))
    kept = tmp_path / "run"
    more = ["--checkpoint", str(kept), "--format", "parquet"]
    assert main([*given, "-o", str(out), *more]) == 0
    result = jaxnmf.load(out / "factors.npz")
    expected = jaxnmf.factorize(V, 2, solver="hals", init="random", max_iter=5)
    np.testing.assert_allclose(result.W, expected.W, 1e-3, 1e-4)
    asked = jaxnmf.load(tmp_path / "asked.npz")
    np.testing.assert_array_equal(asked.W, result.W)
    assert "Components" in (out / "index.html").read_text("utf-8")
    assert {x.name for x in kept.iterdir()} == {"run.json", "at00000005-0of1.npz"}


def test_options_that_blocks_do_not_have_are_refused(tmp_path, capsys):
    given = ["factorize", written("a.npy", tmp_path), "-p2", "-o", str(tmp_path / "o")]
    assert main([*given, "--blocks", "--transpose"]) == 2
    assert "transpose: " in capsys.readouterr().err


def test_a_file_of_its_own_holds_the_result_alone(tmp_path):
    out = tmp_path / "new" / "one.npz"
    assert main(["factorize", written("a.npy", tmp_path), "-p2", "-o", str(out)]) == 0
    assert jaxnmf.load(out).H.shape == (2, 9)
    assert list(out.parent.iterdir()) == [out]


def test_missing_values_are_unknown_where_asked(tmp_path, capsys):
    holed = V.copy()
    holed[2, 3] = holed[5, 5] = np.nan
    out = tmp_path / "out"
    given = ["factorize", written("a.csv", tmp_path, holed), "-p2", "-o", str(out)]
    assert main(given) == 2
    assert "holds NaN" in capsys.readouterr().err
    assert not out.exists()
    assert main([*given, "--mask", "nan"]) == 0
    expected = jaxnmf.factorize(holed, 2, mask="nan")
    found = jaxnmf.load(out / "factors.npz")
    np.testing.assert_allclose(found.W, expected.W, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--solver", "hall"], "did you mean 'hals'"),
        (["--index", "12"], "index=12 is none"),
        (["--key", "a"], "is not a .npz or .h5ad or .h5"),
        (["--encoding", "klingon"], "encoding: 'klingon' is unknown"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_nothing_is_written(
    options, message, tmp_path, capsys
):
    file, out = written("a.csv", tmp_path), tmp_path / "out"
    assert main(["factorize", file, "-p", "2", "-o", str(out), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_target_that_is_something_else_is_refused(tmp_path, capsys):
    file = written("a.npy", tmp_path)
    (tmp_path / "folder.npz").mkdir()
    for out in (file, str(tmp_path / "folder.npz")):
        assert main(["factorize", file, "-p", "2", "-o", out]) == 2
        assert "file that ends in .npz" in capsys.readouterr().err


def test_the_words_of_a_folder_of_texts_are_counted(tmp_path, capsys):
    texts, out = tmp_path / "texts", tmp_path / "out"
    texts.mkdir()
    for i in range(12):
        words = ("cat fur tail paw", "bank price trade stock")[i % 2]
        (texts / f"{i}.txt").write_text(words)
    (texts / "empty.txt").write_text("")
    given = ["factorize", str(texts), "-p", "2", "-o"]
    assert main([*given, str(out)]) == 0
    assert "1 of 13 documents had none of the words" in capsys.readouterr().out
    H = pd.read_csv(out / "H.csv", index_col=0)
    found = [{str(word) for word in row.nlargest(4).index} for _, row in H.iterrows()]
    assert sorted(map(sorted, found)) == [
        ["bank", "price", "stock", "trade"],
        ["cat", "fur", "paw", "tail"],
    ]
    with np.load(out / "factors.npz") as kept:
        assert "kullback-leibler" in str(kept["about"])
    assert main([*given, str(out), "--separator", "comma"]) == 2
    assert "separator" in capsys.readouterr().err
