"""Ratings in their own form: the items of a component, and recommendations to users."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from jaxnmf.experiment.report.blocks import Block, Card
from jaxnmf.experiment.report.drawing import drawn, panel
from jaxnmf.experiment.report.residual import distribution
from jaxnmf.experiment.report.topics import MAX_WORDS
from jaxnmf.experiment.report.words import listed, number
from jaxnmf.plots.heatmap import draw_matrix
from jaxnmf.ratings import Split, clipped

ITEMS = 8  # of a component, or of a user
KNOWN = 20  # training ratings, from which an item's factors are more than the prior
PARTS = 8  # of users and of items, by their ratings
USERS = (0.2, 0.5, 0.8, 0.95)  # quantiles of how much users have rated


def blocks(
    dataset: Any,
    W: np.ndarray,
    H: np.ndarray,
    offsets: tuple[np.ndarray, np.ndarray] | None,
    parts: Split,
) -> list[Block]:
    """The components by their items, recommendations, and the residual of the test."""
    m, n = dataset.V.shape
    b, c = (np.zeros(m), np.zeros(n)) if offsets is None else offsets
    titles = dataset.column_names or tuple(f"item {j}" for j in range(n))
    users = dataset.row_names or tuple(f"user {i}" for i in range(m))
    return [
        _components(titles, W, H, float(np.mean(b)) + c, parts),
        _recommendations(titles, users, W, H, (b, c), parts),
        _residual(W, H, (b, c), parts),
    ]


def _components(
    titles: Any, W: np.ndarray, H: np.ndarray, rest: np.ndarray, parts: Split
) -> Block:
    each = W.mean(0)[:, None] * H
    shares = each / np.maximum(each.sum(0) + rest, 1e-30)
    known = np.bincount(parts.train.cols, minlength=H.shape[1]) >= KNOWN
    if not known.any():
        known[:] = True
    order = np.argsort(-shares[:, known].mean(1), kind="stable")
    cards = []
    for k in order[:MAX_WORDS]:
        row = np.where(known, shares[k], 0)
        top = [j for j in np.argsort(-row, kind="stable")[:ITEMS] if row[j] > 0]
        words = [(titles[j], f"{row[j]:.1%}", float(row[j] / row[top[0]])) for j in top]
        mean = shares[k, known].mean()
        cards.append(Card(f"{k}, on average {mean:.1%}", words=words))
    note = (
        "The items of whose prediction a component makes the largest share, for the "
        f"average user, among those with at least {KNOWN} training ratings. Largest "
        "component first; numbers count the components from 0."
    )
    return Block("Top items", note, "words", cards)


def _recommendations(
    titles: Any, users: Any, W: np.ndarray, H: np.ndarray, offsets: Any, parts: Split
) -> Block:
    train = parts.train
    rated = np.bincount(train.rows, minlength=len(W))
    popular = np.bincount(train.cols, minlength=H.shape[1])
    order = np.argsort(rated, kind="stable")
    order = order[rated[order] > 0]
    picked = [order[int(at * (len(order) - 1))] for at in USERS]
    top = float(train.values.max())
    cards = []
    for i in dict.fromkeys(picked):
        of_user = train.rows == i
        cols, values = train.cols[of_user], train.values[of_user]
        best = np.lexsort((-popular[cols], -values))[:ITEMS]
        liked = [
            (titles[cols[a]], f"{values[a]:g}", float(values[a] / top)) for a in best
        ]
        scores = np.asarray(W[i] @ H + offsets[0][i] + offsets[1], float)
        scores[cols] = -np.inf
        new = np.argsort(-scores, kind="stable")[: min(ITEMS, len(scores) - len(cols))]
        predicted = [
            (titles[j], f"{scores[j]:.2f}", float(np.clip(scores[j] / top, 0, 1)))
            for j in new
        ]
        head = f"{users[i]}, {rated[i]} ratings"
        cards.append(Card(f"{head}: rated highest", words=liked))
        cards.append(Card(f"{head}: recommended", words=predicted))
    note = (
        "Users at the "
        f"{listed(f'{at:.0%}' for at in USERS)} quantiles of how much they have rated: "
        "what they rated highest in training (of equal ratings the items that most "
        "have rated), and the largest predictions among what they have not rated there."
    )
    return Block("Recommendations", note, "words pairs", cards)


def _residual(W: np.ndarray, H: np.ndarray, offsets: Any, parts: Split) -> Block:
    """How far predictions of the test part are off, and of whom and of what."""
    test = parts.test
    x = np.einsum("ek,ke->e", W[test.rows], H[:, test.cols])
    x = clipped(x + offsets[0][test.rows] + offsets[1][test.cols], parts.train)
    U = test.values - x
    note = (
        f"Over the {test.nnz} entries of the test part, predictions clipped to the "
        f"range of the training ratings: mean {number(U.mean())}, standard deviation "
        f"{number(U.std())}."
    )
    block = distribution(
        {"test": U}, "Residual of the test part", note, "V − prediction"
    )
    return replace(block, cards=[*block.cards, _by_activity(U, parts)])


def _by_activity(U: np.ndarray, parts: Split) -> Card:
    """RMSE by how much users have rated and how often items were rated."""
    train, test = parts.train, parts.test
    rated = np.bincount(train.rows, minlength=train.shape[0])[test.rows]
    popular = np.bincount(train.cols, minlength=train.shape[1])[test.cols]
    at = [
        np.minimum(
            np.argsort(np.argsort(x, kind="stable")) * PARTS // len(x), PARTS - 1
        )
        for x in (rated, popular)
    ]
    cell, size = at[0] * PARTS + at[1], PARTS * PARTS
    count = np.bincount(cell, minlength=size)
    mean = np.bincount(cell, U**2, minlength=size) / np.where(count, count, np.nan)
    values = np.sqrt(mean).reshape(PARTS, PARTS)
    known = values[np.isfinite(values)]
    low, high = float(known.min()), float(known.max())
    with panel(2.4, left=0.3) as axes:
        draw_matrix(axes, values, vmin=low, vmax=high)
        axes.set(xlabel="popularity of the item", ylabel="ratings of the user")
    caption = (
        f"RMSE from {number(low)} (dark) to {number(high)} (light), test "
        "ratings in eight equal parts by the training ratings of their user (most at "
        "the bottom) and of their item (most at the right)."
    )
    return Card(caption, panels=[drawn(axes)])
