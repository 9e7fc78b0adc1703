"""Data observed in part, against answers in NumPy and SciPy: what says what is known,
both ways to hold it, and what is asked of a result."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import scipy.sparse as sp

import jaxnmf
from jaxnmf import Observed, metrics
from jaxnmf.build import Objective
from jaxnmf.data import known as known_data
from jaxnmf.data.convert import as_operand
from jaxnmf.data.dense import Dense
from jaxnmf.data.grams import ColumnGrams
from jaxnmf.data.sparse import Sparse
from jaxnmf.objective.offsets import OFFSET_WEIGHTS, SHARE
from jaxnmf.run.programs import precision

M, N, RANK = 12, 9, 3
RNG = np.random.default_rng(11)
V = RNG.random((M, RANK)) @ RNG.random((RANK, N)) * RNG.uniform(0.7, 1.3, (M, N)) + 0.1
KNOWN = RNG.random((M, N)) < 0.7
WEIGHTS = KNOWN * RNG.uniform(0.5, 2.0, (M, N))
ROWS, COLS = np.nonzero(KNOWN)
EVERY = np.ones((M, N), bool)
ALL = (np.arange(M)[:, None], np.arange(N))

both_storages = pytest.mark.parametrize("storage", [Dense, Sparse], indirect=True)


@pytest.fixture
def storage(request: pytest.FixtureRequest, monkeypatch: Any) -> Any:
    """Has known entries held as a dense V with weights, or alone."""
    share = 0.0 if request.param is Dense else 2.0
    monkeypatch.setattr(known_data, "DENSE_SHARE", share)
    return request.param


def factorize(data: Any = V, rank: int = RANK, **settings: Any) -> jaxnmf.Result:
    return jaxnmf.factorize(data, rank, **{"dtype": "float64", **settings})


def observed(known: np.ndarray = KNOWN, data: np.ndarray = V) -> Observed:
    rows, cols = np.nonzero(known)
    return Observed(rows, cols, data[rows, cols], data.shape)


def assert_same(a: jaxnmf.Result, b: jaxnmf.Result, rtol: float = 1e-10) -> None:
    np.testing.assert_allclose(a.W, b.W, rtol=rtol)
    np.testing.assert_allclose(a.H, b.H, rtol=rtol)


def whole(result: jaxnmf.Result) -> np.ndarray:
    """W H, and the offsets."""
    X = result.W @ result.H
    if result.offsets is None:
        return X
    return X + result.offsets.rows[:, None] + result.offsets.cols


# --- Observed -------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "rows": [2, 0, 0],
    "cols": [1, 2, 0],
    "values": [5.0, 0.0, 4.0],
    "shape": (3, 4),
}


def test_entries_are_put_in_order():
    found = Observed(**GOOD, weights=[1, 2, 3])
    assert found.shape == (3, 4)
    assert found.nnz == 3
    assert repr(found) == "Observed(3×4, 3 known)"
    np.testing.assert_array_equal(found.rows, [0, 0, 2])
    np.testing.assert_array_equal(found.cols, [0, 2, 1])
    np.testing.assert_array_equal(found.values, [4, 0, 5])
    np.testing.assert_array_equal(found.weights, [3, 2, 1])


def test_an_entry_of_weight_0_is_unknown_whatever_its_value():
    found = Observed(**{**GOOD, "values": [np.nan, 0, 4]}, weights=[0, 1, 1])
    np.testing.assert_array_equal(found.rows, [0, 0])
    np.testing.assert_array_equal(found.values, [4, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cols": [0, 1]}, "cols has 2 entries and rows has 3"),
        ({"values": [1.0] * 4}, "values has 4 entries and rows has 3"),
        ({"weights": [1.0]}, "weights has 1 entries and rows has 3"),
        ({"rows": [0.0, 1, 2]}, "rows has shape .* dtype float64.*integers"),
        ({"cols": [[0, 1, 2]]}, r"cols has shape \(1, 3\)"),
        ({"cols": ["a", "b", "c"]}, "cols has shape .*integers"),
        ({"rows": [0, 1, 3]}, "rows reaches from 0 to 3.* 0 … 2"),
        ({"cols": [-1, 1, 2]}, "cols reaches from -1 to 2.* 0 … 3"),
        ({"values": ["a", "b", "c"]}, "values has dtype .*real numbers"),
        ({"values": np.ones(3) * 1j}, "values has .*complex128"),
        ({"values": np.ones((3, 1))}, r"values has shape \(3, 1\)"),
        ({"weights": [1, -1, 1]}, "weights holds .*negative or not finite.*-1"),
        ({"weights": [1, np.nan, 1]}, "weights holds .*not finite"),
        ({"weights": [1, np.inf, 1]}, "weights holds .*not finite.*inf"),
        ({"weights": [0, 0, 0]}, "weights leaves nothing of V known"),
        ({"rows": [0, 0, 0], "cols": [1, 1, 1]}, r"\(0, 1\) is given more .*2 rep"),
        (
            {"rows": [], "cols": [], "values": []},
            r"nothing is known of V of shape \(3, 4\)",
        ),
        ({"shape": 3}, "shape=3 must be a pair"),
        ({"shape": (3,)}, r"shape=\(3,\) must be a pair"),
        ({"shape": (3, 4, 5)}, r"shape=\(3, 4, 5\) must be a pair"),
        ({"shape": (3, 0)}, r"shape=\(3, 0\) must be a pair"),
        ({"shape": (3.5, 4)}, r"shape=\(3.5, 4\) must be a pair"),
        ({"shape": None}, "shape=None must be a pair"),
    ],
    ids=str,
)
def test_what_makes_no_observed_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Observed(**{**GOOD, **change})


def test_stored_zeros_are_data():
    V = sp.coo_array(([0.0, 2.0], ([1, 0], [0, 1])), shape=(2, 2))
    for given in (V, V.tocsr(), sp.csc_matrix(V)):
        found = Observed.stored(given)
        np.testing.assert_array_equal(found.rows, [0, 1])
        np.testing.assert_array_equal(found.values, [2, 0])
    with pytest.raises(ValueError, match="V is a ndarray; it must be SciPy sparse"):
        Observed.stored(np.eye(2))


def test_take_is_a_part_with_its_weights():
    all_of_it = Observed(**GOOD, weights=[1, 2, 3])
    for index in ([0, 2], np.array([True, False, True])):
        part = all_of_it.take(index)
        assert part.shape == (3, 4)
        np.testing.assert_array_equal(part.values, [4, 5])
        np.testing.assert_array_equal(part.weights, [3, 1])
    with pytest.raises(ValueError, match="nothing is known of V"):
        all_of_it.take([])


# --- Masks ----------------------------------------------------------------------------

HIDDEN = np.where(KNOWN, V, np.nan)
STORED = sp.csr_array((V[KNOWN], (ROWS, COLS)), shape=V.shape)
SPELLINGS: dict[str, Any] = {
    "bool": lambda: (V, KNOWN),
    "list": lambda: (V.tolist(), KNOWN.tolist()),
    "int": lambda: (HIDDEN, KNOWN.astype(np.uint8)),
    "ones": lambda: (np.where(KNOWN, V, np.inf), 1.0 * KNOWN),
    "negative where unknown": lambda: (np.where(KNOWN, V, -1), KNOWN),
    "nan": lambda: (HIDDEN, "nan"),
    "frame": lambda: (pd.DataFrame(HIDDEN), pd.DataFrame(KNOWN)),
    "sparse mask": lambda: (V, sp.coo_array(1.0 * KNOWN)),
    "sparse bool": lambda: (V, sp.csc_array(KNOWN)),
    "repeated in mask": lambda: (
        V,
        sp.coo_array(
            (np.full(2 * len(ROWS), 0.5), (np.tile(ROWS, 2), np.tile(COLS, 2))),
            shape=V.shape,
        ),
    ),
    "sparse V": lambda: (STORED, KNOWN),
    "both sparse": lambda: (STORED.tocoo(), sp.csr_array(KNOWN)),
    "observed": lambda: (observed(), None),
    "shuffled": lambda: (observed().take(RNG.permutation(len(ROWS))), None),
    "stored": lambda: (Observed.stored(STORED.tocsc()), None),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@both_storages
def test_every_spelling_is_the_same_problem(storage, spelling):
    with precision("float64"):
        data, mask = SPELLINGS[spelling]()
        operand = as_operand(data, "float64", mask=mask)
    assert isinstance(operand, storage)
    assert operand.kind == "observed"
    values, weights = operand.to_host(), operand.host_weights()
    if storage is Sparse:
        assert values.nnz == weights.nnz == KNOWN.sum()
        values, weights = values.toarray(), weights.toarray()
    np.testing.assert_array_equal(weights, KNOWN)
    np.testing.assert_array_equal(values[KNOWN], V[KNOWN])
    assert np.isfinite(values).all()
    assert float(operand.floor) == pytest.approx(1e-10 * V[KNOWN].mean())


def test_every_spelling_and_storage_has_the_same_result(monkeypatch):
    found = []
    for share in (0.0, 2.0):
        monkeypatch.setattr(known_data, "DENSE_SHARE", share)
        for spelling in ("bool", "nan", "sparse mask", "observed"):
            data, mask = SPELLINGS[spelling]()
            # With as many sweeps in each storage, whatever a product costs.
            found.append(
                factorize(
                    data,
                    mask=mask,
                    max_iter=30,
                    solver="hals",
                    solver_options={"inner": 1},
                )
            )
    for other in found[1:]:
        assert_same(other, found[0])
        assert other.relative_error == pytest.approx(found[0].relative_error)
    X = whole(found[0])
    assert found[0].objective == pytest.approx(0.5 * ((V - X)[KNOWN] ** 2).sum())
    assert found[0].relative_error == pytest.approx(
        np.linalg.norm((V - X)[KNOWN]) / np.linalg.norm(V[KNOWN])
    )
    assert found[0].relative_error < 0.2


@both_storages
def test_weights_count_in_the_loss(storage):
    found = factorize(mask=WEIGHTS, max_iter=30)
    squares = WEIGHTS * (V - whole(found)) ** 2
    assert found.objective == pytest.approx(0.5 * squares.sum())
    error = np.sqrt(squares.sum() / (WEIGHTS * V**2).sum())
    assert found.relative_error == pytest.approx(error)
    ones = Observed(ROWS, COLS, V[KNOWN], V.shape, WEIGHTS[KNOWN])
    assert_same(factorize(ones, max_iter=30), found)


def test_a_mask_of_ones_is_no_mask():
    settings: dict[str, Any] = {
        "max_iter": 30,
        "solver": "hals",
        "init": "random",
        "solver_options": {"inner": 1},
    }
    assert_same(factorize(mask=EVERY, **settings), factorize(**settings), rtol=1e-7)


def test_zeros_of_a_sparse_v_are_data_where_the_mask_says_so():
    data = sp.csr_array(V * (V > 0.6))
    mask = sp.csr_array(KNOWN)
    assert ((data.toarray() == 0) & KNOWN).any()
    assert_same(
        factorize(data, mask=mask, max_iter=30),
        factorize(data.toarray(), mask=KNOWN, max_iter=30),
    )


def test_small_integers_do_not_overflow():
    """The mean that the floor comes from, of 8-bit values times 8-bit weights."""
    data = np.full((M, N), 200, np.uint8)
    operand = as_operand(data, mask=np.full((M, N), 2, np.uint8))
    assert float(operand.floor) == pytest.approx(200e-10)


@pytest.mark.parametrize(
    ("data", "mask", "message"),
    [
        (V, "nans", "mask='nans' is neither 'nan' nor"),
        (STORED, "nan", r"mask='nan' needs a dense V.*Observed\.stored"),
        (V, KNOWN.T, r"mask has shape \(9, 12\).*\(12, 9\)"),
        (V, sp.csr_array(KNOWN.T), r"mask has shape \(9, 12\).*\(12, 9\)"),
        (V, True, r"mask has shape \(\)"),
        (V, [[1], [2, 3]], "mask is a list that makes no array"),
        (V, KNOWN.astype(str), "mask has dtype .*bool"),
        (V, ~EVERY, "mask leaves nothing of V known"),
        (V, sp.csr_array((M, N)), "mask leaves nothing of V known"),
        (np.full((M, N), np.nan), "nan", "mask leaves nothing of V known"),
        (V, -1.0 * KNOWN, "mask holds .*negative"),
        (V, sp.csr_array(-1.0 * KNOWN), "mask holds .*negative"),
        (V, np.where(KNOWN, 1, np.nan), "mask holds .*not finite"),
        (V, np.where(KNOWN, 1, np.inf), "mask holds .*not finite"),
        (-V, KNOWN, "holds negative entries"),
        (HIDDEN, EVERY, r"V of shape \(12, 9\) holds NaN"),
        (np.where(KNOWN, V, np.inf), EVERY, "holds an infinite entry"),
        (observed(data=-V), None, "holds negative entries"),
        (observed(EVERY, HIDDEN), None, "holds NaN"),
        (observed(), KNOWN, "V is Observed, which says itself"),
    ],
)
@pytest.mark.parametrize("share", [0.0, 2.0])
def test_what_is_no_mask_is_refused(monkeypatch, share, data, mask, message):
    monkeypatch.setattr(known_data, "DENSE_SHARE", share)
    with pytest.raises(ValueError, match=message):
        factorize(data, mask=mask)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"offsets": True}, "offsets: for data observed in part; pass a mask"),
        ({"toward": "mean"}, "toward='mean'.*observed in part; pass a mask"),
        ({"toward": "median", "mask": KNOWN}, "toward='median' must be one of zero, m"),
        ({"offsets": (1, 2, 3), "mask": KNOWN}, "offsets has 3 values"),
        (
            {"offsets": True, "mask": KNOWN, "solver": "nenmf"}
            | {"constraints": ("simplex", None)},
            "offsets=.* with the constraint 'simplex'",
        ),
        ({"offsets": -1.0, "mask": KNOWN}, r"offsets=-1\.0 must be a finite number"),
        ({"offsets": (1.0, np.nan), "mask": KNOWN}, "offsets=nan must be a finite"),
        ({"offsets": "yes", "mask": KNOWN}, "offsets='yes' must be a finite number"),
    ],
)
def test_offsets_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        factorize(**settings)


def test_what_offsets_may_be():
    assert Objective.of(offsets=False).offsets is None
    assert Objective.of(offsets=None).offsets is None
    assert Objective.of(offsets=True).offsets == OFFSET_WEIGHTS
    assert Objective.of(offsets=2.0).offsets == (2.0, 2.0)
    assert Objective.of(offsets=[1, 0.5]).offsets == (1, 0.5)


# --- The operand ----------------------------------------------------------------------


@pytest.mark.parametrize("side", ["upright", "transposed"])
@both_storages
def test_an_operand_answers_over_the_known_entries(storage, side):
    fixed, free = RNG.random((RANK, M)), RNG.random((RANK, N))
    data, weights = V, WEIGHTS
    with precision("float64"):
        operand = as_operand(HIDDEN, "float64", mask=WEIGHTS)
        assert isinstance(operand, storage)
        if side == "transposed":
            operand, data, weights = operand.T, data.T, weights.T
            fixed, free = free, fixed
        x = fixed.T @ free

        def two(v: Any, x: Any) -> Any:
            return v * x, v / x

        f, g = jnp.asarray(fixed), jnp.asarray(free)
        grams = ColumnGrams.of(f, operand)
        found = {
            "dot": operand.dot(f),
            "weigh": operand.dot_weights(f),
            "sum": operand.map_sum(lambda v, x: v / x, f, g),
            "sum of two": operand.map_sum(lambda v, x, y: (x - y) / v, f, g, g[::-1]),
            "pull": operand.map_dot(two, f, g),
            "pulls": operand.map_dot_both(two, f, g),
            "grams @": grams @ g,
            "row @": grams[1] @ g,
            "diagonal": grams.diagonal,
            "rows": grams[jnp.asarray([2, 0])] @ g,
        }
    ys = [weights * y for y in two(data, x)]
    G = np.einsum("pi,qi,ij->pqj", fixed, fixed, weights)
    Gx = np.einsum("pqj,qj->pj", G, free)
    expected = {
        "dot": fixed @ (weights * data),
        "weigh": fixed @ weights,
        "sum": ys[1].sum(),
        "sum of two": (weights * (x - fixed.T @ free[::-1]) / data).sum(),
        "pull": [fixed @ y for y in ys],
        "pulls": [fixed @ y for y in ys] + [free @ y.T for y in ys],
        "grams @": Gx,
        "row @": Gx[1],
        "diagonal": np.einsum("ppj->pj", G),
        "rows": Gx[[2, 0]],
    }
    for name, value in expected.items():
        pairs = zip(jax.tree.leaves(found[name]), jax.tree.leaves(value), strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13, err_msg=name)


# --- Nothing known of a row or column -------------------------------------------------


@pytest.mark.parametrize("offsets", [False, 0.1])
@both_storages
def test_what_nothing_is_known_of_has_the_mean_factors(storage, offsets):
    known = KNOWN.copy()
    known[[2, 7]], known[:, 4] = False, False
    found = factorize(np.where(known, V, np.nan), mask=known, offsets=offsets)
    np.testing.assert_array_equal(found.unobserved.rows, [2, 7])
    np.testing.assert_array_equal(found.unobserved.cols, [4])
    others = np.delete(np.arange(M), [2, 7])
    np.testing.assert_allclose(found.W[2], found.W[others].mean(0), rtol=1e-12)
    np.testing.assert_allclose(
        found.H[:, 4], np.delete(found.H, 4, 1).mean(1), rtol=1e-12
    )
    if offsets:
        assert found.offsets.rows[7] == pytest.approx(found.offsets.rows[others].mean())
    assert np.isfinite(found.predict(*ALL)).all()
    assert (found.predict(*ALL) > 0).all()
    everything = factorize(mask=KNOWN, max_iter=1).unobserved
    assert (everything.rows.size, everything.cols.size) == (0, 0)
    assert factorize(max_iter=1).unobserved.rows.size == 0


@pytest.mark.parametrize(
    ("data", "mask"),
    [
        (np.zeros((M, N)), None),
        (np.where(KNOWN, 0.0, V), KNOWN),
        (sp.csr_array((M, N)), None),
        (sp.csr_array((M, N)), KNOWN),
        (observed(data=np.zeros((M, N))), None),
    ],
    ids=["whole", "masked", "sparse", "sparse masked", "observed"],
)
def test_v_of_zeros_has_factors_of_zeros(data, mask):
    """And no relative error, which is relative to nothing."""
    found = factorize(data, mask=mask)
    assert np.isnan(found.relative_error)
    assert found.objective == 0
    np.testing.assert_array_equal(whole(found), 0)


# --- predict, recommend, residual -----------------------------------------------------


@pytest.fixture(scope="session")
def plain() -> jaxnmf.Result:
    return factorize(mask=KNOWN, max_iter=3000, tol=1e-13)


@pytest.fixture(scope="session")
def with_offsets() -> jaxnmf.Result:
    return factorize(mask=KNOWN, offsets=0.1, l2=0.05, max_iter=6000, tol=1e-13)


@pytest.fixture(params=["plain", "with_offsets"])
def result(request: pytest.FixtureRequest) -> jaxnmf.Result:
    return request.getfixturevalue(request.param)


def test_predict_is_w_h_and_the_offsets(result):
    X = whole(result)
    np.testing.assert_allclose(result.predict(*ALL), X, rtol=1e-12)
    np.testing.assert_allclose(result.predict(ROWS, COLS), X[KNOWN], rtol=1e-12)
    np.testing.assert_allclose(result.predict(3, [1, 1, 0]), X[3, [1, 1, 0]])
    assert result.predict(3, 4) == pytest.approx(X[3, 4])
    assert np.shape(result.predict(3, 4)) == ()
    assert result.predict([], []).shape == (0,)
    assert result.predict(*ALL).dtype == np.float64


@pytest.mark.parametrize(
    ("rows", "cols", "message"),
    [
        (M, 0, "rows reaches from 12 to 12.* 0 … 11"),
        ([0, -1], 0, "rows reaches from -1 to 0"),
        (0, [0, N], "cols reaches from 0 to 9.* 0 … 8"),
        (0.0, 0, "rows has dtype float64; it must hold integers"),
        (0, [True, False], "cols has dtype bool"),
        ([0, 1], [0, 1, 2], r"rows has shape \(2,\) and cols \(3,\)"),
    ],
)
def test_indices_that_do_not_fit_are_refused(plain, rows, cols, message):
    with pytest.raises(ValueError, match=message):
        plain.predict(rows, cols)


def test_recommend_puts_the_largest_first(result):
    order = np.argsort(-whole(result)[5])
    np.testing.assert_array_equal(result.recommend(5, 4), order[:4])
    np.testing.assert_array_equal(result.recommend(5), order)
    values = result.predict(5, result.recommend(5))
    assert (np.diff(values) <= 0).all()


def test_recommend_leaves_out_what_is_known(plain):
    known = np.flatnonzero(KNOWN[5])
    expected = [j for j in np.argsort(-whole(plain)[5]) if j not in known]
    for exclude in (
        known,
        known.tolist(),
        KNOWN[5],
        KNOWN[5].tolist(),
        observed(),
        STORED,
        STORED.tocoo(),
        sp.csc_matrix(KNOWN),
    ):
        np.testing.assert_array_equal(plain.recommend(5, 50, exclude), expected)
        np.testing.assert_array_equal(plain.recommend(5, 1, exclude), expected[:1])
    assert plain.recommend(5, 3, np.ones(N, bool)).size == 0
    assert plain.recommend(5, 3, []).size == 3


def test_ties_go_to_the_smaller_number():
    W, H = np.ones((2, 1)), np.array([[1.0, 2.0, 1.0, 2.0]])
    tied = factorize(W @ H, 1, init=(W, H), max_iter=1)
    np.testing.assert_array_equal(tied.recommend(0), [1, 3, 0, 2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((M,), "row reaches from 12 to 12"),
        ((-1,), "row reaches from -1"),
        ((0, 0), "k=0 must be an integer ≥ 1"),
        ((0, True), "k=True must be an integer ≥ 1"),
        ((0, 3, [N]), "exclude reaches from 9 to 9"),
        ((0, 3, [0.5]), "exclude has dtype float64"),
        ((0, 3, KNOWN), r"exclude has shape \(12, 9\); it must be \(9,\)"),
        ((0, 3, STORED.T), r"exclude has shape \(9, 12\); it must be \(12, 9\)"),
        ((0, 3, Observed([0], [0], [1.0], (1, 9))), r"exclude has shape \(1, 9\)"),
    ],
)
def test_a_recommendation_that_does_not_fit_is_refused(plain, arguments, message):
    with pytest.raises(ValueError, match=message):
        plain.recommend(*arguments)


def test_residual_is_of_each_known_entry(result):
    U = V - whole(result)
    np.testing.assert_allclose(result.residual(V), U, atol=1e-14)
    np.testing.assert_allclose(result.residual(sp.csr_array(V)), U, atol=1e-14)
    np.testing.assert_allclose(result.residual(observed()), U[KNOWN], atol=1e-14)
    with pytest.raises(ValueError, match=r"\(9, 12\).*\(12, 9\)"):
        result.residual(observed(KNOWN.T, V.T))


# --- fold_in --------------------------------------------------------------------------

TIGHT: dict[str, Any] = {"max_iter": 20000, "tol": 1e-15}
NEW = RNG.random((4, RANK)) @ RNG.random((RANK, N)) + 0.1
NEW_WEIGHTS = (RNG.random((4, N)) < 0.8) * RNG.uniform(0.5, 2.0, (4, N))


def test_rows_of_the_data_find_their_factors_again(result):
    found = result.fold_in(V, mask=KNOWN, **TIGHT)
    np.testing.assert_array_equal(found.H, result.H)
    np.testing.assert_allclose(found.predict(*ALL), result.predict(*ALL), rtol=2e-3)
    np.testing.assert_allclose(found.W, result.W, atol=5e-3 * result.W.max())
    if result.offsets is not None:
        np.testing.assert_allclose(
            found.offsets.rows, result.offsets.rows, atol=5e-3 * V.mean()
        )
        np.testing.assert_array_equal(found.offsets.cols, result.offsets.cols)
    assert found.relative_error == pytest.approx(result.relative_error, rel=1e-3)
    again = found.fold_in(V, mask=KNOWN, **TIGHT)
    np.testing.assert_allclose(again.W, found.W, rtol=1e-6, atol=1e-9)


def nnls_rows(
    result: jaxnmf.Result, data: np.ndarray, weights: np.ndarray, l2: float, mean: float
) -> np.ndarray:
    """By SciPy, each row by itself: W, with the row offsets as its first column."""
    H, c = result.H, np.zeros(N)
    pull, toward = np.full(RANK, l2), np.zeros(RANK)
    if result.offsets is not None:
        H, c = np.vstack([np.ones(N), H]), result.offsets.cols
        pull = np.append(0.1, pull)
        toward = np.append(mean * (1 - SHARE) / 2, toward)
    rows = []
    for v, w in zip(data, weights, strict=True):
        A = np.vstack([np.sqrt(w)[:, None] * H.T, np.diag(np.sqrt(pull))])
        b = np.append(np.sqrt(w) * (v - c), np.sqrt(pull) * toward)
        rows.append(scipy.optimize.nnls(A, b)[0])
    return np.array(rows)


@pytest.mark.parametrize("form", ["whole", "sparse", "masked", "observed"])
def test_new_rows_are_those_of_nnls(result, form):
    weights = np.ones((4, N)) if form in ("whole", "sparse") else NEW_WEIGHTS
    data = np.where(weights > 0, NEW, 0)
    rows, cols = np.nonzero(weights)
    given, mask = {
        "whole": (data, None),
        "sparse": (sp.csr_array(data), None),
        "masked": (np.where(weights > 0, NEW, np.nan), weights),
        "observed": (
            Observed(rows, cols, data[rows, cols], data.shape, weights[rows, cols]),
            None,
        ),
    }[form]
    l2 = 0.05 if result.offsets is not None else 0.0
    expected = nnls_rows(result, data, weights, l2, V[KNOWN].mean())
    found = result.fold_in(given, mask=mask, **TIGHT)
    W = found.W
    if result.offsets is not None:
        W = np.column_stack([found.offsets.rows, W])
    np.testing.assert_allclose(W, expected, rtol=1e-4, atol=1e-5)
    # Of the rows alone, for H need not be stationary for them; a component that no row
    # has is counted as one that may be revived.
    if found.W.any(0).all():
        assert found.kkt < 1e-4
    np.testing.assert_array_equal(result.transform(given, mask=mask).shape, (4, RANK))


def test_new_rows_by_kullback_leibler_are_those_of_l_bfgs():
    trained = factorize(mask=KNOWN, loss="kl", solver="mu", max_iter=300)
    for weights in (np.ones((4, N)), NEW_WEIGHTS):
        found = trained.fold_in(NEW, mask=weights, **TIGHT)

        def objective(W: np.ndarray, weights: Any = weights) -> Any:
            X = np.maximum(W.reshape(4, RANK) @ trained.H, 1e-12)
            value = (weights * (NEW * np.log(NEW / X) - NEW + X)).sum()
            return value, (weights * (1 - NEW / X) @ trained.H.T).ravel()

        answer = scipy.optimize.minimize(
            objective,
            np.full(4 * RANK, 0.5),
            jac=True,
            bounds=[(0, None)] * (4 * RANK),
            method="L-BFGS-B",
            options={"maxiter": 20000, "maxfun": 50000, "ftol": 1e-15, "gtol": 1e-10},
        )
        assert found.objective == pytest.approx(answer.fun, rel=1e-6)
        np.testing.assert_allclose(
            found.W @ trained.H, answer.x.reshape(4, RANK) @ trained.H, rtol=2e-3
        )


@pytest.mark.slow
def test_a_new_row_of_few_entries_leaves_h_and_other_rows_as_they_are(result):
    """A column of which the new rows tell nothing has the H that it had."""
    few = [1, 2, 5, 7]
    one = Observed([0] * 4, few, NEW[0, few], (1, N))
    found = result.fold_in(one, **TIGHT)
    np.testing.assert_array_equal(found.H, result.H)
    assert found.unobserved.cols.size == 0
    cols = np.concatenate([few, [0, 4, 6, 8]])
    three = Observed(np.repeat([0, 1], 4), cols, NEW[0, cols], (3, N))
    several = result.fold_in(three, **TIGHT)
    np.testing.assert_allclose(
        several.predict(0, np.arange(N)), found.predict(0, np.arange(N)), rtol=1e-4
    )
    np.testing.assert_array_equal(several.unobserved.rows, [2])
    np.testing.assert_allclose(several.W[2], result.W.mean(0), rtol=1e-12)
    if result.offsets is not None:
        mean = result.offsets.rows.mean()
        assert several.offsets.rows[2] == pytest.approx(mean, rel=1e-12)


def test_a_new_row_of_zeros_has_no_components(plain):
    found = plain.fold_in(np.zeros((4, N)))
    np.testing.assert_allclose(found.W, 0, atol=1e-12)
    assert np.isnan(found.relative_error)


def test_new_rows_that_do_not_fit_are_refused(plain):
    with pytest.raises(ValueError, match=r"V has shape \(4, 8\).*need 9 columns"):
        plain.fold_in(NEW[:, :8])
    with pytest.raises(ValueError, match="holds negative entries"):
        plain.transform(-NEW)
    for setting in ({"max_iter": 0}, {"max_iter": True}, {"tol": -1.0}):
        (name,) = setting
        with pytest.raises(ValueError, match=f"^{name}=.* must be"):
            plain.fold_in(NEW, **setting)
    positive = factorize(loss="is", solver="mu", max_iter=1)
    with pytest.raises(ValueError, match="V holds zeros, where the loss 'itakura"):
        positive.fold_in(np.zeros((4, N)))
    with pytest.raises(ValueError, match="needs every entry of W H, also where"):
        positive.fold_in(sp.csr_array(NEW))


# --- metrics --------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 2**20])
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_array, sp.csc_array])
def test_relative_error_is_over_what_has_a_weight(monkeypatch, layout, block):
    monkeypatch.setattr("jaxnmf.objective.relative_error._BLOCK", block)
    W, H = RNG.random((M, RANK)), RNG.random((RANK, N))
    squares = WEIGHTS * (V - W @ H) ** 2
    expected = np.sqrt(squares.sum() / (WEIGHTS * V**2).sum())
    data = HIDDEN if layout is np.asarray else STORED
    for weights in (layout(WEIGHTS), layout(WEIGHTS).T.copy().T):
        found = metrics.relative_error(data, W, H, weights)
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("data", "weights", "message"),
    [
        (V, WEIGHTS[:, :1], r"weights: shape \(12, 1\) does not fit V \(12, 9\)"),
        (V, sp.csr_array(WEIGHTS), "weights: must be sparse where V is"),
        (STORED, WEIGHTS, "weights: must be sparse where V is"),
        (STORED, sp.csr_array(EVERY * 1.0), "weights: must store the same entries"),
        (np.where(KNOWN, 0, V), WEIGHTS, "all known entries are 0"),
    ],
)
def test_weights_that_do_not_fit_are_refused(data, weights, message):
    with pytest.raises(ValueError, match=message):
        metrics.relative_error(data, np.ones((M, 1)), np.ones((1, N)), weights)


# --- Ratings --------------------------------------------------------------------------


def test_offsets_predict_ratings_that_have_them():
    """A part of planted offsets, factors and noise is held out."""
    rng = np.random.default_rng(4)
    m, n, p = 80, 50, 2
    b, c = rng.gamma(2.0, 0.5, (m, 1)), rng.gamma(2.0, 0.5, n)
    X = b + c + rng.gamma(0.5, 0.7, (m, p)) @ rng.gamma(0.5, 0.7, (p, n))
    place = rng.permutation(m * n)[: int(0.3 * m * n)]
    rows, cols = np.divmod(place, n)
    values = np.maximum(X[rows, cols] + 0.3 * rng.standard_normal(place.size), 0)
    known = Observed(rows, cols, values, (m, n))
    held = rng.random(known.nnz) < 0.2
    train, test = known.take(~held), known.take(held)

    def rmse(**settings: Any) -> float:
        found = factorize(train, p, l2=1.0, max_iter=500, **settings)
        return float(np.sqrt(np.mean(found.residual(test) ** 2)))

    with_them = rmse(offsets=1.0, toward="mean")
    assert with_them < 0.95 * rmse(toward="mean")
    assert with_them < 0.95 * rmse()
    assert with_them < 0.8 * test.values.std()
