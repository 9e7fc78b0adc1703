"""Extrapolation with restarts."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Momentum(NamedTuple):
    """The β of an extrapolation, with restarts (Ang & Gillis 2019)."""

    beta: jax.Array
    last: jax.Array  # of the last accepted step
    ceiling: jax.Array  # β̄, what β may grow to

    @classmethod
    def start(cls, beta: Any, dtype: Any) -> Momentum:
        beta = jnp.asarray(beta, dtype)
        return cls(beta, beta, jnp.ones((), dtype))

    def grown(self, growth: Any, ceiling_growth: Any) -> Momentum:
        """After a step that was accepted."""
        return Momentum(
            beta=jnp.minimum(self.ceiling, growth * self.beta),
            last=self.beta,
            ceiling=jnp.minimum(1, ceiling_growth * self.ceiling),
        )

    def shrunk(self, decay: Any) -> Momentum:
        """After a step that was undone."""
        return Momentum(beta=self.beta / decay, last=self.last, ceiling=self.last)


def choose(which: jax.Array, yes: Any, no: Any) -> Any:
    """One of two trees."""
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), yes, no)
