"""A matrix in any container is the same matrix, and its names are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

import jaxnmf
from jaxnmf.data.known import what_is_known

V = np.random.default_rng(0).random((6, 4)).round(3)
ROWS = [f"s{i}" for i in range(6)]
COLUMNS = ["a", "b", "c", "d"]


class Shared:
    """An object that has its array by DLPack and in no other way."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def pandas(V, rows, columns):
    return pd.DataFrame(V, rows, columns)


def anndata(V, rows, columns):
    obs, var = (None if x is None else pd.DataFrame(index=x) for x in (rows, columns))
    return pytest.importorskip("anndata").AnnData(V, obs=obs, var=var)


def polars(V, rows, columns):
    named = {} if rows is None else {"sample": rows}
    numbers = dict(zip(columns or map(str, range(4)), V.T, strict=True))
    return pytest.importorskip("polars").DataFrame({**named, **numbers})


def xarray(V, rows, columns):
    given = {"x": rows, "y": columns}
    coords = {dim: names for dim, names in given.items() if names is not None}
    DataArray = pytest.importorskip("xarray").DataArray
    return DataArray(V, coords=coords, dims=["x", "y"])


CONTAINERS = [pandas, anndata, polars, xarray]


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_container_is_its_matrix_and_keeps_its_names(container, tmp_path):
    result = jaxnmf.factorize(container(V, ROWS, COLUMNS), 2, max_iter=5)
    plain = jaxnmf.factorize(V, 2, max_iter=5)
    assert_array_equal(result.W, plain.W)
    for found in (result, jaxnmf.load(result.save(tmp_path / "a.npz"))):
        assert found.row_names.tolist() == ROWS
        assert found.column_names.tolist() == COLUMNS
    W, H = result.frames()
    assert W.loc["s3"].tolist() == result.W[3].tolist()
    assert H["b"].tolist() == result.H[:, 1].tolist()


@pytest.mark.parametrize("container", [pandas, anndata, xarray])
def test_what_has_no_names_has_none(container, tmp_path):
    result = jaxnmf.factorize(container(V, None, None), 2, max_iter=2)
    found = jaxnmf.load(result.save(tmp_path / "a.npz"))
    assert found.row_names is found.column_names is None
    assert result.frames().W.index.tolist() == list(range(6))


def test_rows_keep_the_order_of_a_view():
    whole = anndata(sp.csr_array(V), ROWS, COLUMNS)
    view: Any = whole[["s4", "s0", "s2"], ["d", "a"]]
    given = what_is_known(view).V.toarray()
    assert_array_equal(given, V[[4, 0, 2]][:, [3, 0]])
    result = jaxnmf.factorize(view, 1, max_iter=2)
    assert result.row_names.tolist() == ["s4", "s0", "s2"]
    assert result.column_names.tolist() == ["d", "a"]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_an_array_by_dlpack_alone(dtype):
    array = (10 * V).astype(dtype)
    known = what_is_known(Shared(array)).V
    assert known.dtype == dtype
    assert_array_equal(known, array)
    mask = Shared((V > 0.5).astype(np.uint8))
    assert_array_equal(what_is_known(V, mask).weights, V > 0.5)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
@pytest.mark.parametrize("kind", [sp.coo_array, sp.coo_matrix])
def test_scipy_sparse_of_every_format(form, kind):
    known = what_is_known(kind(V).asformat(form)).V
    assert known.format == "csr"
    assert_array_equal(known.toarray(), V)


def test_missing_values_of_polars_are_unknown():
    frame = polars(V, ROWS, COLUMNS)
    frame[1, "b"] = None
    weights: Any = what_is_known(frame, "nan").weights
    assert weights.sum() == V.size - 1
    assert weights[1, 1] == 0


def test_what_holds_no_matrix_is_refused_by_name():
    pl, xr = pytest.importorskip("polars"), pytest.importorskip("xarray")
    refused = {
        "column 'name' has dtype String": pl.DataFrame({"x": [1.0], "name": ["a"]}),
        r"give V.collect\(\)": pl.DataFrame({"x": [1.0]}).lazy(),
        "a Dataset of xarray": xr.Dataset({"x": ("i", [1.0])}),
        "AnnData without X": anndata(None, ROWS, COLUMNS),
    }
    for message, given in refused.items():
        with pytest.raises(ValueError, match=message):
            jaxnmf.factorize(given, 1)


def test_an_estimator_and_a_sweep_keep_the_names():
    data = pandas(V, ROWS, COLUMNS)
    model = jaxnmf.NMF(2, max_iter=2, tol=0).fit(data)
    best = jaxnmf.sweep(data, [2], 1, max_iter=2).best()
    for result in (model.result_, best, best.fold_in(data)):
        assert result.row_names.tolist() == ROWS
        assert result.column_names.tolist() == COLUMNS


def test_factors_are_written_into_anndata(tmp_path):
    data = anndata(V, ROWS, COLUMNS)
    result = jaxnmf.factorize(data, 2, max_iter=20)
    result.write_to(data)
    path = tmp_path / "written.h5ad"
    data.write_h5ad(path)
    read = pytest.importorskip("anndata").read_h5ad(path)
    assert_array_equal(read.obsm["X_nmf"], result.W)
    assert_array_equal(read.varm["nmf"], result.H.T)
    assert read.uns["nmf"]["solver"] == result.solver
    assert read.uns["nmf"]["relative_error"] == result.relative_error
    with pytest.raises(ValueError, match=r"shape \(5, 4\).*shape \(6, 4\)"):
        result.write_to(data[:5])
    with pytest.raises(ValueError, match="data is a ndarray; expected AnnData"):
        result.write_to(V)
