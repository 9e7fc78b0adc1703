"""Tiny problems in NumPy: the results of the compiled programs, without compiling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize

import jaxnmf
from jaxnmf import tiny
from jaxnmf.run import programs
from jaxnmf.types import pytree

RNG = np.random.default_rng(0)
V = RNG.gamma(1.0, size=(40, 3)) @ RNG.gamma(1.0, size=(3, 30))
V *= RNG.uniform(0.7, 1.3, V.shape)
H = RNG.gamma(1.0, size=(4, 30))
SOLVERS: dict[str, Any] = {
    "hals": jaxnmf.solvers.HALS(),
    "three-sweeps": jaxnmf.solvers.HALS(inner=3),
    "extrapolated": jaxnmf.solvers.Extrapolated(),
    "slower": jaxnmf.solvers.Extrapolated(beta=0.3, growth=1.02, decay=2.0),
}
PENALTIES = {"none": {}, "both": {"l1": (0.1, 0.2), "l2": (0.3, 0.1)}}


@pytree
class Own(jaxnmf.solvers.HALS):
    """Another solver, whose steps may be its own."""


@pytest.fixture
def no_programs(monkeypatch):
    """Fail where a program is compiled."""

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("a program is compiled")

    monkeypatch.setattr(programs.jax, "jit", refused)


@pytest.mark.parametrize("penalties", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_the_result_is_that_of_the_compiled_program(solver, penalties):
    # A zero row and column, whose entries become components' zeros.
    data = np.pad(V, ((0, 1), (0, 1)))
    given: dict[str, Any] = {"solver": solver, "dtype": "float64", "seed": 3}
    given |= {"tol": 1e-6, "record_every": 7, **penalties}
    found = jaxnmf.factorize(data, 4, **given)
    other = jaxnmf.factorize(data, 4, pad=False, **given)
    assert found.compile_seconds == 0
    assert (found.iterations, found.status) == (other.iterations, other.status)
    for one, two in zip(found.trace[:3], other.trace[:3], strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-7, atol=1e-9)
    for one, two in ((found.W, other.W), (found.H, other.H)):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_new_rows_are_exact_least_squares(dtype):
    expected = np.array([scipy.optimize.nnls(H.T, v)[0] for v in V])
    found = jaxnmf.fit_W(V, H, dtype=dtype)
    assert found.dtype == dtype
    tolerance = {"float32": 1e-6, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(found, expected, atol=tolerance * expected.max())


def test_new_rows_with_penalties_satisfy_the_conditions():
    W, l1, l2 = jaxnmf.fit_W(V, H, l1=0.5, l2=0.2, dtype="float64"), 0.5, 0.2
    gradient = W @ (H @ H.T) - V @ H.T + l1 + l2 * W
    scale = np.abs(V @ H.T).max()
    assert gradient.min() > -1e-10 * scale
    assert np.abs(gradient * W).max() < 1e-10 * scale * W.max()
    assert (W == 0).any()


def test_l1_decides_between_components_that_are_combinations_of_others():
    sums, l1 = np.vstack([H[:2], H[:2].sum(0)]), 0.5
    W = jaxnmf.fit_W(V, sums, l1=l1, dtype="float64")
    gradient = W @ (sums @ sums.T) - V @ sums.T + l1
    assert gradient.min() > -1e-6
    assert np.abs(gradient * W).max() < 1e-6


def test_new_rows_of_components_that_are_alike_or_zero():
    same = np.vstack([H[:2], H[:1], np.zeros((1, 30))])
    W = jaxnmf.fit_W(V, same, dtype="float64")
    best = [scipy.optimize.nnls(H[:2].T, v)[1] for v in V]
    np.testing.assert_allclose(np.linalg.norm(V - W @ same, axis=1), best)
    assert not W[:, 3].any()


def test_new_rows_of_components_of_any_size():
    sizes = np.array([1e-9, 1.0, 1e-5, 1e6])[:, None]
    found = jaxnmf.fit_W(V, H * sizes, dtype="float64") * sizes.T
    np.testing.assert_allclose(found, jaxnmf.fit_W(V, H, dtype="float64"), atol=1e-9)


def test_nothing_is_compiled(no_programs):
    model = jaxnmf.NMF(3)
    model.fit(V)
    model.transform(V[:7])
    jaxnmf.factorize(V[:20], 3, solver="hals", l2=0.1)


def test_scale_does_not_matter():
    plain = jaxnmf.factorize(V, 3)
    for scale in (2.0**-80, 2.0**80):
        found = jaxnmf.factorize(V * scale, 3)
        np.testing.assert_allclose(found.W @ found.H / scale, plain.W @ plain.H, 1e-5)
        assert found.objective == pytest.approx(plain.objective * scale**2, rel=1e-5)


def test_stop_rules_records_and_the_residual():
    target = jaxnmf.factorize(V, 3).objective * 1.01
    found = jaxnmf.factorize(V, 3, target=target, record_every=1, kkt=False, tol=0)
    assert found.status == "target"
    assert found.objective <= target < found.trace.objective[-2]
    first, *middle, last = found.trace.kkt
    assert np.isnan(middle).all()
    assert last < first < np.inf


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        {"max_iter": tiny.MOST_ITERATIONS + 1},
        {"solver": jaxnmf.solvers.HALS(delta=0.1)},
        {"solver": "nenmf"},
        {"solver": Own()},
        {"solver": jaxnmf.solvers.Extrapolated(inner=Own())},
        {"constraints": "box"},
        {"mask": np.ones(V.shape)},
        {"toward": (None, H[:3])},
        {"known_H": np.vstack([H[:1], np.full((2, 30), np.nan)])},
    ],
    ids=lambda given: next(iter(given)),
)
def test_other_problems_are_compiled(given):
    given = {"l2": 0.1, "tol": 0.1} | given
    program = jaxnmf.factorize(V, 3, pad=False, **given)
    found = jaxnmf.factorize(V, 3, **given)
    assert found.trace.objective[-1] == pytest.approx(program.objective, rel=1e-4)
    called = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tiny, "clocked", lambda *a, **k: called.append(a))
        jaxnmf.factorize(V, 3, **given)
    assert not called
