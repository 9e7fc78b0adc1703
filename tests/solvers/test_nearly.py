"""Data with noise below zero: the updates of the paper in NumPy, and the truth."""

import numpy as np
import pytest
import scipy.optimize

import jaxnmf

M, N, P = 60, 40, 3


def noisy(seed: int = 0):
    """(truth, V, weights): smooth spectra under noise that differs by column."""
    rng = np.random.default_rng(seed)
    x = np.arange(N)
    centres, widths = rng.uniform(5, N - 5, (P, 2, 1)), rng.uniform(1.5, 4, (P, 2, 1))
    H = np.exp(-0.5 * ((x - centres) / widths) ** 2).sum(1)
    truth = rng.gamma(1.0, size=(M, P)) @ H
    sigma = rng.uniform(0.3, 1.2, (1, N)) * np.ones((M, 1))
    weights = 1 / sigma**2
    V = truth + sigma * rng.standard_normal((M, N))
    return truth, V, weights / weights.mean()


TRUTH, V, WEIGHTS = noisy()
START = np.random.default_rng(1).random((M, P)), np.random.default_rng(2).random((P, N))


def by_the_paper(V, weights, W, H, steps: int, shift: bool):
    """The updates of Green & Bailey, as they are written."""
    s = max(-V.min(), 0) if shift else 0.0

    def ratio(left, v, w, x):
        cross = left @ (w * (v + s))
        minus, plus = np.maximum(cross, 0), np.maximum(-cross, 0)
        plus += left @ (w * (x + s))
        # What is 0 stays 0.
        return np.divide(minus, plus, out=np.ones_like(plus), where=plus > 0)

    for _ in range(steps):
        H = H * ratio(W.T, V, weights, W @ H)
        W = W * ratio(H, V.T, weights.T, (W @ H).T).T
    return W, H


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
def test_the_updates_are_those_of_the_paper(weights, shift):
    found = jaxnmf.factorize(
        V,
        P,
        solver="nearly",
        solver_options={"shift": shift, "inner": 1, "floor": 0.0},
        mask=weights,
        init=START,
        max_iter=30,
        tol=0,
        dtype="float64",
    )
    own = np.ones(V.shape) if weights is None else weights
    for X, expected in zip(
        (found.W, found.H), by_the_paper(V, own, *START, 30, shift), strict=True
    ):
        np.testing.assert_allclose(X, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
def test_no_iteration_raises_the_objective(weights, shift):
    found = jaxnmf.factorize(
        V,
        P,
        solver="nearly",
        solver_options={"shift": shift},
        mask=weights,
        l1=0.1,
        l2=(0.2, 0.1),
        max_iter=200,
        tol=0,
        record_every=1,
        dtype="float64",
    )
    objective = found.trace.objective
    assert np.diff(objective).max() <= 1e-13 * objective[0]
    assert min(found.W.min(), found.H.min()) >= 0
    residual = (
        0.5 * ((1 if weights is None else weights) * found.residual(V) ** 2).sum()
    )
    penalty = 0.1 * (found.W.sum() + found.H.sum())
    penalty += 0.1 * (found.W**2).sum() + 0.05 * (found.H**2).sum()
    assert found.objective == pytest.approx(residual + penalty, rel=1e-10)


def test_the_truth_is_nearer_than_by_clipping_or_leaving_out():
    def error(V, solver, mask):
        found = jaxnmf.factorize(V, P, solver=solver, mask=mask, max_iter=300, tol=0)
        return np.linalg.norm(found.W @ found.H - TRUTH) / np.linalg.norm(TRUTH)

    clipped = np.maximum(V, 0)
    nearly = error(V, "nearly", WEIGHTS)
    assert (V < 0).mean() > 0.15
    assert nearly < 0.9 * error(clipped, "mu", WEIGHTS)
    assert nearly < 0.6 * error(clipped, "mu", WEIGHTS * (V > 0))


def test_new_rows_below_zero_are_those_of_least_squares():
    found = jaxnmf.factorize(V, P, solver="nearly", max_iter=50)
    new = noisy(3)[1][:5]
    assert new.min() < 0
    expected = [scipy.optimize.nnls(found.H.T.astype(float), v)[0] for v in new]
    np.testing.assert_allclose(found.transform(new), expected, atol=1e-4)
    with pytest.raises(ValueError, match="negative entries"):
        jaxnmf.factorize(V, P, solver="mu")
