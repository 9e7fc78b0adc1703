"""Results in files: one NumPy archive each, without pickles."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnmf._util.disk import DAMAGED, npz, put, read_arrays
from jaxnmf._version import __version__
from jaxnmf.data.spread import Pieces, Spread, least, pieces_of
from jaxnmf.fold_in import Model
from jaxnmf.objective.by_view import ByView
from jaxnmf.objective.constraints import CONSTRAINTS, Free
from jaxnmf.objective.losses import Loss
from jaxnmf.objective.penalties import Penalty
from jaxnmf.registry import loss_class, losses, make_loss, options

FORMAT = 1
_PROJECTS = {**CONSTRAINTS, Free.name: Free}


def write(
    path: str | Path,
    about: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    model: Model | None,
) -> Path:
    """Write a result to a file, completely or not at all; ".npz" is added to the path
    where it ends otherwise.

    Args:
      path: the file.
      about: what is no array, for JSON.
      arrays: by name; what is spread over processes each writes its pieces of, beside
        the file, which the first process writes.
      model: what new rows are fitted with.

    Returns:
      The path of the file.

    Raises:
      ValueError: for a folder that does not exist.
    """
    path = Path(path)
    path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
    if not path.parent.is_dir():
        raise ValueError(f"path={str(path)!r}: there is no folder {path.parent}")
    spread = {name: x for name, x in arrays.items() if isinstance(x, Spread)}
    arrays = {name: x for name, x in arrays.items() if name not in spread}
    processes = jax.process_count() if spread else 1
    about = {
        "format": FORMAT,
        "jaxnmf": __version__,
        **about,
        "processes": processes,
        "model": _model(model, arrays),
    }
    with _in_all(path, processes > 1):
        if spread:
            pieces: dict[str, np.ndarray] = {}
            for name, x in spread.items():
                pieces |= pieces_of(x.array, name, once=True, places=x.places)
            put(_beside(path, jax.process_index(), processes), npz(pieces))
    with _in_all(path, processes > 1):
        if not spread or jax.process_index() == 0:
            put(path, npz({**arrays, "about": np.array(json.dumps(about))}))
    return path


def _beside(path: Path, process: int, processes: int) -> Path:
    """The file with the pieces of a process."""
    return path.with_name(f"{path.stem}-{process}of{processes}.npz")


@contextlib.contextmanager
def _in_all(path: Path, together: bool) -> Iterator[None]:
    """Where it fails in one of several processes, it fails in all."""
    wrong: OSError | None = None
    try:
        yield
    except OSError as error:
        wrong = error
    if least(0 if wrong else 1, together) == 0:
        raise wrong or OSError(f"{path} was not written by another process")


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray], Any]:
    """What `write` wrote: what is no array, the arrays, and the model.

    Raises:
      ValueError: the file is missing, damaged or none of a result, or was written by a
        later version in a form that this one does not know.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"path={str(path)!r}: there is no such file")
    with refused(path, *DAMAGED):
        arrays = read_arrays(path)
        about = json.loads(str(arrays.pop("about")))
        number = int(about["format"])
        processes = int(about.get("processes", 1))
    if number > FORMAT:
        raise ValueError(
            f"path={str(path)!r} was written by jaxnmf {about.get('jaxnmf')} in format "
            f"{number}; this is jaxnmf {__version__}, which reads up to {FORMAT}"
        )
    if processes > 1:
        arrays |= _joined(path, processes)
    with refused(path):
        return about, arrays, _made(about["model"], arrays)


def _joined(path: Path, processes: int) -> dict[str, np.ndarray]:
    """W and H, as far as they are in the files of several processes."""
    pieces: dict[str, np.ndarray] = {}
    for process in range(processes):
        beside = _beside(path, process, processes)
        if not beside.is_file():
            raise ValueError(
                f"path={str(path)!r} was written by {processes} processes, and there "
                f"is no file {beside.name}"
            )
        with refused(beside, *DAMAGED):
            pieces |= read_arrays(beside)
    whole = (slice(None),) * 2
    with refused(path):
        found = {
            name: Pieces(pieces, name).read(whole)
            for name in "WH"
            if f"{name}/shape" in pieces
        }
    if "W" in found:
        found["W"] = np.ascontiguousarray(found["W"].T)
    return found


@contextlib.contextmanager
def refused(path: str | Path, *errors: type[Exception]) -> Iterator[None]:
    """Turn what the parts of another file raise into a ValueError that names it."""
    try:
        yield
    except (*errors, AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"path={str(path)!r} is not a complete file of a result, as Result.save "
            f"writes it ({type(error).__name__})"
        ) from None


def _model(model: Model | None, arrays: dict[str, Any]) -> dict[str, Any] | None:
    """A JSON description of the model, its arrays among ``arrays``; None where its loss
    has no name."""
    loss = None if model is None else _named_loss(model.loss)
    if model is None or loss is None:
        return None
    for part in ("project", "penalty"):
        for field in dataclasses.fields(getattr(model, part)):
            value = getattr(getattr(model, part), field.name)
            if value is not None:
                arrays[f"model.{part}.{field.name}"] = np.asarray(value)
    return {
        "loss": loss,
        "project": model.project.name,
        "signed": sorted(model.signed),
        "offsets": model.offsets,
        "dtype": model.dtype,
    }


def _named_loss(loss: Loss) -> Any:
    """[name, options], of a loss for each view {"losses": these, "weights": …}; None
    for one without a name."""
    if loss.losses:
        each = [_named_loss(one) for one in loss.losses]
        weights = [float(x) for x in loss.weights]  # pyright: ignore
        return None if None in each else {"losses": each, "weights": weights}
    name = type(loss).name
    if name not in losses() or not isinstance(loss_class(name), type):
        return None
    given = {option.name: getattr(loss, option.name) for option in options(type(loss))}
    return [name, {k: np.asarray(x).item() for k, x in given.items()}]


def _made_loss(about: Any) -> Loss:
    """The inverse of `_named_loss`."""
    if isinstance(about, Mapping):
        made = tuple(_made_loss(one) for one in about["losses"])
        return ByView(losses=made, weights=tuple(about["weights"]))
    return make_loss(*about)


def _made(about: Mapping[str, Any] | None, arrays: Mapping[str, Any]) -> Model | None:
    """The inverse of `_model`."""
    if about is None:
        return None

    def part(cls: Any, name: str) -> Any:
        given = {
            field.name: arrays[key]
            for field in dataclasses.fields(cls)
            if (key := f"model.{name}.{field.name}") in arrays
        }
        statics = {f.name for f in dataclasses.fields(cls) if f.metadata.get("static")}
        return cls(**{k: x.item() if k in statics else x for k, x in given.items()})

    return Model(
        loss=_made_loss(about["loss"]),
        project=part(_PROJECTS[about["project"]], "project"),
        penalty=part(Penalty, "penalty"),
        offsets=tuple(about["offsets"]) if about.get("offsets") else None,
        signed=frozenset(about["signed"]),
        dtype=about["dtype"],
    )
