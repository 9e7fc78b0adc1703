"""What the contract is run on: every solver of the registry with every loss it takes.

One size of data for all, so that tests of one solver share compiled programs.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.sparse
import sklearn.decomposition

import jaxnmf
from jaxnmf import padding, registry
from jaxnmf.build import Objective, feasible_sets
from jaxnmf.data.convert import as_operand
from jaxnmf.init.start import initial_factors
from jaxnmf.objective.losses import Loss
from jaxnmf.objective.offsets import start_with_offsets, with_offsets
from jaxnmf.objective.parts import with_parts
from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.problem import Problem
from jaxnmf.run import loop, programs
from jaxnmf.solvers.base import constraints_of
from jaxnmf.types import Factors

# Both sides divide over four devices.
M, N, RANK, PADDED_RANK = 16, 12, 3, 5


def pseudo_huber(v: jax.Array, x: jax.Array) -> jax.Array:
    """A loss of a user's own: a square near 0, a distance far from it."""
    return jnp.sqrt(1 + (v - x) ** 2) - 1


@dataclasses.dataclass(frozen=True)
class Case:
    """A solver and a loss by name; the loss "own" is `pseudo_huber`."""

    solver: str
    loss: str

    def __str__(self) -> str:
        return f"{self.solver}-{self.loss}"

    @property
    def solver_class(self) -> Any:
        return registry.solver_class(self.solver)

    def make_loss(self) -> Loss:
        return registry.make_loss(pseudo_huber if self.loss == "own" else self.loss)

    def takes(self, kind: str) -> bool:
        """Whether the solver takes this loss on data of that kind."""
        supports = self.solver_class.supports
        loss = self.make_loss()
        # A sparse V costs its stored entries only where Σφ(0, x) has a closed form.
        fits = kind != "sparse" or loss.separable_zeros
        return supports.includes(loss) and kind in supports.operands and fits


# All cases of every product, by hand: JAXNMF_EVERY_CASE=1 pytest tests/contract
EVERY_CASE = bool(os.environ.get("JAXNMF_EVERY_CASE"))


def some(cases: Sequence[Any], every: int = 2) -> list[Any]:
    """So many of a product of cases as the suite has time for, or all by hand."""
    return list(cases[:: 1 if EVERY_CASE else every])


SOLVERS = jaxnmf.solvers()
# Losses that differ from others only in φ and its split, which tests/objective is
# about: here is one of them, with one of the solvers that need a majoriser.
ONCE = dict.fromkeys(("l1", "cauchy", "negative-binomial"), "")
ONCE |= {"zero-inflated-poisson": "", "bernoulli": "", "huber": "mu"}
CASES = [
    case
    for solver in SOLVERS
    for loss in (*jaxnmf.losses(), "own")
    if (case := Case(solver, loss)).takes("dense") and ONCE.get(loss, solver) == solver
]
FIRST_CASES = [
    next(case for case in CASES if case.solver == solver) for solver in SOLVERS
]
SPARSE_CASES = [case for case in CASES if case.takes("sparse")]
OBSERVED_CASES = [case for case in CASES if case.takes("observed")]
ZERO_CASES = [case for case in CASES if not case.make_loss().positive_data]
# What only depends on how a solver is written as a program is slow to test, and a
# solver has few branches: its first and its last loss.
PROGRAM_CASES = [
    case
    for solver in SOLVERS
    for own in [[case for case in CASES if case.solver == solver]]
    for case in own[:: max(len(own) - 1, 1)]
]
# Solvers that minimise something else than the problem's objective.
PLAIN_CASES = [
    case for case in CASES if not getattr(case.solver_class, "own_objective", False)
]
CONSTRAINED_CASES = [
    (case, constraint)
    for case in PROGRAM_CASES
    for constraint in sorted(constraints_of(registry.make_solver(case.solver)))
    if constraint != "nonnegative"
]
MONOTONE_CASES = [case for case in CASES if case.solver_class.monotone]


def other_settings(cls: Any) -> list[dict[str, Any]]:
    """Every flag turned and every count raised, one at a time."""
    settings = []
    for option in registry.options(cls):
        if option.type is bool:
            settings.append({option.name: not option.default})
        elif option.type is int:
            settings.append({option.name: option.default + 2})
    return settings


SETTINGS = [
    (case, setting) for case in CASES for setting in other_settings(case.solver_class)
]


def for_solver(solver: str, V: Any) -> Any:
    """V, or for a solver that wants symmetric data V Vᵀ at the scale of V."""
    if not registry.solver_class(solver).supports.symmetric:
        return V
    square = V @ V.T if scipy.sparse.issparse(V) else np.asarray(V) @ np.asarray(V).T
    return square / V.mean()


def truth() -> tuple[np.ndarray, np.ndarray]:
    """Positive factors of the data."""
    rng = np.random.default_rng(1)
    return rng.gamma(1.0, size=(M, RANK)) + 0.05, rng.gamma(1.0, size=(RANK, N)) + 0.05


def data(*, zeros: bool = False) -> np.ndarray:
    """A product of factors times noise; with zeros also an empty row and column."""
    rng = np.random.default_rng(2)
    W, H = truth()
    V = W @ H * rng.uniform(0.6, 1.4, (M, N))
    if zeros:
        V *= rng.random((M, N)) < 0.7
        V[2], V[:, 3] = 0, 0
    return V


class Setup(NamedTuple):
    """A run before its first step."""

    problem: Problem
    solver: Any
    factors: Factors
    key: jax.Array

    def begin(self) -> Any:
        """The solver's first state."""
        return begin(*self)


def setup(
    case: Case,
    V: Any = None,
    *,
    dtype: str = "float64",
    penalties: tuple[Penalty, Penalty] | None = None,
    padded: bool = False,
    shape: Any = None,
    init: Any = "random",
    seed: int = 0,
    options: Any = None,
    constraints: Any = "nonnegative",
    mask: Any = None,
    offsets: Any = False,
    toward: str = "zero",
    parts: Any = None,
) -> Setup:
    """A run of a case from random or given (W, H), at RANK or padded to PADDED_RANK,
    and to a shape of V."""
    supports = case.solver_class.supports
    objective = Objective.of(constraints=constraints, offsets=offsets, toward=toward)
    V = for_solver(case.solver, data() if V is None else V)
    operand = as_operand(V, dtype, mask=mask, signed=bool(supports.signed))
    if supports.symmetric and not isinstance(init, str):
        init = init[0], init[0].T
    factors = initial_factors(operand, RANK, init, seed)
    problem = Problem.of(
        operand,
        case.make_loss(),
        penalties=penalties,
        constraints=feasible_sets(objective, supports.signed),
    )
    if offsets is not False or toward != "zero":
        given = objective.offsets, toward
        problem = with_offsets(problem, len(factors.H), *given)
        factors = start_with_offsets(operand, factors, *given, drawn=True)
    if parts is not None:
        problem = with_parts(problem, RANK, parts)
    factors = problem.start(factors)
    solver = registry.make_solver(case.solver, options)
    if padded:
        problem, factors = padding.padded(
            problem, factors, solver, rank=PADDED_RANK, shape=shape
        )
    solver = programs.as_leaves(solver, operand.dtype)
    factors = jax.tree.map(jnp.asarray, factors)
    return Setup(problem, solver, factors, jax.random.key(seed))


@jax.jit
def begin(problem: Any, solver: Any, factors: Any, key: Any) -> Any:
    return solver.init(problem, factors, key)


advance = jax.jit(loop.advance)
look = jax.jit(loop.measure)
RECORDS, RECORD_EVERY = 30, 10
whole_run = partial(loop.solve, records=RECORDS, record_every=RECORD_EVERY, kkt=True)
solve = jax.jit(whole_run)
solve_lanes = jax.jit(jax.vmap(whole_run, in_axes=(None, 0, 0, 0, None)))


def iterate(start: Setup, steps: int) -> Factors:
    """The factors after that many steps."""
    problem, solver, factors, _ = start
    return advance(problem, solver, factors, start.begin(), np.int32(steps))[0]


def product(factors: Factors) -> np.ndarray:
    """W H."""
    return np.asarray(factors.Wt).T @ np.asarray(factors.H)


def one_repeat(cls: Any) -> dict[str, Any]:
    """Options with which a half-step uses each product once.

    How often by default is decided by what a product costs, and sparse ones are
    cheaper.
    """
    for option in registry.options(cls):
        if option.name == "inner" and option.type is int:
            return {"inner": 1}
        if option.name == "inner":
            return {"inner": registry.make_solver(option.default, {"inner": 1})}
    return {}


# --- Answers that owe nothing to jaxnmf ---------------------------------------------

BETAS = {"frobenius": 2.0, "kullback-leibler": 1.0, "itakura-saito": 0.0, "beta": 1.5}


def objective(loss: str, V: np.ndarray, X: np.ndarray, weights: Any = 1.0) -> float:
    """Σ w φ(v, x) in NumPy."""
    return float((weights * entries(loss, V, X)).sum())


def entries(loss: str, V: np.ndarray, X: np.ndarray) -> np.ndarray:
    """φ(v, x) in NumPy."""
    if loss == "own":
        return np.sqrt(1 + (V - X) ** 2) - 1
    if loss == "huber":
        size = np.abs(V - X)
        return np.where(size <= 1, 0.5 * size**2, size - 0.5)
    if loss == "frobenius":
        return 0.5 * (V - X) ** 2
    if loss == "kullback-leibler":
        return V * np.log(V / X) - V + X
    if loss == "itakura-saito":
        return V / X - np.log(V / X) - 1
    b = BETAS[loss]
    return (V**b + (b - 1) * X**b - b * V * X ** (b - 1)) / (b * (b - 1))


def divergences(beta: float, V: np.ndarray, X: np.ndarray) -> np.ndarray:
    """φ(v, x) in extended precision: near x by its power series."""
    V, X = V.astype(np.longdouble), X.astype(np.longdouble)
    if beta == 2:
        return (V - X) ** 2 / 2
    positive = V > 0
    ratio = np.where(positive, V / np.where(positive, X, 1), 1)
    d = ratio - 1
    series, term = np.zeros_like(X), d * d / 2
    for k in range(3, 40):
        series += term
        term = term * d * (beta - k + 1) / k
    if beta == 1:
        far = V * np.log(ratio) - V + X
    elif beta == 0:
        far = ratio - np.log(ratio) - 1
    else:
        far = V**beta + (beta - 1) * X**beta - beta * V * X ** (beta - 1)
        far /= beta * (beta - 1)
    near = positive & (np.abs(d) < 0.1)
    return np.where(near, X**beta * series, far)


def independent_answer(loss: str, V: np.ndarray, W: Any, H: Any) -> float:
    """The loss that another library reaches from (W, H), run long.

    scikit-learn for the β-divergences (coordinate descent for Frobenius, its
    multiplicative updates for the others), SciPy's L-BFGS-B for other losses.
    """
    if loss not in BETAS:
        return masked_answer(loss, V, np.ones_like(V), W, H)
    model = sklearn.decomposition.NMF(
        W.shape[1],
        init="custom",
        solver="cd" if loss == "frobenius" else "mu",
        beta_loss=BETAS[loss],
        tol=0,
        max_iter=3000,
    )
    W = model.fit_transform(V, W=W.copy(), H=H.copy())
    return objective(loss, V, W @ model.components_)


def masked_answer(
    loss: str, V: np.ndarray, weights: np.ndarray, W: np.ndarray, H: np.ndarray
) -> float:
    """The Σ w φ(v, x) that SciPy's L-BFGS-B reaches from (W, H), run long."""
    (m, p), n = W.shape, H.shape[1]

    def unpack(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return z[: m * p].reshape(m, p), z[m * p :].reshape(p, n)

    def fun(z: np.ndarray) -> tuple[float, np.ndarray]:
        W, H = unpack(z)
        X = np.maximum(W @ H, 1e-12)
        if loss == "own":
            slope = (X - V) / np.sqrt(1 + (X - V) ** 2)
        elif loss == "huber":
            slope = np.clip(X - V, -1, 1)
        else:
            slope = X ** (BETAS[loss] - 1) - V * X ** (BETAS[loss] - 2)
        slope = weights * slope
        gradient = np.concatenate([(slope @ H.T).ravel(), (W.T @ slope).ravel()])
        return objective(loss, V, X, weights), gradient

    found = scipy.optimize.minimize(
        fun,
        np.concatenate([W.ravel(), H.ravel()]),
        jac=True,
        method="L-BFGS-B",
        bounds=scipy.optimize.Bounds(0, np.inf),
        options={"maxiter": 5000, "ftol": 0, "gtol": 1e-8},
    )
    return float(found.fun)
