"""Hydra's schemas, made from the registries and checked by type.

Nothing here names a solver, a loss or a data set: each registry entry becomes a
schema with its options, so a mistyped key, a wrong type or an unknown name is
refused by name, and another package's solver can be configured like any other.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from jaxnmf import baselines, datasets, ratings, registry
from jaxnmf.init.start import INITS
from jaxnmf.selection import METHODS


@dataclasses.dataclass
class HoldoutConfig:
    """The ratings that are held out of training (`jaxnmf.ratings.split`)."""

    test: float = 0.2
    validation: float = 0.1
    folds: int = 0


@dataclasses.dataclass
class StudyConfig:
    """The root of every config: a job and its runs."""

    dataset: Any = MISSING
    loss: Any = MISSING
    solver: Any = MISSING
    init: Any = MISSING
    stop: Any = MISSING
    # A list of integers, an integer for a list of one, or null for the data set's own.
    ranks: Any = field(default_factory=lambda: [8, 16, 32])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    l1: list[float] = field(default_factory=lambda: [0.0, 0.0])
    l2: list[float] = field(default_factory=lambda: [0.0, 0.0])
    constraints: list[str] = field(default_factory=lambda: ["nonnegative"] * 2)
    # Files of what is known of the factors, (m, k) and (k, n), empty where it is free.
    known_W: str | None = None  # noqa: N815
    known_H: str | None = None  # noqa: N815
    # Files of columns of W that are known, (m, k), and of a label a line; "labels" are
    # the classes of the data set's rows.
    covariates: str | None = None
    batch: str | None = None
    # (Of rows, of columns): each null, "grid" for the pixels of a picture, or the path
    # of a matrix of weights.
    graph: list[str | None] = field(default_factory=lambda: [None, None])
    graph_weight: list[float] = field(default_factory=lambda: [1.0, 1.0])
    mask: str | None = None  # "nan": missing values of the data set are unknown
    # A method of `select_rank`; the settings of a sweep in lanes, name → values.
    select: Any = None
    sweep: Any = None
    # "zero", for ratings "mean", or (for W, for H) null or the file of a matrix.
    toward: Any = "zero"
    # Only for data of kind "ratings".
    offsets: Any = False
    holdout: HoldoutConfig = field(default_factory=HoldoutConfig)
    dtype: str = "float32"
    record_every: int = 10
    record_growth: float = 0.0
    mesh: str | None = None  # "rows", "grid", "auto": all devices for each run
    kkt: bool = False
    # The settings below do not change results.
    name: str = "run"
    folder: str | None = None
    mlflow: str | None = None  # a tracking URI
    exclusive: int = 0  # cores, or devices, that a process takes for itself


BY_VIEW = "by-view"
"""The name of a loss for each view, in the group of losses."""


_schemas: dict[str, Any] = {
    "StudyConfig": StudyConfig,
    "HoldoutConfig": HoldoutConfig,
}
RATINGS_ONLY: dict[str, Any] = {
    "offsets": False,
    "holdout": dataclasses.asdict(HoldoutConfig()),
}
"""The settings that only ratings support, and their defaults."""


def _schema(kind: str, name: str, options: Any) -> Any:
    """An unfrozen dataclass: OmegaConf makes a frozen one read-only."""
    fields: list[Any] = [("name", str, field(default=name))]
    for option in options:
        default = option.default
        if isinstance(default, Mapping):
            fields.append((option.name, Any, field(default_factory=dict)))
            continue
        if default is inspect.Parameter.empty:
            fields.append((option.name, Any, field(default=MISSING)))
            continue
        hint = option.type if option.type in (bool, int, float, str) else Any
        if default is None and hint is not Any:
            hint = hint | None
        if hint is float:
            default = None if default is None else float(default)
        fields.append((option.name, hint, field(default=default)))
    title = f"{kind.capitalize()}_{name.replace('-', '_')}"
    _schemas[title] = make_dataclass(title, fields)
    return _schemas[title]


def known_keys(schema: str) -> list[str]:
    """The settings of a schema by the class name in OmegaConf's errors; none for
    Hydra's own schemas."""
    found = _schemas.get(schema)
    return [] if found is None else [f.name for f in dataclasses.fields(found)]


def _dataset_options(name: str) -> list[registry.Option]:
    return [
        registry.Option(key, type(default), default, True)
        for key, default in datasets.options(name).items()
    ]


def solver_names() -> tuple[str, ...]:
    """The solvers of the registry and the baselines."""
    return (*registry.solvers(), *baselines.names())


def solver_class(name: str) -> Any:
    """The class of any of `solver_names`."""
    peer = name in baselines.names()
    return baselines.baseline_class(name) if peer else registry.solver_class(name)


def comparable_solvers(loss: str, *more: str) -> str:
    """The solvers that support any of the losses and minimise the plain objective, as a
    list of Hydra's: ``${solvers:frobenius}``."""
    losses = [registry.make_loss(name) for name in (loss, *more)]
    classes = {name: registry.solver_class(name) for name in registry.solvers()}
    return ",".join(
        name
        for name, cls in classes.items()
        if any(cls.supports.includes(loss) for loss in losses)
        and not getattr(cls, "own_objective", False)
    )


# When this is imported, as the processes of a launcher need them too.
for _name, _resolver in {
    "range": lambda count: list(range(count)),
    "solvers": comparable_solvers,
    "baselines": lambda: ",".join(baselines.names()),
}.items():
    OmegaConf.register_new_resolver(_name, _resolver, replace=True)


def register_configs() -> None:
    """Fill Hydra's config store from the registries."""
    store = ConfigStore.instance()
    store.store(name="schema", node=StudyConfig)
    for name in solver_names():
        options = registry.options(solver_class(name))
        store.store(group="solver", name=name, node=_schema("solver", name, options))
    for name in registry.losses():
        options = registry.options(registry.loss_class(name))
        schema = _schema("loss", name, options)
        for spelling in (name, *registry.loss_aliases(name)):
            store.store(group="loss", name=spelling, node=schema)
    each = registry.Option("losses", list, inspect.Parameter.empty, True)
    store.store(group="loss", name=BY_VIEW, node=_schema("loss", BY_VIEW, [each]))
    for name in datasets.names():
        schema = _schema("dataset", name, _dataset_options(name))
        if name == "ratings":
            usual = ratings.USUAL | {"l2": list(ratings.USUAL["l2"])}
            node = {"dataset": schema, **usual}
            store.store(group="dataset", name=name, node=node, package="_global_")
        else:
            store.store(group="dataset", name=name, node=schema)
    for name, method in METHODS.items():
        schema = _schema("select", name, registry.options(method))
        store.store(group="select", name=name, node=schema)
    for name in INITS:
        store.store(group="init", name=name, node=_schema("init", name, ()))


def resolved(config: DictConfig) -> dict[str, Any]:
    """The config as a plain dict, every interpolation resolved."""
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    found = {str(key): value for key, value in plain.items()}
    if isinstance(found.get("ranks"), int):
        found["ranks"] = [found["ranks"]]
    return found


def split_name(part: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """("hals", {"inner": 2}) from a group's config, without unset options."""
    options = {k: v for k, v in part.items() if k != "name" and v is not None}
    return part["name"], options


def loss_of(part: Mapping[str, Any]) -> tuple[Any, Any]:
    """The loss of a config and its options, lists of these for a loss for each view."""
    if part["name"] != BY_VIEW:
        return split_name(part)
    each = [split_name(one) for one in _losses(part)]
    return [name for name, _ in each], [options for _, options in each]


def _losses(part: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The losses of the views, each as the config of one."""
    given = part["losses"]
    each = [
        one if isinstance(one, Mapping) else {"name": one}
        for one in (given if isinstance(given, list) else [None])
    ]
    if not all(isinstance(one.get("name"), str) for one in each):
        raise ValueError(
            f"loss.losses={given!r} must be a list with a loss for each view, such as "
            "[kl,frobenius] or [kl,{name:huber,delta:2}]"
        )
    return [{**one, "name": registry.loss_name(str(one["name"]))} for one in each]


def label(part: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """A short name: "hals", or "hals inner=2" if an option is not the default."""
    name, options = split_name(part)
    changed = [f"{k}={v}" for k, v in options.items() if v != defaults.get(k)]
    return " ".join([name, *changed])


def model_label(config: Mapping[str, Any]) -> str:
    """A short name of the objective beyond the plain loss: "" or, for example,
    "l2 20, 10 to the mean, offsets"."""
    parts = []
    for name in ("l1", "l2"):
        pair = [f"{x:g}" for x in config.get(name) or (0, 0)]
        if set(pair) != {"0"}:
            parts.append(f"{name} {', '.join(pair)}")
    toward = config.get("toward") or "zero"
    if toward != "zero":
        named = "the mean" if isinstance(toward, str) else _files(toward)
        parts = [" ".join([*parts, f"to {named}"])]
    held = list(config.get("constraints") or ["nonnegative"])
    if set(held) != {"nonnegative"}:
        parts.append(", ".join(held))
    held = ("known_W", "known_H", "covariates", "batch")
    parts += [f"{k} {_files([config[k]])}" for k in held if config.get(k)]
    graph = config.get("graph") or [None, None]
    sides = zip("WH", graph, config.get("graph_weight") or [1.0, 1.0], strict=True)
    alike = [f"{one} {weight:g}" for one, given, weight in sides if given]
    if alike:
        parts.append(f"graph of {', '.join(alike)}")
    offsets = config.get("offsets", False)
    if offsets is not False and offsets is not None:
        given = [] if offsets is True else np.ravel(offsets)
        parts.append(" ".join(["offsets", ", ".join(f"{x:g}" for x in given)]).strip())
    return ", ".join(parts)


def _files(paths: Sequence[str | None]) -> str:
    """The names of files, without their folders."""
    return ", ".join(Path(path).name for path in paths if path)


def labels(config: Mapping[str, Any]) -> dict[str, str]:
    """Short names that distinguish the jobs of a study."""
    loss, named = config["loss"], {"dataset": config["dataset"]["name"]}
    parts = _losses(loss) if loss["name"] == BY_VIEW else [loss]
    return {
        **named,
        "model": model_label(config),
        "loss": "+".join(_label(one, registry.loss_class) for one in parts),
        "solver": _label(config["solver"], solver_class),
    }


def _label(part: Mapping[str, Any], find: Any) -> str:
    """The `label` of a part whose class ``find`` finds."""
    options = registry.options(find(part["name"]))
    return label(part, {option.name: option.default for option in options})
