"""Moments of what is known of V."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import scipy.sparse as sp

import jaxnmf
from jaxnmf.data.convert import as_operand
from jaxnmf.data.moments import _on_device, _on_host
from jaxnmf.run.programs import compiled, precision

M, N = 30, 20
V = np.random.default_rng(0).uniform(0.5, 2, (M, N))
few = np.random.default_rng(1).random((M, N)) < 0.1
WEIGHTS = np.where(few, np.random.default_rng(2).uniform(0.5, 2, (M, N)), 0)
MANY = np.random.default_rng(3).random((M, N)) < 0.6


def cases():
    """What is passed, and the entries and weights that are known."""
    ones = np.ones((M, N))
    stored = sp.csr_array(V * few)
    return {
        "dense": ((V, None), V, ones),
        "sparse": ((stored, None), V * few, ones),
        "observed": ((jaxnmf.Observed.stored(stored), None), V, few * 1.0),
        "few weights": ((V, WEIGHTS), V, WEIGHTS),
        "many known": ((np.where(MANY, V, np.nan), "nan"), V, MANY * 1.0),
    }


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moments_are_those_of_the_known_entries(name, dtype):
    (data, mask), values, weights = cases()[name]
    with precision(dtype):
        found = as_operand(data, dtype, mask=mask).moments
    known = values[weights > 0]
    expected = {
        "mean": np.average(values, weights=weights),
        "total": M * N * np.average(values, weights=weights),
        "squares": (weights * values**2).sum(),
        "smallest": known[known > 0].min(),
        "known": len(known),
        "rows": M,
        "columns": N,
    }
    for name, value in expected.items():
        rtol = 1e-6 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(getattr(found, name), value, rtol=rtol, err_msg=name)
        assert getattr(found, name).dtype == np.float64


def test_moments_are_turned_with_the_data():
    for data, mask in (case[0] for case in cases().values()):
        turned = as_operand(data, mask=mask).T
        assert turned.shape == (N, M)
        assert (turned.moments.rows, turned.moments.columns) == (N, M)


def test_devices_sum_what_the_host_does():
    operand = as_operand(1e30 * V, mask=MANY)
    for weights in (None, operand.weights):
        near, far = (f(operand.array, weights) for f in (_on_host, _on_device))
        np.testing.assert_allclose(far, near, rtol=1e-6)


def test_their_values_compile_nothing():
    def mean(operand):
        return operand.moments.mean

    first, _ = compiled(mean, as_operand(V))
    other, seconds = compiled(mean, as_operand(2 * V))
    assert other is first
    assert seconds == 0
    assert other(as_operand(2 * V)) == np.float32(2 * V.mean())
    stacked = jax.tree.map(lambda *x: np.stack(x), as_operand(V), as_operand(2 * V))
    np.testing.assert_allclose(
        jax.vmap(mean)(stacked), [V.mean(), 2 * V.mean()], rtol=1e-6
    )
