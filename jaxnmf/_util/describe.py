"""JSON descriptions of objects, equal in every process for equal objects."""

from __future__ import annotations

import dataclasses
import hashlib
import types
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def described(value: Any) -> Any:
    """A JSON description of a solver, a loss or another setting.

    Two values that compute the same have the same description in every process.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        own = {f.name: described(getattr(value, f.name)) for f in fields}
        return [type(value).__qualname__, own]
    if isinstance(value, Mapping):
        return {str(k): described(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [described(v) for v in value]
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [value.__qualname__, _code(value.__code__), described(cells)]
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        array = np.asarray(value)
        if array.ndim == 0:
            return array.item()
        return [array.shape, hashlib.sha256(array.tobytes()).hexdigest()[:16]]
    return value if isinstance(value, str | int | float | None) else repr(value)


def _code(code: types.CodeType) -> list[Any]:
    """The instructions of a function, without its file and line numbers."""
    consts = [
        _code(x) if isinstance(x, types.CodeType) else repr(x) for x in code.co_consts
    ]
    return [code.co_code.hex(), list(code.co_names), consts]
