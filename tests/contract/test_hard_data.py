"""Data that real life brings: empty and equal rows, ranks too high, any magnitude.

Every solver must end with finite, feasible factors and a status that is true. One
program a solver, loss, shape and precision: hypothesis draws the numbers alone.
"""

from __future__ import annotations

from typing import Any

import cases
import numpy as np
import pytest
from cases import PROGRAM_CASES, Case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxnmf import registry
from jaxnmf.build import Objective, feasible_sets
from jaxnmf.data.convert import as_operand
from jaxnmf.init.start import initial_factors
from jaxnmf.objective.problem import Problem
from jaxnmf.run import programs
from jaxnmf.run.programs import precision
from jaxnmf.run.stop import Stop
from jaxnmf.types import Factors, Status

STOP = Stop(max_iter=25, tol=1e-4)
# (m, n, rank): a plain one, the rank at its largest, a single row of one component.
SHAPES = {"plain": (6, 5, 2), "full rank": (6, 5, 5), "one row": (1, 7, 1)}
hard = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@st.composite
def hard_data(draw: Any, m: int, n: int, *, zeros: bool) -> np.ndarray:
    """Entries from 1e-12 to 1e12, with rows and columns empty or alike."""
    low = draw(st.integers(-12, 12), label="smallest power of ten")
    high = draw(st.integers(low, 12), label="largest")
    rng = np.random.default_rng(draw(st.integers(0, 99), label="seed"))
    V = 10.0 ** rng.uniform(low, high, (m, n))
    if draw(st.booleans(), label="equal columns"):
        V[:, 1:3] = V[:, :1]
    if draw(st.booleans(), label="equal rows"):
        V[:] = V[:1]
    if draw(st.booleans(), label="all tiny"):
        V *= 1e-12 / V.max()
    if zeros:
        if draw(st.booleans(), label="empty column"):
            V[:, -1] = 0
        if draw(st.booleans(), label="empty row"):
            V[-1] = 0
        V *= rng.random((m, n)) < draw(st.sampled_from([1.0, 0.5]), label="density")
    return V


def solved(case: Case, V: np.ndarray, rank: int, dtype: str) -> Any:
    supports = case.solver_class.supports
    operand = as_operand(V, dtype, signed=bool(supports.signed))
    constraints = feasible_sets(Objective.of(), supports.signed)
    problem = Problem.of(operand, case.make_loss(), constraints=constraints)
    solver = programs.as_leaves(registry.make_solver(case.solver), operand.dtype)
    factors = Factors(*map(np.asarray, initial_factors(operand, rank, "random", 0)))
    key = cases.jax.random.key(0)
    return cases.solve(problem, solver, factors, key, STOP)


def assert_truthful(case: Case, V: np.ndarray, rank: int, dtype: str) -> None:
    result = solved(case, V, rank, dtype)
    Wt, H = (np.asarray(X, np.float64) for X in result.factors)
    for name, X in zip("WH", (Wt, H), strict=True):
        assert np.isfinite(X).all()
        assert name in case.solver_class.supports.signed or (X >= 0).all()
    status, iterations = Status.from_code(int(result.status)), int(result.iterations)
    losses = np.asarray(result.trace.objective, np.float64)
    losses = losses[: 1 + int(np.isfinite(result.trace.iteration)[1:].sum())]
    if case.solver == "als" and status == Status.DIVERGED:
        # Clipping promises nothing; the others have no reason to diverge.
        assert not np.isfinite(losses[-1])
        return
    assert np.isfinite(losses).all()
    if case.solver_class.monotone:
        assert losses[-1] <= 1.001 * losses[0]
    if status == Status.MAX_ITER:
        assert iterations == STOP.max_iter
    elif status == Status.KKT:
        assert result.trace.kkt[len(losses) - 1] == 0  # to the last bit
    elif len(losses) > 1:
        assert status == Status.CONVERGED
        assert abs(losses[-1] - losses[-2]) <= 3 * STOP.tol * losses[0]
    else:
        assert losses[0] == 0
    if case.loss == "frobenius":
        reported = 0.5 * ((V - Wt.T @ H) ** 2).sum()
        rounding = {"float32": 1e-5, "float64": 1e-13}[dtype]
        size = 0.5 * (V**2).sum() + 0.5 * ((Wt.T @ H) ** 2).sum()
        assert abs(losses[-1] - reported) <= 1e-3 * reported + rounding * size


# Mostly in single precision, the harder one.
HARD = [(case, "plain", "float32") for case in cases.some(PROGRAM_CASES)]
OTHERS = [("full rank", "float32"), ("one row", "float32"), ("plain", "float64")]
HARD += [(case, *OTHERS[i % 3]) for i, case in enumerate(cases.some(PROGRAM_CASES, 4))]


@pytest.mark.parametrize(
    ("case", "shape", "dtype"),
    [
        pytest.param(
            *one,
            id="-".join(map(str, one)),
            marks=() if one[1:] == ("plain", "float32") else pytest.mark.slow,
        )
        for one in HARD
    ],
)
def test_hard_data_ends_finite_feasible_and_truthful(case, shape, dtype):
    m, n, rank = SHAPES[shape]
    if case.solver_class.supports.symmetric:
        m = n = 5

    @hard
    @given(hard_data(m, n, zeros=not case.make_loss().positive_data))
    def check(V: np.ndarray) -> None:
        if case.solver_class.supports.symmetric:
            V = (V + V.T) / 2
        assert_truthful(case, V, rank, dtype)

    with precision(dtype):
        check()
        if not case.make_loss().positive_data:
            nothing = np.zeros((m, n))
            assert_truthful(case, nothing, rank, dtype)
            assert solved(case, nothing, rank, dtype).trace.objective[0] < 1e-30
