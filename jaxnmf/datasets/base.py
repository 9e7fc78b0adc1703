"""A data set: the matrix V and the meaning of its rows and columns."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxnmf.data.known import is_sparse
from jaxnmf.data.observed import Observed
from jaxnmf.data.views import Views
from jaxnmf.files.labelled import described

KINDS = (
    "images",  # the columns are the pixels of one picture a row
    "photo",  # V itself is the picture
    "text",
    "spectra",
    "genes",
    "audio",
    "counts",
    "ratings",
    "table",
    "synthetic",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """The factors that generated V, or reference factors; either may be unknown.

    Attributes:
      W: (m, p), or None.
      H: (p, n), or None.
      names: the names of the p components, or None.
      note: in what sense they are true (exact, up to scale, in expectation).
    """

    W: np.ndarray | None = None
    H: np.ndarray | None = None
    names: tuple[str, ...] | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Dataset:
    """A non-negative matrix V (m×n) of samples in rows, and the meaning of its axes.

    Attributes:
      name: the name it is loaded by (the file's, for `file`).
      V: in floating point, a NumPy array, a `scipy.sparse.csr_array`, or
        `jaxnmf.Observed` for ratings.
      kind: one of `KINDS`, which determines how its factors are shown.
      about: a description in one line.
      source: the origin of the data.
      licence: the licence of the data.
      note: what to know before using the data.
      column_image: (height, width) where the n columns are the pixels, row by row, of
        a picture: then a row of H is a picture.
      row_image: (height, width) where the m rows are the pixels of a scene: then a
        column of W is a map.
      row_names: m names (samples), or None.
      column_names: n names (words, genes, channels, titles), or None.
      labels: (m,) integers, the class of each row, or None.
      label_names: the class names that `labels` index.
      wavelengths: (n,) in nm, or None.
      frequencies: (n,) in Hz, or None.
      times: (m,) in seconds, or None.
      truth: planted or reference factors, or None.
      rank: the rank that is usual in its field, or None.
      loss: the loss that is usual in its field.
      assumed: the separator, header and so on with which a file was read.
      doubts: sentences on which of these may be wrong.
      views: the matrices that V is made of, where they are to share W; else None.

    Raises:
      ValueError: the length of an attribute differs from V's, `kind` is unknown, or V
        of ratings is not `jaxnmf.Observed`.
    """

    name: str
    V: Any
    kind: str
    about: str
    source: str
    licence: str
    note: str = ""
    column_image: tuple[int, int] | None = None
    row_image: tuple[int, int] | None = None
    row_names: tuple[str, ...] | None = None
    column_names: tuple[str, ...] | None = None
    labels: np.ndarray | None = None
    label_names: tuple[str, ...] | None = None
    wavelengths: np.ndarray | None = None
    frequencies: np.ndarray | None = None
    times: np.ndarray | None = None
    truth: Truth | None = None
    rank: int | None = None
    loss: str = "frobenius"
    assumed: Mapping[str, Any] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    views: Views | None = None

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r} must be one of {', '.join(KINDS)}")
        if self.kind == "ratings" and not isinstance(self.V, Observed):
            raise ValueError(
                f"V is a {type(self.V).__name__}; for data of kind 'ratings' expected "
                "jaxnmf.Observed, in which an entry without a rating is unknown"
            )
        m, n = self.shape
        for size, axis, attributes in (
            (m, "row", ("row_names", "labels", "times")),
            (n, "column", ("column_names", "wavelengths", "frequencies")),
        ):
            for attribute in attributes:
                found = getattr(self, attribute)
                if found is not None and len(found) != size:
                    raise ValueError(
                        f"{attribute}: {len(found)} values for the {size} {axis}s of "
                        f"V ({m}×{n}); expected one for each"
                    )
            image = getattr(self, f"{axis}_image")
            if image is not None and image[0] * image[1] != size:
                raise ValueError(
                    f"{axis}_image: {image[0]}×{image[1]} pixels for the {size} "
                    f"{axis}s of V ({m}×{n}); expected height × width = {size}"
                )

    def __repr__(self) -> str:
        m, n = self.shape
        V, count = self.V, ""
        if isinstance(V, Observed):
            V, count = V.values, f", {V.nnz} known"
        elif is_sparse(V):
            count = f", {V.nnz} stored"
        return f"Dataset({self.name!r}, {m}×{n} {V.dtype}{count}, {self.kind})"

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.V.shape

    @property
    def read_as(self) -> str:
        """How the file was read, as a phrase; empty for other data sets."""
        return described(self.assumed)

    @property
    def checksum(self) -> str:
        """SHA-256 over the shape, dtype and values of V; of sparse V over its CSR
        arrays, of `jaxnmf.Observed` over those of its known entries, and of views also
        over their widths and weights."""
        V = self.V
        if isinstance(V, Observed):
            starts = np.searchsorted(V.rows, np.arange(V.shape[0] + 1))
            parts = [starts.astype(np.int64), V.cols.astype(np.int64), V.values]
            if (V.weights != 1).any():
                parts.append(V.weights)
        elif is_sparse(V):
            if not V.has_canonical_format:
                V = V.copy()
                V.sum_duplicates()
            # SciPy chooses the width of the indices, which is not data.
            parts = [V.indptr.astype(np.int64), V.indices.astype(np.int64), V.data]
        else:
            parts = [V]
        if self.views is not None:
            parts += [np.array(self.views.widths, np.int64), self.views.weights]
        kind = V.values.dtype if isinstance(V, Observed) else V.dtype
        digest = hashlib.sha256(f"{self.shape} {kind.str}".encode())
        for part in parts:
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Card:
    """The description of a data set before it is loaded."""

    name: str
    shape: tuple[int, int] | None
    kind: str
    about: str
    source: str
    licence: str
    rank: int | None = None
    loss: str = "frobenius"

    def dataset(self, V: Any, **attributes: Any) -> Dataset:
        """The data set of this card, with V and the attributes loaded with it."""
        known = {key: value for key, value in vars(self).items() if key != "shape"}
        return Dataset(**{**known, "V": V, **attributes})


def as_float(V: Any) -> Any:
    """V in floating point: float32 where every value of it is exact, else float64."""
    values = V.data if is_sparse(V) else V
    if V.dtype.kind == "f":
        exact = V.dtype.itemsize <= 4
    else:
        exact = not values.size or max(-int(values.min()), int(values.max())) <= 2**24
    return V.astype(np.float32 if exact else np.float64, copy=False)
