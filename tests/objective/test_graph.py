"""Graphs of neighbours, and factorisations with them."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import jaxnmf
from jaxnmf._util.describe import described
from jaxnmf.build import Objective, Start, at_rank, draw_start, make_problem
from jaxnmf.objective.graph import Edges
from jaxnmf.run.programs import precision
from jaxnmf.sweeps.batching import Batching
from jaxnmf.types import Factors

M, N = 12, 9
RNG = np.random.default_rng(0)
V = RNG.random((M, N)) + 0.1


def weights(size: int) -> np.ndarray:
    A = np.triu(RNG.random((size, size)) * (RNG.random((size, size)) < 0.4), 1)
    return A + A.T


ROWS, COLUMNS = weights(M), weights(N)
LAPLACIANS = [np.diag(A.sum(0)) - A for A in (ROWS, COLUMNS)]
GIVEN = {
    "graph": (ROWS, scipy.sparse.csr_matrix(COLUMNS)),
    "graph_weight": (0.3, 0.2),
    "dtype": "float64",
}


def penalty(W, H):
    """In NumPy."""
    LW, LH = LAPLACIANS
    return 0.3 * np.trace(W.T @ LW @ W) + 0.2 * np.trace(H @ LH @ H.T)


def test_pixels_that_share_an_edge_are_neighbours():
    A = jaxnmf.grid_graph(3, 4)
    place = np.stack(np.divmod(np.arange(12), 4))
    distance = np.abs(place[:, :, None] - place[:, None]).sum(0)
    np.testing.assert_array_equal(A.toarray(), distance == 1)
    assert jaxnmf.grid_graph(1, 1).shape == (1, 1)
    with pytest.raises(ValueError, match="width=0 must be an integer"):
        jaxnmf.grid_graph(3, 0)


def test_what_makes_no_difference_is_left_out():
    A = ROWS.copy()
    expected = Edges.of("graph", A)
    for given in (A + 3 * np.eye(M), scipy.sparse.coo_array(A), A.astype("float32")):
        found = Edges.of("graph", given)
        np.testing.assert_array_equal(found.rows, expected.rows)
        np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_value_gradient_and_change_are_those_of_finite_differences(loss):
    with precision("float64") as dtype:
        given = {k: v for k, v in GIVEN.items() if k != "dtype"}
        objective = Objective.of(loss, l1=0.1, l2=0.2, **given)
        solver = jaxnmf.solvers.PGD()
        problem = make_problem(V, solver, objective, dtype)
        problem = at_rank(problem, objective, 2)
        factors = draw_start(problem, objective, Start.of(), 2)
        factors = Factors(*(jnp.asarray(X) + 0.1 for X in factors))
        minus, plus = problem.gradients(factors)
        for side in (0, 1):
            assert (np.asarray(minus[side]) >= 0).all()
            assert (np.asarray(plus[side]) >= 0).all()
            for i, j in ((0, 0), (1, 5), (0, 8)):
                step = np.zeros(factors[side].shape)
                step[i, j] = 1e-5
                ahead, behind = (
                    problem.value(
                        factors._replace(**{("Wt", "H")[side]: factors[side] + s})
                    )
                    for s in (step, -step)
                )
                slope = (ahead - behind) / 2e-5
                found = (plus[side] - minus[side])[i, j]
                assert found == pytest.approx(float(slope), rel=1e-6, abs=1e-6)
        new = factors.H + 0.1 * np.random.default_rng(1).random(factors.H.shape)
        change = problem.change(factors.Wt, factors.H, new)
        apart = problem.value(factors._replace(H=new)) - problem.value(factors)
        assert float(change) == pytest.approx(float(apart), rel=1e-9)


def test_the_penalty_keeps_its_digits_where_neighbours_are_alike():
    X = 1 + 1e-4 * np.random.default_rng(2).random((2, M))
    graph = Edges.of("graph", ROWS).graph("float32")
    found = float(graph.roughness(jnp.asarray(X, "float32")))
    expected = np.trace(X @ LAPLACIANS[0] @ X.T)
    assert found == pytest.approx(expected, rel=5e-3)


def test_the_objective_includes_it_in_the_units_of_the_user():
    result = jaxnmf.factorize(V, 3, max_iter=50, **GIVEN)
    fit = 0.5 * ((V - result.W @ result.H) ** 2).sum()
    expected = fit + penalty(result.W, result.H)
    assert result.objective == pytest.approx(expected, rel=1e-9)
    assert penalty(result.W, result.H) > 0.01 * fit
    tiny = 2.0**-80
    given = GIVEN | {"graph_weight": (0.3 * tiny, 0.2 * tiny)}
    scaled = jaxnmf.factorize(tiny * V, 3, max_iter=50, **given)
    assert scaled.objective / tiny**2 == pytest.approx(result.objective, rel=1e-9)


def test_single_precision_gets_what_double_does():
    found = [
        jaxnmf.factorize(V, 3, solver="hals", **GIVEN | {"dtype": dtype}).objective
        for dtype in ("float32", "float64")
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_a_row_of_which_nothing_is_known_is_like_its_neighbours():
    mask = np.ones_like(V)
    mask[3] = mask[5] = 0
    A = np.where((np.arange(M) == 5) | (np.arange(M)[:, None] == 5), 0, ROWS)
    given = {"graph": (A, None), "l2": (0, 0.1), "dtype": "float64", "mask": mask}
    result = jaxnmf.factorize(V, 2, solver="hals", max_iter=3000, tol=0, **given)
    np.testing.assert_allclose(result.W[3], A[3] @ result.W / A[3].sum(), rtol=1e-4)
    # Without neighbours it has the mean, and no part in the objective.
    others = np.delete(result.W, (3, 5), 0)
    np.testing.assert_allclose(result.W[5], others.mean(0))
    X, L = result.W, np.diag(A.sum(0)) - A
    expected = 0.5 * (mask * (V - X @ result.H) ** 2).sum() + np.trace(X.T @ L @ X)
    expected += 0.05 * (result.H**2).sum()
    assert result.objective == pytest.approx(expected, rel=1e-9)


def test_new_rows_have_no_neighbours(tmp_path):
    result = jaxnmf.factorize(V, 3, max_iter=50, **GIVEN)
    expected = jaxnmf.fit_W(V[:5], result.H, dtype="float64")
    np.testing.assert_allclose(result.transform(V[:5]), expected, rtol=1e-5)
    again = jaxnmf.load(result.save(tmp_path / "r.npz"))
    np.testing.assert_allclose(again.transform(V[:5]), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "batching", [Batching(workers=1, group=1), Batching(workers=1, group=4)], ids=str
)
def test_lanes_share_a_graph_and_have_weights_of_their_own(batching, tmp_path):
    given = {"graph": (ROWS, None), "l2": (0, 0.1), "dtype": "float64"}
    given |= {"solver": "hals", "max_iter": 40, "tol": 0.0}
    settings = {"graph_weight": [0.0, 0.3, 3.0]}
    found = jaxnmf.sweep(
        V, [2, 3], 2, settings=settings, batching=batching, folder=tmp_path, **given
    )
    table = found.table
    for i in (1, 4, 9):
        lane = found.lanes[i]
        own = jaxnmf.factorize(
            V, lane.rank, seed=lane.seed, init="random", **lane.settings, **given
        )
        assert table.objective[i] == pytest.approx(own.objective, rel=1e-9)
        assert table.relative_error[i] == pytest.approx(own.relative_error, rel=1e-6)
    other = given | {"graph": (2 * ROWS, None)}
    with pytest.raises(ValueError, match="graph"):
        jaxnmf.sweep(V, [2, 3], 2, settings=settings, folder=tmp_path, **other)
    with pytest.raises(ValueError, match="graph_weight is the weight of a graph"):
        jaxnmf.sweep(V, [2], 2, settings=settings, solver="hals")


@pytest.mark.slow
def test_a_penalty_that_the_other_factor_makes_up_for_is_warned_of():
    few = {"max_iter": 5, "solver": "nenmf"}
    with pytest.warns(UserWarning, match="W can shrink"):
        jaxnmf.factorize(V, 2, graph=(ROWS, None), **few)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for enough in (
            {"l2": (0, 0.1)},
            {"l1": (0, 0.1)},
            {"graph": (ROWS, COLUMNS)},
            {"constraints": ("simplex", "nonnegative")},
            {"constraints": ("nonnegative", "box")},
        ):
            jaxnmf.factorize(V, 2, **{"graph": (ROWS, None)} | enough | few)


def test_an_inner_solver_that_does_not_support_it_is_named():
    solver = jaxnmf.solvers.Extrapolated(inner="anls-bpp")
    with pytest.raises(ValueError, match="'anls-bpp' does not support a graph"):
        jaxnmf.factorize(V, 2, solver=solver, **GIVEN)


def test_an_estimator_fits_with_it_and_transforms_without():
    model = jaxnmf.NMF(
        2, graph=(ROWS, None), graph_weight=0.3, alpha_W=0.0, alpha_H=0.01, max_iter=500
    )
    W = model.fit_transform(V)
    given = {"graph": (ROWS, None), "graph_weight": 0.3, "l2": (0, 0.01 * M)}
    own = jaxnmf.factorize(V, 2, max_iter=500, dtype="float64", **given)
    np.testing.assert_allclose(W, own.W, rtol=1e-6)
    np.testing.assert_allclose(model.transform(V), own.transform(V), rtol=1e-6)
    assert np.abs(W - model.transform(V)).max() > 0.05
    with pytest.raises(ValueError, match=r"graph=.* is for jaxnmf's own solvers"):
        jaxnmf.NMF(2, solver="cd", graph=(ROWS, None)).fit(V)


def test_a_job_has_the_checksum_of_its_graph():
    one, same, other = (
        described(Objective.of(graph=(A, None))) for A in (ROWS, ROWS.copy(), 2 * ROWS)
    )
    assert one == same != other
