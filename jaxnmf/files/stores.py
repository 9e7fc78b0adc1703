"""HDF5 files and Zarr folders: AnnData, matrices of 10x Genomics, and plain arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from jaxnmf.files.labelled import (
    ContentError,
    LabelledMatrix,
    as_csr,
    check_memory,
)
from jaxnmf.files.ten_x import unique

DESCRIPTIONS = (".zarray", ".zgroup", "zarr.json")
TEN_X = {"data", "indices", "indptr", "shape", "barcodes"}


def is_zarr(folder: Path) -> bool:
    """Whether a folder is one of Zarr."""
    return any((folder / name).is_file() for name in DESCRIPTIONS)


def read_store(
    place: Path, key: str | None = None, layer: str | None = None
) -> LabelledMatrix:
    """Read a matrix from an HDF5 file or a Zarr folder.

    Args:
      key: the path of a plain array in it.
      layer: of AnnData, in place of X.

    Raises:
      ContentError: a package is missing, or there is not one matrix.
    """
    with _opened(place) as root:
        if not _is_group(root):
            return LabelledMatrix(_loaded(root))
        if key is not None:
            return LabelledMatrix(_loaded(_matrix_at(root, key)))
        if root.attrs.get("encoding-type") == "anndata" or place.suffix == ".h5ad":
            return _anndata(root, layer)
        if layer is not None:
            raise ContentError("is not of AnnData, which alone has layers")
        cells = _ten_x_groups(root)
        if cells:
            return _ten_x(cells[0])
        return LabelledMatrix(_loaded(_only_matrix(root)))


def opened_store(place: Path) -> Any:
    """The root of an HDF5 file or a Zarr folder, open for as long as it is used."""
    if place.is_dir():
        zarr = needed("zarr")
        _refuse_pickles(place)
        return zarr.open(place, mode="r")
    return needed("h5py").File(place, "r")


def rows_of_store(
    root: Any, place: Path, key: str | None, layer: str | None
) -> tuple[Any, Any, Any]:
    """A matrix of which rows can be read alone, and the names of rows and columns.

    Returns:
      (V, row names, column names): V an array of the store, or the parts of a CSR
      matrix by name, with its shape.
    """
    if not _is_group(root):
        return root, None, None
    if key is not None:
        return _matrix_at(root, key), None, None
    if root.attrs.get("encoding-type") == "anndata" or place.suffix == ".h5ad":
        stored = _stored_anndata(root, layer)
        return _sliced(stored), _names(root, "obs"), _names(root, "var")
    if layer is not None:
        raise ContentError("is not of AnnData, which alone has layers")
    cells = _ten_x_groups(root)
    if cells:
        parts = {name: cells[0][name] for name in ("data", "indices", "indptr")}
        return {**parts, "shape": cells[0]["shape"][()][::-1]}, None, None
    return _only_matrix(root), None, None


def _sliced(stored: Any) -> Any:
    """A matrix of AnnData, dense or the parts of its rows."""
    if not _is_group(stored):
        return stored
    kind = stored.attrs.get("encoding-type")
    if kind != "csr_matrix":
        raise ContentError(
            f"stores a {kind}, by columns; jaxnmf convert stores it by rows"
        )
    parts = {name: stored[name] for name in ("data", "indices", "indptr")}
    return {**parts, "shape": stored.attrs["shape"]}


def needed(package: str) -> Any:
    """A package of the extra `files`.

    Raises:
      ContentError: it is not installed.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise ContentError(
            f"needs the package {error.name} to be read; pip install 'jaxnmf[files]'"
        ) from None


@contextmanager
def _opened(place: Path) -> Iterator[Any]:
    root = opened_store(place)
    if place.is_dir():
        yield root
    else:
        with root:
            yield root


def _refuse_pickles(folder: Path) -> None:
    """Raise a ContentError where a codec of a Zarr folder is pickle."""

    def pickled(x: Any) -> bool:
        if isinstance(x, dict):
            names = (str(x.get(key)) for key in ("id", "name"))
            return any("pickle" in name for name in names) or pickled([*x.values()])
        return isinstance(x, list) and any(map(pickled, x))

    for name in (".zarray", "zarr.json", ".zmetadata"):
        for place in folder.rglob(name):
            if pickled(json.loads(place.read_text("utf-8"))):
                raise ContentError("contains pickled data, which are never loaded")


def _is_group(x: Any) -> bool:
    return hasattr(x, "keys")


def _is_matrix(x: Any) -> bool:
    return x.ndim == 2 and x.dtype.kind in "buif"


def _arrays(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every array in a group and the groups in it, by path."""
    for name in sorted(group):
        if _is_group(group[name]):
            yield from _arrays(group[name], f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", group[name]


def _ten_x_groups(root: Any) -> list[Any]:
    """The groups of a file that hold a matrix of 10x Genomics."""
    inner = (root[name] for name in root)
    groups = [root, *(x for x in inner if _is_group(x))]
    return [group for group in groups if set(group) >= TEN_X]


def _only_matrix(root: Any) -> Any:
    """The one array of numbers with two axes."""
    found = dict(_arrays(root))
    matrices = [name for name, array in found.items() if _is_matrix(array)]
    if len(matrices) != 1:
        listed = ", ".join(f"{name} {x.shape}" for name, x in found.items())
        raise ContentError(
            f"contains {len(matrices)} 2-D arrays of numbers "
            f"({listed or 'no arrays'}); expected one, or set key to the name of "
            "the array to read"
        )
    return found[matrices[0]]


def _matrix_at(root: Any, key: str) -> Any:
    found = root.get(key)
    if found is None or _is_group(found):
        names = [name for name, _ in _arrays(root)]
        raise ContentError(f"has no array {key!r}; it has {', '.join(names[:20])}")
    return found


def _loaded(array: Any) -> np.ndarray:
    """The entries of an array, where they are numbers and there is memory for them."""
    if array.dtype.kind in "buif":
        check_memory(int(np.prod(array.shape)) * array.dtype.itemsize)
        return array[()] if array.ndim else np.asarray(array[()])
    raise ContentError(
        f"has an array of dtype {array.dtype}; expected a 2-D array of real numbers"
    )


def _stored_anndata(root: Any, layer: str | None) -> Any:
    """X or a layer of AnnData, as it is stored."""
    key = "X" if layer is None else f"layers/{layer}"
    if key not in root:
        layers = ", ".join(map(repr, root["layers"])) if "layers" in root else ""
        has = f"has no X and no layer={layer!r}" if layer else "has no X"
        raise ContentError(f"{has}; its layers: {layers or 'none'}")
    return root[key]


def _names(root: Any, side: str) -> tuple[str, ...] | None:
    """The names of the cells ("obs") or genes ("var") of AnnData."""
    column = root[side].attrs.get("_index", "_index")
    found = tuple(map(str, needed("anndata.io").read_elem(root[side][column])))
    counted = found == tuple(map(str, range(len(found))))
    return None if counted else found


def _anndata(root: Any, layer: str | None) -> LabelledMatrix:
    """X or a layer of AnnData, and the names of cells and genes."""
    read_elem = needed("anndata.io").read_elem
    stored = _stored_anndata(root, layer)
    parts = [stored[name] for name in stored] if _is_group(stored) else [stored]
    check_memory(sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in parts))
    V = read_elem(stored)
    given = {} if layer is None else {"layer": layer}
    V = as_csr(V) if hasattr(V, "tocsr") else V
    return LabelledMatrix(V, _names(root, "obs"), _names(root, "var"), given)


def _ten_x(group: Any) -> LabelledMatrix:
    """Cells × features, of which 10x stores the columns of the transpose."""
    from scipy.sparse import csr_array

    features = group.get("features", group)
    ids, names = (
        [x.decode() for x in features[new if new in features else old][()]]
        for new, old in (("id", "genes"), ("name", "gene_names"))
    )
    parts = (_loaded(group[name]) for name in ("data", "indices", "indptr"))
    n, m = map(int, group["shape"][()])
    V = as_csr(csr_array(tuple(parts), shape=(m, n)))
    rows = tuple(x.decode() for x in group["barcodes"][()])
    return LabelledMatrix(V, rows, unique(names, ids))
