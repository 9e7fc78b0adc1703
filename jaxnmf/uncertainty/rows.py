"""W of every replicate by exact least squares: one program for one V after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxnmf._util.progress import progress_bar
from jaxnmf.build import Objective, Start, at_rank, draw_start, make_problem
from jaxnmf.data.blocks import ahead
from jaxnmf.data.known import Known
from jaxnmf.objective.problem import Problem
from jaxnmf.run.programs import as_leaves, compiled, precision
from jaxnmf.shapes import Float
from jaxnmf.types import Factors


def exact_rows(
    known: Known,
    draw: Callable[[int], Known],
    starts: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    solver: Any,
    objective: Objective,
    dtype: Any,
    progress: bool | None = None,
) -> Float[np.ndarray, "r m p"]:
    """argmin over W ≥ 0 of ½‖V_i − W H_i‖² for every replicate i.

    Each V is drawn by a thread while the program solves the one before.

    Args:
      known: V, dense and known everywhere, by which the units are chosen.
      draw: V_i by the number i, with entries of any sign.
      starts: (W, H_i), W a guess.
      solver: of W alone, exact in a step.
      objective: of the Frobenius loss.
    """
    with (
        precision(dtype) as dtype,
        progress_bar(len(starts), progress, "rows") as show,
    ):
        solver = as_leaves(solver, dtype)
        signed = frozenset("V")
        problem = make_problem(known, solver, objective, dtype, signed=signed)
        problem = at_rank(problem, objective, len(starts[0][1]))

        def drawn(i: int) -> np.ndarray:
            return np.asarray(draw(i).V / problem.units.V, dtype)

        found = []
        for start, array in zip(starts, ahead(drawn, len(starts)), strict=True):
            init = Start(init=start, seed=0)
            factors = draw_start(problem, objective, init, len(start[1]))
            operand = dataclasses.replace(problem.operand, array=array)
            given = dataclasses.replace(problem, operand=operand), solver, factors
            program, _ = compiled(_solve, *given)
            found.append(np.asarray(program(*given).Wt))
            if show is not None:
                show(len(found), float("nan"))
        unit = np.asarray(problem.units.of_factor(0, len(starts[0][1])), dtype)
        return np.stack([(unit * Wt).T for Wt in found])


def _solve(problem: Problem, solver: Any, factors: Factors) -> Factors:
    state = solver.init(problem, factors, jax.random.key(0))
    return solver.step(problem, factors, state)[0]
