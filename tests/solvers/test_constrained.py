"""Constrained factorisations recover what the plain one does not."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxnmf
from jaxnmf import datasets, metrics
from jaxnmf.solvers.constrained import onto_sparseness

LONG = {"max_iter": 2000, "tol": 0.0, "kkt": False, "dtype": "float64"}


def no_pure_pixels(rng):
    """V = W H, samples in the simplex of H and none with a share above 0.8."""
    H = rng.random((3, 30))
    W = rng.dirichlet(np.full(3, 0.5), 1200)
    return W[W.max(1) < 0.8][:400] @ H, H


@pytest.mark.slow
def test_minvol_recovers_endmembers_without_pure_pixels(rng):
    V, H = no_pure_pixels(rng)

    def worst_angle(solver, **options):
        result = jaxnmf.factorize(
            V, 3, solver=solver, init="snpa", solver_options=options, **LONG
        )
        return np.degrees(metrics.spectral_angle(result.H, H)).max(), result

    plain, _ = worst_angle("hals")
    minvol, result = worst_angle("minvol", weight=0.01)
    assert minvol < 0.3
    assert plain > 1
    assert result.relative_error < 1e-3
    assert result.W.sum(1).max() <= 1 + 1e-9


def test_minvol_does_not_depend_on_the_scale_of_the_data(rng):
    V, _ = no_pure_pixels(rng)
    options = {**LONG, "max_iter": 50}
    one, other = (
        jaxnmf.factorize(c * V, 3, solver="minvol", **options) for c in (1.0, 1000.0)
    )
    np.testing.assert_allclose(other.W, one.W, atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_minvol_on_jasper_ridge_is_nearer_to_the_reference(shared_data):
    data = datasets.load("jasper_ridge")
    truth: Any = data.truth
    angles = {}
    for solver in ("hals", "minvol"):
        result = jaxnmf.factorize(data.V, 4, solver=solver, init="snpa", kkt=False)
        angles[solver] = metrics.spectral_angle(result.H, truth.H).mean()
    assert angles["minvol"] < 0.7 * angles["hals"]


@pytest.mark.parametrize("factor", ["H", "W", "both"])
@pytest.mark.parametrize("sparseness", [0.3, 0.8])
def test_hoyer_sparseness_is_reached_exactly(rng, factor, sparseness):
    V = rng.random((40, 30))
    options = {"sparseness": sparseness, "factor": factor}
    result = jaxnmf.factorize(
        V, 4, solver="sparse-hoyer", solver_options=options, dtype="float64"
    )
    if factor != "W":
        found = metrics.hoyer_sparsity(result.H, axis=1)
        np.testing.assert_allclose(found, sparseness, atol=1e-10)
    if factor != "H":
        found = metrics.hoyer_sparsity(result.W, axis=0)
        np.testing.assert_allclose(found, sparseness, atol=1e-10)
    assert np.diff(result.trace.objective[1:]).max() <= 1e-10


@pytest.mark.parametrize("sparseness", [0.2, 0.6, 0.9])
def test_the_projection_on_a_sparseness_is_the_nearest(rng, sparseness):
    x = rng.standard_normal(8)
    with jax.enable_x64(True):
        found = np.asarray(
            onto_sparseness(jnp.asarray(x), sparseness, jnp.full(len(x), True))
        )
    assert metrics.hoyer_sparsity(found[None], axis=1) == pytest.approx(sparseness)
    ratio = np.sqrt(8) - sparseness * (np.sqrt(8) - 1)
    on_cone = {
        "type": "eq",
        "fun": lambda y: y.sum() ** 2 - ratio**2 * (y @ y),
        "jac": lambda y: 2 * y.sum() - 2 * ratio**2 * y,
    }
    answers = [
        scipy.optimize.minimize(
            lambda y: 0.5 * ((y - x) ** 2).sum(),
            rng.random(8),
            jac=lambda y: y - x,
            bounds=[(0, None)] * 8,
            constraints=on_cone,
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-14},
        )
        for _ in range(40)
    ]
    best = min(a.fun for a in answers if a.success and abs(on_cone["fun"](a.x)) < 1e-9)
    assert 0.5 * ((found - x) ** 2).sum() == pytest.approx(best, rel=1e-6)


def test_orthogonal_finds_planted_blocks(rng):
    labels = np.repeat(np.arange(4), 15)
    V = rng.uniform(0.5, 2, (60, 1)) * rng.random((4, 25))[labels]
    V *= rng.uniform(0.95, 1.05, V.shape)
    result = jaxnmf.factorize(V, 4, solver="orthogonal", init="snpa", dtype="float64")
    assert metrics.orthogonality(result.W.T) < 1e-12
    found = metrics.cluster_by_component(result.W)
    assert metrics.clustering_accuracy(labels, found) == 1
    # The best a block can do is its first singular pair.
    tails = [np.linalg.svd(V[labels == k])[1][1:] for k in range(4)]
    best = 0.5 * sum((s * s).sum() for s in tails)
    assert result.objective == pytest.approx(best, rel=1e-6)


def test_orthogonal_revives_components_without_rows(rng):
    V = rng.random((4, 25))[np.repeat(np.arange(4), 15)]
    start = (np.ones((60, 4)), np.ones((4, 25)))  # all rows go to the first
    loss = {}
    for revive in (True, False):
        options = {"revive": revive}
        result = jaxnmf.factorize(
            V, 4, solver="orthogonal", init=start, solver_options=options
        )
        loss[revive] = result.objective
    assert loss[True] < 1e-6 * loss[False]


@pytest.mark.slow
@pytest.mark.parametrize("factor", ["W", "H"])
def test_smooth_components_fit_smooth_data_under_noise(rng, factor):
    t = np.linspace(0, 1, 100)[:, None]
    W = np.exp(-(((t - [0.2, 0.5, 0.8]) / 0.15) ** 2))
    clean = W @ rng.random((3, 40))
    V = np.maximum(clean + 0.3 * rng.standard_normal(clean.shape), 0)
    if factor == "H":
        V, clean = V.T, clean.T

    def fit(solver, **options):
        result = jaxnmf.factorize(
            V, 3, solver=solver, init="nndsvda", solver_options=options, max_iter=500
        )
        X, Y = (result.W, result.H) if factor == "W" else (result.H.T, result.W.T)
        X = X * np.linalg.norm(Y, axis=1)
        off_clean = np.linalg.norm(result.W @ result.H - clean)
        return (np.diff(X, axis=0) ** 2).sum(), result.relative_error, off_clean

    rough, error, off = fit("hals")
    smooth_rough, smooth_error, smooth_off = fit("smooth", weight=2.0, factor=factor)
    assert smooth_rough < 0.5 * rough
    assert smooth_error < 1.05 * error
    assert smooth_off < off


def test_smooth_objective_falls_at_every_step(rng):
    V = rng.random((30, 20))
    values = []
    for steps in range(1, 40):
        result = jaxnmf.factorize(
            V, 3, solver="smooth", max_iter=steps, tol=0.0, dtype="float64", kkt=False
        )
        roughness = (np.diff(result.W, axis=0) ** 2).sum(0) @ (result.H**2).sum(1)
        values.append(result.objective + 0.5 * roughness)
    assert np.diff(values).max() <= 1e-12


def test_a_factor_is_named():
    for solver in ("smooth", "sparse-hoyer"):
        with pytest.raises(ValueError, match=rf"{solver}.*factor='V' is not one of"):
            jaxnmf.factorize(
                np.ones((3, 3)), 2, solver=solver, solver_options={"factor": "V"}
            )


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_swimmer_is_recovered(shared_data):
    data = datasets.load("swimmer")
    best = min(
        jaxnmf.factorize(
            data.V,
            17,
            solver="extrapolated",
            seed=seed,
            max_iter=1000,
            tol=0,
            kkt=False,
        ).relative_error
        for seed in range(6)
    )
    assert best < 1e-3
