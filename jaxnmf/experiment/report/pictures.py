"""Factors in the data's own form: images, maps, spectra, words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnmf import plots
from jaxnmf.experiment.report.blocks import Block, Card, strongest_first
from jaxnmf.experiment.report.drawing import Drawing, drawn, panel
from jaxnmf.experiment.report.look import TRUTH
from jaxnmf.experiment.report.pixels import canvases, pixels
from jaxnmf.experiment.report.topics import topic_blocks, word_block
from jaxnmf.metrics import match_components
from jaxnmf.plots.factors import strongest

MAX_PICTURES, MAX_PANELS = 100, 12
CURVES = 512  # entries of a component, up to which it is drawn as a curve
TRUE_LINE: dict[str, Any] = {"color": TRUTH, "linestyle": (0, (4, 2))}


def components(dataset: Any, W: np.ndarray, H: np.ndarray) -> list[Block]:
    """The components, strongest first, as far as they can be shown."""
    order = strongest(W, H)
    order = order[(W[:, order].any(0)) & (H[order].any(1))]
    if dataset.column_image:
        return _as_images(dataset, W, H, order)
    if dataset.row_image:
        return _as_maps(dataset, W, H, order)
    if dataset.kind == "audio":
        return _as_sound(dataset, W, H, order)
    if dataset.kind == "genes":
        card, note = _heat_of_W(dataset, W, H, order)
        blocks = [Block("Samples", note, "panels", [card])]
        if dataset.column_names:
            share = H / np.maximum(H.sum(0), 1e-30)
            note = "Genes by weight times the share this component has in them."
            blocks.append(word_block(dataset, H * share, order, "Top genes", note))
        return blocks
    if dataset.kind in ("text", "ratings") and dataset.column_names:
        note = "The largest weights of each row of H, as shares of that row."
        if dataset.kind == "ratings":
            return [word_block(dataset, H, order, "Top items", note)]
        return topic_blocks(dataset, W, H, order, note)
    if H.shape[1] <= CURVES:
        return [_as_profiles(dataset, W, H, order)]
    return [_as_heat_maps(dataset, W, H, order)]


def _images(dataset: Any, factors: Any, factor: str, shown: Sequence[int]) -> list[str]:
    """Components of a factor as images."""
    axes = canvases(len(shown))
    plots.components(factors, dataset, factor=factor, components=shown, ax=axes)
    return [pixels(each) for each in axes]


def _as_images(
    dataset: Any, W: np.ndarray, H: np.ndarray, order: np.ndarray
) -> list[Block]:
    def cards(factors: Any, shown: Sequence[int], names: Any, what: str) -> list[Card]:
        images = _images(dataset, factors, "H", shown)
        return [
            Card(str(name), [(image, f"{what} {name}")])
            for name, image in zip(names, images, strict=True)
        ]

    shown = order[:MAX_PICTURES].tolist()
    note = strongest_first(shown, order, "Rows of H")
    found = cards((W, H), shown, shown, "component")
    blocks = [Block("Components", note, "thumbnails", found)]
    truth = dataset.truth
    if truth is not None and truth.H is not None:
        true = list(range(len(truth.H)))[:MAX_PICTURES]
        names = [truth.names[k] if truth.names else k for k in true]
        found = cards(_of_truth(truth), true, names, "true component")
        note = f"The rows of the true H: {truth.note}." if truth.note else ""
        blocks.append(Block("The truth", note, "thumbnails", found))
    return blocks


def _as_maps(
    dataset: Any, W: np.ndarray, H: np.ndarray, order: np.ndarray
) -> list[Block]:
    shown = order[:MAX_PANELS].tolist()
    truth, matched = dataset.truth, _matched(dataset.truth, W, H)
    maps = _images(dataset, (W, H), "W", shown)
    cards = []
    for k, image in zip(shown, maps, strict=True):
        pictures, caption = [(image, f"map of component {k}")], str(k)
        true = matched.get(k)
        if true is not None:
            name = truth.names[true] if truth.names else str(true)
            caption = f"{k}, matched to {name}"
            if truth.W is not None:
                (image,) = _images(dataset, _of_truth(truth), "W", [true])
                pictures.append((image, f"truth: {name}"))
        curve = _curve(dataset, (W, H), "H", k, true, relative=True)
        cards.append(Card(caption, pictures, [curve]))
    note = strongest_first(
        shown, order, "A column of W as a map, the row of H as a spectrum"
    )
    if matched:
        note += f" Beside it, and dashed, the truth ({truth.note or 'as given'})."
    return [Block("Components", note, "maps", cards)]


def _as_sound(
    dataset: Any, W: np.ndarray, H: np.ndarray, order: np.ndarray
) -> list[Block]:
    shown = order[:MAX_PANELS].tolist()
    titles = {"W": "W, activation", "H": "H, spectrum"}
    cards = [
        Card(
            str(k),
            panels=[
                _curve(dataset, (W, H), factor, k, title=title)
                for factor, title in titles.items()
            ],
        )
        for k in shown
    ]
    note = strongest_first(
        shown, order, "Columns of W over time and rows of H over frequency"
    )
    return [Block("Components", note, "panels", cards)]


def _as_profiles(
    dataset: Any, W: np.ndarray, H: np.ndarray, order: np.ndarray
) -> Block:
    """Rows of H as curves or bars, then W as a heat map."""
    shown, matched = order[:MAX_PANELS].tolist(), _matched(dataset.truth, W, H)
    cards = [
        Card(f"H, row {k}", panels=[_curve(dataset, (W, H), "H", k, matched.get(k))])
        for k in shown
    ]
    note = strongest_first(shown, order, "Rows of H")
    if matched:
        note += " Dashed: the true row matched to it, both scaled to their largest."
    card, of_W = _heat_of_W(dataset, W, H, order)
    return Block("Components", f"{note} {of_W}", "panels", [*cards, card])


def _curve(
    dataset: Any,
    factors: Any,
    factor: str,
    k: int,
    true: int | None = None,
    *,
    relative: bool = False,
    title: str = "",
) -> Drawing:
    """A component over its axis; with a true one that is known, dashed, both are
    divided by their largest entry."""
    given: dict[str, Any] = {"factor": factor, "relative": relative}
    known = true is not None and dataset.truth.H is not None
    if known:
        given["relative"] = True
        if dataset.wavelengths is None:  # two components would hide each other's bars
            given |= {"x": np.arange(factors[1].shape[1]), "label": "column"}
    with panel(1.6, title=title) as axes:
        plots.components(factors, dataset, components=[k], ax=axes, **given)
        if known and true is not None:
            pair = _of_truth(dataset.truth)
            plots.components(
                pair, dataset, components=[true], ax=axes, **given, **TRUE_LINE
            )
    return drawn(axes)


def _as_heat_maps(
    dataset: Any, W: np.ndarray, H: np.ndarray, order: np.ndarray
) -> Block:
    with panel(2.4, left=0.3) as axes:
        plots.heatmap((W, H), factor="H", components=order.tolist(), ax=axes)
    card, note = _heat_of_W(dataset, W, H, order)
    note = f"H, each row scaled to its largest entry. {note}"
    cards = [Card("H", panels=[drawn(axes)]), card]
    return Block("Components", note, "panels", cards)


def _heat_of_W(
    dataset: Any, W: np.ndarray, H: np.ndarray, order: np.ndarray
) -> tuple[Card, str]:
    """W as a heat map, its rows sorted by label where there are labels; a note."""
    note = "W, each column scaled to its largest entry, strongest component first"
    if dataset.labels is not None:
        note += ", rows sorted by label"
    with panel(2.4, left=0.3 if dataset.labels is None else 1.0) as axes:
        plots.heatmap((W, H), dataset, components=order.tolist(), ax=axes)
    return Card("W", panels=[drawn(axes)]), note + "."


def _of_truth(truth: Any) -> tuple[np.ndarray, np.ndarray]:
    """The true factors as a pair; one that is unknown is a row or column of ones."""
    W, H = truth.W, truth.H
    if W is None:
        W = np.ones((1, len(H)))
    return W, np.ones((W.shape[1], 1)) if H is None else H


def _matched(truth: Any, W: np.ndarray, H: np.ndarray) -> dict[int, int]:
    """Component → true component, by what is known of the truth."""
    if truth is None or (truth.H is None and truth.W is None):
        return {}
    found, _ = match_components(
        None if truth.W is None else W, None if truth.H is None else H, truth.W, truth.H
    )
    return {int(k): true for true, k in enumerate(found) if k >= 0}
