"""The residual U = V − W H: samples, its size, where it is, how it is distributed.

What is said of all entries is computed from all of them, block by block; sparse data is
never made dense beyond a sample of rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxnmf.experiment.report import figures
from jaxnmf.experiment.report.drawing import Scale, picture
from jaxnmf.experiment.report.pictures import (
    HEAT,
    Block,
    Card,
    Table,
    bounded,
    class_ticks,
    shrunk,
)
from jaxnmf.experiment.report.words import listed, number

SAMPLE = 2_000_000  # entries of V that are drawn or counted at once
BLOCKS = 48  # of rows and of columns, of which the size of U is shown
QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)


def residual(dataset: Any, W: np.ndarray, H: np.ndarray) -> list[Block]:
    """V, W H and U = V − W H for a few samples, and how U is distributed."""
    V, X, rows = _sample(dataset, W, H)
    U = V - X
    if dataset.kind == "photo":
        shown, which = [("whole", V, X, U)], "The whole picture"
    elif dataset.column_image:
        each = np.linspace(0, len(rows) - 1, min(6, len(rows))).astype(int)
        shape = dataset.column_image
        shown = [
            (f"row {rows[i]}", *(A[i].reshape(shape) for A in (V, X, U))) for i in each
        ]
        which = f"Rows {listed(rows[each])}"
    elif dataset.row_image:
        shown = _bands(dataset, W, H)
        which = f"Columns at {listed(name for name, *_ in shown)}"
    else:
        shown, which = [], ""
    blocks = [_sampled(shown, which)] if shown else [_heats(dataset, V, X, U, rows)]
    where, total, entries = _where(dataset, W, H)
    return [*blocks, where, _distribution(dataset, U, rows, total, entries)]


def squares(
    V: Any,
    W: np.ndarray,
    H: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    *,
    stored: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of U² over blocks, and how many entries each block has.

    Of sparse V, ``Σ u² = Σ (v² − 2 v x) + Σ x²`` with the first sum over the stored
    entries and the second ``Σ_j h_jᵀ (Σ_i w_i w_iᵀ) h_j``, so nothing is made dense.

    Args:
      V: dense or sparse, (m, n).
      W, H: the factors, (m, p) and (p, n).
      rows, columns: the number of the block that each row (m,) and column (n,) is in.
      stored: what is not stored is unknown, and counts for nothing.
    """
    if rows.max() > columns.max():
        sums, counts = squares(V.T, H.T, W.T, columns, rows, stored=stored)
        return sums.T, counts.T
    W, H = np.asarray(W, float), np.asarray(H, float)
    shape = int(rows.max()) + 1, int(columns.max()) + 1
    counts = np.outer(np.bincount(rows), np.bincount(columns)).astype(float)

    def by_columns(values: np.ndarray) -> np.ndarray:
        return np.bincount(columns, values, minlength=shape[1])

    if not hasattr(V, "tocoo"):
        sums, V = np.zeros(shape), np.asarray(V)
        step = max(1, SAMPLE // V.shape[1])
        order = np.argsort(rows, kind="stable")
        for start in range(0, len(order), step):
            here = order[start : start + step]
            U = np.square(V[here] - W[here] @ H)
            starts = np.unique(rows[here], return_index=True)[1]
            for row, sum_ in zip(
                rows[here][starts], np.add.reduceat(U, starts, axis=0), strict=True
            ):
                sums[row] += by_columns(sum_)
        return sums, counts

    entries = V.tocoo()
    i, j, v = entries.row, entries.col, entries.data.astype(float)
    x, step, Ht = np.empty_like(v), max(1, SAMPLE // len(H)), np.ascontiguousarray(H.T)
    for start in range(0, len(v), step):
        e = slice(start, start + step)
        x[e] = np.einsum("ek,ek->e", W[i[e]], Ht[j[e]])
    at, size = rows[i] * shape[1] + columns[j], shape[0] * shape[1]
    if stored:
        counts = np.bincount(at, minlength=size).reshape(shape).astype(float)
        sums = np.bincount(at, np.square(v - x), minlength=size)
        return sums.reshape(shape), counts
    sums = np.bincount(at, v * (v - 2 * x), minlength=size).reshape(shape)
    for row in range(shape[0]):
        of_block = W[rows == row]
        gram = of_block.T @ of_block
        sums[row] += by_columns(np.einsum("kj,kj->j", gram @ H, H))
    return np.maximum(sums, 0.0), counts


def _where(dataset: Any, W: np.ndarray, H: np.ndarray) -> tuple[Block, float, float]:
    """The root mean square of U by pixels, where rows or columns are, or by blocks; and
    over everything the sum of U² and how many entries there are."""
    m, n = dataset.V.shape
    one = np.zeros(m, int), np.zeros(n, int)
    note, ticks = "", None
    if dataset.column_image or dataset.row_image:
        shape = dataset.column_image or dataset.row_image
        parts = (
            (one[0], np.arange(n)) if dataset.column_image else (np.arange(m), one[1])
        )
        sums, counts = squares(dataset.V, W, H, *parts)
        values = np.sqrt(sums / counts).reshape(shape)
        scale = Scale.of(values, "viridis")
        seen = "root mean square of U at each pixel"
        over = "rows" if dataset.column_image else "columns"
        card = Card("", pictures=[(picture(bounded(values), scale), seen)])
        note = f"The root mean square of U at each pixel, over the {over} of V"
    else:
        rows, columns, how, ticks = _blocked(dataset)
        sums, counts = squares(
            dataset.V, W, H, rows, columns, stored=dataset.kind == "ratings"
        )
        values = np.sqrt(sums / np.where(counts > 0, counts, np.nan))
        scale = Scale.of(values, "viridis")
        drawn = figures.heat_panel(values, scale, "columns", "rows", ticks=ticks)
        card = Card("", panels=[drawn])
        note = f"The root mean square of U in blocks of V, {how}"
    note += f", from 0 (dark) to {number(scale.high)} (light)."
    layout = "maps" if card.pictures else "panels"
    block = Block("Where the residual is", note, layout, [card])
    return block, float(sums.sum()), float(counts.sum())


def _blocked(dataset: Any) -> tuple[np.ndarray, np.ndarray, str, Any]:
    """(block of each row, block of each column, how they are sorted, ticks)."""
    m, n = dataset.V.shape
    rows, columns, how, ticks = np.arange(m), np.arange(n), "as they stand", None
    if hasattr(dataset.V, "tocsr"):
        # Stored entries, not values: of text the frequent words, of ratings the popular
        # items, stand first.
        entries = dataset.V.tocoo()
        often = (
            np.bincount(entries.col, minlength=n),
            np.bincount(entries.row, minlength=m),
        )
        columns, rows = (_places(np.argsort(-x, kind="stable")) for x in often)
        how = "columns and rows with most entries first"
    if dataset.labels is not None:
        rows = _places(np.argsort(dataset.labels, kind="stable"))
        how = (
            "rows sorted by label, columns with most entries first"
            if hasattr(dataset.V, "tocsr")
            else "rows sorted by label"
        )
        b = min(m, BLOCKS)
        ticks = [((at + 0.5) * b / m - 0.5, name) for at, name in class_ticks(dataset)]
    return (
        rows * min(m, BLOCKS) // m,
        columns * min(n, BLOCKS) // n,
        how,
        ticks,
    )


def _places(order: np.ndarray) -> np.ndarray:
    """The place of each element in an order."""
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places


def _distribution(
    dataset: Any, U: np.ndarray, rows: np.ndarray, total: float, entries: float
) -> Block:
    """The size of U, over everything, and its distribution over the sample."""
    V, m = dataset.V, dataset.V.shape[0]
    rated = dataset.kind == "ratings"
    values = V.data if hasattr(V, "tocsr") else np.asarray(V)
    norm = float(np.sqrt(np.sum(np.square(values, dtype=np.float64))))
    size = np.sqrt(total)
    what = "stored entries" if rated else "entries"
    of = f"all {what}" if len(rows) == m else f"the {what} of {len(rows)} of {m} rows"
    share = f", {number(100 * size / norm)} % of ‖V‖" if norm else ""
    note = (
        f"‖U‖ = {number(size)}{share}; root mean square "
        f"{number(size / np.sqrt(max(entries, 1.0)))}. The distribution is over {of}."
    )
    return distribution(
        _parts(dataset, U, rows), "Distribution of the residual", note, "U"
    )


def _parts(dataset: Any, U: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What quantiles are shown of: of sparse data also the stored entries alone."""
    known = U[np.isfinite(U)]
    if dataset.kind == "ratings" or not hasattr(dataset.V, "tocsr"):
        return {"entries": known}
    here = dataset.V.tocsr()[rows].tocoo()
    return {"all entries": known, "where V > 0": U[here.row, here.col]}


def distribution(
    parts: dict[str, np.ndarray], heading: str, note: str, label: str
) -> Block:
    """A histogram of the first part, and the quantiles of each."""
    parts = {name: values for name, values in parts.items() if len(values)}
    first = next(iter(parts.values()), np.zeros(0))
    places = {"least": 0.0, **{f"{100 * q:g} %": q for q in QUANTILES}, "largest": 1.0}
    told = {
        "mean": [values.mean() for values in parts.values()],
        "standard deviation": [values.std() for values in parts.values()],
        **{
            name: [np.quantile(values, q) for values in parts.values()]
            for name, q in places.items()
        },
    }
    rows = [(name, [(number(x), 0.0) for x in found]) for name, found in told.items()]
    table = Table(f"Quantiles of {label}", label, list(parts), rows)
    cards = [
        Card("", panels=[figures.histogram_panel(first, label)]),
        Card("", table=table),
    ]
    return Block(heading, note, "panels", cards)


def _bands(dataset: Any, W: np.ndarray, H: np.ndarray) -> list[tuple]:
    """Three columns of V as maps: (caption, V, W H, U)."""
    n = H.shape[1]
    shown = []
    for j in (n // 6, n // 2, 5 * n // 6):
        v = dataset.V[:, [j]]
        v = np.asarray(v.toarray() if hasattr(v, "toarray") else v, float).ravel()
        x = W @ H[:, j]
        name = f"band {j}"
        if dataset.wavelengths is not None:
            name = f"{dataset.wavelengths[j]:.0f} nm"
        shown.append((name, *(a.reshape(dataset.row_image) for a in (v, x, v - x))))
    return shown


def _sampled(shown: list[tuple], which: str) -> Block:
    names, V, X, U = zip(*shown, strict=True)
    light = Scale.of([*map(np.nanmax, V), *map(np.nanmax, X)])
    sign = Scale.of([*map(np.nanmin, U), *map(np.nanmax, U)], "RdBu_r", signed=True)
    cards = []
    for title, arrays, scale in (
        ("V", V, light),
        ("W H", X, light),
        ("U = V − W H", U, sign),
    ):
        pictures = [
            (picture(bounded(array), scale), f"{title}, {name}")
            for name, array in zip(names, arrays, strict=True)
        ]
        cards.append(Card(title, pictures))
    note = (
        f"{which}. V and W H from 0 (black) to "
        f"{number(light.high)} (white); {_signed_note(sign)}."
    )
    # One picture alone stands beside its reconstruction, not above it.
    layout = "samples" if len(shown) > 1 else "panels"
    return Block("Data, reconstruction and residual", note, layout, cards)


def _heats(
    dataset: Any, V: np.ndarray, X: np.ndarray, U: np.ndarray, rows: np.ndarray
) -> Block:
    note = "Rows and columns are averaged in blocks"
    columns = np.arange(V.shape[1])
    if hasattr(dataset.V, "tocsr"):
        weight = np.nan_to_num(V).sum(0)
        columns = np.argsort(-weight, kind="stable")[:HEAT]
        note = f"The {len(columns)} columns with the largest sums"
    if dataset.labels is not None:
        into = np.argsort(np.asarray(dataset.labels)[rows], kind="stable")
        V, X, U = V[into], X[into], U[into]
        note += ", rows sorted by label"
    V, X, U = (shrunk(A[:, columns], HEAT, HEAT) for A in (V, X, U))
    # A few large entries would leave the rest of the map dark.
    high = float(np.nanpercentile(V, 99)) or float(np.nanmax(V)) or 1.0
    light = Scale("viridis", 0.0, high)
    reach = float(np.nanpercentile(np.abs(U), 99)) or float(np.nanmax(np.abs(U))) or 1.0
    sign = Scale("RdBu_r", -reach, reach)
    cards = [
        Card(title, panels=[figures.heat_panel(A, scale, "columns", "rows")])
        for title, A, scale in (
            ("V", V, light),
            ("W H", X, light),
            ("U = V − W H", U, sign),
        )
    ]
    note += (
        f". V and W H from 0 (dark) to {number(high)} (light); {_signed_note(sign)}; "
        "beyond the 99th percentile colours are cut."
    )
    return Block("Data, reconstruction and residual", note, "panels", cards)


def _signed_note(scale: Scale) -> str:
    return f"U from −{number(scale.high)} (blue) to {number(scale.high)} (red)"


def _sample(
    dataset: Any, W: np.ndarray, H: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(V, W H, row numbers) of evenly spaced rows, dense, unknown entries NaN."""
    m, n = dataset.V.shape
    most = min(m, max(1, SAMPLE // n))
    rows = (
        np.arange(m) if most == m else np.unique(np.linspace(0, m - 1, most, dtype=int))
    )
    V = dataset.V[rows]
    X = np.asarray(W[rows], float) @ np.asarray(H, float)
    if not hasattr(V, "toarray"):
        return np.asarray(V, float), X, rows
    dense = V.toarray().astype(float)
    if dataset.kind == "ratings":
        known = V.copy()
        known.data = np.ones_like(known.data)
        unknown = known.toarray() == 0
        dense[unknown], X[unknown] = np.nan, np.nan
    return dense, X, rows
