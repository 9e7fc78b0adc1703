"""Gradient solvers against SciPy, Lin's published rule, and known errors."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from sklearn.decomposition import NMF

import jaxnmf
from jaxnmf import datasets
from jaxnmf.data.convert import as_operand
from jaxnmf.objective.losses import Frobenius
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import make_solver
from jaxnmf.run import programs
from jaxnmf.run.programs import precision

M, N, RANK = 30, 12, 5


def half(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V with noise strong enough that the solution has zeros, W, and a start."""
    W = rng.random((M, RANK))
    V = np.abs(W @ rng.random((RANK, N)) + rng.standard_normal((M, N)))
    return V, W, rng.random((RANK, N))


def half_step(solver: Any, V: np.ndarray, W: np.ndarray, H: np.ndarray, state: Any):
    problem = Problem.of(as_operand(V, "float64"), Frobenius())
    solver = programs.as_leaves(solver, np.float64)
    return jax.jit(solver.half_step)(problem, jnp.asarray(W.T), jnp.asarray(H), state)


@pytest.mark.parametrize(
    "solver",
    [
        make_solver("nenmf", {"inner": 3000}),
        make_solver("pgd-lin", {"inner": 1000}),
        make_solver("pgd-bb", {"inner": 1000}),
    ],
    ids=lambda solver: solver.name,
)
def test_a_long_half_step_is_the_non_negative_least_squares(solver, rng):
    V, W, H = half(rng)
    expected = np.stack([scipy.optimize.nnls(W, v)[0] for v in V.T], axis=1)
    assert (expected == 0).mean() > 0.1
    with precision("float64"):
        state = jnp.ones(()) if solver.name == "pgd-lin" else ()
        found, _ = half_step(solver, V, W, H, state)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


def lin(V: np.ndarray, W: np.ndarray, H: np.ndarray, alpha: float, steps: int):
    """The steps of ``nlssubprob`` in the appendix of Lin (2007), in NumPy."""
    gram, cross = W.T @ W, W.T @ V
    for _ in range(steps):
        gradient = gram @ H - cross
        for trial in range(20):
            new = np.maximum(H - alpha * gradient, 0)
            d = new - H
            enough = 0.99 * (gradient * d).sum() + 0.5 * ((gram @ d) * d).sum() < 0
            if trial == 0:
                shrinking, before = not enough, H
            if shrinking:
                if enough:
                    H = new
                    break
                alpha *= 0.1
            elif not enough or (before == new).all():
                H = before
                break
            else:
                alpha, before = alpha / 0.1, new
    return H


@pytest.mark.parametrize("alpha", [0.05, 1.0, 100.0])
@pytest.mark.parametrize("steps", [1, 6])
def test_steps_are_those_of_lins_program(alpha, steps, rng):
    V, W, H = half(rng)
    expected = lin(V, W, H, alpha, steps)
    with precision("float64"):
        found, step = half_step(
            make_solver("pgd-lin", {"inner": steps}), V, W, H, jnp.asarray(alpha)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
        if steps == 1:
            gradient = W.T @ (W @ H - V)
            moved = np.maximum(H - float(step) * gradient, 0)
            np.testing.assert_allclose(moved, expected, rtol=1e-9, atol=1e-12)


FAST = [make_solver(name) for name in ("nenmf", "pgd-lin", "pgd-bb")]
SLOWER = [make_solver("mu", {"inner": 0}), make_solver("ipalm", {"dynamic": True})]


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, float]:
    """The data, and the error that scikit-learn's coordinate descent reaches."""
    V = np.asarray(datasets.load("digits").V, np.float64)
    settings: Any = {"init": "random", "solver": "cd", "random_state": 0}
    rank: Any = 16
    model = NMF(rank, max_iter=400, tol=0, **settings)
    W = model.fit_transform(V)
    return V, float(np.linalg.norm(V - W @ model.components_) / np.linalg.norm(V))


@pytest.mark.slow
@pytest.mark.parametrize("solver", [*FAST, *SLOWER], ids=lambda s: s.name)
@pytest.mark.usefixtures("optimised")
def test_digits_to_one_percent_of_the_best(solver, digits):
    V, best = digits
    iterations = 600 if solver in SLOWER else 300
    options: dict[str, Any] = {"max_iter": iterations, "tol": 0.0, "kkt": False}
    found = jaxnmf.factorize(V, 16, solver=solver, **options)
    assert found.relative_error <= 1.01 * best


@pytest.mark.slow
@pytest.mark.parametrize("solver", FAST, ids=lambda solver: solver.name)
@pytest.mark.usefixtures("optimised")
def test_faces_to_one_percent_of_the_best(solver, shared_data):
    """0.1523 is the smallest relative error that long runs of several seeds reach."""
    V = np.asarray(datasets.load("cbcl_faces").V, np.float64)
    found = jaxnmf.factorize(V, 10, solver=solver, max_iter=300, tol=0, kkt=False)
    assert found.relative_error <= 1.01 * 0.1523


def test_repeats_of_a_multiplicative_update_are_those_of_numpy(rng):
    V, W, H = half(rng)
    with precision("float64"):
        found, _ = half_step(make_solver("mu", {"inner": 4}), V, W, H, jnp.zeros(()))
    for _ in range(4):
        H = H * (W.T @ V) / (W.T @ W @ H)
    np.testing.assert_allclose(found, H, rtol=1e-12)


def test_extrapolation_takes_the_multiplicative_update(rng):
    V, *_ = half(rng)
    ahead = make_solver("extrapolated", {"inner": make_solver("mu")})
    found = jaxnmf.factorize(V, RANK, solver=ahead, max_iter=50, tol=0, kkt=False)
    assert (np.diff(found.trace.objective) <= 1e-6 * found.trace.objective[0]).all()
    assert found.objective < 0.8 * found.trace.objective[0]
