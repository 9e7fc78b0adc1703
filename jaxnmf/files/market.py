"""Files of Matrix Market."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any


def read_market(place: Path) -> Any:
    """The matrix in an .mtx or .mtx.gz: an array, or a `scipy.sparse.csr_array`."""
    from scipy.io import mmread
    from scipy.sparse import csr_array

    with warnings.catch_warnings():
        # It warns that its default sparse type will change: both are converted here.
        warnings.simplefilter("ignore", DeprecationWarning)
        loaded: Any = mmread(place)
    return csr_array(loaded) if hasattr(loaded, "tocsr") else loaded
