"""The contract of a solver that takes data observed in part, for every loss it takes.

Both ways to hold such data are looked at: the entries alone, and a dense V with
weights. What the mask hides must not matter, and a mask that hides nothing must not
either.
"""

from __future__ import annotations

from typing import Any

import cases
import jax
import numpy as np
import pytest
from cases import OBSERVED_CASES, RANK, Case, M, N
from test_solvers import (
    PENALTIES,
    assert_allclose,
    assert_feasible,
    assert_monotone,
    lane_and_single,
    step_by_step,
)

from jaxnmf.data import known as known_data
from jaxnmf.objective.penalties import Penalty
from jaxnmf.run.programs import precision

each_case = pytest.mark.parametrize("case", OBSERVED_CASES, ids=str)


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with precision("float64"):
        yield


@pytest.fixture
def form(request: pytest.FixtureRequest, monkeypatch: Any) -> str:
    """Makes the known entries be held alone, or as a dense V with weights."""
    share = {"entries": 2.0, "dense": 0.0}[request.param]
    monkeypatch.setattr(known_data, "DENSE_SHARE", share)
    return request.param


PROGRAM_CASES = [case for case in OBSERVED_CASES if case in cases.PROGRAM_CASES]
each_program_case = pytest.mark.parametrize("case", PROGRAM_CASES, ids=str)


def in_entries_or_dense(chosen: list[Case]) -> Any:
    """Known entries alone for some cases, a dense V with weights for the others: the
    same code runs on other sums. Both for all by hand."""
    return pytest.mark.parametrize(
        ("case", "form"),
        [
            pytest.param(case, form, id=f"{case}-{form}")
            for i, case in enumerate(chosen)
            for k, form in enumerate(("entries", "dense"))
            if cases.EVERY_CASE or i % 2 == k
        ],
        indirect=["form"],
    )


in_either_form = in_entries_or_dense(OBSERVED_CASES)
# A variant minimises something else.
plain_in_either_form = in_entries_or_dense(
    [case for case in OBSERVED_CASES if case in cases.PLAIN_CASES]
)
in_entries = pytest.mark.parametrize("form", ["entries"], indirect=True)


def weights(*, holes: bool = False) -> np.ndarray:
    """Three quarters known, of unequal weight; with holes a row and a column not."""
    rng = np.random.default_rng(3)
    known = (rng.random((M, N)) < 0.75) * rng.uniform(0.5, 2.0, (M, N))
    if holes:
        known[2], known[:, 3] = 0, 0
    return known


def hidden(V: np.ndarray, known: np.ndarray, value: float) -> np.ndarray:
    """V with another value wherever it is unknown."""
    return np.where(known > 0, V, value)


@in_either_form
def test_what_is_unknown_does_not_matter(case, form):
    known = weights()
    V = cases.data()
    found = [
        cases.iterate(cases.setup(case, hidden(V, known, value), mask=known), 10)
        for value in (0.0, np.nan, 1e6)
    ]
    for other in found[1:]:
        assert_allclose(other, found[0], rtol=0)


@in_either_form
def test_all_known_is_the_whole(case, form):
    """A mask of ones against the same solver on the data without a mask."""
    options = cases.one_repeat(case.solver_class)
    common: dict[str, Any] = {"penalties": PENALTIES, "options": options}
    whole = cases.setup(case, **common)
    masked = cases.setup(case, mask=np.ones((M, N), bool), **common)
    assert masked.problem.operand.kind == "observed"
    looks = [cases.look(s.problem, whole.factors) for s in (masked, whole)]
    assert_allclose(*looks, rtol=1e-10)
    # Some bound a Lipschitz constant column by column where there is a mask, and
    # search for a step where there is none: another path, held to its end below.
    if case.solver in ("hals", "mu", "mu-extrapolated", "optax", "extrapolated"):
        assert_allclose(cases.iterate(masked, 20), cases.iterate(whole, 20), rtol=1e-7)


@in_entries
@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(case, dtype, id=f"{case}-{dtype}")
        for case in OBSERVED_CASES
        for dtype in ("float64", "float32")
        if cases.EVERY_CASE or (dtype == "float32") == (case in cases.FIRST_CASES)
    ],
)
def test_it_descends_and_stays_feasible(case, form, dtype):
    with precision(dtype):
        known = weights(holes=True)
        start = cases.setup(case, dtype=dtype, mask=known, penalties=PENALTIES)
        factors, losses = step_by_step(start, 50)
        assert_feasible(case, factors)
        assert losses[-1] < 0.9 * losses[0]
        if case.solver_class.monotone:
            assert_monotone(losses, dtype)


@plain_in_either_form
def test_the_loss_is_that_of_an_independent_answer(case, form):
    known, V = weights(), cases.data()
    start = cases.setup(case, hidden(V, known, np.nan), mask=known)
    Wt, H = (np.asarray(X) for X in start.factors)
    first = cases.look(start.problem, start.factors)
    assert first.objective == pytest.approx(
        cases.objective(case.loss, V, Wt.T @ H, known), rel=1e-12
    )
    state, factors = start.begin(), start.factors
    best, kkt = np.inf, np.inf
    for _ in range(8):
        factors, state = cases.advance(
            start.problem, start.solver, factors, state, np.int32(500)
        )
        now = cases.look(start.problem, factors)
        best, kkt = min(best, float(now.objective)), min(kkt, float(now.kkt))
    # From another start the answer may lie in another valley; from here there is none
    # that is deeper.
    Wt, H = (np.asarray(X) for X in factors)
    answer = cases.masked_answer(case.loss, V, known, Wt.T, H)
    assert best == pytest.approx(answer, rel=1e-2)
    assert kkt <= 2e-3 * float(first.kkt)


@in_entries
@each_program_case
def test_offsets_are_held_and_found(case, form):
    """Data that are offsets alone: the one side stays at one, the fit is near."""
    rng = np.random.default_rng(5)
    V = 1 + rng.gamma(2.0, size=(M, 1)) + rng.gamma(2.0, size=(1, N))
    start = cases.setup(case, V, mask=weights() > 0, offsets=1e-6)
    factors, losses = step_by_step(start, 300)
    assert_feasible(case, factors)
    assert factors.Wt.shape == (RANK + 2, M)
    np.testing.assert_array_equal(factors.Wt[1], 1)
    np.testing.assert_array_equal(factors.H[0], 1)
    assert losses[-1] < 0.02 * losses[0]
    if case.solver_class.monotone:
        assert_monotone(losses)


@in_entries
@each_program_case
def test_shrinking_to_the_mean_wins_where_it_is_heavy(case, form):
    """With all weight on the penalty, everything is predicted to be the mean."""
    heavy = Penalty(l1=0.0, l2=1e5)
    known, V = weights(), cases.data()
    start = cases.setup(case, V, mask=known, penalties=(heavy, heavy), toward="mean")
    factors = cases.iterate(start, 300)
    mean = np.average(V, weights=known)
    np.testing.assert_allclose(cases.product(factors), mean, rtol=2e-2)


# How lanes share known entries is the operand's.
@pytest.mark.slow
@in_entries
@pytest.mark.parametrize("case", cases.some(PROGRAM_CASES, 4), ids=str)
def test_a_lane_equals_its_single_run(case: Case, form):
    lane_and_single(case, cases.data(), mask=weights())


def test_the_two_forms_are_the_same_problem(monkeypatch):
    case = Case("mu", "kullback-leibler")
    found = []
    for share in (2.0, 0.0):
        monkeypatch.setattr(known_data, "DENSE_SHARE", share)
        start = cases.setup(case, mask=weights(), penalties=PENALTIES)
        found.append((type(start.problem.operand).__name__, cases.iterate(start, 20)))
    assert [name for name, _ in found] == ["Sparse", "Dense"]
    assert_allclose(found[0][1], found[1][1], rtol=1e-10)
    assert jax.tree.leaves(found[0][1])
