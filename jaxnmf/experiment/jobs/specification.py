"""The specification of a job: what it computes, and the key made from that."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnmf import baselines, registry
from jaxnmf._util.checks import check_amount, check_count, check_list
from jaxnmf._util.describe import described
from jaxnmf._version import __version__
from jaxnmf.baselines import Baseline
from jaxnmf.build import Objective, Start
from jaxnmf.datasets import Dataset
from jaxnmf.experiment import config as configs
from jaxnmf.files.matrices import read
from jaxnmf.joint import Data, data_of
from jaxnmf.objective.graph import grid_graph
from jaxnmf.run.stop import Stop
from jaxnmf.supported import UnsupportedError
from jaxnmf.sweeps.lane import PENALTIES


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Specification:
    """What a job computes of its data set.

    Attributes:
      dataset: the name of the data set, with its options.
      solver: an instance, or a baseline.
      objective, start, stop: as for `jaxnmf.factorize`; the seeds are those below.
      ranks, seeds: of the runs, one for each pair.
      dtype: the precision, also that of the context in which a job is used.
      record_every, record_growth, kkt: what is recorded.
      mask: "nan" if NaN in the data are unknown entries, or None.
      mesh: "rows", "grid" or "auto" for runs, or lanes in turn, on all devices; None.
      holdout: of ratings, what is not trained on.
      select: the method that chooses the rank, with its options, or None.
      settings: the settings that lanes differ in, with their values, or None.
    """

    dataset: Mapping[str, Any]
    solver: Any
    objective: Objective
    start: Start
    stop: Stop
    ranks: list[int]
    seeds: list[int]
    dtype: str
    record_every: int
    record_growth: float
    kkt: bool
    mask: str | None
    mesh: str | None
    holdout: Mapping[str, Any]
    select: Mapping[str, Any] | None
    settings: Mapping[str, list[float]] | None

    @classmethod
    def of(cls, config: Mapping[str, Any], dataset: Dataset) -> Specification:
        """The specification of a resolved `StudyConfig` and the data set it names.

        Raises:
          ValueError: for a setting that does not fit, before anything is run.
        """
        if config["select"] and config["sweep"]:
            raise ValueError(
                f"select={config['select']['name']} and sweep={list(config['sweep'])}: "
                "a job is one or the other"
            )
        if dataset.kind != "ratings":
            _check_ratings_only(config, dataset)
        mask = _checked_mask(config["mask"], dataset)
        ranks = config["ranks"]
        if ranks is None:  # the rank that the data set's own field uses
            ranks = [dataset.rank] if dataset.rank else []
        check_count("record_every", config["record_every"])
        check_amount("record_growth", config["record_growth"])
        loss, loss_options = configs.loss_of(config["loss"])
        # Baselines have no lanes.
        in_lanes = config["select"] or config["sweep"]
        make = registry.make_solver if in_lanes else make_solver
        solver = make(*configs.split_name(config["solver"]))
        return cls(
            dataset=config["dataset"],
            solver=solver,
            objective=Objective.of(
                loss,
                loss_options=loss_options,
                l1=config["l1"],
                l2=config["l2"],
                toward=_toward(config["toward"], dataset),
                constraints=config["constraints"],
                offsets=config["offsets"],
                known_W=config["known_W"] and read(config["known_W"]),
                known_H=config["known_H"] and read(config["known_H"]),
                covariates=config["covariates"] and read(config["covariates"]),
                batch=_batch(config["batch"], dataset),
                graph=_graph(config["graph"], dataset),
                graph_weight=config["graph_weight"],
            ),
            start=Start.of(config["init"]["name"]),
            stop=Stop.of(**config["stop"]),
            ranks=check_list("ranks", ranks, 1),
            seeds=check_list("seeds", config["seeds"], 0),
            dtype=config["dtype"],
            record_every=config["record_every"],
            record_growth=config["record_growth"],
            kkt=config["kkt"],
            mask=mask,
            mesh=config["mesh"],
            holdout=config["holdout"],
            select=config["select"] or None,
            settings={k: v for k, v in (config["sweep"] or {}).items() if k != "name"}
            or None,
        )

    def __post_init__(self) -> None:
        # A package that has none of these would not know of them.
        asked = sorted(self.objective.asked)
        if asked and isinstance(self.solver, Baseline):
            raise UnsupportedError(
                f"{', '.join(asked)}: solver {self.solver.name!r} does not support it"
            )

    def data(self, dataset: Dataset, V: Any) -> Data:
        """V of the data set, or its views, for the objective."""
        views, own = dataset.views, frozenset(self.settings or ()) & set(PENALTIES)
        if views is not None:  # what is missing they have masked themselves
            given: Any = views, None, self.objective, None
        else:
            given = V, None, self.objective, self.mask
        return data_of(*given, mesh=self.mesh, settings=own)

    def key(self, checksum: str) -> str:
        """The name of the job's folder: readable parts, and a hash of the description
        of all that it computes, of the data and of the version of the package."""
        text = json.dumps([described(self), checksum, __version__])
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        parts = [self.dataset["name"], self.objective.loss.name, self.solver.name]
        if self.select:
            parts.append(self.select["name"])
        return "-".join([*parts, *(self.settings or ()), digest])


def make_solver(name: str, options: Mapping[str, Any]) -> Any:
    """A solver of the registry, or a baseline."""
    peer = name in baselines.names()
    return (baselines.make if peer else registry.make_solver)(name, options)


def _toward(given: Any, dataset: Dataset) -> Any:
    """What a config names that l2 shrinks to: a name, or a pair of matrices."""
    if given == "mean" and dataset.kind != "ratings":
        raise ValueError(
            f"toward='mean' is for data of kind 'ratings', of which entries are "
            f"unknown; {dataset.name!r} is of kind {dataset.kind!r} and supports "
            "'zero', or a pair (for W, for H) of files of targets"
        )
    if not isinstance(given, list):
        return given
    return tuple(path and read(path) for path in given)


def _batch(given: str | None, dataset: Dataset) -> list[str] | None:
    """The labels of batches that a config names."""
    if given is None:
        return None
    if given != "labels":
        try:
            text = Path(given).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"batch: {given!r} cannot be read ({error})") from None
        return text.splitlines()
    if dataset.labels is None:
        raise ValueError(
            f"batch=labels: the rows of {dataset.name!r} have none; give the path of a "
            "file with a label a line"
        )
    names = dataset.label_names
    return [names[k] if names else str(k) for k in dataset.labels]


def _graph(given: Any, dataset: Dataset) -> Any:
    """The graphs of rows and columns that a config names."""
    if len(given) != 2:
        raise ValueError(
            f"graph={given!r} must be a pair (of rows, of columns), such as [grid,null]"
        )
    sides = zip(given, ("row_image", "column_image"), strict=True)
    pair = tuple(_neighbours(one, dataset, image) for one, image in sides)
    return None if pair == (None, None) else pair


def _neighbours(given: str | None, dataset: Dataset, image: str) -> Any:
    """The graph of a picture's pixels, or the one in a file."""
    if given != "grid":
        return given and read(given).V
    if (size := getattr(dataset, image)) is None:
        raise ValueError(
            f"graph=grid: the {image.removesuffix('_image')}s of {dataset.name!r} are "
            "not the pixels of a picture; give the path of a matrix"
        )
    return grid_graph(*size)


def _checked_mask(mask: Any, dataset: Dataset) -> str | None:
    """The mask, if it is possible for the data and they need no other."""
    if mask not in (None, "nan"):
        raise ValueError(f"mask={mask!r} is neither 'nan' nor null")
    V = dataset.V
    dense = isinstance(V, np.ndarray)
    if mask is not None and not dense:
        raise ValueError(
            f"mask='nan' is for dense data with missing values; those of "
            f"{dataset.name!r} are {type(V).__name__}"
        )
    if mask is None and dense and (missing := np.isnan(V)).any():
        i, j = (int(first) for first in np.argwhere(missing)[0])
        row = dataset.row_names[i] if dataset.row_names else i + 1
        column = dataset.column_names[j] if dataset.column_names else j + 1
        count = int(missing.sum())
        raise ValueError(
            f"dataset={dataset.name!r} has {count} missing value{'s' * (count > 1)}, "
            f"the first in row {row}, column {column}: set mask=nan if they are "
            "unknown entries"
        )
    return mask


def _check_ratings_only(config: Mapping[str, Any], dataset: Dataset) -> None:
    for name, default in configs.RATINGS_ONLY.items():
        if config[name] != default:
            raise ValueError(
                f"{name}={config[name]!r} is for data of kind 'ratings', of which "
                f"entries are unknown; {dataset.name!r} is of kind {dataset.kind!r} "
                f"and supports the default alone, {default!r}"
            )
