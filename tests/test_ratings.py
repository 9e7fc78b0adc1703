"""Ratings: parts that do not overlap, and measures by hand."""

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, ndcg_score, root_mean_squared_error

import jaxnmf
from jaxnmf import Observed, ratings


def known(m=30, n=20, share=0.4, seed=0, levels=(0.5, 1, 2, 3, 4, 5)):
    rng = np.random.default_rng(seed)
    rows, cols = np.nonzero(rng.random((m, n)) < share)
    return Observed(rows, cols, rng.choice(levels, len(rows)), (m, n))


def entries(part):
    return set(zip(part.rows.tolist(), part.cols.tolist(), strict=True))


def test_a_split_is_disjoint_whole_and_of_its_seed():
    V = known()
    parts = ratings.split(V, 3)
    n_test = int(0.2 * V.nnz)
    n_validation = int(0.1 * (V.nnz - n_test))
    assert [x.nnz for x in parts] == [
        V.nnz - n_test - n_validation,
        n_test,
        n_validation,
    ]
    assert set.union(*map(entries, parts)) == entries(V)
    again, other = ratings.split(V, 3), ratings.split(V, 4)
    assert entries(parts.test) == entries(again.test)
    assert entries(parts.test) != entries(other.test)
    assert [x.nnz for x in parts] == [x.nnz for x in other]
    dense = np.zeros(V.shape)
    dense[V.rows, V.cols] = V.values
    for part in parts:
        np.testing.assert_array_equal(part.values, dense[part.rows, part.cols])


def test_folds_test_every_entry_once_and_are_equally_large():
    V = known()
    parts = [ratings.split(V, 1, folds=5, fold=f) for f in range(5)]
    assert {tuple(x.nnz for x in part) for part in parts} == {
        tuple(x.nnz for x in parts[0])
    }
    tested = [entries(part.test) for part in parts]
    assert sum(map(len, tested)) == len(set.union(*tested)) == V.nnz // 5 * 5
    for part in parts:
        assert set.union(*map(entries, part)) == entries(V)
        assert sum(x.nnz for x in part) == V.nnz


def test_without_validation_all_the_rest_is_trained_on():
    V = known()
    parts = ratings.split(V, validation=0)
    assert parts.validation is None
    assert parts.train.nnz + parts.test.nnz == V.nnz
    found = ratings.measures(parts, ratings.global_mean(parts.train).predict)
    assert np.isnan(found["validation_rmse"])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"test": 0}, "test=0"),
        ({"test": 1.0}, "test=1.0"),
        ({"validation": -0.1}, "validation=-0.1"),
        ({"folds": 1}, "folds=1"),
        ({"folds": -2}, "folds=-2"),
        ({"folds": 3, "fold": 3}, "fold=3"),
        ({"folds": 1000}, "empty"),
        ({"test": 1e-6}, "empty"),
    ],
)
def test_a_split_that_cannot_be_made_is_named(options, word):
    with pytest.raises(ValueError, match=word):
        ratings.split(known(), **options)


def test_errors_are_those_of_scikit_learn():
    v, x = np.random.default_rng(0).random((2, 50))
    assert ratings.rmse(v, x) == pytest.approx(root_mean_squared_error(v, x))
    assert ratings.mae(v, x) == pytest.approx(mean_absolute_error(v, x))
    with pytest.raises(ValueError, match="does not match values"):
        ratings.rmse(v, x[:3])


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("tied", [False, True])
def test_ndcg_is_the_mean_of_scikit_learns_over_users(k, tied):
    test = known(levels=(0, 1, 2, 5), share=0.2)
    x = np.random.default_rng(1).random(test.nnz)
    x = np.round(x, 1) if tied else x
    expected = []
    for i in range(test.shape[0]):
        of_user = test.rows == i
        if of_user.sum() >= 2 and test.values[of_user].max() > 0:
            v = test.values[of_user]
            expected.append(ndcg_score([v], [x[of_user]], k=k))
    assert ratings.ndcg(test, x, k) == pytest.approx(np.mean(expected))


def test_ndcg_by_hand():
    test = Observed([0, 0, 0, 1], [0, 1, 2, 0], [3.0, 2.0, 1.0, 5.0], (2, 3))
    dcg = 2 + 3 / np.log2(3) + 1 / 2
    ideal = 3 + 2 / np.log2(3) + 1 / 2
    # The second user, with a single rating, does not count.
    assert ratings.ndcg(test, [0.5, 0.9, 0.1, 0.3]) == pytest.approx(dcg / ideal)
    assert ratings.ndcg(test, test.values) == 1
    assert np.isnan(ratings.ndcg(test.take([3]), [1.0]))


def test_unseen_rows_and_columns_are_counted():
    train = Observed([0, 1], [0, 1], [1.0, 2.0], (3, 3))
    test = Observed([0, 0, 2, 1], [1, 2, 0, 0], np.ones(4), (3, 3))
    assert ratings.unseen(train, test) == 2


def test_errors_are_of_clipped_predictions_and_order_of_raw_ones():
    train = Observed([0, 1], [0, 1], [1.0, 4.0], (2, 3))
    test = Observed([0, 0], [1, 2], [4.0, 1.0], (2, 3))
    found = ratings.measures(
        ratings.Split(train, test, None), lambda rows, cols: np.array([9.0, 8.0])
    )
    assert found["mae"] == 1.5
    assert found["rmse"] == pytest.approx(np.sqrt(4.5))
    assert found["ndcg10"] == 1


def test_the_baseline_solves_its_ridge_regression():
    train = known(12, 9, 0.5)
    train.weights = np.random.default_rng(2).uniform(0.5, 2, train.nnz)
    m, n = train.shape
    found = ratings.baseline(train, (5.0, 3.0), sweeps=200)
    A = np.zeros((train.nnz, m + n))
    A[np.arange(train.nnz), train.rows] = 1
    A[np.arange(train.nnz), m + train.cols] = 1
    mean = np.average(train.values, weights=train.weights)
    gram = A.T @ (train.weights[:, None] * A) + np.diag([5.0] * m + [3.0] * n)
    expected = np.linalg.solve(gram, A.T @ (train.weights * (train.values - mean)))
    assert found.mean == pytest.approx(mean)
    np.testing.assert_allclose(np.r_[found.rows, found.cols], expected, atol=1e-10)
    np.testing.assert_allclose(
        found.predict(train.rows, train.cols), mean + A @ expected, atol=1e-10
    )
    with pytest.raises(ValueError, match="l2"):
        ratings.baseline(train, (0.0, 1.0))


def test_where_low_rank_adds_nothing_the_usual_settings_predict_as_offsets_alone():
    rng = np.random.default_rng(0)
    m, n = 300, 200
    rows, cols = np.nonzero(rng.random((m, n)) < 0.15)
    kindness, quality = rng.normal(0, 0.4, m), rng.normal(0, 0.5, n)
    stars = 3.3 + kindness[rows] + quality[cols] + rng.normal(0, 0.9, len(rows))
    V = Observed(rows, cols, np.clip(np.round(2 * stars) / 2, 0.5, 5), (m, n))
    parts = ratings.split(V)
    result = jaxnmf.factorize(parts.train, 10, **ratings.USUAL)
    offsets, mean = ratings.baseline(parts.train), ratings.global_mean(parts.train)
    found, expected, alone = (
        ratings.measures(parts, model.predict)["rmse"]
        for model in (result, offsets, mean)
    )
    assert found <= 1.002 * expected < 0.9 * alone
