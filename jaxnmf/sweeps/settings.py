"""Settings and seeds of a sweep, from a user's arguments."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnmf import registry
from jaxnmf._util import names
from jaxnmf._util.checks import check_amount, check_count, check_list, is_number
from jaxnmf.sweeps.lane import PENALTIES


def as_seeds(seeds: Any) -> list[int]:
    """A list of seeds; a number k is 0 … k − 1."""
    if isinstance(seeds, int | np.integer) and not isinstance(seeds, bool):
        check_count("seeds", seeds)
        seeds = range(int(seeds))
    return check_list("seeds", seeds, 0)


def float_settings(solver: type) -> list[str]:
    """The settings of a solver's class that lanes of one program may differ in."""
    options = registry.options(solver)
    return [o.name for o in options if o.type is float and not o.static]


def make_settings(
    solver: Any, settings: Mapping[str, Any] | None
) -> list[dict[str, float]]:
    """Every combination of the settings' values."""
    settings = dict(settings or {})
    known = float_settings(type(solver))
    for name, values in settings.items():
        if name not in known and name not in PENALTIES:
            raise ValueError(
                f"settings: solver {solver.name!r} has no float setting {name!r}"
                f"{names.suggestion(name, known)}; there are: "
                f"{', '.join([*known, *PENALTIES])}"
            )
        if np.ndim(values) != 1 or not len(values):
            raise ValueError(
                f"settings: {name}={values!r} must be a list of at least one number"
            )
        for value in values:
            if not is_number(value) or not np.isfinite(value):
                raise ValueError(f"settings: {name}={value!r} must be a finite number")
            if name in PENALTIES:
                check_amount(f"settings: {name}", value)
        if len(set(values)) < len(values):
            raise ValueError(f"settings: {name}={list(values)} contains duplicates")
    return [
        dict(zip(settings, (float(x) for x in chosen), strict=True))
        for chosen in itertools.product(*settings.values())
    ]
