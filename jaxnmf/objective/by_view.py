"""A loss of its own for each of several views: Σ_k ω_k D_k(V_k | W H_k).

The operand is `jaxnmf.data.beside.Beside`. What a problem asks of the data is for W a
sum over the views, and for H of each view its own columns. So a view is of any kind,
with a floor, closed forms and Gram matrices of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.objective.constraints import NonNegative
from jaxnmf.objective.losses import Loss
from jaxnmf.objective.penalties import Penalty
from jaxnmf.types import Factors, FixedFactor, FreeFactor, pytree

if TYPE_CHECKING:
    from jaxnmf.objective.problem import Problem


@pytree
class ByView(Loss):
    """Σ_k ω_k D_k(V_k | W H_k), for `jaxnmf.Views`.

    Attributes:
      losses: D_k.
      weights: ω_k > 0.
    """

    losses: tuple[Loss, ...]
    weights: tuple[Any, ...]

    @property
    def name(self) -> str:  # pyright: ignore
        return "+".join(one.label for one in self.losses)

    @property
    def has_split(self) -> bool:  # pyright: ignore
        return all(one.has_split for one in self.losses)

    @property
    def majoriser(self) -> float | None:  # pyright: ignore
        """The smallest β of the losses; see `powers` for the update."""
        each = [one.majoriser for one in self.losses]
        return None if None in each else min(each)  # pyright: ignore

    @property
    def powers(self) -> tuple[float, float]:
        """Of W, which all losses move: (xᵃ − 1)/a rises with a for every x > 0, so that
        the least power of minus and the largest of plus majorise all terms."""
        lower, upper = zip(*(one.powers for one in self.losses), strict=True)
        return min(lower), max(upper)

    def only(self, views: list[int]) -> ByView:
        """The losses of some of the views."""
        losses, weights = (
            tuple(each[k] for k in views) for each in (self.losses, self.weights)
        )
        return ByView(losses=losses, weights=weights)


def views_of(problem: Problem) -> list[tuple[Any, Problem]]:
    """The weight and the problem of each view, without penalties and constraints."""
    loss = problem.loss
    plain = dataclasses.replace(
        problem,
        projects=(NonNegative(), NonNegative()),
        penalties=(Penalty(), Penalty()),
        graphs=(None, None),
    )
    sides = zip(loss.weights, problem.operand.parts, loss.losses, strict=True)
    return [
        (weight, dataclasses.replace(plain, operand=part, loss=one))
        for weight, part, one in sides
    ]


def divergence(problem: Problem, factors: Factors) -> jax.Array:
    """Σ_k ω_k D_k."""
    sides = _with_own(problem, *factors)
    return summed([(w, part.divergence(Factors(*own))) for w, part, own in sides])


def split(
    problem: Problem, fixed: FixedFactor, free: FreeFactor
) -> tuple[FreeFactor, FreeFactor]:
    """(minus, plus) of the losses."""
    parts = [
        [_times(weight, x) for x in part.split(*own)]
        for weight, part, own in _with_own(problem, fixed, free)
    ]
    minus, plus = (_together(problem, each) for each in zip(*parts, strict=True))
    return minus, plus


def splits(problem: Problem, factors: Factors) -> tuple[Any, Any]:
    """`split` for H and for W."""
    of_free, of_fixed = [], []
    for weight, part, own in _with_own(problem, *factors):
        right, left = part.splits(Factors(*own))
        of_free.append([_times(weight, x) for x in right])
        of_fixed.append([_times(weight, x) for x in left])
    return (
        tuple(_together(problem, each) for each in zip(*of_free, strict=True)),
        tuple(_together(problem.T, each) for each in zip(*of_fixed, strict=True)),
    )


def change(
    problem: Problem, fixed: FixedFactor, free: FreeFactor, new: FreeFactor
) -> jax.Array:
    """The change of `divergence` from free to new."""
    sides = _with_own(problem, fixed, free, new)
    return summed([(w, part.change(*own)) for w, part, own in sides])


def powers(problem: Problem) -> tuple[Any, Any]:
    """`Loss.powers` for the free factor: of H those of each column's own loss."""
    operand, loss = problem.operand, problem.loss
    if operand.transposed:
        return loss.powers
    lower, upper = zip(*(one.powers for one in loss.losses), strict=True)
    return np.repeat(lower, operand.sizes), np.repeat(upper, operand.sizes)


def _with_own(problem: Problem, fixed: Any, *frees: Any) -> list[Any]:
    """(weight, problem, its factors) of each view: its own columns of H."""
    operand, views = problem.operand, views_of(problem)
    if operand.transposed:
        pairs = zip(views, operand.cut(fixed), strict=True)
        return [(*view, (own, *frees)) for view, own in pairs]
    pairs = zip(views, zip(*map(operand.cut, frees), strict=True), strict=True)
    return [(*view, (fixed, *own)) for view, own in pairs]


def _times(weight: Any, x: jax.Array) -> jax.Array:
    return jnp.asarray(weight, x.dtype) * x


def summed(parts: list[tuple[Any, jax.Array]]) -> jax.Array:
    """Σ ω x; the x of a sparse view may be of double precision alone."""
    dtype = np.result_type(*(x.dtype for _, x in parts))
    terms = [_times(weight, x.astype(dtype)) for weight, x in parts]
    return functools.reduce(operator.add, terms)


def _together(problem: Problem, parts: Any) -> jax.Array:
    """What the views say of the free factor: of W the sum, of H each its columns."""
    if problem.operand.transposed:
        return functools.reduce(operator.add, parts)
    return jnp.concatenate(parts, 1)
