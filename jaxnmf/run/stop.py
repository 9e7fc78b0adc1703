"""Stop rules: when a run ends, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnmf._util.checks import check_amount, check_count, is_number
from jaxnmf.types import Status, pytree

RECORD_EVERY = 10


@pytree
class Stop:
    """The specification of when a run stops, the same for every solver.

    Attributes:
      max_iter: after that many iterations.
      tol: when the objective changes by less than tol × the first objective over ten
        iterations (in proportion, for records at another distance).
      settle: when the objective changes by less than settle × itself over ten
        iterations.
      kkt_tol: when the KKT residual is at most kkt_tol × the first.
      target: when the objective is at most this.
      seconds: when the iterations have taken this long (`jaxnmf.run.clock` only).
    """

    max_iter: int | jax.Array = 200
    tol: float | jax.Array = 1e-4
    settle: float | jax.Array = 0.0
    kkt_tol: float | jax.Array = 0.0
    target: float | jax.Array = -np.inf
    seconds: float = np.inf

    @classmethod
    def of(
        cls,
        max_iter: int = 200,
        tol: float = 1e-4,
        kkt_tol: float = 0.0,
        target: float | None = None,
        time_budget: float | None = None,
    ) -> Stop:
        """The specification from a user's arguments, as `jaxnmf.factorize` has them.

        Raises:
          ValueError: for an argument that does not fit.
        """
        check_count("max_iter", max_iter)
        check_amount("tol", tol)
        check_amount("kkt_tol", kkt_tol)
        if time_budget is not None:
            check_amount("time_budget", time_budget)
        if target is not None and not (is_number(target) and np.isfinite(target)):
            raise ValueError(f"target={target!r} must be a finite number or None")
        return cls(
            max_iter=max_iter,
            tol=tol,
            kkt_tol=kkt_tol,
            target=-np.inf if target is None else float(target),
            seconds=np.inf if time_budget is None else time_budget,
        )


class Measure(NamedTuple):
    """One look at the factors; kkt is NaN where it is not asked for."""

    objective: jax.Array
    kkt: jax.Array


def verdict(
    stop: Stop, first: Any, last: Any, now: Any, iteration: Any, steps: Any, xp: Any
) -> Any:
    """The code of the status after ``steps`` more iterations, RUNNING to go on.

    ``xp`` is `jax.numpy` inside a program and `numpy` on the host.
    """
    change = abs(last.objective - now.objective) * (RECORD_EVERY / steps)
    little = change < stop.tol * first.objective
    finite = xp.isfinite(now.objective)
    settled = change < stop.settle * xp.where(finite, now.objective, 0)
    return _first_that_holds(
        {
            Status.DIVERGED: ~finite,
            Status.TARGET: now.objective <= stop.target,
            Status.KKT: now.kkt <= stop.kkt_tol * first.kkt,
            Status.CONVERGED: little | settled,
            Status.MAX_ITER: iteration >= stop.max_iter,
        },
        xp,
    )


def initial_status(stop: Stop, first: Any, xp: Any) -> Any:
    """The code before any iteration: a run may have ended before it starts."""
    return _first_that_holds(
        {
            Status.DIVERGED: ~xp.isfinite(first.objective),
            Status.TARGET: first.objective <= stop.target,
            Status.CONVERGED: first.objective == 0,
        },
        xp,
    )


def _first_that_holds(reasons: Mapping[Status, Any], xp: Any) -> Any:
    """The code of the first reason to stop that holds, of RUNNING where none does."""
    if xp is np:  # `numpy.select` takes as long as a small problem's iteration
        held = (status for status, holds in reasons.items() if holds)
        return next(held, Status.RUNNING).code
    codes = [xp.asarray(status.code, xp.int32) for status in reasons]
    running = xp.asarray(Status.RUNNING.code, xp.int32)
    return xp.select(list(reasons.values()), codes, running)
