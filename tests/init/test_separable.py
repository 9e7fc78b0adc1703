"""Separable NMF: planted rows are found, and what is not separable is reported so."""

from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

import jaxnmf
from jaxnmf import datasets, metrics
from jaxnmf.init.separable import nonnegative_fit, snpa, spa, xray

P, PURE = 6, np.arange(10, 16)
METHODS = [spa, snpa, xray]
each_method = pytest.mark.parametrize("method", METHODS, ids=lambda f: f.__name__)


def planted(rng, noise=0.0):
    """V = W H + noise with rows 10 … 15 of W those of the identity."""
    H = rng.random((P, 40))
    W = rng.dirichlet(np.full(P, 0.5), 200)
    W[PURE] = np.eye(P)
    return np.maximum(W @ H + noise * rng.standard_normal((200, 40)), 0)


@pytest.mark.parametrize("noise", [0.0, 1e-3, 1e-2])
@each_method
def test_planted_rows_are_found(rng, method, noise):
    V = planted(rng, noise)
    found = method(V, P)
    np.testing.assert_array_equal(np.sort(found), PURE)
    # Greedy: the first q are the answer for q.
    np.testing.assert_array_equal(method(V, 3), found[:3])


@each_method
def test_scaled_rows_need_rays_or_normalisation(rng, method):
    V = planted(rng) * rng.uniform(0.2, 5, (200, 1))
    found = method(V, P) if method is xray else method(V, P, normalise=True)
    np.testing.assert_array_equal(np.sort(found), PURE)
    if method is not xray:
        assert set(method(V, P)) != set(PURE)


@pytest.mark.parametrize("layout", [scipy.sparse.csr_array, scipy.sparse.coo_array])
@each_method
def test_sparse_gives_the_same_rows(rng, method, layout):
    V = planted(rng) * (rng.random((200, 40)) < 0.3)
    np.testing.assert_array_equal(method(layout(V), P), method(V, P))


def test_snpa_finds_vertices_that_are_linearly_dependent(rng):
    # Four vertices in three dimensions of rank 3: beyond spa.
    H = np.array([[1.0, 0, 1], [1, 1, 0], [0, 1, 1], [0, 0, 2]])
    H = np.vstack([H[:3], [2 / 3 + 0.5, 2 / 3 - 0.4, 2 / 3 - 0.1]]) + 0.1
    W = rng.dirichlet(np.ones(4), 50)
    W[[3, 14, 15, 9]] = np.eye(4)
    V = np.hstack([W @ H, np.ones((50, 3))])
    assert np.linalg.matrix_rank(V) < 5
    assert set(snpa(V, 4)) == {3, 14, 15, 9}


def test_spa_is_pivoted_qr(rng):
    V = rng.random((30, 20))
    expected = scipy.linalg.qr(V.T, pivoting=True, mode="r")[1][:8]
    np.testing.assert_array_equal(spa(V, 8), expected)


def test_the_fit_is_that_of_scipy(rng):
    V, H = rng.random((30, 20)), rng.random((5, 20))
    expected = [scipy.optimize.nnls(H.T, v)[0] for v in V]
    np.testing.assert_allclose(nonnegative_fit(V, H), expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("init", ["spa", "snpa", "xray"])
@pytest.mark.parametrize("layout", [np.asarray, scipy.sparse.csr_array])
def test_as_a_start_it_is_exact_on_separable_data(rng, init, layout):
    V = planted(rng)
    result = jaxnmf.factorize(layout(V), P, init=init, max_iter=1, dtype="float64")
    assert result.trace.objective[0] < 1e-12 * (V * V).sum()
    for row in V[PURE]:
        assert np.abs(result.H - row).max(1).min() < 1e-6


@pytest.mark.parametrize("init", ["spa", "snpa", "xray"])
def test_what_has_no_rows_to_choose_is_refused(init):
    with pytest.raises(ValueError, match=rf"'{init}'.*min\(m, n\) = 4, but rank=5"):
        jaxnmf.factorize(np.ones((6, 4)), 5, init=init)
    with pytest.raises(ValueError, match=rf"'{init}' needs a row .* all 6×4 entries"):
        jaxnmf.factorize(np.zeros((6, 4)), 2, init=init)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method", "degrees", "error"),
    [
        ("samson", snpa, 7, 0.041),
        ("samson", xray, 7, 0.042),
        ("jasper_ridge", xray, 24, 0.071),
    ],
)
def test_endmembers_of_a_scene(shared_data, name, method, degrees, error):
    data = datasets.load(name)
    V = np.asarray(data.V, np.float64)
    H = V[method(V, data.rank)]
    truth: Any = data.truth
    angles = np.degrees(metrics.spectral_angle(H, truth.H))
    assert angles.max() < degrees
    assert metrics.relative_error(V, nonnegative_fit(V, H), H) < error
