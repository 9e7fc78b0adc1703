"""Losses for outliers, overdispersed counts and Boolean data, against SciPy."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
from scipy import special, stats

import jaxnmf
from jaxnmf import metrics, registry
from jaxnmf.run.programs import precision

# One shape for all, so that a loss is compiled once.
M, N, RANK = 60, 40, 3
OPTIONS: dict[str, dict[str, float]] = {
    "huber": {"delta": 0.7},
    "l1": {"epsilon": 0.2},
    "cauchy": {"gamma": 0.8},
    "negative-binomial": {"dispersion": 0.4},
    "zero-inflated-poisson": {"inflation": 0.3},
    "bernoulli": {},
}
ROBUST = ["huber", "l1", "cauchy"]
COUNTS = ["negative-binomial", "zero-inflated-poisson"]
each_loss = pytest.mark.parametrize("loss", OPTIONS)


def phi(loss: str, v: np.ndarray, x: np.ndarray) -> np.ndarray:
    """φ(v, x) in NumPy, as it is written in the literature."""
    r = np.abs(v - x)
    if loss == "huber":
        return np.where(r <= 0.7, r**2 / 2, 0.7 * r - 0.7**2 / 2)
    if loss == "l1":
        return np.sqrt(r**2 + 0.2**2) - 0.2
    if loss == "cauchy":
        return 0.8**2 / 2 * np.log(1 + r**2 / 0.8**2)
    if loss == "bernoulli":
        return special.rel_entr(v, x) + special.rel_entr(1 - v, 1 - x)
    if loss == "negative-binomial":
        n = 1 / 0.4
        return special.xlogy(v, v / x) - (v + n) * np.log((v + n) / (x + n))
    at_zero = -np.log(0.3 + 0.7 * np.exp(-x))
    return np.where(v > 0, special.kl_div(v, x), at_zero)


def slope(loss: str, v: np.ndarray, x: np.ndarray) -> np.ndarray:
    """∂φ/∂x."""
    r = x - v
    if loss == "huber":
        return np.clip(r, -0.7, 0.7)
    if loss == "l1":
        return r / np.sqrt(r**2 + 0.2**2)
    if loss == "cauchy":
        return r / (1 + r**2 / 0.8**2)
    if loss == "bernoulli":
        return r / (x * (1 - x))
    if loss == "negative-binomial":
        return r / (x * (1 + 0.4 * x))
    at_zero = 0.7 * np.exp(-x) / (0.3 + 0.7 * np.exp(-x))
    return np.where(v > 0, r / x, at_zero)


def data(loss: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V as the loss has it, and a start that is near the factors of its mean."""
    rng = np.random.default_rng(3)
    if loss == "bernoulli":  # slow in SciPy, and so smaller
        W = rng.dirichlet(np.ones(RANK), size=M // 2)
        H = rng.beta(0.5, 0.5, size=(RANK, N // 2))
        V = (rng.random((M // 2, N // 2)) < W @ H).astype(float)
        return V, W, np.clip(H, 0.05, 0.95)
    W = rng.gamma(1.0, size=(M, RANK)) + 0.05
    H = 2 * rng.gamma(1.0, size=(RANK, N)) + 0.1
    mean = W @ H
    if loss in ROBUST:
        V = np.maximum(mean + rng.normal(0, 0.2, mean.shape), 0)
        V[rng.random(V.shape) < 0.08] += 8
    elif loss == "negative-binomial":
        # Less dispersed than the loss has it, which leaves one minimum.
        V = rng.negative_binomial(20, 20 / (20 + 10 * mean)).astype(float)
        H = 10 * H
    else:
        V = rng.poisson(mean) * (rng.random(mean.shape) < 0.7).astype(float)
    scatter = rng.uniform(0.8, 1.2, W.shape), rng.uniform(0.8, 1.2, H.shape)
    return V, W * scatter[0], H * scatter[1]


@pytest.fixture
def _float64():
    with precision("float64"):
        yield


def pairs(loss: str) -> tuple[np.ndarray, np.ndarray]:
    """Entries v with x over four decades, v = 0 and v = x among them."""
    grid = np.logspace(-2, 2, 9)
    if loss == "bernoulli":
        v, x = np.meshgrid([0.0, 1.0], np.linspace(0.01, 0.99, 9))
    elif loss in ROBUST:
        v, x = np.meshgrid(np.concatenate([[0.0], grid]), grid)
    else:
        v, x = np.meshgrid([0.0, 1.0, 2.0, 10.0, 100.0], grid)
    return v.ravel(), x.ravel()


@each_loss
@pytest.mark.usefixtures("_float64")
def test_pointwise_is_the_loss_and_0_at_v(loss):
    v, x = pairs(loss)
    made = registry.make_loss(loss, OPTIONS[loss])
    found = made.pointwise(jnp.asarray(v), jnp.asarray(x))
    np.testing.assert_allclose(found, phi(loss, v, x), rtol=1e-9, atol=1e-11)
    same = v[v < 1] if loss == "bernoulli" else v
    x = np.maximum(same, 1e-12)
    assert float(made.pointwise(jnp.asarray(same), jnp.asarray(x)).max()) < 1e-11


@pytest.mark.usefixtures("_float64")
def test_losses_of_counts_are_likelihoods():
    v, x = pairs("negative-binomial")
    n, made = 1 / 0.4, registry.make_loss("negative-binomial", {"dispersion": 0.4})
    found = made.pointwise(jnp.asarray(v), jnp.asarray(x))
    best, mine = (stats.nbinom.logpmf(v, n, n / (n + mean)) for mean in (v, x))
    np.testing.assert_allclose(found, best - mine, rtol=1e-9, atol=1e-9)
    # A share of zeros more than a Poisson law has, up to what does not depend on x.
    near = (v == 0) | (np.abs(np.log10(x / np.maximum(v, 1))) < 1.1)
    v, x = v[near], x[near]
    made = registry.make_loss("zero-inflated-poisson", {"inflation": 0.3})
    found = made.pointwise(jnp.asarray(v), jnp.asarray(x))
    best, mine = (
        np.log(0.7 * stats.poisson.pmf(v, mean) + 0.3 * (v == 0)) for mean in (v, x)
    )
    np.testing.assert_allclose(found, best - mine, rtol=1e-9, atol=1e-9)


@each_loss
@pytest.mark.usefixtures("_float64")
def test_difference_of_the_split_is_the_derivative(loss):
    v, x = pairs(loss)
    made = registry.make_loss(loss, OPTIONS[loss])
    a, b = (np.asarray(y) for y in made.split(jnp.asarray(v), jnp.asarray(x)))
    assert (a >= 0).all()
    assert (b >= 0).all()
    np.testing.assert_allclose(b - a, slope(loss, v, x), rtol=1e-9, atol=1e-9)
    # And the slope by which SciPy descends is that of φ.
    h = 1e-6 * x
    expected = (phi(loss, v, x + h) - phi(loss, v, x - h)) / (2 * h)
    np.testing.assert_allclose(b - a, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loss", [*ROBUST, *COUNTS])
def test_float32_has_the_digits_of_the_difference(loss):
    v = np.array([1.0, 3.0, 7.0, 40.0], np.float32)
    x = (v * np.float32(1 + 1e-3)).astype(np.float32)
    made = registry.make_loss(loss, OPTIONS[loss])
    found = made.pointwise(jnp.asarray(v), jnp.asarray(x))
    assert found.dtype == np.float32
    u = x.astype(float) - v
    # The second derivative at x = v, and half of it less a third of its change.
    curvature = {"negative-binomial": 1 / (v * (1 + 0.4 * v))}
    curvature["zero-inflated-poisson"] = 1 / v.astype(float)
    expected = u**2 / 2 * curvature.get(loss, 1.0)
    expected = expected / 0.2 if loss == "l1" else expected
    np.testing.assert_allclose(found, expected, rtol=2e-2)


def test_an_empty_or_a_large_entry_stays_finite():
    v = jnp.asarray([0.0, 0.0, 5.0], jnp.float32)
    x = jnp.asarray([1e-30, 1e4, 1e4], jnp.float32)
    for inflation in (0.0, 0.3):
        made = registry.make_loss("zero-inflated-poisson", {"inflation": inflation})
        value, (a, b) = made.pointwise(v, x), made.split(v, x)
        assert np.isfinite(np.asarray([value, a, b])).all()
    assert float(made.pointwise(v, x)[1]) == pytest.approx(-np.log(0.3), rel=1e-5)


# --- Against an optimiser of another library ------------------------------------------


def answer(loss: str, V: np.ndarray, W: np.ndarray, H: np.ndarray, known: Any) -> float:
    """The Σ φ over the known entries that L-BFGS-B reaches from (W, H)."""
    simplex = loss == "bernoulli"

    def factors(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        left, right = z[: W.size].reshape(W.shape), z[W.size :].reshape(H.shape)
        return special.softmax(left, 1) if simplex else left, right

    def value(z: np.ndarray) -> tuple[float, np.ndarray]:
        W, H = factors(z)
        X = W @ H
        X = np.clip(X, 1e-12, 1 - 1e-6 if simplex else np.inf)
        R = known * slope(loss, V, X)
        of_W, of_H = R @ H.T, W.T @ R
        if simplex:
            of_W = W * (of_W - (W * of_W).sum(1, keepdims=True))
        gradient = np.concatenate([of_W.ravel(), of_H.ravel()])
        return float((known * phi(loss, V, X)).sum()), gradient

    left = np.log(W) if simplex else W
    free = (-30.0, 30.0) if simplex else (0.0, np.inf)
    bounds = [free] * W.size + [(0.0, 1.0 if simplex else np.inf)] * H.size
    found = scipy.optimize.minimize(
        value,
        np.concatenate([left.ravel(), H.ravel()]),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 2000, "ftol": 1e-12, "gtol": 1e-8},
    )
    return float(found.fun)


def fitted(loss: str, V: Any, start: Any, **given: Any) -> Any:
    if loss == "bernoulli":
        given["constraints"] = ("simplex", "box")
    given = {"dtype": "float64", "max_iter": 2000, "tol": 1e-9, "kkt": False} | given
    given = {"loss_options": OPTIONS[loss]} | given
    return jaxnmf.factorize(V, RANK, loss=loss, init=start, **given)


@pytest.mark.slow
@each_loss
def test_the_default_solver_ends_where_scipy_does(loss):
    V, *start = data(loss)
    found = fitted(loss, V, tuple(start))
    X = np.clip(found.W @ found.H, 1e-12, 1 - 1e-6 if loss == "bernoulli" else np.inf)
    assert found.objective == pytest.approx(phi(loss, V, X).sum(), rel=1e-6)
    assert found.objective <= answer(loss, V, *start, 1.0) * (1 + 1e-3)


@pytest.mark.parametrize("loss", [*ROBUST, *COUNTS])
@pytest.mark.usefixtures("_float64")
def test_the_multiplicative_update_of_the_split_descends(loss):
    made = registry.make_loss(loss, OPTIONS[loss])
    assert made.mu_exponent == 1
    V, W, H = data(loss)

    def updated(V: np.ndarray, W: np.ndarray, H: np.ndarray) -> np.ndarray:
        a, b = map(np.asarray, made.split(jnp.asarray(V), jnp.asarray(W @ H)))
        return H * (W.T @ a) / (W.T @ b)

    values = [phi(loss, V, W @ H).sum()]
    for _ in range(20):
        H = updated(V, W, H)
        values.append(phi(loss, V, W @ H).sum())
        W = updated(V.T, H.T, W.T).T
        values.append(phi(loss, V, W @ H).sum())
    assert (np.diff(values) < 0).all()


def test_entries_that_are_unknown_do_not_count():
    V, *start = data("huber")
    known = np.random.default_rng(0).random(V.shape) < 0.8
    found = fitted("huber", np.where(known, V, np.nan), tuple(start), mask="nan")
    expected = phi("huber", V, found.W @ found.H)[known].sum()
    assert found.objective == pytest.approx(expected, rel=1e-6)
    assert found.objective <= answer("huber", V, *start, known) * (1 + 1e-3)


def test_known_components_and_outliers():
    # Rows of W are problems of their own, and convex.
    V, _, H = data("huber")
    found = jaxnmf.fit_W(
        V, H, loss=registry.make_loss("huber", {"delta": 0.7}), dtype="float64"
    )
    for v, w in zip(V[:4], found[:4], strict=True):
        best = scipy.optimize.minimize(
            lambda w, v=v: phi("huber", v, w @ H).sum(),
            np.ones(RANK),
            method="L-BFGS-B",
            bounds=[(0, None)] * RANK,
        )
        assert phi("huber", v, w @ H).sum() <= best.fun * (1 + 1e-3)


# --- Why one uses them ----------------------------------------------------------------


def planted() -> tuple[np.ndarray, np.ndarray, Any]:
    """V with gross outliers in one of twenty entries, V without, and its factors."""
    truth: Any = jaxnmf.datasets.load("synthetic", m=M, n=N, rank=RANK).truth
    clean = truth.W @ truth.H
    outliers = np.random.default_rng(1).random(clean.shape) < 0.05
    return clean + 10 * clean.mean() * outliers, clean, truth


def distances(found: Any) -> tuple[float, float]:
    """From the matrix without outliers, and one less the match with its factors."""
    _, clean, truth = planted()
    off = np.linalg.norm(found.W @ found.H - clean) / np.linalg.norm(clean)
    match = metrics.factor_match_score(found.W, found.H, truth.W, truth.H)
    return float(off), 1 - match


@pytest.mark.slow
@pytest.mark.parametrize("loss", ROBUST)
def test_gross_outliers_do_not_change_the_factors(loss):
    V, clean, _ = planted()
    (option,) = OPTIONS[loss]
    scale = {option: 0.1 * float(clean.mean())}
    found = fitted(loss, V, "random", loss_options=scale, seed=1)
    plain = jaxnmf.factorize(V, RANK, max_iter=2000, tol=1e-9)
    for robust, usual in zip(distances(found), distances(plain), strict=True):
        assert robust < 0.1 * usual


# --- What is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "options", "words"),
    [
        ("huber", {"delta": 0.0}, "delta=0.0 must be a finite number > 0"),
        ("l1", {"epsilon": -1.0}, "epsilon=-1.0 must be"),
        ("cauchy", {"gamma": np.nan}, "gamma=nan must be"),
        ("negative-binomial", {"dispersion": 0.0}, "dispersion=0.0 must be"),
        ("zero-inflated-poisson", {"inflation": 1.0}, "inflation=1.0 must be a number"),
        ("bernoulli", {}, r"needs W H ≤ 1: use constraints=\('simplex', 'box'\)"),
    ],
)
def test_options_that_do_not_fit_are_refused(loss, options, words):
    V = data("bernoulli")[0]
    with pytest.raises(ValueError, match=f"loss '{loss}'.*{words}"):
        jaxnmf.factorize(V, 2, loss=loss, loss_options=options)


def test_bernoulli_is_for_entries_up_to_one():
    with pytest.raises(ValueError, match="largest entry is 2; the loss 'bernoulli'"):
        fitted("bernoulli", np.full((4, 3), 2.0), "random")
    with pytest.raises(ValueError, match="loss 'bernoulli' needs W H ≤ 1"):
        jaxnmf.factorize(
            np.eye(4), 2, loss="bernoulli",
            constraints=("simplex", jaxnmf.Box(upper=2.0)),
        )  # fmt: skip


@each_loss
def test_a_sparse_matrix_is_refused(loss):
    with pytest.raises(ValueError, match="needs every entry of W H"):
        fitted(loss, sp.csr_array(data("bernoulli")[0]), "random")


def test_other_multiplicative_solvers_refuse_them():
    with pytest.raises(ValueError, match=r"does not support the loss 'huber'.*mu"):
        fitted("huber", data("huber")[0], "random", solver="mu-overrelaxed")


@pytest.mark.parametrize("scale", [1e-2, 1e1, 1e5])
@pytest.mark.parametrize("dispersion", [1e-3, 1.0, 1e2])
def test_overdispersed_counts_keep_the_digits_of_float32(dispersion, scale):
    rng = np.random.default_rng(0)
    x = (scale * rng.gamma(2.0, size=400)).astype("float32")
    # From next to x to far from it, and zeros.
    spread = np.repeat([0.01, 0.1, 0.5, 3.0], 100)
    v = (x * np.exp(spread * rng.standard_normal(400))).astype("float32")
    v[::50] = 0
    loss = registry.make_loss("negative-binomial", {"dispersion": dispersion})
    found = np.asarray(loss.pointwise(jnp.asarray(v), jnp.asarray(x)), float)
    r, v, x = 1 / np.longdouble(dispersion), v.astype(np.longdouble), x
    ratio = np.where(v > 0, v, 1) / x
    expected = v * np.log(ratio) - (v + r) * np.log((v + r) / (x + r))
    for part in range(4):
        block = slice(100 * part, 100 * part + 100)
        size = float(expected[block].sum())
        assert found[block].sum() == pytest.approx(size, rel=1e-5)
