"""Minimum-volume NMF."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxnmf.data.grams import Gram, SharedGram
from jaxnmf.kernels.coordinate import sweep
from jaxnmf.kernels.step_sizes import gradient_step
from jaxnmf.objective.constraints import Simplex
from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.solvers.base import QUADRATIC, Alternating, Supports
from jaxnmf.types import Cross, Factors, FreeFactor, Index, Scalar, static


class Weights(NamedTuple):
    """Constants of a run, and the scale of its first step."""

    scale: Scalar  # τ
    volume: Scalar  # λ
    stretch: Scalar  # the divisor of W in the next step


@register_solver("minvol")
class MinVol(Alternating):
    """Minimum-volume NMF: the smallest simplex of components around the samples.

    min ½‖V − WH‖² + ½λ logdet(HHᵀ/τ + δI) over W, H ≥ 0, Σ_k w_ik ≤ 1, with
    τ = ‖H₀‖² / p and λ = weight · ‖V − W₀H₀‖² / p, W₀ being the best W for the first
    H₀ in this set: neither depends on the scale of V. A concave logdet lies below its
    tangent, logdet(X) ≤ logdet(X̃) + ⟨X̃⁻¹, X − X̃⟩: H is updated by ``inner`` sweeps
    of HALS on the Gram matrix WᵀW + λA, A = (HHᵀ/τ + δI)⁻¹/τ; W by accelerated
    projected gradient steps, with restarts.

    Without pure pixels ‖V − WH‖² does not identify the components; for sufficiently
    scattered samples the smallest simplex is the true one. Start from init="snpa",
    whose residual, and with it λ, is in proportion to the possible gain.

    Cost: the products with V, 2mnp for each factor; 2np² a sweep and 2mp² an inner
    gradient step; a p×p Cholesky factorisation. The half-step of H lowers the
    objective; that of W is inexact. Limit points are stationary for exact half-steps
    (block successive upper bounds).

    Use: spectra without pure pixels, where the fit alone does not identify the
    materials.

    Args:
      weight: of the volume, relative to the first residual.
      delta: δ, with which the logarithm of a flat simplex is finite; in units of τ.
      inner: sweeps of H, and a fifth of the steps of W, for each Gram matrix.

    Reference: Leplat, Ang & Gillis, "Minimum-volume rank-deficient nonnegative matrix
    factorizations", ICASSP (2019) [Leplat2019], where λ is over |logdet| in place of p.
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(unscaled=frozenset("W"))
    own_objective: ClassVar[bool] = True
    weight: float = 0.1
    delta: float = 0.1
    inner: int = static(4)

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> Weights:
        """(τ, λ) of the run, and the divisor of W in the first step."""
        del key
        Wt, H = factors
        rank = problem.project.rank(H)
        # The scale at which W is feasible: that of V, whatever the scale of the start.
        largest = Wt.sum(0).max()
        stretch = jnp.where(largest > 0, largest, 1)
        Wt, H = Wt / stretch, H * stretch
        size = (H * H).sum(1).sum() / rank
        scale = jnp.where(size > 0, size, 1)
        gram, cross = problem.T.quadratic(H)
        Wt = _simplex_fit(problem.T, gram, cross, Wt, steps=100)
        plain = dataclasses.replace(problem, penalties=(Penalty(), Penalty()))
        weight = jnp.asarray(self.weight, problem.operand.dtype)
        residual = 2 * plain.value(Factors(Wt, H))
        return Weights(scale, weight * residual / rank, stretch)

    def step(
        self, problem: Problem, factors: Factors, state: Weights
    ) -> tuple[Factors, Weights]:
        scale, weight, stretch = state
        Wt, H = factors.Wt / stretch, factors.H * stretch
        gram, cross = problem.T.quadratic(H)
        Wt = _simplex_fit(problem.T, gram, cross, Wt, steps=5 * self.inner)
        identity = jnp.eye(len(H), dtype=H.dtype)
        volume = gram.array / scale + self.delta * identity
        root = jnp.linalg.cholesky(volume)
        slope = jax.scipy.linalg.cho_solve((root, True), identity)
        gram, cross = problem.quadratic(Wt)
        gram = SharedGram(array=gram.array + weight / scale * slope)

        def repeat(_: Index, X: FreeFactor) -> FreeFactor:
            return sweep(problem, gram, cross, X)

        H = jax.lax.fori_loop(0, self.inner, repeat, H)
        return Factors(Wt, H), Weights(scale, weight, jnp.ones_like(stretch))


def _simplex_fit(
    problem: Problem, gram: Gram, cross: Cross, X: FreeFactor, steps: int
) -> FreeFactor:
    """An X ≥ 0 with columns of sum ≤ 1 and a smaller ½⟨X, GX⟩ − ⟨B, X⟩ + penalty(X)."""
    penalty = problem.penalty
    project = Simplex(held=problem.project.held, at_most=True)
    length = gradient_step(problem, gram)
    one = jnp.ones((), X.dtype)

    def iterate(
        _: Index, carry: tuple[FreeFactor, FreeFactor, Scalar]
    ) -> tuple[FreeFactor, FreeFactor, Scalar]:
        X, Y, t = carry
        gradient = gram @ Y - cross + penalty.gradient(Y)
        new = project(Y - length * gradient)
        moved = new - X
        # Restart where the momentum points uphill (O'Donoghue & Candès 2015).
        t = jnp.where(((Y - new) * moved).sum(1).sum() > 0, 1, t)
        after = 0.5 * (1 + jnp.sqrt(1 + 4 * t * t))
        return new, new + (t - 1) / after * moved, after

    start = project(X)
    return jax.lax.fori_loop(0, steps, iterate, (start, start, one))[0]
