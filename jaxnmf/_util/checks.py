"""Checks of plain arguments; the messages name the argument."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise a ValueError unless value is an integer ≥ least."""
    integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not integer or value < least:
        raise ValueError(f"{name}={value!r} must be an integer ≥ {least}")


def check_amount(name: str, value: Any) -> None:
    """Raise a ValueError unless value is a finite number ≥ 0."""
    if not is_number(value) or not np.isfinite(value) or value < 0:
        raise ValueError(f"{name}={value!r} must be a finite number ≥ 0")


def is_number(value: Any) -> bool:
    """Whether value is a real number and not a bool."""
    real = int | float | np.integer | np.floating
    return isinstance(value, real) and not isinstance(value, bool)


def check_list(name: str, values: Any, least: int) -> list[int]:
    """The values as a list of distinct integers ≥ least, or a ValueError."""
    if np.ndim(values) != 1:
        raise ValueError(f"{name}={values!r} must be a list of integers")
    values = [x.item() if isinstance(x, np.generic) else x for x in values]
    if not values:
        raise ValueError(f"{name} is empty; give at least one, such as {name}=[8]")
    for value in values:
        check_count(name, value, least)
    if len(set(values)) < len(values):
        raise ValueError(f"{name}={values} contains duplicates")
    return values


def check_indices(name: str, index: Any, size: int) -> np.ndarray:
    """The index as an array of integers from 0 to size − 1, or a ValueError."""
    index = np.asarray(index)
    if not index.size:
        return index.astype(int)
    if index.dtype.kind not in "iu":
        raise ValueError(f"{name} has dtype {index.dtype}; it must hold integers")
    if not 0 <= index.min() <= index.max() < size:
        raise ValueError(
            f"{name} reaches from {index.min()} to {index.max()}; it must be within "
            f"0 … {size - 1}"
        )
    return index


def as_matrix(name: str, X: ArrayLike, expected: str) -> np.ndarray:
    """X as a float64 matrix, or a ValueError that says what was expected."""
    try:
        array = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name}: {type(X).__name__} is not numeric; expected an array {expected}"
        ) from None
    return check_two_axes(name, array, expected)


def check_two_axes(name: str, X: np.ndarray, expected: str) -> np.ndarray:
    """X if it is a matrix, else a ValueError."""
    if X.ndim != 2:
        raise ValueError(f"{name}: shape {X.shape} is not 2-D; expected {expected}")
    return X
