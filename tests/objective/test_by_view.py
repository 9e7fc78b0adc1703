"""A loss for each view: value, gradients and changes against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from jaxnmf.data.convert import as_operand
from jaxnmf.data.views import ViewParts, Views
from jaxnmf.objective.by_view import ByView
from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import make_loss
from jaxnmf.run.programs import precision
from jaxnmf.types import Factors

M, WIDTHS, P = 7, [5, 3, 2], 3
RNG = np.random.default_rng(3)
W, H, NEW = (RNG.random((P, n)) + 0.1 for n in (M, sum(WIDTHS), sum(WIDTHS)))
COUNTS = RNG.poisson(1.0, (M, WIDTHS[0])).astype(float)
POWERS = RNG.gamma(1.0, size=(M, WIDTHS[2])) + 0.05
VALUES = 1e4 * RNG.random((M, WIDTHS[1]))
KNOWN = RNG.random(VALUES.shape) < 0.7
WEIGHTS = (0.5, 1e-6, 3.0)
LOSSES = ("kl", "frobenius", "is")
PARTS = ViewParts(np.array(WIDTHS), np.ones(3), np.ones(3))


def answer(W, H):
    """The value, and its gradients in W and H."""
    X, Y, Z = np.split(W.T @ H, np.cumsum(WIDTHS)[:-1], axis=1)
    logs = COUNTS * np.log(np.where(COUNTS > 0, COUNTS / X, 1))
    parts = [
        (logs - COUNTS + X, 1 - COUNTS / X),
        (KNOWN * (VALUES - Y) ** 2 / 2, KNOWN * (Y - VALUES)),
        (POWERS / Z - np.log(POWERS / Z) - 1, 1 / Z - POWERS / Z**2),
    ]
    value = sum(w * phi.sum() for w, (phi, _) in zip(WEIGHTS, parts, strict=True))
    pairs = zip(WEIGHTS, parts, strict=True)
    slope = np.hstack([w * slope for w, (_, slope) in pairs])
    return value, H @ slope.T, W @ slope


def asked(problem, factors, new):
    Wt, H = factors
    return (
        problem.gradients(factors),
        problem.gradient(Wt, H),
        problem.T.gradient(H, Wt),
        (
            problem.objective(factors),
            problem.value(factors),
            problem.T.divergence(factors.T),
            problem.change(Wt, H, new),
            problem.T.change(H, Wt, 2 * Wt),
        ),
    )


@pytest.mark.parametrize(
    ("form", "dtype"), [(np.asarray, "float64"), (sparse.csr_array, "float32")]
)
def test_the_sum_over_views_and_its_gradients(form, dtype):
    views = Views([form(COUNTS), np.ma.masked_array(VALUES, ~KNOWN), POWERS])
    loss = ByView(losses=tuple(map(make_loss, LOSSES)), weights=WEIGHTS)
    tol = 1e-4 if dtype == "float32" else 1e-10
    with precision(dtype) as dtype:
        penalties = Penalty(l1=0.1, l2=0.4), Penalty(l2=0.2)
        operand = as_operand(views.apart(PARTS), dtype)
        problem = Problem.of(operand, loss, penalties=penalties)
        factors = Factors(*(jnp.asarray(X, dtype) for X in (W, H)))
        new = jnp.asarray(NEW, dtype)
        (minus, plus), *by_half, found = jax.tree.map(
            np.asarray, jax.jit(asked)(problem, factors, new)
        )
    on_W, on_H = 0.1 * W.sum() + 0.2 * (W**2).sum(), 0.1 * (H**2).sum()
    value, of_W, of_H = answer(W, H)
    twice = 0.1 * W.sum() + 0.6 * (W**2).sum()
    expected = [
        value + on_W + on_H,
        value + on_W + on_H,
        value,
        answer(W, NEW)[0] - value + 0.1 * (NEW**2 - H**2).sum(),
        answer(2 * W, H)[0] - value + twice,
    ]
    np.testing.assert_allclose(found, expected, tol)
    slopes = of_W + 0.1 + 0.4 * W, of_H + 0.2 * H
    for slope, low, high in zip(slopes, minus, plus, strict=True):
        np.testing.assert_allclose(high - low, slope, tol, tol * float(high.max()))
        assert (low >= 0).all()
    for (low, high), slope in zip(by_half, slopes[::-1], strict=True):
        np.testing.assert_allclose(high - low, slope, tol, tol * float(high.max()))


def test_the_powers_of_an_update_are_those_of_the_columns_for_h_and_all_for_w():
    loss = ByView(losses=tuple(map(make_loss, LOSSES)), weights=WEIGHTS)
    operand = as_operand(Views([COUNTS, VALUES, POWERS]).apart(PARTS))
    problem = Problem.of(operand, loss)
    lower, upper = problem.powers
    np.testing.assert_array_equal(lower, np.repeat([1, 2, 0], WIDTHS))
    np.testing.assert_array_equal(upper, np.repeat([1, 2, 1], WIDTHS))
    assert problem.T.powers == (0, 2)
    assert loss.mu_exponent == pytest.approx(1 / 3)
