"""The registry of solvers and losses by name.

Other packages add solvers by an entry point of the group ``jaxnmf.solvers``::

    [project.entry-points."jaxnmf.solvers"]
    mine = "my_package.my_module"
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, dataclass_transform

from jaxnmf._util.callable import make_callable
from jaxnmf._util.names import T, check_free, lookup, suggestion
from jaxnmf.objective.by_view import ByView
from jaxnmf.objective.losses import (
    Beta,
    Frobenius,
    ItakuraSaito,
    KullbackLeibler,
    Loss,
    OwnLoss,
)
from jaxnmf.objective.noise import LOSSES
from jaxnmf.types import pytree, static

ENTRY_POINTS = "jaxnmf.solvers"


_solvers: dict[str, type] = {}


_losses: dict[str, Any] = {  # a Loss class, or a function φ(v, x)
    cls.name: cls for cls in (Frobenius, KullbackLeibler, ItakuraSaito, Beta, *LOSSES)
}


_loss_aliases = {"kl": "kullback-leibler", "is": "itakura-saito"}


_loaded = False


@dataclass_transform(
    frozen_default=True,
    kw_only_default=True,
    field_specifiers=(static, dataclasses.field),
)
def register_solver(name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: make the solver a pytree dataclass and register it by name.

    Float fields become leaves, which vmap and never cause a recompilation; mark
    counts, flags and names with ``static(default)``.

    Raises:
      ValueError: if the name is already registered, or a field has no default.

    Example:
      >>> import numpy as np, jaxnmf
      >>> from jaxnmf.kernels.inverses import inverse
      >>> from jaxnmf.solvers import QUADRATIC, Alternating
      >>> @jaxnmf.register_solver("jacobi")
      ... class Jacobi(Alternating):
      ...     \"\"\"All components at once, each by half its exact step.\"\"\"
      ...
      ...     supports = QUADRATIC
      ...     length: float = 0.5
      ...
      ...     def nnls(self, problem, gram, cross, free, state):
      ...         step = self.length * inverse(gram.sum(1))[:, None]
      ...         return problem.project(free + step * (cross - gram @ free)), state
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> jaxnmf.factorize(V, 4, solver="jacobi", max_iter=20).W.shape
      (30, 4)
    """

    def decorate(cls: type[T]) -> type[T]:
        check_free("solver", name, cls, _solvers)
        for attribute in ("init", "step", "supports", "monotone"):
            if not hasattr(cls, attribute):
                raise ValueError(f"solver {name!r} has no attribute {attribute}")
        cls = pytree(cls)
        for field in dataclasses.fields(cls):  # pyright: ignore
            if _has_no_default(field):
                raise ValueError(f"solver {name!r}: field {field.name} has no default")
        cls.name = name  # pyright: ignore
        _solvers[name] = cls
        return cls

    return decorate


def register_loss(name: str) -> Callable[[Any], Any]:
    """Decorator: register a `Loss` subclass, or an entrywise function φ(v, x).

    Raises:
      ValueError: if the name is already registered, or it is neither of the two.

    Example:
      >>> import numpy as np, jaxnmf
      >>> @jaxnmf.register_loss("pseudo-huber")
      ... def pseudo_huber(v, x):
      ...     return (1 + (v - x) ** 2) ** 0.5 - 1
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> result = jaxnmf.factorize(V, 4, loss="pseudo-huber", max_iter=20)
      >>> "pseudo-huber" in jaxnmf.losses()
      True
    """

    def decorate(loss: Any) -> Any:
        check_free("loss", name, loss, _losses)
        if isinstance(loss, type) and issubclass(loss, Loss):
            _losses[name] = pytree(loss)
            loss.name = name
        elif _is_function(loss) and len(inspect.signature(loss).parameters) == 2:
            _losses[name] = loss
        else:
            raise ValueError(f"loss {name!r} is neither a Loss nor a function φ(v, x)")
        return loss

    return decorate


def solver_class(name: str) -> type:
    """The solver class of a name; for an unknown name a ValueError with all names."""
    _load_entry_points()
    return lookup("solver", name, _solvers)


def loss_class(name: str) -> Any:
    """The loss class, or function φ(v, x), of a name; for an unknown name a ValueError
    with all names."""
    _load_entry_points()
    return lookup("loss", loss_name(name), _losses)


def solvers() -> tuple[str, ...]:
    """The names of all solvers, including those of other packages.

    Example:
      >>> import jaxnmf
      >>> "hals" in jaxnmf.solvers()
      True
    """
    _load_entry_points()
    return tuple(sorted(_solvers))


def built_in_solvers() -> tuple[type, ...]:
    """The solver classes registered so far, without loading other packages."""
    return tuple(_solvers.values())


def losses() -> tuple[str, ...]:
    """The names of all losses, including those of other packages.

    Example:
      >>> import jaxnmf
      >>> jaxnmf.losses()[:3]
      ('frobenius', 'kullback-leibler', 'itakura-saito')
    """
    _load_entry_points()
    return tuple(_losses)


def loss_name(name: str) -> str:
    """The name of a loss in full: "kullback-leibler" for "kl"."""
    return _loss_aliases.get(name, name)


def loss_aliases(name: str) -> tuple[str, ...]:
    """Short names of a loss."""
    return tuple(short for short, full in _loss_aliases.items() if full == name)


def make_solver(solver: Any, options: Mapping[str, Any] | None = None) -> Any:
    """A solver from a name and its options; an instance is returned as it is."""
    if isinstance(solver, str):
        return build("solver", solver, solver_class(solver), options or {})
    if options:
        raise ValueError("solver_options: expected a solver by name, not an instance")
    if isinstance(solver, type) or not hasattr(solver, "step"):
        raise ValueError(
            f"solver={solver!r} is neither a name ({', '.join(solvers())}) nor a "
            "solver instance"
        )
    return solver


def make_loss(loss: Any, options: Any = None) -> Loss:
    """A loss from a name and its options, an instance, or a function φ(v, x); or from a
    list of these the loss of each view."""
    if isinstance(loss, list | tuple):
        return _by_view(loss, options)
    if isinstance(loss, str):
        listed = loss_class(loss)
        if isinstance(listed, type):
            return build("loss", loss, listed, options or {})
        loss = listed
    if options:
        raise ValueError("loss_options: expected a loss by name, not an instance")
    if isinstance(loss, Loss):
        return loss
    if _is_function(loss):
        return OwnLoss(function=loss)  # pyright: ignore
    raise ValueError(
        f"loss={loss!r} is neither a name ({', '.join(losses())}), a Loss, nor a "
        "function φ(v, x)"
    )


def _by_view(losses: Any, options: Any) -> ByView:
    """A loss for each view, all of weight 1."""
    each = [options] * len(losses) if options is None else options
    if not losses or not isinstance(each, list | tuple) or len(each) != len(losses):
        raise ValueError(
            f"loss_options={options!r} with a loss for each of {len(losses)} views; "
            "give a mapping or None for each"
        )
    made = tuple(make_loss(one, own) for one, own in zip(losses, each, strict=True))
    return ByView(losses=made, weights=(1.0,) * len(made))


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a solver or loss: its name, type and default, and whether it is
    static (a change needs a recompilation)."""

    name: str
    type: Any
    default: Any
    static: bool


@functools.cache
def options(cls: Any) -> tuple[Option, ...]:
    """The options of a solver or loss class; none for a function."""
    hints = typing.get_type_hints(cls)
    if not isinstance(cls, type):
        return ()
    return tuple(
        Option(f.name, _plain(hints[f.name]), default, bool(f.metadata.get("static")))
        for f in dataclasses.fields(cls)
        if f.init and (default := _default(f)) is not dataclasses.MISSING
    )


def build(kind: str, name: str, cls: type, given: Mapping[str, Any]) -> Any:
    """An instance of a registered class, its options checked by name and type."""
    if not isinstance(given, Mapping):
        raise ValueError(f"{kind}_options={given!r} must be a mapping of name to value")
    known = {option.name: option for option in options(cls)}
    for key, value in given.items():
        if key not in known:
            listed = ", ".join(known) or "none"
            raise ValueError(
                f"{kind} {name!r} has no option {key!r}"
                f"{suggestion(key, known)}; its options: {listed}"
            )
        unset = value is None and known[key].default is None
        if not (unset or _fits(value, known[key].type)):
            want = getattr(known[key].type, "__name__", known[key].type)
            raise ValueError(
                f"{kind} {name!r}: option {key}={value!r} must be of type {want}"
            )
    return cls(**given)


def _is_function(loss: Any) -> bool:
    return callable(loss) and not isinstance(loss, type)


def _load_entry_points() -> None:
    """Import the entry points of other packages once, which registers them."""
    global _loaded
    if _loaded:
        return
    _loaded = True
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        point.load()


def _default(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return dataclasses.MISSING


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.init and _default(field) is dataclasses.MISSING


def _plain(hint: Any) -> Any:
    """The type to write in a config: float for ``float | jax.Array``."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    arguments = typing.get_args(hint) if union else ()
    for plain in (bool, int, float, str):
        if hint is plain or plain in arguments:
            return plain
    return typing.get_origin(hint) or hint


def _fits(value: Any, kind: Any) -> bool:
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        # Arrays too: settings become lanes as arrays.
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number or hasattr(value, "dtype")
    return kind is Any or not isinstance(kind, type) or isinstance(value, kind)


# `jaxnmf.losses()` lists the names, though losses.py does not import the registry.
make_callable("jaxnmf.objective.losses", losses)
