"""Ratings: what is held out of them, and how well it is predicted.

V (m×n) has a user a row and an item a column; what is known of it is a
`jaxnmf.Observed`. A split depends on V and the seed alone, so that every solver, rank
and penalty is measured on the same entries, and the splits of one setting are all
equally large.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from jaxnmf.data.observed import Observed

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(rows, cols) → predictions at these entries."""

OFFSET_L2 = (5.0, 3.0)  # of users and of items, as suits stars from a half to five
MIN_RATED = 2  # ratings of a user, from which their order says something


class Split(NamedTuple):
    """Disjoint parts of the known entries; ``validation`` is None for a share of 0."""

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
    """The known entries of V in a random order, cut into parts.

    With N known entries ⌊test·N⌋ (or ⌊N/folds⌋) are for the test and ⌊validation·R⌋ of
    the R others for validation; all that is left over is for training.

    Args:
      V: the known entries.
      seed: of the order.
      test: the share that is tested on; not looked at with folds.
      validation: the share of the rest that settings are chosen by.
      folds: 0, or in how many parts to cut the entries for cross-validation.
      fold: which of the parts is tested on.

    Raises:
      ValueError: a share outside 0 … 1, folds of 1 or below 0, a fold that is not
        there, or a part without any entry.
    """
    for name, share, least in (
        ("test", test, "0 <"),
        ("validation", validation, "0 ≤"),
    ):
        number = isinstance(share, int | float) and not isinstance(share, bool)
        if not number or not 0 <= share < 1 or (least == "0 <" and share == 0):
            raise ValueError(f"{name}={share!r} must be a share, {least} {name} < 1")
    whole = isinstance(folds, int) and not isinstance(folds, bool)
    if not whole or folds < 0 or folds == 1:
        raise ValueError(
            f"folds={folds!r} must be 0 (one part is held out) or an integer ≥ 2"
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
            f"{name}={value!r} and validation={validation!r} leave a part of the "
            f"{V.nnz} known entries empty"
        )
    order = np.roll(order, -fold * tested)
    # In their own order again: what a problem is made of does not depend on the cut.
    parts = [np.sort(x) for x in np.split(order, [tested, tested + chosen])]
    return Split(
        train=V.take(parts[2]),
        test=V.take(parts[0]),
        validation=V.take(parts[1]) if chosen else None,
    )


def rmse(values: ArrayLike, predictions: ArrayLike) -> float:
    """√(mean of (v − x)²)."""
    return float(np.sqrt(np.mean(np.square(_difference(values, predictions)))))


def mae(values: ArrayLike, predictions: ArrayLike) -> float:
    """The mean absolute error, the mean of ``|v − x|``."""
    return float(np.mean(np.abs(_difference(values, predictions))))


def ndcg(test: Observed, predictions: ArrayLike, k: int = 10) -> float:
    r"""How well the predictions order what each user has rated, at most 1.

    A user's test items are ranked by prediction; with the rating v_r of the item in
    place r,

        DCG = Σ_{r ≤ k} v_r / log₂(r + 1),

    nDCG is its share of the DCG of the best order, averaged over the users with at
    least two test ratings. The gain is the rating itself, as in Järvelin & Kekäläinen
    (2002), "Cumulated gain-based evaluation of IR techniques", and in scikit-learn's
    `ndcg_score`; items of equal prediction share the mean of their gains, so the value
    is the expected one over their orders.

    Args:
      test: the ratings, ≥ 0.
      predictions: (nnz,), one for each entry of ``test``.
      k: how many places count.

    Returns:
      The mean; NaN where no user has two ratings of which one is > 0.
    """
    scores, values = np.asarray(predictions, float), np.asarray(test.values, float)
    _difference(values, scores)
    rows = test.rows
    # Rows are sorted: the place of an entry in its user's list is counted from here.
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
    """How many entries are of a row or a column of which training knows nothing."""
    known_rows = np.isin(entries.rows, train.rows)
    return int(np.sum(~(known_rows & np.isin(entries.cols, train.cols))))


def clipped(predictions: ArrayLike, train: Observed) -> np.ndarray:
    """Predictions, held to the range of the ratings in training."""
    return np.clip(predictions, train.values.min(), train.values.max())


def measures(parts: Split, predict: Predict) -> dict[str, float]:
    """``rmse``, ``mae`` and ``ndcg10`` of the test part, ``validation_rmse`` of the
    validation part (NaN where there is none).

    Errors are of predictions held to the range of the training ratings; the order of
    items is by the predictions as they are.
    """
    train, test, validation = parts
    raw = predict(test.rows, test.cols)
    held = clipped(raw, train)
    chosen_by = math.nan
    if validation is not None:
        x = clipped(predict(validation.rows, validation.cols), train)
        chosen_by = rmse(validation.values, x)
    return {
        "rmse": rmse(test.values, held),
        "mae": mae(test.values, held),
        "ndcg10": ndcg(test, raw),
        "validation_rmse": chosen_by,
    }


class Baseline(NamedTuple):
    """v_ij ≈ mean + b_i + c_j, of any sign: what a factorisation has to beat."""

    mean: float
    rows: Float[np.ndarray, " m"]
    cols: Float[np.ndarray, " n"]

    def predict(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """The predictions at the entries (rows, cols)."""
        return self.mean + self.rows[rows] + self.cols[cols]


def global_mean(train: Observed) -> Baseline:
    """The weighted mean of the training ratings, for every entry."""
    m, n = train.shape
    mean = float(np.average(train.values, weights=train.weights))
    return Baseline(mean, np.zeros(m), np.zeros(n))


def baseline(
    train: Observed, l2: tuple[float, float] = OFFSET_L2, sweeps: int = 30
) -> Baseline:
    r"""Offsets of users and items around the mean μ, by ridge regression.

    min over b, c of Σ ω_ij (v_ij − μ − b_i − c_j)² + λ Σ b_i² + λ' Σ c_j², by turns:
    b_i = Σ_j ω_ij (v_ij − μ − c_j) / (λ + Σ_j ω_ij), and c likewise.

    Args:
      train: the training ratings, with their weights ω.
      l2: (λ, λ'), for users and items.
      sweeps: how often each of the two is solved for.

    Raises:
      ValueError: an l2 weight that is not > 0.

    Reference: Koren, Bell & Volinsky, "Matrix factorization techniques for
    recommender systems", Computer 42 (2009).
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
            f"predictions has shape {predictions.shape}, values {values.shape}; each "
            "value needs one, and there must be some"
        )
    return values - predictions
