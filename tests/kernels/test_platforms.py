"""The forms of kernels and products for an accelerator equal those for a CPU."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from jaxnmf._util.platform import compiled_for, on_cpu, platform
from jaxnmf.build import Objective, make_problem
from jaxnmf.data.convert import as_operand
from jaxnmf.kernels import repeats
from jaxnmf.kernels.coordinate import UNROLLED, sweep
from jaxnmf.objective.constraints import NonNegative
from jaxnmf.objective.losses import Frobenius
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import make_solver
from jaxnmf.run.programs import precision
from jaxnmf.solvers.kl_newton import descent


def test_a_platform_holds_within_its_block_alone():
    assert on_cpu()
    assert platform() == "cpu"
    with compiled_for("gpu"):
        assert not on_cpu()
        assert platform() == "gpu"
    assert on_cpu()


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("p", [3, UNROLLED + 5])
def test_a_sweep_by_unrolled_tiles_is_the_sweep_by_rows(p, masked):
    rng = np.random.default_rng(0)
    V = rng.random((20, 14))
    mask = rng.random(V.shape) < 0.7 if masked else None
    with precision("float64"):
        objective = Objective.of(l1=0.1, l2=0.2)
        problem = make_problem(
            V, make_solver("hals"), objective, np.dtype("float64"), mask
        )
        W, H = (jnp.asarray(rng.random((p, size))) for size in V.shape)

        @jax.jit
        def once(W, H):
            return sweep(problem, *problem.quadratic(W), H)

        plain = once(W, H)
        with compiled_for("gpu"):
            tiled = once(W, H)
    assert not np.array_equal(plain, H)
    np.testing.assert_allclose(tiled, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_quadratic_models_of_columns_by_unrolled_tiles_are_those_by_rows():
    """For Newton steps: the minimum over H + d ≥ 0 of each column's model."""
    rng = np.random.default_rng(0)
    p, n = UNROLLED + 5, 6
    root = rng.random((p, 2 * p, n))
    root[0] = 0  # no curvature: down to 0
    curvature = np.einsum("pin,qin->pqn", root, root)
    H, slope = rng.random((p, n)), rng.standard_normal((p, n))
    slope[0] = [1, 1, 1, -1, -1, -1]
    held = np.full((p, n), np.nan)
    held[1, 2] = H[1, 2]
    with precision("float64"):
        project = NonNegative(held=jnp.asarray(held))
        arguments = jax.tree.map(jnp.asarray, (H, slope, curvature))

        @jax.jit
        def once(H, slope, curvature):
            return descent(H, slope, curvature, 2, project)

        plain = once(*arguments)
        with compiled_for("gpu"):
            tiled = once(*arguments)
    expected = np.zeros((p, n))
    for k in [*range(p)] * 2:
        d, g = expected[k], slope[k] + (curvature[k] * expected).sum(0)
        best = d - g / curvature[k, k] if k else np.where(g > 0, -H[0], 0)
        expected[k] = np.where(np.isnan(held[k]), np.maximum(best, -H[k]), 0)
    np.testing.assert_allclose(tiled, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(plain, expected, rtol=1e-9, atol=1e-12)


def test_values_at_the_stored_entries_are_the_same_in_every_form(monkeypatch):
    monkeypatch.setattr("jaxnmf.data.sparse.ENTRIES", 100)  # several passes
    rng = np.random.default_rng(0)
    V = scipy.sparse.random_array((60, 40), density=0.2, rng=rng).tocsr()
    with precision("float64"):
        operand = as_operand(V, np.dtype("float64"))
        W, H = (jnp.asarray(rng.random((5, size))) for size in (60, 40))
        entries: Any = V.T.tocsr().tocoo()
        expected = (np.asarray(W).T @ np.asarray(H))[entries.col, entries.row]
        for form in (operand._gathered, operand._from_rows, operand._from_blocks):
            np.testing.assert_allclose(form(W, H), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("rows", "columns", "expected"), [(5000, 40_000, 8), (361, 2429, 1), (30, 20, 1)]
)
def test_repeats_on_an_accelerator_follow_the_time_of_the_products(
    rows, columns, expected, monkeypatch
):
    """A sweep costs its launches there, which only large products outweigh."""
    monkeypatch.setattr(repeats, "_sizes", lambda operand: (columns, rows))
    with precision("float32") as dtype:
        problem = Problem.of(as_operand(np.ones((2, 2)), dtype), Frobenius())
        free = jnp.ones((20, 2))
        with compiled_for("gpu"):
            assert repeats.inner_repeats(problem, free, 0) == expected
            assert repeats.inner_repeats(problem, free, 3) == 3
