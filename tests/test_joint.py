"""Joint NMF of several views, against SciPy's bounded minimisation and nnls."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import minimize, nnls

import jaxnmf

M, WIDTHS, P = 14, [10, 4], 3
RNG = np.random.default_rng(0)
W = RNG.gamma(0.6, size=(M, P))
VIEWS = [W @ RNG.gamma(0.6, size=(P, n)) + 0.05 * RNG.random((M, n)) for n in WIDTHS]
VIEWS[1] *= 30
WEIGHTS = [1.0, 0.002]
BETAS = {"frobenius": 2, "kl": 1}
LONG = {"max_iter": 3000, "tol": 0, "kkt_tol": 1e-8, "dtype": "float64"}


def joint_objective(loss, values, l2=0.0):
    """Σ_k ω_k D(V_k | W H_k) and its gradient, in NumPy."""
    A, total, slopes = values[: M * P].reshape(M, P), 0.0, []
    of_A, start = l2 * A, M * P
    for V, weight in zip(VIEWS, WEIGHTS, strict=True):
        B = values[start : start + P * V.shape[1]].reshape(P, -1)
        start += B.size
        X = A @ B
        if loss == "kl":
            fit, slope = (V * np.log(V / X) - V + X).sum(), weight * (1 - V / X)
        else:
            fit, slope = ((V - X) ** 2).sum() / 2, weight * (X - V)
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


def test_what_is_for_one_matrix_says_so():
    views = jaxnmf.Views(VIEWS)
    for call in (lambda V: jaxnmf.select_rank(V, [2]), jaxnmf.NMF(2).fit):
        with pytest.raises(ValueError, match="Views are for factorize, sweep"):
            call(views)
    with pytest.raises(ValueError, match=r"views\[1\] is None"):
        jaxnmf.factorize(jaxnmf.Views([VIEWS[0], None]), P)
    with pytest.raises(ValueError, match="every one is None"):
        jaxnmf.Views([None])
