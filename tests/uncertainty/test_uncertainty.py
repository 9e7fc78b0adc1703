"""`jaxnmf.uncertainty`: intervals against known answers, and what it refuses."""

import importlib.util
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import minimize
from scipy.stats import chi2

import jaxnmf
from jaxnmf.uncertainty.displacement import Displaced
from jaxnmf.uncertainty.intervals import interval, matched_to, shares_of_variance

RNG = np.random.default_rng(0)
M, N, P = 40, 10, 2
W = RNG.gamma(1.0, size=(M, P)) * (RNG.random((M, P)) < 0.8)
H = RNG.gamma(1.0, size=(P, N))
H[0, :2], H[1, 2:4] = 0, 0
V = (W @ H) * np.maximum(1 + 0.05 * RNG.standard_normal((M, N)), 0)
COUNTS = np.random.default_rng(1).poisson(W @ H * 30)
CASES = {
    "bootstrap": (V, {}),
    "bootstrap kl": (COUNTS, {"loss": "kullback-leibler"}),
    "poisson": (COUNTS, {"loss": "kullback-leibler"}),
    "residual": (V, {}),
    "displacement": (V, {}),
}


@pytest.fixture(scope="session")
def found():
    made = {}

    def of(case):
        if case not in made:
            data, options = CASES[case]
            made[case] = jaxnmf.uncertainty(
                data, P, method=case.split()[0], replicates=30, **options
            )
        return made[case]

    return of


@pytest.mark.parametrize("case", CASES)
def test_intervals_hold_the_fit_and_its_scale(case, found):
    one = found(case)
    result = one.result
    np.testing.assert_allclose(result.H.sum(1), 1, rtol=1e-5)
    X = W @ H * (30 if data_is_counts(case) else 1)
    assert np.linalg.norm(result.W @ result.H - X) < 0.2 * np.linalg.norm(X)
    for name, (low, high) in (("W", one.W_interval), ("H", one.H_interval)):
        fit = getattr(result, name)
        assert low.shape == high.shape == fit.shape
        assert (low >= 0).all()
        assert (low <= high).all()
        within = (low <= fit + 1e-6) & (fit <= high + 1e-6)
        assert within.mean() > 0.9
    # Narrow, as the noise of a twentieth is, and not of no width.
    low, high = one.H_interval
    large = result.H > 0.1 / N
    width = (high - low)[large] / result.H[large]
    assert 0.005 < np.median(width) < 0.4
    np.testing.assert_allclose(one.variance.sum(), 1)
    assert one.H_zero.any()
    assert (low[one.H_zero] == 0).all()
    assert not one.H_zero[result.H > 0.5 / N].any()


def data_is_counts(case):
    return CASES[case][0] is COUNTS


@pytest.mark.slow
def test_stability_and_variance_are_per_component(found):
    one = found("bootstrap")
    assert one.stability.shape == one.variance.shape == (P,)
    assert one.stability.min() > 0.9
    low, high = one.variance_interval
    assert (low <= one.variance).all()
    assert (one.variance <= high).all()
    assert one.H_replicates.shape == (30, P, N)
    assert np.isnan(found("displacement").stability).all()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_intervals(found):
    again = jaxnmf.uncertainty(V, P, replicates=30)
    other = jaxnmf.uncertainty(V, P, replicates=30, seed=1)
    first = found("bootstrap").H_interval[0]
    assert (again.H_interval[0] == first).all()
    assert (other.H_interval[0] != first).any()


@pytest.mark.slow
def test_displacement_is_a_profile_likelihood(found):
    """Against a minimiser of SciPy over everything but the held share."""
    one = found("displacement")
    result, p = one.result, P
    free = M * N - p * (M + N - p)
    dQ = chi2.ppf(0.9, 1) * (2 * result.objective / free) / 2
    k, j = 0, int(np.argmax(result.H[0]))
    for end in (one.H_interval[0][k, j], one.H_interval[1][k, j]):
        others = [i for i in range(N) if i != j]

        def objective(x, end=end, others=others):
            """‖V − W H‖²/2 with W by least squares, and its gradient in H."""
            rows = np.zeros((p, N))
            rows[1] = x[N - 1 :]
            rows[0, others] = x[: N - 1]
            tau = end / (1 - end)
            rows[0, j] = tau * rows[0, others].sum()
            inner = np.stack([nnls(rows.T, v) for v in V])
            off = inner @ rows - V
            slope = inner.T @ off
            in_row = slope[0, others] + tau * slope[0, j]
            return 0.5 * (off**2).sum(), np.concatenate([in_row, slope[1]])

        start = np.concatenate([result.H[0, others], result.H[1]])
        bounds = [(0, None)] * len(start)
        best = minimize(
            objective, start, jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": 500, "ftol": 1e-12, "gtol": 1e-8},
        )  # fmt: skip
        np.testing.assert_allclose(best.fun - result.objective, dQ, rtol=0.05)


def nnls(A, b):
    from scipy.optimize import nnls as solve

    return solve(A, b)[0]


def test_the_nearest_row_of_a_share():
    rng = np.random.default_rng(2)
    for share in (0.0, 0.05, 0.3, 0.9):
        solver = Displaced(component=0.0, column=2.0, share=share)
        for _ in range(5):
            row = rng.standard_normal(7)
            got = np.asarray(solver.nearest(jnp.asarray(row)), float)
            assert got.min() >= 0
            np.testing.assert_allclose(got[2], share * got.sum(), atol=1e-5)
            # Optimal: no feasible point near it is nearer to the row.
            for _ in range(200):
                near = np.maximum(got + 0.05 * rng.standard_normal(7), 0)
                near[2] = 0
                near[2] = share / (1 - share) * near.sum()
                assert np.sum((near - row) ** 2) >= np.sum((got - row) ** 2) - 1e-4


def test_quantiles_leave_out_as_many_on_each_side():
    values = np.random.default_rng(0).permutation(np.arange(1.0, 20.0))[:, None]
    (low, high), zero = interval(values, 0.9, 1.0)
    assert (low, high, zero) == (1, 19, False)
    values[:3] = 0
    (low, _), zero = interval(values, 0.8, 1.0)
    assert zero
    assert low == 0


def test_components_are_matched_and_their_shares_sum_to_one():
    order = np.array([[1, 0, 2], [2, 1, 0]])
    fit, left = RNG.random((3, 5)) + np.eye(3, 5) * 4, RNG.random((4, 3))
    rows = np.stack([fit[o] for o in order])
    columns = np.stack([left[:, o] for o in order])
    got_W, got_H = matched_to(columns, rows, fit)
    np.testing.assert_array_equal(got_H, np.stack([fit] * 2))
    np.testing.assert_array_equal(got_W, np.stack([left] * 2))
    X = left @ fit
    each = [np.sum(np.outer(left[:, k], fit[k]) * X) for k in range(3)]
    expected = np.array(each)
    np.testing.assert_allclose(shares_of_variance(left, fit), expected / np.sum(X**2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "bootstap"}, "did you mean 'bootstrap'"),
        ({"level": 1.0}, "level=1.0 must be a number between 0 and 1"),
        ({"replicates": 10}, "replicates=10.*at least 19"),
        ({"replicates": 0}, "replicates=0 must be an integer"),
        ({"seed": -1}, "seed=-1 must be an integer"),
        ({"start": "warm"}, "start='warm' must be 'fitted' or 'random'"),
        ({"dQ": 4.0}, "dQ=4.0.*the method is 'bootstrap'"),
        ({"method": "poisson"}, "for counts"),
        ({"method": "displacement", "loss": "kl"}, "Frobenius"),
        ({"method": "displacement", "l1": 0.1}, "does not support l1"),
        ({"solver": "semi"}, "solver 'semi'"),
        ({"l1": -1.0}, "l1"),
    ],
)
def test_bad_input_is_refused_by_name(options, message):
    if options.get("loss") == "kl":
        options = {**options, "loss": "kullback-leibler"}
    with pytest.raises(ValueError, match=message):
        jaxnmf.uncertainty(V, P, **options)


@pytest.mark.slow
def test_sparse_data_have_a_bootstrap_alone():
    data = sp.csr_array(np.where(np.median(V) < V, V, 0))
    with pytest.raises(ValueError, match=r"pass V\.toarray"):
        jaxnmf.uncertainty(data, P, method="residual")
    with pytest.raises(ValueError, match="penalties on W"):
        jaxnmf.uncertainty(data, P, l1=(0.1, 0.0))
    sparse = jaxnmf.uncertainty(data, P, replicates=30, seed=2)
    dense = jaxnmf.uncertainty(data.toarray(), P, replicates=30, seed=2)
    for one, other in zip(sparse.H_interval, dense.H_interval, strict=True):
        np.testing.assert_allclose(one, other, atol=0.02)


@pytest.mark.slow
def test_a_loss_without_weights_copies_rows():
    """Itakura-Saito does not depend on the scale of a row."""
    data = V + 0.05
    one = jaxnmf.uncertainty(data, P, loss="itakura-saito", replicates=20, max_iter=100)
    low, high = one.H_interval
    assert ((low <= one.result.H) & (high >= one.result.H)).mean() > 0.8
    assert np.median(high - low) > 0.005 * np.median(one.result.H)


@pytest.mark.slow
def test_names_are_kept():
    import pandas as pd

    frame = pd.DataFrame(V, columns=[f"c{j}" for j in range(N)])
    one = jaxnmf.uncertainty(frame, P, replicates=20)
    assert one.result.column_names is not None
    assert one.result.column_names[3] == "c3"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "loss", "noise"),
    [
        ("bootstrap", "frobenius", "even"),
        ("poisson", "kullback-leibler", "counts"),
    ],
)
def test_coverage_of_planted_factors(method, loss, noise):
    """Nominal 90 % covers 85 to 95 of the entries of H, and no less than 80 here: six
    trials leave a spread."""
    path = Path(__file__).parents[2] / "experiments/benchmarks/uncertainty_coverage.py"
    spec = importlib.util.spec_from_file_location("uncertainty_coverage", path)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    in_W, in_H = benchmark.coverage(method, loss, noise, 6, 60)
    assert 0.8 < in_H < 0.97
    assert 0.75 < in_W < 0.97
