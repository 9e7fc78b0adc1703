"""HALS against scikit-learn's coordinate descent; extrapolation against its paper."""

import pytest
from numpy.testing import assert_allclose
from sklearn.decomposition._nmf import _fit_coordinate_descent

import jaxnmf
from jaxnmf import datasets
from jaxnmf.kernels.coordinate import TILE, TILED_FROM
from jaxnmf.solvers import HALS, MU, Extrapolated


@pytest.fixture
def start(rng):
    V = rng.random((30, 4)) @ rng.random((4, 20)) + 0.1 * rng.random((30, 20))
    return V, rng.random((30, 4)), rng.random((4, 20))


def test_a_plain_sweep_is_scikit_learns_coordinate_descent(start):
    """Which updates its first factor first: ours is H, so it is given Vᵀ."""
    V, W, H = start
    result = jaxnmf.factorize(
        V, 4, solver=HALS(inner=1), init=(W, H), dtype="float64", max_iter=7, tol=0
    )
    Ht, Wt, _ = _fit_coordinate_descent(
        V.T, H.T.copy(), W.T.copy(), tol=0, max_iter=7, l1_reg_W=0, l2_reg_W=0
    )
    assert_allclose(result.W, Wt.T, rtol=1e-9)
    assert_allclose(result.H, Ht.T, rtol=1e-9)


def test_a_sweep_in_tiles_is_the_same_sweep(rng):
    """With so many components that a sweep works on tiles, the last one smaller."""
    rank = TILED_FROM + TILE // 2
    V, W, H = (rng.random(shape) for shape in ((150, 140), (150, rank), (rank, 140)))
    result = jaxnmf.factorize(
        V, rank, solver=HALS(inner=1), init=(W, H), dtype="float64", max_iter=3, tol=0
    )
    Ht, Wt, _ = _fit_coordinate_descent(
        V.T, H.T.copy(), W.T.copy(), tol=0, max_iter=3, l1_reg_W=0, l2_reg_W=0
    )
    assert_allclose(result.W, Wt.T, rtol=1e-8, atol=1e-10)
    assert_allclose(result.H, Ht.T, rtol=1e-8, atol=1e-10)


def test_penalties_are_scikit_learns_too(start):
    V, W, H = start
    result = jaxnmf.factorize(
        V,
        4,
        solver=HALS(inner=1),
        init=(W, H),
        l1=(0.3, 0.1),
        l2=(0.2, 0.5),
        dtype="float64",
        max_iter=5,
        tol=0,
    )
    Ht, Wt, _ = _fit_coordinate_descent(
        V.T,
        H.T.copy(),
        W.T.copy(),
        tol=0,
        max_iter=5,
        l1_reg_W=0.1,
        l1_reg_H=0.3,
        l2_reg_W=0.5,
        l2_reg_H=0.2,
    )
    assert_allclose(result.W, Wt.T, rtol=1e-9)
    assert_allclose(result.H, Ht.T, rtol=1e-9)


def test_the_stopping_ratio_ends_the_sweeps(start):
    V, W, H = start

    def loss(**options):
        solver = HALS(**options)
        return jaxnmf.factorize(
            V, 4, solver=solver, init=(W, H), dtype="float64", max_iter=1, tol=0
        ).objective

    assert loss(inner=6, delta=1e-12) == pytest.approx(loss(inner=6), rel=1e-12)
    # The first sweep itself moves H no further than the first.
    assert loss(inner=6, delta=1.0) == pytest.approx(loss(inner=1), rel=1e-12)


# Weak half-steps want β to grow slowly.
SLOW = {"growth": 1.01, "ceiling_growth": 1.005}


@pytest.mark.parametrize(
    ("inner", "options"), [("hals", {}), (MU(), SLOW)], ids=["hals", "mu"]
)
def test_extrapolation_is_faster_than_its_inner_solver(inner, options, start):
    V, W, H = start
    common = {"init": (W, H), "dtype": "float64", "tol": 0}
    plain = jaxnmf.factorize(V, 4, solver=inner, max_iter=400, **common)
    target = plain.objective * (1 + 1e-6)
    solver = Extrapolated(inner=inner, **options)
    ahead = jaxnmf.factorize(V, 4, solver=solver, target=target, max_iter=400, **common)
    assert ahead.status == "target"
    assert ahead.iterations < plain.iterations


@pytest.mark.slow
def test_extrapolation_does_not_stall_in_single_precision(rng):
    """A good fit, where two float32 objectives no longer tell up from down."""
    V = rng.random((200, 4)) ** 3 @ rng.random((4, 60)) + 1e-3 * rng.random((200, 60))
    common = {"solver": "extrapolated", "seed": 1, "max_iter": 1500, "tol": 0}
    single = jaxnmf.factorize(V, 4, dtype="float32", **common)
    double = jaxnmf.factorize(V, 4, dtype="float64", **common)
    assert single.relative_error == pytest.approx(double.relative_error, rel=2e-2)


def test_only_an_alternating_solver_can_be_extrapolated():
    with pytest.raises(ValueError, match=r"optax.*not an alternating"):
        Extrapolated(inner="optax")


@pytest.mark.slow
def test_faces_reach_the_error_known_for_a_hundred_steps(shared_data):
    """CBCL, p = 49: extrapolated HALS reaches 0.0811 to 0.0812 in 100 steps."""
    V = datasets.load("cbcl_faces").V / 256
    result = jaxnmf.factorize(
        V, 49, solver="extrapolated", max_iter=100, tol=0, kkt=False
    )
    assert result.relative_error <= 0.0813
