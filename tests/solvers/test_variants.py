"""Semi, convex and symmetric NMF against the papers' own updates, in NumPy."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from sklearn.metrics import adjusted_rand_score

import jaxnmf
from jaxnmf import datasets


def signed_data(rng):
    W, H = (
        rng.standard_normal((40, 3)),
        rng.random((3, 25)) * (rng.random((3, 25)) < 0.6),
    )
    return W @ H + 0.1 * rng.standard_normal((40, 25))


def loss(V, W, H):
    return 0.5 * ((V - W @ H) ** 2).sum()


def parts(X):
    return np.maximum(X, 0), np.maximum(-X, 0)


def semi_by_ding(V, H, steps=20000):
    """Equations (9) and (10) of Ding, Li & Jordan, with H for their Gᵀ."""
    for _ in range(steps):
        W = V @ H.T @ np.linalg.pinv(H @ H.T)
        (cross, cross_minus), (gram, gram_minus) = parts(W.T @ V), parts(W.T @ W)
        H = H * np.sqrt((cross + gram_minus @ H) / (cross_minus + gram @ H + 1e-300))
    return loss(V, V @ H.T @ np.linalg.pinv(H @ H.T), H)


def convex_by_ding(V, A, W, steps=20000):
    """Equations (15) and (16) of the same, for V ≈ W A V (their X is Vᵀ)."""
    K, K_minus = parts(V @ V.T)
    for _ in range(steps):
        up = K @ A.T + W @ (A @ K_minus @ A.T)
        down = K_minus @ A.T + W @ (A @ K @ A.T)
        W = W * np.sqrt(up / (down + 1e-300))
        up = K @ W + K_minus @ A.T @ (W.T @ W)
        down = K_minus @ W + K @ A.T @ (W.T @ W)
        A = A * np.sqrt(up / (down + 1e-300)).T
    return loss(V, W, A @ V)


def best(V, solver, seeds=5, max_iter=3000, **options):
    runs = [
        jaxnmf.factorize(
            V,
            3,
            solver=solver,
            seed=s,
            max_iter=max_iter,
            tol=0,
            dtype="float64",
            **options,
        )
        for s in range(seeds)
    ]
    return min(runs, key=lambda run: run.objective)


@pytest.mark.slow
def test_semi_is_no_worse_than_the_papers_updates(rng):
    V = signed_data(rng)
    expected = min(semi_by_ding(V, rng.random((3, 25)) + 0.2, 3000) for _ in range(5))
    found = best(V, "semi")
    assert found.objective == pytest.approx(loss(V, found.W, found.H), rel=1e-10)
    assert found.objective <= 1.001 * expected
    assert found.W.min() < 0 <= found.H.min()
    assert found.kkt < 1e-4


@pytest.mark.slow
def test_semi_lies_between_the_svd_and_nmf():
    V = datasets.load("digits").V[:300]
    singular = np.linalg.svd(V, compute_uv=False)
    lowest = 0.5 * (singular[3:] ** 2).sum()
    semi, nmf = (best(V, solver, 2, max_iter=400) for solver in ("semi", "hals"))
    assert lowest < semi.objective < nmf.objective


def test_semi_takes_a_singular_gram_matrix():
    V = np.outer(np.arange(-3.0, 5), np.ones(6))
    start = (np.ones((8, 3)), np.ones((3, 6)))
    result = jaxnmf.factorize(V, 3, solver="semi", init=start, max_iter=50, tol=0)
    assert result.relative_error < 1e-3


def test_semi_of_sparse_data_is_that_of_dense(rng):
    V = signed_data(rng) * (rng.random((40, 25)) < 0.3)
    dense, sparse = (
        jaxnmf.factorize(X, 3, solver=jaxnmf.solvers.SemiNMF(inner=2), dtype="float64")
        for X in (V, scipy.sparse.csr_array(V))
    )
    np.testing.assert_allclose(dense.W @ dense.H, sparse.W @ sparse.H, atol=1e-8)


@pytest.mark.slow
def test_convex_is_no_worse_than_the_papers_updates(rng):
    V = signed_data(rng)
    starts = [(rng.random((3, 40)) / 40, rng.random((40, 3))) for _ in range(5)]
    expected = min(convex_by_ding(V, *start, 3000) for start in starts)
    found = best(V, "convex")
    assert found.objective == pytest.approx(loss(V, found.W, found.H), rel=1e-10)
    assert found.objective <= 1.001 * expected


def test_convex_components_are_combinations_of_rows(rng):
    V = rng.random((12, 30))
    found = best(V, "convex", 1)
    for h in found.H:
        _, apart = scipy.optimize.nnls(V.T, h)
        assert apart < 1e-6 * np.linalg.norm(h)


def similarity(rng):
    labels = np.repeat([0, 1, 2], [12, 20, 16])
    V = 0.9 * (labels[:, None] == labels) + 0.2 * rng.random((48, 48))
    return (V + V.T) / 2, labels


@pytest.mark.slow
def test_symmetric_is_no_worse_than_a_general_optimiser(rng):
    V, _ = similarity(rng)

    def fun(x):
        X = x.reshape(48, 3)
        apart = X @ X.T - V
        return 0.5 * (apart**2).sum(), 2 * (apart @ X).ravel()

    bounds = scipy.optimize.Bounds(0, np.inf)
    expected = min(
        scipy.optimize.minimize(
            fun, rng.random(144), jac=True, method="L-BFGS-B", bounds=bounds
        ).fun
        for _ in range(5)
    )
    found = best(V, "symmetric")
    np.testing.assert_allclose(found.W, found.H.T, atol=1e-6)
    assert fun(found.W.ravel())[0] <= 1.001 * expected


@pytest.mark.slow
def test_symmetric_finds_planted_clusters(rng):
    V, labels = similarity(rng)
    found = best(scipy.sparse.csr_array(V), "symmetric")
    assert adjusted_rand_score(labels, found.W.argmax(1)) == 1


@pytest.mark.parametrize(
    ("solver", "V", "options", "message"),
    [
        ("symmetric", np.ones((4, 5)), {}, r"shape \(4, 5\); it must be square"),
        ("symmetric", np.triu(np.ones((4, 4))), {}, r"differ by up to 1.*symmetric"),
        ("semi", np.ones((4, 5)), {"l1": 0.1}, r"l1=0.1 for W.*\(0, l1\)"),
        ("hals", -np.ones((4, 5)), {}, "negative entries"),
        ("semi", np.full((4, 5), np.nan), {}, "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(solver, V, options, message):
    with pytest.raises(ValueError, match=message):
        jaxnmf.factorize(V, 2, solver=solver, **options)
