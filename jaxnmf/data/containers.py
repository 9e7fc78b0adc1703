"""What users keep a matrix in: its numbers, and the names of its rows and columns.

Packages are recognised by name, so that none of them is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnmf.files.labelled import LabelledMatrix


class Names(NamedTuple):
    """The names of the rows and columns of V, arrays of strings; None where they have
    none."""

    rows: np.ndarray | None = None
    columns: np.ndarray | None = None


def contents(V: Any) -> Any:
    """The numbers in a container: an array, a data frame of pandas or SciPy sparse.

    Args:
      V: what `jaxnmf.read` returns, AnnData, or a data frame of polars or an array of
        xarray; anything else is returned as it is.

    Raises:
      ValueError: for a container without a matrix.
    """
    if isinstance(V, LabelledMatrix):
        return V.V
    if _is_of(V, "anndata", "X"):
        return _of_anndata(V)
    if _is_of(V, "xarray"):
        if not hasattr(V, "dims") or not hasattr(V, "dtype"):
            raise ValueError(
                f"V is a {type(V).__name__} of xarray, which contains more than "
                "one array; give one of them, a DataArray of shape (m, n)"
            )
        return V.values
    if _is_of(V, "polars"):
        return _of_polars(V)
    return V


def names_of(V: Any) -> Names:
    """The names of the rows and columns of V, where its container has some.

    The index that pandas and AnnData give to rows without names, 0, 1, 2, …, is none.
    """
    if isinstance(V, LabelledMatrix):
        return Names(_as_names(V.row_names), _as_names(V.column_names))
    if isinstance(names := getattr(V, "names", None), Names):  # of `Blocks`
        return names
    if _is_of(V, "anndata", "X"):
        rows, columns = (_as_names(x) for x in (V.obs_names, V.var_names))
        return Names(_unless_counted(rows), _unless_counted(columns))
    if _is_of(V, "xarray") and len(getattr(V, "dims", ())) == 2:
        given = [V.coords[dim].values if dim in V.coords else None for dim in V.dims]
        return Names(*map(_as_names, given))
    if _is_of(V, "polars", "get_columns"):  # which a LazyFrame has not
        column = _text_column(V)
        rows = None if column is None else V[column].to_list()
        columns = [name for name in V.columns if name != column]
        return Names(_as_names(rows), _as_names(columns))
    if is_frame(V):
        return Names(_of_index(V.index), _of_index(V.columns))
    return Names()


def is_sparse(V: Any) -> bool:
    """Whether V is SciPy sparse, without an import of SciPy."""
    return hasattr(V, "tocsr") and hasattr(V, "nnz")


def concatenated(parts: Sequence[Any], axis: int = 1) -> Any:
    """Matrices beside each other, or below with ``axis`` 0: a NumPy array, or CSR where
    one of them is sparse."""
    if not any(map(is_sparse, parts)):
        return np.concatenate(parts, axis)
    from scipy.sparse import csr_array, hstack, vstack

    stack = (vstack, hstack)[axis]
    return csr_array(stack([csr_array(part) for part in parts]))


def is_frame(X: Any) -> bool:
    """Whether X is a pandas data frame, without an import of pandas."""
    return hasattr(X, "infer_objects") and hasattr(X, "columns")


def _is_of(X: Any, package: str, attribute: str = "") -> bool:
    """Whether the class of X, or one that it extends, is of a package."""
    made = any(c.__module__.partition(".")[0] == package for c in type(X).__mro__)
    return made and (not attribute or hasattr(X, attribute))


def _of_anndata(V: Any) -> Any:
    X = V.X
    if X is None:
        layers = ", ".join(map(repr, getattr(V, "layers", {}))) or "none"
        raise ValueError(
            f"V is AnnData without X; read(V, layer=…) takes a layer ({layers})"
        )
    return X.to_memory() if hasattr(X, "to_memory") else X


def write_to_anndata(
    data: Any, key: str, W: np.ndarray, H: np.ndarray, about: dict[str, Any]
) -> None:
    """Write factors into AnnData, as `Result.write_to` says."""
    if not _is_of(data, "anndata", "X"):
        raise ValueError(f"data is a {type(data).__name__}; expected AnnData")
    shape = len(W), H.shape[1]
    if data.shape != shape:
        raise ValueError(
            f"data has shape {data.shape}; the factors are of a V of shape {shape}"
        )
    data.obsm[f"X_{key}"], data.varm[key], data.uns[key] = W, H.T, about


def _of_polars(V: Any) -> Any:
    if not hasattr(V, "to_numpy"):
        raise ValueError(
            f"V is a {type(V).__name__} of polars, which holds no values yet; give "
            "V.collect()"
        )
    if not hasattr(V, "columns"):  # a series
        return V.to_numpy()
    column = _text_column(V)
    frame = V if column is None else V.drop(column)
    for name, dtype in zip(frame.columns, frame.dtypes, strict=True):
        if not (dtype.is_numeric() or str(dtype) in ("Boolean", "Null")):
            raise ValueError(
                f"V: column {name!r} has dtype {dtype}; every column must contain "
                "numbers, but for a first one of row names"
            )
    return frame.to_numpy()


def _text_column(frame: Any) -> str | None:
    """The first column of a frame of polars where it is text: the names of the rows."""
    if not frame.columns:
        return None
    first = str(frame.dtypes[0])
    text = first.startswith(("String", "Categorical", "Enum"))
    return frame.columns[0] if text else None


def _of_index(index: Any) -> np.ndarray | None:
    """The entries of an index of pandas; None for the one that only counts."""
    return None if type(index).__name__ == "RangeIndex" else _as_names(index)


def _as_names(entries: Iterable[Any] | None) -> np.ndarray | None:
    """Entries as text; those with more than one level joined."""
    if entries is None:
        return None
    joined = [
        "/".join(map(str, x)) if isinstance(x, tuple) else str(x) for x in entries
    ]
    return np.array(joined, dtype=str)


def _unless_counted(names: np.ndarray | None) -> np.ndarray | None:
    counted = names is not None and names.tolist() == list(map(str, range(len(names))))
    return None if counted else names
