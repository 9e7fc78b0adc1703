"""`factorize`: from what a user has to a `Result`, in one call."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import jax
import numpy as np

from jaxnmf.checks import check_amount as check_amount
from jaxnmf.checks import check_count as check_count
from jaxnmf.checks import is_number as is_number
from jaxnmf.constraints import CONSTRAINTS, Box, Free, NonNegative, Penalty
from jaxnmf.init import initial_factors
from jaxnmf.losses import Loss
from jaxnmf.offsets import OFFSET_WEIGHTS, TOWARD, with_prior
from jaxnmf.operand import as_matrix, check_loss
from jaxnmf.problem import Problem
from jaxnmf.programs import PRECISION as PRECISION
from jaxnmf.programs import precision as precision
from jaxnmf.registry import (
    lookup,
    make_loss,
    make_solver,
    solver_class,
    solvers,
)
from jaxnmf.result import Result, to_result
from jaxnmf.run import RECORD_EVERY, Stop, timed
from jaxnmf.solvers.base import constraints_of, operands_of
from jaxnmf.types import Factors


class Unsupported(ValueError):
    """A solver was asked for a loss or an operand that it does not take."""


def factorize(
    V: Any,
    rank: int,
    *,
    solver: Any = "hals",
    loss: str | Loss | Callable[..., Any] = "frobenius",
    init: str | Sequence[Any] = "random",
    seed: int = 0,
    max_iter: int = 200,
    tol: float = 1e-4,
    kkt_tol: float = 0.0,
    target: float | None = None,
    time_budget: float | None = None,
    l1: float | tuple[float, float] = 0.0,
    l2: float | tuple[float, float] = 0.0,
    constraints: Any = "nonnegative",
    mask: Any = None,
    offsets: Any = False,
    toward: str = "zero",
    dtype: Any = "float32",
    record_every: int = RECORD_EVERY,
    kkt: bool = True,
    progress: bool | None = None,
    solver_options: Mapping[str, Any] | None = None,
    loss_options: Mapping[str, Any] | None = None,
) -> Result:
    """Factorise V ≈ W H with W, H ≥ 0.

    min over W, H ≥ 0 of D(V | WH) + l1·ΣW + l1·ΣH + ½ l2·‖W‖² + ½ l2·‖H‖².

    Args:
      V: (m, n), non-negative and finite (of any sign for solvers such as "semi"): a
        NumPy or JAX array, SciPy sparse (what is not stored is zero), or
        `jaxnmf.Observed` (what is not given is unknown).
      rank: p, the number of components.
      solver: a name (`jaxnmf.solvers()`) or an instance.
      loss: a name (`jaxnmf.losses()`), an instance, or your own entrywise φ(v, x).
      init: "random"; "nndsvd", "nndsvda", "nndsvdar", from the SVD; "spa", "snpa",
        "xray", rows of V that span the others; or a pair (W, H).
      seed: of everything random.
      max_iter, tol, kkt_tol, target, time_budget: when to stop, whichever comes
        first: iterations; change of the loss over ten iterations against the first
        loss; KKT residual against the first; loss; seconds of iterating.
      l1, l2: penalties, for both factors or as a pair (for W, for H).
      constraints: what W and H are held to, for both or as a pair: "nonnegative",
        "box" (entries ≤ 1; another bound by `jaxnmf.Box`) or "simplex" (the components'
        shares in a row of W, or in a column of H, sum to one).
      mask: what is known of V: (m, n), true or a weight > 0 for a known entry, an array
        or SciPy sparse; or "nan", everything that is not NaN. The loss is then over the
        known entries alone, each times its weight.
      offsets: for data observed in part, add an offset for each row and column,
        V_ij ≈ b_i + c_j + (WH)_ij with b, c ≥ 0 (`jaxnmf.offsets`). A number is the l2
        weight by which they are pulled to half the mean of V each, a pair one for b
        and one for c; True takes a weight that suits ratings.
      toward: where l2 pulls the factors' entries of such data: "zero", or "mean", the
        constant at which the model predicts the mean of V.
      dtype: "float32" or "float64", to work in.
      record_every: iterations between records of loss and KKT residual.
      kkt: whether to record the KKT residual (as costly as half an iteration).
      progress: show a bar; by default only for a run of over two seconds in a
        terminal.
      solver_options, loss_options: options that go with a name.

    Returns:
      A `Result`: W (m, p), H (p, n), loss, relative_error, iterations, status, trace.

    Raises:
      ValueError: for anything that does not fit, before any compilation.

    Example:
      >>> import numpy as np, jaxnmf
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> result = jaxnmf.factorize(V, 4)
      >>> result.W.shape, result.H.shape
      ((30, 4), (4, 20))
    """
    with precision(dtype) as dtype:
        made = make_solver(solver, solver_options)
        problem = make_problem(
            V, dtype, made, make_loss(loss, loss_options), l1, l2, constraints, mask
        )
        check_count("rank", rank)
        stop = make_stop(max_iter, tol, kkt_tol, target, time_budget)
        check_count("record_every", record_every)
        check_count("seed", seed, least=0)
        problem, factors = begin(problem, rank, init, seed, offsets, toward)
        with progress_bar(max_iter, progress) as on_record:
            run = timed(
                problem,
                made,
                factors,
                jax.random.key(seed),
                stop,
                record_every=record_every,
                kkt=kkt,
                on_record=on_record,
            )
        return to_result(run, problem)


def make_problem(
    V: Any,
    dtype: Any,
    solver: Any,
    loss: Loss,
    l1: Any,
    l2: Any,
    constraints: Any,
    mask: Any = None,
) -> Problem:
    """The problem that a solver is to work on, everything checked."""
    signed = solver.supports.signed
    problem = Problem.of(
        as_matrix(V, dtype, mask=mask, signed=bool(signed)),
        loss,
        penalties=make_penalties(l1, l2),
        constraints=make_constraints(constraints, signed),
    )
    check_problem(problem, solver)
    return problem


def begin(
    problem: Problem,
    rank: int,
    init: Any,
    seed: int,
    offsets: Any = False,
    toward: str = "zero",
) -> tuple[Problem, Factors]:
    """The problem at a rank, with what offsets it is to have, and feasible factors to
    begin from."""
    factors = initial_factors(problem.matrix, rank, init, seed)
    weights = make_offsets(offsets)
    if toward not in TOWARD:
        raise ValueError(f"toward={toward!r} must be one of {', '.join(TOWARD)}")
    if weights is not None or toward != "zero":
        if problem.matrix.kind != "observed":
            raise ValueError(
                f"offsets={offsets!r}, toward={toward!r} are for data observed in "
                "part; pass a mask (of ones, if all is known) or jaxnmf.Observed"
            )
        drawn = isinstance(init, str) and init == "random"
        problem, factors = with_prior(problem, factors, weights, toward, drawn=drawn)
    return problem, problem.start(factors)


def make_offsets(offsets: Any) -> tuple[float, float] | None:
    """The l2 weights of row and column offsets, None for no offsets."""
    if offsets is False or offsets is None:
        return None
    if offsets is True:
        return OFFSET_WEIGHTS
    pair = (offsets, offsets) if np.ndim(offsets) == 0 else tuple(offsets)
    if len(pair) != 2:
        raise ValueError(
            f"offsets has {len(pair)} values; give True, one l2 weight for both or a "
            "pair (for rows, for columns)"
        )
    for x in pair:
        check_amount("offsets", x)
    return pair


def make_stop(
    max_iter: int = 200,
    tol: float = 1e-4,
    kkt_tol: float = 0.0,
    target: float | None = None,
    time_budget: float | None = None,
) -> Stop:
    """A `Stop` of checked values, on the host."""
    check_count("max_iter", max_iter)
    check_amount("tol", tol)
    check_amount("kkt_tol", kkt_tol)
    if time_budget is not None:
        check_amount("time_budget", time_budget)
    if target is not None and not (is_number(target) and np.isfinite(target)):
        raise ValueError(f"target={target!r} must be a finite number or None")
    return Stop(
        max_iter=max_iter,
        tol=tol,
        kkt_tol=kkt_tol,
        target=-np.inf if target is None else float(target),
        seconds=np.inf if time_budget is None else time_budget,
    )


def make_penalties(l1: Any, l2: Any) -> tuple[Penalty, Penalty]:
    """The penalties on W and H, each given for both or as a pair (for W, for H)."""
    pairs = []
    for name, value in (("l1", l1), ("l2", l2)):
        pair = (value, value) if np.ndim(value) == 0 else tuple(value)
        if len(pair) != 2:
            raise ValueError(
                f"{name} has {len(pair)} values; give one for both factors or a pair "
                "(for W, for H)"
            )
        for x in pair:
            check_amount(name, x)
        pairs.append(pair)
    (l1_W, l1_H), (l2_W, l2_H) = pairs
    return Penalty(l1=l1_W, l2=l2_W), Penalty(l1=l1_H, l2=l2_H)


def make_constraints(
    constraints: Any, signed: Set[str] = frozenset()
) -> tuple[NonNegative, NonNegative]:
    """The constraints of W and H, each given for both or as a pair, by name or made;
    a factor that is ``signed`` has none by default."""
    single = not isinstance(constraints, list | tuple)
    pair = (constraints, constraints) if single else constraints
    if len(pair) != 2:
        raise ValueError(
            f"constraints has {len(pair)} values; give one for both factors or a pair "
            "(for W, for H)"
        )
    made = []
    for factor, one in zip("WH", pair, strict=True):
        if isinstance(one, str):
            one = lookup("constraint", one, CONSTRAINTS)()
        elif one is None:
            one = NonNegative()
        if not isinstance(one, NonNegative) or one.mask is not None:
            raise ValueError(
                f"constraints={one!r} is neither a name ({', '.join(CONSTRAINTS)}) nor "
                "a constraint such as jaxnmf.Box(upper=2.0)"
            )
        if isinstance(one, Box) and not (is_number(one.upper) and one.upper > 0):
            raise ValueError(f"Box: upper={one.upper!r} must be a number > 0")
        plain = type(one) is NonNegative
        made.append(Free() if plain and factor in signed else one)
    return made[0], made[1]


def check_problem(problem: Problem, solver: Any) -> None:
    """Refuse, by name and with what would fit, a combination that cannot be run."""
    loss, matrix = problem.loss, problem.matrix
    name = getattr(solver, "name", type(solver).__name__)
    loss_name = type(loss).name or type(loss).__name__
    supports = solver.supports
    if not supports.takes(loss) or matrix.kind not in operands_of(solver):
        fit = [
            other
            for other in solvers()
            if solver_class(other).supports.takes(loss)  # pyright: ignore
            and matrix.kind in operands_of(solver_class(other))
        ]
        raise Unsupported(
            f"solver {name!r} cannot minimise the loss {loss_name!r} on {matrix.kind} "
            f"data; solvers that can: {', '.join(fit)}"
        )
    for project in problem.projects:
        if project.name not in constraints_of(solver) | {"free"}:
            fit = [
                other
                for other in solvers()
                if project.name in constraints_of(solver_class(other))
            ]
            raise Unsupported(
                f"solver {name!r} cannot hold a factor to the constraint "
                f"{project.name!r}; solvers that can: {', '.join(fit)}"
            )
    check_loss(matrix, loss)
    # What else a solver asks of the data.
    if hasattr(solver, "check"):
        solver.check(problem)


@contextlib.contextmanager
def progress_bar(
    total: int, show: bool | None = None, label: str = "iterations"
) -> Iterator[Callable[[int, float], None] | None]:
    """Yields a function to call with (iteration, loss), or None when not to show.

    With show=None the bar appears after two seconds, and only in a terminal.
    """
    if show is False or (show is None and not sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}  loss {task.fields[loss]:.6g}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True, force_terminal=show)
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task(label, total=total, loss=float("nan"))
    begun, patience = time.perf_counter(), 0.0 if show else 2.0

    def on_record(iteration: int, loss: float) -> None:
        if not bar.live.is_started and time.perf_counter() - begun > patience:
            bar.start()
        bar.update(task, completed=iteration, loss=loss)

    try:
        yield on_record
    finally:
        bar.stop()
