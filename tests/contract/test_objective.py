"""The objective that is reported is that of the factors that are returned.

To four digits against a sum in extended precision over all entries, from fits without a
common digit to fits of a millionth, and whatever the range of the entries. Pairwise
here; all of them by ``python tests/contract/test_objective.py``.
"""

from __future__ import annotations

import itertools
from typing import Any

import cases
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from cases import BETAS, CASES, divergences

import jaxnmf
from jaxnmf.build import Objective, make_problem
from jaxnmf.registry import make_solver
from jaxnmf.run.clock import divergence
from jaxnmf.run.programs import precision
from jaxnmf.types import Factors

M, N, RANK = 40, 30, 4
KINDS = ["dense", "sparse", "weights", "entries"]
FITS = [1.0, 1e-1, 1e-2, 3e-3, 1e-3, 1e-4, 1e-5, 3e-6, 1e-6, 0.0]
RANGES = [(-12, 12), (-12, -11), (0, 1), (-6, 6), (11, 12)]
DTYPES = ["float32", "float64"]
WHOLE = list(itertools.product(KINDS, BETAS, FITS, RANGES, DTYPES))


def pairwise(whole: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Few of them, with every pair of values that occurs in all."""
    left = {pair for one in whole for pair in pairs(one)}
    chosen = []
    while left:
        best = max(whole, key=lambda one: len(left.intersection(pairs(one))))
        chosen.append(best)
        left.difference_update(pairs(best))
    return chosen


def pairs(one: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    return list(itertools.combinations(enumerate(one), 2))


def example(kind: str, beta: float, fit: float, range_: tuple[int, int], dtype: str):
    """(V, mask, weights, W, H): V at that distance from W H, of the precision."""
    rng = np.random.default_rng(0)
    low, high = range_
    # A decade is left to the other factor.
    W = 10 ** np.sort(rng.uniform(low, high - 1, (M, 1)), 0) * rng.gamma(
        3, size=(M, RANK)
    )
    H = rng.gamma(3.0, size=(RANK, N))
    if kind == "sparse":  # two blocks, whose zeros are fitted exactly
        W *= np.kron(np.eye(2), np.ones((M // 2, RANK // 2)))
        H *= np.kron(np.eye(2), np.ones((RANK // 2, N // 2)))
    share = np.exp(rng.normal(0, 1, RANK))
    W, H = (W * share).astype(dtype), (H / share[:, None]).astype(dtype)
    X = W.astype(np.longdouble) @ H
    V = (X * np.exp(fit * rng.standard_normal(X.shape))).astype(dtype)
    weights = None
    if kind in ("weights", "entries"):
        known = rng.random(X.shape) < (0.7 if kind == "weights" else 0.1)
        weights = np.where(known, rng.uniform(0.5, 2, X.shape), 0).astype(dtype)
    return (sp.csr_array(V) if kind == "sparse" else V), weights, V, X, W, H


def assert_right(kind: str, loss: str, fit: float, range_: Any, dtype: str) -> None:
    beta = BETAS[loss]
    given, weights, V, X, W, H = example(kind, beta, fit, range_, dtype)
    terms = divergences(beta, V, X)
    expected = (terms if weights is None else terms * weights).sum()
    with precision(dtype):
        solver = make_solver("mu")
        problem = make_problem(given, solver, Objective.of(loss), dtype, weights)
        factors = problem.units.inverse.of(Factors(W.T, H))  # pyright: ignore
        found = divergence(problem, Factors(*map(jnp.asarray, factors)))
    assert found >= 0
    # What double precision leaves of a fit to the last digit: of a sparse V, the sum of
    # its zeros is known to some units in the last place of the sum of all.
    size = (V.astype(np.longdouble) ** beta).sum() if beta else V.size
    last = 1e-15 * size if kind == "sparse" else 1e-30 * size * (dtype == "float64")
    off = abs(found - expected)
    assert off <= 1e-4 * expected + last, f"{found:.8g}, not {expected:.8g}"


def takes(kind: str, loss: str) -> bool:
    return kind != "sparse" or BETAS[loss] in (1, 2)


PAIRS = pairwise([one for one in WHOLE if takes(one[0], one[1])])


@pytest.mark.parametrize(("kind", "loss", "fit", "range_", "dtype"), PAIRS)
def test_the_objective_is_that_of_the_factors(kind, loss, fit, range_, dtype):
    assert_right(kind, loss, fit, range_, dtype)


@pytest.mark.parametrize(
    "case",
    [
        case
        for i, case in enumerate(CASES)
        if case.loss in BETAS
        and (case in cases.FIRST_CASES or cases.EVERY_CASE or i % 3 == 0)
    ],
    ids=str,
)
def test_every_solver_reports_that_of_its_factors(case):
    V = cases.for_solver(case.solver, cases.data()).astype(np.float32)
    settings = {"solver": case.solver, "loss": case.loss, "max_iter": 20, "tol": 0}
    found = jaxnmf.factorize(V, 3, kkt=False, **settings)
    X = found.W.astype(np.longdouble) @ found.H
    expected = float(divergences(BETAS[case.loss], V, X).sum())
    assert found.objective == pytest.approx(expected, rel=1e-4)


def longdouble_terms(loss: str, v: np.ndarray, x: np.ndarray) -> np.ndarray:
    """φ(v, x) of losses that are no β-divergence, their options the defaults."""
    r = v - x
    if loss == "huber":
        return np.where(abs(r) <= 1, r**2 / 2, abs(r) - 0.5)
    if loss == "l1":
        return r**2 / (np.sqrt(r**2 + np.longdouble(1e-4)) + np.longdouble(0.01))
    if loss == "cauchy":
        return np.log1p(r**2) / 2
    if loss == "negative-binomial":
        return divergences(1, v, x) - divergences(1, v + 1, x + 1)
    return (np.sqrt(v) - np.sqrt(x)) ** 2


def hellinger(v, x):
    """A user's own loss."""
    return (jnp.sqrt(v) - jnp.sqrt(x)) ** 2


@pytest.mark.parametrize("fit", [1e-1, 1e-3, 1e-4, 1e-6])
@pytest.mark.parametrize("kind", ["dense", "entries"])
@pytest.mark.parametrize(
    "loss", ["huber", "l1", "cauchy", "negative-binomial", "hellinger"]
)
def test_the_objective_of_other_losses_is_that_of_the_factors(loss, kind, fit):
    given, weights, V, X, W, H = example(kind, 2, fit, (0, 1), "float32")
    phi = hellinger if loss == "hellinger" else loss
    terms = longdouble_terms(loss, V.astype(np.longdouble), X)
    expected = (terms if weights is None else terms * weights).sum()
    with precision("float32"):
        problem = make_problem(
            given, make_solver("pgd"), Objective.of(phi), "float32", weights
        )
        factors = problem.units.inverse.of(Factors(W.T, H))  # pyright: ignore
        found = divergence(problem, Factors(*map(jnp.asarray, factors)))
    assert found == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("beta", [1.0, 1.2, 1.5])
def test_entries_far_below_v_are_in_the_objective_as_they_are(beta):
    V = np.ones((6, 5), np.float32)
    V[0, 0] = 1e6  # by the mean of which 1e-14 is nothing
    W, H = np.full((6, 1), 1e-7, np.float32), np.full((1, 5), 1e-7, np.float32)
    objective = Objective.of("beta", loss_options={"beta": beta})
    with precision("float32"):
        problem = make_problem(V, make_solver("mu"), objective, "float32")
        factors = problem.units.inverse.of(Factors(W.T, H))  # pyright: ignore
        found = divergence(problem, Factors(*map(jnp.asarray, factors)))
    X = W.astype(np.longdouble) @ H
    size = divergences(beta, V, X).sum()
    assert found == pytest.approx(float(size), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "error"), [(0.0, 0.0), (1e-4, 1.05e-4), (1e-3, 1.05e-3)]
)
def test_sparse_blocks_have_their_objective(noise, error):
    rng = np.random.default_rng(0)
    W, H = (rng.gamma(2.0, size=size) for size in ((900, 3), (3, 600)))
    W *= np.kron(np.eye(3), np.ones((300, 1)))
    H *= np.kron(np.eye(3), np.ones((1, 200)))
    V = sp.csr_array(W @ H * (1 + noise * rng.standard_normal((900, 600))))
    settings: dict[str, Any] = {"max_iter": 500, "tol": 1e-7}
    found = jaxnmf.factorize(V, 3, seed=1, solver="hals", init="random", **settings)
    X = found.W.astype(float) @ found.H
    expected = 0.5 * ((V.astype(np.float32).toarray() - X) ** 2).sum()
    assert found.objective == pytest.approx(expected, rel=1e-4)
    trace = found.trace.objective
    assert trace.min() > 0
    # An exact fit rises and falls by what float32 has rounded.
    assert (np.diff(trace) <= 1e-4 * trace[1:] + 1e-13 * trace[0]).all()
    lanes = jaxnmf.sweep(V, [3, 4], [1, 2], solver="hals", **settings)
    for lane, row in lanes.table.iterrows():
        one, other = lanes.factors(lane)
        X = one.astype(float) @ other
        expected = 0.5 * ((V.astype(np.float32).toarray() - X) ** 2).sum()
        assert row["objective"] == pytest.approx(expected, rel=1e-4)
        size = np.sqrt(2 * expected) / np.sqrt((V.data**2).sum())
        assert row["relative_error"] == pytest.approx(size, rel=1e-4)
    assert lanes.best().objective == lanes.table["objective"].min()
    model = jaxnmf.NMF(3, random_state=1, max_iter=500, tol=0)
    X = model.fit_transform(V.astype(np.float32)).astype(float) @ model.components_
    norm = np.linalg.norm(V.astype(np.float32).toarray() - X)
    assert model.reconstruction_err_ == pytest.approx(norm, rel=1e-4)
    if error:
        assert found.relative_error == pytest.approx(error, rel=0.1)


def main() -> None:
    """All combinations."""
    wrong = 0
    for one in WHOLE:
        if not takes(one[0], one[1]):
            continue
        try:
            assert_right(*one)
        except AssertionError as error:
            wrong += 1
            print(*one, error, flush=True)
    print(f"{wrong} of {len(WHOLE)} wrong")


if __name__ == "__main__":
    main()
