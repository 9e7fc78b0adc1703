"""The scale of V is of no consequence: V·c gives the factors of V times √c.

Penalties scale too, l1 by c^(β − ½) and l2 by c^(β − 1). In float32 the squares of such
entries, and of their residuals, are no numbers.
"""

from __future__ import annotations

from typing import Any

import cases
import numpy as np
import pytest
import scipy.sparse as sp
from cases import BETAS, CASES, Case

import jaxnmf

SCALES = [1e-30, 1e-17, 1e8, 1e30]
SETTINGS: dict[str, Any] = {"max_iter": 20, "tol": 0, "kkt": False}
SCALED = [case for case in CASES if case.loss in BETAS]
KNOWN = np.random.default_rng(5).random((cases.M, cases.N)) < 0.8
WEIGHTS = np.where(KNOWN, np.random.default_rng(6).uniform(0.5, 2, KNOWN.shape), 0)


def assert_scaled(found: Any, plain: Any, c: float, beta: float, rtol: float) -> None:
    expected = plain.W @ plain.H
    product = found.W.astype(float) @ found.H / c
    np.testing.assert_allclose(product, expected, rtol=rtol, atol=rtol * expected.max())
    assert found.relative_error == pytest.approx(plain.relative_error, rel=rtol)
    trace = np.asarray(found.trace.objective)
    assert trace.dtype == np.float64
    assert np.isfinite(trace).all()
    np.testing.assert_allclose(trace / c**beta, plain.trace.objective, rtol=rtol)


# Every solver and loss with one scale each, in turn.
@pytest.mark.parametrize(
    ("case", "c"),
    [(case, SCALES[i % len(SCALES)]) for i, case in enumerate(SCALED)],
    ids=lambda x: str(x) if isinstance(x, Case) else f"{x:g}",
)
def test_a_scaled_matrix_has_scaled_factors(case, c):
    V = cases.for_solver(case.solver, cases.data())
    settings = {"solver": case.solver, "loss": case.loss, **SETTINGS}
    plain = jaxnmf.factorize(V, 3, **settings)
    found = jaxnmf.factorize(V * c, 3, **settings)
    # A line search accepts a step or does not by the last digit.
    assert_scaled(found, plain, c, BETAS[case.loss], 5e-3)
    unscaled = case.solver_class.supports.unscaled
    for name in "WH":
        one, other = (getattr(result, name) for result in (found, plain))
        own = 0.5 if not unscaled else 0 if name in unscaled else 1
        level = one.astype(float).mean() / c**own
        assert level == pytest.approx(other.mean(), rel=5e-2)


def kinds(V: np.ndarray, kind: str) -> tuple[Any, dict[str, Any]]:
    if kind == "sparse":
        return sp.csr_array(V * KNOWN), {}
    if kind == "mask":
        return V, {"mask": KNOWN}
    if kind == "weights":
        return V, {"mask": WEIGHTS}
    if kind == "entries":
        some = sp.csr_array(
            KNOWN * (np.arange(cases.M * cases.N).reshape(V.shape) % 6 < 1)
        )
        return V, {"mask": some}
    return V, {}


@pytest.mark.slow
@pytest.mark.parametrize("c", SCALES)
@pytest.mark.parametrize("loss", BETAS)
@pytest.mark.parametrize(
    "kind", ["dense", "sparse", "mask", "weights", "entries", "offsets", "mean", "box"]
)
def test_every_kind_of_data_with_penalties(kind, loss, c):
    if kind == "sparse" and BETAS[loss] not in (1, 2):
        pytest.skip("the loss needs every entry of W H")
    beta = BETAS[loss]

    def fitted(c: float) -> Any:
        V, settings = kinds(cases.data() * c, kind)
        weights = {"l1": 0.1 * c ** (beta - 0.5), "l2": 0.2 * c ** (beta - 1)}
        if kind in ("offsets", "mean"):
            settings = {"mask": KNOWN, "toward": "mean"}
        if kind == "offsets":
            settings["offsets"] = tuple(x * c ** (beta - 2) for x in (5.0, 3.0))
        if kind == "box":
            settings["constraints"] = jaxnmf.Box(upper=1.5 * np.sqrt(c))
            weights, settings["solver"] = {}, "pgd"
        settings = {"solver": "mu", **settings, **weights, **SETTINGS}
        return jaxnmf.factorize(V, 3, loss=loss, **settings)

    plain, found = fitted(1.0), fitted(c)
    assert_scaled(found, plain, c, beta, 5e-3)
    if kind == "offsets":
        for one, other in zip(found.offsets, plain.offsets, strict=True):
            np.testing.assert_allclose(one.astype(float) / c, other, rtol=5e-3)


@pytest.mark.parametrize("c", [1e-30, 1e30])
@pytest.mark.parametrize("side", [0, 1])
def test_a_factor_on_the_simplex_keeps_its_scale(side, c):
    constraints = ["nonnegative", "nonnegative"]
    constraints[side] = "simplex"
    W, H = cases.truth()
    if side == 0:
        W = W / W.sum(1, keepdims=True)
    else:
        H = H / H.sum(0)

    def fitted(c: float) -> Any:
        init = (W, H * c) if side == 0 else (W * c, H)
        settings = {"solver": "pgd", "constraints": constraints, **SETTINGS}
        return jaxnmf.factorize(cases.data() * c, 3, init=init, **settings)

    plain, found = fitted(1.0), fitted(c)
    sums = (found.W.sum(1), found.H.sum(0))[side]
    np.testing.assert_allclose(sums, 1, rtol=1e-5)
    assert_scaled(found, plain, c, 2, 5e-3)


@pytest.mark.parametrize("c", [1e-30, 1e30])
def test_what_else_is_in_the_units_of_the_user(c):
    V, root = cases.data(), np.sqrt(c)
    start = cases.truth()[0] * root, cases.truth()[1] * root
    plain = jaxnmf.factorize(V, 3, init=cases.truth(), **SETTINGS)
    settings = {**SETTINGS, "init": start}
    found = jaxnmf.factorize(V * c, 3, **settings)
    assert_scaled(found, plain, c, 2, 1e-3)
    first = 0.5 * ((V - cases.truth()[0] @ cases.truth()[1]) ** 2).sum()
    assert found.trace.objective[0] / c**2 == pytest.approx(first, rel=1e-5)
    target = float(plain.trace.objective[1]) * c**2 * 1.0001
    stopped = jaxnmf.factorize(V * c, 3, target=target, **settings)
    assert (stopped.status, stopped.iterations) == ("target", 10)
    # New rows, by the H of the result, in units of their own.
    for unit in (1.0, 1e-6, c):
        rows = found.transform(V[:4] * unit).astype(float) @ found.H
        np.testing.assert_allclose(
            rows / unit, plain.transform(V[:4]) @ plain.H, rtol=1e-3, atol=1e-3
        )
    residual = found.residual(V * c) / c
    np.testing.assert_allclose(residual, plain.residual(V), atol=1e-3)


@pytest.mark.parametrize("c", [1e-30, 1e30])
def test_lanes_are_in_the_units_of_the_user(c, tmp_path):
    V = cases.data()
    settings: dict[str, Any] = {"solver": "mu", "max_iter": 20, "tol": 0}
    lanes = {"l2": [0.0, 0.2 * c]}
    found = jaxnmf.sweep(V * c, [3], [0], settings=lanes, folder=tmp_path, **settings)
    for lane, l2 in enumerate(lanes["l2"]):
        single = jaxnmf.factorize(V * c, 3, l2=l2, **settings)
        np.testing.assert_allclose(found.result(lane).W, single.W, rtol=1e-3)
        row = found.table.iloc[lane]
        assert row["objective"] == pytest.approx(single.objective, rel=1e-4)
        assert row["relative_error"] == pytest.approx(single.relative_error, rel=1e-4)
    again = jaxnmf.sweep(V * c, [3], [0], settings=lanes, folder=tmp_path, **settings)
    np.testing.assert_array_equal(again.result(1).W, found.result(1).W)
    with pytest.raises(ValueError, match="another data"):
        jaxnmf.sweep(V * c * 4, [3], [0], settings=lanes, folder=tmp_path, **settings)
    target = float(found.runs[0].trace.objective[1]) * 1.0001
    stopped = jaxnmf.sweep(V * c, [3], [0], target=target, **settings)
    assert stopped.table["status"][0] == "target"


def test_data_for_each_seed_share_their_units():
    from jaxnmf.sweeps.lane import DataPerSeed

    V = cases.data()
    data = DataPerSeed([V * 1e-9, V * 1e-3])
    found = jaxnmf.sweep(data, [3], 2, solver="mu", max_iter=20, tol=0)
    errors = found.table["relative_error"]
    for seed, one in enumerate(data.data):
        single = jaxnmf.factorize(one, 3, solver="mu", max_iter=20, tol=0, seed=seed)
        assert errors[seed] == pytest.approx(single.relative_error, rel=1e-3)


def test_ordinary_data_are_not_scaled():
    V = cases.data()
    one, other = (
        jaxnmf.factorize(V * c, 3, max_iter=20, tol=0) for c in (1.0, 2.0**30)
    )
    # Powers of two change no bit, scaled or not.
    np.testing.assert_array_equal(other.W, one.W * 2.0**15)
    assert (other.trace.objective == one.trace.objective * 2.0**60).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fluxes_of_any_unit_reach_the_same_error(dtype):
    # Spectra as of a sky survey: of order 1e-17 in their units, or 1e-37.
    rng = np.random.default_rng(0)
    V = rng.gamma(2.0, size=(80, 4)) @ rng.gamma(2.0, size=(4, 60))
    V *= rng.normal(1, 0.01, V.shape)
    errors = [
        jaxnmf.factorize(
            V * c, 4, solver="mu", dtype=dtype, max_iter=1000
        ).relative_error
        for c in (1.0, 1e-17, 1e-37)
    ]
    np.testing.assert_allclose(errors, errors[0], rtol=1e-3)


@pytest.mark.parametrize("solver", ["mu", "mu-extrapolated"])
@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_the_estimator_reports_its_error_in_the_units_of_the_user(loss, solver):
    V, c = cases.data(), 1e-25
    beta = BETAS[loss]
    alpha = 0.01 * c ** (beta - 1)
    settings = {"solver": solver, "beta_loss": loss, "max_iter": 20, "tol": 0}
    model = jaxnmf.NMF(3, **settings, alpha_W=alpha)
    W = model.fit_transform((V * c).astype(np.float32)).astype(float)
    X = W @ model.components_
    expected = np.sqrt(2 * cases.objective(loss, V * c, X))
    assert model.reconstruction_err_ == pytest.approx(expected, rel=1e-4)
