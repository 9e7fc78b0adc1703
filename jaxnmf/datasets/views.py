"""Several files of the same rows, as views that share W."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, no_type_check

import numpy as np

from jaxnmf.data.containers import concatenated, is_sparse
from jaxnmf.data.views import Views
from jaxnmf.datasets.base import Card, Dataset, as_float
from jaxnmf.files.labelled import LabelledMatrix

VIEWS = Card(
    name="views",
    shape=None,
    kind="table",
    about="several files of your own, of the same rows: views that share W",
    source="",
    licence="your own",
)


@no_type_check  # it checks its settings itself
def views(
    paths: Sequence[str | os.PathLike[str]],
    weights: Sequence[float] | None = None,
    transpose: bool = False,
) -> Dataset:
    """The matrices in several files, whose rows are the same samples: joint NMF.

    Args:
      paths: of files that `jaxnmf.read` reads. Missing values are unknown entries, with
        ``mask="nan"``.
      weights: ω_k > 0, one for each file; all 1 by default.
      transpose: exchange rows and columns of each.

    Returns:
      The data set. V is all of them beside each other, the names of its columns with
      that of their file; ``views`` are the matrices apart, with their weights.

    Raises:
      ValueError: a file cannot be read, or the rows of two are named otherwise.
    """
    from jaxnmf.files.matrices import read

    if isinstance(paths, str | os.PathLike) or not len(paths):
        raise ValueError(f"paths: {paths!r} is not a list of at least one file")
    found = [read(path, transpose=transpose) for path in paths]
    return dataset_of_views(found, paths, weights)


def dataset_of_views(
    found: Sequence[LabelledMatrix],
    paths: Sequence[str | os.PathLike[str]],
    weights: Sequence[float] | None = None,
) -> Dataset:
    """The data set of what was read from several files."""
    stems = [Path(path).stem for path in paths]
    if len(set(stems)) < len(stems):
        stems = [f"{k} {stem}" for k, stem in enumerate(stems, 1)]
    each = [as_float(one.V) for one in found]
    own = Views([_masked(V) for V in each], weights)
    columns = [
        f"{stem}: {name}"
        for stem, one in zip(stems, found, strict=True)
        for name in one.column_names or range(1, one.shape[1] + 1)
    ]
    return VIEWS.dataset(
        concatenated(each),
        name="+".join(stems),
        source=", ".join(map(str, paths)),
        row_names=_row_names(found, stems),
        column_names=tuple(columns),
        doubts=tuple(
            f"{stem}: {doubt}"
            for stem, one in zip(stems, found, strict=True)
            for doubt in one.doubts
        ),
        views=own,
    )


def _masked(V: Any) -> Any:
    """V, masked where its values are missing."""
    missing = not is_sparse(V) and np.isnan(V).any()
    return np.ma.masked_invalid(V) if missing else V


def _row_names(found: Sequence[LabelledMatrix], stems: Sequence[str]) -> Any:
    """The names of the rows, which all files that name them name alike."""
    named = [(stem, one.row_names) for stem, one in zip(stems, found, strict=True)]
    named = [(stem, names) for stem, names in named if names is not None]
    if not named:
        return None
    first, names = named[0]
    for stem, others in named[1:]:
        for i, (one, other) in enumerate(zip(names, others, strict=True)):
            if one != other:
                raise ValueError(
                    f"paths: row {i + 1} is {one!r} in {first} and {other!r} in {stem};"
                    " the rows of all files must be the same, in one order"
                )
    return names
