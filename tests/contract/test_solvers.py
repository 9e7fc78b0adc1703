"""The contract of a solver, for every one of the registry and every loss it takes.

A solver that is registered, here or by another package, is tested by this file without
a change. `cases.py` says on what data, and against what independent answers.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from cases import (
    CASES,
    CONSTRAINED_CASES,
    FIRST_CASES,
    MONOTONE_CASES,
    PLAIN_CASES,
    RANK,
    SETTINGS,
    SOLVERS,
    SPARSE_CASES,
    ZERO_CASES,
    Case,
)
from compiler_options import AS_USERS_RUN

import jaxnmf
from jaxnmf import registry
from jaxnmf.objective.penalties import Penalty
from jaxnmf.run import clock, loop, programs
from jaxnmf.run.programs import precision
from jaxnmf.run.stop import Stop
from jaxnmf.types import Factors, Status, pytree

PENALTIES = (Penalty(l1=0.1, l2=0.2), Penalty(l1=0.3, l2=0.1))
HEAVY = (Penalty(l1=0.0, l2=50.0), Penalty(l1=5.0, l2=20.0))

each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_monotone_case = pytest.mark.parametrize("case", MONOTONE_CASES, ids=str)
each_plain_case = pytest.mark.parametrize("case", PLAIN_CASES, ids=str)
each_sparse_case = pytest.mark.parametrize("case", SPARSE_CASES, ids=str)
each_zero_case = pytest.mark.parametrize("case", ZERO_CASES, ids=str)
some_first_cases = pytest.mark.parametrize("case", cases.some(FIRST_CASES), ids=str)
other_first_cases = pytest.mark.parametrize(
    "case", cases.some(FIRST_CASES[1:]), ids=str
)
each_solver = pytest.mark.parametrize("name", SOLVERS)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
# Each precision and each form of a problem, not all four pairs.
bare_or_penalised = pytest.mark.parametrize(
    ("dtype", "penalties"),
    [
        pytest.param("float32", PENALTIES, id="float32-penalised"),
        pytest.param("float64", None, id="float64-bare"),
    ],
)


@pytest.fixture(autouse=True)
def _float64() -> Any:
    """Double precision, unless a test asks for single."""
    with precision("float64"):
        yield


def assert_allclose(found: Any, expected: Any, rtol: float) -> None:
    """Close leaf by leaf, relative to the largest entry of each leaf."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    for x, y in pairs:
        y = np.asarray(y)
        np.testing.assert_allclose(x, y, rtol=0, atol=rtol * np.abs(y).max())


def assert_feasible(case: Case, factors: Factors) -> None:
    for name, X in zip("WH", factors, strict=True):
        assert np.isfinite(X).all()
        if name not in case.solver_class.supports.signed:
            assert (np.asarray(X) >= 0).all()


# --- Feasible, whatever the data ------------------------------------------------------


@bare_or_penalised
@each_case
def test_factors_stay_non_negative_and_finite(case, penalties, dtype):
    with precision(dtype):
        start = cases.setup(case, dtype=dtype, penalties=penalties)
        for steps in (1, 10, 200):
            assert_feasible(case, cases.iterate(start, steps))


@bare_or_penalised
@each_zero_case
def test_zeros_in_the_data_leave_factors_finite(case, penalties, dtype):
    with precision(dtype):
        V = cases.data(zeros=True)
        start = cases.setup(case, V, dtype=dtype, penalties=penalties)
        for steps in (1, 10, 200):
            factors = cases.iterate(start, steps)
            assert_feasible(case, factors)
        first, last = (cases.look(start.problem, f) for f in (start.factors, factors))
        assert last.objective < first.objective


@pytest.mark.parametrize("scale", [1e-8, 1e8])
@each_case
def test_single_precision_takes_data_of_any_scale(case, scale):
    if case.loss == "own":
        scale = scale**0.25  # its one unit of length is built in
    with precision("float32"):
        start = cases.setup(case, scale * cases.data(), dtype="float32")
        factors = cases.iterate(start, 100)
        assert_feasible(case, factors)
        first, last = (cases.look(start.problem, f) for f in (start.factors, factors))
        assert last.objective < first.objective


@each_dtype
@each_zero_case
def test_an_empty_component_stays_finite(case, dtype):
    with precision(dtype):
        W, H = cases.truth()
        W[:, 1], H[1] = 0, 0
        start = cases.setup(case, dtype=dtype, init=(W, H))
        assert_feasible(case, cases.iterate(start, 20))


# --- Programs: what jit, vmap, padding and precision leave alone ----------------------


@each_dtype
@each_case
def test_state_keeps_its_structure_and_types(case, dtype):
    with precision(dtype):
        start = cases.setup(case, dtype=dtype)
        problem, solver, factors, _ = start
        old = (factors, start.begin())

        def step(old: Any) -> Any:
            new = solver.step(problem, *old)
            # Refused unless both have one structure and each leaf one type.
            return jax.lax.cond(problem.operand.floor > 0, lambda: new, lambda: old)

        kinds = [
            (x.shape, x.dtype, getattr(x, "weak_type", False))
            for tree in (old, jax.eval_shape(step, old))
            for x in jax.tree.leaves(tree)
        ]
        half = len(kinds) // 2
        assert kinds[:half] == kinds[half:]


@each_dtype
@each_case
def test_precision_is_kept(case, dtype):
    with precision(dtype):
        start = cases.setup(case, dtype=dtype)
        state = start.begin()
        advance = jax.eval_shape(loop.advance, *start[:3], state, np.int32(1))
        for x in jax.tree.leaves((start.factors, state, advance)):
            if jnp.issubdtype(x.dtype, jnp.floating):
                assert x.dtype == dtype


@pytest.mark.slow
@some_first_cases
def test_jit_equals_eager(case):
    start = cases.setup(case)
    jitted = cases.iterate(start, 2)
    with jax.disable_jit():
        state = start.solver.init(start.problem, start.factors, start.key)
        eager, _ = loop.advance(*start[:3], state, 2)
    assert_allclose(jitted, eager, rtol=1e-10)


def lane_and_single(case: Case, V: Any, **given: Any) -> None:
    """Three lanes that differ in everything a lane may, against their single runs."""
    starts = [cases.setup(case, V, seed=seed, **given) for seed in range(3)]
    stop = Stop(max_iter=cases.RECORDS * cases.RECORD_EVERY, tol=1e-3)
    solvers, factors, keys = (
        jax.tree.map(lambda *x: jnp.stack(x), *trees)
        for trees in zip(*(start[1:] for start in starts), strict=True)
    )
    lanes = cases.solve_lanes(starts[0].problem, solvers, factors, keys, stop)
    for i, start in enumerate(starts):
        single = cases.solve(*start, stop)
        lane = jax.tree.map(lambda x, i=i: x[i], lanes)
        assert int(lane.iterations) == int(single.iterations)
        assert int(lane.status) == int(single.status)
        assert_allclose(lane.factors, single.factors, rtol=1e-8)
        np.testing.assert_allclose(
            lane.trace.objective, single.trace.objective, rtol=1e-10
        )


@other_first_cases
def test_a_lane_equals_its_single_run(case):
    lane_and_single(case, cases.data())


# How lanes share a sparse V is the operand's.
@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    cases.some([case for case in SPARSE_CASES if case in FIRST_CASES], 4),
    ids=str,
)
def test_a_lane_on_sparse_data_equals_its_single_run(case):
    lane_and_single(case, scipy.sparse.csr_array(cases.data(zeros=True)))


# `test_padding` has the solvers that V may be padded for.
@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.solver_class.supports.padded], ids=str
)
def test_a_padded_rank_equals_the_rank(case):
    bare = cases.iterate(cases.setup(case), 30)
    start = cases.setup(case, padded=True)
    padded = cases.iterate(start, 30)
    assert_allclose(Factors(*(X[:RANK] for X in padded)), bare, rtol=1e-8)
    for X in padded:
        assert (np.asarray(X[RANK:]) == 0).all()


@some_first_cases
def test_one_trace_a_shape_and_none_a_seed_or_float_setting(case):
    cls, calls = case.solver_class, []

    def step(self: Any, *args: Any) -> Any:
        calls.append(1)
        return cls.step(self, *args)

    # A class of its own, so that no program of an earlier test serves it.
    counted = pytree(type(cls.__name__, (cls,), {"step": step}))
    changed = {
        option.name: 1.05 * option.default
        for option in registry.options(cls)
        if isinstance(option.default, float) and not option.static
    }
    V = cases.for_solver(case.solver, cases.data())
    common: dict[str, Any] = {"loss": case.make_loss(), "tol": 0.0, "kkt": False}
    common |= {"init": "random", "pad": False}
    jaxnmf.factorize(V, RANK, solver=counted(), max_iter=3, **common)
    assert len(calls) == 1
    jaxnmf.factorize(V, RANK, solver=counted(), max_iter=5, seed=1, **common)
    jaxnmf.factorize(2 * V, RANK, solver=counted(**changed), max_iter=4, **common)
    pair = {"l1": (0.0, 0.1), "l2": 0.1}
    jaxnmf.factorize(V, RANK, solver=counted(), max_iter=2, **pair, **common)
    assert len(calls) == 1

    if case not in FIRST_CASES:
        return
    # The same for the whole run as one program.
    for seed, options in ((0, {}), (1, changed)):
        solver = programs.as_leaves(counted(**options), np.float64)
        start = cases.setup(case, seed=seed)._replace(solver=solver)
        arguments = (*start, Stop(max_iter=10 + seed))
        program, _ = programs.compiled(cases.whole_run, *arguments)
        assert int(program(*arguments).iterations) == 10 + seed
    assert len(calls) == 2


@pytest.mark.slow
@pytest.mark.parametrize("case", cases.some(FIRST_CASES, 3), ids=str)
def test_timed_and_solve_agree(case, monkeypatch):
    """And the compiler's optimisation changes no more than rounding."""
    optimised = partial(programs.compiled, **AS_USERS_RUN)
    monkeypatch.setattr(clock, "compiled", optimised)
    start = cases.setup(case)
    stop = Stop(max_iter=75, tol=1e-3)  # no multiple of the record's distance
    one = cases.solve(*start, stop)
    other = clock.timed(*start, stop, record_every=cases.RECORD_EVERY, kkt=True)
    assert Status.from_code(int(one.status)) == Status.from_code(int(other.status))
    assert int(one.iterations) == int(other.iterations)
    assert_allclose(one.factors, other.factors, rtol=1e-8)
    records = len(other.trace.objective)
    assert np.isnan(np.asarray(one.trace.objective)[records:]).all()
    for name in ("iteration", "objective", "kkt"):
        found = getattr(one.trace, name)[:records]
        np.testing.assert_allclose(found, getattr(other.trace, name), rtol=1e-7)


# --- Operands: a sparse V is the same V -----------------------------------------------


@each_sparse_case
def test_sparse_equals_dense(case):
    V = cases.data(zeros=True)
    common: dict[str, Any] = {
        "penalties": PENALTIES,
        "options": cases.one_repeat(case.solver_class),
    }
    dense = cases.setup(case, V, **common)
    sparse = cases.setup(case, scipy.sparse.csr_array(V), **common)
    assert (dense.problem.operand.kind, sparse.problem.operand.kind) == (
        "dense",
        "sparse",
    )
    assert_allclose(sparse.factors, dense.factors, rtol=1e-13)
    of_dense, of_sparse = cases.iterate(dense, 30), cases.iterate(sparse, 30)
    assert_allclose(of_sparse, of_dense, rtol=1e-8)
    looks = (
        cases.look(sparse.problem, of_sparse),
        cases.look(dense.problem, of_dense),
    )
    assert_allclose(*looks, rtol=1e-8)


# --- What it converges to -------------------------------------------------------------


def step_by_step(start: cases.Setup, steps: int) -> tuple[Factors, np.ndarray]:
    """The factors at the end, and the loss before and after every step."""
    problem, solver, factors, _ = start
    state = start.begin()
    losses = [float(cases.look(problem, factors).objective)]
    for _ in range(steps):
        factors, state = cases.advance(problem, solver, factors, state, np.int32(1))
        losses.append(float(cases.look(problem, factors).objective))
    return factors, np.array(losses)


def assert_monotone(losses: np.ndarray, dtype: str = "float64") -> None:
    """That no step raises the loss by more than rounding."""
    rise = np.diff(losses) / losses[:-1]
    rounding = {"float32": 3e-6, "float64": 1e-13}[dtype]
    assert rise.max() <= rounding, f"at step {rise.argmax()}"


@each_dtype
@pytest.mark.parametrize(
    "penalties", [None, PENALTIES, HEAVY], ids=["bare", "penalised", "heavy"]
)
@each_monotone_case
def test_a_claimed_descent_descends(case, penalties, dtype):
    with precision(dtype):
        start = cases.setup(case, dtype=dtype, penalties=penalties)
        _, losses = step_by_step(start, 100)
        assert_monotone(losses, dtype)
        assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("scale", [0.01, 100.0])
@each_monotone_case
def test_a_claimed_descent_descends_from_afar(case, scale):
    """From a start far too small or too large, under penalties that rule the loss."""
    W, H = (scale * X for X in cases.truth())
    heavy = Penalty(l1=0.0, l2=1e3)
    start = cases.setup(case, init=(W, H), penalties=(heavy, heavy))
    assert_monotone(step_by_step(start, 30)[1])


@pytest.mark.parametrize(("case", "setting"), cases.some(SETTINGS, 3), ids=str)
def test_another_setting_keeps_the_contract(case, setting):
    """Counts and flags, which are other programs, one at a time."""
    factors, losses = step_by_step(cases.setup(case, options=setting), 30)
    assert_feasible(case, factors)
    assert losses[-1] < losses[0]
    if case.solver_class.monotone:
        assert_monotone(losses)


@each_plain_case
def test_an_exact_factorisation_is_a_fixed_point(case):
    W, H = cases.truth()
    start = cases.setup(case, W @ H, init=(W, H))
    random = cases.setup(case, W @ H)
    scale = cases.look(random.problem, random.factors).objective
    # Adam, whose step is a gradient over its own size, makes big steps of rounding.
    factors = cases.iterate(start, 50 if case.solver_class.monotone else 1)
    assert cases.look(start.problem, factors).objective <= 1e-12 * scale
    assert_allclose(cases.product(factors), W @ H, rtol=1e-6)
    # How a component's scale is shared between W and H is a solver's own choice.
    for X, Y in zip(factors, start.factors, strict=True):
        X, Y = (np.asarray(x) / np.linalg.norm(x, axis=1)[:, None] for x in (X, Y))
        assert_allclose(X, Y, rtol=1e-5)


def long_run(start: cases.Setup) -> tuple[np.ndarray, np.ndarray]:
    """Losses and KKT residuals over 6000 iterations.

    The tests below look at the smallest of each: optimisers with steps of constant
    length circle the solution and come near it again and again.
    """
    problem, solver, factors, _ = start
    state = start.begin()
    looks = [cases.look(problem, factors)]
    for _ in range(12):
        factors, state = cases.advance(problem, solver, factors, state, np.int32(500))
        looks.append(cases.look(problem, factors))
    return tuple(np.asarray(values) for values in zip(*looks, strict=True))  # pyright: ignore


@pytest.mark.parametrize(
    ("case", "penalties"),
    [
        pytest.param(case, penalties, id=f"{case}-{name}")
        for i, case in enumerate(PLAIN_CASES)
        for name, penalties in (("bare", None), ("penalised", PENALTIES))
        if cases.EVERY_CASE or (i % 2 == 0) == (penalties is None)
    ],
)
def test_the_kkt_residual_goes_to_zero(case, penalties):
    """To a thousandth of the first. Well-behaved solvers reach rounding; the bound is
    what multiplicative updates, whose entries reach zero slowly, meet as well."""
    _, residuals = long_run(cases.setup(case, penalties=penalties))
    assert residuals.min() <= 1e-3 * residuals[0]


@each_plain_case
def test_the_loss_is_that_of_an_independent_answer(case):
    start = cases.setup(case)
    losses, _ = long_run(start)
    Wt, H = (np.asarray(X) for X in start.factors)
    V = cases.data()
    expected = cases.objective(case.loss, V, Wt.T @ H)
    assert losses[0] == pytest.approx(expected, rel=1e-12)
    # Relative to that answer's loss, which is far from that of a perfect fit.
    answer = cases.independent_answer(case.loss, V, Wt.T, H)
    assert losses.min() == pytest.approx(answer, rel=1e-3)


# --- Other constraints than x ≥ 0 -----------------------------------------------------


@pytest.mark.parametrize(("case", "constraint"), cases.some(CONSTRAINED_CASES), ids=str)
def test_a_constraint_is_kept_and_solved_for(case, constraint):
    start = cases.setup(case, constraints=(constraint, "box"))
    padded = cases.setup(case, constraints=(constraint, "box"), padded=True)
    bare, padded_factors = cases.iterate(start, 5), cases.iterate(padded, 5)
    factors, losses = step_by_step(start, 30)
    for Wt, H in (factors, padded_factors):
        assert_feasible(case, Factors(Wt, H))
        assert max(Wt.max(), H.max()) <= 1 + 1e-12
        if constraint == "simplex":
            np.testing.assert_allclose(Wt.sum(0), 1, rtol=1e-12)
    assert_allclose(Factors(*(X[:RANK] for X in padded_factors)), bare, rtol=1e-8)
    if case.solver_class.monotone:
        assert_monotone(losses)
    _, residuals = long_run(start)
    assert residuals.min() <= 1e-3 * residuals[0]


# --- The registry: its schema and its words -------------------------------------------


@each_solver
def test_options_make_the_round_trip(name):
    cls: Any = registry.solver_class(name)
    options = registry.options(cls)
    given = {option.name: option.default for option in options}
    built = registry.build("solver", name, cls, given)
    assert type(built) is cls
    assert registry.make_solver(built) is built
    for option in options:
        for value in (getattr(built, option.name), getattr(cls(), option.name)):
            # An inner solver is given by its name, and made.
            assert getattr(value, "name", value) == option.default
    leaves = [o for o in options if not o.static and isinstance(o.default, float)]
    inner = getattr(built, "inner", None)
    nested = [] if isinstance(inner, int) else jax.tree.leaves(inner)
    assert len(jax.tree.leaves(built)) == len(leaves) + len(nested)


@each_solver
def test_options_are_checked_by_name_and_type(name):
    with pytest.raises(ValueError, match=rf"{name}.*no option 'no_such_option'"):
        registry.make_solver(name, {"no_such_option": 1})
    for option in registry.options(registry.solver_class(name)):
        for wrong in ([1], "x", 1.5):
            if option.type is Any or isinstance(wrong, option.type):
                continue
            with pytest.raises(ValueError, match=rf"{name}.*{option.name}.*type"):
                registry.make_solver(name, {option.name: wrong})


@each_solver
def test_a_solver_is_explained(name):
    cls: Any = registry.solver_class(name)
    assert cls.name == name
    text = cls.__doc__
    assert text, "no docstring"
    assert re.search(r"^ *References?: \S", text, re.MULTILINE)
    for option in registry.options(cls):
        assert re.search(rf"\b{option.name}\b", text), option.name


@each_solver
def test_a_solver_takes_some_loss(name):
    assert any(case.solver == name for case in CASES)
