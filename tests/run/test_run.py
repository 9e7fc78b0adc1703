"""The loop: a solver whose every loss is known in advance, and when it is stopped."""

import itertools
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnmf
from jaxnmf import registry
from jaxnmf.data.convert import as_operand
from jaxnmf.objective.losses import Frobenius
from jaxnmf.objective.problem import Problem
from jaxnmf.run import clock, loop, programs
from jaxnmf.run.clock import timed
from jaxnmf.run.loop import solve
from jaxnmf.run.programs import precision
from jaxnmf.run.stop import Stop
from jaxnmf.solvers import ANY, HALS, Supports
from jaxnmf.types import Factors, Status, pytree

M, N, RANK = 9, 7, 2
RNG = np.random.default_rng(13)
WT = RNG.uniform(0.8, 1.2, (RANK, M))
H = RNG.uniform(0.8, 1.2, (RANK, N))
V = WT.T @ H
NORM = 0.5 * (V**2).sum()
RECORDS = 12
MAPS = Path("/proc/self/maps")
NEVER = Stop(max_iter=120, tol=0.0)


@pytree
class Known:
    """H_t = (1 + rate^t) H for V = WH, so that the loss is ½‖V‖² rate^(2t).

    A rate below 1 converges, 1 stands still, one above diverges; from step
    ``breaks_at`` on the factors are NaN.
    """

    supports: ClassVar[Supports] = ANY
    monotone: ClassVar[bool] = False
    own_objective: ClassVar[bool] = False
    rate: Any = 0.9
    breaks_at: Any = np.inf

    def init(self, problem: Any, factors: Any, key: Any) -> Any:
        return factors.H / 2, jnp.ones((), factors.H.dtype), jnp.zeros((), jnp.int32)

    def step(self, problem: Any, factors: Any, state: Any) -> Any:
        end, power, count = state
        power, count = power * self.rate, count + 1
        bad = jnp.where(count.astype(end.dtype) >= self.breaks_at, jnp.nan, 1)
        new = (1 + power) * end * bad.astype(end.dtype)
        return Factors(factors.Wt, new), (end, power, count)


@pytest.fixture(autouse=True)
def _float64():
    with precision("float64"):
        yield


def problem_of(dtype="float64"):
    return Problem.of(as_operand(V, dtype), Frobenius())


def start(dtype="float64"):
    return Factors(jnp.asarray(WT, dtype), jnp.asarray(2 * H, dtype))


def known_loss(rate, iteration):
    return NORM * rate ** (2.0 * np.asarray(iteration))


def known_kkt(rate, iteration):
    """Against the first: the gradient is rate^t WᵀWH, its unit 1 + rate^t times as
    much, and near enough to the end no entry is at its bound."""
    power = rate ** np.asarray(iteration, np.float64)
    return 2 * power / (1 + power)


def by_timed(solver, stop, **options):
    return timed(problem_of(), solver, start(), jax.random.key(0), stop, **options)


@partial(jax.jit, static_argnames=("kkt", "record_every", "records"))
def _solve(problem, solver, factors, key, stop, **options):
    return solve(problem, solver, factors, key, stop, **options)


def leaves(tree, dtype="float64"):
    return programs.as_leaves(tree, np.dtype(dtype))


def arrays(stop):
    """A stop rule as data, so that another one is no other program."""
    return Stop(
        max_iter=jnp.asarray(stop.max_iter, jnp.int32),
        tol=jnp.asarray(stop.tol),
        kkt_tol=jnp.asarray(stop.kkt_tol),
        target=jnp.asarray(stop.target),
        seconds=stop.seconds,
    )


def by_solve(solver, stop, *, kkt=True, record_every=10, records=RECORDS):
    return _solve(
        problem_of(),
        leaves(solver),
        start(),
        jax.random.key(0),
        arrays(stop),
        kkt=kkt,
        record_every=record_every,
        records=records,
    )


DRIVERS = {"timed": by_timed, "solve": by_solve}
each_driver = pytest.mark.parametrize("drive", DRIVERS.values(), ids=DRIVERS)


def recorded(found):
    """The trace without what was not reached."""
    count = int(np.isfinite(np.asarray(found.trace.iteration)).sum())
    return [np.asarray(column)[:count] for column in found.trace]


def ended(found):
    """Why a run ended."""
    return Status.from_code(int(found.status))


def first_at(rate, holds):
    """The first record after the start, every ten iterations, at which it holds."""
    return next(t for t in range(10, 1000, 10) if holds(rate, t))


# --- Each rule, by its meaning --------------------------------------------------------


@each_driver
@pytest.mark.parametrize("rate", [0.9, 0.95])
@pytest.mark.parametrize("tol", [1e-1, 1e-3])
def test_tol_is_the_change_over_ten_iterations_against_the_first_loss(drive, rate, tol):
    found = drive(Known(rate=rate), Stop(max_iter=120, tol=tol))
    expected = first_at(
        rate,
        lambda r, t: known_loss(r, t - 10) - known_loss(r, t) < tol * known_loss(r, 0),
    )
    assert ended(found) == Status.CONVERGED
    assert int(found.iterations) == expected


@each_driver
def test_tol_means_the_same_whatever_the_distance_of_records(drive):
    rate, tol = 0.9, 1e-2
    found = drive(Known(rate=rate), Stop(max_iter=120, tol=tol), record_every=4)
    expected = next(
        t
        for t in range(4, 120, 4)
        if (known_loss(rate, t - 4) - known_loss(rate, t)) * 10 / 4 < tol * NORM
    )
    assert ended(found) == Status.CONVERGED
    assert int(found.iterations) == expected


@each_driver
@pytest.mark.parametrize("kkt_tol", [0.2, 1e-3])
def test_kkt_tol_is_the_residual_against_the_first(drive, kkt_tol):
    found = drive(Known(rate=0.9), Stop(max_iter=120, tol=0.0, kkt_tol=kkt_tol))
    expected = first_at(0.9, lambda r, t: known_kkt(r, t) <= kkt_tol)
    assert ended(found) == Status.KKT
    assert int(found.iterations) == expected


@each_driver
@pytest.mark.parametrize("share", [0.5, 1e-4])
def test_target_is_a_loss(drive, share):
    stop = Stop(max_iter=120, tol=0.0, target=share * NORM)
    found = drive(Known(rate=0.9), stop)
    expected = first_at(0.9, lambda r, t: known_loss(r, t) <= share * NORM)
    assert ended(found) == Status.TARGET
    assert int(found.iterations) == expected


@each_driver
@pytest.mark.parametrize("max_iter", [1, 10, 37])
def test_max_iter_is_kept_to_the_iteration(drive, max_iter):
    found = drive(Known(rate=0.9), Stop(max_iter=max_iter, tol=0.0))
    assert ended(found) == Status.MAX_ITER
    assert int(found.iterations) == max_iter
    power = 0.9**max_iter
    np.testing.assert_allclose(found.factors.H, (1 + power) * H, rtol=1e-12)


@pytest.mark.parametrize("budget", [0.0, 0.01])
def test_seconds_are_a_budget_for_the_iterations(budget):
    # A rate of 1 stands still, which no rule with tol=0 takes for convergence.
    stop = Stop(max_iter=10**9, tol=0.0, seconds=budget)
    found = by_timed(Known(rate=1.0), stop, record_every=1000)
    assert ended(found) == Status.TIME
    seconds = found.trace.seconds
    assert seconds[-1] >= budget
    assert (seconds[1:-1] < budget).all()


def test_records_grow_apart_as_asked():
    stop = Stop(max_iter=100, tol=0.0)
    found = by_timed(Known(rate=0.9), stop, record_every=3, record_growth=0.25)
    expected, t = [0], 0
    while t < 100:
        t = min(t + max(3, t // 4), 100)
        expected.append(t)
    np.testing.assert_array_equal(found.trace.iteration, expected)
    np.testing.assert_allclose(
        found.trace.objective, known_loss(0.9, expected), rtol=1e-9
    )


@each_driver
def test_a_run_may_be_over_before_it_begins(drive):
    done = drive(Known(rate=0.9), Stop(max_iter=120, target=2 * NORM))
    assert ended(done) == Status.TARGET
    assert int(done.iterations) == 0
    np.testing.assert_array_equal(done.factors.H, 2 * H)


@pytest.mark.parametrize("driver", [timed, partial(solve, records=RECORDS)])
def test_a_perfect_start_has_converged(driver):
    ones = Factors(jnp.ones((1, 4)), jnp.ones((1, 3)))
    problem = Problem.of(as_operand(np.ones((4, 3)), "float64"), Frobenius())
    solver = leaves(Known(rate=2.0))
    found = driver(problem, solver, ones, jax.random.key(0), arrays(NEVER))
    assert ended(found) == Status.CONVERGED
    assert int(found.iterations) == 0


def test_the_first_rule_that_holds_is_the_reason():
    # All of them hold at once after ten iterations.
    everything = {"max_iter": 10, "tol": 10.0, "kkt_tol": 10.0, "target": NORM / 2}
    order = [Status.TARGET, Status.KKT, Status.CONVERGED, Status.MAX_ITER]
    off = {"target": -np.inf, "kkt_tol": 0.0, "tol": 0.0}
    for status, name in zip(order, [*off, None], strict=True):
        for drive in DRIVERS.values():
            found = drive(Known(rate=0.9), Stop(**everything))
            assert ended(found) == status
        if name:
            everything[name] = off[name]


# --- Divergence -----------------------------------------------------------------------


@each_driver
def test_nan_is_divergence_and_the_last_finite_factors_stay(drive):
    found = drive(Known(rate=0.9, breaks_at=27.0), NEVER)
    assert ended(found) == Status.DIVERGED
    assert int(found.iterations) == 30
    # Records are at 10, 20 and 30: those of 20 are the last that were looked at.
    np.testing.assert_allclose(found.factors.H, (1 + 0.9**20) * H, rtol=1e-12)
    np.testing.assert_array_equal(found.factors.Wt, WT)
    iterations, losses, _, _ = recorded(found)
    np.testing.assert_array_equal(iterations, [0, 10, 20, 30])
    np.testing.assert_allclose(losses[:3], known_loss(0.9, [0, 10, 20]), rtol=1e-10)
    assert np.isnan(losses[3])


@each_driver
def test_divergence_in_the_first_record_leaves_the_start(drive):
    found = drive(Known(rate=0.9, breaks_at=1.0), NEVER)
    assert ended(found) == Status.DIVERGED
    np.testing.assert_array_equal(found.factors.H, 2 * H)


@each_driver
def test_an_infinite_loss_is_divergence_though_the_factors_are_finite(drive):
    # The loss of 10^160 is beyond double precision; of 10^80 it is not.
    found = drive(Known(rate=1e8), NEVER)
    assert ended(found) == Status.DIVERGED
    assert int(found.iterations) == 20
    np.testing.assert_allclose(found.factors.H, (1 + 1e80) * H, rtol=1e-12)


def test_a_diverging_solver_by_name(monkeypatch):
    monkeypatch.setattr(registry, "_solvers", dict(registry._solvers))

    @jaxnmf.register_solver("diverging")
    class Diverging(HALS):
        """HALS whose every step is ten times too long."""

        def step(self, problem: Any, factors: Any, state: Any) -> Any:
            new, state = super().step(problem, factors, state)
            return jax.tree.map(lambda x: 1e6 * x, new), state

    assert "diverging" in jaxnmf.solvers()
    # In single precision 10^38 is soon passed; what is kept is the start.
    result = jaxnmf.factorize(V, RANK, solver="diverging", init=(WT.T, H + 1))
    assert result.status == "diverged"
    assert "last finite" in result.status.message
    assert np.isfinite(result.W).all()
    np.testing.assert_allclose(result.H, H + 1, rtol=1e-6)


# --- The trace ------------------------------------------------------------------------


@each_driver
def test_the_trace_is_what_was_recorded(drive):
    found = drive(Known(rate=0.9), Stop(max_iter=34, tol=0.0))
    iterations, losses, kkts, seconds = recorded(found)
    expected = np.array([0, 10, 20, 30, 34])
    np.testing.assert_array_equal(iterations, expected)
    np.testing.assert_allclose(losses, known_loss(0.9, expected), rtol=1e-10)
    np.testing.assert_allclose(kkts / kkts[0], known_kkt(0.9, expected), rtol=1e-10)
    if drive is by_timed:
        assert seconds[0] == 0
        assert (np.diff(seconds) > 0).all()
    else:
        assert np.isnan(seconds).all()
        assert all(np.isnan(np.asarray(x)[5:]).all() for x in found.trace)


def test_the_clock_counts_the_iterations_alone(monkeypatch):
    """By a clock on which an iteration's chunk takes a second, a record a hundred."""
    rows, ticks = [], itertools.count()

    def on_record(iteration, loss):
        rows.append((iteration, loss))

    def now():
        return next(ticks) + 100.0 * len(rows)

    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=now))

    found = by_timed(Known(rate=0.9), Stop(max_iter=25, tol=0.0), on_record=on_record)
    np.testing.assert_array_equal([t for t, _ in rows], [10, 20, 25])
    np.testing.assert_allclose([x for _, x in rows], known_loss(0.9, [10, 20, 25]))
    np.testing.assert_array_equal(found.trace.seconds, [0, 1, 2, 3])


def test_without_kkt_it_is_recorded_at_both_ends_alone():
    stop = Stop(max_iter=30, tol=0.0)
    kkts = by_timed(Known(rate=0.9), stop, kkt=False).trace.kkt
    assert np.isnan(kkts[1:-1].astype(float)).all()
    ratio = float(kkts[-1]) / float(kkts[0])
    assert ratio == pytest.approx(known_kkt(0.9, 30), rel=1e-10)
    # In one program nothing is looked at that was not asked for.
    assert np.isnan(by_solve(Known(rate=0.9), stop, kkt=False).trace.kkt).all()


def test_without_kkt_the_end_of_a_diverged_run_is_recorded_at_what_is_kept():
    found = by_timed(Known(rate=0.9, breaks_at=27.0), NEVER, kkt=False)
    ratio = float(found.trace.kkt[-1]) / float(found.trace.kkt[0])
    assert ratio == pytest.approx(known_kkt(0.9, 20), rel=1e-10)


@pytest.mark.parametrize("drive", DRIVERS.values(), ids=DRIVERS)
def test_recording_more_often_changes_no_iteration(drive):
    often, seldom = (
        drive(HALS(), Stop(max_iter=24, tol=0.0), record_every=every)
        for every in (2, 12)
    )
    for x, y in zip(often.factors, seldom.factors, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)
    np.testing.assert_allclose(
        recorded(often)[1][::6], recorded(seldom)[1], rtol=1e-9, atol=1e-12
    )


# --- Lanes ----------------------------------------------------------------------------


def test_each_lane_stops_by_its_own_rule():
    lanes = [
        (Known(rate=0.9), Stop(max_iter=120, tol=1e-3), Status.CONVERGED),
        (Known(rate=0.9), Stop(max_iter=120, tol=0.0, kkt_tol=1e-3), Status.KKT),
        (Known(rate=0.8), Stop(max_iter=120, tol=0.0, target=NORM / 50), Status.TARGET),
        (Known(rate=0.95), Stop(max_iter=57, tol=0.0), Status.MAX_ITER),
        (Known(rate=0.9, breaks_at=13.0), NEVER, Status.DIVERGED),
        (Known(rate=0.9), Stop(max_iter=120, target=2 * NORM), Status.TARGET),
    ]

    def stack(trees):
        return jax.tree.map(lambda *x: jnp.stack([jnp.asarray(v) for v in x]), *trees)

    solvers = stack([leaves(solver) for solver, _, _ in lanes])
    stops = stack([arrays(stop) for _, stop, _ in lanes])
    whole = jax.vmap(partial(solve, records=RECORDS), in_axes=(None, 0, None, None, 0))
    found = jax.jit(whole)(problem_of(), solvers, start(), jax.random.key(0), stops)
    statuses = [Status.from_code(code) for code in np.asarray(found.status).tolist()]
    assert statuses == [status for _, _, status in lanes]
    expected = [
        first_at(
            0.9, lambda r, t: known_loss(r, t - 10) - known_loss(r, t) < 1e-3 * NORM
        ),
        first_at(0.9, lambda r, t: known_kkt(r, t) <= 1e-3),
        first_at(0.8, lambda r, t: known_loss(r, t) <= NORM / 50),
        57,
        20,
        0,
    ]
    np.testing.assert_array_equal(found.iterations, expected)
    # A lane that is over stays as it was while the others go on.
    kept = [*expected[:4], 10, 0]
    rates = np.array([0.9, 0.9, 0.8, 0.95, 0.9, 0.9])
    powers = rates ** np.array(kept)
    expected_H = (1 + powers)[:, None, None] * H
    np.testing.assert_allclose(found.factors.H, expected_H, rtol=1e-12)


# --- Compilation ----------------------------------------------------------------------


@pytest.fixture
def compilations():
    """How many programs were compiled, or fetched from the store of them, so far."""
    seen = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


def test_another_seed_or_setting_compiles_nothing(monkeypatch, compilations):
    monkeypatch.setattr(programs, "_programs", {})
    # One component more than in the other tests: nothing of it was compiled before.
    problem = problem_of()
    factors = Factors(*(jnp.vstack([X, X[:1]]) for X in start()))
    other = Factors(factors.Wt + 1, factors.H)
    keys = [jax.random.key(seed) for seed in (0, 1)]
    short, longer = (Stop(max_iter=t, tol=0.0) for t in (10, 23))
    known, slower = Known(rate=0.9), Known(rate=0.95)

    before = len(compilations)
    first = timed(problem, known, factors, keys[0], short)
    assert len(compilations) > before
    assert first.compile_seconds > 0

    before = len(compilations)
    for solver, begin, key, stop in (
        (known, other, keys[1], short),
        (slower, factors, keys[0], longer),
    ):
        again = timed(problem, solver, begin, key, stop)
        assert again.compile_seconds == 0
    assert len(compilations) == before


def test_another_precision_is_another_program():
    doubled, _ = programs.compiled(loop.measure, problem_of(), start())
    with precision("float32"):
        problem, factors = problem_of("float32"), start("float32")
        single, _ = programs.compiled(loop.measure, problem, factors)
        assert single is not doubled
        again, seconds = programs.compiled(loop.measure, problem, factors)
        assert again is single
        assert seconds == 0
        assert single(problem, factors).objective.dtype == jnp.float32


def test_programs_are_not_kept_without_end(monkeypatch):
    monkeypatch.setattr(programs, "_programs", {str(i): None for i in range(256)})
    programs.compiled(loop.measure, problem_of(), start())
    assert len(programs._programs) == 256
    assert "0" not in programs._programs


@pytest.mark.slow
@pytest.mark.skipif(not MAPS.exists(), reason="Linux tells a process its mappings")
def test_programs_are_forgotten_before_memory_mappings_run_out(monkeypatch):
    monkeypatch.setattr(programs, "_programs", {})
    for size in range(3, 13):
        programs.compiled(lambda x: jnp.sin(x) @ jnp.cos(x), jnp.ones((size, size)))
    held = MAPS.read_bytes().count(b"\n")
    monkeypatch.setattr(programs, "MOST_MAPPINGS", 0)
    last, _ = programs.compiled(loop.measure, problem_of(), start())
    assert list(programs._programs.values()) == [last]
    assert MAPS.read_bytes().count(b"\n") < held - 10


# --- Words ----------------------------------------------------------------------------


def test_every_status_has_a_code_and_words():
    for status in Status:
        assert Status.from_code(status.code) is status
        assert status == str(status)
        assert len(status.message) > 10
