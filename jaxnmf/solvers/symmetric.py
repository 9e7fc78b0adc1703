"""Symmetric NMF."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxnmf.kernels.coordinate import sweeps
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.shapes import Array, Bool, Float
from jaxnmf.solvers.base import QUADRATIC, Alternating, Supports
from jaxnmf.types import Factors, FixedFactor, FreeFactor, Index, Scalar, static

POWER_STEPS = 20


class State(NamedTuple):
    """The coupling, and whether a step has been taken."""

    mu: Scalar
    started: Bool[Array, ""]


@register_solver("symmetric")
class SymmetricNMF(Alternating):
    """Symmetric NMF, V ≈ W Wᵀ: clusters of a similarity matrix or a graph.

    min ½‖V − WH‖² + ½μ‖W − Hᵀ‖² over W, H ≥ 0, by HALS sweeps of one factor and then
    the other on (G + μI, B + μ times the other factor). With μ large enough every
    stationary point has W = Hᵀ exactly and is one of ½‖V − WWᵀ‖²: with
    μ = weight ‖V‖₂ it is for weight ≥ 1, if ‖WH‖₂ ≤ ‖V‖₂. It starts from W = Hᵀ.

    Cost: as HALS, two products of 2n²p, and 2np² a sweep. Every step reduces
    the objective with its last term; its limit points are stationary while no component
    vanishes.

    Use: a matrix of similarities or a graph, to cluster its nodes.

    Args:
      weight: of W = Hᵀ, in units of the largest eigenvalue of V.
      inner: sweeps for each Gram and cross product; 0 chooses by the sizes.

    References: Kuang, Yun & Park, "SymNMF: nonnegative low-rank approximation of a
    similarity matrix for graph clustering", J. Global Optimization 62 (2015)
    [Kuang2015]; Zhu, Li, Liu & Li, "Dropping symmetry for fast symmetric nonnegative
    matrix factorization", NeurIPS 31 (2018) [Zhu2018], for the weight that is enough.
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(symmetric=True, known=frozenset())
    own_objective: ClassVar[bool] = True
    weight: float = 1.0
    inner: int = static(0)

    def check(self, problem: Problem) -> None:
        m, n = problem.operand.shape
        if m != n:
            raise ValueError(
                f"solver 'symmetric': V has shape ({m}, {n}); it must be square and "
                "symmetric, such as a similarity of samples V @ V.T"
            )
        V = problem.operand.to_host()
        apart, largest = float(abs(V - V.T).max()), float(V.max())
        if apart > 1e-5 * largest:
            raise ValueError(
                f"solver 'symmetric': V and its transpose differ by up to {apart:g}, "
                f"with entries up to {largest:g}; V must be symmetric, such as "
                "(V + V.T) / 2"
            )

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> State:
        """μ by power iterations, which for V ≥ 0 may start from ones."""
        del key
        dtype = problem.operand.dtype
        present = jnp.asarray(problem.project.columns(factors.H), dtype)
        x = present / jnp.sqrt(present.sum())

        def power(
            _: Index, carry: tuple[Float[Array, "1 n"], Scalar]
        ) -> tuple[Float[Array, "1 n"], Scalar]:
            x, _ = carry
            y = present * problem.operand.dot(x)
            size = jnp.sqrt((y * y).sum())
            return y / jnp.where(size > 0, size, 1), size

        _, largest = jax.lax.fori_loop(0, POWER_STEPS, power, (x, jnp.zeros((), dtype)))
        return State(self.weight * largest, jnp.zeros((), bool))

    def step(
        self, problem: Problem, factors: Factors, state: State
    ) -> tuple[Factors, State]:
        mu, started = state
        Wt, H = factors
        mean = 0.5 * (Wt + H)
        Wt, H = jnp.where(started, Wt, mean), jnp.where(started, H, mean)
        H = self._half(problem, Wt, H, mu)
        Wt = self._half(problem.T, H, Wt, mu)
        return Factors(Wt, H), State(mu, jnp.ones_like(started))

    def _half(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor, mu: Scalar
    ) -> FreeFactor:
        gram, cross = problem.quadratic(fixed)
        cross = cross + mu * fixed
        return sweeps(problem, gram.plus_diagonal(mu), cross, free, self.inner)
