"""Data sets by name: `jaxnmf.datasets()`, `jaxnmf.datasets.load("digits")`."""

import difflib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from jaxnmf._util.callable import make_callable
from jaxnmf.datasets import bundled, documents, files, ratings, shared, views
from jaxnmf.datasets import synthetic as planted
from jaxnmf.datasets.base import Card, Dataset, Truth

__all__ = ["Dataset", "Truth", "describe", "load", "names", "options"]

_BUILT_IN: dict[str, tuple[Card, Callable[..., Dataset]]] = {
    "china": (bundled.CHINA, bundled.china),
    "digits": (bundled.DIGITS, bundled.digits),
    "documents": (documents.DOCUMENTS, documents.documents),
    "file": (files.FILE, files.file),
    "flower": (bundled.FLOWER, bundled.flower),
    "ratings": (ratings.RATINGS, ratings.ratings),
    "synthetic": (planted.SYNTHETIC, planted.synthetic),
    "views": (views.VIEWS, views.views),
}


def names() -> tuple[str, ...]:
    """The names of all data sets; those of the folder JAXNMF_DATA come last.

    Example:
      >>> import jaxnmf
      >>> "digits" in jaxnmf.datasets.names(), "digits" in jaxnmf.datasets()
      (True, True)
    """
    return tuple(_known())


def describe() -> list[dict[str, Any]]:
    """One row per data set, none loaded: name, shape, kind, rank, loss, about.

    Example:
      >>> import jaxnmf
      >>> rows = jaxnmf.datasets.describe()
      >>> [row["kind"] for row in rows if row["name"] == "digits"]
      ['images']
    """
    columns = ("name", "shape", "kind", "rank", "loss", "about")
    return [
        {column: getattr(card, column) for column in columns}
        for card, _ in _known().values()
    ]


def options(name: str) -> dict[str, Any]:
    """The options of a data set and their defaults.

    The default of a required option is `inspect.Parameter.empty`.

    Raises:
      ValueError: the name is unknown.

    Example:
      >>> import jaxnmf
      >>> "noise" in jaxnmf.datasets.options("synthetic")
      True
    """
    parameters = inspect.signature(_loader(name)).parameters
    return {option: parameter.default for option, parameter in parameters.items()}


def load(name: str, /, **settings: Any) -> Dataset:
    """Load a data set.

    Args:
      name: one of `names()`.
      **settings: its options, see `options(name)`.

    Returns:
      The data set.

    Raises:
      ValueError: for an unknown name or option, or an invalid value.

    Example:
      >>> import jaxnmf
      >>> digits = jaxnmf.datasets.load("digits")
      >>> digits
      Dataset('digits', 1797×64 float32, images)
      >>> planted = jaxnmf.datasets.load("synthetic", m=30, n=20, rank=4)
      >>> planted.V.shape, planted.truth.H.shape
      ((30, 20), (4, 20))
    """
    known = options(name)
    for option in settings:
        if option not in known:
            listed = ", ".join(known) or "none"
            raise ValueError(
                f"{option}: unknown option of data set '{name}'; its options: {listed}"
            )
    for option, default in known.items():
        if default is inspect.Parameter.empty and option not in settings:
            raise ValueError(f"{option}: data set '{name}' requires this option")
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
    message = f"name: unknown data set {name!r}"
    message += f" (did you mean '{near[0]}'?)" if near else ""
    message += f"; expected one of {', '.join(known)}"
    if len(known) == len(_BUILT_IN):
        message += f"; for more, set {shared.VARIABLE} to a folder with a "
        message += shared.MANIFEST
    raise ValueError(message)


make_callable(__name__, names)
