"""New rows for a given factorisation: W with H fixed."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxnmf._util.checks import check_amount, check_count
from jaxnmf.build import check_loss
from jaxnmf.data.convert import as_operand
from jaxnmf.objective.constraints import NonNegative
from jaxnmf.objective.losses import Loss
from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import make_solver
from jaxnmf.run.clock import timed
from jaxnmf.run.loop import Run
from jaxnmf.run.programs import precision
from jaxnmf.run.stop import Stop
from jaxnmf.solvers.base import Alternating
from jaxnmf.types import Factors, pytree


@pytree
class RowsOnly:
    """An alternating solver that updates W alone."""

    inner: Alternating

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> Any:
        del key
        return self.inner.half_init(problem.T, factors.H, factors.Wt)

    def step(
        self, problem: Problem, factors: Factors, state: Any
    ) -> tuple[Factors, Any]:
        Wt, H = factors
        Wt, state = self.inner.half_step(problem.T, H, Wt, state)
        return Factors(Wt, H), state


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """The model that new rows are fitted with.

    Attributes:
      loss: D.
      H: with its offsets.
      typical: the mean row of W, for rows of which nothing is known.
      project, penalty: the feasible set of W and the penalty on it.
      dtype: the precision.
    """

    loss: Loss
    H: Float[np.ndarray, "p n"]
    typical: Float[np.ndarray, " p"]
    project: NonNegative
    penalty: Penalty
    dtype: str

    @classmethod
    def of(
        cls, problem: Problem, Wt: Float[np.ndarray, "p m"], H: Float[np.ndarray, "p n"]
    ) -> Model:
        """The model of a solved problem."""
        host = (problem.projects[0], problem.penalties[0])
        project, penalty = jax.tree.map(np.asarray, host)
        name = np.dtype(problem.operand.dtype).name
        return cls(
            loss=problem.loss,
            H=H,
            typical=Wt.mean(1),
            project=project,
            penalty=penalty,
            dtype=name,
        )

    def fit(
        self, V: Any, *, mask: Any = None, max_iter: int = 1000, tol: float = 1e-7
    ) -> tuple[Run, Problem]:
        """argmin over W of D(V | W H) + penalty(W), and the problem it solves.

        By `hals` for the Frobenius loss, `mu` for other β-divergences, and `pgd` for
        what neither of them supports.
        """
        check_count("max_iter", max_iter)
        check_amount("tol", tol)
        p, n = self.H.shape
        signed = self.project.name == "free"
        with precision(self.dtype) as dtype:
            operand = as_operand(V, dtype, mask=mask, signed=signed)
            if operand.shape[1] != n:
                raise ValueError(
                    f"V has shape {operand.shape}; rows for this H need {n} columns"
                )
            check_loss(operand, self.loss)
            problem = Problem(
                operand=operand,
                loss=self.loss,
                projects=(
                    jax.tree.map(jnp.asarray, self.project),
                    NonNegative(held=jnp.asarray(self.H)),
                ),
                penalties=jax.tree.map(jnp.asarray, (self.penalty, Penalty())),
            )
            # Start at the right mean; multiplicative updates need entries > 0.
            total = float(np.abs(self.H).sum(0).mean())
            level = float(operand.moments.mean) / total if total > 0 else 1.0
            Wt = np.full((p, operand.shape[0]), abs(level) or 1.0, dtype)
            factors = problem.start(
                Factors(problem.projects[0](jnp.asarray(Wt)), jnp.asarray(self.H))
            )
            run = timed(
                problem,
                RowsOnly(inner=self._solver()),
                factors,
                jax.random.key(0),
                Stop(max_iter=max_iter, tol=tol),
            )
            return run, problem

    def _solver(self) -> Any:
        if self.loss.quadratic and self.project.name != "simplex":
            return make_solver("hals")
        if self.loss.beta is not None and self.project.name == "nonnegative":
            return make_solver("mu")
        return make_solver("pgd")
