"""Batches of rows in turn: online dictionary learning and multiplicative updates."""

from __future__ import annotations

from typing import ClassVar

import jax

from jaxnmf.data.grams import SharedGram
from jaxnmf.kernels.coordinate import sweep, sweeps
from jaxnmf.kernels.inverses import inverse
from jaxnmf.kernels.multiplicative import factor_floor, multiplied
from jaxnmf.kernels.repeats import inner_repeats
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.shapes import Array, PyTree
from jaxnmf.solvers.base import BETA, BLOCKS, QUADRATIC, Supports
from jaxnmf.solvers.batches import Codes, Minibatch
from jaxnmf.types import Cross, Factors, FreeFactor, Index, static


@register_solver("hals-online")
class OnlineHALS(Minibatch):
    """HALS on batches of rows: online dictionary learning, one step an epoch.

    For each batch b of rows v_b: HALS sweeps of H on (Σ_c w_c A_c, Σ_c w_c B_c),
    with A_c = W_cᵀW_c and B_c = W_cᵀV_c of every batch's codes when they were last
    computed; then sweeps of the codes W_b on (HHᵀ, v_b Hᵀ). The weight of a batch is
    1 when it is visited and falls by (1 − forget) an epoch, for its codes were made
    for an older H; ``forget`` itself falls by ``settle`` an epoch, so that in the end
    all rows count alike and the solution is that of all of V. With one batch it is
    HALS.

    Cost: 4mnp an epoch as HALS, and 2np² a batch and sweep; in memory p(p + n) numbers
    for each batch, p/batch of V. Not monotone, but as ``forget`` falls to 0 each move
    becomes coordinate descent on the full objective.

    Use: many rows, where one pass over V takes long: it comes near the solution within
    few epochs.

    Args:
      batch: rows at a time; of `jaxnmf.Blocks` a batch is a block.
      inner: sweeps for each Gram and cross product; 0 chooses by the sizes.
      forget: how much less a batch counts an epoch after its visit.
      settle: what is left of ``forget`` after an epoch.

    References: Mairal, Bach, Ponce & Sapiro, "Online learning for matrix factorization
    and sparse coding", JMLR 11 (2010) [Mairal2010]; Schmidt, Le Roux & Bach,
    "Minimizing finite sums with the stochastic average gradient", Mathematical
    Programming 162 (2017) [Schmidt2017], for replacing a batch's share in the sums.
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(
        operands=frozenset({"dense"}) | BLOCKS, padded=False
    )
    batch: int = static(256)
    inner: int = static(0)
    forget: float = 0.9
    settle: float = 0.97

    def statistics(
        self, part: Problem, codes: Codes, H: FreeFactor
    ) -> tuple[SharedGram, Cross]:
        return part.quadratic(codes)

    def update_H(
        self,
        problem: Problem,
        part: Problem,
        total: tuple[SharedGram, Cross],
        H: FreeFactor,
        constants: PyTree[Array],
    ) -> FreeFactor:
        gram, cross = total
        # By the sizes of the batch, whose products these are.
        repeats = inner_repeats(part, H, self.inner)
        return jax.lax.fori_loop(
            0, repeats, lambda _, X: sweep(problem, gram, cross, X), H
        )

    def update_codes(
        self, part: Problem, H: FreeFactor, codes: Codes, constants: PyTree[Array]
    ) -> Codes:
        part = part.T
        gram, cross = part.quadratic(H)
        return sweeps(part, gram, cross, codes, self.inner)


@register_solver("mu-minibatch")
class MinibatchMU(Minibatch):
    """Multiplicative updates on batches of rows, for every β-divergence.

    For each batch b: H ← max(floor, H ∘ (Σ_c w_c M_c / H^(1/γ) / Σ_c w_c P_c)^γ), where
    plus_c − minus_c is the gradient of batch c at its last visit, P_c = plus_c
    and M_c = H^(1/γ) minus_c with the H of that visit: for β ≤ 1 the minimum of the
    sum of the batches' majorisers, for others an update of the same fixed points. Then
    ``inner`` multiplicative updates of the codes of the batch. Weights fall and
    settle as in `hals-online`; γ, and the floor, are those of `mu`. With one batch it
    is `mu`.

    Cost: that of `mu` an epoch, and 2np a batch; in memory 2np numbers for each batch.
    Not monotone; no proof of convergence.

    Use: β-divergences of many rows; on small data `mu` is as fast.

    Args:
      batch: rows at a time; of `jaxnmf.Blocks` a batch is a block.
      inner: updates of the codes for each visit.
      forget: how much less a batch counts an epoch after its visit.
      settle: what is left of ``forget`` after an epoch.
      floor: the smallest entry, in units of the factor's mean at the start.

    References: Lefèvre, Bach & Févotte, "Online algorithms for nonnegative matrix
    factorization with the Itakura-Saito divergence", WASPAA (2011) [Lefevre2011];
    Mairal, "Stochastic majorization-minimization algorithms for large-scale
    optimization", NIPS 26 (2013) [Mairal2013].
    """

    supports: ClassVar[Supports] = BETA._replace(
        operands=frozenset({"dense"}) | BLOCKS, padded=False
    )
    batch: int = static(256)
    inner: int = static(1)
    forget: float = 0.9
    settle: float = 0.97
    floor: float = 1e-10

    def constants(self, problem: Problem, factors: Factors) -> Factors:
        return Factors(
            *(
                factor_floor(side, X, self.floor)
                for side, X in zip((problem.T, problem), factors, strict=True)
            )
        )

    def statistics(
        self, part: Problem, codes: Codes, H: FreeFactor
    ) -> tuple[FreeFactor, FreeFactor]:
        minus, plus = part.gradient(codes, H)
        return H ** (1 / part.loss.mu_exponent) * minus, plus

    def update_H(
        self,
        problem: Problem,
        part: Problem,
        total: tuple[FreeFactor, FreeFactor],
        H: FreeFactor,
        constants: Factors,
    ) -> FreeFactor:
        scaled, plus = total
        plus = plus + problem.penalty.gradient(H)
        minus = scaled * inverse(H ** (1 / problem.loss.mu_exponent))
        return multiplied(problem, H, minus, plus, constants.H)

    def update_codes(
        self, part: Problem, H: FreeFactor, codes: Codes, constants: Factors
    ) -> Codes:
        def again(_: Index, codes: Codes) -> Codes:
            minus, plus = part.T.gradient(H, codes)
            return multiplied(part.T, codes, minus, plus, constants.Wt)

        return jax.lax.fori_loop(0, self.inner, again, codes)
