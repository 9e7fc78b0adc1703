"""Kullback-Leibler solvers against float64 NumPy and against published results."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import jaxnmf
from jaxnmf import datasets, metrics
from jaxnmf.api import precision
from jaxnmf.matrix import as_matrix
from jaxnmf.problem import Problem
from jaxnmf.registry import make_loss
from jaxnmf.solvers.kl import coordinate_pass, damped_newton, newton


@pytest.fixture
def start(rng):
    V = rng.poisson(3 * rng.random((14, 3)) @ rng.random((3, 11)) + 0.5).astype(float)
    return V, rng.random((3, 14)) + 0.1, rng.random((3, 11)) + 0.1


def one_pass(V, Wt, H, damped):
    """Hsieh & Dhillon's pass, and Hien & Gillis's damping, entry by entry."""
    H = H.copy()
    for j in range(H.shape[1]):
        v = V[:, j]
        theta = 1 / np.sqrt(v[v > 0].min()) if (v > 0).any() else 0.0
        for k in range(H.shape[0]):
            w, x = Wt[k], Wt.T @ H[:, j]
            g, c = (w * (1 - v / x)).sum(), (w * w * v / x**2).sum()
            if c == 0:
                H[k, j] = 0 if g > 0 else H[k, j]
                continue
            d = max(0, H[k, j] - g / c) - H[k, j]
            decrement = theta * np.sqrt(c) * abs(d)
            if damped and g > 0 and decrement > 0.683802:
                d = d / (1 + decrement)
            H[k, j] += d
    return H


@pytest.mark.parametrize("side", ["H", "W"])
@pytest.mark.parametrize("block", [None, 2], ids=["whole", "blocks"])
@pytest.mark.parametrize("damped", [False, True], ids=["newton", "damped"])
def test_a_pass_is_that_of_the_papers(start, damped, block, side):
    V, Wt, H = start
    scalar = damped_newton if damped else newton
    with precision("float64") as dtype:
        matrix = as_matrix(V, dtype)
        if block is not None:
            matrix = dataclasses.replace(matrix, block=block)
        problem = Problem.of(matrix, make_loss("kl"))
        fixed, free = jnp.asarray(Wt), jnp.asarray(H)
        if side == "H":
            found = coordinate_pass(problem, fixed, free, scalar, 1)
            expected = one_pass(V, Wt, H, damped)
        else:
            found = coordinate_pass(problem.T, free, fixed, scalar, 1)
            expected = one_pass(V.T, H, Wt, damped)
        assert_allclose(np.asarray(found), expected, rtol=1e-9, atol=1e-12)


def test_the_damping_is_needed(start):
    """The NumPy passes differ, so that the test above can tell them apart."""
    V, Wt, H = start
    far = 20 * H
    assert not np.allclose(one_pass(V, Wt, far, True), one_pass(V, Wt, far, False))


@pytest.mark.parametrize("solver", ["kl-cd", "kl-sn-mu", "mu-extrapolated"])
def test_it_is_sooner_than_multiplicative_updates(solver):
    data = datasets.load("synthetic", m=60, n=40, rank=4, noise="poisson").V
    plain = jaxnmf.factorize(data, 4, loss="kl", solver="mu", max_iter=300, tol=0)
    target = plain.loss * (1 + 1e-4)
    found = jaxnmf.factorize(
        data, 4, loss="kl", solver=solver, max_iter=300, tol=0, target=target
    )
    assert found.status == "target"
    assert found.iterations <= 200


@pytest.mark.parametrize("solver", ["mu", "mu-extrapolated"])
def test_leukaemia_types_are_found(solver, shared_data):
    """Brunet et al. (2004): p = 3 tells ALL-B, ALL-T and AML apart."""
    data = datasets.load("all_aml")
    runs = [
        jaxnmf.factorize(
            data.V, 3, loss="kl", solver=solver, seed=seed, max_iter=500, tol=1e-6
        )
        for seed in range(5)
    ]
    best = min(runs, key=lambda run: run.loss)
    clusters = metrics.cluster_by_component(best.W, best.H)
    assert metrics.adjusted_rand_index(data.labels, clusters) >= 0.9


def test_faces_reach_the_divergence_known(shared_data):
    """CBCL, p = 10: extrapolation passes 0.1839 of D(V | row means), where plain
    updates stood at 0.1877 after 30 s."""
    V = (256 - datasets.load("cbcl_faces").V) / 256  # the reference has it inverted
    means = V.mean(axis=0)  # and its rows are the pixels
    normaliser = float(
        (np.where(V > 0, V * np.log(np.maximum(V, 1e-30) / means), 0) - V + means).sum()
    )
    assert normaliser == pytest.approx(41109, rel=2e-3)
    found = jaxnmf.factorize(
        V, 10, loss="kl", solver="mu-extrapolated", max_iter=1500, tol=0, kkt=False
    )
    assert found.loss / normaliser <= 0.1839
