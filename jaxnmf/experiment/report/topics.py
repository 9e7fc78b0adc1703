"""Components as words: the top words of topics, and the labels of their documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnmf.experiment.report.blocks import Block, Card, CardTable, strongest_first
from jaxnmf.experiment.report.words import number
from jaxnmf.topics import coherence, top_words, topic_label_table

MAX_WORDS, MAX_LABELS = 24, 40  # topics with words, labels in a table


def topic_blocks(
    dataset: Any, W: np.ndarray, H: np.ndarray, order: np.ndarray, note: str
) -> list[Block]:
    """Top words and their coherence, and the topics of each label."""
    npmi = coherence(H, dataset.V)
    captions = [f"{k}, NPMI {number(each, 2)}" for k, each in enumerate(npmi)]
    note += (
        " NPMI: how often these ten are in the same documents, from −1, never, over 0, "
        "by chance, to 1, always."
    )
    blocks = [word_block(dataset, H, order, "Top words", note, captions, 10)]
    if dataset.labels is not None:
        blocks.append(_labels_of_topics(dataset, W, H, order))
    return blocks


def _labels_of_topics(
    dataset: Any, W: np.ndarray, H: np.ndarray, order: np.ndarray
) -> Block:
    shown = order[:MAX_WORDS].tolist()
    counts = topic_label_table(W, dataset.labels, dataset.label_names, H=H, counts=True)
    sizes = counts.to_numpy().sum(0)
    largest = np.sort(np.argsort(-sizes, kind="stable")[:MAX_LABELS])
    largest = largest[sizes[largest] > 0]
    shares = (counts.to_numpy()[shown][:, largest] / sizes[largest]).T
    rows = [
        (
            str(counts.columns[j]),
            [(f"{100 * x:.0f}" if x >= 0.005 else "", float(x)) for x in row],
        )
        for j, row in zip(largest, shares, strict=True)
    ]
    note = (
        "Of the documents with a label, the percentage whose strongest topic it is "
        "(blank below 0.5)."
    )
    if len(largest) < np.count_nonzero(sizes):
        note += f" The {len(largest)} largest of {np.count_nonzero(sizes)} labels."
    title = "Percentage of each label in each topic"
    card = Card("", table=CardTable(title, "label", [str(k) for k in shown], rows))
    note = f"{note} {strongest_first(shown, order)}"
    return Block("Topics and labels", note, "tables", [card])


def word_block(
    dataset: Any,
    weights: np.ndarray,
    order: np.ndarray,
    heading: str,
    note: str,
    captions: Sequence[str] = (),
    most_words: int = 8,
) -> Block:
    """The largest weights of each component by the names of the columns."""
    shown = order[:MAX_WORDS].tolist()
    cards = []
    found = top_words(weights[shown], dataset.column_names, most_words)
    for k, top in zip(shown, found, strict=True):
        words = [(word, f"{share:.1%}", share / top[0][1]) for word, share in top]
        caption = str(captions[k]) if captions else str(k)
        cards.append(Card(caption, words=words))
    return Block(heading, f"{note} {strongest_first(shown, order)}", "words", cards)
