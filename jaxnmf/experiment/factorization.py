"""`jaxnmf factorize`: one file in, factors and a page out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxnmf._util.disk import put
from jaxnmf._util.memory import free_memory
from jaxnmf.data.blocks import Blocks
from jaxnmf.data.containers import is_sparse, names_of
from jaxnmf.data.spread import Spread
from jaxnmf.data.views import Views
from jaxnmf.datasets import load
from jaxnmf.datasets.base import Dataset
from jaxnmf.datasets.files import FILE, dataset_of
from jaxnmf.datasets.views import dataset_of_views
from jaxnmf.experiment.jobs.job import how_read
from jaxnmf.experiment.report.factorization import factorization_page
from jaxnmf.factorize import factorize
from jaxnmf.files.blocks import has_blocks
from jaxnmf.files.labelled import LabelledMatrix, count_missing
from jaxnmf.files.matrices import is_matrix, read
from jaxnmf.result import Result

FORMATS = ("csv", "parquet")
OF_BLOCKS = {"key", "layer"}  # the options of reading that blocks have
ARCHIVE, PAGE = "factors.npz", "index.html"


def factorize_file(
    path: str | Sequence[str],
    rank: int,
    out: str,
    *,
    form: str = "csv",
    reading: Mapping[str, Any] | None = None,
    blocks: bool = False,
    weights: str | None = None,
    say: Callable[[str], object] | None = None,
    **settings: Any,
) -> tuple[Result, list[Path]]:
    """Factorise the matrix in a file and write the result. Files are written last, each
    completely or not at all; of several processes that do this together by the first,
    but for the parts of factors that are spread over them.

    Args:
      path: what `jaxnmf.read` reads, or a folder of texts (`.txt`), whose words are
        counted as by the data set `documents`; several files are views that share W.
      rank: p.
      out: a file that ends in .npz, for the result alone; or a folder, which may exist,
        for ``factors.npz``, W and H as tables with names, and ``index.html``.
      form: of the tables, "csv" or "parquet".
      reading: options of `jaxnmf.read`.
      blocks: read the file block by block (`jaxnmf.Blocks`), as one that is larger than
        the free memory is in any case, where its form allows it.
      weights: of views, numbers with commas between.
      say: is called with how the file was read and what may be wrong about that,
        before the run.
      settings: of `jaxnmf.factorize`; ``loss`` may be names with commas between.

    Returns:
      The result, and the files.

    Raises:
      ValueError: for what cannot be read, factorised or written.
    """
    place = Path(out).expanduser()
    single = place.suffix == ".npz"
    if place.is_dir() if single else place.exists() and not place.is_dir():
        raise ValueError(
            f"out: {out!r} is a {'folder' if single else 'file'}; give a folder, or a "
            "file that ends in .npz"
        )
    paths = [path] if isinstance(path, str) else list(path)
    if "," in settings.get("loss", ""):
        settings["loss"] = settings["loss"].split(",")
    if len(paths) == 1:
        if weights is not None:
            raise ValueError(f"weights={weights!r} are of several files; there is one")
        found, dataset = _read(paths[0], reading or {}, blocks)
    else:
        mask = settings.pop("mask", None)  # which views have themselves
        found, dataset = _read_views(paths, reading or {}, blocks, weights, mask)
    if say is not None and jax.process_index() == 0:
        for sentence in how_read(dataset):
            say(sentence)
    result = factorize(found, rank, **{"loss": dataset.loss, **settings})
    if dataset.views is not None:  # with the names of their files
        axes = dataset.row_names, dataset.column_names
        result = result.named(names_of(LabelledMatrix(dataset.V, *axes)))
    first = jax.process_index() == 0
    if single:
        place.parent.mkdir(parents=True, exist_ok=True)
        if first or isinstance(result.__dict__["W"], Spread):
            result.save(place)
        return result, [place]
    tables = {
        f"{name}.{form}": _table(frame, form)
        for name, frame in result.frames()._asdict().items()
    }
    files = [place / name for name in (ARCHIVE, *tables, PAGE)]
    if not first:
        return result, files
    try:
        place.mkdir(parents=True, exist_ok=True)
        result.save(place / ARCHIVE)
        for name, data in tables.items():
            put(place / name, data)
        page = factorization_page(dataset, result, [ARCHIVE, *tables])
        put(place / PAGE, page.encode())
    except OSError as error:
        raise ValueError(f"out: {out!r} cannot be written ({error})") from error
    return result, files


def _read(path: str, reading: Mapping[str, Any], blocks: bool) -> tuple[Any, Dataset]:
    """What a file or folder contains, and as a data set."""
    place = Path(path).expanduser()
    if blocks or (_too_large(place) and not set(reading) - OF_BLOCKS):
        return _in_blocks(path, reading)
    if place.is_dir() and any(place.glob("**/*.txt")) and not is_matrix(place):
        for name in reading:
            raise ValueError(f"{name}: '{path}' is a folder of texts")
        dataset = load("documents", path=path)
        return LabelledMatrix(
            dataset.V, dataset.row_names, dataset.column_names
        ), dataset
    found = read(path, **reading)
    return found, dataset_of(found, path)


def _read_views(
    paths: list[str],
    reading: Mapping[str, Any],
    blocks: bool,
    weights: str | None,
    mask: str | None,
) -> tuple[Views, Dataset]:
    """What several files contain, as views and as a data set."""
    if blocks:
        raise ValueError("blocks: several files are views, which are in memory")
    try:
        numbers = None if weights is None else [float(x) for x in weights.split(",")]
    except ValueError:
        raise ValueError(f"weights={weights!r} must be numbers, such as 1,2") from None
    found = [read(path, **reading) for path in paths]
    for path, one in zip(paths, found, strict=True):
        if mask is None and not is_sparse(one.V) and count_missing(one.V):
            raise ValueError(
                f"{path!r} has missing values: --mask nan takes them as unknown"
            )
    dataset = dataset_of_views(found, paths, numbers)
    assert dataset.views is not None
    return dataset.views, dataset


def _in_blocks(path: str, reading: Mapping[str, Any]) -> tuple[Blocks, Dataset]:
    """The blocks of a file, and as a data set."""
    for name in set(reading) - OF_BLOCKS:
        raise ValueError(
            f"{name}: '{path}' is read block by block; jaxnmf convert writes another "
            "file with this option, of which that is possible"
        )
    V = Blocks(path, **reading)
    names = zip(("row_names", "column_names"), V.names, strict=True)
    given = {name: None if x is None else tuple(x.tolist()) for name, x in names}
    return V, FILE.dataset(V, name=Path(path).stem, source=path, **given)


def _too_large(place: Path) -> bool:
    """Whether a file that can be read block by block is larger than the free memory."""
    free = free_memory()
    if free is None or not place.exists() or not has_blocks(place):
        return False
    files = place.rglob("*") if place.is_dir() else [place]
    return sum(one.stat().st_size for one in files) > free


def _table(frame: Any, form: str) -> bytes:
    """A factor as the bytes of a file."""
    if form == "csv":
        return frame.to_csv().encode()
    return frame.rename(columns=str).to_parquet()
