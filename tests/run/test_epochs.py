"""Runs of solvers that take batches, over blocks: the answers of the same V in memory
with the blocks for batches, and how often V is read."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import jaxnmf
from jaxnmf.solvers import MinibatchMU, OnlineHALS
from jaxnmf.types import pytree

M, N, RANK, HEIGHT = 47, 12, 3, 12  # blocks of 12, 12, 12 and 11 rows
RNG = np.random.default_rng(5)
DENSE = RNG.random((M, RANK)) @ RNG.random((RANK, N)) + 0.2 * RNG.random((M, N))
SPARSE = scipy.sparse.csr_array(np.where(RNG.random((M, N)) < 0.4, DENSE, 0))
START = RNG.random((M, RANK)) + 0.1, RNG.random((RANK, N)) + 0.1
EPOCHS, EVERY = 6, 2
RUN: dict[str, Any] = {
    "init": START,
    "max_iter": EPOCHS,
    "tol": 0,
    "record_every": EVERY,
    "dtype": "float64",
    "l1": (0.01, 0.02),
}
# The moments, the statistics of the start, the relative error, and the records.
BESIDE = 3 + EPOCHS // EVERY


class InOrder:
    """Batches that are the blocks."""

    def divided(self, m: int, key: Any) -> Any:
        del key
        rows = jnp.arange(-(-m // HEIGHT) * HEIGHT, dtype=jnp.int32)
        return jnp.minimum(rows, m).reshape(-1, HEIGHT)


@pytree
class HALSInOrder(InOrder, OnlineHALS):
    pass


@pytree
class MUInOrder(InOrder, MinibatchMU):
    pass


IN_ORDER = {"hals-online": HALSInOrder, "mu-minibatch": MUInOrder}


class Rows:
    """A source that keeps which blocks were read."""

    def __init__(self, V: Any) -> None:
        self.V, self.shape, self.dtype = V, V.shape, V.dtype
        self.reads: list[int] = []

    def block(self, i: int) -> Any:
        self.reads.append(i)
        return self.V[i * HEIGHT : (i + 1) * HEIGHT]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "loss", "V"),
    [
        ("hals-online", "frobenius", DENSE),
        pytest.param("hals-online", "frobenius", SPARSE, marks=pytest.mark.slow),
        pytest.param("mu-minibatch", "kl", DENSE, marks=pytest.mark.slow),
        ("mu-minibatch", "kl", SPARSE),
        pytest.param("mu-minibatch", "beta", DENSE, marks=pytest.mark.slow),
    ],
)
def test_blocks_are_the_batches_of_the_answer_in_memory(
    solver: str, loss: str, V: Any
) -> None:
    source = Rows(V)
    given = RUN | {"loss": loss}
    # By default it depends on how many entries V stores.
    dense, options = (V, {}) if V is DENSE else (V.toarray(), {"inner": 2})
    blocks = jaxnmf.Blocks(source)
    own = {"solver": solver, "solver_options": options}
    found = jaxnmf.factorize(blocks, RANK, **own, **given)
    expected = jaxnmf.factorize(
        dense, RANK, solver=IN_ORDER[solver](**options), **given
    )
    for name in "WH":
        x, y = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(x, y, 1e-7, atol=1e-9)
    for name in ("iteration", "objective", "kkt"):
        x, y = (getattr(one.trace, name) for one in (found, expected))
        np.testing.assert_allclose(x, y, 1e-7)
    assert found.relative_error == pytest.approx(expected.relative_error, rel=1e-9)
    # Once an epoch, in another order in each.
    assert len(source.reads) == 4 * (EPOCHS + BESIDE)
    epochs = {tuple(source.reads[4 * i : 4 * i + 4]) for i in range(EPOCHS + BESIDE)}
    assert len(epochs) > 2
    assert all(sorted(one) == [0, 1, 2, 3] for one in epochs)


def test_an_interrupted_run_resumes_with_the_same_bits(tmp_path: Path) -> None:
    given: Any = RUN | {"solver": "hals-online", "seed": 3}
    expected = jaxnmf.factorize(jaxnmf.Blocks(Rows(DENSE)), RANK, **given)
    for most in (4, EPOCHS):
        own = given | {"max_iter": most, "checkpoint": tmp_path}
        found = jaxnmf.factorize(jaxnmf.Blocks(Rows(DENSE)), RANK, **own)
        assert found.iterations == most
    np.testing.assert_array_equal(found.W, expected.W)  # pyright: ignore
    np.testing.assert_array_equal(found.H, expected.H)  # pyright: ignore


def test_the_objective_of_a_good_fit_has_its_digits() -> None:
    W, H = (RNG.random(shape).astype(np.float32) for shape in ((M, RANK), (RANK, N)))
    wide = W.astype(np.float64) @ H
    V = (wide * (1 + 1e-6 * RNG.standard_normal((M, N)))).astype(np.float32)
    given: Any = {"solver": "hals-online", "init": (W, H), "max_iter": 1, "tol": 0}
    found = jaxnmf.factorize(jaxnmf.Blocks(Rows(V)), RANK, **given)
    expected = 0.5 * ((V - wide) ** 2).sum()
    np.testing.assert_allclose(found.trace.objective[0], expected, 1e-4)
