"""A solver with a structure of its own, from a package of its own: against its updates
in NumPy, and on planted parts."""

import itertools
import sys

import numpy as np
import pytest
from conftest import install_plugin

import jaxnmf
from jaxnmf import registry

SIZES, N, K = (12, 9), 20, 2
RANK = K * (1 + len(SIZES))
WEIGHT = 0.5


@pytest.fixture(autouse=True)
def installed(tmp_path_factory, monkeypatch):
    """The package as an installer leaves it, for one test."""
    registry.solvers()
    before = dict(registry._solvers)
    site = tmp_path_factory.mktemp("site")
    install_plugin(site, "plugin_integrative")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(registry, "_loaded", False)
    yield
    registry._solvers.clear()
    registry._solvers.update(before)
    sys.modules.pop("jaxnmf_integrative", None)


def planted():
    """Two data sets of shared spectra, and in each a part that is its own."""
    rng = np.random.default_rng(0)
    shared = np.zeros((K, N))
    shared[0, :5], shared[1, 5:10] = 1, 1
    own = [np.zeros((K, N)) for _ in SIZES]
    own[0][0, 12:14], own[1][1, 16:18] = 0.7, 0.7
    W = [rng.gamma(1.0, size=(size, K)) for size in SIZES]
    V = np.vstack([A @ (shared + B) for A, B in zip(W, own, strict=True)])
    return V, shared, own


def in_numpy(V, Wt, H, steps):
    """The updates data set by data set, and the objective after each step."""
    shared, *own = H.reshape(-1, K, N)
    parts = np.split(V, np.cumsum(SIZES)[:-1])
    W = np.split(Wt[:K].T, np.cumsum(SIZES)[:-1])
    values = []
    for _ in range(steps):
        pairs = list(zip(parts, W, own, strict=True))
        shared, own = (
            shared
            * sum(A.T @ X for X, A, _ in pairs)
            / sum(A.T @ A @ (shared + B) for _, A, B in pairs),
            [
                B * (A.T @ X) / (A.T @ A @ (shared + (1 + WEIGHT) * B))
                for X, A, B in pairs
            ],
        )
        W = [
            A
            * (X @ (shared + B).T)
            / (A @ ((shared + B) @ (shared + B).T + WEIGHT * B @ B.T))
            for X, A, B in zip(parts, W, own, strict=True)
        ]
        values.append(
            sum(
                0.5 * ((X - A @ (shared + B)) ** 2).sum()
                + 0.5 * WEIGHT * ((A @ B) ** 2).sum()
                for X, A, B in zip(parts, W, own, strict=True)
            )
        )
    return np.vstack(W), shared, own, values


def test_the_registry_carries_it():
    assert "integrative" in jaxnmf.solvers()
    V = planted()[0] + 0.1 * np.random.default_rng(2).random((sum(SIZES), N))
    options = {"sizes": SIZES, "shared": K, "weight": WEIGHT}
    given = {"solver": "integrative", "solver_options": options}
    rng = np.random.default_rng(1)
    start = rng.random((sum(SIZES), RANK)) + 0.1, rng.random((RANK, N)) + 0.1
    long = {"max_iter": 40, "tol": 0, "dtype": "float64"}
    found = jaxnmf.factorize(V, RANK, init=start, **long, **given)
    W, shared, own, values = in_numpy(V, start[0].T, start[1], 40)
    np.testing.assert_allclose(found.H, np.vstack([shared, *own]), 1e-7, 1e-12)
    np.testing.assert_allclose(found.W[:, :K], W, 1e-7, 1e-12)
    assert not found.W[SIZES[0] :, K : 2 * K].any()  # rows of the other data set
    assert (np.diff(values) <= 0).all()
    # The objective of the framework is that of the product, without the penalty.
    assert found.objective == pytest.approx(0.5 * ((V - found.W @ found.H) ** 2).sum())

    for change, message in [
        ({"sizes": (3, 4)}, r"sizes=\(3, 4\) add up to 7; V has 21 rows"),
        ({"shared": 3}, "rank=6; 3 shared components of 2 data sets need 9"),
    ]:
        with pytest.raises(ValueError, match=message):
            jaxnmf.factorize(V, RANK, **given | {"solver_options": options | change})


@pytest.mark.slow
def test_it_finds_what_data_sets_share_and_what_is_their_own():
    V, shared, own = planted()
    lanes = jaxnmf.sweep(
        V,
        [RANK],
        3,
        solver="integrative",
        solver_options={"sizes": SIZES, "shared": K},
        settings={"weight": [0.1, 10.0]},
        max_iter=600,
        tol=0,
    )
    table = lanes.table
    assert table["weight"].tolist() == [0.1] * 3 + [10.0] * 3
    best = lanes.result(int(table[table["weight"] == 0.1]["objective"].idxmin()))
    assert best.relative_error < 0.05
    # The shared part has nothing of the columns that are one data set's own.
    parts = best.H.reshape(-1, K, N)
    size = best.W[:, :K].mean(0)[:, None]
    found = min(
        (parts[:, list(order)] * size[list(order)] for order in
         itertools.permutations(range(K))),
        key=lambda H: -(unit(H[0]) * unit(shared)).sum(),
    )  # fmt: skip
    assert (unit(found[0]) * unit(shared)).sum(1).min() > 0.95
    for H, truth in zip(found[1:], own, strict=True):
        columns = truth.any(0)
        assert H[:, columns].sum() > 0.8 * H[:, 10:].sum()
    # A large weight leaves the own parts nothing.
    strong = lanes.result(int(table[table["weight"] == 10.0]["objective"].idxmin()))
    own_size = [np.linalg.norm(r.W[:, K:] @ r.H[K:]) for r in (best, strong)]
    assert own_size[1] < 0.5 * own_size[0]


def unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True)
