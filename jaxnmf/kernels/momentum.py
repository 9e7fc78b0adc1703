"""The coefficient of an extrapolation with restarts."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Momentum(NamedTuple):
    """β of the extrapolation X + β (X − X₋), which grows with steps that descend.

    Attributes:
      beta: β.
      last: the β of the last accepted step.
      ceiling: β′, the bound of β.

    All three are scalars, of JAX in a program and plain numbers on the host.

    Reference: Ang & Gillis, "Accelerating nonnegative matrix factorization algorithms
    using extrapolation", Neural Computation 31 (2019) [Ang2019].
    """

    beta: jax.Array | float
    last: jax.Array | float
    ceiling: jax.Array | float

    @classmethod
    def start(cls, beta: Any, dtype: Any) -> Momentum:
        """Before the first step."""
        beta = jnp.asarray(beta, dtype)
        return cls(beta, beta, jnp.ones((), dtype))

    def grown(self, growth: Any, ceiling_growth: Any) -> Momentum:
        """After an accepted step: β ← min(β′, growth·β) and
        β′ ← min(1, ceiling_growth·β′)."""
        least: Any = jnp.minimum if isinstance(self.beta, jax.Array) else min
        return Momentum(
            beta=least(self.ceiling, growth * self.beta),
            last=self.beta,
            ceiling=least(1, ceiling_growth * self.ceiling),
        )

    def shrunk(self, decay: Any) -> Momentum:
        """After a step that was undone: β′ ← the last accepted β, β ← β / decay."""
        return Momentum(beta=self.beta / decay, last=self.last, ceiling=self.last)


def choose(which: jax.Array, yes: Any, no: Any) -> Any:
    """The first of two trees where ``which`` is true, else the second."""
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), yes, no)
