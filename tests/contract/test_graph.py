"""The contract of a graph: solvers that support one minimise with it."""

from __future__ import annotations

import dataclasses
from typing import Any

import cases
import numpy as np
import pytest
import scipy.optimize
from cases import CASES, MONOTONE_CASES, Case

from jaxnmf.objective.graph import Edges
from jaxnmf.run.programs import precision
from jaxnmf.solvers.base import supports_graph
from jaxnmf.types import Factors

GRAPH_CASES = [case for case in CASES if supports_graph(case.solver_class)]


def weights(size: int, seed: int) -> np.ndarray:
    """Symmetric, about three neighbours each, one without any."""
    rng = np.random.default_rng(seed)
    A = np.triu(rng.random((size, size)) * (rng.random((size, size)) < 0.3), 1)
    A[:, 4] = A[4] = 0
    return A + A.T


GRAPHS = weights(cases.M, 5), weights(cases.N, 6)


def with_graphs(case: Case, strength: float, mask: Any = None) -> cases.Setup:
    """A run of a case with graphs of both factors."""
    start = cases.setup(case, mask=mask)
    penalties = tuple(
        dataclasses.replace(one, graph_weight=np.float64(strength))
        for one in start.problem.penalties
    )
    graphs = tuple(Edges.of("graph", A).graph("float64") for A in GRAPHS)
    problem = dataclasses.replace(start.problem, penalties=penalties, graphs=graphs)
    return start._replace(problem=problem)


def objective(case: Case, V: np.ndarray, Wt: Any, H: Any, strength: float) -> float:
    """In NumPy."""
    total = cases.objective(case.loss, V, Wt.T @ H)
    for X, A in zip((Wt, H), GRAPHS, strict=True):
        total += strength * np.trace(X @ (np.diag(A.sum(0)) - A) @ X.T)
    return total


def slopes(case: Case, V: np.ndarray, Wt: Any, H: Any, strength: float) -> Any:
    """The gradients of `objective`, in NumPy."""
    X = Wt.T @ H
    if case.loss == "own":
        slope = (X - V) / np.sqrt(1 + (X - V) ** 2)
    else:
        beta = cases.BETAS[case.loss]
        slope = X ** (beta - 1) - V * X ** (beta - 2)
    fits = (slope @ H.T).T, Wt @ slope
    return [
        fit + 2 * strength * Y @ (np.diag(A.sum(0)) - A)
        for fit, Y, A in zip(fits, (Wt, H), GRAPHS, strict=True)
    ]


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with precision("float64"):
        yield


@pytest.mark.parametrize("strength", [0.1, 30.0])
@pytest.mark.parametrize(
    "case", [case for case in GRAPH_CASES if case in MONOTONE_CASES], ids=str
)
def test_no_step_raises_the_objective(case, strength):
    start, V = with_graphs(case, strength), cases.data()
    factors, values = start.factors, []
    for _ in range(4):
        for steps in (1, 2, 5):
            own = tuple(map(np.asarray, factors))
            values.append(objective(case, V, *own, strength))
            factors = cases.iterate(start._replace(factors=factors), steps)
    assert np.diff(values).max() <= 1e-10 * values[0]
    assert values[-1] < values[0]


# Convex in each factor: of the others 3000 steps end anywhere.
@pytest.mark.parametrize(
    "case",
    [case for case in GRAPH_CASES if case.loss in ("frobenius", "kullback-leibler")],
    ids=str,
)
def test_no_other_optimizer_gets_below(case):
    start, V, strength = with_graphs(case, 0.1), cases.data(), 0.1
    # What a multiplicative update leaves is far smaller than what a graph changes.
    Wt, H = map(np.asarray, cases.iterate(start, 3000))
    found = objective(case, V, Wt, H, strength)

    def apart(z: np.ndarray) -> Factors:
        return Factors(z[: Wt.size].reshape(Wt.shape), z[Wt.size :].reshape(H.shape))

    best = scipy.optimize.minimize(
        lambda z: (
            objective(case, V, *apart(z), strength),
            np.concatenate([g.ravel() for g in slopes(case, V, *apart(z), strength)]),
        ),
        np.concatenate([Wt.ravel(), H.ravel()]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1e-12, None)] * (Wt.size + H.size),
        options={"maxiter": 500, "ftol": 1e-14, "gtol": 1e-10},
    )
    assert found <= best.fun * (1 + 2e-3)
    measured = cases.look(start.problem, Factors(Wt, H)).objective
    assert measured == pytest.approx(found, rel=1e-9)


@pytest.mark.parametrize(
    "case",
    cases.some([x for x in GRAPH_CASES if x in MONOTONE_CASES and x.takes("observed")]),
    ids=str,
)
def test_no_step_raises_the_objective_of_known_entries(case):
    mask = np.random.default_rng(7).random((cases.M, cases.N)) < 0.6
    mask[2] = False
    start = with_graphs(case, 3.0, mask)
    factors, values = start.factors, []
    for _ in range(8):
        values.append(float(cases.look(start.problem, factors).objective))
        factors = cases.iterate(start._replace(factors=factors), 2)
    assert np.diff(values).max() <= 1e-10 * values[0]
