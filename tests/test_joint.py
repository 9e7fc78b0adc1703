"""Joint NMF of several views, against SciPy's bounded minimisation and nnls."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import minimize, nnls
from sklearn.exceptions import ConvergenceWarning

import jaxnmf

M, WIDTHS, P = 14, [10, 4], 3
RNG = np.random.default_rng(0)
W = RNG.gamma(0.6, size=(M, P))
VIEWS = [W @ RNG.gamma(0.6, size=(P, n)) + 0.05 * RNG.random((M, n)) for n in WIDTHS]
VIEWS[1] *= 30
WEIGHTS = [1.0, 0.002]
BETAS = {"frobenius": 2, "kl": 1}
LONG = {"max_iter": 3000, "tol": 0, "kkt_tol": 1e-8, "dtype": "float64"}


def of_entries(loss, V, X):
    """φ(v, x) and its slope in x."""
    if loss == "kl":
        return V * np.log(V / X) - V + X, 1 - V / X
    if loss == "is":
        return V / X - np.log(V / X) - 1, 1 / X - V / X**2
    return (V - X) ** 2 / 2, X - V


def joint_objective(losses, values, l2=0.0):
    """Σ_k ω_k D_k(V_k | W H_k) and its gradient, in NumPy."""
    losses = [losses] * 2 if isinstance(losses, str) else losses
    A, total, slopes = values[: M * P].reshape(M, P), 0.0, []
    of_A, start = l2 * A, M * P
    for V, weight, loss in zip(VIEWS, WEIGHTS, losses, strict=True):
        B = values[start : start + P * V.shape[1]].reshape(P, -1)
        start += B.size
        X = A @ B
        fit, slope = of_entries(loss, V, X)
        fit, slope = fit.sum(), weight * slope
        total += weight * fit + 0.5 * l2 * (B**2).sum()
        of_A = of_A + slope @ B.T
        slopes.append((A.T @ slope + l2 * B).ravel())
    total += 0.5 * l2 * (A**2).sum()
    return total, np.concatenate([of_A.ravel(), *slopes])


@pytest.mark.parametrize(("loss", "l2"), [("frobenius", 0.01), ("kl", 0.0)])
def test_the_weighted_sum_is_what_is_minimised(loss, l2):
    # With a penalty the weight is one of each entry, else a scale of the view.
    views = jaxnmf.Views(VIEWS, weights=WEIGHTS)
    found = jaxnmf.factorize(views, P, loss=loss, l2=l2, **LONG)
    assert [H.shape for H in found.view_H] == [(P, n) for n in WIDTHS]
    x = np.concatenate([found.W.ravel(), *(H.ravel() for H in found.view_H)])
    assert found.objective == pytest.approx(joint_objective(loss, x, l2)[0], rel=1e-9)
    best = minimize(
        lambda y: joint_objective(loss, y, l2),
        np.maximum(x, 1e-12),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1e-12, None)] * len(x),
    )
    assert best.fun >= found.objective * (1 - 1e-5)

    for U, V, H in zip(found.residual(views), VIEWS, found.view_H, strict=True):
        np.testing.assert_allclose(U, V - found.W @ H, 0, 1e-12 * V.max())
    assert found.predict(0, 11) == pytest.approx(found.W[0] @ found.view_H[1][:, 1])


def polished(function, x):
    """The value of a local minimum from x > 0, by SciPy."""
    low = [(1e-12, None)] * len(x)
    start = np.maximum(x, 1e-12)
    return minimize(function, start, jac=True, method="L-BFGS-B", bounds=low).fun


@pytest.mark.parametrize(
    ("losses", "solver", "l2"),
    [
        (("kl", "frobenius"), "auto", 0.01),
        (("is", "kl"), "mu", 0.0),
        (("kl", "frobenius"), "pgd-lin", 0.0),
    ],
)
def test_each_view_has_a_loss_of_its_own(losses, solver, l2):
    views = jaxnmf.Views(VIEWS, weights=WEIGHTS)
    found = jaxnmf.factorize(
        views=views, rank=P, loss=losses, solver=solver, l2=l2, **LONG
    )
    x = np.concatenate([found.W.ravel(), *(H.ravel() for H in found.view_H)])
    assert found.objective == pytest.approx(joint_objective(losses, x, l2)[0], rel=1e-9)
    best = polished(lambda y: joint_objective(losses, y, l2), x)
    assert best >= found.objective * (1 - 1e-3)
    pairs = zip(VIEWS, found.view_H, strict=True)
    errors = [np.linalg.norm(V - found.W @ H) / np.linalg.norm(V) for V, H in pairs]
    error = np.sqrt(np.mean(np.square(errors)))
    assert found.relative_error == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize("losses", ["frobenius", ("kl", "frobenius")])
def test_a_given_start_is_that_of_the_views(losses):
    start = W + 0.1, RNG.random((P, sum(WIDTHS)))
    found = jaxnmf.factorize(
        jaxnmf.Views(VIEWS, weights=WEIGHTS),
        P,
        loss=losses,
        init=start,
        solver="mu",
        **{**LONG, "max_iter": 1},
    )
    parts = np.split(start[1], [WIDTHS[0]], axis=1)
    x = np.concatenate([X.ravel() for X in (start[0], *parts)])
    expected = joint_objective(losses, x)[0]
    assert found.trace.objective[0] == pytest.approx(expected, rel=1e-9)


def test_a_multiplicative_update_by_several_losses_is_monotone():
    # With the exponent 1 of each loss alone W would go beyond where both are less.
    V1, V2 = np.array([[4.0]]), np.array([[1e-6]])
    held = np.array([[0.01, 1.0]])
    found = jaxnmf.factorize(
        jaxnmf.Views([V1, V2]),
        1,
        loss=("kl", "frobenius"),
        solver="mu",
        init=(np.ones((1, 1)), held),
        known_H=held,
        tol=0,
        max_iter=20,
        record_every=1,
        dtype="float64",
    )
    assert (np.diff(found.trace.objective) <= 0).all()
    w = found.W[0, 0]  # 4/w = 0.01 + w
    assert w == pytest.approx((np.sqrt(0.01**2 + 16) - 0.01) / 2, rel=1e-3)


def test_new_rows_have_the_losses_of_their_views(tmp_path):
    losses = ("kl", "frobenius")
    views = jaxnmf.Views(VIEWS, weights=WEIGHTS)
    found = jaxnmf.factorize(views, P, loss=losses, dtype="float64")
    new = [V[2:5] * 1.1 for V in VIEWS]

    def objective(values, there):
        A = values.reshape(3, P)
        total, slope = 0.0, np.zeros_like(A)
        for k in there:
            fit, slopes = of_entries(losses[k], new[k], A @ found.view_H[k])
            total += WEIGHTS[k] * fit.sum()
            slope += WEIGHTS[k] * slopes @ found.view_H[k].T
        return total, slope.ravel()

    for there in ([0, 1], [0], [1]):
        given = jaxnmf.Views([new[k] if k in there else None for k in (0, 1)])
        folded = found.fold_in(given)
        value, _ = objective(folded.W.ravel(), there)
        assert folded.objective == pytest.approx(value, rel=1e-9)
        best = polished(lambda x, there=there: objective(x, there), folded.W.ravel())
        assert best >= value * (1 - 1e-3)
        np.testing.assert_array_equal(folded.H, found.H)
    again = jaxnmf.load(found.save(tmp_path / "a.npz"))
    for kept in (again, pickle.loads(pickle.dumps(found))):
        np.testing.assert_array_equal(kept.transform(given), folded.W)


def test_views_of_several_kinds_have_losses_of_their_own():
    counts = np.random.default_rng(1).poisson(W @ np.ones((P, 10)))
    hidden = np.zeros(VIEWS[1].shape, bool)
    hidden[:3] = True  # rows that one of the views does not have
    masked = np.ma.masked_array(VIEWS[1], hidden)
    rows, cols = np.nonzero(~hidden)
    entries = jaxnmf.Observed(rows, cols, VIEWS[1][~hidden], hidden.shape)
    given = {"loss": ("kl", "frobenius"), "dtype": "float64", "max_iter": 50}
    kinds = ([counts, masked], [sp.csr_array(counts), entries])
    dense, sparse = (jaxnmf.factorize(jaxnmf.Views(v), P, **given) for v in kinds)
    np.testing.assert_allclose(sparse.W, dense.W, 1e-6, 1e-9)
    assert sparse.objective == pytest.approx(dense.objective, rel=1e-9)
    assert sparse.relative_error == pytest.approx(dense.relative_error, rel=1e-9)
    H = dense.view_H
    X = dense.W @ H[0]
    log = np.log(np.where(counts > 0, counts / X, 1))
    value = (counts * log - counts + X).sum()
    value += ((VIEWS[1] - dense.W @ H[1])[3:] ** 2).sum() / 2
    assert dense.objective == pytest.approx(value, rel=1e-9)


def test_lanes_have_a_loss_for_each_view(tmp_path):
    given = {"loss": ("kl", "frobenius"), "max_iter": 30}
    views = jaxnmf.Views(VIEWS, weights=WEIGHTS)
    kept = {"folder": tmp_path / "lanes"}
    lanes = jaxnmf.sweep(views=views, ranks=[2, P], seeds=2, **given, **kept)
    alone = jaxnmf.factorize(views, P, seed=1, init="random", **given)
    assert lanes.result(3).objective == pytest.approx(alone.objective, rel=1e-4)
    assert [H.shape for H in lanes.best(2).view_H] == [(2, n) for n in WIDTHS]
    # The numbers of a view are of no consequence, its weight being that of its loss.
    far = [VIEWS[0] * 2.0**70, VIEWS[1] * 2.0**-60]
    far = jaxnmf.Views(far, weights=[2.0**-70, WEIGHTS[1] * 2.0**120])
    same = jaxnmf.factorize(far, P, seed=1, init="random", **given)
    np.testing.assert_array_equal(same.W, alone.W)
    assert same.objective == alone.objective
    with pytest.raises(ValueError, match="contains a sweep with another"):
        jaxnmf.sweep(views=VIEWS, ranks=[2, P], seeds=2, **given, **kept)


@pytest.mark.slow
def test_new_rows_weigh_the_views_alike(tmp_path):
    found = jaxnmf.factorize(
        jaxnmf.Views(VIEWS, weights=WEIGHTS), P, dtype="float64", batch=["a", "b"] * 7
    )
    found = jaxnmf.load(found.save(tmp_path / "a.npz"))
    new = [V[2:5] for V in VIEWS]
    given = found.transform(jaxnmf.Views(new), batch=["a", "b", "a"])
    scale = np.sqrt(np.repeat(WEIGHTS, WIDTHS))
    effects = found.covariates.H[[0, 1, 0]]
    left = (np.hstack(new) - effects) * scale
    expected = [nnls((found.H * scale).T, v)[0] for v in left]
    np.testing.assert_allclose(given, expected, 0, 1e-6 * np.max(expected))
    # Of rows that a view does not have, the other says all.
    given = found.transform(jaxnmf.Views([new[0], None]), batch=["a", "b", "a"])
    H = found.view_H[0].T
    expected = [nnls(H, v)[0] for v in new[0] - effects[:, : WIDTHS[0]]]
    np.testing.assert_allclose(given, expected, 0, 1e-6 * np.max(expected))
    with pytest.raises(ValueError, match=r"views of \[4\] columns; those of this"):
        found.transform(jaxnmf.Views(new[1:]), batch=["a", "b", "a"])
    with pytest.raises(ValueError, match="ndarray; this result is of jaxnmf"):
        found.transform(np.hstack(new), batch=["a", "b", "a"])
    with pytest.raises(ValueError, match="this result is of 14 rows and"):
        found.residual(jaxnmf.Views(new))


@pytest.mark.slow
def test_sparse_views_and_unknown_entries():
    given = {"init": "random", "solver": "hals"}
    dense = jaxnmf.factorize(jaxnmf.Views(VIEWS), P, **given)
    some = [sp.csr_array(VIEWS[0]), VIEWS[1]]
    sparse = jaxnmf.factorize(jaxnmf.Views(some), P, **given)
    assert sparse.relative_error == pytest.approx(dense.relative_error, rel=1e-3)

    hidden = np.zeros(VIEWS[1].shape, bool)
    hidden[:3] = True  # rows that one of the views does not have
    masked = np.ma.masked_array(VIEWS[1], hidden)
    views = jaxnmf.Views([VIEWS[0], masked])
    found = jaxnmf.factorize(views, P, **given)
    residual = found.residual(views)[1]
    np.testing.assert_array_equal(residual.mask, hidden)
    other = jaxnmf.Views([VIEWS[0], np.ma.masked_array(VIEWS[1] + hidden, hidden)])
    np.testing.assert_array_equal(jaxnmf.factorize(other, P, **given).W, found.W)
    # By entries: the same to rounding.
    rows, cols = np.nonzero(~hidden)
    entries = jaxnmf.Observed(rows, cols, VIEWS[1][~hidden], hidden.shape)
    same = jaxnmf.factorize(jaxnmf.Views([VIEWS[0], entries]), P, **given)
    assert same.objective == pytest.approx(found.objective, rel=1e-3)


def test_lanes_are_runs_of_their_own():
    pd = pytest.importorskip("pandas")
    frames = [pd.DataFrame(V).add_prefix(f"v{k}.") for k, V in enumerate(VIEWS)]
    views = jaxnmf.Views(frames, weights=WEIGHTS)
    lanes = jaxnmf.sweep(views, [2, P], 2, solver="hals")
    alone = jaxnmf.factorize(views, P, seed=1, solver="hals", init="random")
    result = lanes.result(3)
    assert result.objective == pytest.approx(alone.objective, rel=1e-5)
    for H, other in zip(result.view_H, alone.view_H, strict=True):
        np.testing.assert_allclose(H, other, 0, 1e-3 * other.max())
    names = [f"v{k}.{j}" for k, n in enumerate(WIDTHS) for j in range(n)]
    for one in (result, alone):
        np.testing.assert_array_equal(one.column_names, names)


@pytest.mark.parametrize(
    ("views", "given", "message"),
    [
        ([VIEWS[0], VIEWS[1][:4]], {}, "views have 14, 4 rows; all must"),
        ([], {}, "views: list is not a list of at least one matrix"),
        (VIEWS[0], {}, "views: ndarray is not a list"),
        ([VIEWS[0], VIEWS[1][0]], {}, r"views\[1\]: V has 1 dimension"),
        ([jaxnmf.Blocks(VIEWS[0])], {}, r"views\[0\] is Blocks"),
        (VIEWS, {"weights": [1.0]}, "weights: 1 for 2 views"),
        (VIEWS, {"weights": [1.0, -1.0]}, r"weights\[1\]=-1.0 must be a finite"),
        (VIEWS, {"weights": [1.0, 0.0]}, r"weights\[1\]=0; leave the view out"),
    ],
)
def test_views_that_do_not_fit_are_refused(views, given, message):
    with pytest.raises(ValueError, match=message):
        jaxnmf.Views(views, **given)


@pytest.mark.parametrize(
    ("views", "given", "message"),
    [
        (VIEWS, {"mask": "nan"}, "mask: views say themselves what is known"),
        ([sp.csr_array(VIEWS[0]), VIEWS[1]], {"l2": 1}, "weights: a view is sparse"),
        (
            VIEWS,
            {"loss": "huber", "solver": "hals"},
            "'hals' does not support the loss",
        ),
        ([-VIEWS[0], VIEWS[1]], {}, "V contains negative|negative entries"),
    ],
)
def test_what_does_not_fit_is_refused(views, given, message, monkeypatch):
    monkeypatch.setattr("jaxnmf.run.programs.compiled", None)
    with pytest.raises(ValueError, match=message):
        jaxnmf.factorize(jaxnmf.Views(views, weights=[2, 1]), P, **given)


@pytest.mark.parametrize(
    ("views", "given", "message"),
    [
        (
            VIEWS,
            {"solver": "hals"},
            r"support the loss 'kullback-leibler\+fro",
        ),
        (VIEWS, {"solver": "kl-newton"}, "solvers that do: mu, mu-extrapolated, optax"),
        (VIEWS, {"loss": ["kl"] * 3}, "loss: 3 losses for 2 views; give one for each"),
        (VIEWS, {"loss": []}, r"loss_options=None with a loss for each of 0 views"),
        (VIEWS, {"loss_options": {"delta": 1}}, "give a mapping or None for each"),
        (VIEWS, {"loss": ("kl", "wrong")}, "wrong"),
        (VIEWS, {"mesh": "rows"}, "mesh: not supported with a loss for each view"),
        (VIEWS, {"offsets": True}, "offsets: not supported with a loss for each"),
        (VIEWS, {"mask": "nan"}, "mask: views say themselves"),
        (
            VIEWS,
            {"solver": "optax", "solver_options": {"batch": 4}},
            "batch=4 is for one loss",
        ),
        (
            [VIEWS[0], sp.csr_array(VIEWS[1])],
            {"loss": ("kl", "huber")},
            r"views\[1\]: loss 'huber' needs every entry",
        ),
        (
            [VIEWS[0], 0 * VIEWS[1]],
            {"loss": ("kl", "is")},
            r"views\[1\]: V holds zeros, where the loss 'itakura-saito'",
        ),
        ([VIEWS[0], -VIEWS[1]], {}, r"views\[1\]: V of shape .* negative"),
    ],
)
def test_losses_that_do_not_fit_their_views_are_refused(
    views, given, message, monkeypatch
):
    monkeypatch.setattr("jaxnmf.run.programs.compiled", None)
    with pytest.raises(ValueError, match=message):
        jaxnmf.factorize(views=views, rank=P, **{"loss": ("kl", "frobenius"), **given})


def test_v_or_views_is_given():
    for given in ({}, {"V": VIEWS[0], "views": VIEWS}):
        with pytest.raises(ValueError, match=r"V and views: .* given; give V, or"):
            jaxnmf.factorize(rank=P, **given)
        with pytest.raises(ValueError, match=r"V and views: .* given; give V, or"):
            jaxnmf.sweep(ranks=[P], seeds=1, **given)
    for call in (
        lambda loss: jaxnmf.factorize(VIEWS[0], P, loss=loss),
        lambda loss: jaxnmf.fit_W(VIEWS[0], VIEWS[0], loss=loss),
        lambda loss: jaxnmf.select_rank(VIEWS[0], [2], loss=loss),
    ):
        with pytest.raises(ValueError, match="loss: 2 losses, one for each view, and"):
            call(("kl", "frobenius"))


@pytest.mark.parametrize(
    "loss",
    [("kl", "frobenius"), pytest.param("frobenius", marks=pytest.mark.slow)],
)
def test_an_estimator_of_views(loss):
    views = jaxnmf.Views(VIEWS, weights=WEIGHTS)
    model = jaxnmf.NMF(P, beta_loss=loss, random_state=1, tol=1e-3)
    made = model.fit_transform(views)
    alone = jaxnmf.factorize(views, P, loss=loss, seed=1, tol=1e-3, dtype="float64")
    np.testing.assert_array_equal(model.components_, alone.H)
    np.testing.assert_array_equal(made, alone.W)
    error = model.reconstruction_err_
    error = error if isinstance(loss, tuple) else error**2 / 2
    assert error == pytest.approx(alone.objective, rel=1e-9)
    assert model.n_features_in_ == sum(WIDTHS)
    new = jaxnmf.Views([VIEWS[0][:3], None])
    np.testing.assert_array_equal(model.transform(new), alone.transform(new))


def test_an_estimator_of_views_that_diverges_warns():
    far = {"optimizer": "sgd", "learning_rate": 1e30}
    model = jaxnmf.NMF(P, solver="optax", init="random", solver_options=far)
    with pytest.warns(ConvergenceWarning, match="became infinite or NaN"):
        model.fit(jaxnmf.Views(VIEWS))


def test_an_estimator_of_views_says_what_does_not_fit():
    views = jaxnmf.Views(VIEWS)
    for solver in ("cd", "mu"):
        with pytest.raises(ValueError, match=f"Views, which solver='{solver}' does"):
            jaxnmf.NMF(P, solver=solver).fit(views)
    model = jaxnmf.NMF(P)
    model.components_ = np.ones((P, 14))
    with pytest.raises(ValueError, match="estimator was not fitted to views"):
        model.transform(views)


def test_what_is_for_one_matrix_says_so():
    views = jaxnmf.Views(VIEWS)
    for call in (lambda V: jaxnmf.select_rank(V, [2]), jaxnmf.MiniBatchNMF(2).fit):
        with pytest.raises(ValueError, match="Views are for factorize, sweep, NMF"):
            call(views)
    with pytest.raises(ValueError, match=r"views\[1\] is None"):
        jaxnmf.factorize(jaxnmf.Views([VIEWS[0], None]), P)
    with pytest.raises(ValueError, match="every one is None"):
        jaxnmf.Views([None])
