"""The residual U = V − W H: samples, where it is large, how it is distributed."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxnmf import plots
from jaxnmf.data.known import is_sparse
from jaxnmf.data.observed import Observed
from jaxnmf.experiment.report.blocks import Block, Card, CardTable
from jaxnmf.experiment.report.drawing import drawn, panel, panels
from jaxnmf.experiment.report.pixels import canvases, pixels
from jaxnmf.experiment.report.words import listed, number
from jaxnmf.plots.residual_histogram import draw_histogram
from jaxnmf.plots.residual_size import Size, draw_size, size_of
from jaxnmf.plots.samples import data_of, sampled_rows, samples

QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
TITLES = ("V", "W H", "U = V − W H")


def residual(dataset: Any, W: np.ndarray, H: np.ndarray) -> list[Block]:
    """V, W H and U = V − W H for a few samples, and how U is distributed."""
    parts, kind = samples((W, H), dataset)
    if kind == "matrix":
        first = _heat_maps(dataset, W, H)
    else:
        first = _images(dataset, W, H, len(parts))
    size = size_of((W, H), dataset)
    return [first, _where(size), _distribution(dataset, W, H, size)]


def _images(dataset: Any, W: np.ndarray, H: np.ndarray, count: int) -> Block:
    """Rows of V as images, or columns as maps, one line for each of V, W H and U."""
    axes = np.array(canvases(3 * count), object).reshape(3, count)
    plots.reconstruction((W, H), dataset, ax=axes[:2])
    plots.residual((W, H), dataset, ax=axes[2])
    names = [each.get_title() for each in axes[0]]
    cards = [
        Card(
            title,
            [
                (pixels(each), f"{title}, {name}")
                for each, name in zip(line, names, strict=True)
            ],
        )
        for title, line in zip(TITLES, axes, strict=True)
    ]
    which = "The whole picture" if names == ["whole"] else f"Shown: {listed(names)}"
    note = (
        f"{which}. V and W H from 0 (black) to "
        f"{number(_largest(axes[0, 0]))} (white); {_signed(axes[2, 0])}."
    )
    # One picture alone is beside its reconstruction, not above it.
    layout = "samples" if count > 1 else "panels"
    return Block("Data, reconstruction and residual", note, layout, cards)


def _heat_maps(dataset: Any, W: np.ndarray, H: np.ndarray) -> Block:
    """V, W H and U as means over blocks."""
    with panels(3, 2.4, left=0.3) as axes:
        plots.reconstruction((W, H), dataset, ax=axes[:2])
        plots.residual((W, H), dataset, ax=axes[2])
    cards = [
        Card(title, panels=[drawn(each)])
        for title, each in zip(TITLES, axes, strict=True)
    ]
    note = "Rows and columns are averaged in blocks"
    if is_sparse(dataset.V) or isinstance(dataset.V, Observed):
        columns = axes[0].images[0].get_array().shape[1]
        note = f"The {columns} columns with the largest sums"
    if dataset.labels is not None:
        note += ", rows sorted by label"
    note += (
        f". V and W H from 0 (dark) to {number(_largest(axes[0]))} (light); "
        f"{_signed(axes[2])}; beyond the 99th percentile colours are cut."
    )
    return Block("Data, reconstruction and residual", note, "panels", cards)


def _largest(axes: Any) -> float:
    """The value where the colours end."""
    return axes.images[0].get_clim()[1]


def _signed(axes: Any) -> str:
    high = number(_largest(axes))
    return f"U from −{high} (blue) to {high} (red)"


def _where(size: Size) -> Block:
    """The root mean square of U, at each pixel or in blocks."""
    if size.pixels:
        (axes,) = canvases(1)
        draw_size(size, axes)
        seen = "root mean square of U at each pixel"
        card, layout = Card("", pictures=[(pixels(axes), seen)]), "maps"
        over = "rows" if size.pixels == "columns" else "columns"
        note = f"The root mean square of U at each pixel, over the {over} of V"
    else:
        height = max(2.4, 0.6 + 0.15 * len(size.ticks))  # for the names of labels
        longest = max((len(name) for _, name in size.ticks), default=0)
        left = min(2.0, max(1.0, 0.4 + 0.07 * longest)) if size.ticks else 0.3
        with panel(height, left=left) as axes:
            draw_size(size, axes)
        card, layout = Card("", panels=[drawn(axes)]), "panels"
        note = f"The root mean square of U in blocks of V, {size.order}"
    note += f", from 0 (dark) to {number(_largest(axes))} (light)."
    return Block("Where the residual is", note, layout, [card])


def _distribution(dataset: Any, W: np.ndarray, H: np.ndarray, size: Size) -> Block:
    """The size of U over everything, and its distribution over a sample of rows."""
    pair, V, _ = data_of((W, H), dataset)
    rows = sampled_rows(pair, V)
    m, sampled = len(W), len(rows.index)
    what = "stored entries" if isinstance(V, Observed) else "entries"
    of = f"all {what}" if sampled == m else f"the {what} of {sampled} of {m} rows"
    norm = _norm(V)
    total, entries = float(size.sums.sum()), float(size.counts.sum())
    share = f", {number(100 * np.sqrt(total) / norm)} % of ‖V‖" if norm else ""
    note = (
        f"‖U‖ = {number(np.sqrt(total))}{share}; root mean square "
        f"{number(np.sqrt(total / max(entries, 1.0)))}. The distribution is over {of}."
    )
    known = rows.U[np.isfinite(rows.U)]
    parts = {"entries": known}
    if is_sparse(V):
        here: Any = V[rows.index]  # pyright: ignore
        stored = here.tocoo()
        parts = {"all entries": known, "where V > 0": rows.U[stored.row, stored.col]}
    return distribution(parts, "Distribution of the residual", note, "U")


def _norm(V: Any) -> float:
    """‖V‖ over its known entries."""
    values = V.values if isinstance(V, Observed) else V.data if is_sparse(V) else V
    return float(np.sqrt(np.nansum(np.square(values, dtype=np.float64))))


def distribution(
    parts: dict[str, np.ndarray], heading: str, note: str, label: str
) -> Block:
    """A histogram of the first part, and the quantiles of each."""
    parts = {name: values for name, values in parts.items() if len(values)}
    first = next(iter(parts.values()), np.zeros(0))
    places = {"least": 0.0, **{f"{100 * q:g} %": q for q in QUANTILES}, "largest": 1.0}
    measured = {
        "mean": [values.mean() for values in parts.values()],
        "standard deviation": [values.std() for values in parts.values()],
        **{
            name: [np.quantile(values, q) for values in parts.values()]
            for name, q in places.items()
        },
    }
    rows = [(name, [(number(x), 0.0) for x in of]) for name, of in measured.items()]
    table = CardTable(f"Quantiles of {label}", label, list(parts), rows)
    with panel(2.4, title="entries") as axes:
        draw_histogram(first, axes, label)
    cards = [Card("", panels=[drawn(axes)]), Card("", table=table)]
    return Block(heading, note, "panels", cards)
