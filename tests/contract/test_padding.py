"""A padded problem has the solution of the problem itself, for every solver and every
kind of V it takes."""

from __future__ import annotations

from typing import Any

import cases
import numpy as np
import pytest
import scipy.sparse
from cases import RANK, SOLVERS, Case, M, N

from jaxnmf.padding import unpadded
from jaxnmf.run.programs import precision
from jaxnmf.run.stop import Stop

SHAPE = M + 3, N + 5
STOP = Stop(max_iter=40, tol=0.0)
KINDS = ("dense", "sparse", "observed")
LOSSES = ("frobenius", "kullback-leibler")

PADDED_CASES = [
    (case, kind)
    for solver in SOLVERS
    for loss in LOSSES
    for kind in KINDS
    if (case := Case(solver, loss)).takes(kind) and case.solver_class.supports.padded
]


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with precision("float64"):
        yield


def given(case: Case, kind: str) -> dict[str, Any]:
    """Data of a kind, as `cases.setup` takes them."""
    if kind == "sparse":
        return {"V": scipy.sparse.csr_array(cases.data(zeros=True))}
    if kind == "observed":
        return {"mask": np.random.default_rng(5).random((M, N)) < 0.7}
    return {}


def assert_same(found: Any, expected: Any, shape: tuple[int, int]) -> None:
    assert int(found.status) == int(expected.status)
    for name in ("iteration", "objective", "kkt"):
        x, y = (getattr(run.trace, name) for run in (found, expected))
        np.testing.assert_allclose(x, y, rtol=1e-7, atol=1e-10, err_msg=name)
    for X, Y in zip(
        unpadded(found.factors, RANK, shape), expected.factors, strict=True
    ):
        np.testing.assert_allclose(X, Y, rtol=0, atol=1e-8 * np.abs(Y).max())
    for X, size in zip(found.factors, shape, strict=True):
        assert (np.asarray(X[RANK:]) == 0).all()
        assert (np.asarray(X[:, size:]) == 0).all()


def run_both(case: Case, **options: Any) -> None:
    bare = cases.setup(case, **options)
    shape = bare.problem.operand.shape
    larger = (M + 3, M + 3) if shape[0] == shape[1] else SHAPE
    padded = cases.setup(case, padded=True, shape=larger, **options)
    assert padded.problem.operand.shape == larger
    assert_same(cases.solve(*padded, STOP), cases.solve(*bare, STOP), shape)


@pytest.mark.parametrize(
    ("case", "kind"), PADDED_CASES, ids=[f"{c}-{k}" for c, k in PADDED_CASES]
)
def test_a_padded_problem_has_the_same_run(case, kind):
    run_both(case, **given(case, kind))
