"""Operands with rows and columns that only pad V answer as V does."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from jaxnmf.data import csr, dense
from jaxnmf.data import known as known_data
from jaxnmf.data.convert import as_operand
from jaxnmf.data.operand import true_shape
from jaxnmf.run.programs import precision

pytestmark = pytest.mark.slow

M, N, RANK = 9, 7, 3
RNG = np.random.default_rng(3)
V = RNG.gamma(1.0, size=(M, N)) + 0.1
HOLES = V * (RNG.random((M, N)) < 0.6)
KNOWN = RNG.random((M, N)) < 0.6
KINDS = {
    "dense": lambda: as_operand(V, "float64"),
    "stored wide": lambda: as_operand(V, "float64").stored_wide(),
    "sparse": lambda: as_operand(sparse.csr_array(HOLES), "float64"),
    "weighted": lambda: as_operand(V, "float64", mask=KNOWN * RNG.random((M, N))),
    "entries": lambda: as_operand(
        sparse.csr_array(HOLES), "float64", mask=sparse.csr_array(HOLES > 0)
    ),
}


@pytest.fixture(autouse=True)
def _float64():
    with precision("float64"):
        yield


@pytest.fixture(params=["whole", "blocks", "not compiled"])
def form(request, monkeypatch):
    """How an operand is stored: in few blocks or many, with a product or without."""
    if request.param == "blocks":
        monkeypatch.setattr(dense, "CPU_BLOCK", 3 * N)
        monkeypatch.setattr(csr, "COLUMNS_TOGETHER", 3)
        monkeypatch.setattr(csr, "ROW_ENTRIES", 1)
        monkeypatch.setattr(known_data, "DENSE_SHARE", 2.0)
    elif request.param == "not compiled":
        monkeypatch.setattr(csr, "COMPILED", ())
    return request.param


def distances(v, x):
    return (v - x) ** 2, v * x


@pytest.mark.parametrize("kind", KINDS)
def test_a_padded_operand_answers_as_the_operand(kind, form):
    bare = KINDS[kind]()
    larger = bare.padded_to(M + 4, N + 5)
    if form == "blocks" and kind in ("sparse", "entries"):
        assert larger.csr.blocks > 1
    W, H = RNG.random((RANK, M)), RNG.random((RANK, N))
    for of, own, w, h in ((larger, bare, W, H), (larger.T, bare.T, H, W)):
        extra = (4, 5) if of is larger else (5, 4)
        assert of.shape == tuple(np.add(own.shape, extra))
        assert tuple(map(int, true_shape(of))) == own.shape
        wide = [
            jnp.pad(X, ((0, 0), (0, size - X.shape[1])))
            for X, size in zip((w, h), of.shape, strict=True)
        ]
        (m, n), (w, h) = own.shape, map(jnp.asarray, (w, h))
        pairs = [(of.dot(wide[0])[:, :n], own.dot(w))]
        if own.kind == "observed":
            pairs.append((of.dot_weights(wide[0])[:, :n], own.dot_weights(w)))
        by_w, by_h = of.map_dot_both(distances, *wide)
        own_w, own_h = own.map_dot_both(distances, w, h)
        pairs += [(x[:, :n], y) for x, y in zip(by_w, own_w, strict=True)]
        pairs += [(x[:, :m], y) for x, y in zip(by_h, own_h, strict=True)]
        for which in range(2):
            total = [
                side.map_sum(lambda v, x, k=which: distances(v, x)[k], *factors)
                for side, factors in ((of, wide), (own, (w, h)))
            ]
            pairs.append(tuple(total))
        for found, expected in pairs:
            np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_padded_operand_is_v_itself_on_the_host(kind, form):
    bare = KINDS[kind]()
    larger = bare.padded_to(M + 4, N + 5)
    assert larger.moments == bare.moments
    for of, own in ((larger, bare), (larger.T, bare.T)):
        for found, expected in (
            (of.to_host(), own.to_host()),
            (of.host_weights(), own.host_weights()),
        ):
            if expected is None:
                assert found is None
                continue
            assert found.shape == own.shape
            assert abs(found - expected).max() == 0


def test_what_pads_is_no_subnormal_number():
    tiny = as_operand(V * 1e-300, "float64").padded_to(M + 1, N)
    assert float(tiny.array[-1].min()) >= np.finfo("float64").tiny
    signed = as_operand(V - 0.5, "float64", signed=True).padded_to(M + 1, N)
    assert (np.asarray(signed.array[-1]) == 0).all()
