"""The type checker that jaxtyping applies to every function of the package."""

from collections.abc import Callable
from typing import Any

import beartype

# An int is a float to a reader, as PEP 484 has it.
_checked = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """beartype, but for constructors.

    JAX rebuilds a pytree with tracers, shardings or None in place of its leaves: the
    annotation of a dataclass's field says what a user gives, not what JAX may.
    """
    if function.__name__ == "__init__":
        return function
    return _checked(function)
