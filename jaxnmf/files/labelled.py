"""A matrix read from a file, with the names of its axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class LabelledMatrix:
    """A matrix from a file, the names of its axes, and what the reader assumed.

    Attributes:
      V: an array or a `scipy.sparse.csr_array`; NaN where a value is missing.
      row_names, column_names: a name for each row and column, or None.
      assumed: the options with which the file was read, given or detected, and the
        number of ``missing`` values.
      doubts: sentences on which of these may be wrong.
    """

    V: Any
    row_names: tuple[str, ...] | None = None
    column_names: tuple[str, ...] | None = None
    assumed: Mapping[str, Any] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    @property
    def T(self) -> LabelledMatrix:
        """Rows and columns exchanged."""
        assumed = {**self.assumed, "transpose": True}
        V = self.V.T.tocsr() if hasattr(self.V, "tocsr") else self.V.T
        return LabelledMatrix(
            V, self.column_names, self.row_names, assumed, self.doubts
        )


class ContentError(Exception):
    """The file was read and does not contain a matrix; the message says what it has."""


def count_missing(V: Any) -> int:
    """The entries of an array that are NaN."""
    return int(np.isnan(V).sum()) if V.dtype.kind == "f" else 0
