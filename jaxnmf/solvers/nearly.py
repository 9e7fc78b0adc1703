"""NMF of data with noise below zero: V of any sign, both factors non-negative."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxnmf.kernels.multiplicative import factor_floor, multiplied
from jaxnmf.kernels.repeats import inner_repeats
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.solvers.base import EVERY_OPERAND, QUADRATIC, Alternating, Supports
from jaxnmf.types import FixedFactor, FreeFactor, Index, Scalar, static


@register_solver("nearly")
class NearlyNMF(Alternating):
    """Nearly-NMF: V with negative entries, which are noise, and W, H ≥ 0.

    min ½ Σ w (V − W H)² over W, H ≥ 0. Where noise takes entries below zero, setting
    them to zero or leaving them out shifts the mean of the noise, and the factors with
    it. With C = Wᵀ(w ∘ V) = C₊ − C₋ split into its positive and negative parts,

    H ← H ∘ C₊ / (Wᵀ(w ∘ W H) + C₋),

    and likewise W. ``shift`` is Shift-NMF of the same paper: with s the largest
    negative entry, H ← H ∘ Wᵀ(w ∘ (V + s)) / Wᵀ(w ∘ (W H + s)), slower steps that
    take no entry to the floor at once. Weights, 1/σ² for noise of standard deviation σ,
    are given as ``mask``.

    Cost: 4mnp an iteration and 2np² for each of ``inner`` repeats; 8mnp with weights.
    Monotone; the floor keeps entries from locking at zero, which limit points need to
    be stationary.

    Use: data whose noise goes below zero, such as spectra after a background is
    subtracted.

    Args:
      floor: the smallest entry, in units of the factor's mean at the start.
      shift: the updates of Shift-NMF.
      inner: updates of a factor for each Gram and cross product, of V without weights;
        0 chooses by the sizes.

    Reference: Green & Bailey, "Algorithms for non-negative matrix factorization on
    noisy data with negative values", IEEE Trans. Signal Processing 72 (2024)
    [Green2024].
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(
        operands=EVERY_OPERAND, signed=frozenset("V"), toward=True
    )
    monotone: ClassVar[bool] = True
    floor: float = 1e-10
    shift: bool = static(False)
    inner: int = static(0)

    def half_init(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor
    ) -> Scalar:
        """The floor, fixed for the run so that the updates stay monotone."""
        return factor_floor(problem, free, self.floor)

    def half_step(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor, state: Scalar
    ) -> tuple[FreeFactor, Scalar]:
        if problem.by_gram:
            gram, cross = problem.quadratic(fixed)
            fitted, count = gram.__matmul__, inner_repeats(problem, free, self.inner)
        else:
            cross, plus = problem.split(fixed, free)
            fitted, count = lambda _: plus, 1
        # On both sides of the ratio, so that neither is negative.
        added = self._shift(problem, fixed) if self.shift else jnp.maximum(-cross, 0)
        minus = jnp.maximum(cross + added, 0)

        def again(_: Index, X: FreeFactor) -> FreeFactor:
            toward, penalty = problem.penalty.split(X)
            plus = fitted(X) + added + penalty
            return multiplied(problem, X, minus + toward, plus, state)

        return jax.lax.fori_loop(0, count, again, free), state

    def _shift(self, problem: Problem, fixed: FixedFactor) -> jax.Array:
        """s times the sums of the fixed factor, weighted as V is."""
        operand = problem.operand
        s = jnp.maximum(-jnp.asarray(operand.moments.smallest, fixed.dtype), 0)
        if problem.fully_observed:
            return s * fixed.sum(1)[:, None]
        return s * operand.dot_weights(fixed)
