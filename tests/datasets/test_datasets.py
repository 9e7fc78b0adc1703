"""Data sets: what is loaded is what the source holds, and what cannot be is refused."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.io import mmwrite

import jaxnmf
from jaxnmf import datasets
from jaxnmf.datasets.base import Card, Dataset

FOLDER = os.environ.get("JAXNMF_DATA", "")
FILES = {"documents", "file", "ratings", "views"}  # of the user's own
BUILT_IN = {"china", "digits", "flower", "synthetic", *FILES}
NEED_NO_PATH = [n for n in datasets.names() if n not in FILES]
needs_folder = pytest.mark.skipif(not FOLDER, reason="JAXNMF_DATA is not set")


def load(name: str, **options) -> Any:
    """Any: what is optional in a data set is there in the ones tested for it."""
    return datasets.load(name, **options)


# --- by name -------------------------------------------------------------------------


def test_the_module_is_called_for_the_names():
    assert jaxnmf.datasets() == datasets.names()  # pyright: ignore[reportCallIssue]
    assert set(datasets.names()) >= BUILT_IN


@pytest.mark.parametrize("name", NEED_NO_PATH)
def test_the_listing_says_what_loading_gives(name):
    row = next(row for row in datasets.describe() if row["name"] == name)
    loaded = load(name)
    for key in ("name", "shape", "kind", "rank", "loss", "about"):
        assert getattr(loaded, key) == row[key]
    values = loaded.V.values if loaded.kind == "ratings" else loaded.V
    assert values.dtype.kind == "f"
    assert values.min() >= 0
    assert loaded.checksum == load(name).checksum


def test_listing_and_importing_read_no_data():
    code = (
        "import sys, jaxnmf.datasets as d; d.describe(); "
        "print([m for m in ('pandas', 'sklearn') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "[]\n"


def test_unknown_names_options_and_values_are_refused():
    with pytest.raises(ValueError, match=r"'digit' \(did you mean 'digits'\?\)"):
        load("digit")
    with pytest.raises(ValueError, match=r"ranks: unknown option.*m, n, rank"):
        load("synthetic", ranks=3)
    with pytest.raises(ValueError, match=r"size: unknown option.*options: none"):
        load("digits", size=3)
    with pytest.raises(ValueError, match=r"path: .*requires this option"):
        load("file")
    assert datasets.options("synthetic")["rank"] == 5


# --- the class -----------------------------------------------------------------------


def test_checksum_sees_values_shape_and_dtype_but_not_layout():
    card = Card(name="x", shape=None, kind="table", about="", source="", licence="")
    V = np.arange(6.0).reshape(2, 3)
    dense = card.dataset(V).checksum
    assert card.dataset(np.asfortranarray(V)).checksum == dense
    for other in (V.reshape(3, 2), V.astype(np.float32), V + 1):
        assert card.dataset(other).checksum != dense

    i, j, v = np.array([1, 0, 0, 1]), np.array([2, 1, 1, 0]), np.arange(1.0, 5.0)
    summed = sparse.csr_array((v, (i, j)), shape=(2, 3))
    unsorted = sparse.csr_array(([5.0, 1.0, 4.0], [1, 2, 0], [0, 1, 3]), shape=(2, 3))
    assert card.dataset(unsorted).checksum == card.dataset(summed).checksum
    assert unsorted.indices.tolist() == [1, 2, 0]  # V itself is left as it was
    for width in ("i4", "i8"):
        same = summed.copy()
        same.indices = summed.indices.astype(width)
        same.indptr = summed.indptr.astype(width)
        assert card.dataset(same).checksum == card.dataset(summed).checksum
    assert card.dataset(summed * 2).checksum != card.dataset(summed).checksum


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("labels", np.zeros(3)),
        ("column_names", ("a", "b")),
        ("row_image", (2, 2)),
        ("kind", "picture"),
    ],
)
def test_attributes_that_do_not_fit_are_refused(attribute, value):
    good = Dataset(
        name="x", V=np.ones((2, 3)), kind="table", about="", source="", licence=""
    )
    with pytest.raises(ValueError, match=f"^{attribute}(: |=)"):
        dataclasses.replace(good, **{attribute: value})


# --- bundled -------------------------------------------------------------------------


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    loaded = load("digits")
    np.testing.assert_array_equal(loaded.V, bunch.data)
    np.testing.assert_array_equal(loaded.labels, bunch.target)
    assert loaded.column_image == (8, 8)


@pytest.mark.parametrize("name", ["china", "flower"])
def test_photographs_are_grey_as_pillow_makes_it(name):
    from PIL import Image
    from sklearn.datasets import load_sample_image

    # Pillow's mode "L" is the same luma, rounded down to one of 256 levels
    grey = np.asarray(Image.fromarray(load_sample_image(f"{name}.jpg")).convert("L"))
    np.testing.assert_allclose(load(name).V * 255, grey, atol=1.01)


# --- synthetic -----------------------------------------------------------------------


def test_planted_factors_make_v_and_the_seed_makes_the_factors():
    loaded = load("synthetic", m=30, n=20, rank=4, mean=3, seed=1)
    assert loaded.truth.W.shape == (30, 4)
    assert loaded.truth.H.shape == (4, 20)
    np.testing.assert_allclose(loaded.V, loaded.truth.W @ loaded.truth.H, rtol=1e-12)
    assert loaded.V.mean() == pytest.approx(3.0)
    again = load("synthetic", m=30, n=20, rank=4, mean=3, seed=1)
    other = load("synthetic", m=30, n=20, rank=4, mean=3, seed=2)
    assert again.checksum == loaded.checksum != other.checksum


def test_planted_sparsity_leaves_nothing_empty():
    truth = load("synthetic", m=400, n=300, rank=5, sparsity=0.7).truth
    assert np.mean(truth.W == 0) == pytest.approx(0.7, abs=0.05)
    truth = load("synthetic", m=400, n=300, rank=5, sparsity=0.99).truth
    for factor in (truth.W, truth.H):
        assert (factor.max(axis=0) > 0).all()
        assert (factor.max(axis=1) > 0).all()


def test_gaussian_noise_has_the_level_asked_for():
    exact = load("synthetic", sparsity=0.0, seed=3)
    noisy = load("synthetic", sparsity=0.0, seed=3, noise="gaussian", noise_level=0.01)
    size = np.linalg.norm(noisy.V - exact.V) / np.linalg.norm(exact.V)
    assert size == pytest.approx(0.01, rel=0.02)  # a little is lost where V is cut at 0
    assert noisy.V.min() >= 0


def test_poisson_noise_gives_counts_with_the_planted_mean_and_variance():
    loaded = load("synthetic", m=400, n=300, noise="poisson", mean=2.5)
    X = loaded.truth.W @ loaded.truth.H
    assert (np.round(loaded.V) == loaded.V).all()
    assert np.mean(loaded.V - X) == pytest.approx(0, abs=0.03)
    assert np.mean((loaded.V - X) ** 2) == pytest.approx(2.5, rel=0.05)
    assert loaded.loss == "kullback-leibler"


@pytest.mark.parametrize("density", [0.02, 0.3, 0.7])
def test_sparse_v_holds_entries_of_the_planted_product(density):
    loaded = load("synthetic", m=300, n=200, density=density)
    assert loaded.V.format == "csr"
    assert loaded.V.indices.dtype == np.int32
    assert loaded.V.nnz / 60_000 == pytest.approx(density, rel=0.1)
    i, j = loaded.V.nonzero()
    product = loaded.truth.W @ loaded.truth.H
    np.testing.assert_allclose(loaded.V.data, product[i, j], rtol=1e-12)
    # kept at random: the stored entries are no larger or smaller than the others
    assert loaded.V.data.mean() == pytest.approx(product[product > 0].mean(), rel=0.1)


def test_sparse_gaussian_noise_is_on_the_stored_entries():
    loaded = load("synthetic", density=0.5, noise="gaussian", noise_level=0.02)
    i, j = loaded.V.nonzero()
    x = (loaded.truth.W @ loaded.truth.H)[i, j]
    size = np.linalg.norm(loaded.V.data - x) / np.linalg.norm(x)
    assert size == pytest.approx(0.02, rel=0.03)
    assert x.min() > 0


@pytest.mark.parametrize("density", [0.02, 0.4])
def test_sparse_poisson_counts_have_the_planted_mean_and_the_density(density):
    loaded = load("synthetic", m=500, n=400, rank=3, density=density, noise="poisson")
    V, X = loaded.V.toarray(), loaded.truth.W @ loaded.truth.H
    assert np.mean(V > 0) == pytest.approx(density, rel=0.06)
    assert (np.round(V) == V).all()
    assert V.sum() == pytest.approx(X.sum(), rel=0.03)
    assert np.sum((V - X) ** 2) == pytest.approx(X.sum(), rel=0.1)  # Poisson variance
    assert V[X == 0].sum() == 0


def test_sparse_v_is_made_without_the_whole_matrix():
    # 2·10¹² entries, of which some 20 000 are stored
    for noise in ("none", "poisson"):
        V = load(
            "synthetic", m=2_000_000, n=1_000_000, rank=2, density=1e-8, noise=noise
        ).V
        assert V.nnz == pytest.approx(20_000, rel=0.1)


@pytest.mark.parametrize(
    "settings",
    [
        {"m": 0},
        {"n": 2.5},
        {"rank": True},
        {"density": 0.0},
        {"density": 1.5},
        {"density": "low"},
        {"sparsity": 1.0},
        {"noise": "salt"},
        {"noise_level": -0.1},
        {"noise_level": float("nan")},
        {"mean": 0.0},
        {"mean": 2.0, "density": 0.1, "noise": "poisson"},
        {"seed": -1},
        {"density": 0.95, "rank": 2},
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings):
    with pytest.raises(ValueError, match=f"^{next(iter(settings))}="):
        load("synthetic", **settings)


# --- files ---------------------------------------------------------------------------

MATRIX = np.array([[1.5, 0.0, 2.0], [0.0, 3.25, 1e-3]])


def load_file(path, **options):
    return load("file", path=path, **options)


def test_numpy_files(tmp_path):
    np.save(tmp_path / "a.npy", MATRIX)
    loaded = load_file(str(tmp_path / "a.npy"))
    np.testing.assert_array_equal(loaded.V, MATRIX)
    assert loaded.name == "a"

    np.savez(tmp_path / "one.npz", X=MATRIX, height=3)
    np.testing.assert_array_equal(load_file(tmp_path / "one.npz").V, MATRIX)
    np.savez(tmp_path / "two.npz", X=MATRIX, Y=2 * MATRIX)
    V = load_file(tmp_path / "two.npz", key="Y").V
    np.testing.assert_array_equal(V, 2 * MATRIX)


@pytest.mark.parametrize(
    ("dtype", "largest", "kept"),
    [
        (np.uint8, 255, np.float32),
        (np.int64, 2**24, np.float32),
        (np.int64, 2**24 + 1, np.float64),
        (np.float32, 0.1, np.float32),
        (np.float64, 0.1, np.float64),
    ],
)
def test_numbers_keep_their_value(tmp_path, dtype, largest, kept):
    X = np.array([[1, largest]], dtype=dtype)
    np.save(tmp_path / "x.npy", X)
    V = load_file(tmp_path / "x.npy").V
    assert V.dtype == kept
    assert V[0, 1] == X[0, 1]


@pytest.mark.parametrize("layout", ["csr", "csc", "coo"])
def test_sparse_files_stay_sparse(tmp_path, layout):
    X = sparse.coo_array(MATRIX).asformat(layout)
    sparse.save_npz(tmp_path / "x.npz", X)
    mmwrite(tmp_path / "x.mtx", X)
    for name in ("x.npz", "x.mtx"):
        V = load_file(tmp_path / name).V
        assert V.format == "csr"
        assert V.nnz == 4
        np.testing.assert_array_equal(V.toarray(), MATRIX)
    mmwrite(tmp_path / "dense.mtx", MATRIX)
    np.testing.assert_array_equal(load_file(tmp_path / "dense.mtx").V, MATRIX)


@pytest.mark.parametrize(
    ("text", "rows", "columns"),
    [
        ("1.5,0,2\n0,3.25,1e-3\n", None, None),
        ("a,b,c\n1.5,0,2\n0,3.25,1e-3\n", None, ("a", "b", "c")),
        ("gene,a,b,c\ng1,1.5,0,2\ng2,0,3.25,1e-3\n", ("g1", "g2"), ("a", "b", "c")),
        ("g1,1.5,0,2\ng2,0,3.25,1e-3\n", ("g1", "g2"), None),
        # as pandas writes them with and without names
        (",0,1,2\n0,1.5,0,2\n1,0,3.25,1e-3\n", ("0", "1"), ("0", "1", "2")),
        (",a,b,c\ng1,1.5,0,2\ng2,0,3.25,1e-3\n", ("g1", "g2"), ("a", "b", "c")),
        # as R writes them: no name above the row names
        ("a,b,c\ng1,1.5,0,2\ng2,0,3.25,1e-3\n", ("g1", "g2"), ("a", "b", "c")),
        # headers whose later cells are numbers
        ("id,1990,1991\n1.5,0,2\n0,3.25,1e-3\n", None, ("id", "1990", "1991")),
        (
            "sample,4.5,5.5,6.5\nleaf0,1.5,0,2\nleaf1,0,3.25,1e-3\n",
            ("leaf0", "leaf1"),
            ("4.5", "5.5", "6.5"),
        ),
        # a byte order mark
        ("\ufeffa,b,c\n1.5,0,2\n0,3.25,1e-3\n", None, ("a", "b", "c")),
    ],
)
def test_text_tables(tmp_path, text, rows, columns):
    for suffix, separator in ((".csv", ","), (".tsv", "\t")):
        path = tmp_path / f"table{suffix}"
        path.write_text(text.replace(",", separator), encoding="utf-8")
        loaded = load_file(path)
        np.testing.assert_array_equal(loaded.V, MATRIX)
        assert loaded.row_names == rows
        assert loaded.column_names == columns


def test_parquet(tmp_path):
    import pandas as pd

    frame = pd.DataFrame(MATRIX, columns=["a", "b", "c"])
    frame.to_parquet(tmp_path / "plain.parquet")
    frame.assign(c=[True, False]).to_parquet(tmp_path / "mixed.parquet")
    frame.set_axis(["r", "s"]).to_parquet(tmp_path / "named.parquet")
    plain = load_file(tmp_path / "plain.parquet")
    np.testing.assert_array_equal(plain.V, MATRIX)
    assert plain.column_names == ("a", "b", "c")
    assert load_file(tmp_path / "named.parquet").row_names == ("r", "s")
    mixed = load_file(tmp_path / "mixed.parquet").V
    np.testing.assert_array_equal(mixed, [[1.5, 0, 1], [0, 3.25, 0]])


def test_rows_and_columns_are_exchanged_with_their_names(tmp_path):
    (tmp_path / "a.csv").write_text("gene,s1,s2\ng1,1,2\ng2,3,4\ng3,5,6\n")
    loaded = load_file(tmp_path / "a.csv", transpose=True)
    np.testing.assert_array_equal(loaded.V, [[1, 3, 5], [2, 4, 6]])
    assert loaded.row_names == ("s1", "s2")
    assert loaded.column_names == ("g1", "g2", "g3")
    sparse.save_npz(tmp_path / "a.npz", sparse.csr_array(MATRIX))
    V = load_file(tmp_path / "a.npz", transpose=True).V
    assert V.format == "csr"
    np.testing.assert_array_equal(V.toarray(), MATRIX.T)


def test_a_column_of_a_parquet_names_the_rows(tmp_path):
    import pandas as pd

    pd.DataFrame({"x": [1.0, 2.0], "id": [7, 8]}).to_parquet(tmp_path / "a.parquet")
    loaded = load_file(tmp_path / "a.parquet", index="id")
    assert (loaded.V.tolist(), loaded.row_names) == ([[1.0], [2.0]], ("7", "8"))
    with pytest.raises(ValueError, match=r"no column 'z'.* x, id"):
        load_file(tmp_path / "a.parquet", index="z")


def write_bad_files(folder: Path) -> dict[str, str]:
    """Files that cannot be a matrix, and what is said of each."""
    pickled = np.array([[{"a": 1}]], dtype=object)
    np.save(folder / "pickle.npy", pickled, allow_pickle=True)
    np.savez(folder / "pickle.npz", X=pickled, allow_pickle=True)
    np.savez(folder / "two.npz", X=MATRIX, Y=MATRIX)
    np.savez(folder / "none.npz", x=np.arange(3.0))
    np.save(folder / "cube.npy", np.ones((2, 2, 2)))
    np.save(folder / "text.npy", np.array([["a", "b"]]))
    np.save(folder / "complex.npy", np.ones((2, 2), dtype=complex))
    np.save(folder / "good.npy", MATRIX)
    whole = (folder / "good.npy").read_bytes()
    (folder / "cut.npy").write_bytes(whole[:-8])
    (folder / "cut.npz").write_bytes((folder / "two.npz").read_bytes()[:200])
    for name in ("noise.npy", "noise.npz", "noise.parquet", "noise.mtx", "noise.csv"):
        (folder / name).write_bytes(bytes(range(256)))
    for name in ("empty.npy", "empty.npz", "empty.parquet", "empty.mtx", "empty.csv"):
        (folder / name).write_bytes(b"")
    (folder / "words.csv").write_text("id,x,colour\n1,2,red\n3,4,blue\n")
    (folder / "names.csv").write_text("id\na\nb\n")
    (folder / "a.xlsx").write_bytes(b"PK")
    # indices beyond the shape: compiled code would read outside the array
    sparse.save_npz(folder / "beyond.npz", sparse.csr_array(MATRIX))
    with np.load(folder / "beyond.npz") as archive:
        arrays = {**archive, "indices": np.array([0, 2, 1, 10**6], dtype=np.int32)}
    np.savez(folder / "beyond.npz", **arrays)
    said = {
        "pickle.npy": "pickle",
        "pickle.npz": "pickle",
        "two.npz": r"2 2-D arrays \(X \(2, 3\), Y \(2, 3\)\).*set key",
        "none.npz": r"0 2-D arrays \(x \(3,\)\)",
        "cube.npy": r"shape \(2, 2, 2\)",
        "text.npy": "2-D array of real numbers",
        "complex.npy": "complex128",
        "words.csv": r"text in column 'colour': 'red' in row 1 \(line 2\)",
        "noise.csv": "is not utf-8",
        "empty.csv": "no line of text",
        "names.csv": "no column of numbers",
        "a.xlsx": r"\.npy, \.npz, \.csv",
        "missing.npy": "does not exist",
        "folder.npy": "is a folder",
    }
    (folder / "folder.npy").mkdir()
    names = {path.name for path in folder.iterdir()} - {"good.npy"}
    return {name: said.get(name, "cannot be read") for name in names | set(said)}


def test_files_that_hold_no_matrix_are_refused(tmp_path):
    for name, said in write_bad_files(tmp_path).items():
        with pytest.raises(ValueError, match=rf"^path: '.*{name}' .*{said}"):
            load_file(tmp_path / name)


def test_file_options_that_do_not_fit_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", X=MATRIX)
    np.save(tmp_path / "a.npy", MATRIX)
    with pytest.raises(ValueError, match="no array 'Z'; it has X"):
        load_file(tmp_path / "a.npz", key="Z")
    with pytest.raises(ValueError, match=r"^key: "):
        load_file(tmp_path / "a.npy", key="X")
    for option, value in {"header": True, "separator": ";", "index": 0}.items():
        with pytest.raises(ValueError, match=rf"^{option}: .* not a .csv or .tsv"):
            load_file(tmp_path / "a.npy", **{option: value})
    with pytest.raises(ValueError, match=r"^path: 3 "):
        load_file(3)


# --- the folder with a manifest ------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with one set of 2×6 pictures."""
    np.savez(tmp_path / "tiny.npz", X=np.arange(12).reshape(2, 6), height=2, width=3)
    digest = hashlib.sha256((tmp_path / "tiny.npz").read_bytes()).hexdigest()
    entry = {
        "name": "tiny",
        "file": "tiny.npz",
        "sha256": digest,
        "shape": [2, 6],
        "keys": {"X": [[2, 6], "int64"], "height": [[], "int64"]},
        "rank": "no fixed one",
        "what": "two pictures",
    }
    (tmp_path / "manifest.json").write_text(json.dumps({"datasets": [entry]}))
    monkeypatch.setenv("JAXNMF_DATA", str(tmp_path))
    return tmp_path


def test_a_folder_with_a_manifest_is_listed(folder):
    assert datasets.names()[-1] == "tiny"
    loaded = load("tiny")
    np.testing.assert_array_equal(loaded.V, np.arange(12).reshape(2, 6))
    assert (loaded.kind, loaded.column_image, loaded.rank) == ("images", (2, 3), None)


def test_an_entry_without_a_rating_is_unknown(tmp_path, monkeypatch):
    """Not zero: all that is known is 4, and so is what is predicted."""
    rng = np.random.default_rng(0)
    user, item = np.nonzero(rng.random((8, 6)) < 0.5)
    rating = np.full(len(user), 4.0, np.float32)
    arrays = {"user": user, "item": item, "rating": rating, "shape": [8, 6]}
    np.savez(tmp_path / "stars.npz", **arrays)
    keys = {"user": [], "item": [], "rating": []}
    entry = {"name": "stars", "file": "stars.npz", "shape": [8, 6], "keys": keys}
    (tmp_path / "manifest.json").write_text(json.dumps({"datasets": [entry]}))
    monkeypatch.setenv("JAXNMF_DATA", str(tmp_path))
    loaded = load("stars")
    assert repr(loaded) == f"Dataset('stars', 8×6 float32, {len(user)} known, ratings)"
    result = jaxnmf.factorize(loaded.V, 1, max_iter=500, tol=0)
    np.testing.assert_allclose(result.W @ result.H, 4, rtol=1e-4)
    stored = sparse.csr_array((rating, (user, item)), shape=(8, 6))
    with pytest.raises(ValueError, match=r"'ratings' expected jaxnmf\.Observed"):
        dataclasses.replace(loaded, V=stored)
    # The same numbers have the same checksum, in whatever order they are given.
    turned = jaxnmf.Observed(user[::-1], item[::-1], rating, (8, 6))
    assert dataclasses.replace(loaded, V=turned).checksum == loaded.checksum
    rating[0] = 5
    other = jaxnmf.Observed(user, item, rating, (8, 6))
    assert dataclasses.replace(loaded, V=other).checksum != loaded.checksum


def test_a_changed_or_missing_file_is_refused(folder):
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  tiny.npz\n")
    with pytest.raises(ValueError, match=r"tiny\.npz' has SHA-256 .*SHA256SUMS has"):
        load("tiny")
    (folder / "SHA256SUMS").unlink()
    (folder / "tiny.npz").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"tiny\.npz' has SHA-256 .*manifest"):
        load("tiny")
    (folder / "tiny.npz").unlink()
    assert "tiny" not in datasets.names()
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"JAXNMF_DATA: .*manifest\.json"):
        datasets.names()


@pytest.mark.parametrize("value", ["", "/no/such/folder"])
def test_without_the_folder_its_sets_are_not_listed(monkeypatch, value):
    monkeypatch.setenv("JAXNMF_DATA", value)
    assert set(datasets.names()) == BUILT_IN
    with pytest.raises(ValueError, match=r"set JAXNMF_DATA to a folder with a"):
        load("samson")


@needs_folder
def test_every_shared_set_has_the_values_its_manifest_states():
    manifest = json.loads((Path(FOLDER) / "manifest.json").read_text())["datasets"]
    assert {entry["name"] for entry in manifest} <= set(datasets.names())
    for entry in manifest:
        V = load(entry["name"]).V
        with np.load(Path(FOLDER) / entry["file"], allow_pickle=False) as archive:
            scale = float(archive["scale"]) if "scale" in archive.files else 1.0
        values = V.data if sparse.issparse(V) else getattr(V, "values", V)
        assert values.max() == pytest.approx(entry["max"] * scale, rel=1e-6)
        positive = np.count_nonzero(values) / np.prod(V.shape)
        assert positive == pytest.approx(entry["density"], abs=2e-6)


@needs_folder
@pytest.mark.parametrize("name", ["samson", "jasper_ridge"])
def test_scenes_are_maps_with_reference_endmembers(name):
    loaded = load(name)
    assert np.prod(loaded.row_image) == loaded.shape[0]
    assert loaded.truth.H.shape == (loaded.rank, loaded.shape[1])
    np.testing.assert_allclose(loaded.truth.W.sum(axis=1), 1.0, atol=1e-6)
    assert (np.diff(loaded.wavelengths) > 0).all()
    # water is dark in the near infrared, and a tree is not
    water, tree = (loaded.truth.names.index(m) for m in ("water", "tree"))
    infrared = np.argmin(np.abs(loaded.wavelengths - 850))
    red = np.argmin(np.abs(loaded.wavelengths - 670))
    assert loaded.truth.H[tree, infrared] > 2 * loaded.truth.H[tree, red]
    assert loaded.truth.H[water, infrared] < 0.5 * loaded.truth.H[tree, infrared]


@needs_folder
def test_swimmer_is_its_planted_product():
    loaded = load("swimmer")
    np.testing.assert_allclose(loaded.V, loaded.truth.W @ loaded.truth.H, rtol=1e-12)
    assert loaded.rank == 17


@needs_folder
def test_the_piano_plays_the_notes_at_their_frequencies():
    loaded = load("piano_mary")
    # the first note is E4, 330 Hz; the bins are 62.5 Hz apart
    frame = loaded.V[np.argmin(np.abs(loaded.times - 0.3))]
    assert abs(loaded.frequencies[np.argmax(frame)] - 330) < 62.5
    assert loaded.times[-1] < 4.71


@needs_folder
def test_ratings_texts_and_genes_name_their_axes():
    ratings = load("movielens_small")
    assert ratings.V.nnz == 100_836
    assert ratings.column_names[0] == "Toy Story (1995)"
    news = load("newsgroups20_w1000")
    assert news.label_names[news.labels[0]] == "alt.atheism"
    # a word that is used mostly where one expects it
    windows = news.V[:, [news.column_names.index("windows")]].toarray().ravel()
    totals = np.bincount(news.labels, weights=windows)
    assert news.label_names[np.argmax(totals)] == "comp.os.ms-windows.misc"
    genes = load("all_aml")
    assert genes.row_names[0].startswith("ALL")
    assert genes.label_names[genes.labels[-1]] == "AML"
    assert len(genes.column_names) == 5000
