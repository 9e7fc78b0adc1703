"""A problem padded in rank, rows and columns has the run of the problem itself, for
every solver and every kind of V that it supports."""

from __future__ import annotations

from typing import Any

import cases
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from cases import RANK, SOLVERS, Case, M, N

from jaxnmf import registry
from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.problem import Problem
from jaxnmf.padding import padded, unpadded
from jaxnmf.run.programs import precision
from jaxnmf.run.stop import Stop
from jaxnmf.solvers.base import constraints_of

# Enough for another number of inner repeats, were it counted from the padded shape.
SHAPE, SQUARE = (M + 6, N + 9), (M + 6, M + 6)
STOP = Stop(max_iter=40, tol=0.0)
KINDS = ("dense", "sparse", "observed")
# One loss of each solver.
LOSSES = ("frobenius", "kullback-leibler")
# "semi" has no l1 for W.
PENALTIES = Penalty(l2=0.2), Penalty(l1=0.3, l2=0.1)


def cases_of(solver: str, kind: str) -> list[Case]:
    found = [case for loss in LOSSES if (case := Case(solver, loss)).takes(kind)]
    return found if cases.EVERY_CASE else found[:1]


CASES = [
    (case, kind)
    for solver in SOLVERS
    if registry.solver_class(solver).supports.padded
    for kind in KINDS
    for case in cases_of(solver, kind)
]
# Every solver with dense data, and some with another kind.
CASES = [one for one in CASES if one[1] == "dense"] + cases.some(
    [one for one in CASES if one[1] != "dense"], 3
)
SIMPLEX_CASES = [
    case
    for case, kind in cases.some(CASES)
    if kind == "dense"
    and case.loss == ("frobenius" if case.takes("sparse") else "kullback-leibler")
    and "simplex" in constraints_of(registry.make_solver(case.solver))
]


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with precision("float64"):
        yield


def given(kind: str) -> dict[str, Any]:
    """Data of a kind, and penalties, as `cases.setup` takes them."""
    if kind == "sparse":
        V = scipy.sparse.csr_array(cases.data(zeros=True))
        return {"V": V, "penalties": PENALTIES}
    if kind == "observed":
        known = np.random.default_rng(5).random((M, N)) < 0.7
        return {"mask": known, "penalties": PENALTIES}
    return {}


def assert_same_run(case: Case, stop: Stop = STOP, **options: Any) -> None:
    bare = cases.setup(case, **options)
    own = bare.problem.operand.shape
    shape = SQUARE if own[0] == own[1] else SHAPE
    larger = cases.setup(case, padded=True, shape=shape, **options)
    assert larger.problem.operand.shape == shape
    found, expected = cases.solve(*larger, stop), cases.solve(*bare, stop)
    for name in ("iteration", "objective", "kkt"):
        x, y = (getattr(run.trace, name) for run in (found, expected))
        # Newton steps square what rounding has left of the KKT residual.
        atol = 1e-6 * y[0] if name == "kkt" else 1e-10
        np.testing.assert_allclose(x, y, rtol=1e-7, atol=atol, err_msg=name)
    cut = unpadded(found.factors, RANK, own)
    for X, Y, all in zip(cut, expected.factors, found.factors, strict=True):
        np.testing.assert_allclose(X, Y, rtol=0, atol=1e-8 * np.abs(Y).max())
        all = np.asarray(all)
        assert (all[RANK:] == 0).all()
        assert (all[:, Y.shape[1] :] == 0).all()


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        pytest.param(
            case,
            kind,
            id=f"{case}-{kind}",
            marks=() if kind == "dense" else pytest.mark.slow,
        )
        for case, kind in CASES
    ],
)
def test_a_padded_problem_has_the_same_run(case, kind):
    # Near the solution Newton steps make much of a last place, where the objective is
    # flat.
    stop = Stop(max_iter=10, tol=0.0) if case.solver == "kl-newton" else STOP
    assert_same_run(case, stop, **given(kind))


@pytest.mark.parametrize("case", SIMPLEX_CASES, ids=str)
def test_a_padded_problem_on_the_simplex_has_the_same_run(case):
    # Few iterations: pgd-bb makes of a last place 1e-5 in twenty.
    stop = Stop(max_iter=10, tol=0.0)
    assert_same_run(case, stop, constraints=("simplex", "nonnegative"))


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["itakura-saito", "beta", "own"])
def test_other_losses_of_a_padded_problem(loss):
    assert_same_run(Case("pgd", loss))


def test_another_l2_target_is_no_part_of_what_pads():
    shrunk = (Penalty(l2=0.2, toward=0.5), Penalty(l2=0.1, toward=0.3))
    options = given("observed") | {"penalties": shrunk}
    assert_same_run(Case("hals", "frobenius"), **options)


def pad(case: Case, **options: Any) -> Any:
    problem, _, factors, _ = cases.setup(case)
    solver = registry.make_solver(case.solver, options)
    return padded(problem, factors, solver, shape=SHAPE)


@pytest.mark.parametrize(
    ("case", "options"),
    [
        (case, {})
        for solver in SOLVERS
        if not registry.solver_class(solver).supports.padded
        for case in [next(c for c in cases.CASES if c.solver == solver)]
    ]
    + [(Case("optax", "frobenius"), {"batch": 4})],
    ids=str,
)
def test_a_solver_that_does_not_support_it_is_refused_by_name(case, options):
    with pytest.raises(ValueError, match=f"solver '{case.solver}'"):
        pad(case, **options)


def test_a_loss_that_is_not_0_at_v_is_refused():
    problem, _, factors, _ = cases.setup(Case("pgd", "own"))
    loss = registry.make_loss(lambda v, x: x - v * jnp.log(x))
    problem = Problem.of(problem.operand, loss)
    with pytest.raises(ValueError, match=r"at v = x.*only for a loss that is 0"):
        padded(problem, factors, registry.make_solver("pgd"), shape=SHAPE)


def test_a_smaller_shape_is_refused():
    problem, _, factors, _ = cases.setup(Case("pgd", "frobenius"))
    solver = registry.make_solver("pgd")
    for size in ({"rank": RANK - 1}, {"shape": (M - 1, N)}):
        with pytest.raises(ValueError, match="is larger than"):
            padded(problem, factors, solver, **size)
