"""Blocks of rows: what they are read from, what they find, and what is refused."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import jaxnmf
from jaxnmf.data.blocks import AHEAD, Blocks, ahead
from jaxnmf.data.convert import as_operand
from jaxnmf.data.streamed import aligned
from jaxnmf.files import blocks as files
from jaxnmf.files.convert import convert

M, N = 40, 6
RNG = np.random.default_rng(2)
V = RNG.random((M, N)).astype(np.float32)
S = scipy.sparse.csr_array(np.where(RNG.random((M, N)) < 0.3, V, 0))


def joined(blocks: Blocks) -> np.ndarray:
    """All blocks in turn, one below the other."""
    parts = [x.toarray() if hasattr(x, "tocsr") else x for _, x in blocks.each()]
    return np.concatenate(parts)


class Rows:
    """Blocks of some heights, of any array or sparse matrix."""

    def __init__(self, X: Any, heights: list[int], **changes: Any) -> None:
        self.X, self.shape, self.dtype = X, X.shape, X.dtype
        self.starts = np.cumsum([0, *heights])
        vars(self).update(changes)

    def block(self, i: int) -> Any:
        return self.X[self.starts[i] : self.starts[i + 1]]


def stored(folder: Path, form: str) -> Path:
    """V, or S where the name says so, in a file or folder of a form."""
    place = folder / form
    if form == "one.npy":
        np.save(place, V)
    elif form == "parts":
        place.mkdir()
        for i in range(12):  # part 10 comes after part 9
            np.save(place / f"part{i}.npy", V[3 * i : 3 * i + 3 if i < 11 else M])
    elif form in ("sparse", "sparse_by_columns"):
        scipy.sparse.save_npz(folder / "S.npz", S)
        convert(folder / "S.npz", place, by_columns=form == "sparse_by_columns")
    elif form == "a.h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(place, "w") as file:
            file["V"] = V
    elif form == "a.zarr":
        pytest.importorskip("zarr").save(str(place), V)
    elif form in ("a.h5ad", "sparse.h5ad"):
        anndata = pytest.importorskip("anndata")
        X = V if form == "a.h5ad" else scipy.sparse.csr_matrix(S)
        anndata.AnnData(X).write_h5ad(place)
    elif form == "a.parquet":
        import pandas as pd

        frame = pd.DataFrame(V, columns=[f"c{j}" for j in range(N)])
        frame.to_parquet(place, row_group_size=15)
    return place


@pytest.mark.parametrize(
    "form",
    ["one.npy", "parts", "sparse", "sparse_by_columns", "a.h5", "a.zarr", "a.h5ad"],
)
def test_files_are_read_in_blocks(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ENTRIES", 10)
    blocks = Blocks(stored(tmp_path, form), rows=None if "sparse" in form else 7)
    assert len(blocks) > 4
    expected = S.toarray() if "sparse" in form else V
    np.testing.assert_array_equal(joined(blocks), expected)
    assert (blocks.shape, blocks.dtype) == ((M, N), np.float32)


@pytest.mark.parametrize("form", ["sparse.h5ad", "a.parquet"])
def test_files_that_have_blocks_of_their_own(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ENTRIES", 10)
    blocks = Blocks(stored(tmp_path, form))
    assert len(blocks) > 2
    expected = S.toarray() if "sparse" in form else V
    np.testing.assert_array_equal(joined(blocks), expected)


@pytest.mark.parametrize("X", [V, S, V > 0.5, (100 * V).astype(np.int16)])
@pytest.mark.parametrize("heights", [[40], [1, 20, 19]])
def test_blocks_of_any_height_have_the_moments_of_V(X: Any, heights: Any) -> None:
    operand = as_operand(Blocks(Rows(X, heights)))
    expected = as_operand(X).moments
    for name, value in vars(operand.moments).items():
        np.testing.assert_allclose(value, getattr(expected, name), 1e-6, err_msg=name)
    np.testing.assert_array_equal(operand.starts, np.cumsum([0, *heights]))


def test_rows_of_an_array_by_slices() -> None:
    np.testing.assert_array_equal(joined(Blocks(V, rows=9)), V)


@pytest.mark.parametrize("unit", [1, 2.0**-90])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", ["sparse", "sparse_by_columns"])
def test_sparse_blocks_are_read_into_memory_of_their_types(
    tmp_path, monkeypatch, form, dtype, unit
):
    monkeypatch.setattr(files, "ENTRIES", 30)
    blocks = Blocks(stored(tmp_path, form)).over(unit)
    first, last = blocks.starts[1:3]
    expected = S[first:last].toarray() / unit
    # About as much as is needed: SciPy copies small parts of large arrays.
    size = S[first:last].nnz + 2
    memory = [(aligned((size,), dtype), aligned((size,), np.int32)) for _ in range(2)]
    by_rows, by_columns = blocks.both(1, (memory[0], memory[1]))
    found = scipy.sparse.csr_array(by_rows, shape=expected.shape)
    turned = scipy.sparse.csr_array(by_columns, shape=expected.shape[::-1])
    np.testing.assert_array_equal(found.toarray(), expected)
    np.testing.assert_array_equal(turned.toarray(), expected.T)
    there = [
        [np.shares_memory(x, own) for x, own in zip(parts[:2], room, strict=True)]
        for parts, room in zip((by_rows, by_columns), memory, strict=True)
    ]
    inside = [dtype == "float32", True]
    # Without columns on the disk they are sorted in memory of their own.
    assert there == [inside, inside if form != "sparse" else [False, False]]


@pytest.mark.parametrize("form", ["one.npy", "sparse", "sparse_by_columns"])
def test_parts_are_the_rows_of_V(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ENTRIES", 10)
    V_or_S = V if form == "one.npy" else S.toarray()
    blocks = Blocks(stored(tmp_path, form), rows=9 if form == "one.npy" else None)
    first = 0
    for part, held in as_operand(blocks).parts():
        by_columns = np.asarray(part.dot(jnp.eye(part.shape[0])))
        by_rows = np.asarray(part.T.dot(jnp.eye(N))).T
        rows = int(np.isnan(held).sum())
        np.testing.assert_array_equal(by_rows[:rows], V_or_S[first : first + rows])
        np.testing.assert_array_equal(by_columns, by_rows)
        assert by_rows[rows:].max(initial=0) < 1e-9  # the floor of X, or 0
        first += rows
    assert first == M


def test_blocks_are_read_ahead_in_another_thread() -> None:
    made, threads = [], set()

    def load(i: int) -> int:
        made.append(i)
        threads.add(threading.get_ident())
        return i

    used = []
    for i in ahead(load, 6):
        used.append(i)
        until = time.monotonic() + 10
        while len(made) < min(6, i + 1 + AHEAD) and time.monotonic() < until:
            time.sleep(0.001)
        assert len(made) == min(6, i + 1 + AHEAD)
    assert used == made == list(range(6))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (object(), "without shape and dtype"),
        (Rows(V, [M], shape=(M,)), r"shape \(40,\); it must be that of a matrix"),
        (Rows(V, [M], dtype=np.dtype("U3")), "dtype <U3; it must contain real numbers"),
        (Path("nowhere.npy"), "'nowhere.npy' does not exist"),
        (Path(__file__), "cannot be read block by block; jaxnmf convert"),
    ],
)
def test_a_source_that_does_not_fit_is_refused(source: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Blocks(source)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Rows(V, [30, 0]), r"its 1 blocks have 30 rows; expected the 40"),
        (Rows(V, [M], shape=(M - 3, N)), r"its blocks have 40 rows; expected the 37"),
        (Rows(V, [30, 10], shape=(M, N + 1)), r"block 0 has shape \(30, 6\)"),
        (Rows(V.astype("U5"), [M], dtype=V.dtype), "block 0 has .* dtype <U5"),
        (Rows(V[:, 0], [M], shape=(M, N)), r"block 0 has shape \(40,\)"),
    ],
)
def test_blocks_that_do_not_fit_are_named(source: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Blocks(source).survey()


def test_blocks_of_two_kinds_are_refused() -> None:
    source = Rows(V, [30, 10])
    plain = source.block
    source.block = lambda i: scipy.sparse.csr_array(plain(i)) if i else plain(i)
    with pytest.raises(ValueError, match="block 1 is sparse, unlike those before"):
        Blocks(source).survey()


def test_indices_out_of_range_are_refused() -> None:
    bad = scipy.sparse.csr_array((np.ones(1), [0], [0, 1]), shape=(1, N))
    bad.indices[0] = N
    source = Rows(V[:1], [1])
    source.block = lambda i: bad
    with pytest.raises(ValueError, match="block 0 cannot be read"):
        Blocks(source).survey()


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    place = stored(tmp_path, "parts")
    (place / "part4.npy").unlink()
    with pytest.raises(ValueError, match="has no part 4: its files are numbered from"):
        Blocks(place)


def test_a_part_of_another_type_or_width_is_named(tmp_path: Path) -> None:
    place = stored(tmp_path, "parts")
    for other in (V[:3].astype(np.float64), V[:3, :4]):
        np.save(place / "part7.npy", other)
        with pytest.raises(ValueError, match=r"part7.npy of shape"):
            Blocks(place)


def test_a_file_that_ends_early_is_refused(tmp_path: Path) -> None:
    place = stored(tmp_path, "one.npy")
    place.write_bytes(place.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"ends early: one.npy has \d+ bytes"):
        Blocks(place)


def test_a_file_by_columns_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.asfortranarray(V))
    with pytest.raises(ValueError, match=r"stored by columns .* jaxnmf convert"):
        Blocks(tmp_path / "f.npy")


@pytest.mark.parametrize("name", ["data", "indices", "indptr"])
def test_a_damaged_sparse_folder_is_refused(tmp_path: Path, name: str) -> None:
    place = stored(tmp_path, "sparse")
    np.save(place / f"{name}.npy", np.zeros(3, np.int32))
    with pytest.raises(ValueError, match="do not make a CSR matrix"):
        Blocks(place)
    (place / f"{name}.npy").unlink()
    with pytest.raises(ValueError, match=f"has no file {name}.npy"):
        Blocks(place)
    (place / "blocks.json").write_text(json.dumps({}))
    with pytest.raises(ValueError, match=r"damaged blocks\.json"):
        Blocks(place)


@pytest.mark.parametrize(
    ("call", "needs"),
    [
        (lambda blocks: jaxnmf.sweep(blocks, [2], [0]), "a sweep"),
        (lambda blocks: jaxnmf.select_rank(blocks, [2]), "a choice of the rank"),
        (lambda blocks: jaxnmf.NMF(2).fit(blocks), "jaxnmf.NMF"),
    ],
)
def test_what_needs_V_in_memory_says_so(call: Any, needs: str) -> None:
    with pytest.raises(ValueError, match=f"is Blocks; {needs} needs it in memory"):
        call(Blocks(V))


def test_the_residual_and_the_relative_error_of_blocks() -> None:
    result = jaxnmf.factorize(V, 2, max_iter=10)
    blocks = Blocks(Rows(V, [15, 25]))
    expected = V - result.W @ result.H
    np.testing.assert_allclose(joined(result.residual(blocks)), expected, atol=1e-6)
    error = jaxnmf.metrics.relative_error(blocks, result.W, result.H)
    norms = np.linalg.norm(expected.astype(np.float64)), np.linalg.norm(V)
    np.testing.assert_allclose(error, norms[0] / norms[1], 1e-6)
    with pytest.raises(ValueError, match=r"V has shape \(5, 6\)"):
        result.residual(Blocks(V[:5]))
