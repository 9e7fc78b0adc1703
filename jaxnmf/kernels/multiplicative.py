"""Multiplicative updates of β-divergences and of losses that one majorises."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.objective.problem import Problem
from jaxnmf.shapes import Array, Float
from jaxnmf.types import Factors


def quotient(minus: jax.Array, plus: jax.Array) -> jax.Array:
    """minus / plus, the ratio of a multiplicative update, and 1, which keeps an entry,
    where plus is 0: there minus is 0 too."""
    return jnp.where(plus > 0, minus / jnp.where(plus > 0, plus, 1), 1)


def factor_floor(
    problem: Problem, X: Float[Array, "p q"], relative: jax.Array | float
) -> jax.Array:
    """The smallest entry of a factor, ``relative`` to the mean of X.

    For β < 1 never above what the floor of WH is relative to the mean of V: there an
    entry that the data need, however small, must be within reach.
    """
    if problem.loss.majoriser < 1:
        mean = jnp.asarray(problem.operand.moments.mean, X.dtype)
        reach = problem.operand.floor / jnp.where(mean > 0, mean, 1)
        relative = jnp.minimum(relative, jnp.where(mean > 0, reach, relative))
    return relative * problem.project.mean(X)


def multiplied(
    problem: Problem,
    X: Float[Array, "p q"],
    minus: Float[Array, "p q"],
    plus: Float[Array, "p q"],
    floor: jax.Array | float = 0.0,
) -> Float[Array, "p q"]:
    """The multiplicative update max(floor, X ∘ (minus / plus)^γ) of a β-divergence, or
    of a loss that one majorises.

    γ is the loss's ``mu_exponent``, with an l2 penalty and β < 2 it is 1/(3 − β), and
    with a graph 1 for β = 2, ½ for 1 ≤ β < 2 and 1/(1 + max(β, 2) − min(β, 1)) for
    others: with each the update is monotone. Of a loss for each view β is that of each
    column of H; for W γ is 1/(1 + u − l) with u the largest max(β, 1) of the losses and
    l the smallest min(β, 2), ½ for Kullback-Leibler beside Frobenius.

    Reference: Févotte & Idier, "Algorithms for nonnegative matrix factorization with
    the β-divergence", Neural Computation 23 (2011) [Fevotte2011].
    """
    ratio = quotient(minus, plus)
    lower, upper = problem.powers
    if problem.penalty.graph is not None:
        # −⟨x, A x⟩ falls as a logarithm does in its majoriser, ⟨x, D x⟩ grows as x². A
        # quadratic loss needs no majoriser: with K = plus / x, 2K is above its Hessian.
        exponent = 1 / (1 + np.maximum(upper, 2) - np.minimum(lower, 1))
        exponent = np.where((lower == 2) & (upper == 2), 1.0, exponent)
        return problem.project(X * _power(ratio, exponent), floor)
    step = _power(ratio, 1 / ((2 - lower) + (upper - 1)))
    if np.any(upper < 2):
        # x² grows faster than the terms of the loss.
        slower = _power(ratio, 1 / (1 + np.maximum(upper, 2) - lower))
        step = jnp.where(problem.penalty.l2 > 0, slower, step)
    return problem.project(X * step, floor)


def _power(ratio: jax.Array, exponent: Any) -> jax.Array:
    """ratio^exponent, with a number or one for each column."""
    if np.all(exponent == 1):
        return ratio
    if np.ndim(exponent) == 0:
        return ratio ** float(exponent)
    return ratio ** jnp.asarray(exponent, ratio.dtype)


def joint_update(
    problem: Problem, factors: Factors, floors: tuple[Any, Any]
) -> Factors:
    """The multiplicative updates of both factors from one quotient V / WH, for the
    Kullback-Leibler divergence: H⁺ = H ∘ minus_H / plus_H, W⁺ = W ∘ minus_W / H⁺1.

    Reference: Marmin, Goulart & Févotte, "Joint majorization-minimization for NMF with
    the β-divergence", Signal Processing 209 (2023) [Marmin2023].
    """
    Wt, H = factors
    minus, plus = problem.gradients(factors)
    H = multiplied(problem, H, minus.H, plus.H, floors[1])
    total = (
        H.sum(1)[:, None]
        if problem.fully_observed
        else problem.operand.T.dot_weights(H)
    )
    _, penalised = problem.T.penalty.split(Wt)
    Wt = multiplied(problem.T, Wt, minus.Wt, total + penalised, floors[0])
    return Factors(Wt, H)
