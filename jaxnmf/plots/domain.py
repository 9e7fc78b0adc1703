"""What the entries of a component are: pixels, points on an axis, names or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnmf.plots.factors import check_names
from jaxnmf.shapes import Float

NAMED = ("text", "ratings", "genes")
"""Kinds of data whose columns are so many that the largest few are read by name."""


@dataclass(frozen=True)
class Domain:
    """What the ``size`` entries along an axis of V are; at most one is given.

    Attributes:
      size: how many.
      image: (height, width) of the picture whose pixels they are, row by row.
      x: (size,), where they are on an axis.
      names: of each.
      label: what they are, or the unit of x, as an axis has it.
    """

    size: int
    image: tuple[int, int] | None = None
    x: Float[np.ndarray, " size"] | None = None
    names: Sequence[str] | None = None
    label: str = ""

    @property
    def positions(self) -> np.ndarray:
        """Where the entries are along an axis."""
        return np.arange(self.size) if self.x is None else self.x


def domain(
    dataset: Any,
    factor: str,
    size: int,
    *,
    image: Any = None,
    names: Any = None,
    x: Any = None,
    label: str | None = None,
) -> Domain:
    """The domain of the columns of W or rows of H: as given, else as ``dataset`` says.

    Raises:
      ValueError: two of image, names and x are given, or one does not fit the size.
    """
    given = [
        name
        for name, value in (("image", image), ("names", names), ("x", x))
        if value is not None
    ]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are given; give one of them")
    if not given:
        return _of_dataset(dataset, factor, size, label)
    if image is not None:
        return Domain(size, image=_shape("image", image, size, factor))
    if names is not None:
        check_names("names", names, size, f"entries in a component of {factor}")
        return Domain(size, names=names)
    x = np.asarray(x, float)
    if x.shape != (size,):
        raise ValueError(
            f"x has shape {x.shape}; it must be ({size},), a value for each entry of a "
            f"component of {factor}"
        )
    return Domain(size, x=x, label=label or "")


def own_factor(dataset: Any) -> str:
    """The factor whose components are pictures, "H" where neither's are."""
    of_rows = getattr(dataset, "row_image", None) is not None
    return "W" if of_rows and dataset.column_image is None else "H"


def side_of_image(image: Any, shape: tuple[int, int]) -> tuple[str, tuple[int, int]]:
    """("columns" or "rows" of V, which are the pixels; (height, width)).

    Raises:
      ValueError: the image has neither as many pixels as V columns nor as it has rows.
    """
    m, n = shape
    found = tuple(image)
    if len(found) != 2 or found[0] * found[1] not in (m, n):
        raise ValueError(
            f"image={image!r} must be (height, width) with height × width = {n}, the "
            f"columns of V, or {m}, its rows"
        )
    return ("columns" if found[0] * found[1] == n else "rows"), found


def _of_dataset(dataset: Any, factor: str, size: int, label: str | None) -> Domain:
    otherwise = "column" if factor == "H" else "row"
    plain = Domain(size, label=label or otherwise)
    if dataset is None:
        return plain
    expected = dataset.shape[1 if factor == "H" else 0]
    if expected != size:
        raise ValueError(
            f"dataset {dataset.name!r} has {expected} {otherwise}s; a component of "
            f"{factor} has {size} entries"
        )
    if factor == "W":
        if dataset.row_image is not None:
            return Domain(size, image=dataset.row_image)
        if dataset.times is not None:
            x = np.asarray(dataset.times, float)
            return Domain(size, x=x, label=label or "seconds")
        if dataset.kind == "audio":
            return Domain(size, label=label or "frame")
        return plain
    if dataset.column_image is not None:
        return Domain(size, image=dataset.column_image)
    for x, unit in (
        (dataset.wavelengths, "wavelength, nm"),
        (dataset.frequencies, "Hz"),
    ):
        if x is not None:
            return Domain(size, x=np.asarray(x, float), label=label or unit)
    if dataset.column_names is not None and dataset.kind in NAMED:
        return Domain(size, names=dataset.column_names)
    other = {"spectra": "band", "audio": "bin"}.get(dataset.kind, otherwise)
    return Domain(size, label=label or other)


def _shape(argument: str, image: Any, size: int, factor: str) -> tuple[int, int]:
    shape = tuple(image)
    whole = all(isinstance(side, int | np.integer) for side in shape)
    if len(shape) != 2 or not whole or shape[0] * shape[1] != size:
        raise ValueError(
            f"{argument}={image!r} must be (height, width) with height × width = "
            f"{size}, the entries of a component of {factor}"
        )
    return int(shape[0]), int(shape[1])
