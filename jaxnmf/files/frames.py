"""Data frames of pandas: their numbers, and factors as frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxnmf.shapes import Float


def numbers_of(frame: Any) -> np.ndarray:
    """The numbers of a data frame; NaN where a value is missing."""
    V = frame.to_numpy()
    if V.dtype == object:  # booleans or nullable integers beside floats
        V = frame.to_numpy(dtype=np.float64, na_value=np.nan)
    return V


def factor_frames(
    W: Float[np.ndarray, "m p"],
    H: Float[np.ndarray, "p n"],
    row_names: np.ndarray | None,
    column_names: np.ndarray | None,
) -> tuple[Any, Any]:
    """(W, H) as data frames of pandas; what has no names is numbered from 0."""
    import pandas as pd

    components = pd.RangeIndex(len(H), name="component")
    return (
        pd.DataFrame(W, index=row_names, columns=components),
        pd.DataFrame(H, index=components, columns=column_names),
    )
