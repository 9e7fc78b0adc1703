"""BPP, ADMM, ALS and greedy coordinate descent against SciPy, NumPy and references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxnmf
from jaxnmf import datasets
from jaxnmf.data.grams import SharedGram
from jaxnmf.run.programs import precision
from jaxnmf.solvers import bpp
from jaxnmf.solvers.bpp import nnls


def right_sides(rng, m, p, q):
    """A with planted solutions, half of them zero, and noise."""
    A = rng.random((m, p))
    X = rng.random((p, q)) * (rng.random((p, q)) < 0.5)
    return A, A @ X + 0.1 * rng.standard_normal((m, q))


def by_scipy(A, B):
    return np.stack([scipy.optimize.nnls(A, b)[0] for b in B.T], axis=1)


def solve(A, B, dtype, start=None, **options):
    """`nnls` of jaxnmf, from the Gram and cross product made in float64."""
    with precision(dtype):
        gram, cross = jnp.asarray(A.T @ A, dtype), jnp.asarray(A.T @ B, dtype)
        start = None if start is None else jnp.asarray(start, dtype)
        given = SharedGram(array=gram), cross, start
        return np.asarray(jax.jit(lambda *x: nnls(*x, **options))(*given))


def excess(A, B, X, best):
    """How much higher the residual of each column is than the best, relative to B."""
    size = (B**2).sum(0)
    return (((A @ X - B) ** 2).sum(0) - ((A @ best - B) ** 2).sum(0)) / size


# --- nnls -----------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 2e-4), ("float64", 1e-11)])
@pytest.mark.parametrize(
    ("start", "tile"), [("none", 0), ("zero", 7), ("all", 0), ("half", 7)]
)
def test_nnls_is_that_of_scipy_column_by_column(rng, dtype, rtol, start, tile):
    A, B = right_sides(rng, 60, 12, 50)
    signs = {
        "none": None,
        "zero": np.zeros((12, 50)),
        "all": np.ones((12, 50)),
        "half": rng.random((12, 50)) < 0.5,
    }
    found = solve(A, B, dtype, signs[start], tile=tile)
    expected = by_scipy(A, B)
    assert (expected == 0).mean() > 0.2
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * expected.max())
    if dtype == "float64":
        np.testing.assert_array_equal(found > 0, expected > 0)


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-4), ("float64", 1e-12)])
@pytest.mark.parametrize("p", [1, 2, bpp.WRITTEN_OUT])
def test_nnls_of_a_small_rank_calls_no_factorisation(rng, p, dtype, rtol):
    A, B = right_sides(rng, 40, p, 200)
    expected = by_scipy(A, B)
    for start in (None, rng.random((p, 200)) < 0.5):
        found = solve(A, B, dtype, start)
        np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * expected.max())
    text = {
        rank: jax.jit(lambda *x: nnls(SharedGram(array=x[0]), x[1]))
        .lower(np.eye(rank), np.ones((rank, 200)))
        .as_text()
        for rank in (p, bpp.WRITTEN_OUT + 1)
    }
    assert "cholesky" not in text[p]
    assert "cholesky" in text[bpp.WRITTEN_OUT + 1]


@pytest.mark.parametrize("held", [False, True])
def test_columns_in_blocks_are_those_of_scipy(rng, monkeypatch, held):
    monkeypatch.setattr(bpp, "BLOCK_ENTRIES", 12 * 8)  # seven blocks, one not full
    A, B = right_sides(rng, 60, 12, 50)
    free = np.ones((12, 50), bool)
    start = np.zeros((12, 50))
    if held:
        free[3, ::2] = False
        start[3, ::2] = 0.2
    with precision("float64"):
        gram, cross = SharedGram(array=jnp.asarray(A.T @ A)), jnp.asarray(A.T @ B)
        unknown = jnp.asarray(free) if held else True
        program = jax.jit(lambda *x: bpp.nnls_by_blocks(gram, *x, 100, unknown))
        text = program.lower(cross, jnp.asarray(start)).as_text()
        found = np.asarray(program(cross, jnp.asarray(start)))
    assert "12x8x" in text
    expected = start.copy()
    for j in range(50):
        own = free[:, j]
        b = B[:, j] - A[:, ~own] @ start[~own, j]
        expected[own, j] = scipy.optimize.nnls(A[:, own], b)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * expected.max())


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-6), ("float64", 1e-13)])
@pytest.mark.parametrize("chosen", [range(8), [2, 5, 0, 1, 6], [0, 3, 7]])
def test_nnls_of_dependent_columns_fits_as_well_as_scipy(rng, chosen, dtype, rtol):
    """The minimiser is not unique; its residual is."""
    A, B = right_sides(rng, 40, 8, 60)
    A[:, 5] = A[:, 2]  # a duplicate
    A[:, 6] = A[:, 0] + 2 * A[:, 1]  # a dependent column
    A[:, 7] *= 1e-4  # another scale
    A = A[:, chosen]
    for start in (None, np.ones((len(chosen), 60))):
        found = solve(A, B, dtype, start)
        assert (found >= 0).all()
        assert np.abs(excess(A, B, found, by_scipy(A, B))).max() < rtol


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nnls_of_fewer_rows_than_columns_fits_as_well_as_scipy(rng, dtype):
    A, B = right_sides(rng, 6, 15, 40)
    found = solve(A, B, dtype)
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
    assert np.abs(excess(A, B, found, by_scipy(A, B))).max() < tolerance


def test_nnls_leaves_a_dead_row_and_takes_all_zero_data(rng):
    A, B = right_sides(rng, 30, 5, 20)
    A[:, 3] = 0
    start = rng.random((5, 20))
    found = solve(A, B, "float64", start)
    np.testing.assert_array_equal(found[3], start[3])
    alive = [0, 1, 2, 4]
    np.testing.assert_allclose(found[alive], by_scipy(A[:, alive], B), atol=1e-11)
    assert (solve(A, 0 * B, "float64", start)[alive] == 0).all()
    np.testing.assert_array_equal(solve(0 * A, B, "float64", start), start)


@pytest.mark.slow
def test_nnls_stopped_early_never_raises_a_column(rng):
    A, B = right_sides(rng, 40, 25, 80)
    start = rng.random((25, 80))
    best = by_scipy(A, B)
    before = excess(A, B, start, best)
    for exchanges in (0, 1, 2):
        after = excess(A, B, solve(A, B, "float64", start, exchanges=exchanges), best)
        assert (after <= before + 1e-13).all()
    assert after.max() > 1e-6  # two were not enough for all


def test_the_backup_rule_ends_where_full_exchange_cycles():
    """Right-hand sides for which exchanging all infeasible entries comes back to where
    it was: a few in a hundred where A has mixed signs and rows of very unlike size."""
    rng = np.random.default_rng(5)
    A = rng.standard_normal((6, 6)) * np.logspace(0, -2, 6)[:, None]
    B = rng.standard_normal((6, 500))
    gram, cross = A.T @ A, A.T @ B

    def cycles(b):
        passive, seen = np.zeros(6, bool), set()
        while passive.tobytes() not in seen:
            seen.add(passive.tobytes())
            x = np.zeros(6)
            x[passive] = np.linalg.solve(gram[np.ix_(passive, passive)], b[passive])
            infeasible = np.where(passive, x < 0, gram @ x - b < 0)
            if not infeasible.any():
                return False
            passive ^= infeasible
        return True

    hard = np.array([cycles(b) for b in cross.T])
    assert hard.any()
    found = solve(A, B[:, hard], "float64")
    expected = by_scipy(A, B[:, hard])
    np.testing.assert_allclose(found, expected, atol=1e-8 * expected.max())


# --- Solvers --------------------------------------------------------------------------


def start_of(rng, V, rank):
    scale = np.sqrt(V.mean() / rank)
    m, n = V.shape
    return scale * rng.random((m, rank)), scale * rng.random((rank, n))


@pytest.fixture
def small(rng):
    W, H = rng.random((30, 4)), rng.random((4, 20))
    V = W @ H + 0.2 * rng.random((30, 20))
    return V, *start_of(rng, V, 4)


def factorize(V, W, H, solver, iterations, dtype="float64", **options):
    return jaxnmf.factorize(
        V,
        W.shape[1],
        solver=solver,
        solver_options=options,
        init=(W, H),
        max_iter=iterations,
        tol=0.0,
        dtype=dtype,
    )


def test_anls_bpp_is_scipy_alternating(small):
    V, W, H = small
    found = factorize(V, W, H, "anls-bpp", 5)
    for _ in range(5):
        H = by_scipy(W, V)
        W = by_scipy(H.T, V.T).T
    np.testing.assert_allclose(found.W @ found.H, W @ H, rtol=1e-9)
    np.testing.assert_allclose(found.H, H, atol=1e-9 * H.max())


def test_als_is_clipped_least_squares(small):
    V, W, H = small
    found = factorize(V, W, H, "als", 3)
    for _ in range(3):
        H = np.maximum(np.linalg.lstsq(W, V)[0], 0)
        W = np.maximum(np.linalg.lstsq(H.T, V.T)[0], 0).T
    np.testing.assert_allclose(found.H, H, atol=1e-9 * H.max())


def test_gcd_is_the_greedy_loop_of_its_paper(small):
    """Algorithm 2 of Hsieh & Dhillon, one column after the other."""
    V, W, H = small
    found = factorize(V, W, H, "gcd", 1, inner=1000, ratio=1e-3)

    def half(W, V, H):
        G, H = W.T @ W, H.copy()
        D, curvature = G @ H - W.T @ V, np.diag(G)

        def gains(h, d):
            s = np.maximum(h - d / curvature, 0) - h
            return s, -d * s - 0.5 * curvature * s**2

        first = max(gains(H[:, j], D[:, j])[1].max() for j in range(H.shape[1]))
        for j in range(H.shape[1]):
            while True:
                s, gain = gains(H[:, j], D[:, j])
                k = gain.argmax()
                if gain[k] <= 1e-3 * first:
                    break
                H[k, j] += s[k]
                D[:, j] += s[k] * G[:, k]
        return H

    H = half(W, V, H)
    W = half(H.T, V.T, W.T).T
    np.testing.assert_allclose(found.H, H, atol=1e-10 * H.max())
    np.testing.assert_allclose(found.W, W, atol=1e-10 * W.max())


def test_ao_admm_run_long_on_one_block_is_exact(small):
    V, W, H = small
    found = factorize(V, W, H, "ao-admm", 1, inner=3000)
    np.testing.assert_allclose(found.H, by_scipy(W, V), atol=1e-8 * H.max())


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_gcd_on_cbcl_beats_what_scikit_learn_reaches(shared_data):
    """Relative error on the CBCL faces at p=49: scikit-learn's coordinate descent has
    0.0843 after 200 iterations from a random start, the best known is 0.0805."""
    V = np.asarray(datasets.load("cbcl_faces").V, np.float32)
    W, H = start_of(np.random.default_rng(0), V, 49)
    error = factorize(V, W, H, "gcd", 70, "float32").relative_error
    assert 0.0805 < error < 0.0843
