"""Initial factors from rows of V that span the others."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxnmf.data.operand import Described
from jaxnmf.init.separable import nonnegative_fit, snpa, spa, xray

SEPARABLE = {"spa": spa, "snpa": snpa, "xray": xray}


def row_factors(
    operand: Described, rank: int, method: str
) -> tuple[np.ndarray, np.ndarray]:
    """H of rows of V, and W as the best non-negative fit to it."""
    V = operand.to_host()
    H: Any = V[SEPARABLE[method](V, rank)]
    H = np.asarray(H.toarray() if hasattr(H, "toarray") else H, np.float64)
    return nonnegative_fit(V, H), H
