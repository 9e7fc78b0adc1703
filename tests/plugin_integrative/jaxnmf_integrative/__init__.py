"""Integrative NMF: a model with a structure of its own, as a solver outside jaxnmf."""

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from jaxnmf import register_solver
from jaxnmf.data.operand import true_shape
from jaxnmf.kernels.multiplicative import quotient
from jaxnmf.objective.problem import Problem
from jaxnmf.solvers import QUADRATIC, Alternating, Supports
from jaxnmf.types import Factors, static


@register_solver("integrative")
class Integrative(Alternating):
    """Integrative NMF: data sets V_i ≈ W_i (H + H_i) with H shared and H_i their own.

    min ½ Σ_i ‖V_i − W_i (H + H_i)‖² + ½ λ Σ_i ‖W_i H_i‖² over W_i, H, H_i ≥ 0, where
    the V_i are blocks of the rows of V. As a product of two factors it is

        [V_1]   [W_1  W_1   0 ] [ H ]
        [V_2] ≈ [W_2   0   W_2] [H_1]
                                [H_2]

    so that of d data sets and ``shared`` components H, the rank is (1 + d) · shared: H
    comes first, then H_1, H_2, …. Multiplicative updates of all of H, then of the W_i,
    of which each is in two columns.

    Args:
      sizes: the rows of each data set, which follow each other in V; one by default.
      shared: how many components H has.
      weight: λ, of the own parts.

    References: Yang & Michailidis, "A non-negative matrix factorization method for
    detecting modules in heterogeneous omics multi-modal data", Bioinformatics 32 (2016)
    [Yang2016]; Welch et al., "Single-cell multi-omic integration compares and contrasts
    features of brain cell identity", Cell 177 (2019) [Welch2019].
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(
        known=frozenset(), mesh=False, ordered=True, padded=False
    )
    own_objective: ClassVar[bool] = True
    sizes: Any = static(())
    shared: int = static(1)
    weight: float = 5.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple(self.sizes))

    def check(self, problem: Problem) -> None:
        m = int(true_shape(problem.operand)[0])
        if self.sizes and sum(self.sizes) != m:
            raise ValueError(
                f"solver 'integrative': sizes={self.sizes} add up to "
                f"{sum(self.sizes)}; V has {m} rows"
            )
        if any(float(one.l1) or float(one.l2) for one in problem.penalties):
            raise ValueError("solver 'integrative': l1 and l2 must be 0")

    def init(self, problem: Problem, factors: Factors, key: Any) -> tuple[()]:
        del problem, key
        d, p = max(1, len(self.sizes)), len(factors.H)
        if p < (1 + d) * self.shared:
            raise ValueError(
                f"solver 'integrative': rank={p}; {self.shared} shared components of "
                f"{d} data sets need {(1 + d) * self.shared}"
            )
        return ()

    def step(
        self, problem: Problem, factors: Factors, state: tuple[()]
    ) -> tuple[Factors, tuple[()]]:
        k, H = self.shared, factors.H
        where, W = self._rows(factors.Wt), factors.Wt[:k]
        d, used = len(where), k * (1 + len(where))

        def tied(W: Any) -> Any:
            """All columns of W, those of no component 0."""
            own = (where[:, None] * W).reshape(k * d, -1)
            return jnp.concatenate([W, own, jnp.zeros_like(factors.Wt[used:])])

        gram, minus = problem.quadratic(tied(W))
        of_W = gram.array[k:used, :k].reshape(d, k, k)  # W_iᵀ W_i
        own = of_W @ H[k:used].reshape(d, k, -1)
        plus = (gram @ H).at[k:used].add(self.weight * own.reshape(k * d, -1))
        H = problem.project(H * quotient(minus, plus))

        gram, cross = problem.T.quadratic(H)
        minus = cross[:k] + cross[k:used].reshape(d, k, -1)
        C = gram.array
        mixed = C[k:used, :k].reshape(d, k, k)  # H_i Hᵀ
        own = jnp.einsum("ikil->ikl", C[k:used, k:used].reshape(d, k, d, k))
        both = C[:k, :k] + mixed + mixed.swapaxes(1, 2) + (1 + self.weight) * own
        minus, plus = ((where[:, None] * x).sum(0) for x in (minus, both @ W))
        return Factors(problem.T.project(tied(W * quotient(minus, plus))), H), state

    def _rows(self, Wt: Any) -> Any:
        """The rows of V that each data set has, (d, m)."""
        m = Wt.shape[1]
        ends = np.cumsum([0, *(self.sizes or (m,))])[:, None]
        inside = (ends[:-1] <= np.arange(m)) & (np.arange(m) < ends[1:])
        return jnp.asarray(inside, Wt.dtype)
