"""Hierarchical alternating least squares."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxnmf.kernels.coordinate import sweep, sweeps
from jaxnmf.kernels.repeats import inner_repeats
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.solvers.base import (
    ENTRYWISE,
    EVERY_OPERAND,
    QUADRATIC,
    Alternating,
    Supports,
)
from jaxnmf.types import static


@register_solver("hals")
class HALS(Alternating):
    """Exact coordinate descent on the rows of a factor, one component at a time.

    For k = 1 … p, with G = WᵀW and B = WᵀV:
    h_k ← max(0, h_k + (b_k − G_k H − l1 − l2 h_k) / (G_kk + l2)).

    Cost: the two products, 2mnp, and 2np² a sweep; ``inner`` sweeps reuse G and B.
    Monotone; limit points are stationary while no component vanishes.

    Args:
      inner: sweeps over the components for each G and B; 1 is plain HALS, 0 lets
        the sizes decide (`inner_repeats`).
      delta: stop repeating when a sweep moves H by less than delta times what the
        first moved it (Gillis & Glineur's 0.1). 0, the default, does not look: on a
        CPU the norms cost as much as the sweeps they save.

    References: Cichocki & Phan, "Fast local algorithms for large scale nonnegative
    matrix and tensor factorizations", IEICE Trans. Fundamentals E92-A (2009);
    Gillis & Glineur, "Accelerated multiplicative updates and hierarchical ALS",
    Neural Computation 24 (2012).
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(
        constraints=ENTRYWISE, operands=EVERY_OPERAND
    )
    monotone: ClassVar[bool] = True
    inner: int = static(0)
    delta: float = static(0.0)

    def nnls(
        self, problem: Problem, gram: Any, cross: Any, free: Any, state: Any
    ) -> tuple[Any, Any]:
        if not self.delta:
            return sweeps(problem, gram, cross, free, self.inner), state
        count = inner_repeats(problem, free, self.inner)

        def worth_it(carry: Any) -> Any:
            done, _, first, last = carry
            return (done < count) & (last > self.delta**2 * first)

        def again(carry: Any) -> Any:
            done, X, first, _ = carry
            new = sweep(problem, gram, cross, X)
            moved = ((new - X) ** 2).sum(1).sum()
            return done + 1, new, jnp.where(done == 0, moved, first), moved

        far = jnp.full((), jnp.inf, free.dtype)
        start = (jnp.zeros((), jnp.int32), free, jnp.zeros_like(far), far)
        return jax.lax.while_loop(worth_it, again, start)[1], state
