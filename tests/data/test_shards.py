"""A sparse V in blocks answers as NumPy does."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose

import jaxnmf
from jaxnmf.data.convert import as_operand
from jaxnmf.data.placement import Placement
from jaxnmf.data.shards import Shards
from jaxnmf.run.programs import precision

pytestmark = pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")

M, N, P = 12, 8, 3
RNG = np.random.default_rng(1)
# Blocks of different numbers of entries, one of none; a column without any.
V = RNG.random((M, N)) + 0.5
V *= RNG.random((M, N)) < np.linspace(0.05, 0.35, M)[:, None]
V[:6, :4], V[:, 5] = 0, 0
WEIGHTS = (RNG.random((M, N)) + 0.5) * (V > 0)
WT, H = RNG.random((P, M)), RNG.random((P, N))


def distance(v: Any, x: Any) -> tuple[Any, Any]:
    return (v - x) ** 2, v * x + 1


@jax.jit
def answers(operand: Any, fixed: Any, free: Any) -> dict[str, Any]:
    return {
        "dot": operand.dot(fixed),
        "sums": operand.map_sum(distance, fixed, free),
        "products": operand.map_dot(distance, fixed, free),
        "both": operand.map_dot_both(distance, fixed, free),
        "known": operand.any_known,
    }


@jax.jit
def answers_in_part(operand: Any, fixed: Any, free: Any) -> dict[str, Any]:
    left = operand.residual(fixed, free)
    both = left.dot(fixed), left.T.dot(free)
    return {"weights": operand.dot_weights(fixed), "residual": both}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", ["sparse", "observed"])
def test_blocks_answer_over_their_stored_entries(kind, turned):
    with precision("float64") as dtype:
        given: Any = scipy.sparse.csr_array(V)
        if kind == "observed":
            rows, cols = np.nonzero(V)
            known = rows, cols, V[rows, cols], (M, N), WEIGHTS[rows, cols]
            given = jaxnmf.Observed(*known)
        operand = as_operand(given, dtype)
        assert operand.kind == kind
        mesh = jax.make_mesh((2, 2), ("rows", "columns"))
        blocks = Shards.of(operand, Placement(mesh, ("rows",), ("columns",)))
        assert np.asarray(blocks.counts)[0, 0] == 0
        v, w, fixed, free = V, WEIGHTS if kind == "observed" else (V > 0) * 1.0, WT, H
        if turned:
            blocks, v, w, fixed, free = blocks.T, V.T, w.T, H, WT
        assert blocks.shape == v.shape
        found = answers(blocks, fixed, free)
        ys = [w * y for y in distance(v, fixed.T @ free)]
        assert_allclose(found["dot"], fixed @ (w * v), rtol=1e-12)
        assert_allclose(found["sums"], [y.sum() for y in ys], rtol=1e-12)
        assert_allclose(found["products"], [fixed @ y for y in ys], rtol=1e-12)
        assert_allclose(found["both"][0], [fixed @ y for y in ys], rtol=1e-12)
        assert_allclose(found["both"][1], [free @ y.T for y in ys], rtol=1e-12)
        if kind == "sparse":
            assert bool(found["known"])
            with pytest.raises(TypeError, match="is not sparse"):
                answers_in_part(blocks, fixed, free)
            return
        np.testing.assert_array_equal(found["known"], w.sum(0) > 0)
        part = answers_in_part(blocks, fixed, free)
        assert_allclose(part["weights"], fixed @ w, rtol=1e-12)
        U = w * (v - fixed.T @ free)
        assert_allclose(part["residual"][0], fixed @ U, rtol=1e-11)
        assert_allclose(part["residual"][1], free @ U.T, rtol=1e-11)
        for found_on_host, whole in ((blocks.to_host(), v), (blocks.host_weights(), w)):
            assert_allclose(found_on_host.toarray(), whole)
