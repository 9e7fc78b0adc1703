"""The contract of targets: solvers that support them minimise with them."""

from __future__ import annotations

import dataclasses

import cases
import numpy as np
import pytest
from cases import FIRST_CASES, Case

from jaxnmf.objective.targets import with_targets
from jaxnmf.run.programs import precision
from jaxnmf.solvers.base import supports_targets

WEIGHT = 30.0
RNG = np.random.default_rng(8)
TARGETS = 3 * RNG.random((2, cases.M)), 3 * RNG.random((cases.RANK, cases.N))


def with_zeros(T, rank=cases.RANK):
    return np.vstack([T, np.zeros((rank - len(T), T.shape[1]))])


CASES = [case for case in FIRST_CASES if supports_targets(case.solver_class)]


@pytest.mark.parametrize("case", [*CASES, Case("mu", "kullback-leibler")], ids=str)
def test_each_entry_is_shrunk_to_its_own_target(case):
    with precision("float64"):
        start = cases.setup(case)
        penalties = tuple(
            dataclasses.replace(one, l2=np.float64(WEIGHT))
            for one in start.problem.penalties
        )
        problem = dataclasses.replace(start.problem, penalties=penalties)
        problem = with_targets(problem, cases.RANK, 0, TARGETS)
        start = start._replace(problem=problem)
        found = cases.iterate(start, 300)
        first, last = (cases.look(start.problem, f) for f in (start.factors, found))

    V, (Wt, H) = cases.data(), map(np.asarray, found)
    X, pairs = Wt.T @ H, list(zip((Wt, H), map(with_zeros, TARGETS), strict=True))
    total = cases.objective(case.loss, V, X)
    total += 0.5 * WEIGHT * sum(((Y - T) ** 2).sum() for Y, T in pairs)
    assert float(last.objective) == pytest.approx(total, rel=1e-9)
    assert last.objective < first.objective

    # A stationary point, by the gradient in NumPy: min(x, g) is 0.
    beta = cases.BETAS[case.loss]
    slope = X ** (beta - 1) - V * X ** (beta - 2)
    for (Y, T), fit in zip(pairs, ((slope @ H.T).T, Wt @ slope), strict=True):
        g = fit + WEIGHT * (Y - T)
        assert abs(np.minimum(Y, g)).max() < 4e-2 * abs(fit).max()
