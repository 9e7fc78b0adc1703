"""Data sets by name: `jaxnmf.datasets()`, `jaxnmf.datasets.load("digits")`."""

import difflib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from jaxnmf._util.callable import make_callable
from jaxnmf.datasets import bundled, documents, files, shared
from jaxnmf.datasets import synthetic as planted
from jaxnmf.datasets.base import Card, Dataset, Truth

__all__ = ["Dataset", "Truth", "describe", "load", "names", "options"]

_BUILT_IN: dict[str, tuple[Card, Callable[..., Dataset]]] = {
    "china": (bundled.CHINA, bundled.china),
    "digits": (bundled.DIGITS, bundled.digits),
    "documents": (documents.DOCUMENTS, documents.documents),
    "file": (files.FILE, files.file),
    "flower": (bundled.FLOWER, bundled.flower),
    "synthetic": (planted.SYNTHETIC, planted.synthetic),
}


def names() -> tuple[str, ...]:
    """The names that `load` takes now; those of the folder JAXNMF_DATA come last."""
    return tuple(_known())


def describe() -> list[dict[str, Any]]:
    """A row a set, without loading any: name, shape, kind, rank, loss, about."""
    columns = ("name", "shape", "kind", "rank", "loss", "about")
    return [
        {column: getattr(card, column) for column in columns}
        for card, _ in _known().values()
    ]


def options(name: str) -> dict[str, Any]:
    """The options of the set `name` and their defaults.

    An option that has no default and must be given has `inspect.Parameter.empty`.

    Raises:
      ValueError: there is no such set.
    """
    parameters = inspect.signature(_loader(name)).parameters
    return {option: parameter.default for option, parameter in parameters.items()}


def load(name: str, /, **settings: Any) -> Dataset:
    """The data set `name`.

    Args:
      name: one of `names()`.
      **settings: its options, see `options(name)`.

    Returns:
      The data set.

    Raises:
      ValueError: no such set, no such option, or a value that does not fit.
    """
    known = options(name)
    for option in settings:
        if option not in known:
            fits = f"its options are {', '.join(known)}" if known else "it has none"
            raise ValueError(f"{option}: not an option of data set '{name}'; {fits}")
    for option, default in known.items():
        if default is inspect.Parameter.empty and option not in settings:
            raise ValueError(f"{option}: data set '{name}' cannot be loaded without it")
    return _loader(name)(**settings)


def _known() -> dict[str, tuple[Card, Callable[..., Dataset]]]:
    in_folder = {
        name: (card, partial(shared.shared, name))
        for name, card in shared.cards().items()
    }
    return {**_BUILT_IN, **{k: v for k, v in in_folder.items() if k not in _BUILT_IN}}


def _loader(name: str) -> Callable[..., Dataset]:
    known = _known()
    if name in known:
        return known[name][1]
    near = difflib.get_close_matches(str(name), known, n=1)
    message = f"name: there is no data set {name!r}"
    message += f" (did you mean '{near[0]}'?)" if near else ""
    message += f"; there are {', '.join(known)}"
    if len(known) == len(_BUILT_IN):
        message += f"; for more, set {shared.VARIABLE} to a folder with "
        message += shared.MANIFEST
    raise ValueError(message)


make_callable(__name__, names)
