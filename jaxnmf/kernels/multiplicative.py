"""Multiplicative updates."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnmf.objective.problem import Problem
from jaxnmf.types import Factors


def quotient(minus: jax.Array, plus: jax.Array) -> jax.Array:
    """minus / plus, the factor of a multiplicative update. Where plus is 0 so is
    minus, and any value is as good: 1 keeps the entry."""
    return jnp.where(plus > 0, minus / jnp.where(plus > 0, plus, 1), 1)


def multiplied(
    problem: Problem,
    X: Float[Array, "p q"],
    minus: Float[Array, "p q"],
    plus: Float[Array, "p q"],
    floor: jax.Array | float = 0.0,
) -> Float[Array, "p q"]:
    """The multiplicative update max(floor, X ∘ (minus / plus)^γ) of a β-divergence."""
    ratio = quotient(minus, plus)
    beta, exponent = problem.loss.beta, problem.loss.mu_exponent
    step = ratio**exponent if exponent != 1 else ratio
    if beta < 2:
        # x² grows faster than what γ was made for: with it 1/(3−β) descends.
        step = jnp.where(problem.penalty.l2 > 0, ratio ** (1 / (3 - beta)), step)
    return problem.project(X * step, floor)


def joint_update(
    problem: Problem, factors: Factors, floors: tuple[Any, Any]
) -> Factors:
    """Both factors' multiplicative updates from one quotient V / WH, for the
    Kullback-Leibler divergence: H ← H ∘ minus_H / plus_H, then W ← W ∘ minus_W / H⁺1.

    Reference: Marmin, Goulart & Févotte, "Joint majorization-minimization for NMF with
    the β-divergence", Signal Processing 209 (2023).
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
