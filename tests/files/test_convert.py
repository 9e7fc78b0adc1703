"""`jaxnmf convert`: the fast form of a file, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse

import jaxnmf
from jaxnmf.experiment.cli import main
from jaxnmf.files.convert import convert

RNG = np.random.default_rng(3)
V = RNG.random((20, 5)).astype(np.float32)
S = scipy.sparse.csr_array(np.where(RNG.random((20, 5)) < 0.3, V, 0))


def source(folder: Path, form: str) -> Path:
    place = folder / form
    if form == "columns.npy":
        np.save(place, np.asfortranarray(V))
    elif form == "table.csv":
        pd.DataFrame(V, columns=list("abcde")).to_csv(place, index=False)
    elif form == "named.parquet":
        pd.DataFrame(V, [f"r{i}" for i in range(20)]).rename(columns=str).to_parquet(
            place
        )
    elif form == "S.mtx":
        scipy.io.mmwrite(place, S)
    elif form == "csc.h5ad":
        anndata = pytest.importorskip("anndata")
        anndata.AnnData(scipy.sparse.csc_matrix(S)).write_h5ad(place)
    return place


@pytest.mark.parametrize("form", ["columns.npy", "table.csv", "named.parquet"])
def test_dense_files_become_rows(tmp_path: Path, form: str) -> None:
    out = convert(source(tmp_path, form), tmp_path / "out.npy", dtype="float32")
    found = np.load(out)
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, V, 1e-6)
    assert jaxnmf.Blocks(out).dtype == np.float32


@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("form", ["S.mtx", "csc.h5ad"])
def test_sparse_files_become_a_folder(
    tmp_path: Path, form: str, by_columns: bool
) -> None:
    place = source(tmp_path, form)
    out = convert(place, tmp_path / "out", by_columns=by_columns)
    (_, block), *rest = jaxnmf.Blocks(out).each()
    assert not rest
    np.testing.assert_allclose(block.toarray(), S.toarray(), 1e-6)
    np.testing.assert_allclose(jaxnmf.read(out).V.toarray(), S.toarray(), 1e-6)
    assert (out / "turned_data.npy").exists() is by_columns


def test_the_command_names_what_it_wrote(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out.npy"
    place = source(tmp_path, "table.csv")
    assert main(["convert", str(place), str(out), "--transpose"]) == 0
    assert str(out) in capsys.readouterr().out.replace("\n", "")
    np.testing.assert_allclose(np.load(out), V.T, 1e-6)


@pytest.mark.parametrize(
    ("form", "out", "given", "words"),
    [
        ("columns.npy", "out", {}, "does not fit a dense matrix; give a file that"),
        ("S.mtx", "out.npy", {}, "does not fit a sparse matrix; give a folder"),
        ("columns.npy", "out.npy", {"by_columns": True}, "by_columns: is for a sparse"),
        ("columns.npy", "out.npy", {"dtype": "int8"}, "dtype='int8' must be one of"),
        ("columns.npy", "columns.npy", {}, "exists; give a new file or folder"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, form: str, out: str, given: Any, words: str
) -> None:
    place = source(tmp_path, form)
    with pytest.raises(ValueError, match=words):
        convert(place, tmp_path / out, **given)
    assert [x.name for x in tmp_path.iterdir()] == [form]


def test_a_source_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = source(tmp_path, "columns.npy")

    def broken(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("jaxnmf.files.convert._write_dense", broken)
    with pytest.raises(ValueError, match=r"cannot be written \(no space left"):
        convert(place, tmp_path / "out.npy")
    assert [x.name for x in tmp_path.iterdir()] == ["columns.npy"]
