"""Losses against NumPy in double precision, SciPy, and automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import jaxnmf
from jaxnmf import registry
from jaxnmf.objective.losses import (
    Beta,
    Frobenius,
    ItakuraSaito,
    KullbackLeibler,
    Loss,
    OwnLoss,
)
from jaxnmf.run.programs import precision
from jaxnmf.types import static

BETAS = [-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 3.5]
NAMED = [(2.0, Frobenius()), (1.0, KullbackLeibler()), (0.0, ItakuraSaito())]
each_beta = pytest.mark.parametrize("beta", BETAS)
each_loss = pytest.mark.parametrize(
    ("beta", "loss"),
    [*((beta, Beta(beta=beta)) for beta in BETAS), *NAMED],
    ids=[*(f"beta={beta}" for beta in BETAS), *(loss.name for _, loss in NAMED)],
)

# Every pair (v, x) over five decades, v = x among them.
GRID = np.logspace(-2, 3, 11)
V, X = (a.ravel() for a in np.meshgrid(GRID, GRID))
ZERO = np.zeros_like(GRID)


@pytest.fixture(autouse=True)
def _float64():
    with precision("float64"):
        yield


def divergence(beta, v, x):
    """d(v | x) for v > 0, term by term as Févotte & Idier write it."""
    if beta == 1:
        return special.kl_div(v, x)
    if beta == 0:
        return v / x - np.log(v / x) - 1
    terms = v**beta + (beta - 1) * x**beta - beta * v * x ** (beta - 1)
    return terms / (beta * (beta - 1))


def huber(v, x):
    """√(1 + (v − x)²) − 1."""
    return jnp.sqrt(1 + (v - x) ** 2) - 1


# --- β-divergences -------------------------------------------------------------------


@each_loss
def test_pointwise_is_the_divergence(beta, loss):
    found = np.asarray(loss.pointwise(jnp.asarray(V), jnp.asarray(X)))
    # The terms cancel where v is near x: the error is relative to their size.
    size = np.maximum(V, X) ** beta if beta > 0 else 1 + (V / X) * X**beta + V**beta
    assert (np.abs(found - divergence(beta, V, X)) <= 1e-13 * size).all()
    assert (found[V == X] == 0).all()
    assert (found[V != X] > 0).all()


@each_loss
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pointwise_near_x_has_the_digits_of_the_difference(beta, loss, dtype):
    # At each distance, the same power series summed in extended precision.
    eps = float(np.finfo(dtype).eps)
    for apart in (0.9, 0.3, 0.13, 0.12, 1e-2, 1e-3, 1e-2 * np.sqrt(eps)):
        x = np.array([0.7, 1.0, 3.0, 40.0], dtype)
        v = (x * (1 + apart * np.array([1, -1, 1, -1]))).astype(dtype)
        found = np.asarray(loss.pointwise(jnp.asarray(v), jnp.asarray(x)))
        assert found.dtype == dtype
        wide = np.longdouble
        d = (v.astype(wide) - x) / x.astype(wide)
        k = np.arange(2, 400, dtype=wide)
        terms = np.cumprod((beta - k + 1) / k * d[:, None], 1) * (d * beta)[:, None]
        if beta in (0, 1):  # the limits, with the vanishing factor left out
            ratio = np.where(k == k[0], 0.5, (beta - k + 1) / k)
            terms = np.cumprod(ratio * d[:, None], 1) * d[:, None]
        else:
            terms = terms / (wide(beta) * (wide(beta) - 1))
        expected = x.astype(wide) ** beta * terms.sum(1)
        np.testing.assert_allclose(found, expected, rtol=5e-5)


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.5, 3.0])
def test_an_entry_that_is_zero_in_both_costs_nothing(beta):
    nothing = jnp.zeros(3)
    assert (np.asarray(Beta(beta=beta).pointwise(nothing, nothing)) == 0).all()


@each_loss
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_floor_is_below_what_the_data_can_reach(beta, loss, dtype):
    spectrum = np.logspace(-12, 0, 60)
    floor = loss.floor(spectrum.mean(), spectrum.min(), spectrum.max(), dtype)
    assert 0 <= floor < spectrum.min()
    assert (floor == 0) == (beta == 2)  # which needs none
    # Of ordinary data, and where nothing is positive.
    expected = 0 if beta == 2 else 1e-16 if beta > 1 else 1e-10
    assert loss.floor(1.0, 0.01, 5.0, dtype) == pytest.approx(expected, abs=0)
    assert np.isfinite(loss.floor(0.0, np.inf, 0.0, dtype))


@each_loss
def test_split_is_v_times_a_power_and_a_power(beta, loss):
    a, b = loss.split(jnp.asarray(V), jnp.asarray(X))
    np.testing.assert_allclose(a, V * X ** (beta - 2), rtol=1e-13)
    np.testing.assert_allclose(b, X ** (beta - 1), rtol=1e-13)


@each_beta
def test_difference_of_the_split_is_the_derivative_of_pointwise(beta):
    loss = Beta(beta=beta)
    # Ratios v/x of at most ten: beyond, the derivative of the sum itself cancels.
    near = np.abs(np.log10(V / X)) <= 1.01
    v, x = jnp.asarray(V[near]), jnp.asarray(X[near])
    derivative = jax.grad(lambda x: loss.pointwise(v, x).sum())(x)
    a, b = map(np.asarray, loss.split(v, x))
    # Relative to the larger of the two that are subtracted.
    error = np.abs((b - a) - np.asarray(derivative)) / np.maximum(a, b)
    assert error.max() < 1e-11


@pytest.mark.parametrize("beta", [beta for beta in BETAS if beta > 0])
def test_an_entry_that_is_zero_costs_a_power_of_x(beta):
    loss = Beta(beta=beta)
    assert not loss.positive_data
    v, x = jnp.asarray(ZERO), jnp.asarray(GRID)
    np.testing.assert_allclose(loss.pointwise(v, x), GRID**beta / beta, rtol=1e-13)
    a, b = loss.split(v, x)
    assert (np.asarray(a) == 0).all()
    np.testing.assert_allclose(b, GRID ** (beta - 1), rtol=1e-13)


@pytest.mark.parametrize("beta", [-1.0, 0.0])
def test_an_entry_that_is_zero_has_no_finite_cost_for_beta_up_to_zero(beta):
    loss = Beta(beta=beta)
    assert loss.positive_data
    # It tends to infinity: already a tiny v costs much.
    v, x = jnp.full(11, 1e-200), jnp.asarray(GRID)
    assert (np.asarray(loss.pointwise(v, x)) > 400).all()


@pytest.mark.parametrize(
    ("limit", "named"), [(1, KullbackLeibler()), (0, ItakuraSaito())]
)
def test_beta_tends_to_the_named_losses(limit, named):
    v, x = jnp.asarray(V), jnp.asarray(X)
    end = np.asarray(named.pointwise(v, x))

    def distance(step):
        near = np.asarray(Beta(beta=limit + step).pointwise(v, x))
        return np.abs(near - end).max() / end.max()

    for sign in (1, -1):
        steps = [distance(sign * step) for step in (1e-2, 1e-3, 1e-4)]
        # In proportion to the step, from either side.
        assert steps[0] < 0.2
        assert steps[1] == pytest.approx(steps[0] / 10, rel=0.2)
        assert steps[2] == pytest.approx(steps[1] / 10, rel=0.2)


def test_named_losses_are_their_beta():
    v, x = jnp.asarray(V), jnp.asarray(X)
    for beta, named in NAMED:
        np.testing.assert_array_equal(
            named.pointwise(v, x), Beta(beta=beta).pointwise(v, x)
        )
        assert named.beta == beta


def test_shortcuts_are_claimed_where_they_hold():
    for beta in BETAS:
        loss = Beta(beta=beta)
        assert loss.quadratic == np.allclose(divergence(beta, V, X), (V - X) ** 2 / 2)
        assert loss.unit_plus == np.allclose(X ** (beta - 1), 1)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_cost_of_an_empty_matrix_in_closed_form(beta, rng):
    W, H = rng.random((4, 9)), rng.random((4, 6))
    x = W.T @ H
    loss = Beta(beta=beta)
    assert loss.separable_zeros
    found = float(loss.zero_total(jnp.asarray(W), jnp.asarray(H)))
    assert found == pytest.approx((x**beta).sum() / beta, rel=1e-13)


@each_beta
def test_step_exponent_descends_and_a_larger_one_need_not(beta, rng):
    """x ← x (a/b)^γ on one free entry, γ as Févotte & Idier have it."""
    expected = {-1.0: 1 / 3, 0.0: 1 / 2, 0.5: 2 / 3, 3.0: 1 / 2, 3.5: 2 / 5}
    exponent = Beta(beta=beta).mu_exponent
    assert exponent == pytest.approx(expected.get(beta, 1.0))
    w, v, x = rng.random((50, 40)) + 0.01, rng.random((50, 40)) + 0.01, rng.random(40)
    X = w * x
    ratio = (w * v * X ** (beta - 2)).sum(0) / (w * X ** (beta - 1)).sum(0)
    after = divergence(beta, v, w * (x * ratio**exponent)).sum(0)
    assert (after <= divergence(beta, v, X).sum(0) * (1 + 1e-12)).all()


# --- A loss of one's own -------------------------------------------------------------


def test_own_loss_is_differentiated():
    loss = OwnLoss(function=huber)
    d = (X - V) / np.sqrt(1 + (X - V) ** 2)
    curvature = (1 + (X - V) ** 2) ** -1.5
    v, x = jnp.asarray(V), jnp.asarray(X)
    np.testing.assert_allclose(
        loss.pointwise(v, x), np.sqrt(1 + (V - X) ** 2) - 1, rtol=1e-13
    )
    a, b = loss.split(v, x)
    np.testing.assert_allclose(a, X * curvature + np.maximum(-d, 0), rtol=1e-8)
    np.testing.assert_allclose(b, X * curvature + np.maximum(d, 0), rtol=1e-8)


def test_own_loss_of_negative_curvature_has_a_split_of_one_sign():
    loss = OwnLoss(function=lambda v, x: jnp.log1p((v - x) ** 2))
    a, b = map(np.asarray, loss.split(jnp.asarray(V), jnp.asarray(X)))
    assert (a >= 0).all()
    assert (b >= 0).all()
    expected = 2 * (X - V) / (1 + (X - V) ** 2)
    np.testing.assert_allclose(b - a, expected, rtol=1e-10, atol=1e-12)


def test_own_loss_promises_little():
    loss = OwnLoss(function=huber)
    assert loss.beta is None
    claims = (loss.quadratic, loss.unit_plus, loss.has_split, loss.separable_zeros)
    assert claims == (False,) * 4


# --- Registering ---------------------------------------------------------------------


@pytest.fixture
def _restored(monkeypatch):
    """The list of losses is as it was when the test is over."""
    monkeypatch.setattr(registry, "_losses", dict(registry._losses))


@pytest.mark.usefixtures("_restored")
def test_register_a_function():
    found = jaxnmf.register_loss("own-huber")(huber)
    assert found is huber
    assert "own-huber" in jaxnmf.losses()
    loss = registry.make_loss("own-huber")
    assert isinstance(loss, OwnLoss)
    assert float(loss.pointwise(jnp.asarray(3.0), jnp.asarray(1.0))) == pytest.approx(
        np.sqrt(5) - 1
    )
    # Fitted: 2 by 2 ones of rank 1, which any sound loss takes to an exact fit.
    result = jaxnmf.factorize(
        np.ones((2, 2)), 1, loss="own-huber", solver="optax", max_iter=500, tol=0.0
    )
    assert result.relative_error < 1e-2


@pytest.mark.usefixtures("_restored")
def test_register_a_class_with_an_option():
    @jaxnmf.register_loss("power")
    class Power(Loss):
        """|v − x|^q."""

        exponent: float = static(2.0)

        def pointwise(self, v, x):
            return jnp.abs(v - x) ** self.exponent

    assert Power.name == "power"
    assert "power" in jaxnmf.losses()
    (option,) = registry.options(Power)
    assert (option.name, option.type, option.default) == ("exponent", float, 2.0)
    loss = registry.make_loss("power", {"exponent": 3.0})
    assert isinstance(loss, Power)
    assert float(loss.pointwise(jnp.asarray(3.0), jnp.asarray(1.0))) == 8
    with pytest.raises(ValueError, match=r"no option 'exponents'.*did you mean"):
        registry.make_loss("power", {"exponents": 3.0})


def test_registered_losses_are_gone_again():
    usual = ("frobenius", "kullback-leibler", "itakura-saito", "beta", "huber", "l1")
    usual += ("cauchy", "negative-binomial", "zero-inflated-poisson", "bernoulli")
    assert jaxnmf.losses() == usual
    with pytest.raises(ValueError, match=r"loss 'own-huber' is not known"):
        registry.make_loss("own-huber")


@pytest.mark.parametrize("bad", [3, "name", len, object], ids=repr)
def test_register_refuses_what_is_no_loss(bad):
    with pytest.raises(ValueError, match=r"'bad' is neither a Loss nor a function"):
        jaxnmf.register_loss("bad")(bad)
    assert "bad" not in jaxnmf.losses()
