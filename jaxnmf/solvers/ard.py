"""Automatic relevance determination: components that the data do not need vanish."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxnmf.data.operand import true_shape
from jaxnmf.kernels.inverses import inverse
from jaxnmf.kernels.multiplicative import quotient
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.shapes import Array, Float
from jaxnmf.solvers.base import BETA, EVERY_OPERAND, Supports
from jaxnmf.types import Factors, FixedFactor, FreeFactor, Scalar, static


class Prior(NamedTuple):
    """Constants of a run, fixed before the first step."""

    dispersion: Scalar  # φ
    b: Scalar  # scale of the prior of the relevance weights
    size: Scalar  # m + n


@register_solver("ard")
class ARD:
    """Automatic relevance determination (ARD) by multiplicative updates.

    min D(V | WH)/φ + Σ_k (f(w_k) + f(h_k) + b)/λ_k + c log λ_k over W, H ≥ 0 and λ,
    with f(x) = ½‖x‖² and c = (m + n)/2 + a + 1 (``prior`` "l2", half-normal entries) or
    f(x) = ‖x‖₁ and c = m + n + a + 1 ("l1", exponential entries). With the gradient
    plus − minus of D, a step is

        H ← H ∘ (minus / (plus + φ H/λ))^ξ,  W likewise,
        λ_k = (f(w_k) + f(h_k) + b) / c,

    with 1/λ for H/λ under "l1"; ξ = 1/(3 − β) for β ≤ 2 and 1/(β − 1) above, under
    "l1" the exponent of `mu`. Started with more components than the data need, those
    without use shrink to 0 and their λ_k to its bound b/c (`relevance`). With μ the
    mean of V, b is such that the prior's mean of WH is μ:
    π (a − 1) μ / 2p, or √((a − 1)(a − 2) μ / p).

    Cost: that of `mu`. Every step lowers its own objective, but not always that of the
    problem.

    Use: finding p in one run, from more components than are needed
    (`jaxnmf.select_rank` with method "ard").

    Args:
      dispersion: φ in units of μ^β, the spread of V around WH: the variance of Gaussian
        noise over μ² (Frobenius), 1/μ for Poisson counts (Kullback-Leibler), one over
        the shape of gamma noise (Itakura-Saito).
      a: shape of the prior of λ; smaller prunes more. > 1, for "l1" > 2.
      prior: "l1" or "l2"; the entries of components without use become 0 under "l1",
        small under "l2".

    Reference: Tan & Févotte, "Automatic relevance determination in nonnegative matrix
    factorization with the β-divergence", IEEE Trans. PAMI 35 (2013) [Tan2013].
    """

    supports: ClassVar[Supports] = BETA._replace(operands=EVERY_OPERAND)
    monotone: ClassVar[bool] = False
    own_objective: ClassVar[bool] = True
    dispersion: float = 0.01
    a: float = 5.0
    prior: str = static("l1")

    def __post_init__(self) -> None:
        if self.prior not in ("l1", "l2"):
            raise ValueError(f"ard: prior={self.prior!r} is neither 'l1' nor 'l2'")

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> Prior:
        del key
        H = factors.H
        mean = jnp.asarray(problem.operand.moments.mean, H.dtype)
        rank = problem.project.rank(H)
        a = jnp.asarray(self.a, H.dtype)
        if self.prior == "l2":
            b = 0.5 * math.pi * (a - 1) * mean / rank
        else:
            b = jnp.sqrt((a - 1) * (a - 2) * mean / rank)
        dispersion = jnp.asarray(self.dispersion, H.dtype)
        size = jnp.asarray(sum(true_shape(problem.operand)), H.dtype)
        return Prior(dispersion * mean**problem.loss.beta, b, size)

    def step(
        self, problem: Problem, factors: Factors, state: Prior
    ) -> tuple[Factors, Prior]:
        Wt, H = factors
        shrink = (state.dispersion * inverse(self.weights(factors, state)))[:, None]
        H = self._update(problem, Wt, H, shrink)
        return Factors(self._update(problem.T, H, Wt, shrink), H), state

    def _update(
        self,
        problem: Problem,
        fixed: FixedFactor,
        free: FreeFactor,
        shrink: Float[Array, "p 1"],
    ) -> FreeFactor:
        minus, plus = problem.gradient(fixed, free)
        beta = problem.loss.beta
        exponent = problem.loss.mu_exponent
        if self.prior == "l2":
            shrink, exponent = shrink * free, 1 / (3 - beta) if beta < 2 else exponent
        step = quotient(minus, plus + shrink) ** exponent
        return problem.project(free * step)

    def weights(self, factors: Factors, state: Prior) -> Float[Array, " p"]:
        """λ, one for each component."""
        Wt, H = factors
        if self.prior == "l2":
            f = 0.5 * ((Wt * Wt).sum(1) + (H * H).sum(1))
            c = 0.5 * state.size + self.a + 1
        else:
            f, c = Wt.sum(1) + H.sum(1), state.size + self.a + 1
        return (f + state.b) / c

    def relevance(self, problem: Problem, factors: Factors) -> Float[Array, " p"]:
        """(λ_k − b/c) / (b/c) of each component: 0 at the bound."""
        state = self.init(problem, factors, jax.random.key(0))
        nothing = Factors(*(jnp.zeros_like(X) for X in factors))
        bound = self.weights(nothing, state)
        return self.weights(factors, state) / bound - 1
