"""Problems: value, gradients, changes and the KKT residual against other answers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from cases import objective, pseudo_huber
from scipy import optimize, sparse

import jaxnmf
from jaxnmf.data.convert import as_operand
from jaxnmf.objective.losses import Frobenius, KullbackLeibler
from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.problem import Problem
from jaxnmf.padding import padded
from jaxnmf.registry import make_loss
from jaxnmf.run.programs import precision
from jaxnmf.solvers import PGD
from jaxnmf.types import Factors

M, N, RANK = 9, 7, 3
RNG = np.random.default_rng(11)
V = RNG.gamma(1.0, size=(M, N)) + 0.05
HOLES = V * (RNG.random((M, N)) < 0.5)
HOLES[2], HOLES[:, 4] = 0, 0
WT, H, NEW = (RNG.random((RANK, size)) + 0.1 for size in (M, N, N))
NONE = (Penalty(), Penalty())
PENALTIES = (Penalty(l1=0.1, l2=0.4), Penalty(l1=0.3, l2=0.2))

LOSSES = ["frobenius", "kullback-leibler", "itakura-saito", "beta", "own"]
each_loss = pytest.mark.parametrize("loss", LOSSES)
each_penalty = pytest.mark.parametrize(
    "penalties", [None, PENALTIES], ids=["bare", "penalised"]
)


@pytest.fixture(autouse=True)
def _float64():
    with precision("float64"):
        yield


def make(loss, data=V, *, penalties=None, dtype="float64"):
    loss = pseudo_huber if loss == "own" else loss
    operand = as_operand(data, dtype)
    return Problem.of(operand, make_loss(loss), penalties=penalties)


def factors(Wt=WT, H=H):
    return Factors(jnp.asarray(Wt), jnp.asarray(H))


def penalised(X, penalty):
    return float((penalty.l1 * X + 0.5 * penalty.l2 * X**2).sum())


# Compiled once for each kind of problem, whatever the data.
value = jax.jit(Problem.value)
gradient = jax.jit(Problem.gradient)
gradients = jax.jit(Problem.gradients)
change = jax.jit(Problem.change)
kkt = jax.jit(Problem.kkt)
slopes = jax.jit(lambda problem, at: jax.grad(problem.value)(at))


# --- Value and gradients --------------------------------------------------------------


@each_penalty
@each_loss
def test_value_is_the_sum_over_all_entries_and_penalties(loss, penalties):
    expected = objective(loss, V, WT.T @ H)
    if penalties:
        expected += penalised(WT, penalties[0]) + penalised(H, penalties[1])
    problem = make(loss, penalties=penalties)
    assert float(value(problem, factors())) == pytest.approx(expected, rel=1e-12)
    turned = float(value(problem.T, factors().T))
    assert turned == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", ["kullback-leibler", "beta"])
def test_zeros_that_are_fitted_by_zeros_add_nothing(loss):
    # Two blocks, fitted to a millionth: a floor under the rest would be all the sum.
    blocks = np.kron(np.eye(2), np.ones((4, 3)))
    near = 1 + 1e-6 * RNG.standard_normal(blocks.shape)
    Wt, H = np.kron(np.eye(2), np.ones(4)), np.kron(np.eye(2), np.ones(3))
    found = float(value(make(loss, blocks * near), factors(Wt, H)))
    # φ(v, x) is ½ (v − x)² / x to first order, whatever β for x = 1.
    expected = 0.5 * (((blocks * near) - blocks) ** 2).sum()
    assert found == pytest.approx(expected, rel=1e-5)


@each_penalty
@each_loss
def test_gradient_is_the_derivative_of_the_value(loss, penalties):
    problem = make(loss, penalties=penalties)
    expected = slopes(problem, factors())
    minus, plus = gradients(problem, factors())
    minus_H, plus_H = gradient(problem, *factors())
    minus_W, plus_W = gradient(problem.T, *factors().T)
    pairs = (
        (expected.H, minus.H, plus.H),
        (expected.Wt, minus.Wt, plus.Wt),
        (expected.H, minus_H, plus_H),
        (expected.Wt, minus_W, plus_W),
    )
    for slope, m, p in pairs:
        assert (np.asarray(m) >= 0).all()
        assert (np.asarray(p) > 0).all()
        error = np.abs((np.asarray(p) - np.asarray(m)) - np.asarray(slope))
        assert (error <= 1e-12 * np.asarray(p)).all()


def test_quadratic_products():
    gram, cross = make("frobenius").quadratic(jnp.asarray(WT))
    np.testing.assert_allclose(gram.array, WT @ WT.T, rtol=1e-13)
    np.testing.assert_allclose(cross, WT @ V, rtol=1e-13)


def test_transposed_problem_swaps_the_penalties():
    problem = make("frobenius", penalties=PENALTIES)
    assert float(problem.penalty.l1) == 0.3
    assert float(problem.T.penalty.l1) == 0.1
    assert float(problem.T.T.penalty.l2) == 0.2
    assert problem.T.operand.shape == (N, M)


@each_penalty
@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_a_sparse_matrix_gives_what_a_dense_one_gives(loss, penalties):
    """Zeros are data, so both count every entry."""
    dense = make(loss, HOLES, penalties=penalties)
    thin = make(loss, sparse.csr_array(HOLES), penalties=penalties)
    at = factors()
    for function, arguments in (
        (value, (at,)),
        (gradient, at),
        (gradients, (at,)),
        (change, (*at, jnp.asarray(NEW))),
        (kkt, (at,)),
    ):
        found, expected = function(thin, *arguments), function(dense, *arguments)
        for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-11)
    X = WT.T @ H
    if loss == "frobenius":
        expected = 0.5 * ((HOLES - X) ** 2).sum()
    else:
        kept = np.where(HOLES > 0, HOLES, 1)
        expected = (HOLES * np.log(kept / X) - HOLES + X).sum()
    if penalties:
        expected += penalised(WT, penalties[0]) + penalised(H, penalties[1])
    assert float(value(thin, at)) == pytest.approx(expected, rel=1e-12)


@each_penalty
@each_loss
def test_components_that_only_pad_change_nothing(loss, penalties):
    bare = make(loss, penalties=penalties)
    larger, at = padded(bare, factors(), PGD(), rank=RANK + 2)
    for function in (value, kkt):
        expected = float(function(bare, factors()))
        assert float(function(larger, at)) == pytest.approx(expected, rel=1e-12)


def test_components_that_only_pad_are_not_pulled_to_a_mean():
    penalties = (Penalty(l2=0.3, toward=0.7), Penalty(l2=0.2, toward=0.4))
    bare = make("frobenius", penalties=penalties)
    larger, at = padded(bare, factors(), PGD(), rank=RANK + 2)
    assert float(value(larger, at)) == pytest.approx(float(value(bare, factors())))


def test_held_rows_count_and_a_factor_that_is_held_throughout_does_not():
    """Against the residual of each factor alone."""
    at = factors()
    minus, plus = gradients(make("frobenius"), at)
    squares, counts = [], []
    for X, m, p in zip(at, minus, plus, strict=True):
        unit = np.asarray(p).mean(1, keepdims=True)
        size = np.asarray(X).mean(1, keepdims=True)
        squares.append(np.minimum(X / size, (p - m) / unit) ** 2)
        counts.append(X.size)
    row = np.full((RANK, 1), np.nan)
    row[1] = at.H[1, 0]
    problem = make("frobenius")
    of_H = dataclasses.replace(problem.project, held=jnp.asarray(row))
    some = dataclasses.replace(problem, projects=(problem.projects[0], of_H))
    squares[1][1] = 0
    expected = np.sqrt((squares[0].sum() + squares[1].sum()) / sum(counts))
    assert float(kkt(some, at)) == pytest.approx(expected, rel=1e-12)
    of_H = dataclasses.replace(problem.project, held=at.H)
    fixed = dataclasses.replace(problem, projects=(problem.projects[0], of_H))
    expected = np.sqrt(squares[0].sum() / counts[0])
    assert float(kkt(fixed, at)) == pytest.approx(expected, rel=1e-12)


# --- Changes --------------------------------------------------------------------------


@each_penalty
@each_loss
def test_change_keeps_the_digits_that_a_difference_loses(loss, penalties):
    """A step of a hundred-thousandth, in single precision, at a poor fit."""
    rng = np.random.default_rng(4)
    data, fixed, old = (
        (rng.gamma(1.0, size=size) + 0.1).astype(np.float32)
        for size in ((60, 40), (RANK, 60), (RANK, 40))
    )
    new = (old * (1 + 1e-5 * rng.standard_normal(old.shape))).astype(np.float32)

    def exact(X):
        D, W, X = (x.astype(np.float64) for x in (data, fixed, X))
        penalty = penalties[1] if penalties else Penalty()
        return objective(loss, D, W.T @ X) + penalised(X, penalty)

    expected = exact(new) - exact(old)
    with precision("float32"):
        problem = make(loss, data, penalties=penalties, dtype="float32")
        given = [jnp.asarray(X) for X in (fixed, old, new)]
        found = float(change(problem, *given))
    # A difference of two objectives cannot tell what is below half a last place.
    place = float(np.spacing(np.float32(exact(old))))
    assert found == pytest.approx(expected, abs=0.1 * place)


def test_change_of_sparse_data_keeps_its_digits_near_a_good_fit():
    """x over the stored entries and over all cancel, unless it is that of the step."""
    rng = np.random.default_rng(0)
    fixed, old = (rng.gamma(1.0, size=(RANK, size)) for size in (60, 40))
    data = fixed.T @ old * (1 + 1e-3 * rng.standard_normal((60, 40)))
    fixed, old = fixed.astype(np.float32), old.astype(np.float32)
    new = (old * (1 + 1e-5 * rng.standard_normal(old.shape))).astype(np.float32)

    def exact(X):
        W, X = fixed.astype(np.float64), X.astype(np.float64)
        return objective("kullback-leibler", data, W.T @ X)

    with precision("float32"):
        problem = make("kullback-leibler", sparse.csr_array(data), dtype="float32")
        found = float(change(problem, *map(jnp.asarray, (fixed, old, new))))
        assert problem.zeros_apart
    assert found == pytest.approx(exact(new) - exact(old), rel=2e-2)


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_change_leaves_out_the_penalty_of_a_column_that_is_unknown(loss):
    """As the objective does: a search by the change else accepts a rise of it."""
    data = np.where(np.arange(N) == 2, np.nan, V)
    operand = as_operand(data, "float64", mask="nan")
    problem = Problem.of(operand, make_loss(loss), penalties=PENALTIES)
    W, old, new = (jnp.asarray(X) for X in (WT, H, NEW))
    expected = value(problem, Factors(W, new)) - value(problem, Factors(W, old))
    found = float(change(problem, W, old, new))
    assert found == pytest.approx(float(expected), rel=1e-9)
    if loss == "frobenius":
        of_grams = problem.quadratic_change(*problem.quadratic(W), old, new)
        assert float(of_grams) == pytest.approx(found, rel=1e-9)


@each_penalty
def test_quadratic_change_at_a_nearly_exact_fit(penalties):
    """Where the loss itself is far below a rounding of ‖V‖²."""
    rng = np.random.default_rng(6)
    fixed, old = WT.astype(np.float32), H.astype(np.float32)
    data = (fixed.T @ old * (1 + 1e-4 * rng.standard_normal((M, N)))).astype("f4")
    new = (old * (1 + 2e-4 * rng.standard_normal(old.shape))).astype(np.float32)
    W, X, Y, D = (x.astype(np.float64) for x in (fixed, old, new, data))
    expected = objective("frobenius", D, W.T @ Y) - objective("frobenius", D, W.T @ X)
    if penalties:
        expected += penalised(Y, penalties[1]) - penalised(X, penalties[1])
    with precision("float32"):
        problem = make("frobenius", data, penalties=penalties, dtype="float32")
        given = [jnp.asarray(x) for x in (fixed, old, new)]
        gram, cross = problem.quadratic(given[0])
        found = problem.quadratic_change(gram, cross, *given[1:])
        assert float(change(problem, *given)) == pytest.approx(float(found), rel=5e-2)
        H32, N32 = given[1:]
        trick = [
            0.5 * (gram.array * (X @ X.T)).sum() - (cross * X).sum() for X in (H32, N32)
        ]
        assert found.dtype == jnp.float32
    assert float(found) == pytest.approx(expected, rel=5e-2)
    if not penalties:
        assert abs(float(trick[1] - trick[0]) - expected) > 0.5 * abs(expected)


@each_penalty
@each_loss
def test_change_of_a_large_step_is_a_difference_of_objectives(loss, penalties):
    problem = make(loss, penalties=penalties)
    found = float(change(problem, *factors(), jnp.asarray(NEW)))
    expected = objective(loss, V, WT.T @ NEW) - objective(loss, V, WT.T @ H)
    if penalties:
        expected += penalised(NEW, penalties[1]) - penalised(H, penalties[1])
    assert found == pytest.approx(expected, rel=1e-10)


# --- The KKT residual -----------------------------------------------------------------


def alternating_nnls(data, penalties=NONE, rank=2):
    """A stationary point by SciPy's active sets, each factor solved exactly in turn.

    ½‖V − WH‖² + l1 ΣH + ½ l2‖H‖² is ½‖LᵀH − L⁻¹(WᵀV − l1)‖² with LLᵀ = WᵀW + l2.
    """

    def solved(fixed, data, penalty):
        gram = fixed @ fixed.T + penalty.l2 * np.eye(rank)
        L = np.linalg.cholesky(gram)
        right = scipy.linalg.solve_triangular(L, fixed @ data - penalty.l1, lower=True)
        return np.stack([optimize.nnls(L.T, b)[0] for b in right.T], axis=1)

    rng = np.random.default_rng(0)
    Wt, X = rng.random((rank, data.shape[0])), rng.random((rank, data.shape[1]))
    for _ in range(5000):
        last = Wt
        X = solved(Wt, data, penalties[1])
        Wt = solved(X, data.T, penalties[0])
        if np.abs(Wt - last).max() < 1e-14:
            break
    return Wt, X


@pytest.fixture(scope="session")
def tiny():
    return np.random.default_rng(0).random((8, 6)) ** 3


@each_loss
def test_kkt_is_zero_where_the_fit_is_exact(loss):
    problem = make(loss, WT.T @ H)
    assert float(kkt(problem, factors())) < 1e-14
    assert float(kkt(problem, factors(WT, NEW))) > 0.05


@pytest.mark.parametrize(
    "penalties",
    [
        None,
        (Penalty(l1=0.02, l2=0.05), Penalty(l1=0.05, l2=0.02)),
    ],
    ids=["bare", "penalised"],
)
def test_kkt_is_zero_at_a_solution_found_elsewhere(tiny, penalties):
    Wt, X = alternating_nnls(tiny, penalties or NONE)
    # No exact fit, and some entries at their bound: both conditions are at work.
    assert np.linalg.norm(tiny - Wt.T @ X) > 0.2 * np.linalg.norm(tiny)
    assert (Wt == 0).any()
    assert (X == 0).any()
    problem = make("frobenius", tiny, penalties=penalties)
    assert float(kkt(problem, factors(Wt, X))) < 1e-10
    # Near it, it grows in proportion to the distance.
    near = [
        float(kkt(problem, factors(Wt * (1 + step), X * (1 + step))))
        for step in (1e-4, 1e-3, 1e-2)
    ]
    assert near[0] > 1e-5
    assert near[1] == pytest.approx(10 * near[0], rel=0.1)
    assert near[2] == pytest.approx(10 * near[1], rel=0.1)
    assert float(kkt(problem, factors(np.ones((2, 8)), np.ones((2, 6))))) > 0.1


def test_kkt_tells_a_zero_that_ought_to_grow_from_one_that_ought_not(tiny):
    Wt, X = alternating_nnls(tiny)
    problem = make("frobenius", tiny)
    k, j = np.argwhere(X > 0.1)[0]
    lowered = X.copy()
    lowered[k, j] = 0
    assert float(kkt(problem, factors(Wt, lowered))) > 1e-2
    k, j = np.argwhere(X == 0)[0]
    raised = X.copy()
    raised[k, j] = 0.1
    assert float(kkt(problem, factors(Wt, raised))) > 1e-2


def test_kkt_sees_that_an_empty_component_could_be_revived(tiny):
    Wt, X = alternating_nnls(tiny)
    residual = tiny - Wt.T @ X
    # A third component whose W meets the residual, and whose H is all zero.
    helpful = np.maximum(residual[:, residual.sum(0).argmax()], 0)
    problem = make("frobenius", tiny)
    larger = factors(np.vstack([Wt, helpful]), np.vstack([X, np.zeros(6)]))
    assert float(kkt(problem, larger)) > 1e-2
    # With both halves zero no single one of them can improve anything.
    empty = factors(np.vstack([Wt, np.zeros(8)]), np.vstack([X, np.zeros(6)]))
    assert float(kkt(problem, empty)) < 1e-10


@each_loss
def test_kkt_does_not_change_with_the_share_of_the_factors(loss):
    shares = np.array([[1e-3], [1.0], [50.0]])
    expected = float(kkt(make(loss), factors()))
    assert expected > 1e-2
    shared = factors(WT * shares, H / shares)
    assert float(kkt(make(loss), shared)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("loss", LOSSES[:-1])  # a loss of one's own has a scale
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_kkt_does_not_change_with_the_scale_of_the_data(loss, scale):
    expected = float(kkt(make(loss), factors()))
    scaled = make(loss, scale * V)
    root = np.sqrt(scale)
    found = float(kkt(scaled, factors(root * WT, root * H)))
    assert found == pytest.approx(expected, rel=1e-10)


# --- What a problem is made of --------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_number_has_the_precision_of_the_data(dtype):
    with precision(dtype):
        held = np.zeros((RANK, 1), np.int32), None
        for loss in (Frobenius(), KullbackLeibler()):
            problem = Problem.of(
                as_operand(V, dtype), loss, held=held, penalties=PENALTIES
            )
            leaves = jax.tree.leaves(jax.tree.map(jnp.asarray, problem))
            assert {x.dtype for x in leaves} == {np.dtype(dtype)}


@pytest.mark.parametrize("dense", [True, False])
def test_a_row_of_which_nothing_is_known_is_no_part_of_the_objective(
    dense, monkeypatch
):
    """It has the mean of the others in the end, whatever the penalty made of it."""
    monkeypatch.setattr("jaxnmf.data.convert.stored_dense", lambda *_: dense)
    rng = np.random.default_rng(0)
    V, known = rng.random((9, 7)), rng.random((9, 7)) < 0.8
    known[2], known[:, 4] = False, False
    rows, columns = np.nonzero(known)
    found = jaxnmf.factorize(
        jaxnmf.Observed(rows, columns, V[rows, columns], V.shape), 2, solver="pgd",
        l1=0.1, l2=0.2, max_iter=3, tol=0, dtype="float64",
    )  # fmt: skip
    kept = np.delete(found.W, 2, 0), np.delete(found.H, 4, 1)
    expected = 0.5 * ((V - found.W @ found.H)[known] ** 2).sum() + sum(
        0.1 * X.sum() + 0.1 * (X**2).sum() for X in kept
    )
    np.testing.assert_allclose(found.objective, expected, rtol=1e-12)


@pytest.mark.parametrize("loss", ["itakura-saito", "kullback-leibler"])
def test_the_floor_is_below_what_bounds_on_the_factors_allow(loss):
    """Where bounds keep W H far below V, the objective is that of W H."""
    rng = np.random.default_rng(0)
    V = rng.gamma(1.0, size=(9, 7)) * 1e8
    W, H = rng.random((9, 2)) * 0.1, rng.random((2, 7)) * 0.1
    kl = loss == "kullback-leibler"
    found = jaxnmf.factorize(
        V, 2, solver="pgd", loss=loss, constraints="box", init=(W, H), max_iter=1
    )
    v, x = V.astype(np.float32), found.W.astype(float) @ found.H
    quotient = np.log(v / x)
    entries = v * quotient - v + x if kl else v / x - quotient - 1
    assert x.min() < 1e-10 * V.mean()
    assert found.objective == pytest.approx(entries.sum(), rel=1e-4)
