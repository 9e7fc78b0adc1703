"""A matrix read from a file, with the names of its axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxnmf._util.memory import free_memory


@dataclass(frozen=True, eq=False, repr=False)
class LabelledMatrix:
    """A matrix from a file, the names of its axes, and what the reader assumed.

    Attributes:
      V: an array or a `scipy.sparse.csr_array`; NaN where a value is missing.
      row_names, column_names: a name for each row and column, or None.
      assumed: the options with which the file was read, given or detected, and the
        number of ``missing`` values.
      doubts: sentences on which of these may be wrong.

    Example:
      >>> import jaxnmf, pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "V.csv"
      >>> _ = path.write_text("gene,a,b\\nx,1,2\\ny,3,4\\n")
      >>> data = jaxnmf.read(path)
      >>> data.shape, data.row_names, data.column_names
      ((2, 2), ('x', 'y'), ('a', 'b'))
      >>> data.T.row_names
      ('a', 'b')
    """

    V: Any
    row_names: tuple[str, ...] | None = None
    column_names: tuple[str, ...] | None = None
    assumed: Mapping[str, Any] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """(m, n)."""
        return self.V.shape

    def __repr__(self) -> str:
        m, n = self.shape
        pairs = ("rows", self.row_names), ("columns", self.column_names)
        named = " and ".join(side for side, names in pairs if names is not None)
        stored = f", {self.V.nnz} stored" if hasattr(self.V, "nnz") else ""
        parts = [f"{m}×{n} {self.V.dtype}{stored}"]
        parts += [f"{named} named"] if named else []
        parts += [f"read with {said}"] if (said := described(self.assumed)) else []
        parts += [f"perhaps wrong: {doubt}" for doubt in self.doubts]
        return f"LabelledMatrix({'; '.join(parts)})"

    @property
    def T(self) -> LabelledMatrix:
        """Rows and columns exchanged."""
        assumed = {**self.assumed, "transpose": True}
        V = self.V.T.tocsr() if hasattr(self.V, "tocsr") else self.V.T
        return LabelledMatrix(
            V, self.column_names, self.row_names, assumed, self.doubts
        )


def described(assumed: Mapping[str, Any]) -> str:
    """What a reader assumed, as a phrase."""
    known = dict(assumed)
    parts = []
    if separator := known.get("separator"):
        name = {"\t": "tab", " ": "spaces"}.get(separator, repr(separator))
        parts.append(f"separator {name}, decimal sign {known['decimal']!r}")
        if known.get("thousands"):
            parts.append(f"thousands separator {known['thousands']!r}")
    if "header" in known:
        parts.append("a header" if known["header"] else "no header")
    if "index" in known:
        index = known["index"]
        where = f"in column {index!r}" if index else "in the first column"
        parts.append("no row names" if index is None else f"row names {where}")
    if "user" in known:
        roles = (f"{role} in column {known[role]!r}" for role in ("user", "item"))
        parts.append(", ".join([*roles, f"rating in column {known['rating']!r}"]))
    if missing := known.get("missing"):
        parts.append(f"{missing} missing value{'s' * (missing != 1)}")
    if "encoding" in known:
        parts.append(f"encoding {known['encoding']}")
    if "window" in known:
        parts.append(
            f"magnitudes of windows of {known['window']} samples, {known['hop']} "
            f"apart, {known['rate']} a second"
        )
    if "layer" in known:
        parts.append(f"layer {known['layer']!r}")
    if known.get("transpose"):
        parts.append("transposed")
    return ", ".join(parts)


class ContentError(Exception):
    """The file was read and does not contain a matrix; the message says what it has."""


def as_csr(V: Any) -> Any:
    """A sparse matrix as a `scipy.sparse.csr_array` whose indices are checked: those
    out of range would be read as addresses by compiled code."""
    from scipy.sparse import csr_array

    if hasattr(V, "check_format"):
        V.check_format(full_check=True)
    V = csr_array(V)
    V.sum_duplicates()
    return V


def check_memory(size: int) -> None:
    """Raise a ContentError where fewer bytes of memory are free."""
    free = free_memory()
    if free is not None and size > free:
        raise ContentError(
            f"needs {size / 1e9:.2g} GB of memory and {free / 1e9:.2g} GB are free; "
            "expected a file that fits, such as float32 for float64 or a sparse "
            "matrix, or one that jaxnmf.Blocks reads"
        )


def count_missing(V: Any) -> int:
    """The entries of an array that are NaN."""
    return int(np.isnan(V).sum()) if V.dtype.kind == "f" else 0
