"""Feasible sets: the projections, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

import jaxnmf
from jaxnmf.objective.constraints import Box, Free, NonNegative, Simplex
from jaxnmf.run.programs import precision


@pytest.fixture(autouse=True)
def _float64():
    with precision("float64"):
        yield


def nearest(x, low, total):
    """The projection on {y ≥ low, Σy = total} by SciPy."""
    found = scipy.optimize.minimize(
        lambda y: ((y - x) ** 2).sum(),
        low + (total - low.sum()) / len(x),
        jac=lambda y: 2 * (y - x),
        bounds=[(a, None) for a in low],
        constraints={"type": "eq", "fun": lambda y: y.sum() - total},
        method="SLSQP",
        options={"ftol": 1e-15},
    )
    return found.x


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_simplex_is_the_nearest_point(rng, scale):
    X = scale * rng.normal(size=(5, 6))
    low = 0.1 * rng.random((5, 6))
    for floor in (0 * low, low):
        found = np.asarray(Simplex()(jnp.asarray(X), jnp.asarray(floor)))
        for j in range(X.shape[1]):
            expected = nearest(X[:, j], floor[:, j], 1)
            np.testing.assert_allclose(found[:, j], expected, atol=1e-7)


def test_simplex_at_most_keeps_what_is_feasible(rng):
    inside = rng.dirichlet(np.ones(4), size=5).T * 0.7
    project = Simplex(at_most=True)
    np.testing.assert_allclose(project(jnp.asarray(inside)), inside, rtol=1e-12)
    outside = inside + 1
    expected = Simplex()(jnp.asarray(outside))
    np.testing.assert_allclose(project(jnp.asarray(outside)), expected, rtol=1e-12)


def test_simplex_of_many_components_sums_to_one(rng):
    X = jnp.asarray(rng.normal(size=(300, 4)))
    found = np.asarray(Simplex()(X))
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-12)
    # (x − θ)₊ with one θ a column: what was dropped lies below all that stays.
    kept = found > 0
    theta = np.where(kept, X - found, -np.inf).max(0)
    np.testing.assert_allclose(np.where(kept, X - found, theta), theta[None] + 0 * X)
    assert (np.where(kept, -np.inf, X).max(0) <= theta + 1e-9).all()


@pytest.mark.parametrize("at_most", [False, True])
@pytest.mark.parametrize("size", [1e6, 1e10, 1e30])
def test_simplex_of_large_entries_sums_to_one(rng, size, at_most):
    """A long step of a line search: beside 1e10 a float32 has no place for a one."""
    X = jnp.asarray(size * rng.normal(size=(5, 6)) + size, jnp.float32)
    found = Simplex(at_most=at_most)(X)
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-6)
    np.testing.assert_array_equal(found.argmax(0), X.argmax(0))


def rows_held(values):
    return jnp.asarray(values)[:, None]


def test_an_absent_component_takes_no_share(rng):
    X = rng.normal(size=(5, 6))
    held = rows_held([np.nan, np.nan, np.nan, 0.0, 0.0])
    found = Simplex(held=held)(jnp.asarray(X))
    np.testing.assert_allclose(found[:3], Simplex()(jnp.asarray(X[:3])), rtol=1e-12)
    assert (np.asarray(found[3:]) == 0).all()


@pytest.mark.parametrize("at_most", [False, True])
def test_held_entries_leave_the_rest_of_the_sum_to_the_free(rng, at_most):
    X = 2 * rng.normal(size=(4, 6))
    held = np.where(rng.random((4, 6)) < 0.4, 0.3, np.nan)
    held[:, 0], held[:, 1] = 0, np.nan
    project = Simplex(held=jnp.asarray(held), at_most=at_most)
    for found in (project(jnp.asarray(X)), project.start(jnp.asarray(abs(X)))):
        found = np.asarray(found)
        kept = ~np.isnan(held)
        np.testing.assert_array_equal(found[kept], held[kept])
        assert (found >= 0).all()
        expected = np.maximum(1, np.where(kept, held, 0).sum(0))
        open_columns = ~kept.all(0)
        if at_most:
            assert (found.sum(0) <= expected + 1e-12).all()
        else:
            np.testing.assert_allclose(
                found.sum(0)[open_columns], expected[open_columns], rtol=1e-12
            )
    for j in range(1, 6) if not at_most else ():
        free = np.isnan(held[:, j])
        total = 1 - np.nansum(held[:, j])
        if free.any() and total > 0:
            expected = nearest(X[free, j], np.zeros(free.sum()), total)
            found = np.asarray(project(jnp.asarray(X)))[free, j]
            np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("constraint", [NonNegative, Box, Free, Simplex])
def test_held_entries_keep_their_values_and_only_those_at_0_are_absent(rng, constraint):
    X = jnp.asarray(rng.random((4, 6)))
    held = np.full((4, 6), np.nan)
    held[3], held[:, 4:], held[1, :2] = 0, 0, 0.25
    project = constraint(held=jnp.asarray(held))
    kept = ~np.isnan(held)
    for found in (project(X), project.start(X), project.hold(X)):
        np.testing.assert_array_equal(np.asarray(found)[kept], held[kept])
    residual = project.natural_residual(X, X - 0.5, jnp.ones((4, 1)))
    assert (np.asarray(residual)[kept] == 0).all()
    assert (np.asarray(residual)[~kept] != 0).all()
    present = X[:3, :4]
    assert float(project.rank(X)) == 3
    assert int(project.count(X)) == present.size
    assert float(project.mean(X)) == pytest.approx(float(present.mean()))
    means = np.append(present.mean(1), 0)[:, None]
    np.testing.assert_allclose(project.row_means(X), means)
    np.testing.assert_array_equal(project.columns(X)[0], [True] * 4 + [False] * 2)


@pytest.mark.parametrize("constraint", [NonNegative, Simplex])
def test_a_row_that_is_held_counts_for_each_of_its_entries(rng, constraint):
    X = jnp.asarray(rng.random((4, 6)))
    project = constraint(held=rows_held([np.nan, 1.0, np.nan, 0.0]))
    assert float(project.rank(X)) == 3
    assert int(project.count(X)) == 18
    assert float(project.mean(X)) == pytest.approx(float(X[:3].mean()))


@pytest.mark.parametrize("constraint", [NonNegative(), Box(upper=0.5), Simplex()])
def test_start_is_feasible(rng, constraint):
    X = jnp.asarray(rng.random((4, 6)) * 3)
    start = constraint.start(X)
    np.testing.assert_allclose(constraint(start), start, rtol=1e-12)


def test_unmixing_finds_the_abundances_of_a_bounded_least_squares(rng):
    """With the spectra as good as known, each pixel's abundances are SciPy's."""
    spectra = rng.random((3, 40))
    V = rng.dirichlet(np.ones(3), size=30) @ spectra + 0.01 * rng.random((30, 40))
    result = jaxnmf.factorize(
        V,
        3,
        solver="nenmf",
        constraints=("simplex", "nonnegative"),
        init=(np.full((30, 3), 1 / 3), spectra),
        max_iter=300,
        tol=0,
        dtype="float64",
    )
    np.testing.assert_allclose(result.W.sum(1), 1, rtol=1e-12)
    for v, w in zip(V, result.W, strict=True):
        # Σw = 1 as a heavy row of the least squares.
        heavy = 1e4 * np.ones((1, 3))
        A, b = np.vstack([result.H.T, heavy]), np.append(v, 1e4)
        np.testing.assert_allclose(w, scipy.optimize.nnls(A, b)[0], atol=1e-4)


def test_a_box_of_its_own_bound(rng):
    V = rng.random((20, 15))
    bounds = (Box(upper=0.3), Box(upper=2.0))
    result = jaxnmf.factorize(V, 3, constraints=bounds, max_iter=50)
    assert result.W.max() <= 0.3
    assert result.H.max() <= 2.0
    free = jaxnmf.factorize(V, 3, max_iter=50)
    assert result.objective < 1.2 * free.objective


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ("simplx", r"constraint 'simplx' is not known \(did you mean 'simplex'"),
        (("box", "box", "box"), "constraints has 3 values"),
        (3.0, "is neither a name"),
        (Box(upper=-1.0), "upper=-1.0 must be a number > 0"),
    ],
)
def test_what_is_no_constraint_is_refused(rng, constraints, message):
    with pytest.raises(ValueError, match=message):
        jaxnmf.factorize(rng.random((6, 5)), 2, constraints=constraints)


@pytest.mark.parametrize(
    ("solver", "constraint"),
    [("mu", "box"), ("hals", "simplex"), ("extrapolated", "simplex")],
)
def test_a_solver_that_cannot_is_refused_with_those_that_can(rng, solver, constraint):
    with pytest.raises(ValueError, match=rf"{solver}.*{constraint}.*that do: .*nenmf"):
        jaxnmf.factorize(
            rng.random((6, 5)), 2, solver=solver, constraints=(constraint, None)
        )


def test_a_wrapper_takes_what_its_inner_solver_takes(rng):
    inner = jaxnmf.registry.make_solver("nenmf")
    result = jaxnmf.factorize(
        rng.random((8, 6)),
        2,
        solver="extrapolated",
        solver_options={"inner": inner},
        constraints=("simplex", None),
    )
    np.testing.assert_allclose(result.W.sum(1), 1, rtol=1e-5)


def test_projection_costs_no_trace_for_another_bound():
    calls = []

    @jax.jit
    def clip(project, X):
        calls.append(1)
        return project(X)

    for upper in (0.5, 0.7):
        clip(Box(upper=jnp.asarray(upper)), jnp.ones((2, 3)))
    assert len(calls) == 1
