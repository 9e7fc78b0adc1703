"""Known entries of the factors: every solver that supports them holds them, and fits
the others."""

import cases
import numpy as np
import pytest

from jaxnmf.run.programs import precision
from jaxnmf.solvers.base import known_of


@pytest.mark.parametrize("case", cases.FIRST_CASES, ids=str)
def test_known_entries_are_held_and_the_others_fitted(case):
    known = known_of(case.solver_class)
    if not known:
        pytest.skip("it does not support known entries")
    W, H = cases.truth()
    known_W, known_H = np.full(W.T.shape, np.nan), np.full(H.shape, np.nan)
    known_H[0], known_H[1, :3], known_H[1, 4] = H[0], H[1, :3], 0
    known_W[-1, :4], known_W[0, 5] = W[:4, -1], 0
    parts = known_W if "W" in known else None, known_H
    with precision("float64"):
        start = cases.setup(case, parts=parts)
        found = cases.iterate(start, 200)
        first, last = (cases.look(start.problem, f) for f in (start.factors, found))
        for X, part in zip(found, parts, strict=True):
            if part is not None:
                held = ~np.isnan(part)
                np.testing.assert_array_equal(np.asarray(X)[held], part[held])
                assert np.asarray(X)[~held].any()
        assert last.objective < first.objective
        if not getattr(case.solver_class, "own_objective", False):
            assert last.kkt < 0.1 * first.kkt
