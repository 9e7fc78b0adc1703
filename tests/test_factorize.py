"""`factorize`, by what a user sees of it: results, stops, penalties, kinds of input."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.decomposition import NMF

import jaxnmf
from jaxnmf import solvers
from jaxnmf.objective import losses
from jaxnmf.types import Status

M, N, RANK = 12, 9, 3
_rng = np.random.default_rng(3)
V = _rng.random((M, RANK)) @ _rng.random((RANK, N)) * _rng.uniform(0.7, 1.3, (M, N))
START = _rng.random((M, RANK)) + 0.1, _rng.random((RANK, N)) + 0.1
COUNTS = _rng.poisson(3 * V)


def factorize(data: Any = V, rank: int = RANK, **settings: Any) -> jaxnmf.Result:
    return jaxnmf.factorize(data, rank, **settings)


def same(a: jaxnmf.Result, b: jaxnmf.Result) -> bool:
    """Whether every bit of both factors is the same."""
    return np.array_equal(a.W, b.W) and np.array_equal(a.H, b.H)


def assert_close(a: jaxnmf.Result, b: jaxnmf.Result, rtol: float = 1e-3) -> None:
    np.testing.assert_allclose(a.W @ a.H, b.W @ b.H, rtol=rtol, atol=1e-4)


# --- The result -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", np.float64])
def test_shapes_types_and_numbers(dtype):
    x64 = jax.config.jax_enable_x64  # pyright: ignore
    precision = jax.config.jax_default_matmul_precision  # pyright: ignore
    found = factorize(dtype=dtype)
    assert (found.W.shape, found.H.shape) == ((M, RANK), (RANK, N))
    assert found.W.dtype == found.H.dtype == np.dtype(dtype)
    assert isinstance(found.W, np.ndarray)
    assert found.W.flags.c_contiguous
    assert min(found.W.min(), found.H.min()) >= 0
    residual = V - found.W @ found.H
    np.testing.assert_allclose(found.residual(V), residual, atol=1e-6)
    error = np.linalg.norm(residual) / np.linalg.norm(V)
    assert found.relative_error == pytest.approx(error, rel=1e-5)
    assert found.objective == pytest.approx(0.5 * (residual**2).sum(), rel=1e-4)
    assert 0 < error < 0.3
    assert jax.config.jax_enable_x64 is x64  # pyright: ignore
    assert jax.config.jax_default_matmul_precision is precision  # pyright: ignore
    assert jnp.ones(1).dtype == jnp.float32


def test_double_precision_has_more_digits():
    found = factorize(dtype="float64", max_iter=500, tol=0)
    exact = 0.5 * (found.residual(V) ** 2).sum()
    assert found.objective == pytest.approx(exact, rel=1e-13)


def test_the_trace_records_the_way():
    found = factorize(max_iter=25, tol=0, init=START)
    trace = found.trace
    assert trace._fields == ("iteration", "objective", "kkt", "seconds")
    assert list(trace.iteration) == [0, 10, 20, 25]
    assert trace.objective[0] == pytest.approx(
        0.5 * ((V - START[0] @ START[1]) ** 2).sum(), rel=1e-5
    )
    assert (np.diff(trace.objective) < 0).all()
    assert trace.seconds[0] == 0
    assert (np.diff(trace.seconds) > 0).all()
    assert trace.kkt[-1] < trace.kkt[0]
    assert found.objective == trace.objective[-1]
    assert found.kkt == trace.kkt[-1]
    assert found.seconds == trace.seconds[-1]
    assert found.iterations == 25
    often = factorize(max_iter=6, tol=0, record_every=3)
    assert list(often.trace.iteration) == [0, 3, 6]


def test_without_kkt_only_the_ends_are_recorded():
    with_kkt = factorize(max_iter=30, tol=0)
    without = factorize(max_iter=30, tol=0, kkt=False)
    assert list(np.isnan(without.trace.kkt)) == [False, True, True, False]
    assert without.kkt == pytest.approx(with_kkt.kkt, rel=1e-3)
    assert same(with_kkt, without)


def test_a_residual_of_another_matrix_is_refused():
    with pytest.raises(ValueError, match=r"\(9, 12\).*\(12, 9\)"):
        factorize().residual(V.T)


# --- Stops ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"max_iter": 20, "tol": 0}, "max_iter"),
        ({"max_iter": 5000, "tol": 1e-3}, "converged"),
        ({"target": 1.0, "tol": 0, "init": START}, "target"),
        ({"target": 1e9}, "target"),
        ({"time_budget": 0.0, "tol": 0}, "time"),
        ({"kkt_tol": 0.2, "tol": 0, "init": START}, "kkt"),
    ],
)
def test_why_a_run_stops(settings, status):
    found = factorize(**settings)
    trace = found.trace
    assert found.status == status
    assert isinstance(found.status, Status)
    assert len(found.status.message) > 10
    assert status in repr(found)
    if status == "target":
        assert found.objective <= settings["target"]
        assert (trace.objective[:-1] > settings["target"]).all()
    if status == "time":
        assert found.iterations == 10  # the first record after it was spent
    if status == "kkt":
        below = trace.kkt <= settings["kkt_tol"] * trace.kkt[0]
        assert list(below) == [False] * (len(below) - 1) + [True]
    if status == "converged":
        change = np.abs(np.diff(trace.objective))
        small = change < settings["tol"] * trace.objective[0]
        assert list(small) == [False] * (len(small) - 1) + [True]


# --- Penalties, against scikit-learn --------------------------------------------------


def objective(W: Any, H: Any, l1: Any = (0, 0), l2: Any = (0, 0)) -> float:
    """The documented objective, in NumPy."""
    value = 0.5 * ((V - W @ H) ** 2).sum()
    for X, a, b in zip((W, H), l1, l2, strict=True):
        value += a * X.sum() + 0.5 * b * (X**2).sum()
    return float(value)


@pytest.mark.parametrize(
    ("alpha", "ratio"), [((0.02, 0.05), 1.0), ((0.05, 0.02), 0.0), ((0.03, 0.03), 0.5)]
)
def test_penalties_reach_scikit_learns_objective(alpha, ratio):
    # scikit-learn multiplies the penalty of W by n_features, that of H by n_samples.
    weights = alpha[0] * N, alpha[1] * M
    l1, l2 = ([share * x for x in weights] for share in (ratio, 1 - ratio))
    model = NMF(
        RANK,
        init="custom",
        alpha_W=alpha[0],
        alpha_H=alpha[1],
        l1_ratio=ratio,
        tol=0,
        max_iter=1000,
    )
    with warnings.catch_warnings(action="ignore"):  # tol=0 never converges
        W = model.fit_transform(V, W=START[0].copy(), H=START[1].copy())
    theirs = objective(W, model.components_, l1, l2)
    found = factorize(
        l1=tuple(l1),
        l2=tuple(l2),
        init=START,
        max_iter=1000,
        tol=0,
        dtype="float64",
        solver="hals",
    )
    ours = objective(found.W, found.H, l1, l2)
    assert found.objective == pytest.approx(ours, rel=1e-10)
    assert ours <= theirs * (1 + 1e-3)  # it may find the better minimum
    assert ours > 1.2 * objective(found.W, found.H)


def test_one_penalty_serves_both_factors():
    assert same(factorize(l1=0.1, l2=0.2), factorize(l1=(0.1, 0.1), l2=(0.2, 0.2)))
    assert not same(factorize(l1=0.1), factorize(l1=(0.1, 0.0)))


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_as_good_as_scikit_learn_from_the_same_start(loss):
    frobenius = loss == "frobenius"
    model = NMF(
        RANK,
        init="custom",
        solver="cd" if frobenius else "mu",
        beta_loss=loss,
        tol=0,
        max_iter=1000,
    )
    with warnings.catch_warnings(action="ignore"):  # tol=0 never converges
        W = model.fit_transform(V, W=START[0].copy(), H=START[1].copy())
    theirs = W @ model.components_
    solver = "hals" if frobenius else "mu"
    found = factorize(solver=solver, loss=loss, init=START, max_iter=1000, tol=0)
    ours = found.W @ found.H

    def error(X: np.ndarray) -> float:
        if frobenius:
            return float(np.linalg.norm(V - X) / np.linalg.norm(V))
        return float((V * np.log(V / X) - V + X).sum() / V.sum())

    assert error(ours) == pytest.approx(error(theirs), abs=1e-3)
    if not frobenius:
        total = (V * np.log(V / ours) - V + ours).sum()
        assert found.objective == pytest.approx(total, rel=1e-3)
        assert error(ours) == pytest.approx(error(theirs), rel=1e-2)


# --- Solvers and losses ---------------------------------------------------------------


def test_names_options_and_instances_are_the_same_thing():
    by_name = factorize(solver="hals", solver_options={"inner": 2})
    assert same(by_name, factorize(solver=solvers.HALS(inner=2)))
    assert not same(by_name, factorize(solver="hals", solver_options={"inner": 1}))
    settings: dict[str, Any] = {"solver": "mu", "max_iter": 20}
    by_name = factorize(loss="beta", loss_options={"beta": 0.5}, **settings)
    assert same(by_name, factorize(loss=losses.Beta(beta=0.5), **settings))
    assert not same(by_name, factorize(loss="beta", **settings))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("built_in", "own"),
    [
        ("kullback-leibler", lambda v, x: v * jnp.log(v / x) - v + x),
        ("itakura-saito", lambda v, x: v / x - jnp.log(v / x) - 1),
    ],
)
def test_a_loss_of_ones_own_equals_the_one_it_copies(built_in, own):
    settings: dict[str, Any] = {"solver": "pgd", "tol": 0, "dtype": "float64"}
    # The first trial step is not the same, so the ways part; the ends must not.
    copy, original = (
        factorize(loss=loss, init=START, max_iter=5000, **settings)
        for loss in (own, built_in)
    )
    assert copy.trace.objective[0] == pytest.approx(
        original.trace.objective[0], rel=1e-12
    )
    assert copy.objective == pytest.approx(original.objective, rel=1e-3)


# --- Kinds of input -------------------------------------------------------------------


@pytest.mark.parametrize("form", [sp.csr_array, sp.csc_matrix, sp.coo_array])
def test_sparse_gives_what_dense_gives(form):
    S = form(COUNTS.astype(float))
    found, dense = factorize(S, max_iter=20), factorize(COUNTS, max_iter=20)
    assert_close(found, dense)
    np.testing.assert_allclose(found.residual(S), COUNTS - found.W @ found.H, atol=1e-5)
    assert found.relative_error == pytest.approx(dense.relative_error, rel=1e-4)


def test_duplicates_of_a_coo_are_summed():
    half = sp.coo_array(COUNTS / 2)
    twice = sp.coo_array(
        (
            np.tile(half.data, 2),
            (np.tile(half.coords[0], 2), np.tile(half.coords[1], 2)),
        ),
        shape=half.shape,
    )
    assert same(
        factorize(twice, max_iter=20),
        factorize(sp.csr_array(COUNTS * 1.0), max_iter=20),
    )


@pytest.mark.parametrize(
    "make",
    [
        np.asarray,
        np.asfortranarray,
        pd.DataFrame,
        lambda x: x.tolist(),
        lambda x: jnp.asarray(x, jnp.float32),
        lambda x: x.astype(np.uint8),
        lambda x: x.astype(np.float64),
    ],
    ids=["int", "fortran", "pandas", "list", "jax", "uint8", "float64"],
)
def test_any_form_of_the_same_numbers_gives_the_same_bits(make):
    expected = factorize(COUNTS.astype(np.float32), max_iter=20)
    assert same(factorize(make(COUNTS), max_iter=20), expected)


def test_booleans_are_noughts_and_ones():
    bits = COUNTS > 2
    assert same(factorize(bits, max_iter=20), factorize(bits * 1.0, max_iter=20))


# --- Data of a wide range -------------------------------------------------------------


def itakura_saito(V, found):
    ratio = V / (found.W.astype(float) @ found.H.astype(float))
    return (ratio - np.log(ratio) - 1).sum()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", ["mu", "mu-overrelaxed", "mu-minibatch"])
def test_power_spectra_of_a_wide_range_are_fitted_throughout(solver, dtype):
    rng = np.random.default_rng(0)
    V = np.outer(np.logspace(-12, 0, 60), rng.uniform(0.5, 2, 40))
    settings = {"solver": solver, "loss": "itakura-saito", "dtype": dtype}
    found = factorize(V, 1, max_iter=300, tol=1e-7, **settings)
    assert itakura_saito(V, found) < 1e-5
    assert 0 <= found.objective < 1e-5


@pytest.mark.parametrize("decibels", [90, 120])
def test_spectra_that_fade_are_fitted_throughout(decibels):
    rng = np.random.default_rng(0)
    fade = 10 ** np.linspace(0, -decibels / 10, 80)[:, None]
    W, H = rng.gamma(1.0, size=(80, 2)) * fade, rng.gamma(1.0, size=(2, 50))
    settings = {"solver": "mu", "loss": "itakura-saito", "max_iter": 1000}
    found = factorize(W @ H, 2, tol=1e-7, **settings)
    assert itakura_saito(W @ H, found) < 0.5
    assert found.objective == pytest.approx(itakura_saito(W @ H, found), rel=1e-3)


# --- Starts, seeds, progress ----------------------------------------------------------


@pytest.mark.parametrize("init", ["nndsvd", "nndsvda", "nndsvdar"])
def test_svd_starts(init):
    found, drawn = factorize(init=init), factorize(init="random")
    assert found.relative_error == pytest.approx(drawn.relative_error, rel=0.05)
    assert found.trace.objective[0] < drawn.trace.objective[0]


def test_a_seed_is_a_run():
    def drawn(seed: int) -> jaxnmf.Result:
        return factorize(seed=seed, init="random")

    assert same(drawn(1), drawn(1))
    assert not same(drawn(1), drawn(2))
    assert same(drawn(0), factorize(init="random"))
    assert same(factorize(seed=1), factorize(seed=2))  # from the SVD


def test_the_users_arrays_are_left_alone():
    data, W, H = V.copy(), START[0].copy(), START[1].copy()
    factorize(data, init=(W, H), dtype="float64")
    for after, before in zip((data, W, H), (V, *START), strict=True):
        np.testing.assert_array_equal(after, before)


def test_progress_is_a_bar_on_standard_error_or_nothing(capsys):
    factorize(progress=False)
    factorize()  # no terminal: none by default
    assert capsys.readouterr() == ("", "")
    factorize(progress=True, max_iter=30, tol=0)
    out, err = capsys.readouterr()
    assert out == ""
    assert "iterations" in err
    assert "30/30" in err


@pytest.mark.slow
def test_more_components_than_an_exact_fit_needs_are_warned_of_once():
    V = np.random.default_rng(0).random((6, 5))
    runs = [
        lambda: jaxnmf.factorize(V, 8, max_iter=5),
        lambda: jaxnmf.sweep(V, [2, 8], 2, max_iter=5),
    ]
    for run in runs:
        with pytest.warns(UserWarning, match=r"8 components for a V of 6×5") as found:
            run()
        assert len(found) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jaxnmf.factorize(V, 5, max_iter=5)


def test_an_svd_start_of_too_many_components_is_refused():
    V = np.random.default_rng(0).random((6, 5))
    with pytest.raises(ValueError, match="needs rank ≤ min"):
        jaxnmf.factorize(V, 8, init="nndsvd")
