"""Randomised compression against the exact solver and known answers."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import jaxnmf
from jaxnmf.data.convert import as_operand
from jaxnmf.init.start import initial_factors
from jaxnmf.objective.losses import Frobenius
from jaxnmf.objective.problem import Problem
from jaxnmf.padding import padded
from jaxnmf.registry import make_solver
from jaxnmf.run import loop
from jaxnmf.run.programs import precision
from jaxnmf.solvers.compressed import compress


def spectrum(rng: np.random.Generator, m: int, n: int) -> np.ndarray:
    """A non-negative matrix whose singular values fall slowly."""
    return rng.gamma(1.0, size=(m, 8)) @ rng.gamma(1.0, size=(8, n)) + rng.random(
        (m, n)
    )


def test_the_sketch_is_nearly_the_best_of_its_rank(rng):
    V = spectrum(rng, 80, 60)
    with precision("float64"):
        found = compress(as_operand(V, "float64"), 5, 5, jax.random.key(0), 10, 2)
        Q, sketch = np.asarray(found.left), np.asarray(found.left.T @ found.right)
    np.testing.assert_allclose(Q @ Q.T, np.eye(15), atol=1e-12)
    best = np.sqrt((np.linalg.svd(V, compute_uv=False)[15:] ** 2).sum())
    assert best <= np.linalg.norm(V - sketch) < 1.05 * best


@pytest.mark.slow
@pytest.mark.parametrize("polish_after", [0, 20])
def test_padding_the_rank_changes_nothing(rng, polish_after):
    """Where l is less than both sides: the contract's data are smaller than that."""
    found = []
    with precision("float64"):
        operand = as_operand(spectrum(rng, 60, 50), "float64")
        options = {"oversample": 6, "polish_after": polish_after}
        solver = make_solver("compressed", options)
        for extra in (0, 3):
            problem = Problem.of(operand, Frobenius())
            pair = initial_factors(operand, 4, "random", 0)
            problem, factors = padded(problem, pair, solver, rank=4 + extra)
            state = jax.jit(solver.init)(problem, factors, jax.random.key(3))
            factors, _ = jax.jit(loop.advance)(problem, solver, factors, state, 30)
            found.append([np.asarray(X) for X in factors])
    for bare, larger in zip(*found, strict=True):
        np.testing.assert_allclose(larger[:4], bare, rtol=0, atol=1e-9 * bare.max())
        assert (larger[4:] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("inner", ["hals", "extrapolated"])
def test_on_data_of_low_rank_it_is_the_inner_solver(rng, inner):
    V = rng.random((70, 6)) @ rng.random((6, 50))
    options = (
        {"inner": 2}
        if inner == "hals"
        else {"inner": make_solver("hals", {"inner": 2})}
    )
    made = make_solver(inner, options)
    common: dict[str, Any] = {"tol": 0.0, "max_iter": 60, "dtype": "float64"}
    exact = jaxnmf.factorize(V, 6, solver=made, **common)
    sketch = jaxnmf.factorize(
        V, 6, solver="compressed", solver_options={"inner": made}, **common
    )
    np.testing.assert_allclose(sketch.W, exact.W, atol=1e-7 * exact.W.max())
    np.testing.assert_allclose(sketch.H, exact.H, atol=1e-7 * exact.H.max())


@pytest.mark.slow
def test_faces_are_fitted_to_within_a_hundredth(shared_data):
    V = np.load(shared_data / "cbcl_faces.npz")["X"].astype(np.float64)
    common: dict[str, Any] = {"tol": 0.0, "max_iter": 100, "seed": 1, "kkt": False}
    exact = jaxnmf.factorize(V, 49, solver="hals", **common)
    sketch = jaxnmf.factorize(V, 49, solver="compressed", **common)
    assert sketch.relative_error < 1.01 * exact.relative_error


@pytest.mark.parametrize("inner", ["minvol", "kl-cd", "optax"])
def test_an_inner_solver_that_needs_more_than_products_is_refused(inner):
    with pytest.raises(ValueError, match=r"'compressed': inner=.*'hals'"):
        make_solver("compressed", {"inner": make_solver(inner)})
