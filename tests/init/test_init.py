"""Initial factors against scikit-learn, and against what they promise."""

from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import _nmf
from sklearn.utils.extmath import randomized_svd

import jaxnmf
from jaxnmf.data.convert import as_operand
from jaxnmf.init import svd
from jaxnmf.init.start import INITS, initial_factors
from jaxnmf.run.programs import precision

M, N, RANK = 20, 14, 4
RNG = np.random.default_rng(3)
V = RNG.gamma(0.5, size=(M, N)) * (RNG.random((M, N)) < 0.6)
W0, H0 = RNG.random((M, RANK)), RNG.random((RANK, N))


@pytest.fixture(autouse=True)
def _float64():
    with precision("float64"):
        yield


def start(init="random", rank=RANK, seed=0, data=V, dtype="float64"):
    """W and H as a user sees them."""
    Wt, H = initial_factors(as_operand(data, dtype), rank, init, seed)
    return np.asarray(Wt).T, np.asarray(H)


# --- Random --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7])
def test_first_components_of_a_larger_start_are_those_of_a_smaller(seed):
    small, large = start(rank=RANK, seed=seed), start(rank=RANK + 3, seed=seed)
    shares = [
        large[0][:, :RANK] / small[0],
        large[1][:RANK] / small[1],
    ]
    # One number for every entry of both factors: the common scale of ΣWH = ΣV.
    expected = shares[0][0, 0]
    assert expected < 1
    for share in shares:
        np.testing.assert_allclose(share, expected, rtol=1e-12)


def test_components_factors_and_seeds_differ():
    W, H = start(data=np.ones((N, N)))
    other, _ = start(data=np.ones((N, N)), seed=1)
    columns = np.stack([*W.T, *H, *other.T])
    correlations = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(correlations).max() < 0.95


def test_random_entries_are_half_normal():
    W, _ = start(rank=1, data=np.ones((20_000, 1)))
    # Of |N(0, 1)|: E x = √(2/π) and E x² = 1.
    assert (W.mean() ** 2 / (W**2).mean()) == pytest.approx(2 / np.pi, rel=0.02)
    assert W.min() >= 0


@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_random_start_has_the_sum_of_v(layout, scale):
    W, H = start(data=layout(scale * V))
    assert (W @ H).sum() == pytest.approx(scale * V.sum(), rel=1e-12)


def test_random_start_is_the_same_whatever_holds_the_data():
    for x, y in zip(start(), start(data=sparse.coo_array(V)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-13)
    single = start(dtype="float32")
    assert {x.dtype for x in single} == {np.dtype("float32")}
    for x, y in zip(start(), single, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)


# --- From the SVD --------------------------------------------------------------------


@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("init", ["nndsvd", "nndsvda"])
def test_nndsvd_is_that_of_scikit_learn(init, layout):
    expected = _nmf._initialize_nmf(layout(V), RANK, init, random_state=0)
    found = start(init, data=layout(V))
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-9)
    assert ((found[0] == 0).any() or (found[1] == 0).any()) == (init == "nndsvd")


def test_nndsvdar_is_nndsvd_with_small_noise_for_its_zeros():
    plain, filled = start("nndsvd"), start("nndsvdar", seed=1)
    for x, y in zip(plain, filled, strict=True):
        assert (y > 0).all()
        np.testing.assert_array_equal(y[x > 0], x[x > 0])
        noise = y[x == 0]
        # |N(0, 1)| in hundredths of the mean of V.
        assert noise.max() < 5 * V.mean() / 100
        assert np.unique(noise).size == noise.size
    assert any((x == 0).sum() > 10 for x in plain)


def test_nndsvdar_follows_its_seed():
    first, again, other = (start("nndsvdar", seed=seed) for seed in (1, 1, 2))
    for x, y, z in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(x, y)
        assert (x != z).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_zero_of_a_singular_vector_is_no_rounding(dtype):
    V = np.zeros((30, 20), dtype)
    V[:20, :12], V[20:, 12:] = 1 + RNG.random((20, 12)), RNG.random((10, 8))
    W, H = svd.svd_factors(as_operand(V, dtype), 1, "nndsvda", 0)
    np.testing.assert_allclose(W[20:], V.mean(dtype=float), rtol=1e-6)
    np.testing.assert_allclose(H[:, 12:], V.mean(dtype=float), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (80, 70)])
def test_the_decomposition_is_that_of_scikit_learn(shape, dtype):
    V = np.random.default_rng(0).random(shape).astype(dtype)
    for X in (V, sparse.csr_array(np.where(V > 0.5, V, 0))):
        found = svd.randomized_svd(X, 4)
        expected = randomized_svd(X, 4, random_state=0)
        for x, y in zip(found, expected, strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(abs(x), abs(y))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(30, 200), (40_000, 20)])
def test_a_short_side_has_the_decomposition_by_its_gram_matrix(shape, dtype):
    rng = np.random.default_rng(0)
    V = rng.random((shape[0], 3)) @ rng.random((3, shape[1]))
    V = (V + 0.1 * rng.random(shape)).astype(dtype)
    U, s, Vt = svd._decomposition(as_operand(V, dtype), 3)
    expected = np.linalg.svd(V.astype(float), full_matrices=False)
    np.testing.assert_allclose(s, expected[1][:3], rtol=1e-12)
    np.testing.assert_allclose(abs(U), abs(expected[0][:, :3]), rtol=0, atol=1e-10)
    np.testing.assert_allclose(abs(Vt), abs(expected[2][:3]), rtol=0, atol=1e-10)


def test_singular_values_that_are_zero_have_vectors_of_length_one_or_zero():
    V = np.outer(np.arange(20.0), np.ones(200))
    U, s, Vt = svd.short_svd(V, 3)
    np.testing.assert_allclose(s, [np.linalg.norm(V), 0, 0], rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(U, axis=0), 1)
    np.testing.assert_allclose((U * s) @ Vt, V, rtol=1e-10, atol=1e-9)
    lengths = np.linalg.norm(Vt, axis=1)
    assert all(np.isclose(x, 1) or x == 0 for x in lengths)


def test_seeds_and_methods_share_one_decomposition(monkeypatch):
    ranks: list[int] = []
    original = svd.randomized_svd

    def counted(V: Any, rank: int) -> Any:
        ranks.append(rank)
        return original(V, rank)

    monkeypatch.setattr(svd, "randomized_svd", counted)
    jaxnmf.sweep(V, [2, 3], 3, init="nndsvdar", max_iter=2)
    assert sorted(ranks) == [2, 3]
    operand = as_operand(V, "float64")
    first = initial_factors(operand, RANK, "nndsvda")
    again = initial_factors(operand, RANK, "nndsvda")
    initial_factors(operand, RANK, "nndsvd")
    assert ranks[2:] == [RANK]
    for x, y in zip(first, again, strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_matrix_of_rank_one_is_met_by_the_first_component():
    w, h = RNG.random((M, 1)), RNG.random((1, N))
    W, H = start("nndsvd", data=w @ h)
    np.testing.assert_allclose(W[:, :1] @ H[:1], w @ h, rtol=1e-10)
    assert np.isfinite(W).all()
    assert np.isfinite(H).all()


# --- One's own -----------------------------------------------------------------------


@pytest.mark.parametrize("pair", [tuple, list], ids=["tuple", "list"])
def test_own_start_is_taken_as_it_is(pair):
    Wt, H = initial_factors(as_operand(V, "float64"), RANK, pair((W0, H0.tolist())))
    np.testing.assert_array_equal(Wt, W0.T)
    np.testing.assert_array_equal(H, H0)
    Wt, H = initial_factors(as_operand(V, "float32"), RANK, (W0 > 0.5, 10 * H0 // 1))
    assert Wt.dtype == H.dtype == np.float32
    np.testing.assert_array_equal(Wt, (W0 > 0.5).T)


# --- Refused -------------------------------------------------------------------------


def test_unknown_start_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match=r"init='svd' is not known") as error:
        start("svd")
    assert all(name in str(error.value) for name in INITS)


@pytest.mark.parametrize("init", ["nndsvd", "nndsvda", "nndsvdar"])
def test_svd_start_refuses_a_rank_beyond_the_matrix(init):
    with pytest.raises(ValueError, match=rf"init='{init}'.*rank ≤ .*14.*rank=15"):
        start(init, rank=N + 1)
    assert start("random", rank=N + 1)[0].shape == (M, N + 1)


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ((W0, H0, H0), r"init has 3 entries; a pair \(W, H\)"),
        ((W0.T, H0), r"W has shape \(4, 20\).*must be \(20, 4\)"),
        ((W0, H0.T), r"H has shape \(14, 4\).*must be \(4, 14\)"),
        ((W0[:, 1:], H0), r"W has shape \(20, 3\).*must be \(20, 4\)"),
        ((-W0, H0), r"W holds entries that are negative"),
        ((W0, H0 - 0.5), r"H holds entries that are negative"),
        ((np.full_like(W0, np.inf), H0), r"W holds.*not finite"),
        ((W0, np.full_like(H0, np.nan)), r"H holds.*not finite"),
        ((W0.astype(complex), H0), "W has dtype complex"),
    ],
)
def test_own_start_that_does_not_fit_is_refused_by_name(init, message):
    with pytest.raises(ValueError, match=r"^init") as error:
        start(init)
    assert error.match(message)


@pytest.mark.parametrize("solver", ["hals", "mu-minibatch"])
def test_a_seed_may_have_any_size(solver):
    V = np.random.default_rng(0).random((9, 6))
    given = {"solver": solver, "max_iter": 3}
    seeds = [0, 2**63 - 1, 2**63, 2**64, 2**64 + 1, 10**40]
    found = [jaxnmf.factorize(V, 2, seed=seed, **given).W for seed in seeds]
    for i, W in enumerate(found):
        assert not any(np.array_equal(W, other) for other in found[:i])
    lanes = jaxnmf.sweep(V, [2], seeds[-2:], progress=False, **given)
    for lane, W in enumerate(found[-2:]):
        np.testing.assert_allclose(lanes.result(lane).W, W, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.uint64])
def test_a_seed_of_numpy_is_the_same_seed(kind):
    V = np.random.default_rng(0).random((9, 6))
    plain, other = (
        jaxnmf.factorize(V, 2, solver="mu-minibatch", seed=seed, max_iter=3).W
        for seed in (7, kind(7))
    )
    np.testing.assert_array_equal(plain, other)
