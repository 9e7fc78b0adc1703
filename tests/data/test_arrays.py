"""The forms in which people have their numbers, against the same numbers in float32."""

from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jaxnmf

M, N, P = 12, 8, 2
RNG = np.random.default_rng(1)
COUNTS = RNG.integers(1, 9, (M, N))
HIDDEN = RNG.random((M, N)) < 0.3


def factorize(V: Any, **given: Any) -> jaxnmf.Result:
    given = {"solver": "hals", "init": "random", "max_iter": 20, **given}
    return jaxnmf.factorize(V, P, **given)


def assert_same(found: jaxnmf.Result, expected: jaxnmf.Result) -> None:
    np.testing.assert_array_equal(found.W, expected.W)
    np.testing.assert_array_equal(found.H, expected.H)
    assert found.objective == expected.objective


# --- Masked arrays: what is masked is unknown -----------------------------------------


@pytest.mark.parametrize("behind", [0.0, np.nan, 1e9])
def test_what_is_masked_is_unknown(behind):
    masked = np.ma.masked_array(np.where(HIDDEN, behind, COUNTS), HIDDEN)
    expected = factorize(COUNTS, mask=~HIDDEN)
    assert_same(factorize(masked), expected)
    assert_same(factorize(masked, mask="nan"), expected)
    assert factorize(masked).relative_error == expected.relative_error


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_a_mask_and_a_masked_array_go_together(form):
    weights = RNG.integers(0, 3, (M, N)) * 1.0
    masked = np.ma.masked_array(COUNTS, HIDDEN)
    expected = factorize(COUNTS, mask=weights * ~HIDDEN)
    assert_same(factorize(masked, mask=form(weights)), expected)


def test_nothing_masked_is_all_known():
    assert_same(factorize(np.ma.masked_array(COUNTS, False)), factorize(COUNTS))
    with pytest.raises(ValueError, match="nothing of V known"):
        factorize(np.ma.masked_array(COUNTS, True))


def test_everything_that_takes_data_takes_masked_arrays():
    masked = np.ma.masked_array(COUNTS, HIDDEN)
    known = {"mask": ~HIDDEN}
    result = factorize(masked)
    np.testing.assert_array_equal(
        result.transform(masked), result.transform(COUNTS, **known)
    )
    given: Any = {"ranks": [P], "seeds": 2, "max_iter": 10}
    np.testing.assert_array_equal(
        jaxnmf.sweep(masked, **given).table["objective"],
        jaxnmf.sweep(COUNTS, **given, **known).table["objective"],
    )
    U = result.residual(masked)
    np.testing.assert_array_equal(np.ma.getmaskarray(U), HIDDEN)
    np.testing.assert_allclose(
        U.compressed(), (COUNTS - result.W @ result.H)[~HIDDEN], rtol=1e-5, atol=1e-5
    )
    error = jaxnmf.metrics.relative_error(masked, result.W, result.H)
    assert error == pytest.approx(result.relative_error, rel=1e-5)
    assert error != jaxnmf.metrics.relative_error(COUNTS, result.W, result.H)


def test_an_estimator_takes_masked_arrays_with_a_mask():
    masked = np.ma.masked_array(COUNTS, HIDDEN)
    holes = np.where(HIDDEN, np.nan, COUNTS)
    settings: Any = {"max_iter": 500, "tol": 1e-3, "random_state": 0, "mask": "nan"}
    found = jaxnmf.NMF(P, **settings).fit(masked)
    np.testing.assert_array_equal(
        found.components_, jaxnmf.NMF(P, **settings).fit(holes).components_
    )
    with pytest.raises(ValueError, match=r"X is a masked array; mask='nan'"):
        jaxnmf.NMF(P).fit(masked)


# --- Frames ---------------------------------------------------------------------------

FRAME = pd.DataFrame(COUNTS, columns=[f"g{j}" for j in range(N)])


@pytest.mark.parametrize(
    "make",
    [
        lambda frame: frame.astype("Int64"),
        lambda frame: frame.astype("Float64"),
        lambda frame: frame.astype("int64[pyarrow]"),
        lambda frame: frame.astype("double[pyarrow]"),
        lambda frame: frame.astype({"g0": "Int64", "g1": "Float32", "g2": "float64"}),
        lambda frame: frame.astype(object),
    ],
    ids=["Int64", "Float64", "Arrow integers", "Arrow floats", "mixed", "object"],
)
def test_frames_of_any_backend(make):
    frame = make(FRAME)
    assert_same(factorize(frame), factorize(COUNTS))
    tight: Any = {"random_state": 0, "max_iter": 500, "tol": 1e-3}
    np.testing.assert_array_equal(
        jaxnmf.NMF(P, **tight).fit(frame).components_,
        jaxnmf.NMF(P, **tight).fit(COUNTS).components_,
    )


@pytest.mark.parametrize("kind", ["Int64", "double[pyarrow]"])
def test_a_missing_number_is_nan(kind):
    frame = FRAME.astype(kind)
    frame.iloc[3, 2] = pd.NA
    mask = np.ones((M, N), bool)
    mask[3, 2] = False
    assert_same(factorize(frame, mask="nan"), factorize(COUNTS, mask=mask))
    assert_same(factorize(frame, mask=frame.notna()), factorize(COUNTS, mask=mask))
    with pytest.raises(ValueError, match="NaN"):
        factorize(frame)


@pytest.mark.parametrize("kind", [object, "str", "string", "category"])
def test_a_column_of_text_is_named(kind):
    frame = FRAME.assign(organ=pd.Series(["liver"] * M, dtype=kind))
    for ask in (factorize, jaxnmf.NMF(P).fit):
        with pytest.raises(ValueError, match=r"column 'organ'.*'liver'.*index"):
            ask(frame)


def test_an_entry_that_is_no_number_is_named():
    rows = COUNTS.tolist()
    rows[4][2] = "n/a"
    with pytest.raises(ValueError, match=r"V has dtype object.*\(4, 2\) is 'n/a'"):
        factorize(np.array(rows, dtype=object))


# --- Floats that NumPy itself does not have -------------------------------------------


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_short_floats_are_worked_in_float32(dtype):
    expected = factorize(COUNTS)
    for V in (COUNTS.astype(dtype), jnp.asarray(COUNTS, dtype)):
        found = factorize(V)
        assert_same(found, expected)
        assert found.W.dtype == np.float32
        np.testing.assert_allclose(
            found.residual(V), expected.residual(COUNTS), rtol=1e-5, atol=1e-5
        )
        settings: Any = {"solver": "hals", "init": "random", "max_iter": 20, "tol": 0}
        model = jaxnmf.NMF(P, random_state=0, **settings).fit(V)
        np.testing.assert_array_equal(model.components_, expected.H)
    rows, cols = np.nonzero(~HIDDEN)
    values = COUNTS[rows, cols]
    observed = jaxnmf.Observed(rows, cols, values.astype(dtype), (M, N))
    assert_same(
        factorize(observed), factorize(jaxnmf.Observed(rows, cols, values, (M, N)))
    )
    assert_same(
        factorize(COUNTS, mask=(~HIDDEN).astype(dtype)),
        factorize(COUNTS, mask=~HIDDEN),
    )
    W, H = RNG.integers(1, 5, (M, P)), RNG.integers(1, 5, (P, N))
    pair = W.astype(dtype), H.astype(dtype)
    assert_same(factorize(COUNTS, init=pair), factorize(COUNTS, init=(W, H)))
