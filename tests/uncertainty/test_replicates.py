"""Replicates of a factorisation as lanes: rows by weights, noise drawn anew."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import nnls

from jaxnmf.build import Objective, Start
from jaxnmf.data.convert import as_operand
from jaxnmf.data.known import what_is_known
from jaxnmf.fold_in import RowsOnly
from jaxnmf.objective.losses import Frobenius, KullbackLeibler
from jaxnmf.registry import make_solver
from jaxnmf.run.stop import Stop
from jaxnmf.sweeps.batching import Batching
from jaxnmf.sweeps.sweep import run_sweep
from jaxnmf.uncertainty.replicates import DrawnRows, Noise, row_counts
from jaxnmf.uncertainty.rows import exact_rows

RNG = np.random.default_rng(3)
M, N, P = 24, 9, 3
W, H = RNG.gamma(1.0, size=(M, P)), RNG.gamma(1.0, size=(P, N))
V = (W @ H) * RNG.uniform(0.8, 1.2, (M, N))
SCALE = RNG.uniform(0.5, 2.0, M)
FIXED, FREE = RNG.random((P, M)), RNG.random((P, N))


def operands():
    sparse = sp.csr_array(np.where(RNG.random((M, N)) < 0.5, V, 0))
    mask = RNG.random((M, N)) < 0.7
    return {
        "dense": (as_operand(V), V, np.ones((M, N))),
        "stored along its longer side": (
            as_operand(V).stored_wide(),
            V,
            np.ones((M, N)),
        ),
        "sparse": (as_operand(sparse), sparse.toarray(), (sparse != 0).toarray()),
        "observed": (as_operand(V, mask=mask), np.where(mask, V, 0), mask),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", operands())
@pytest.mark.parametrize("turned", [False, True])
def test_scaled_rows_are_those_of_the_scaled_matrix(name, turned):
    operand, dense, known = operands()[name]
    scaled, dense = operand.scaled_rows(SCALE), SCALE[:, None] * dense
    shared = operand.csr.indices if name == "sparse" else operand.array
    own = scaled.csr.indices if name == "sparse" else scaled.array
    assert own is shared
    fixed, free = FIXED, FREE
    if turned:
        scaled, dense, known, fixed, free = scaled.T, dense.T, known.T, FREE, FIXED
    near = {"rtol": 2e-5, "atol": 1e-5}
    np.testing.assert_allclose(scaled.dot(jnp.asarray(fixed)), fixed @ dense, **near)
    X = fixed.T @ free
    got = scaled.map_sum(lambda v, x: v * x, jnp.asarray(fixed), jnp.asarray(free))
    np.testing.assert_allclose(got, (known * dense * X).sum(), rtol=1e-5)
    (got,) = scaled.map_dot(
        lambda v, x: (v / x,), jnp.asarray(fixed), jnp.asarray(free)
    )
    np.testing.assert_allclose(got, fixed @ (known * dense / X), rtol=2e-5)
    host = scaled.to_host()
    host = host.toarray() if sp.issparse(host) else host
    np.testing.assert_allclose(np.where(known, host, 0), known * dense, rtol=1e-6)


def test_scaled_rows_in_blocks_and_padded():
    small = as_operand(V)
    blocks = type(small)(**{**vars(small), "block": 7}).scaled_rows(SCALE)
    padded = small.scaled_rows(SCALE).padded_to(M + 3, N + 2)
    X = FIXED.T @ FREE
    fixed, free = jnp.asarray(FIXED), jnp.asarray(FREE)
    expected = FIXED @ (SCALE[:, None] * V * X)
    (got,) = blocks.map_dot(lambda v, x: (v * x,), fixed, free)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    wide = [jnp.pad(x, ((0, 0), (0, extra))) for x, extra in ((fixed, 3), (free, 2))]
    (got,) = padded.map_dot(lambda v, x: (v * x,), *wide)
    np.testing.assert_allclose(got[:, :N], expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "solver"), [("frobenius", "hals"), ("kullback-leibler", "mu")]
)
def test_weights_of_rows_fit_as_copies_of_rows(loss, solver):
    """The objective and H of drawn rows are those of V with its rows copied."""
    counts = row_counts(M, 2, np.random.default_rng(0))
    objective = Objective.of(loss)
    data = DrawnRows.of(what_is_known(V), counts, objective.loss.beta, (W, H))
    given = {
        "solver": make_solver(solver),
        "objective": objective,
        "stop": Stop(max_iter=60, tol=0.0),
        "dtype": "float64",
    }
    group = Batching(group=2)
    found = run_sweep(
        data, [P], [0, 1], start=Start.of("random"), batching=group, **given
    )
    for one, run in zip(counts, found.runs, strict=True):
        index = np.repeat(np.arange(M), one)
        copied = run_sweep(
            V[index], [P], [0], start=Start.of((W[index], H)), **given
        ).runs[0]
        last = run.trace.objective[-1], copied.trace.objective[-1]
        np.testing.assert_allclose(*last, rtol=1e-6)
        np.testing.assert_allclose(run.factors.H, copied.factors.H, rtol=1e-6)
    assert abs(found.runs[0].factors.H - found.runs[1].factors.H).max() > 1e-3


def test_noise_has_the_size_of_the_residuals():
    """Drawn residuals have the spread of the noise, of each column its own."""
    rng = np.random.default_rng(1)
    m, n, p = 400, 30, 3
    X = rng.gamma(2.0, size=(m, p)) @ rng.gamma(2.0, size=(p, n))
    sigma = np.linspace(0.2, 0.3, n)
    data = X + sigma * rng.standard_normal(X.shape)
    # The fit of a matrix of rank p: nearer to the data than X is.
    U, s, Vt = np.linalg.svd(data, full_matrices=False)
    fit = (U[:, :p] * s[:p]) @ Vt[:p]
    noise = Noise(what_is_known(data), fit, p, Frobenius(), poisson=False, clip=False)
    drawn = np.stack([noise.draw(np.random.default_rng(i)).V for i in range(40)])
    spread = (drawn - fit).std(axis=(0, 1))
    assert np.median(abs(spread / sigma - 1)) < 0.08
    assert abs(np.sqrt(np.mean(spread**2) / np.mean(sigma**2)) - 1) < 0.04


def test_residuals_of_counts_are_scaled_and_clipped():
    rng = np.random.default_rng(2)
    X = np.tile(np.array([0.5, 400.0])[:, None], (500, 6))
    counts = rng.poisson(X).astype(float)
    loss = KullbackLeibler()
    noise = Noise(what_is_known(counts), X, 1, loss, poisson=False, clip=True)
    drawn = np.stack([noise.draw(np.random.default_rng(i)).V for i in range(20)])
    assert drawn.min() == 0
    large = drawn[:, X[:, 0] == 400.0]
    # X is not fitted here, which the factor for the fit's freedom makes larger.
    factor = np.sqrt(6000 / (6000 - 1005))
    assert abs(large.std() / (20 * factor) - 1) < 0.05
    noise = Noise(what_is_known(counts), X, 1, loss, poisson=True, clip=True)
    drawn = noise.draw(np.random.default_rng(0)).V
    assert (drawn == np.round(drawn)).all()
    assert abs(drawn[1::2].var() / 400 - 1) < 0.1


def test_drawn_rows_number_as_many_as_there_are():
    counts = row_counts(50, 300, np.random.default_rng(0))
    assert (counts.sum(1) == 50).all()
    assert abs((counts == 0).mean() - np.exp(-1)) < 0.01


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_replicates_are_least_squares(dtype):
    noise = Noise(what_is_known(V), W @ H, P, Frobenius(), poisson=False, clip=False)
    replicates = [noise.draw(np.random.default_rng(i)) for i in range(3)]
    starts = [(W, H * RNG.uniform(0.9, 1.1, H.shape)) for _ in replicates]
    given = what_is_known(V), replicates.__getitem__, starts
    solver = RowsOnly(inner=make_solver("anls-bpp"))
    objective = Objective.of("frobenius")
    found = exact_rows(*given, solver=solver, objective=objective, dtype=dtype)
    for rows, (_, own_H), replicate in zip(found, starts, replicates, strict=True):
        assert replicate.V.min() < 0
        expected = np.stack([nnls(own_H.T, v)[0] for v in replicate.V])
        close = {"float32": 1e-5, "float64": 1e-10}[dtype] * expected.max()
        np.testing.assert_allclose(rows, expected, rtol=0, atol=close)


def test_residuals_of_a_column_stay_in_it():
    known = np.ones((M, N), bool)
    known[0, 0] = False
    for mask in (None, known):
        noise = Noise(
            what_is_known(V, mask), W @ H, P, Frobenius(), poisson=False, clip=False
        )
        drawn = noise.draw(np.random.default_rng(5)).V - W @ H
        for column, residuals in zip(drawn.T, noise.columns, strict=True):
            assert len(np.unique(column)) > M / 3
            assert np.abs(column[:, None] - residuals).min(1).max() < 1e-9
