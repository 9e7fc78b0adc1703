"""What the page shows of factors and residuals: blocks of cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxnmf.experiment.report.drawing import Drawing


@dataclass(frozen=True)
class CardTable:
    """A row for each name, whose cells are a text and how strongly it is shaded, 0 to
    1."""

    title: str
    corner: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, float]]]]


@dataclass(frozen=True)
class Card:
    """Images (address, description), panels, words (word, share, its part of the
    largest) or a table, under a caption."""

    caption: str
    pictures: Sequence[tuple[str, str]] = ()
    panels: Sequence[Drawing] = ()
    words: Sequence[tuple[str, str, float]] = ()
    table: CardTable | None = None


@dataclass(frozen=True)
class Block:
    """Cards under one heading; ``layout`` names how the page arranges them."""

    heading: str
    note: str
    layout: str
    cards: Sequence[Card]


def strongest_first(shown: Sequence[int], order: np.ndarray, what: str = "") -> str:
    """A note on the order and number of the components that are shown."""
    text = f"{what}, strongest first" if what else "Strongest component first"
    if len(shown) < len(order):
        text += f", {len(shown)} of {len(order)}"
    return text + "; numbers count the components from 0."
