"""Factors as data frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float


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
