"""Runs over blocks of rows: the answers of the same V in memory, and how often V is
read."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse

import jaxnmf
from jaxnmf import registry
from jaxnmf.solvers import base

M, N, RANK, HEIGHT = 46, 12, 3, 12  # blocks of 12, 12, 12 and 10 rows
RNG = np.random.default_rng(5)
PLANTED = RNG.random((M, RANK)) @ RNG.random((RANK, N))
DENSE = (PLANTED + 0.2 * RNG.random((M, N))).astype(np.float32)
KEPT = RNG.random((M, N)) < 0.4
SPARSE = scipy.sparse.csr_array(np.where(KEPT, DENSE, 0))
START = RNG.random((M, RANK)) + 0.1, RNG.random((RANK, N)) + 0.1
RUN: dict[str, Any] = {"init": START, "max_iter": 6, "tol": 0, "record_every": 2}
# The moments, the products of the start, and the relative error at the end.
BESIDE = 3
SOLVERS = [
    cls
    for cls in registry.built_in_solvers()
    if "blocks" in base.operands_of(cls()) and not hasattr(cls, "batch")
]


class Rows:
    """A source that counts how often each block is read, and may fail."""

    def __init__(self, V: Any, fail_at: int | None = None) -> None:
        self.V, self.shape, self.dtype = V, V.shape, V.dtype
        self.reads: list[int] = []
        self.fail_at = fail_at

    def block(self, i: int) -> Any:
        if len(self.reads) == self.fail_at:
            raise OSError("the disk is gone")
        self.reads.append(i)
        return self.V[i * HEIGHT : (i + 1) * HEIGHT]

    @property
    def passes(self) -> float:
        return len(self.reads) / -(-M // HEIGHT)


def both(V: Any, **given: Any) -> tuple[Any, Any, Rows]:
    """The result of V in memory, that over blocks, and their source."""
    source = Rows(V)
    settings = RUN | given
    in_memory = jaxnmf.factorize(V, RANK, pad=False, **settings)
    streamed = jaxnmf.factorize(jaxnmf.Blocks(source), RANK, **settings)
    return in_memory, streamed, source


def assert_same(one: Any, other: Any, rtol: float = 2e-4) -> None:
    for name in ("W", "H"):
        x, y = getattr(one, name), getattr(other, name)
        np.testing.assert_allclose(y, x, rtol, atol=rtol * x.max())
    np.testing.assert_array_equal(other.trace.iteration, one.trace.iteration)
    np.testing.assert_allclose(other.trace.objective, one.trace.objective, rtol)
    np.testing.assert_allclose(other.trace.kkt, one.trace.kkt, 20 * rtol)
    np.testing.assert_allclose(other.relative_error, one.relative_error, rtol)


LOSSES = {"quadratic": ["frobenius"], "multiplicative": ["frobenius", "kl"]}
CASES = [(cls.name, loss) for cls in SOLVERS for loss in LOSSES[cls.supports.losses]]
USUAL = {("hals", "frobenius"), ("extrapolated", "frobenius"), ("mu", "kl")}


def slow_unless_usual(case: tuple[str, str]) -> Any:
    return () if case in USUAL else pytest.mark.slow


OF_SPARSE = [("hals", "frobenius"), ("extrapolated", "frobenius")]
OF_SPARSE += [("mu", "frobenius"), ("mu", "kl"), ("mu-extrapolated", "kl")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "loss", "V"),
    [
        *(
            pytest.param(*case, DENSE, id="-".join(case), marks=slow_unless_usual(case))
            for case in CASES
        ),
        pytest.param("mu", "beta", DENSE, id="mu-beta"),
        pytest.param("mu", "huber", DENSE, id="mu-huber"),
        *(
            pytest.param(
                *one,
                SPARSE,
                id="-".join((*one, "sparse")),
                marks=slow_unless_usual(one),
            )
            for one in OF_SPARSE
        ),
    ],
)
def test_blocks_give_the_answer_in_memory_with_one_read_an_iteration(
    solver: str, loss: str, V: Any
) -> None:
    one, other, source = both(V, solver=solver, loss=loss)
    assert_same(one, other)
    assert other.iterations == RUN["max_iter"]
    # An undone step of `extrapolated` reads V once more.
    undone = source.passes - other.iterations - BESIDE
    assert undone == 0 or (solver == "extrapolated" and 0 < undone < 3)


def test_an_undone_step_is_undone_over_blocks_too() -> None:
    options = {"solver": "extrapolated", "solver_options": {"beta": 0.99}}
    one, other, source = both(DENSE, max_iter=20, **options)
    assert source.passes > other.iterations + BESIDE
    assert_same(one, other, 2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        {"solver": "hals", "l1": (0.1, 0.2), "l2": (0.3, 0.05)},
        {"solver": "nenmf", "constraints": ("simplex", "nonnegative")},
        {"solver": "hals", "constraints": (jaxnmf.Box(upper=0.4), None)},
        {"solver": "mu", "loss": "kl", "l1": 0.1},
        {"solver": "hals", "dtype": "float64"},
    ],
    ids=["penalties", "simplex", "box", "kl", "float64"],
)
def test_penalties_and_constraints(given: dict[str, Any]) -> None:
    assert_same(*both(DENSE, **given)[:2])


@pytest.mark.parametrize("scale", [2.0**-90, 2.0**90])
def test_the_scale_of_V_does_not_matter(scale: float) -> None:
    start = tuple(np.sqrt(scale) * X for X in START)
    V = DENSE.astype(np.float64) * scale
    one, other, _ = both(V, solver="hals", init=start)
    assert_same(one, other)
    plain = both(DENSE, solver="hals")[1]
    np.testing.assert_allclose(other.H / np.sqrt(scale), plain.H, 1e-4, 1e-6)


def test_the_objective_is_that_of_the_factors_for_a_good_fit() -> None:
    W, H = (RNG.random(shape).astype(np.float32) for shape in ((M, RANK), (RANK, N)))
    wide = W.astype(np.float64) @ H
    # Off by 1e-6, of which single precision has one digit.
    V = wide * (1 + 1e-6 * RNG.standard_normal((M, N)))
    blocks = jaxnmf.Blocks(Rows(V.astype(np.float32)))
    found = jaxnmf.factorize(blocks, RANK, solver="hals", init=(W, H), max_iter=2)
    expected = 0.5 * ((V.astype(np.float32) - wide) ** 2).sum()
    np.testing.assert_allclose(found.trace.objective[0], expected, 1e-4)


def test_auto_reads_V_as_often_as_its_solver() -> None:
    source = Rows(DENSE)
    found = jaxnmf.factorize(jaxnmf.Blocks(source), RANK, max_iter=4, tol=0)
    assert found.solver == "extrapolated"
    assert source.passes <= 4 + BESIDE + 1


def test_a_start_that_needs_V_in_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="init='nndsvd' needs V in memory"):
        jaxnmf.factorize(jaxnmf.Blocks(Rows(DENSE)), RANK, init="nndsvd")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"solver": "ccd"}, "on blocks data; solvers that do: als, anls-bpp, ao-admm"),
        ({"solver": "mu", "loss": lambda v, x: (v - x) ** 2}, "does not support"),
        ({"mask": "nan"}, "mask: V is Blocks"),
    ],
)
def test_what_does_not_fit_is_refused_before_V_is_read(
    given: dict[str, Any], words: str
) -> None:
    source = Rows(DENSE)
    with pytest.raises(ValueError, match=words):
        jaxnmf.factorize(jaxnmf.Blocks(source), RANK, **given)
    assert not source.reads


@pytest.mark.parametrize(
    ("solver", "options"),
    [
        ("hals", {"delta": 0.1}),
        ("mu", {"joint": True}),
        ("mu-extrapolated", {"joint": True}),
        ("extrapolated", {"inner": registry.make_solver("hals", {"delta": 0.1})}),
    ],
)
def test_settings_that_need_all_rows_are_refused(solver: str, options: Any) -> None:
    with pytest.raises(ValueError, match=r"(delta=0.1|joint=True) needs V in memory"):
        jaxnmf.factorize(
            jaxnmf.Blocks(Rows(DENSE)), RANK, solver=solver, solver_options=options
        )


@pytest.mark.parametrize("bad", [np.nan, -1.0, np.inf])
def test_bad_entries_are_refused_as_in_memory(bad: float) -> None:
    V = DENSE.copy()
    V[40, 3] = bad
    messages = []
    for given in (V, jaxnmf.Blocks(Rows(V))):
        with pytest.raises(ValueError, match="V of shape") as error:
            jaxnmf.factorize(given, RANK, solver="hals")
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_a_block_that_fails_before_the_run_is_named() -> None:
    blocks = jaxnmf.Blocks(Rows(DENSE, fail_at=2))
    with pytest.raises(ValueError, match=r"block 2 cannot be read \(OSError: the disk"):
        jaxnmf.factorize(blocks, RANK, solver="hals")
    blocks = jaxnmf.Blocks(Rows(DENSE, fail_at=5))
    words = r"block 1 \(rows 12 to 23\) cannot be read \(OSError: the disk is gone"
    with pytest.raises(ValueError, match=words):
        jaxnmf.factorize(blocks, RANK, solver="hals")


def test_a_run_whose_block_fails_keeps_what_it_had() -> None:
    # In the fourth iteration, two after the last record.
    source = Rows(DENSE, fail_at=4 * (2 + 3) + 2)
    with pytest.warns(RuntimeWarning, match=r"the run stopped: V: block 2 .rows 24"):
        found = jaxnmf.factorize(jaxnmf.Blocks(source), RANK, solver="hals", **RUN)
    assert found.status == "unreadable"
    assert (found.iterations, list(found.trace.iteration)) == (2, [0, 2])
    expected = jaxnmf.factorize(DENSE, RANK, solver="hals", **(RUN | {"max_iter": 2}))
    np.testing.assert_allclose(found.W, expected.W, 1e-4, 1e-5)
    assert np.isnan(found.relative_error)


def test_without_kkt_it_is_not_recorded() -> None:
    found = both(DENSE, solver="hals", kkt=False)[1]
    assert np.isnan(found.trace.kkt).all()


def test_names_of_blocks_are_those_of_the_result() -> None:
    class Named(Rows):
        def __init__(self) -> None:
            super().__init__(DENSE)
            self.column_names = [f"c{j}" for j in range(N)]

    found = jaxnmf.factorize(jaxnmf.Blocks(Named()), RANK, solver="hals", max_iter=2)
    assert found.column_names.tolist()[:2] == ["c0", "c1"]
    assert found.row_names is None
