"""`jaxnmf.MiniBatchNMF`, against scikit-learn's."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import decomposition
from sklearn.utils.estimator_checks import parametrize_with_checks

import jaxnmf
from jaxnmf.run import programs

M, N, P = 50, 16, 3
_rng = np.random.default_rng(8)
X = _rng.gamma(1.0, size=(M, P)) @ _rng.gamma(1.0, size=(P, N))
X *= _rng.uniform(0.5, 1.5, (M, N))
COUNTS = _rng.poisson(0.5 * X).astype(float)
TIGHT: dict[str, Any] = {"rtol": 1e-8, "atol": 1e-10}


def pair(**settings: Any) -> tuple[jaxnmf.MiniBatchNMF, decomposition.MiniBatchNMF]:
    """Our estimator and scikit-learn's."""
    usual = {"n_components": P, "batch_size": 20, "random_state": 0, "max_iter": 20}
    settings = usual | settings
    return jaxnmf.MiniBatchNMF(**settings), decomposition.MiniBatchNMF(**settings)


# Bare, it fails three checks as scikit-learn's own does: W of a fit is that of
# `transform` with fresh restarts alone.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [jaxnmf.MiniBatchNMF(batch_size=20, fresh_restarts=True, max_iter=20)]
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Maximum number of iterations")
@pytest.mark.parametrize(
    ("settings", "data"),
    [
        ({}, X),
        ({"alpha_W": 0.01, "l1_ratio": 0.3, "max_no_improvement": None}, X),
        ({"beta_loss": "kullback-leibler", "forget_factor": 0.5}, X),
        ({"beta_loss": 1}, sp.csr_array(COUNTS)),
        ({"beta_loss": 0, "fresh_restarts": True, "fresh_restarts_max_iter": 9}, X),
        ({"beta_loss": 2.5, "transform_max_iter": 7}, X),
        ({"beta_loss": 1.5}, sp.csr_array(COUNTS)),
    ],
)
def test_fits_and_transforms_are_scikit_learns(settings, data):
    ours, theirs = pair(**settings)
    W, expected = ours.fit_transform(data), theirs.fit_transform(data)
    assert (ours.n_iter_, ours.n_steps_) == (theirs.n_iter_, theirs.n_steps_)
    np.testing.assert_allclose(W, expected, **TIGHT)
    np.testing.assert_allclose(ours.components_, theirs.components_, **TIGHT)
    assert ours.reconstruction_err_ == pytest.approx(theirs.reconstruction_err_)
    rows = data[:20]
    np.testing.assert_allclose(ours.transform(rows), theirs.transform(rows), **TIGHT)


def test_parts_of_a_stream_are_fitted_as_scikit_learn_does():
    ours, theirs = pair(beta_loss=1)
    for start in (0, 20, 10, 30, 0):
        for model in (ours, theirs):
            model.partial_fit(X[start : start + 20])
    assert ours.n_steps_ == theirs.n_steps_ == 5
    np.testing.assert_allclose(ours.components_, theirs.components_, **TIGHT)


def test_batches_of_sparse_data_share_programs():
    rng = np.random.default_rng(1)
    data = sp.random_array((400, 30), density=0.2, rng=rng, format="csr")
    sizes = {data[i : i + 40].nnz for i in range(0, 400, 40)}
    assert len(sizes) > 5
    model, _ = pair(beta_loss=1, batch_size=40, max_iter=1, tol=0)
    before = set(programs._programs)
    model.fit(data)
    assert len(set(programs._programs) - before) <= 3


def test_float32_stays():
    model, _ = pair(max_iter=2, tol=0)
    W = model.fit_transform(X.astype(np.float32))
    assert W.dtype == model.components_.dtype == np.float32
    assert model.transform(X.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("settings", "data", "words"),
    [
        ({}, -X, "Negative values in data passed to MiniBatchNMF"),
        ({"batch_size": 0}, X, "'batch_size' parameter of MiniBatchNMF must be"),
        ({"beta_loss": 0}, COUNTS, "beta_loss <= 0 and X contains zeros"),
    ],
)
def test_what_does_not_fit_is_refused(settings, data, words):
    model, _ = pair(**settings)
    with pytest.raises(ValueError, match=words):
        model.fit(data)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Maximum number of iterations")
@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
@pytest.mark.parametrize("data", [X, sp.csr_array(COUNTS)], ids=["dense", "sparse"])
def test_blocks_are_its_batches(data: Any, loss: str) -> None:
    settings = {"init": "random", "beta_loss": loss, "max_iter": 5}
    _, theirs = pair(**settings)
    ours, _ = pair(**settings, batch_size=7)
    blocks = jaxnmf.Blocks(data, rows=20)
    W = ours.fit_transform(blocks)
    np.testing.assert_allclose(W, theirs.fit_transform(data), **TIGHT)
    np.testing.assert_allclose(ours.components_, theirs.components_, **TIGHT)
    error = theirs.reconstruction_err_
    np.testing.assert_allclose(ours.reconstruction_err_, error, 1e-8)
    assert (ours.n_iter_, ours.n_steps_) == (theirs.n_iter_, theirs.n_steps_)
    expected = np.concatenate([theirs.transform(data[a : a + 20]) for a in (0, 20, 40)])
    np.testing.assert_allclose(ours.transform(blocks), expected, 1e-6, 1e-8)


def test_partial_fit_of_blocks_is_one_of_each() -> None:
    ours, theirs = pair(init="random")
    for a in (0, 20, 40):
        theirs.partial_fit(X[a : a + 20])
    ours.partial_fit(jaxnmf.Blocks(X, rows=20))
    np.testing.assert_allclose(ours.components_, theirs.components_, **TIGHT)


@pytest.mark.parametrize(
    ("data", "settings", "words"),
    [
        (X, {"init": "nndsvd"}, "init='nndsvd' needs X in memory"),
        (-X, {}, "holds negative entries"),
    ],
)
def test_blocks_that_do_not_fit(data: Any, settings: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pair(**settings)[0].fit(jaxnmf.Blocks(data, rows=20))
