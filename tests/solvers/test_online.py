"""Batches of rows: against the full-batch solvers and scikit-learn's MiniBatchNMF."""

import numpy as np
import pytest
from sklearn.decomposition import MiniBatchNMF

import jaxnmf
from jaxnmf import datasets
from jaxnmf.solvers import OnlineHALS


@pytest.mark.parametrize(
    ("online", "full", "loss"),
    [
        ("hals-online", "hals", "frobenius"),
        ("mu-minibatch", "mu", "kl"),
        ("mu-minibatch", "mu", "beta"),
    ],
)
def test_one_batch_is_the_full_solver(rng, online, full, loss):
    V = rng.random((30, 20)) + 0.1
    common = {"loss": loss, "max_iter": 20, "tol": 0, "dtype": "float64"}
    one = jaxnmf.factorize(V, 4, solver=online, **common)
    all_at_once = jaxnmf.factorize(V, 4, solver=full, **common)
    np.testing.assert_allclose(one.W, all_at_once.W, rtol=1e-9)
    np.testing.assert_allclose(one.H, all_at_once.H, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "loss"), [("hals-online", "frobenius"), ("mu-minibatch", "kl")]
)
def test_epochs_are_worth_no_less_than_scikit_learns(shared_data, solver, loss):
    V = datasets.load("cbcl_faces").V.astype(np.float32)
    V = V if loss == "frobenius" else V + 1e-3
    W = np.random.default_rng(0).random((2429, 20))
    H = np.random.default_rng(1).random((20, 361))
    scale = np.sqrt(V.mean() / (W @ H).mean())
    W, H = (W * scale).astype(np.float32), (H * scale).astype(np.float32)
    epochs = 15
    peer = MiniBatchNMF(
        20,
        init="custom",
        batch_size=256,
        beta_loss="frobenius" if loss == "frobenius" else "kullback-leibler",
        max_iter=epochs,
        tol=0,
        max_no_improvement=None,
    )
    W_peer = peer.fit_transform(V, W=W.copy(), H=H.copy())
    X = W_peer.astype(np.float64) @ peer.components_
    if loss == "frobenius":
        expected = 0.5 * ((V - X) ** 2).sum()
    else:
        expected = (V * np.log(V / X) - V + X).sum()
    found = jaxnmf.factorize(
        V, 20, solver=solver, loss=loss, init=(W, H), max_iter=epochs, tol=0
    )
    assert found.objective <= 1.01 * expected


def test_batches_end_where_all_rows_at_once_do(rng):
    """With a batch that does not divide the rows."""
    V = rng.random((50, 4)) @ rng.random((4, 20)) + 0.1 * rng.random((50, 20))
    common = {"max_iter": 400, "tol": 0, "dtype": "float64"}
    online = jaxnmf.factorize(V, 4, solver=OnlineHALS(batch=16), **common)
    full = jaxnmf.factorize(V, 4, solver="hals", **common)
    assert online.objective <= 1.005 * full.objective
    assert online.kkt < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["frobenius", "kl", "own"])
def test_optax_by_batches_comes_near_the_full_answer(rng, loss):
    V = rng.random((50, 3)) @ rng.random((3, 20)) + 0.1 * rng.random((50, 20))
    given = (lambda v, x: (v - x) ** 2) if loss == "own" else loss
    common = {"loss": given, "tol": 0, "dtype": "float64"}
    # Four batches an epoch; a rate that falls, for the gradients are noisy.
    options = {
        "batch": 16,
        "learning_rate": 0.1,
        "schedule": "cosine_decay_schedule",
        "schedule_options": {"decay_steps": 4000},
    }
    found = jaxnmf.factorize(
        V, 3, solver="optax", solver_options=options, max_iter=1000, **common
    )
    best = jaxnmf.factorize(V, 3, solver="pgd", max_iter=3000, **common)
    assert found.objective < 1.05 * best.objective


def test_a_batch_is_refused_where_it_cannot_be(rng):
    with pytest.raises(ValueError, match=r"batch=5 with 'lbfgs'.*line search"):
        jaxnmf.factorize(
            rng.random((6, 5)),
            2,
            solver="optax",
            solver_options={"optimizer": "lbfgs", "batch": 5},
        )
    from scipy.sparse import csr_array

    with pytest.raises(ValueError, match=r"batch=5 draws rows of a dense V"):
        jaxnmf.factorize(
            csr_array(np.eye(6)), 2, solver="optax", solver_options={"batch": 5}
        )
    with pytest.raises(ValueError, match="batch=0 must be ≥ 1"):
        OnlineHALS(batch=0)
