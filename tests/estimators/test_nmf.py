"""`jaxnmf.NMF`, by scikit-learn's own checks, its NMF, and what users put it in."""

import pickle
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn import decomposition
from sklearn.base import clone
from sklearn.decomposition._nmf import _beta_divergence
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import jaxnmf
from jaxnmf import solvers

M, N, P = 40, 15, 3
_rng = np.random.default_rng(5)
X = _rng.gamma(1.0, size=(M, P)) @ _rng.gamma(1.0, size=(P, N))
X *= _rng.uniform(0.7, 1.3, (M, N))
COUNTS = _rng.poisson(X).astype(float)
START = _rng.random((M, P)) + 0.1, _rng.random((P, N)) + 0.1
KL: dict[str, Any] = {"solver": "mu-extrapolated", "beta_loss": "kullback-leibler"}
THEIR_KL: dict[str, Any] = {"solver": "mu", "beta_loss": "kullback-leibler"}


def NMF(n_components: Any = P, **settings: Any) -> jaxnmf.NMF:
    """Long runs of hals from one seed, unless something else is asked for."""
    usual = {"solver": "hals", "init": "random", "random_state": 0}
    usual |= {"max_iter": 5000, "tol": 1e-6}
    return jaxnmf.NMF(n_components, **{**usual, **settings})


def X_of(model: jaxnmf.NMF) -> np.ndarray:
    return model.result_.W @ model.components_


def alphas(l1: Any, l2: Any, shape: tuple[int, int] = (M, N)) -> dict[str, Any]:
    """scikit-learn's parameters of penalties in one ratio."""
    ratio = l1[0] / (l1[0] + l2[0])
    sums = (a + b for a, b in zip(l1, l2, strict=True))
    alpha_W, alpha_H = (x / size for x, size in zip(sums, shape[::-1], strict=True))
    return {"alpha_W": alpha_W, "alpha_H": alpha_H, "l1_ratio": ratio}


# --- What scikit-learn asks of every transformer --------------------------------------


# Its checks ignore the warnings that they provoke, but for those of a skipped check.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.slow
@parametrize_with_checks([jaxnmf.NMF(), jaxnmf.NMF(2, mask="nan")])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


# --- A shell over factorize -----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"solver": solvers.MU(), "loss": "beta", "loss_options": {"beta": 1.5}},
        {
            "solver": "pgd",
            "l1": (0.1, 0.2),
            "l2": (0.3, 0.6),
            "max_iter": 30,
            "tol": 0.0,
        },
        {"solver": "nenmf", "constraints": ("simplex", "nonnegative")},
        {"solver_options": {"inner": 2}, "init": START},
        {"mask": "nan", "l1": (0.0, 0.0), "l2": (1.0, 1.0), "toward": "mean"},
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fit_is_a_factorisation(settings, dtype):
    settings = {"max_iter": 1000, **settings}
    theirs, rest = {}, dict(settings)
    if "l2" in settings:
        theirs = alphas(rest.pop("l1"), rest.pop("l2"))
    if "loss" in rest:
        theirs["beta_loss"] = rest.pop("loss")
    model = NMF(tol=1e-4, random_state=7).set_params(**theirs, **rest)
    model.fit(X.astype(dtype))
    given = {"solver": "hals", "init": "random", **settings}
    found = jaxnmf.factorize(X.astype(dtype), P, seed=7, dtype=dtype, **given)
    assert model.components_.dtype == dtype
    near = {"rtol": 1e-5 if dtype == "float32" else 1e-12, "atol": 1e-7}
    np.testing.assert_allclose(model.result_.W, found.W, **near)
    np.testing.assert_allclose(model.components_, found.H, **near)
    assert (model.n_components_, model.n_features_in_) == (P, N)
    assert model.n_iter_ == found.iterations
    assert model.result_.status == found.status


def test_fit_transform_gives_a_w_of_its_own():
    model = NMF()
    W = model.fit_transform(X)
    np.testing.assert_array_equal(W, model.result_.W)
    W[:] = 0
    assert model.result_.W.any()


def test_open_numbers_of_components():
    for p in ("auto", None):
        assert NMF(p, tol=1e-2).fit(X).n_components_ == N
        assert NMF(p, init=START).fit(X).n_components_ == P
    assert NMF(np.int64(2)).fit(X).components_.shape == (2, N)


def test_random_states_are_seeds():
    def fitted(state: Any) -> np.ndarray:
        return NMF(tol=1e-2, random_state=state).fit(X).components_

    settings: Any = {"solver": "hals", "init": "random", "dtype": "float64"}
    seeded = jaxnmf.factorize(X, P, seed=3, tol=1e-2, max_iter=5000, **settings)
    np.testing.assert_array_equal(fitted(3), seeded.H)
    np.testing.assert_array_equal(fitted(np.int64(3)), seeded.H)
    one, other = (np.random.RandomState(1) for _ in range(2))
    first = fitted(one)
    np.testing.assert_array_equal(first, fitted(other))
    assert not np.array_equal(first, fitted(one))  # the next draw
    assert not np.array_equal(fitted(None), fitted(None))


# --- Against scikit-learn's NMF -------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [({}, {}), (KL, THEIR_KL), ({"solver": "auto", "init": None}, {})],
)
def test_as_good_as_scikit_learns(ours, theirs):
    data = COUNTS if theirs else X
    reference = decomposition.NMF(P, max_iter=5000, tol=1e-6, **theirs).fit(data)
    found = NMF(**ours).fit(data)
    assert found.reconstruction_err_ < 1.01 * reference.reconstruction_err_
    # And on rows that neither has seen.
    half = data[: M // 2], data[M // 2 :]
    reference.fit(half[0])
    found.fit(half[0])
    beta = theirs.get("beta_loss", "frobenius")
    error, expected = (
        _beta_divergence(half[1], model.transform(half[1]), model.components_, beta)
        for model in (found, reference)
    )
    assert error < 1.05 * expected


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [{}, alphas((0.1, 0.2), (0.3, 0.6))])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("settings", "beta"),
    [
        ({}, "frobenius"),
        (KL, "kullback-leibler"),
        ({"solver": "auto", "beta_loss": "is"}, "itakura-saito"),
        ({"solver": "auto", "beta_loss": 1.5}, 1.5),
    ],
)
def test_reconstruction_errors_are_scikit_learns(settings, beta, sparse, penalty):
    if sparse and beta not in ("frobenius", "kullback-leibler"):
        pytest.skip("a sparse X needs one of the two losses")
    data = COUNTS if beta in ("frobenius", "kullback-leibler") else X
    model = NMF(**settings, **penalty, tol=1e-3)
    model.fit(sp.csr_array(data) if sparse else data)
    W, H = model.result_.W, model.components_
    expected = _beta_divergence(data, W, H, beta, square_root=True)
    assert model.reconstruction_err_ == pytest.approx(expected, rel=1e-9)
    penalised = np.sqrt(2 * model.result_.objective)
    assert (penalised > 1.01 * expected) == bool(penalty)


def test_reconstruction_errors_of_a_loss_of_ones_own_are_its_sum():
    def smooth(v, x):
        return jnp.sqrt(1 + (v - x) ** 2) - 1

    for alpha in (0.0, 0.01):
        model = NMF(beta_loss=smooth, solver="pgd", alpha_W=alpha, tol=1e-4).fit(X)
        total = np.sum(np.sqrt(1 + (X - X_of(model)) ** 2) - 1)
        assert model.reconstruction_err_ == pytest.approx(total, rel=1e-4)


def test_exact_fits_have_errors_near_zero():
    # Sums over a sparse X end on either side of 0, by rounding: of none NaN may come.
    for seed in range(4):
        rng = np.random.default_rng(seed)
        start = rng.random((M, P)) + 0.1, rng.random((P, N)) + 0.1
        exact = sp.csr_array(start[0] @ start[1])
        for settings in ({}, KL):
            model = NMF(init=start, max_iter=10, tol=0.0, **settings).fit(exact)
            assert 0 <= model.reconstruction_err_ < 0.03


def test_penalties_are_scikit_learns():
    alpha_W, alpha_H, ratio = 0.03, 0.05, 0.3
    reference = decomposition.NMF(
        P,
        init="custom",
        alpha_W=alpha_W,
        alpha_H=alpha_H,
        l1_ratio=ratio,
        tol=1e-8,
        max_iter=20000,
    )
    W = reference.fit_transform(X, W=START[0].copy(), H=START[1].copy())
    model = NMF(
        init=START,
        alpha_W=alpha_W,
        alpha_H=alpha_H,
        l1_ratio=ratio,
        tol=1e-9,
    )
    ours = model.fit_transform(X), model.components_
    theirs = W, reference.components_
    np.testing.assert_allclose(ours[0] @ ours[1], theirs[0] @ theirs[1], atol=1e-3)
    # The penalties, whichever component comes first.
    for factor, expected in zip(ours, theirs, strict=True):
        assert factor.sum() == pytest.approx(expected.sum(), rel=1e-3)
        assert (factor**2).sum() == pytest.approx((expected**2).sum(), rel=1e-3)
    assert model.reconstruction_err_ == pytest.approx(
        reference.reconstruction_err_, rel=1e-4
    )


# --- New rows, and back ---------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [{}, KL, {"alpha_W": 0.02}, {"solver": "semi"}, {"mask": "nan"}, {"solver": "cd"}],
)
def test_transform_of_the_training_rows_is_what_was_fitted(settings):
    model, data = NMF(**settings), COUNTS.astype(np.float32)
    W = model.fit_transform(data)
    again = model.transform(data)
    assert again.dtype == W.dtype == np.float32
    fitted = W @ model.components_
    np.testing.assert_allclose(
        again @ model.components_, fitted, atol=1e-2 * fitted.max()
    )
    # Each row by itself: some of them are transformed to what all of them are.
    some = model.transform(data[5:9])
    np.testing.assert_allclose(some, again[5:9], atol=1e-2 * again.max())


def test_there_and_back_between_frames():
    names = [f"gene{j}" for j in range(N)]
    frame = pd.DataFrame(X, columns=names)
    model = NMF().set_output(transform="pandas")
    W = model.fit_transform(frame)
    assert list(model.feature_names_in_) == names
    assert list(W.columns) == list(model.get_feature_names_out())
    assert list(W.columns) == ["nmf0", "nmf1", "nmf2"]
    new = model.transform(frame.iloc[3:7])
    assert list(new.index) == [3, 4, 5, 6]
    back = model.inverse_transform(W)
    np.testing.assert_allclose(back, X_of(model), rtol=1e-5)
    np.testing.assert_allclose(
        model.inverse_transform(sp.csr_array(W)), X_of(model), rtol=1e-5
    )
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(frame[names[::-1]])


# --- Where scikit-learn's users put it ------------------------------------------------


@pytest.mark.slow
def test_a_pipeline_is_searched_over():
    leaning = X @ np.linspace(-1, 1, N)
    labels = (leaning > np.median(leaning)).astype(int)
    nmf = jaxnmf.NMF(random_state=0, max_iter=1000)
    pipeline = make_pipeline(MinMaxScaler(clip=True), nmf, LogisticRegression())
    grid = {"nmf__n_components": [1, P], "nmf__alpha_W": [0.0, 0.01]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X, labels)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_params_["nmf__n_components"] == P
    assert search.best_score_ > 0.8
    assert search.predict(X).shape == (M,)
    names = search.best_estimator_[:-1].get_feature_names_out()
    assert list(names) == ["nmf0", "nmf1", "nmf2"]


def test_a_search_without_labels_by_the_error_of_held_out_rows():
    def score(model: jaxnmf.NMF, rows: np.ndarray, _: Any = None) -> float:
        return -float(
            np.linalg.norm(rows - model.inverse_transform(model.transform(rows)))
        )

    grid = {"n_components": [1, 2, 3]}
    search = GridSearchCV(NMF(), grid, cv=2, scoring=score, error_score="raise")
    assert search.fit(X).best_params_ == {"n_components": P}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, KL, {"solver": solvers.HALS(inner=2)}])
def test_a_pickle_transforms_alike(settings):
    model = NMF(**settings, alpha_W=0.01).fit(COUNTS)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.transform(COUNTS), model.transform(COUNTS))
    assert copy.reconstruction_err_ == model.reconstruction_err_
    assert copy.result_.status == model.result_.status


def test_clones_have_every_setting_and_no_fit():
    settings = {"init": START, "solver": solvers.HALS(inner=2), "alpha_W": 0.1}
    model = NMF(**settings, constraints=("box", "nonnegative")).fit(X / X.max())
    copy = clone(model)
    assert not hasattr(copy, "result_")
    assert copy.alpha_W == 0.1
    assert copy.solver.inner == 2
    np.testing.assert_array_equal(copy.fit(X / X.max()).components_, model.components_)
    assert set(copy.get_params()) == set(jaxnmf.NMF().get_params())
    assert copy.set_params(alpha_W=0.0, max_iter=7).get_params()["max_iter"] == 7


# --- Kinds of data --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, KL])
@pytest.mark.parametrize("form", [sp.csr_array, sp.csc_matrix, sp.coo_array])
def test_sparse_is_fitted_as_dense_is(form, settings):
    fixed = {"max_iter": 20, "tol": 0.0, **settings}
    if not settings:
        fixed["solver_options"] = {"inner": 1}  # else as many as suit the data's form
    sparse, dense = NMF(**fixed).fit(form(COUNTS)), NMF(**fixed).fit(COUNTS)
    np.testing.assert_allclose(X_of(sparse), X_of(dense), rtol=1e-3, atol=1e-4)
    assert sparse.reconstruction_err_ == pytest.approx(
        dense.reconstruction_err_, rel=1e-4
    )
    np.testing.assert_allclose(
        sparse.transform(form(COUNTS[:5])), dense.transform(COUNTS[:5]), atol=1e-2
    )


@pytest.mark.parametrize(
    "make", [np.asarray, pd.DataFrame, jnp.asarray, np.ndarray.tolist]
)
def test_any_form_of_the_same_numbers(make):
    data = make(COUNTS)
    single = COUNTS.astype(np.float32) if make is jnp.asarray else COUNTS
    expected, found = NMF(tol=1e-2).fit(single), NMF(tol=1e-2).fit(data)
    np.testing.assert_array_equal(found.components_, expected.components_)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"alpha_W": 0.1 / N, "alpha_H": 0.1 / M},
        {"alpha_W": 0.1 / N, "alpha_H": 0.1 / M, "toward": "mean"},
    ],
)
def test_nan_is_unknown(settings):
    known = np.random.default_rng(0).random(X.shape) < 0.8
    holes = np.where(known, X, np.nan)
    model = NMF(mask="nan", **settings).fit(holes)
    off = np.sqrt(np.mean((X_of(model) - X)[~known] ** 2))
    assert off < 0.5 * np.std(X[~known])
    assert model.reconstruction_err_ == pytest.approx(
        np.linalg.norm((X - X_of(model))[known]), rel=1e-4
    )
    W = model.transform(holes[:8])
    np.testing.assert_allclose(W, model.result_.W[:8], atol=2e-2 * W.max())
    assert np.isfinite(model.inverse_transform(W)).all()


def test_data_of_any_sign_are_for_solvers_that_take_them():
    signed = X - X.mean()
    model = NMF(solver="semi", tol=1e-4).fit(signed)
    assert model.components_.min() < 0 or model.result_.W.min() < 0
    assert model.transform(signed[:3]).shape == (3, P)


# --- What is refused, what is warned of -----------------------------------------------


@pytest.mark.parametrize(
    ("settings", "data", "words"),
    [
        ({"n_components": 0}, X, r"'n_components' parameter of NMF must be an int"),
        ({"n_components": 2.0}, X, r"'n_components' parameter.*Got 2\.0"),
        ({"random_state": -1}, X, r"'random_state' parameter of NMF must be an int"),
        ({"mask": X > 1}, X, r"mask is a ndarray; it must be 'nan'"),
        ({"mask": "known"}, X, r"mask='known'; it must be 'nan' or None"),
        ({"mask": "nan"}, sp.csr_array(X), r"mask='nan' needs a dense X"),
        ({"solver": "halls"}, X, r"did you mean 'hals'"),
        ({"beta_loss": "kl"}, X, r"solvers that do: .*mu"),
        ({"beta_loss": "kul"}, X, r"'kul' is not known"),
        ({"init": "nndsv"}, X, r"'init' parameter of NMF must be"),
        ({"init": START[:1]}, X, r"init has 1 entries; a pair"),
        ({"init": "nndsvd", "n_components": 16}, X, r"init = 'nndsvd' can only be"),
        ({"tol": -1.0}, X, r"'tol' parameter of NMF must be a float"),
        ({"toward": "mean"}, X, r"pass a mask"),
        ({"solver": "cd", "beta_loss": 1}, X, r"solver 'cd' does not handle"),
        ({"solver": "mu", "beta_loss": lambda v, x: x}, X, r"'mu' does not handle"),
        ({"solver": "mu", "mask": "nan"}, X, r"mask='nan' is for jaxnmf's own"),
        ({"solver": "cd", "constraints": "box"}, X, r"constraints='box' is for"),
        ({"solver": "cd", "solver_options": {"inner": 2}}, X, r"solver_options=.*for"),
        ({"solver": "mu", "beta_loss": 0}, COUNTS, r"beta_loss <= 0 and X contains z"),
        ({}, np.where(X > 1, X, np.nan), r"X holds NaN.*mask='nan'"),
        ({}, X - 1, r"Negative values in data passed to X in NMF"),
        ({"mask": "nan"}, np.where(X > 1, X - 2, np.nan), r"egative"),
        ({}, np.where(X > 1, X, np.inf), r"X contains infinity"),
        ({}, X[0], r"Expected 2D array"),
        ({}, jaxnmf.Observed([0], [0], [1.0], (2, 2)), r"X is jaxnmf\.Observed"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(settings, data, words):
    with pytest.raises(ValueError, match=words):
        NMF().set_params(**settings).fit(data)


def test_data_of_another_width_are_refused():
    model = NMF(tol=1e-2).fit(X)
    with pytest.raises(ValueError, match="14 features, but NMF is expecting 15"):
        model.transform(X[:, 1:])
    with pytest.raises(ValueError, match=r"X has shape \(40, 15\).*must be \(r, 3\)"):
        model.inverse_transform(X)


def test_nothing_goes_before_a_fit():
    for ask in (NMF().transform, NMF().inverse_transform):
        with pytest.raises(NotFittedError):
            ask(X)


def test_a_fit_that_did_not_converge_is_warned_of():
    with pytest.warns(
        ConvergenceWarning, match="Maximum number of iterations 3 reached"
    ):
        NMF(max_iter=3).fit(X)
    with warnings.catch_warnings(action="error"):
        NMF(max_iter=3, tol=0.0).fit(X)  # so many were asked for
    with pytest.warns(ConvergenceWarning, match="infinite or NaN"):
        NMF(solver="pgd", beta_loss=lambda v, x: jnp.nan * x).fit(X)


class Named(jaxnmf.NMF):
    """With a parameter of its own."""

    def __init__(self, n_components: int = P, *, words: Any = None, tol: float = 1e-4):
        super().__init__(n_components, tol=tol, random_state=0)
        self.words = words


def test_a_subclass_may_have_fewer_and_other_parameters():
    named = Named(words=["a"], tol=1e-2).fit(X)
    same = jaxnmf.NMF(P, tol=1e-2, random_state=0).fit(X)
    np.testing.assert_array_equal(named.components_, same.components_)
    assert clone(named).get_params() == {"n_components": P, "words": ["a"], "tol": 1e-2}


def test_a_transform_that_did_not_converge_is_warned_of(monkeypatch):
    model = NMF(**KL).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.transform(X)
    fold_in = jaxnmf.Result.fold_in
    monkeypatch.setattr(
        jaxnmf.Result, "fold_in", lambda *a, **k: fold_in(*a, **k, max_iter=3)
    )
    with pytest.warns(ConvergenceWarning, match="NMF.transform"):
        model.transform(X)


def test_the_name_is_there_before_it_is_imported():
    assert "NMF" in dir(jaxnmf)
    assert jaxnmf.NMF.__module__ == "jaxnmf.estimators.nmf"
    with pytest.raises(AttributeError, match="no attribute 'NFM'"):
        jaxnmf.NFM  # noqa: B018
