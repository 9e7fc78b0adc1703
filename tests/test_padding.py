"""Small problems of about one size share their compiled programs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxnmf
from jaxnmf import padding
from jaxnmf.run import programs

RNG = np.random.default_rng(0)
V = RNG.gamma(1.0, size=(40, 3)) @ RNG.gamma(1.0, size=(3, 30))
V *= RNG.uniform(0.7, 1.3, V.shape)
HOLES = np.where(RNG.random(V.shape) < 0.3, np.nan, V)
THIN = sp.csr_array(V * (RNG.random(V.shape) < 0.3))
# (rows, columns, rank), all padded to one size.
OTHERS = ((39, 29, 3), (37, 30, 4))
FORMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "dense": (V, {}),
    "observed": (HOLES, {"mask": "nan", "solver": "hals"}),
    "kl": (V, {"loss": "kl"}),
}


@pytest.fixture(autouse=True)
def no_program_is_compiled_again(monkeypatch):
    """As one would be for speed, after the iterations of other tests in the process."""
    monkeypatch.setattr(programs, "WORTH_COMPILING", 10**9)


@given(st.integers(1, 10**6))
@settings(max_examples=50, deadline=None)
def test_a_size_grows_by_an_eighth_at_most(n):
    size = padding.next_size(n)
    assert n <= size <= 1.125 * n
    assert padding.next_size(size) == size


def test_there_are_few_sizes():
    assert len({padding.next_size(n) for n in range(512, 1024)}) == 9


@pytest.mark.parametrize("form", FORMS)
def test_other_shapes_and_ranks_need_no_compilation(form):
    data, given = FORMS[form]
    given = {"max_iter": 30, "dtype": "float64", **given}
    jaxnmf.factorize(data, 3, **given)
    for m, n, rank in OTHERS:
        part = data[:m, :n]
        found = jaxnmf.factorize(part, rank, **given)
        assert found.compile_seconds == 0
        alone = jaxnmf.factorize(part, rank, pad=False, **given)
        np.testing.assert_allclose(found.W @ found.H, alone.W @ alone.H, rtol=1e-6)
        for name in ("objective", "relative_error", "kkt"):
            assert getattr(found, name) == pytest.approx(
                getattr(alone, name), rel=1e-6, abs=1e-9
            )
    assert alone.compile_seconds > 0


def test_sparse_data_of_other_counts_too():
    # hals counts its repeats by the entries that V has.
    given: dict[str, Any] = {"max_iter": 20, "dtype": "float64", "solver": "hals"}
    data, fewer = THIN[:39], THIN[:38]
    assert padding.next_size(data.nnz) == padding.next_size(fewer.nnz) > fewer.nnz
    jaxnmf.factorize(data, 3, **given)
    found = jaxnmf.factorize(fewer, 4, **given)
    assert found.compile_seconds == 0
    alone = jaxnmf.factorize(fewer, 4, pad=False, **given)
    np.testing.assert_allclose(found.W, alone.W, atol=1e-9 * alone.W.max())


def test_new_rows_of_any_number_share_programs():
    found = jaxnmf.factorize(V, 3)
    found.fold_in(V[:33])
    for rows in (1, 5, 36):
        again = found.fold_in(V[:rows])
        assert again.compile_seconds == 0
        alone = found.fold_in(V[:rows], pad=False)
        np.testing.assert_allclose(again.W, alone.W, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_an_estimator_pads_or_not():
    model = jaxnmf.NMF(3).fit(V)
    assert jaxnmf.NMF(3).fit(V[1:]).result_.compile_seconds == 0
    plain = jaxnmf.NMF(3, pad=False).fit(V[1:])
    assert plain.result_.compile_seconds > 0
    assert model.transform(V[:5]).shape == (5, 3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:no p is chosen")
@pytest.mark.parametrize("known", [False, True])
def test_a_rank_is_chosen_for_other_shapes_without_compiling(known):
    def choose(V: Any, **more: Any) -> Any:
        mask = np.random.default_rng(1).random(V.shape) < 0.9 if known else None
        given: dict[str, Any] = {"seeds": 3, "max_iter": 30, "dtype": "float64"}
        return jaxnmf.select_rank(V, [2, 3], mask=mask, **given, **more)

    choose(V)
    found = choose(V[1:, 1:])
    assert found.sweep.compile_seconds == 0
    alone = choose(V[1:, 1:], pad=False)
    assert alone.sweep.compile_seconds > 0
    pairs = zip(found.sweep.runs, alone.sweep.runs, strict=True)
    for run, other in pairs:
        for X, Y in zip(run.factors, other.factors, strict=True):
            np.testing.assert_allclose(X, Y, atol=1e-8 * Y.max())


def test_large_problems_are_left_as_they_are(monkeypatch):
    monkeypatch.setattr(padding, "padded", lambda *_, **__: pytest.fail("padded"))
    monkeypatch.setattr(padding, "SMALL", V.size * 3)
    assert jaxnmf.factorize(V, 3, max_iter=2).W.shape == (40, 3)
    # Minibatches are drawn from the rows there are.
    found = jaxnmf.factorize(V, 3, solver="hals-online", max_iter=2)
    assert found.W.shape == (40, 3)
