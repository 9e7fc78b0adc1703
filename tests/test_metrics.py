"""Metrics against answers found another way: by hand, by brute force, by libraries."""

import itertools

import numpy as np
import pytest
from scipy import sparse

from jaxnmf import metrics

RNG = np.random.default_rng(0)
W, H = RNG.random((30, 4)), RNG.random((4, 20))


# --- fit -----------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 50, 2**20])
@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_array, sparse.coo_array])
def test_relative_error_is_the_norm_of_the_residual(monkeypatch, layout, block):
    monkeypatch.setattr("jaxnmf.objective.relative_error._BLOCK", block)
    V = RNG.random((30, 20)) * (RNG.random((30, 20)) < 0.3)
    expected = np.linalg.norm(V - W @ H) / np.linalg.norm(V)
    assert metrics.relative_error(layout(V), W, H) == pytest.approx(expected, rel=1e-13)


def test_relative_error_takes_single_precision_lists_and_repeated_entries():
    V = sparse.csr_array(([1.0, 1.0, 5.0], ([0, 0, 1], [0, 0, 1])), shape=(2, 2))
    assert metrics.relative_error(V, [[1], [0]], [[2, 0]]) == pytest.approx(
        5 / np.sqrt(29)
    )
    unsorted = sparse.csr_array(([1.0, 2.0], [1, 0], [0, 2, 2]), shape=(2, 2))
    metrics.relative_error(unsorted, [[1], [0]], [[2, 0]])
    assert unsorted.indices.tolist() == [1, 0]  # what is passed is left as it was


@pytest.mark.parametrize("size", [0.0, 1e-13, 1e-10, 1e-6, 1e-5, 1e-3])
def test_relative_error_of_a_sparse_v_keeps_its_digits_near_an_exact_fit(size):
    sparse_W, sparse_H = W * (W > 0.7), H * (H > 0.7)
    V = sparse_W @ sparse_H
    step = size * RNG.random(V.shape) * (V > 0)
    step[0, np.argmin(V[0])] = size  # off the stored entries too, if it is 0 there
    exact = sparse.csr_array(V)
    assert exact.nnz < V.size / 2
    # one component more makes W H = V + w h, whose residual is known exactly
    w, h = size * RNG.random((30, 1)), RNG.random((1, 20))
    found = metrics.relative_error(
        exact, np.hstack([sparse_W, w]), np.vstack([sparse_H, h])
    )
    expected = np.linalg.norm(w) * np.linalg.norm(h) / np.linalg.norm(V)
    assert found == pytest.approx(expected, rel=1e-3, abs=3e-16)


def test_relative_error_refuses_what_does_not_fit():
    V = np.ones((30, 20))
    for bad, message in (
        ((V[0], W, H), r"V: shape \(20,\) is not 2-D"),
        ((V, W[:-1], H), r"W: shape \(29, 4\) does not fit V \(30, 20\)"),
        ((V, W, H.T), r"H: shape \(20, 4\) does not fit"),
        ((V, W[:, 0], H), r"W: shape \(30,\) is not 2-D"),
        ((V, "W", H), "W: str is not numeric|W: shape"),
        ((0 * V, W, H), "V: all 30×20 entries are 0"),
        ((sparse.csr_array((30, 20)), W, H), "V: all 30×20 entries are 0"),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.relative_error(*bad)


# --- recovery ------------------------------------------------------------------------


def test_matching_undoes_order_and_scale():
    order, scale = np.array([2, 0, 3, 1]), np.array([3.0, 0.1, 7.0, 2.0])
    found_W, found_H = W[:, order] * scale, H[order] / scale[:, None] * 5
    permutation, similarity = metrics.match_components(found_W, found_H, W, H)
    np.testing.assert_allclose(similarity, 1.0)
    np.testing.assert_array_equal(order[permutation], np.arange(4))
    assert metrics.factor_match_score(found_W, found_H, W, H) == pytest.approx(1.0)


def test_the_match_is_the_best_of_all_permutations():
    found_W, found_H = RNG.random((30, 4)), RNG.random((4, 20))

    def cosine(a, b):
        return a @ b / np.sqrt((a @ a) * (b @ b))

    best = max(
        sum(
            cosine(found_W[:, k], W[:, i]) * cosine(found_H[k], H[i])
            for i, k in enumerate(order)
        )
        for order in itertools.permutations(range(4))
    )
    assert metrics.factor_match_score(found_W, found_H, W, H) == pytest.approx(best / 4)


def test_missing_spare_and_dead_components_count_nothing():
    score = metrics.factor_match_score
    assert score(W[:, :3], H[:3], W, H) == pytest.approx(3 / 4)
    permutation, similarity = metrics.match_components(W[:, 1:], H[1:], W, H)
    assert permutation.tolist() == [-1, 0, 1, 2]
    assert similarity[0] == 0
    spare = np.hstack([W, np.zeros((30, 1))]), np.vstack([H, np.ones((1, 20))])
    assert score(*spare, W, H) == pytest.approx(4 / 5)
    assert score(None, 2 * H[::-1], None, H) == pytest.approx(1.0)


def test_matching_refuses_what_does_not_fit():
    for bad, message in (
        ((W[:-1], H, W, H), "W: components of length 29 .* of length 30"),
        ((W, H[:3], W, H), r"H: \(3, 4\) components.* do not match \(4, 4\) of W"),
        ((W, H, None, H), "W_true: is None"),
        ((None, None, None, None), "both are None"),
        ((W, np.nan * H, W, H), "H: has NaN"),
        ((W, H[0], W, H), r"H: shape \(20,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.match_components(*bad)


def test_spectral_angle():
    true = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = np.array([[0.0, 2.0, 2.0 * np.tan(0.3)], [5.0, 5e-9, 0.0]])
    angles = metrics.spectral_angle(found, true)
    np.testing.assert_allclose(angles[:2], [1e-9, 0.3], rtol=1e-7)
    assert np.isnan(angles[2])
    dead = metrics.spectral_angle(np.zeros((1, 3)), true[:1])
    np.testing.assert_allclose(dead, np.pi / 2)


# --- shape of the factors ------------------------------------------------------------


def test_hoyer_sparsity():
    X = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 3.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]])
    by_row = metrics.hoyer_sparsity(X, axis=1)
    np.testing.assert_allclose(by_row, [0.0, 1.0, 2 - np.sqrt(2)], atol=1e-15)
    np.testing.assert_allclose(metrics.hoyer_sparsity(X.T, axis=0), by_row)
    np.testing.assert_allclose(metrics.hoyer_sparsity(7 * X, axis=1), by_row)
    whole = metrics.hoyer_sparsity(X)
    assert whole == pytest.approx((np.sqrt(12) - 9 / np.sqrt(15)) / (np.sqrt(12) - 1))
    assert np.isnan(metrics.hoyer_sparsity([[0.0, 0.0]], axis=1)).all()
    with pytest.raises(ValueError, match="axis: 2"):
        metrics.hoyer_sparsity(X, axis=2)
    with pytest.raises(ValueError, match=r"X: shape \(1, 4\) has 1 entries"):
        metrics.hoyer_sparsity(X[:1], axis=0)


def test_orthogonality():
    assert metrics.orthogonality([[3.0, 0, 0], [0, 1, 2], [0, 0, 0]]) == 0.0
    # two rows at 60°, any scale: √2 · cos 60°
    pair = np.array([[10.0, 0.0], [0.5, np.sqrt(0.75)]])
    assert metrics.orthogonality(pair) == pytest.approx(np.sqrt(2) / 2)
    assert metrics.orthogonality(np.ones((5, 3))) == pytest.approx(np.sqrt(5 * 4))
    with pytest.raises(ValueError, match="H: "):
        metrics.orthogonality([1.0, 2.0])


# --- clusters ------------------------------------------------------------------------


def test_cluster_by_component_does_not_depend_on_scale():
    strong = np.array([[1.0, 0.9], [0.8, 1.0], [0.0, 0.0]])
    assert metrics.cluster_by_component(strong).tolist() == [0, 1, 0]
    assert metrics.cluster_by_component(strong * [1, 100]).tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="W: "):
        metrics.cluster_by_component(np.ones((3, 0)))


def test_clustering_accuracy_is_the_best_of_all_namings():
    labels = RNG.integers(3, size=60)
    predicted = np.where(
        RNG.random(60) < 0.6, (labels + 1) % 3, RNG.integers(3, size=60)
    )
    best = max(
        np.mean(np.array(naming)[predicted] == labels)
        for naming in itertools.permutations(range(3))
    )
    assert metrics.clustering_accuracy(labels, predicted) == pytest.approx(best)
    names = np.array(["tree", "water", "road"])[labels]
    assert metrics.clustering_accuracy(names, predicted) == pytest.approx(best)
    # more clusters than classes: those left over are wrong
    assert metrics.clustering_accuracy([0, 0, 0, 1], [5, 5, 7, 9]) == 0.75


def test_pair_and_information_measures():
    labels, predicted = [0, 0, 1, 1], [0, 0, 1, 2]
    # of 6 pairs, 1 is together in both, 2 in labels, 1 in predicted: E = 2·1/6
    index = (1 - 2 / 6) / (3 / 2 - 2 / 6)
    assert metrics.adjusted_rand_index(labels, predicted) == pytest.approx(index)
    # entropies ln 2 and 3/2 ln 2, shared ln 2
    shared = metrics.normalised_mutual_information(labels, predicted)
    assert shared == pytest.approx(2 / (1 + 1.5))


@pytest.mark.parametrize(
    "measure",
    [
        metrics.clustering_accuracy,
        metrics.adjusted_rand_index,
        metrics.normalised_mutual_information,
    ],
)
def test_cluster_measures(measure):
    assert measure([3, 3, 1, 2], ["a", "a", "b", "c"]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match=r"predicted: shape \(3,\) .*expected \(4,\)"):
        measure([0, 0, 1, 1], [0, 0, 1])
    with pytest.raises(ValueError, match=r"labels: shape \(0,\)"):
        measure([], [])
