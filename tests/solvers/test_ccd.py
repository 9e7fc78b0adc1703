"""CCD++ against its paper's loops, and what it holds in memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from jaxnmf.data import known as known_data
from jaxnmf.data.convert import as_operand
from jaxnmf.objective.losses import Frobenius
from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.problem import Problem
from jaxnmf.run.programs import precision
from jaxnmf.solvers import CCD, HALS
from jaxnmf.types import Factors

M, N, RANK = 11, 9, 5
L1, L2, TOWARD = (0.1, 0.2), (0.3, 0.4), (0.5, 0.6)


def by_loops(V, known, W, H, inner):
    """Algorithm 2 of Yu et al. (2012), entry by entry, with max(0, ·)."""
    W, H = W.copy(), H.copy()
    R = V - W @ H
    (m, p), n = W.shape, H.shape[1]
    for k in range(p):
        R = R + np.outer(W[:, k], H[k])  # without component k
        u, v = W[:, k].copy(), H[k].copy()
        for _ in range(inner):
            for j in range(n):
                rows = np.flatnonzero(known[:, j])
                w = known[rows, j]
                above = w @ (R[rows, j] * u[rows]) - L1[1] + L2[1] * TOWARD[1]
                v[j] = max(0, above / (w @ u[rows] ** 2 + L2[1]))
            for i in range(m):
                columns = np.flatnonzero(known[i])
                w = known[i, columns]
                above = w @ (R[i, columns] * v[columns]) - L1[0] + L2[0] * TOWARD[0]
                u[i] = max(0, above / (w @ v[columns] ** 2 + L2[0]))
        R = R - np.outer(u, v)
        W[:, k], H[k] = u, v
    return W, H


@pytest.fixture
def ratings():
    """Data of which three fifths are known, with weights, and factors to begin from."""
    rng = np.random.default_rng(0)
    V = rng.random((M, N))
    known = (rng.random((M, N)) < 0.6) * rng.uniform(0.5, 2, (M, N))
    known[3], known[:, 2] = 0, 0
    return V, known, rng.random((M, RANK)), rng.random((RANK, N))


@pytest.mark.parametrize("share", [2.0, 0.0], ids=["entries", "dense"])
@pytest.mark.parametrize("inner", [1, 3])
def test_an_iteration_is_the_loop_of_its_paper(ratings, inner, share, monkeypatch):
    monkeypatch.setattr(known_data, "DENSE_SHARE", share)
    V, known, W, H = ratings
    of_W, of_H = (
        Penalty(l1=l1, l2=l2, toward=toward)
        for l1, l2, toward in zip(L1, L2, TOWARD, strict=True)
    )
    with precision("float64") as dtype:
        problem = Problem.of(
            as_operand(V, dtype, mask=known), Frobenius(), penalties=(of_W, of_H)
        )
        step = jax.jit(CCD(block=1, inner=inner).step)
        found, _ = step(problem, Factors(jnp.asarray(W.T), jnp.asarray(H)), ())
    W, H = by_loops(V, known, W, H, inner)
    assert (W == 0).any() or (H == 0).any()
    np.testing.assert_allclose(found.Wt.T, W, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(found.H, H, rtol=1e-10, atol=1e-13)


def test_a_block_of_all_components_is_a_sweep_of_hals(ratings):
    V, known, W, H = ratings
    with precision("float64") as dtype:
        problem = Problem.of(as_operand(V, dtype, mask=known), Frobenius())
        start = Factors(jnp.asarray(W.T), jnp.asarray(H))
        hals = HALS(inner=1)
        state = hals.init(problem, start, jax.random.key(0))
        expected, _ = jax.jit(hals.step)(problem, start, state)
        found, _ = jax.jit(CCD(block=RANK).step)(problem, start, ())
    np.testing.assert_allclose(found.H, expected.H, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(found.Wt, expected.Wt, rtol=1e-10, atol=1e-13)


def test_it_holds_neither_all_entries_nor_a_gram_matrix_a_column():
    m, n, p = 3000, 2000, 64
    rng = np.random.default_rng(0)
    V = sparse.random_array((m, n), density=5e-3, rng=rng, format="csr")
    with precision("float32") as dtype:
        problem = Problem.of(as_operand(V, dtype, mask=V != 0), Frobenius())
        start = Factors(
            *(jnp.asarray(rng.random((p, size), np.float32)) for size in (m, n))
        )

        def temporaries(solver):
            state = solver.init(problem, start, jax.random.key(0))
            program = jax.jit(solver.step).lower(problem, start, state).compile()
            analysis = program.memory_analysis()
            assert analysis is not None
            return analysis.temp_size_in_bytes

        held = temporaries(CCD())
        # The residual in both orders, blocks' Gram matrices, both factors once more.
        assert held < 4 * (6 * V.nnz + (m + n) * (8 * 8 + 2 * p))
        assert held < 4 * m * n / 5
        assert held < temporaries(HALS()) / 10
