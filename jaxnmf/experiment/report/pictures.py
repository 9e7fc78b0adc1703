"""Factors in the data's own form: pictures, maps, spectra, words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnmf.experiment.report import figures
from jaxnmf.experiment.report.drawing import ACCENT, TRUTH, Drawing, Scale, picture
from jaxnmf.experiment.report.words import number
from jaxnmf.metrics import match_components
from jaxnmf.topics import coherence, topic_label_table

MAX_PICTURES, MAX_PANELS, MAX_WORDS, MAX_LABELS = 100, 12, 24, 40
HEAT = 160  # rows and columns of a heat map


@dataclass(frozen=True)
class Table:
    """Shares: a name a row, each cell the text of a share and the share, at most 1."""

    title: str
    corner: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, float]]]]


@dataclass(frozen=True)
class Card:
    """What to look at: pictures (address, what is seen), panels, words, a table."""

    caption: str
    pictures: Sequence[tuple[str, str]] = ()
    panels: Sequence[Drawing] = ()
    words: Sequence[tuple[str, str, float]] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Block:
    """Cards under one heading; ``layout`` names how the page sets them out."""

    heading: str
    note: str
    layout: str
    cards: Sequence[Card]


def components(dataset: Any, W: np.ndarray, H: np.ndarray) -> list[Block]:
    """The components, strongest first, as far as they can be shown."""
    strength = np.linalg.norm(W, axis=0) * np.linalg.norm(H, axis=1)
    order = np.argsort(-strength, kind="stable")
    order = order[strength[order] > 0]
    if dataset.column_image:
        return _as_images(dataset, H, order)
    if dataset.row_image:
        return _as_maps(dataset, W, H, order)
    if dataset.kind == "audio":
        return _as_sound(dataset, W, H, order)
    if dataset.kind == "genes":
        card, note = _heat_of_W(dataset, W, order)
        blocks = [Block("Samples", note, "panels", [card])]
        if dataset.column_names:
            share = H / np.maximum(H.sum(0), 1e-30)
            note = "Genes by weight times the share this component has in them."
            blocks.append(_as_words(dataset, H * share, order, "Top genes", note))
        return blocks
    if dataset.kind in ("text", "ratings") and dataset.column_names:
        note = "The largest weights of each row of H, as shares of that row."
        if dataset.kind == "ratings":
            return [_as_words(dataset, H, order, "Top items", note)]
        return _as_topics(dataset, W, H, order, note)
    if H.shape[1] <= 512:
        return [_as_profiles(dataset, W, H, order)]
    return [_as_heat_maps(dataset, W, H, order)]


def _as_images(dataset: Any, H: np.ndarray, order: np.ndarray) -> list[Block]:
    def grid(rows: np.ndarray, names: Sequence[str], what: str) -> list[Card]:
        return [
            Card(
                name,
                [(picture(h.reshape(dataset.column_image)), f"{what} {name}")],
            )
            for name, h in zip(names, rows, strict=True)
        ]

    shown = order[:MAX_PICTURES]
    cards = grid(H[shown], [str(k) for k in shown], "component")
    blocks = [
        Block("Components", _note(shown, order, "Rows of H"), "thumbnails", cards)
    ]
    truth = dataset.truth
    if truth is not None and truth.H is not None:
        names = truth.names or [str(k) for k in range(len(truth.H))]
        cards = grid(truth.H, names, "true component")[:MAX_PICTURES]
        note = f"The rows of the true H: {truth.note}." if truth.note else ""
        blocks.append(Block("The truth", note, "thumbnails", cards))
    return blocks


def _as_maps(
    dataset: Any, W: np.ndarray, H: np.ndarray, order: np.ndarray
) -> list[Block]:
    shown = order[:MAX_PANELS]
    truth, matched = dataset.truth, _matched(dataset.truth, W, H)
    cards = []
    for k in shown:
        pictures, series = [(_map(dataset, W[:, k]), f"map of component {k}")], [H[k]]
        caption, true = str(k), matched.get(int(k))
        if true is not None:
            name = truth.names[true] if truth.names else str(true)
            caption = f"{k}, matched to {name}"
            if truth.W is not None:
                pictures.append((_map(dataset, truth.W[:, true]), f"truth: {name}"))
            if truth.H is not None:
                series.append(truth.H[true])
        panel = _spectra(dataset, series)
        cards.append(Card(caption, pictures, [panel]))
    note = _note(shown, order, "A column of W as a map, the row of H as a spectrum")
    if matched:
        note += f" Beside it, and dashed, the truth ({truth.note or 'as given'})."
    return [Block("Components", note, "maps", cards)]


def _as_sound(
    dataset: Any, W: np.ndarray, H: np.ndarray, order: np.ndarray
) -> list[Block]:
    shown = order[:MAX_PANELS]
    m, n = dataset.V.shape
    times, when = _axis(dataset.times, m, "seconds", "frame")
    frequencies, pitch = _axis(dataset.frequencies, n, "Hz", "bin")
    cards = [
        Card(
            str(k),
            panels=[
                figures.line_panel(
                    times, [(W[:, k], ACCENT)], when, title="W, activation"
                ),
                figures.line_panel(
                    frequencies, [(H[k], ACCENT)], pitch, title="H, spectrum"
                ),
            ],
        )
        for k in shown
    ]
    note = _note(shown, order, "Columns of W over time and rows of H over frequency")
    return [Block("Components", note, "panels", cards)]


def _as_topics(
    dataset: Any, W: np.ndarray, H: np.ndarray, order: np.ndarray, note: str
) -> list[Block]:
    """Top words and their coherence, and where the labels are among the topics."""
    npmi = coherence(H, dataset.V)
    captions = [f"{k}, NPMI {number(each, 2)}" for k, each in enumerate(npmi)]
    note += (
        " NPMI: how often these ten are in the same documents, from −1, never, over 0, "
        "by chance, to 1, always."
    )
    blocks = [_as_words(dataset, H, order, "Top words", note, captions, 10)]
    if dataset.labels is not None:
        blocks.append(_labels_of_topics(dataset, W, H, order))
    return blocks


def _labels_of_topics(
    dataset: Any, W: np.ndarray, H: np.ndarray, order: np.ndarray
) -> Block:
    shown = order[:MAX_WORDS]
    counts = topic_label_table(W, dataset.labels, dataset.label_names, H=H, counts=True)
    sizes = counts.to_numpy().sum(0)
    kept = np.sort(np.argsort(-sizes, kind="stable")[:MAX_LABELS])
    kept = kept[sizes[kept] > 0]
    shares = (counts.to_numpy()[shown][:, kept] / sizes[kept]).T
    rows = [
        (
            str(counts.columns[j]),
            [(f"{100 * x:.0f}" if x >= 0.005 else "", float(x)) for x in row],
        )
        for j, row in zip(kept, shares, strict=True)
    ]
    note = (
        "Of the documents with a label, the percentage whose strongest topic it is "
        "(blank below 0.5)."
    )
    if len(kept) < np.count_nonzero(sizes):
        note += f" The {len(kept)} largest of {np.count_nonzero(sizes)} labels."
    title = "Percentage of each label in each topic"
    card = Card("", table=Table(title, "label", [str(k) for k in shown], rows))
    note = f"{note} {_note(shown, order)}"
    return Block("Topics and labels", note, "tables", [card])


def _as_words(
    dataset: Any,
    weights: np.ndarray,
    order: np.ndarray,
    heading: str,
    note: str,
    captions: Sequence[str] = (),
    most_words: int = 8,
) -> Block:
    shown = order[:MAX_WORDS]
    cards = []
    for k in shown:
        row = weights[k]
        top = np.argsort(-row, kind="stable")[:most_words]
        total, most = row.sum(), row[top[0]]
        words = [
            (dataset.column_names[j], f"{row[j] / total:.1%}", float(row[j] / most))
            for j in top
            if row[j] > 0
        ]
        cards.append(Card(captions[int(k)] if captions else str(k), words=words))
    return Block(heading, f"{note} {_note(shown, order)}", "words", cards)


def _as_profiles(
    dataset: Any, W: np.ndarray, H: np.ndarray, order: np.ndarray
) -> Block:
    """Rows of H as curves or bars, then W as a heat map."""
    n = H.shape[1]
    shown, matched = order[:MAX_PANELS], _matched(dataset.truth, W, H)
    cards = []
    for k in shown:
        series = [(H[k], ACCENT)]
        true = matched.get(int(k))
        if true is not None and dataset.truth.H is not None:
            series = [(_scaled(H[k]), ACCENT), (_scaled(dataset.truth.H[true]), TRUTH)]
        bars = len(series) == 1 and n <= 128
        panel = figures.line_panel(np.arange(n), series, "column", bars=bars)
        cards.append(Card(f"H, row {k}", panels=[panel]))
    note = _note(shown, order, "Rows of H")
    if matched:
        note += " Dashed: the true row matched to it, both scaled to their largest."
    card, of_W = _heat_of_W(dataset, W, order)
    return Block("Components", f"{note} {of_W}", "panels", [*cards, card])


def _as_heat_maps(
    dataset: Any, W: np.ndarray, H: np.ndarray, order: np.ndarray
) -> Block:
    values = shrunk(_scaled(H[order]), len(order), HEAT)
    panel = figures.heat_panel(
        values, Scale.of(values, "viridis"), "columns of V", "components"
    )
    card, note = _heat_of_W(dataset, W, order)
    note = f"H, each row scaled to its largest entry. {note}"
    return Block("Components", note, "panels", [Card("H", panels=[panel]), card])


def _heat_of_W(dataset: Any, W: np.ndarray, order: np.ndarray) -> tuple[Card, str]:
    """W as a heat map, its rows sorted by label where there are labels; a note."""
    values = _scaled(W[:, order].T).T
    note = "W, each column scaled to its largest entry, strongest component first"
    ticks = None
    if dataset.labels is not None:
        values = values[np.argsort(dataset.labels, kind="stable")]
        note += ", rows sorted by label"
        ticks = class_ticks(dataset)
    if len(values) > 2 * HEAT:
        ticks = ticks and [(at * HEAT / len(values), name) for at, name in ticks]
        values = shrunk(values, HEAT, values.shape[1])
    panel = figures.heat_panel(
        values, Scale.of(values, "viridis"), "components", "rows of V", ticks=ticks
    )
    return Card("W", panels=[panel]), note + "."


def _matched(truth: Any, W: np.ndarray, H: np.ndarray) -> dict[int, int]:
    """Component → true component, by what is known of the truth."""
    if truth is None or (truth.H is None and truth.W is None):
        return {}
    found, _ = match_components(
        None if truth.W is None else W, None if truth.H is None else H, truth.W, truth.H
    )
    return {int(k): true for true, k in enumerate(found) if k >= 0}


def _scaled(rows: np.ndarray) -> np.ndarray:
    """Rows, or one row, divided by the largest entry."""
    return rows / np.maximum(rows.max(axis=-1, keepdims=True), 1e-30)


def _map(dataset: Any, column: np.ndarray) -> str:
    values = bounded(column.reshape(dataset.row_image))
    return picture(values, Scale.of(values, "viridis"))


def _spectra(dataset: Any, series: list[np.ndarray]) -> Drawing:
    x, label = _axis(dataset.wavelengths, len(series[0]), "wavelength, nm", "band")
    scaled = [
        (_scaled(np.asarray(s)), c)
        for s, c in zip(series, (ACCENT, TRUTH), strict=False)
    ]
    return figures.line_panel(x, scaled, label)


def _axis(values: Any, size: int, unit: str, otherwise: str) -> tuple[Any, str]:
    return (np.arange(size), otherwise) if values is None else (values, unit)


def class_ticks(dataset: Any) -> list[tuple[float, str]]:
    """(middle row, name) of each class once the rows are sorted by label."""
    classes, sizes = np.unique(dataset.labels, return_counts=True)
    middles = np.cumsum(sizes) - (sizes + 1) / 2
    names = dataset.label_names
    return [
        (float(at), names[c] if names else str(c))
        for at, c in zip(middles, classes, strict=True)
    ]


def _note(shown: np.ndarray, order: np.ndarray, what: str = "") -> str:
    text = f"{what}, strongest first" if what else "Strongest component first"
    if len(shown) < len(order):
        text += f", {len(shown)} of {len(order)}"
    return text + "; numbers count the components from 0."


def bounded(image: np.ndarray, most: int = 480) -> np.ndarray:
    """An image of at most so many rows and columns."""
    height, width = image.shape
    return shrunk(image, min(height, most), min(width, most))


def shrunk(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Means over blocks, so that at most so many rows and columns are left."""
    for axis, most in ((0, rows), (1, columns)):
        size = values.shape[axis]
        if size > most:
            starts = np.linspace(0, size, most, endpoint=False).astype(int)
            known = np.isfinite(values)
            total = np.add.reduceat(np.where(known, values, 0), starts, axis)
            count = np.add.reduceat(known.astype(float), starts, axis)
            with np.errstate(invalid="ignore", divide="ignore"):
                values = total / count
    return values
