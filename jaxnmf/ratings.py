"""Ratings: splits into training, validation and test entries, and prediction errors.

V (m×n) has one user per row and one item per column; its known entries are a
`jaxnmf.Observed`. A split depends only on V and the seed, so that every solver, rank
and penalty is evaluated on the same entries, and all splits of one setting have the
same sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxnmf.data.observed import Observed
from jaxnmf.shapes import Float

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(rows, cols) → predictions at these entries."""

USUAL = {"l2": (20.0, 10.0), "toward": "mean", "offsets": True}
"""The settings of `jaxnmf.factorize` that validation chose for ratings of films."""
OFFSET_L2 = (5.0, 3.0)  # for users and for items, suited to ratings from 0.5 to 5
MIN_RATED = 2  # ratings that a user needs for their order to mean anything


class Split(NamedTuple):
    """Disjoint sets of known entries; ``validation`` is None for a share of 0.

    Example:
      >>> import jaxnmf
      >>> from jaxnmf import ratings
      >>> V = jaxnmf.Observed([0, 0, 1, 1], [0, 1, 0, 1], [5, 3, 4, 2], (2, 2))
      >>> ratings.split(V, test=0.5, validation=0)._fields
      ('train', 'test', 'validation')
    """

    train: Observed
    test: Observed
    validation: Observed | None


def split(
    V: Observed,
    seed: int = 0,
    *,
    test: float = 0.2,
    validation: float = 0.1,
    folds: int = 0,
    fold: int = 0,
) -> Split:
    """Split the known entries of V at random into training, validation and test sets.

    Of N known entries ⌊test·N⌋ (or ⌊N/folds⌋) are for testing, ⌊validation·R⌋ of the
    other R for validation, and all remaining ones for training.

    Args:
      V: the known entries.
      seed: seed of the random order.
      test: the share of test entries; ignored with folds.
      validation: the share of the remaining entries used for validation.
      folds: 0, or the number of folds of a cross-validation.
      fold: the index of the fold that is the test set.

    Raises:
      ValueError: a share is not in [0, 1), folds is 1 or negative, fold is out of
        range, or a set is empty.

    Example:
      >>> import numpy as np, jaxnmf
      >>> from jaxnmf import ratings
      >>> rows, cols = np.divmod(np.arange(100), 10)
      >>> V = jaxnmf.Observed(rows, cols, 1.0 + (rows + cols) % 5, (10, 10))
      >>> parts = ratings.split(V, seed=0)
      >>> parts.train.nnz, parts.test.nnz, parts.validation.nnz
      (72, 20, 8)
    """
    for name, share, least in (
        ("test", test, "0 <"),
        ("validation", validation, "0 ≤"),
    ):
        number = isinstance(share, int | float) and not isinstance(share, bool)
        if not number or not 0 <= share < 1 or (least == "0 <" and share == 0):
            raise ValueError(f"{name}={share!r} must be a share, {least} {name} < 1")
    integer = isinstance(folds, int) and not isinstance(folds, bool)
    if not integer or folds < 0 or folds == 1:
        raise ValueError(
            f"folds={folds!r} must be 0 (a single split) or an integer ≥ 2"
        )
    if not 0 <= fold < max(folds, 1):
        raise ValueError(f"fold={fold!r} must be one of 0 … {max(folds, 1) - 1}")
    order = np.random.default_rng(seed).permutation(V.nnz)
    tested = V.nnz // folds if folds else int(test * V.nnz)
    chosen = int(validation * (V.nnz - tested))
    if not tested or (validation and not chosen) or tested + chosen == V.nnz:
        name = "folds" if folds else "test"
        value = folds or test
        raise ValueError(
            f"{name}={value!r} and validation={validation!r} leave one of the sets "
            f"empty, of {V.nnz} known entries"
        )
    order = np.roll(order, -fold * tested)
    # In their original order: the problem then does not depend on the random one.
    parts = [np.sort(x) for x in np.split(order, [tested, tested + chosen])]
    return Split(
        train=V.take(parts[2]),
        test=V.take(parts[0]),
        validation=V.take(parts[1]) if chosen else None,
    )


def rmse(values: ArrayLike, predictions: ArrayLike) -> float:
    """√(mean of (v − x)²).

    Example:
      >>> from jaxnmf import ratings
      >>> ratings.rmse([4.0, 2.0], [3.0, 3.0])
      1.0
    """
    return float(np.sqrt(np.mean(np.square(_difference(values, predictions)))))


def mae(values: ArrayLike, predictions: ArrayLike) -> float:
    """The mean absolute error, the mean of ``|v − x|``.

    Example:
      >>> from jaxnmf import ratings
      >>> ratings.mae([4.0, 2.0], [3.5, 3.0])
      0.75
    """
    return float(np.mean(np.abs(_difference(values, predictions))))


def ndcg(test: Observed, predictions: ArrayLike, k: int = 10) -> float:
    r"""Normalised discounted cumulative gain of the predicted order of items.

    Each user's test items are ranked by prediction; with the rating v_r of the item at
    rank r,

        DCG = Σ_{r ≤ k} v_r / log₂(r + 1),

    and nDCG is the DCG divided by that of the best order, averaged over the users with
    at least two test ratings. The gain is the rating itself, as in the reference and in
    scikit-learn's `ndcg_score`. Items with equal predictions share the mean of their
    gains, so the value is the expected one over their orders.

    Args:
      test: the ratings, ≥ 0.
      predictions: (nnz,), one for each entry of ``test``.
      k: the number of ranks that count.

    Returns:
      The mean, at most 1; NaN if no user has two ratings of which one is > 0.

    Example:
      >>> import jaxnmf
      >>> from jaxnmf import ratings
      >>> test = jaxnmf.Observed([0, 0], [0, 1], [5.0, 1.0], (1, 2))
      >>> ratings.ndcg(test, [0.9, 0.2])  # the better one first
      1.0

    Reference: Järvelin & Kekäläinen, "Cumulated gain-based evaluation of IR
    techniques", ACM Transactions on Information Systems 20 (2002) [Jarvelin2002].
    """
    scores, values = np.asarray(predictions, float), np.asarray(test.values, float)
    _difference(values, scores)
    rows = test.rows
    # Rows are sorted: the first entry of each user's list.
    first = np.searchsorted(rows, rows)
    place = np.arange(len(rows)) - first
    discount = np.where(place < k, 1 / np.log2(place + 2.0), 0.0)

    def dcg(by: np.ndarray) -> np.ndarray:
        order = np.lexsort((-by, rows))
        gains, by = values[order], by[order]
        new = np.r_[True, (np.diff(rows) != 0) | (np.diff(by) != 0)]
        tie = np.cumsum(new) - 1
        mean = np.bincount(tie, gains) / np.bincount(tie)
        return np.bincount(rows, mean[tie] * discount, minlength=test.shape[0])

    found, ideal = dcg(scores), dcg(values)
    rated = np.bincount(rows, minlength=test.shape[0])
    users = (rated >= MIN_RATED) & (ideal > 0)
    return float(np.mean(found[users] / ideal[users])) if users.any() else math.nan


def unseen(train: Observed, entries: Observed) -> int:
    """The number of entries in a row or a column without any training entry."""
    known_rows = np.isin(entries.rows, train.rows)
    return int(np.sum(~(known_rows & np.isin(entries.cols, train.cols))))


def clipped(predictions: ArrayLike, train: Observed) -> np.ndarray:
    """Predictions clipped to the range of the training ratings."""
    return np.clip(predictions, train.values.min(), train.values.max())


def measures(parts: Split, predict: Predict) -> dict[str, float]:
    """``rmse``, ``mae`` and ``ndcg10`` of the test set and ``validation_rmse``.

    Errors are of predictions clipped to the range of the training ratings; the order of
    items is that of the predictions as they are. ``validation_rmse`` is NaN without a
    validation set.

    Example:
      >>> import jaxnmf
      >>> from jaxnmf import ratings
      >>> V = jaxnmf.Observed([0, 0, 1, 1], [0, 1, 0, 1], [5, 3, 4, 2], (2, 2))
      >>> parts = ratings.split(V, test=0.5, validation=0)
      >>> sorted(ratings.measures(parts, ratings.baseline(parts.train).predict))
      ['mae', 'ndcg10', 'rmse', 'validation_rmse']
    """
    train, test, validation = parts
    raw = predict(test.rows, test.cols)
    x = clipped(raw, train)
    validation_rmse = math.nan
    if validation is not None:
        other = clipped(predict(validation.rows, validation.cols), train)
        validation_rmse = rmse(validation.values, other)
    return {
        "rmse": rmse(test.values, x),
        "mae": mae(test.values, x),
        "ndcg10": ndcg(test, raw),
        "validation_rmse": validation_rmse,
    }


class Baseline(NamedTuple):
    """The model v_ij ≈ mean + b_i + c_j, of any sign, to compare with.

    Example:
      >>> import numpy as np
      >>> from jaxnmf import ratings
      >>> model = ratings.Baseline(3.0, np.array([0.5, -0.5]), np.zeros(2))
      >>> model.predict(np.array([0, 1]), np.array([1, 1])).tolist()
      [3.5, 2.5]
    """

    mean: float
    rows: Float[np.ndarray, " m"]
    cols: Float[np.ndarray, " n"]

    def predict(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Predictions at the entries (rows, cols)."""
        return self.mean + self.rows[rows] + self.cols[cols]


def global_mean(train: Observed) -> Baseline:
    """The weighted mean of the training ratings, predicted for every entry.

    Example:
      >>> import jaxnmf
      >>> from jaxnmf import ratings
      >>> ratings.global_mean(jaxnmf.Observed([0, 1], [0, 1], [5.0, 2.0], (2, 2))).mean
      3.5
    """
    m, n = train.shape
    mean = float(np.average(train.values, weights=train.weights))
    return Baseline(mean, np.zeros(m), np.zeros(n))


def baseline(
    train: Observed, l2: tuple[float, float] = OFFSET_L2, sweeps: int = 30
) -> Baseline:
    r"""Offsets of users and items around the mean μ, by ridge regression.

    Minimises Σ ω_ij (v_ij − μ − b_i − c_j)² + λ Σ b_i² + λ' Σ c_j² over b and c in
    turn: b_i = Σ_j ω_ij (v_ij − μ − c_j) / (λ + Σ_j ω_ij), and c likewise.

    Args:
      train: the training ratings, with their weights ω.
      l2: (λ, λ'), for users and items.
      sweeps: how often each of the two is updated.

    Raises:
      ValueError: an l2 weight is not > 0.

    Example:
      >>> import jaxnmf
      >>> from jaxnmf import ratings
      >>> train = jaxnmf.Observed([0, 0, 1], [0, 1, 0], [5.0, 4.0, 1.0], (2, 2))
      >>> kind, strict = ratings.baseline(train).rows
      >>> bool(kind > 0 > strict)
      True

    Reference: Koren, Bell & Volinsky, "Matrix factorization techniques for recommender
    systems", Computer 42 (2009) [Koren2009].
    """
    if not all(np.isfinite(x) and x > 0 for x in l2):
        raise ValueError(f"l2={l2!r} must be two finite numbers > 0")
    mean, b, c = global_mean(train)
    i, j, w = train.rows, train.cols, np.asarray(train.weights, float)
    centred = train.values - mean
    per_row = l2[0] + np.bincount(i, w, minlength=len(b))
    per_col = l2[1] + np.bincount(j, w, minlength=len(c))
    for _ in range(sweeps):
        b = np.bincount(i, w * (centred - c[j]), minlength=len(b)) / per_row
        c = np.bincount(j, w * (centred - b[i]), minlength=len(c)) / per_col
    return Baseline(mean, b, c)


def _difference(values: Any, predictions: Any) -> np.ndarray:
    values, predictions = (np.asarray(x, float) for x in (values, predictions))
    if values.shape != predictions.shape or not values.size:
        raise ValueError(
            f"predictions: shape {predictions.shape} does not match values of shape "
            f"{values.shape}, or there are none"
        )
    return values - predictions
