"""Padding: a problem of a larger rank and shape, with the same solution.

Problems of one shape share a compiled program and can be lanes of one run. What pads a
problem is held at 0 in the factors and adds nothing to the objective, the gradients and
the KKT residual, so that a run from padded factors is that of the problem itself, to
rounding.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf import tiny
from jaxnmf.data.operand import Operand
from jaxnmf.data.spread import is_spread
from jaxnmf.init.random import key_seed
from jaxnmf.objective.losses import Loss
from jaxnmf.objective.problem import Problem
from jaxnmf.run.clock import timed
from jaxnmf.run.loop import Run
from jaxnmf.run.stop import Stop
from jaxnmf.run.streamed import streamed
from jaxnmf.solvers.base import supports_padding
from jaxnmf.types import Factors

# A problem is small while the entries of V and of the factors times p are at most so
# many: compiling then takes longer than some hundred iterations.
SMALL = 2**20
LEAST_RANK = 4
# New rows of a given H are padded to so many at least, while that is tiny: an iteration
# takes some microseconds more, a program for each number of rows tenths of a second.
LEAST_ROWS, LEAST_STORED = 2**8, 2**13


def run_shared(
    problem: Problem,
    solver: Any,
    factors: Factors,
    seed: int,
    stop: Stop,
    *,
    pad: bool,
    new_rows: bool = False,
    **given: Any,
) -> Run:
    """The run of `jaxnmf.run.clock.timed`, small problems padded to a few sizes that
    share a compiled program, for solvers and losses that allow it, and tiny ones in
    NumPy where `jaxnmf.tiny` can; or for a V in blocks the run of
    `jaxnmf.run.streamed`.

    Args:
      seed: of what the solver draws.
      pad: whether to pad at all.
      new_rows: whether the rows of V are new ones of a given H, any number of which is
        usual.
      others: as for `timed`.
    """
    rank, shape = len(factors.H), problem.operand.shape
    if pad and tiny.suits(problem, solver, rank, stop):
        return tiny.run(problem, solver, factors, stop, **given)
    key = jax.random.key(key_seed(seed))
    if problem.operand.kind == "blocks":
        return streamed(problem, solver, factors, key, stop, **given)
    if not (pad and may_share(problem, solver, rank)):
        return timed(problem, solver, factors, key, stop, **given)
    problem, factors, quick = shared(problem, factors, solver, new_rows=new_rows)
    run = timed(problem, solver, factors, key, stop, quick=quick, **given)
    return run._replace(factors=unpadded(run.factors, rank, shape))


def may_share(problem: Problem, solver: Any, rank: int) -> bool:
    """Whether a problem is small and can be padded. One with a graph is not: hardly
    another has as many edges."""
    operand = problem.operand
    return (
        tiny.size(operand, rank) <= SMALL
        and problem.loss.beta is not None
        and problem.graphs == (None, None)
        and getattr(operand, "placement", None) is None
        and (solver is None or supports_padding(solver))
    )


def shared(
    problem: Problem, factors: Factors, solver: Any = None, *, new_rows: bool = False
) -> tuple[Problem, Factors, bool]:
    """A problem for which `may_share` holds and its factors, padded to one of a few
    sizes; and whether its programs are better compiled quickly."""
    rank = len(factors.H)
    quick = tiny.size(problem.operand, rank) <= tiny.TINY
    size = shared_rank(rank)
    most = tiny.TINY // size if new_rows else 0
    operand = shared_operand(problem.operand, most)
    return *padded(problem, factors, solver, rank=size, operand=operand), quick


def shared_rank(rank: int) -> int:
    """The rank that a small problem is padded to: a power of two."""
    return max(LEAST_RANK, 1 << (rank - 1).bit_length())


def shared_operand(operand: Any, most: int = 0) -> Operand:
    """V padded to one of a few sizes, with room for one of a few counts of entries; to
    no fewer than `LEAST_ROWS` rows, as far as that makes no more than ``most`` entries.
    """
    stored = operand.entries if operand.by_entries else None
    m, n = operand.shape
    # Stored zeros that make room are in a row that only pads V, where X is 0.
    rows, columns = next_size(m + (stored is not None)), next_size(n)
    rows = max(rows, min(LEAST_ROWS, most // columns))
    if m == n and not most:  # as a symmetric V has to be
        columns = rows
    operand = operand.padded_to(rows, columns)
    if stored is None:
        return operand
    return operand.with_room(max(next_size(stored), min(LEAST_STORED, most)))


def next_size(n: int) -> int:
    """The first size that is at least n of a series with eight sizes an octave, so at
    most an eighth larger."""
    step = 1 << max(0, n.bit_length() - 4)
    return -(-n // step) * step


def padded(
    problem: Problem,
    factors: Factors,
    solver: Any,
    *,
    rank: int | None = None,
    shape: tuple[int, int] | None = None,
    operand: Operand | None = None,
) -> tuple[Problem, Factors]:
    """A problem and its initial factors, padded on the host.

    Args:
      problem: over a V that is not padded.
      factors: of the problem's own rank and shape; one that is spread over processes is
        padded already.
      solver: what the problem is for; None for updates that allow any padding.
      rank: of the padded factors, their own by default. The problem gets held entries
        in any case, and so has one structure with others of that rank.
      shape: (m, n) of the padded V; None leaves V as it is. A dense V gets entries at
        the floor of X, a sparse V rows and columns that store nothing, and data
        observed in part entries of weight 0.
      operand: V padded before, which several problems share, in place of a shape.

    Raises:
      ValueError: V is to be padded for a loss with φ(v, v) ≠ 0, or for a solver that
        does not support it; or the problem is larger already.
    """
    if operand is not None:
        shape = operand.shape
    own = (len(factors.H), *problem.operand.shape)
    size = (own[0] if rank is None else rank, *(shape or own[1:]))
    if any(x < old for x, old in zip(size, own, strict=True)):
        raise ValueError(f"padding: (rank, m, n) = {own} is larger than {size}")
    if shape is not None:
        _check_loss(problem.loss, problem.operand)
    new: Any = problem.operand if operand is None else operand
    if operand is None and shape is not None:
        new = new.padded_to(*shape)
    sides = zip(
        problem.projects,
        problem.penalties,
        factors,
        zip(own[1:], size[1:], strict=True),
        strict=True,
    )
    projects, penalties, larger = [], [], []
    for project, penalty, X, columns in sides:
        # For each axis of a factor, its size and the padded one.
        axes = ((own[0], size[0]), columns)
        held = [[np.nan]] if project.held is None else project.held
        held = np.asarray(held, new.dtype)
        width = held.shape[1] if shape is None else columns[0]
        held = np.broadcast_to(held, (own[0], width))
        projects.append(dataclasses.replace(project, held=_grown(held, axes)))
        penalties.append(jax.tree.map(lambda x, a=axes: _grown(x, a), penalty))
        larger.append(X if is_spread(X) else _grown(X, axes))
    problem = dataclasses.replace(
        problem,
        operand=new,
        projects=tuple(projects),
        penalties=tuple(penalties),
    )
    if shape is not None and solver is not None:
        _check_solver(solver, problem)
    return problem, Factors(*larger)


def _grown(x: Any, axes: tuple[tuple[int, int], ...]) -> np.ndarray:
    """x with zeros up to the padded size along each axis on which it has an entry for
    each component or column; a number as it is."""
    x = np.asarray(x)
    if not x.ndim:
        return x
    pairs = zip(x.shape, axes, strict=True)
    return grown(x, tuple(new if n == old else n for n, (old, new) in pairs))


def grown(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """x with zeros up to a larger shape."""
    if shape == x.shape:
        return x
    # Not numpy.pad, which takes longer than a small lane's iterations.
    larger = np.zeros(shape, x.dtype)
    larger[tuple(map(slice, x.shape))] = x
    return larger


def _check_loss(loss: Loss, operand: Operand) -> None:
    """Refuse a loss that entries of equal v and x add to."""
    if loss.beta is not None:
        return
    name = loss.label
    for v in (max(float(operand.floor), 0.0), 1.0):
        at = jnp.asarray(v, operand.dtype)
        equal, apart = (abs(float(loss.pointwise(at, x))) for x in (at, 2 * at))
        if not equal <= 1e-6 * apart:  # also where it is no number
            raise ValueError(
                f"loss {name!r} is {equal:g} at v = x = {v:g}; V can be padded only "
                "for a loss that is 0 there"
            )


def _check_solver(solver: Any, problem: Problem) -> None:
    """Refuse a solver whose result depends on what pads V, by its class or settings."""
    if not supports_padding(solver):
        name = getattr(solver, "name", type(solver).__name__)
        raise ValueError(
            f"solver {name!r} does not support a padded V, which would change its "
            "result"
        )
    if hasattr(solver, "check"):
        solver.check(problem)


def unpadded(factors: Factors, rank: int, shape: tuple[int, int]) -> Factors:
    """Padded factors of a problem, without what pads them."""
    m, n = shape
    Wt, H = map(np.asarray, factors)
    return Factors(Wt[:rank, :m], H[:rank, :n])  # pyright: ignore
