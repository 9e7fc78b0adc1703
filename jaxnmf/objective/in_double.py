"""The objective of a good fit, of which the precision of V leaves few digits.

float32 rounds an entry of X = WH by 1e-7 of it, so that a residual of a millionth of V
has one digit. There the objective is summed in double precision. Of a sparse V all sums
are in double, since those of the zeros cancel.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.objective.by_view import summed, views_of
from jaxnmf.objective.in_turn import in_turn
from jaxnmf.types import Factors

if TYPE_CHECKING:
    from jaxnmf.objective.problem import Problem

# The relative error below which float32 may leave fewer than four digits of a sum. It
# rounds an entry of X by 1e-7: of a thousandth that is 1e-4, less where many entries
# average it out. Of a sparse V, where the x of what is stored cancel against all, a
# larger one: 1e-7 of a tenth squared is 1e-5.
CLOSE, CLOSE_SPARSE = 1e-3, 1e-1


def objective(problem: Problem, factors: Factors) -> jax.Array:
    """The objective to four digits or more."""
    value = usual_value(problem, factors)
    return _finer(problem, factors, value) if may_be_needed(problem) else value


def may_be_needed(problem: Problem) -> bool:
    """Whether the precision of V can be too low for the objective of a good fit."""
    return problem.operand.dtype != np.float64


def usual_value(problem: Problem, factors: Factors) -> jax.Array:
    """`objective` where the fit is not close."""
    if not (may_be_needed(problem) and problem.zeros_apart):
        return problem.value(factors)
    with jax.enable_x64(True):
        return problem.value(factors).astype(problem.operand.dtype)


def value(problem: Problem, factors: Factors) -> jax.Array:
    """`Problem.value` in double precision, rounded to that of V."""
    with jax.enable_x64(True):
        own = (factors, problem.penalties)
        wide, penalties = jax.tree.map(lambda x: x.astype(np.float64), own)
        wider = dataclasses.replace(problem, penalties=penalties)
        return wider.value(wide).astype(problem.operand.dtype)


def is_close(problem: Problem, value: jax.Array) -> jax.Array:
    """Whether the divergence is that of so good a fit that float32 loses it.

    Twice the divergence is about the squared relative error times
    Σ v² ∂²φ/∂x²(v, v), which is Σ v^β of a β-divergence; but for quadratic losses, all
    v are replaced by their mean. Where a loss has no curvature, every fit counts as
    close.
    """
    if problem.loss.losses:
        views = views_of(problem)
        sizes = [(w, jnp.asarray(_size(x, value.dtype), value.dtype)) for w, x in views]
        size = summed(sizes)
    else:
        size = _size(problem, value.dtype)
    close = CLOSE_SPARSE if problem.zeros_apart else CLOSE
    return 2 * value < close**2 * jnp.asarray(size, value.dtype)


def _size(problem: Problem, dtype: Any) -> Any:
    """Σ v² ∂²φ/∂x²(v, v), as `is_close` has it."""
    known, loss = problem.operand.moments, problem.loss
    if loss.quadratic:
        return known.squares
    if loss.beta is not None:
        return known.known * known.mean**loss.beta
    mean = jnp.asarray(known.mean, dtype)
    second = jax.grad(jax.grad(lambda x: loss.pointwise(mean, x)))(mean)
    return known.known * mean**2 * jnp.where(second > 0, second, jnp.inf)


@jax.custom_batching.custom_vmap
def _finer(problem: Problem, factors: Factors, usual: jax.Array) -> jax.Array:
    """The value, summed again in double precision where it has few digits."""
    double = lambda: value(problem, factors)  # noqa: E731
    return jax.lax.cond(is_close(problem, usual), double, lambda: usual)


@_finer.def_vmap
def _(size: int, batched: Any, *args: Any) -> Any:
    return in_turn(_finer, size, batched, *args)
