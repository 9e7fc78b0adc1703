"""Coordinate descent and multiplicative updates, against scikit-learn's."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import decomposition

import jaxnmf
from jaxnmf.data.convert import as_operand
from jaxnmf.objective.losses import beta_divergence
from jaxnmf.objective.problem import Problem
from jaxnmf.run.plain import value
from jaxnmf.run.programs import precision
from jaxnmf.types import Factors

M, N, P = 30, 20, 4
_rng = np.random.default_rng(3)
X = _rng.gamma(1.0, size=(M, P)) @ _rng.gamma(1.0, size=(P, N))
X *= _rng.uniform(0.5, 1.5, (M, N))
COUNTS = _rng.poisson(0.5 * X).astype(float)
PENALTY: dict[str, Any] = {"alpha_W": 0.002, "alpha_H": 0.003, "l1_ratio": 0.3}
SQUARED: dict[str, Any] = {"alpha_W": 0.002, "alpha_H": 0.003}
TIGHT: dict[str, Any] = {"rtol": 1e-8, "atol": 1e-10}


def pair(**settings: Any) -> tuple[jaxnmf.NMF, decomposition.NMF]:
    """Our estimator and scikit-learn's."""
    settings = {"n_components": P, "random_state": 0, "max_iter": 60} | settings
    return jaxnmf.NMF(**settings), decomposition.NMF(**settings)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Maximum number of iterations")
@pytest.mark.parametrize(
    ("settings", "data"),
    [
        ({"solver": "cd"}, X),
        ({"solver": "cd", "init": "random", "shuffle": True}, X),
        ({"solver": "cd", "tol": 1e-2, **PENALTY}, X),
        ({"solver": "cd", **PENALTY}, sp.csr_array(COUNTS)),
        ({"solver": "cd"}, sp.csc_array(COUNTS)),
        ({"solver": "mu"}, X),
        ({"solver": "mu", "max_iter": 25, **PENALTY}, sp.csr_array(COUNTS)),
        ({"solver": "mu", "beta_loss": "kullback-leibler", "tol": 1e-2}, X),
        # With an L1 penalty scikit-learn 1.9 adds it to the denominator of W once more
        # in every iteration of a transform.
        ({"solver": "mu", "beta_loss": 1, **SQUARED}, sp.csr_array(COUNTS)),
        ({"solver": "mu", "beta_loss": "itakura-saito"}, X),
        ({"solver": "mu", "beta_loss": 0}, sp.csr_array(X)),
        ({"solver": "mu", "beta_loss": 0.5, **PENALTY}, X),
        ({"solver": "mu", "beta_loss": 1.5}, sp.csr_array(COUNTS)),
        ({"solver": "mu", "beta_loss": 3, **PENALTY}, X),
    ],
)
def test_fits_and_transforms_are_scikit_learns(settings, data):
    ours, theirs = pair(**settings)
    W, expected = ours.fit_transform(data), theirs.fit_transform(data)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(W, expected, **TIGHT)
    np.testing.assert_allclose(ours.components_, theirs.components_, **TIGHT)
    assert ours.reconstruction_err_ == pytest.approx(theirs.reconstruction_err_)
    rows = data[:7]
    np.testing.assert_allclose(ours.transform(rows), theirs.transform(rows), **TIGHT)


def test_a_stop_rule_is_met_where_scikit_learn_meets_it():
    for settings in ({"solver": "cd"}, {"solver": "mu", "beta_loss": 1}):
        ours, theirs = pair(max_iter=2000, tol=1e-3, **settings)
        assert ours.fit(X).n_iter_ == theirs.fit(X).n_iter_ < 2000


def test_float32_stays_and_the_scale_of_the_data_changes_nothing():
    for settings in ({"solver": "cd"}, {"solver": "mu", "beta_loss": 1}):
        single = X.astype(np.float32)
        ours, _ = pair(init="random", tol=1e-3, max_iter=1000, **settings)
        W, H = ours.fit_transform(single), ours.components_
        error, iterations = ours.reconstruction_err_, ours.n_iter_
        assert W.dtype == H.dtype == np.float32
        scale = np.float32(2.0**-100)
        scaled = ours.fit_transform(single * scale) @ ours.components_
        np.testing.assert_allclose(scaled / scale, W @ H, rtol=1e-4)
        assert ours.n_iter_ == iterations
        power = 1.0 if settings["solver"] == "cd" else 0.5
        assert ours.reconstruction_err_ == pytest.approx(
            error * float(scale) ** power, rel=1e-4
        )


def test_progress_is_printed(capsys):
    ours, theirs = pair(solver="cd", verbose=1, max_iter=500, tol=1e-2)
    said = []
    for model in (ours, theirs):
        model.fit(X)
        lines = capsys.readouterr().out.splitlines()
        said.append([float(x.split()[1]) for x in lines if x.startswith("violation")])
        assert lines[-1] == f"Converged at iteration {model.n_iter_ + 1}"
    np.testing.assert_allclose(*said, rtol=1e-6)
    quiet, _ = pair(solver="cd", max_iter=500, tol=1e-2)
    np.testing.assert_allclose(quiet.fit(X).components_, ours.components_, **TIGHT)
    ours, theirs = pair(solver="mu", beta_loss=1, verbose=1, max_iter=500)
    said = []
    for model in (ours, theirs):
        model.fit(X)
        lines = capsys.readouterr().out.splitlines()
        said.append([line.split()[1] + line.split(":")[-1] for line in lines])
    assert said[0] == said[1]


@pytest.mark.parametrize("beta", [0.5, 1.5, 3.0])
def test_the_zeros_of_sparse_data_count_for_every_divergence(beta, monkeypatch):
    monkeypatch.setattr("jaxnmf.run.plain.BLOCK", 7 * M)  # 2 blocks of 7, one of 6
    rng = np.random.default_rng(0)
    W, H = rng.random((M, P)), rng.random((P, N))
    x = W @ H
    zeros = x**beta / beta
    # The definition, whose terms do not cancel here.
    terms = COUNTS**beta + (beta - 1) * x**beta - beta * COUNTS * x ** (beta - 1)
    expected = np.where(COUNTS > 0, terms / (beta * (beta - 1)), zeros).sum()
    with precision("float64") as dtype:
        operand = as_operand(sp.csr_array(COUNTS), dtype)
        problem = Problem.of(operand, beta_divergence(beta))
        factors = Factors(jnp.asarray(W.T), jnp.asarray(H))
        assert value(problem, factors) == pytest.approx(expected, rel=1e-12)
