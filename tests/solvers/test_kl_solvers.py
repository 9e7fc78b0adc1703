"""Kullback-Leibler solvers against float64 NumPy and against published results."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
from numpy.testing import assert_allclose

import jaxnmf
from jaxnmf import datasets, metrics
from jaxnmf.data.convert import as_operand
from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import make_loss, make_solver
from jaxnmf.run.programs import precision
from jaxnmf.solvers.kl import coordinate_pass, damped_newton, newton
from jaxnmf.solvers.kl_admm import proximal
from jaxnmf.solvers.kl_newton import newton_step


@pytest.fixture
def start(rng):
    V = rng.poisson(3 * rng.random((14, 3)) @ rng.random((3, 11)) + 0.5).astype(float)
    return V, rng.random((3, 14)) + 0.1, rng.random((3, 11)) + 0.1


def one_pass(V, Wt, H, damped):
    """Hsieh & Dhillon's pass, and Hien & Gillis's damping, entry by entry."""
    H = H.copy()
    for j in range(H.shape[1]):
        v = V[:, j]
        theta = 1 / np.sqrt(v[v > 0].min()) if (v > 0).any() else 0.0
        for k in range(H.shape[0]):
            w, x = Wt[k], Wt.T @ H[:, j]
            g, c = (w * (1 - v / x)).sum(), (w * w * v / x**2).sum()
            if c == 0:
                H[k, j] = 0 if g > 0 else H[k, j]
                continue
            d = max(0, H[k, j] - g / c) - H[k, j]
            decrement = theta * np.sqrt(c) * abs(d)
            if damped and g > 0 and decrement > 0.683802:
                d = d / (1 + decrement)
            H[k, j] += d
    return H


@pytest.mark.parametrize("side", ["H", "W"])
@pytest.mark.parametrize("block", [None, 2], ids=["whole", "blocks"])
@pytest.mark.parametrize("damped", [False, True], ids=["newton", "damped"])
def test_a_pass_is_that_of_the_papers(start, damped, block, side):
    V, Wt, H = start
    scalar = damped_newton if damped else newton
    with precision("float64") as dtype:
        operand = as_operand(V, dtype)
        if block is not None:
            operand = dataclasses.replace(operand, block=block)
        problem = Problem.of(operand, make_loss("kl"))
        fixed, free = jnp.asarray(Wt), jnp.asarray(H)
        if side == "H":
            found = coordinate_pass(problem, fixed, free, scalar, 1)
            expected = one_pass(V, Wt, H, damped)
        else:
            found = coordinate_pass(problem.T, free, fixed, scalar, 1)
            expected = one_pass(V.T, H, Wt, damped)
        assert_allclose(np.asarray(found), expected, rtol=1e-9, atol=1e-12)


def test_the_damping_is_needed(start):
    """The NumPy passes differ, so that the test above can tell them apart."""
    V, Wt, H = start
    far = 20 * H
    assert not np.allclose(one_pass(V, Wt, far, True), one_pass(V, Wt, far, False))


def divergence(V, X):
    """Of each column, entry by entry."""
    safe = np.where(V > 0, V, 1)
    return (np.where(V > 0, V * np.log(safe / X), 0) - V + X).sum(0)


def column_newton(V, Wt, H, l1, l2):
    """H + d with each column's exact d, by SciPy's active sets."""
    found = np.empty_like(H)
    for j in range(H.shape[1]):
        v, h, x = V[:, j], H[:, j], Wt.T @ H[:, j]
        slope = (Wt * (1 - v / x)).sum(1) + l1 + l2 * h
        curvature = (Wt * (v / x**2)) @ Wt.T + l2 * np.eye(len(h))
        root = scipy.linalg.cholesky(curvature)
        target = scipy.linalg.solve(root.T, curvature @ h - slope)
        found[:, j] = scipy.optimize.nnls(root, target)[0]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("side", ["H", "W"])
@pytest.mark.parametrize("block", [None, 2], ids=["whole", "blocks"])
def test_a_newton_step_is_that_of_each_column(start, block, side):
    V, Wt, H = start
    # Near enough to the solution that full steps descend.
    near = jaxnmf.factorize(V, 3, loss="kl", solver="mu", max_iter=50, tol=0)
    Wt, H = np.float64(near.W.T) + 1e-3, np.float64(near.H) + 1e-3
    l1, l2 = 0.1, 0.2
    with precision("float64") as dtype:
        operand = as_operand(V, dtype)
        if block is not None:
            operand = dataclasses.replace(operand, block=block)
        both = (Penalty(l1=l1, l2=l2),) * 2
        problem = Problem.of(operand, make_loss("kl"), penalties=both)
        fixed, free = jnp.asarray(Wt), jnp.asarray(H)
        if side == "H":
            found = newton_step(problem, fixed, free, 500)
            expected = column_newton(V, Wt, H, l1, l2)
        else:
            found = newton_step(problem.T, free, fixed, 500)
            expected = column_newton(V.T, H, Wt, l1, l2)
    assert_allclose(np.asarray(found), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("scale", [0.01, 20.0])
def test_a_newton_step_raises_no_column(start, scale):
    """From afar, where full steps of the quadratic model do."""
    V, Wt, H = start
    far = scale * H
    before = divergence(V, Wt.T @ far)
    bare = np.maximum(column_newton(V, Wt, far, 0, 0), 1e-12)
    if scale > 1:
        assert (divergence(V, Wt.T @ bare) > before).any()
    with precision("float64") as dtype:
        problem = Problem.of(as_operand(V, dtype), make_loss("kl"))
        found = newton_step(problem, jnp.asarray(Wt), jnp.asarray(far), 3)
    assert (divergence(V, Wt.T @ np.asarray(found)) <= before * (1 + 1e-13)).all()


@pytest.mark.parametrize("side", ["H", "W"])
def test_a_newton_step_empties_no_column_of_counts(start, side):
    """From so far above V that the model of a column has its minimum at 0."""
    V, fixed, free = start
    V = V + 1
    if side == "W":
        V, fixed, free = V.T, free, fixed
    free = 300 * free
    with precision("float64") as dtype:
        problem = Problem.of(as_operand(V, dtype), make_loss("kl"))
        found = np.asarray(
            newton_step(problem, jnp.asarray(fixed), jnp.asarray(free), 3)
        )
    assert (found.sum(0) > 0).all()
    assert (divergence(V, fixed.T @ found) < divergence(V, fixed.T @ free)).all()


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.3, 0.7)])
def test_a_mirror_step_minimises_its_model(start, l1, l2):
    V, Wt, H = start
    with precision("float64") as dtype:
        both = (Penalty(l1=l1, l2=l2),) * 2
        problem = Problem.of(as_operand(V, dtype), make_loss("kl"), penalties=both)
        solver = make_solver("kl-mirror", {"accelerated": False})
        fixed, free = jnp.asarray(Wt), jnp.asarray(H)
        state = solver.half_init(problem, fixed, free)
        found = np.asarray(solver.half_step(problem, fixed, free, state)[0])
    slope = Wt @ (1 - V / (Wt.T @ H))
    L = V.sum(0)
    for (k, j), h in np.ndenumerate(H):

        def model(z, k=k, j=j, h=h):
            penalty = l1 * z + 0.5 * l2 * z * z
            return slope[k, j] * z + penalty + L[j] * (z / h - np.log(z))

        best = scipy.optimize.minimize_scalar(
            model, bounds=(1e-6, 10 * h), method="bounded", options={"xatol": 1e-10}
        )
        assert found[k, j] == pytest.approx(best.x, rel=1e-5)


@pytest.mark.parametrize("v", [0.0, 1e-6, 3.0, 1e4])
@pytest.mark.parametrize("z", [-50.0, 0.0, 2.0, 1e3])
@pytest.mark.parametrize("alpha", [-1.0, 20.0])
def test_the_split_product_minimises_its_part_of_the_lagrangian(v, z, alpha):
    rho = 0.3

    def slope(x):
        return 1 - v / x + alpha + rho * x - z

    with precision("float64"):
        arguments = (jnp.full((1, 1), x) for x in (z, alpha, rho * v))
        found = proximal(*arguments).item() / rho
    low, high = 1e-12, 1e6
    if slope(low) > 0:  # the minimum over x ≥ 0 is at 0
        assert v == 0
        assert found == 0
    else:
        best = scipy.optimize.brentq(slope, low, high, xtol=1e-15, rtol=1e-14)
        assert found == pytest.approx(best, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["H", "W"])
@pytest.mark.parametrize("block", [None, 2], ids=["whole", "blocks"])
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.3, 0.7)])
def test_admm_for_a_fixed_factor_finds_its_minimum(start, block, side, l1, l2):
    """That of SciPy's bounded quasi-Newton method, of rows far apart in size."""
    V, Wt, H = start
    V = V * np.logspace(-2, 2, len(V))[:, None]
    with precision("float64") as dtype:
        operand = as_operand(V, dtype)
        if block is not None:
            operand = dataclasses.replace(operand, block=block)
        both = (Penalty(l1=l1, l2=l2),) * 2
        problem = Problem.of(operand, make_loss("kl"), penalties=both)
        if side == "W":
            problem, V, Wt, H = problem.T, V.T, H, Wt
        solver = make_solver("kl-admm", {"inner": 20})
        fixed, free = jnp.asarray(Wt), jnp.asarray(H)
        state = solver.half_init(problem, fixed, free)
        half_step = jax.jit(solver.half_step)
        for _ in range(100):
            free, state = half_step(problem, fixed, free, state)
        found = np.asarray(free)

    def objective(z):
        h = z.reshape(H.shape)
        x = Wt.T @ h
        value = divergence(V, x).sum() + l1 * z.sum() + 0.5 * l2 * (z * z).sum()
        return value, (Wt @ (1 - V / x) + l1 + l2 * h).ravel()

    best = scipy.optimize.minimize(
        objective, H.ravel(), jac=True, method="L-BFGS-B",
        bounds=[(1e-12, None)] * H.size,
        options={"maxiter": 5000, "maxfun": 50000, "ftol": 1e-15, "gtol": 1e-9},
    )  # fmt: skip
    assert objective(found.ravel())[0] == pytest.approx(best.fun, rel=1e-7)


def test_over_relaxed_updates_are_longer_steps_that_descend(start):
    V, Wt, H = start
    for _ in range(5):  # from afar a longer step would overshoot
        H = H * (Wt @ (V / (Wt.T @ H))) / Wt.sum(1)[:, None]
    with precision("float64") as dtype:
        problem = Problem.of(as_operand(V, dtype), make_loss("kl"))
        solver = make_solver("mu-overrelaxed", {"relaxation": 1.5})
        fixed, free = jnp.asarray(Wt), jnp.asarray(H)
        state = solver.half_init(problem, fixed, free)
        found, grown = solver.half_step(problem, fixed, free, state)
        # So far that the plain update is taken.
        too_far = state._replace(relaxation=jnp.asarray(1e6))
        plain, shrunk = solver.half_step(problem, fixed, free, too_far)
    ratio = (Wt @ (V / (Wt.T @ H))) / Wt.sum(1)[:, None]
    floor = 1e-10 * H.mean()
    long = np.maximum(H * (1 + 1.5 * (ratio - 1)), floor)
    assert divergence(V, Wt.T @ long).sum() < divergence(V, Wt.T @ (H * ratio)).sum()
    assert_allclose(np.asarray(found), long, rtol=1e-10)
    assert_allclose(np.asarray(plain), H * ratio, rtol=1e-10)
    assert float(grown.relaxation) == pytest.approx(1.1 * 1.5)
    assert float(shrunk.relaxation) == pytest.approx(0.7e6)


@pytest.mark.parametrize(
    ("solver", "options"), [("kl-sn-mu", {"newton": 0}), ("mu-extrapolated", {})]
)
def test_updates_settle_under_a_heavy_square_penalty(start, solver, options):
    """With the exponent 1 they swing between two points for ever."""
    with precision("float64"):
        found = jaxnmf.factorize(
            start[0], 3, loss="kl", solver=make_solver(solver, options), l2=1e3,
            max_iter=60, tol=0, record_every=1, dtype="float64",
        )  # fmt: skip
    losses = np.asarray(found.trace.objective)
    assert np.diff(losses).max() <= 1e-6 * losses[-1]
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver",
    ["kl-admm", "kl-cd", "kl-newton", "kl-sn-mu", "mu-extrapolated", "mu-overrelaxed"],
)
def test_it_is_faster_than_multiplicative_updates(solver):
    data = datasets.load("synthetic", m=60, n=40, rank=4, noise="poisson").V
    plain = jaxnmf.factorize(data, 4, loss="kl", solver="mu", max_iter=300, tol=0)
    target = plain.objective * (1 + 1e-4)
    found = jaxnmf.factorize(
        data, 4, loss="kl", solver=solver, max_iter=300, tol=0, target=target
    )
    assert found.status == "target"
    assert found.iterations <= 200


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver", ["mu", "mu-extrapolated", "mu-overrelaxed", "kl-admm", "kl-newton"]
)
@pytest.mark.usefixtures("optimised")
def test_leukaemia_types_are_found(solver, shared_data):
    """Brunet et al. (2004): p = 3 tells ALL-B, ALL-T and AML apart."""
    data = datasets.load("all_aml")
    runs = [
        jaxnmf.factorize(
            data.V, 3, loss="kl", solver=solver, seed=seed, max_iter=200, tol=1e-6
        )
        for seed in range(3)
    ]
    best = min(runs, key=lambda run: run.objective)
    clusters = metrics.cluster_by_component(best.W, best.H)
    assert metrics.adjusted_rand_index(data.labels, clusters) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "max_iter"), [("mu-extrapolated", 1500), ("kl-newton", 150)]
)
@pytest.mark.usefixtures("optimised")
def test_faces_reach_the_divergence_known(solver, max_iter, shared_data):
    """CBCL, p = 10: extrapolation passes 0.1839 of D(V | row means), where plain
    updates stood at 0.1877 after 30 s."""
    V = (256 - datasets.load("cbcl_faces").V) / 256  # the reference has it inverted
    means = V.mean(axis=0)  # and its rows are the pixels
    normaliser = float(
        (np.where(V > 0, V * np.log(np.maximum(V, 1e-30) / means), 0) - V + means).sum()
    )
    assert normaliser == pytest.approx(41109, rel=2e-3)
    found = jaxnmf.factorize(
        V, 10, loss="kl", solver=solver, max_iter=max_iter, tol=0, kkt=False
    )
    assert found.objective / normaliser <= 0.1839
