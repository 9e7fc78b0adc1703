"""Matrices from files of every kind, and those that are not what they seem."""

from __future__ import annotations

import gzip
import json
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

import jaxnmf
from jaxnmf.files import labelled, stores

V = np.random.default_rng(0).poisson(1.0, (7, 5)).astype(np.float32)
CELLS = tuple(f"cell{i}" for i in range(7))
GENES = ("Actb", "Gapdh (id1)", "Cd4", "Gapdh (id3)", "Cd8a")
SYMBOLS = ["Actb", "Gapdh", "Cd4", "Gapdh", "Cd8a"]


def as_anndata(X=V, **layers):
    anndata = pytest.importorskip("anndata")
    obs, var = (pd.DataFrame(index=list(x)) for x in (CELLS, GENES))
    data = anndata.AnnData(X, obs=obs, var=var, layers=layers)
    for frame in (data.obs, data.var):  # anndata 0.12.6 writes no other text
        frame.index = frame.index.astype(object)
    return data


def ten_x_folder(tmp_path):
    with gzip.open(tmp_path / "matrix.mtx.gz", "wb") as out:
        scipy.io.mmwrite(out, sp.coo_array(V.T))
    lines = [f"id{j}\t{x}\tGene Expression" for j, x in enumerate(SYMBOLS)]
    for name, rows in (("features", lines), ("barcodes", CELLS)):
        with gzip.open(tmp_path / f"{name}.tsv.gz", "wt") as out:
            out.write("\n".join(rows) + "\n")
    return tmp_path


def ten_x_h5(tmp_path):
    h5py = pytest.importorskip("h5py")
    csc = sp.csc_array(V.T)
    with h5py.File(tmp_path / "a.h5", "w") as out:
        group = out.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(csc, name)
        group["shape"], group["barcodes"] = csc.shape, np.array(CELLS, "S")
        group["features/name"] = np.array(SYMBOLS, "S")
        group["features/id"] = np.array([f"id{j}" for j in range(5)], "S")
    return tmp_path / "a.h5"


def h5ad(tmp_path):
    as_anndata(sp.csc_array(V)).write_h5ad(tmp_path / "a.h5ad")
    return tmp_path / "a.h5ad"


def zarr_anndata(tmp_path):
    as_anndata(V).write_zarr(tmp_path / "a.zarr")
    return tmp_path / "a.zarr"


def parquet(tmp_path):
    pd.DataFrame(V, list(CELLS), list(GENES)).to_parquet(tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


@pytest.mark.parametrize(
    "written", [ten_x_folder, ten_x_h5, h5ad, zarr_anndata, parquet]
)
def test_the_matrix_and_its_names_are_read(written, tmp_path):
    found = jaxnmf.read(written(tmp_path))
    dense = found.V.toarray() if hasattr(found.V, "toarray") else found.V
    assert_array_equal(dense, V)
    assert found.row_names == CELLS
    assert found.column_names == GENES
    assert jaxnmf.factorize(found, 2, max_iter=2).row_names.tolist() == list(CELLS)


@pytest.mark.parametrize("written", ["h5ad", "zarr", "memory"])
def test_a_layer_of_anndata(written, tmp_path):
    data = as_anndata(V, counts=sp.csr_array(2 * V))
    path = tmp_path / f"a.{written}"
    if written != "memory":
        getattr(data, f"write_{written}")(path)
    given = data if written == "memory" else path
    found = jaxnmf.read(given, layer="counts")
    assert_array_equal(found.V.toarray(), 2 * V)
    assert found.row_names == CELLS
    with pytest.raises(ValueError, match=r"layers?( of V)?: 'counts'"):
        jaxnmf.read(given, layer="other")


@pytest.mark.parametrize("kind", ["h5py", "zarr"])
def test_a_plain_array_by_key(kind, tmp_path):
    package = pytest.importorskip(kind)
    if kind == "h5py":
        path = tmp_path / "a.h5"
        root = package.File(path, "w")
    else:
        path = tmp_path / "a.zarr"
        root = package.open_group(path, mode="w")
    root.create_group("run")
    arrays = {"run/V": V, "run/other": 2 * V, "times": V[0]}
    for name, X in arrays.items():
        root.create_dataset(name, data=X) if kind == "h5py" else root.create_array(
            name, data=X
        )
    if kind == "h5py":
        root.close()
    assert_array_equal(jaxnmf.read(path, key="run/V").V, V)
    assert_array_equal(jaxnmf.read(path, key="run/V", transpose=True).V, V.T)
    with pytest.raises(ValueError, match=r"contains 2 2-D arrays .* set key"):
        jaxnmf.read(path)
    with pytest.raises(ValueError, match="has no array 'W'; it has run/V"):
        jaxnmf.read(path, key="W")


def test_a_sound_is_frames_by_frequencies(tmp_path):
    rate, hertz = 8000, 1000.0
    times = np.arange(rate) / rate
    sound = np.stack([np.sin(2 * np.pi * hertz * times), 0 * times], 1)
    path = tmp_path / "a.wav"
    scipy.io.wavfile.write(path, rate, (32767 * sound).astype(np.int16))
    found: Any = jaxnmf.read(path, window=256, hop=128)
    assert found.column_names[np.argmax(found.V.sum(0))] == "1000"
    # The middle frame, computed as the definition says.
    start = 128 * 20
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    part = sound[start : start + 256].mean(1) * window
    at = found.row_names.index(f"{(start + 128) / rate:.4g}")
    assert_allclose(found.V[at], np.abs(np.fft.rfft(part)), atol=2e-3)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(ValueError, match="ends before its sound does"):
        jaxnmf.read(path)


@pytest.mark.parametrize(
    "suffix",
    [".npy", ".npz", ".csv", ".parquet", ".mtx", ".mtx.gz", ".h5ad", ".h5", ".wav"],
)
@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n\0\0\0", b"\x80\x04K\x01."]
)
def test_what_is_not_what_its_name_says_is_refused(suffix, content, tmp_path):
    if suffix.startswith(".h5"):
        pytest.importorskip("h5py")
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"a{suffix}'") as error:
        jaxnmf.read(path)
    assert "\n" not in str(error.value).strip()


def test_a_pickle_is_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    np.save(tmp_path / "a.npy", np.array([[Trap()]]), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read"):
        jaxnmf.read(tmp_path / "a.npy")
    zarr = pytest.importorskip("zarr")
    folder = tmp_path / "a.zarr"
    zarr.create_array(folder, data=V, zarr_format=2, chunks=V.shape)
    about = json.loads((folder / ".zarray").read_text())
    about |= {"filters": [{"id": "pickle", "protocol": 4}], "compressor": None}
    (folder / ".zarray").write_text(json.dumps(about))
    (folder / "0.0").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="pickled data, which are never loaded"):
        jaxnmf.read(folder)
    assert not (tmp_path / "sprung").exists()


def test_what_does_not_fit_the_memory_is_refused(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", V)
    monkeypatch.setattr(labelled, "free_memory", lambda: 100)
    with pytest.raises(ValueError, match=r"a.npy' needs .* and 1e-07 GB are free"):
        jaxnmf.read(tmp_path / "a.npy")


def test_a_missing_package_is_named_with_the_extra(tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    (tmp_path / "a.h5ad").write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setattr(stores, "import_module", missing)
    with pytest.raises(ValueError, match=r"needs the package h5py .*jaxnmf\[files\]"):
        jaxnmf.read(tmp_path / "a.h5ad")


@pytest.mark.parametrize("option", ["key", "layer", "window", "decimal", "index"])
def test_an_option_of_another_format_is_refused(option, tmp_path):
    np.save(tmp_path / "a.npy", V)
    value = {"window": 3, "decimal": ","}.get(option, "x")
    with pytest.raises(ValueError, match=rf"{option}: .*a.npy' is not a \."):
        jaxnmf.read(tmp_path / "a.npy", **{option: value})


def test_a_folder_of_10x_without_its_names_is_refused(tmp_path):
    folder = ten_x_folder(tmp_path)
    with gzip.open(folder / "barcodes.tsv.gz", "wt") as out:
        out.write("one\n")
    with pytest.raises(ValueError, match=r"1 lines in barcodes\.tsv\.gz for the 7"):
        jaxnmf.read(folder)
    (folder / "barcodes.tsv.gz").unlink()
    with pytest.raises(ValueError, match=r"a folder without barcodes\.tsv\.gz"):
        jaxnmf.read(folder)
    (folder / "matrix.mtx.gz").unlink()
    with pytest.raises(ValueError, match="is a folder; expected a file"):
        jaxnmf.read(folder)
