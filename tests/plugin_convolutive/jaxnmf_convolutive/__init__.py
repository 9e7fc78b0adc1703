"""Convolutive NMF: components that are patterns of several columns."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxnmf import NonNegative, register_solver
from jaxnmf.kernels.multiplicative import factor_floor, multiplied
from jaxnmf.objective.problem import Problem
from jaxnmf.solvers import ANY, Supports
from jaxnmf.types import Factors, static


@register_solver("convolutive")
class Convolutive:
    r"""Non-negative matrix factor deconvolution, V ≈ Σ_t W_t shift_t(H).

    A component is a pattern of ``width`` columns, which h puts wherever it occurs:
    V_ij ≈ Σ_k Σ_t W_t[i, k] h_k[j − t], t = 0 … width − 1. This is V ≈ W H of rank
    p = patterns · width, where W has the columns of every pattern side by side and row
    width·k + t of H is h_k, moved t columns to the right; a `jaxnmf.Result` holds it.
    Pattern k is ``W[:, width * k : width * (k + 1)]``, and its h is ``H[width * k]``.

    W takes the multiplicative update of the loss. For h the gradient plus − minus of H
    is summed over its copies, each moved back, and

        h ← h ∘ (Σ_t shift_−t(minus_t) / Σ_t shift_−t(plus_t))^γ,

    which is monotone, as W H is linear in h with non-negative coefficients. (Smaragdis
    takes the mean of the ratios, which is not.)

    Args:
      width: columns of a pattern. The last one is narrower where p is no multiple.
      along: "columns" or "rows", in which time runs. With "rows" it is W that has
        copies, and pattern k is ``H[width * k : width * (k + 1)]``.
      floor: the smallest entry, in units of the factor's mean at the start.

    References: Smaragdis, "Non-negative matrix factor deconvolution; extraction of
    multiple sound sources from monophonic inputs", ICA (2004) [Smaragdis2004]; Schmidt
    & Mørup, "Nonnegative matrix factor 2-D deconvolution for blind single channel
    source separation", ICA (2006) [Schmidt2006], for the sums.
    """

    supports: ClassVar[Supports] = ANY._replace(
        losses="multiplicative",
        operands=frozenset({"dense", "sparse", "observed"}),
        known=frozenset(),
        padded=False,
        ordered=True,
        mesh=False,
    )
    monotone: ClassVar[bool] = False  # the start is no pattern yet
    own_objective: ClassVar[bool] = True  # over fewer H than the problem's
    width: int = static(1)
    along: str = static("columns")
    floor: float = 1e-10

    def check(self, problem: Problem) -> None:
        if self.width < 1:
            raise ValueError(
                f"solver 'convolutive': width={self.width!r} must be at least 1"
            )
        sizes = {"rows": problem.operand.shape[0], "columns": problem.operand.shape[1]}
        if self.along not in sizes:
            raise ValueError(
                f"solver 'convolutive': along={self.along!r} must be one of rows, "
                "columns"
            )
        if self.width > sizes[self.along]:
            raise ValueError(
                f"solver 'convolutive': width={self.width} is more than V has "
                f"{self.along} ({sizes[self.along]})"
            )

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> Any:
        """The floors, fixed for the run."""
        del key
        Wt, H = factors
        floors = (
            factor_floor(problem.T, Wt, self.floor),
            factor_floor(problem, H, self.floor),
        )
        return floors

    def step(
        self, problem: Problem, factors: Factors, state: Any
    ) -> tuple[Factors, Any]:
        Wt, H = factors
        floor_W, floor_H = state
        if self.along == "columns":
            H = self._occurrences(problem, Wt, H, floor_H)
            Wt = self._patterns(problem.T, H, Wt, floor_W)
        else:
            Wt = self._occurrences(problem.T, H, Wt, floor_W)
            H = self._patterns(problem, Wt, H, floor_H)
        return Factors(Wt, H), state

    def _patterns(self, problem: Problem, fixed: Any, free: Any, floor: Any) -> Any:
        minus, plus = problem.penalised(problem.split(fixed, free), free)
        return multiplied(problem, free, minus, plus, floor)

    def _occurrences(self, problem: Problem, fixed: Any, free: Any, floor: Any) -> Any:
        rank = len(free)
        h = free[:: self.width]
        free = problem.project(copies(h, self.width)[:rank])
        gradient = problem.penalised(problem.split(fixed, free), free)
        minus, plus = (summed(part, self.width) for part in gradient)
        one = dataclasses.replace(
            problem, projects=(problem.projects[0], NonNegative())
        )
        h = multiplied(one, h, minus, plus, floor)
        return problem.project(copies(h, self.width)[:rank])


def moved(X: jax.Array, t: int) -> jax.Array:
    """X moved t columns to the right, to the left for a negative t."""
    zeros = jnp.zeros((len(X), abs(t)), X.dtype)
    if t < 0:
        return jnp.concatenate([X[:, -t:], zeros], 1)
    return jnp.concatenate([zeros, X[:, : X.shape[1] - t]], 1)


def copies(h: jax.Array, width: int) -> jax.Array:
    """Row width·k + t is h_k, moved t columns."""
    every = jnp.stack([moved(h, t) for t in range(width)], 1)
    return every.reshape(len(h) * width, -1)


def summed(X: jax.Array, width: int) -> jax.Array:
    """Row k is the sum of the rows of its pattern, each moved back: of `copies`, the
    adjoint."""
    left_out = -len(X) % width
    X = jnp.concatenate([X, jnp.zeros((left_out, X.shape[1]), X.dtype)])
    parts = X.reshape(-1, width, X.shape[1])
    rows = [moved(parts[:, t], -t) for t in range(width)]
    return jnp.stack(rows).sum(0)
