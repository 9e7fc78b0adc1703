"""Matrices of any size as pictures: means over blocks, rows in order of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnmf.shapes import Int

PIXELS = 480  # rows and columns of an image, at most
CELLS = 160  # rows and columns of a heat map, at most


def bounded(image: np.ndarray, most: int = PIXELS) -> np.ndarray:
    """An image of at most so many rows and columns."""
    height, width = image.shape
    return block_means(image, min(height, most), min(width, most))


def block_means(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Means over blocks, so that at most so many rows and columns are left.

    NaN is left out of a mean; a block of nothing else is NaN.
    """
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


def by_label(labels: Any) -> Int[np.ndarray, " m"]:
    """The order of rows that puts those of one label together."""
    return np.argsort(np.asarray(labels), kind="stable")


def label_ticks(
    labels: Any, names: Sequence[str] | None = None
) -> list[tuple[float, str]]:
    """(middle row, name) of each label, once the rows are in the order `by_label`."""
    classes, sizes = np.unique(np.asarray(labels), return_counts=True)
    middles = np.cumsum(sizes) - (sizes + 1) / 2
    return [
        (float(at), str(names[c] if names else c))
        for at, c in zip(middles, classes, strict=True)
    ]


def places(order: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """The place of each element in an order."""
    found = np.empty_like(order)
    found[order] = np.arange(len(order))
    return found
