"""Convolutive NMF as a package of its own: the half-step of a structure of its own."""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxnmf
from jaxnmf import metrics, registry

RNG = np.random.default_rng(0)
F, N, K, T = 20, 60, 2, 4
# Two glides, each of which occurs a few times.
TRUTH = np.stack([np.eye(F)[3 + np.arange(T)].T, np.eye(F)[15 - 2 * np.arange(T)].T])
TRUTH = TRUTH + 0.05 * RNG.random(TRUTH.shape)
WHEN = np.zeros((K, N))
for k in range(K):
    WHEN[k, RNG.choice(N - T, 7, replace=False)] = RNG.uniform(0.5, 2, 7)


def product(W: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Σ_k Σ_t W[k][:, t] h_k[j − t], by its definition."""
    X = np.zeros((W.shape[1], h.shape[1]))
    for k in range(len(W)):
        for j in np.flatnonzero(h[k]):
            for t in range(min(W.shape[2], h.shape[1] - j)):
                X[:, j + t] += W[k][:, t] * h[k, j]
    return X


X = product(TRUTH, WHEN)
V = X * RNG.gamma(100, 0.01, X.shape) + 1e-3


@pytest.fixture(scope="module", autouse=True)
def registered() -> Any:
    registry.solvers()
    before = dict(registry._solvers)
    sys.path.insert(0, str(Path(__file__).parent))
    importlib.import_module("jaxnmf_convolutive")
    yield
    sys.path.pop(0)
    sys.modules.pop("jaxnmf_convolutive")
    registry._solvers.clear()
    registry._solvers.update(before)


def fit(data: Any = V, width: int = T, **given: Any) -> Any:
    options = {"width": width, "along": given.pop("along", "columns")}
    common: dict[str, Any] = {"loss": "kl", "max_iter": 300, "tol": 0}
    common |= {"solver": "convolutive", "solver_options": options, **given}
    return jaxnmf.factorize(data, K * width, **common)


def by_hand(V: np.ndarray, W: np.ndarray, h: np.ndarray, steps: int) -> Any:
    """NMFD for Kullback-Leibler, in loops over t."""
    n = V.shape[1]
    for _ in range(steps):
        Q = V / product(W, h)
        minus, plus = np.zeros_like(h), np.zeros_like(h)
        for t in range(W.shape[2]):
            minus[:, : n - t] += np.einsum("kf,fj->kj", W[:, :, t], Q[:, t:])
            plus[:, : n - t] += W[:, :, t].sum(1)[:, None]
        h = h * minus / plus
        Q = V / product(W, h)
        new = np.empty_like(W)
        for t in range(W.shape[2]):
            part = np.einsum("fj,kj->kf", Q[:, t:], h[:, : n - t])
            new[:, :, t] = W[:, :, t] * part / h[:, : n - t].sum(1)[:, None]
        W = new
    return W, h


def test_steps_are_those_of_the_definition():
    rng = np.random.default_rng(1)
    W, h = 0.5 + rng.random((K, F, T)), 0.5 + rng.random((K, N))
    start = np.concatenate([*W], 1), np.repeat(h, T, 0)
    expected_W, expected_h = by_hand(V, W, h, 5)
    result = fit(init=start, max_iter=5, dtype="float64")
    np.testing.assert_allclose(result.H[::T], expected_h, rtol=1e-8, atol=1e-10)
    found = result.W.reshape(F, K, T).transpose(1, 0, 2)
    np.testing.assert_allclose(found, expected_W, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(
        result.W @ result.H, product(expected_W, expected_h), rtol=1e-8
    )


@pytest.mark.slow
def test_patterns_and_when_they_occur_are_found():
    found = min((fit(seed=seed) for seed in range(4)), key=lambda r: r.objective)
    assert (np.diff(found.trace.objective[1:]) <= 1e-5 * found.objective).all()
    assert np.linalg.norm(found.W @ found.H - X) < 0.1 * np.linalg.norm(X)
    patterns = found.W.T.reshape(K, -1)
    truth = TRUTH.transpose(0, 2, 1).reshape(K, -1)
    _, cosine = metrics.match_components(None, patterns, None, truth)
    assert cosine.min() > 0.95
    # As many components without a width do not reproduce V.
    plain = jaxnmf.factorize(V, K, loss="kl", max_iter=300)
    assert plain.relative_error > 3 * found.relative_error


def test_time_may_run_along_rows():
    start = fit(max_iter=20).W * 0 + 1, np.repeat(1 + RNG.random((K, N)), T, 0)
    start = start[0] + RNG.random(start[0].shape), start[1]
    columns = fit(init=start, max_iter=20)
    rows = fit(V.T, along="rows", init=(start[1].T, start[0].T), max_iter=20)
    np.testing.assert_allclose(rows.W.T, columns.H, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(rows.H.T, columns.W, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_lanes_of_several_ranks_are_the_runs_alone():
    found = jaxnmf.sweep(
        V,
        [T, K * T],
        1,
        solver="convolutive",
        loss="kl",
        max_iter=20,
        tol=0,
        solver_options={"width": T},
    )
    for lane in found.lanes:
        W, H = found.factors(found.lanes.index(lane))
        alone = jaxnmf.factorize(
            V, lane.rank, solver="convolutive", loss="kl", max_iter=20, tol=0,
            seed=lane.seed, init="random", solver_options={"width": T},
        )  # fmt: skip
        np.testing.assert_allclose(W @ H, alone.W @ alone.H, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width=0 must be at least 1"),
        ({"width": 61}, r"width=61 is more than V has columns \(60\)"),
        ({"along": "time"}, "along='time' must be one of rows, columns"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        jaxnmf.factorize(V, 2, solver="convolutive", solver_options=options)
