"""What lanes compute one after the other."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.objective.losses import Loss
from jaxnmf.types import Factors


@jax.custom_batching.custom_vmap
def zero_total(loss: Loss, factors: Factors) -> jax.Array:
    return loss.zero_total(*factors)


def in_turn(function: Any, size: int, batched: Any, *args: Any) -> Any:
    """The function of one lane after the other: a batched condition would compute both
    branches for all, and a batched product is not in double precision."""

    def one(i: jax.Array) -> jax.Array:
        own = jax.tree.map(lambda x, many: x[i] if many else x, args, tuple(batched))
        return function(*own)

    return jax.lax.map(one, jnp.arange(size, dtype=jnp.int32)), True


@zero_total.def_vmap
def _(size: int, batched: Any, *args: Any) -> Any:
    with jax.enable_x64(args[1].H.dtype == np.float64):
        return in_turn(zero_total, size, batched, *args)
