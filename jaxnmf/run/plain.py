"""Coordinate descent and multiplicative updates as scikit-learn defines them: W first,
one update of each factor an iteration, and a stop rule for each of the two."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.data.grams import Gram
from jaxnmf.kernels.coordinate import sweep
from jaxnmf.kernels.multiplicative import quotient
from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.problem import Problem
from jaxnmf.run.programs import (
    WORTH_COMPILING,
    compiled,
    compiled_quickly,
    note_iterations,
)
from jaxnmf.shapes import Array, Float, Int
from jaxnmf.types import Cross, Factors, FixedFactor, FreeFactor, Scalar

TEST_EVERY = 10  # iterations between two tests of multiplicative updates
SMALL = 2.0**-52  # relative to the mean of a factor: what multiplicative updates drop
BLOCK = 2**20  # entries of W H at a time, where V is sparse

Update = Callable[[FreeFactor], FreeFactor]


class Plain(NamedTuple):
    """The end of a run, in the user's units.

    Attributes:
      factors: on the host.
      iterations: how many it took.
      error: of multiplicative updates √(2 D(V | WH)), without penalties.
    """

    factors: Factors
    iterations: int
    error: float | None = None


class Progress(NamedTuple):
    """A run in progress.

    Attributes:
      factors: after ``iteration`` iterations.
      first, last: what the stop rule compares, at the first test and at the last.
      measured: the iteration of the last test, -1 before any.
      stopped: whether the stop rule holds.
    """

    factors: Factors
    iteration: Int[Array, ""]
    first: Scalar
    last: Scalar
    measured: Int[Array, ""]
    stopped: Array

    @classmethod
    def of(cls, factors: Factors, dtype: Any) -> Progress:
        """The start of a run."""
        return cls(
            factors=Factors(*(jnp.asarray(X, dtype) for X in factors)),
            iteration=np.int32(0),  # pyright: ignore
            first=np.zeros((), dtype),  # pyright: ignore
            last=np.zeros((), dtype),  # pyright: ignore
            measured=np.int32(-1),  # pyright: ignore
            stopped=np.bool_(False),  # pyright: ignore
        )


def coordinate_descent(
    problem: Problem,
    factors: Factors,
    *,
    tol: float,
    max_iter: int,
    both: bool = True,
    order: Callable[[], np.ndarray] | None = None,
    quick: bool = False,
    verbose: bool = False,
) -> Plain:
    """Coordinate descent for the Frobenius loss: one sweep over W, one over H.

    It stops when the violation Σ|g| is at most tol times that of the first iteration,
    where g is the projected gradient of an entry just before its update, the gradient
    itself for x > 0 and min(0, gradient) for x = 0, summed over the entries of both
    factors.

    Args:
      problem: of V fully observed.
      factors: the start.
      tol, max_iter: when to stop.
      both: whether H is updated too.
      order: draws the order of the components in a sweep; from the first on by default.
      quick: whether to spend less time on compiling (`compiled_quickly`).
      verbose: print the violation, relative to the first, after every iteration.

    Reference: Cichocki & Phan, IEICE Trans. Fundamentals E92-A (2009) [Cichocki2009].
    """
    dtype = problem.operand.dtype
    units, problem = problem.units, problem.plain
    run = Progress.of(units.inverse.of(factors), dtype)
    tol_array = np.asarray(tol, dtype)
    step = 1 if verbose or order is not None else WORTH_COMPILING
    while int(run.iteration) < max_iter and not run.stopped:
        orders = None
        if order is not None:
            sides = range(2 if both else 1)
            orders = np.array([order() for _ in sides], np.int32)
        until = np.int32(min(int(run.iteration) + step, max_iter))
        arguments = (problem, run, orders, tol_array, until)
        run = _after(DESCEND[both], arguments, quick)
        if verbose:
            print("violation:", float(run.last / run.first) if run.first > 0 else 0.0)
    if verbose and run.stopped:
        print("Converged at iteration", int(run.iteration) + 1)
    return Plain(_on_host(units.of(run.factors)), int(run.iteration))


def multiplicative_updates(
    problem: Problem,
    factors: Factors,
    *,
    tol: float,
    max_iter: int,
    both: bool = True,
    quick: bool = False,
    verbose: bool = False,
) -> Plain:
    """Multiplicative updates for a β-divergence: one update of W, one of H.

    W ← W ∘ (minus / plus)^γ with the gradient plus − minus and the exponent γ of the
    loss. Every ten iterations it stops if √(2 D(V | WH)) fell by less than tol times
    its value at the start. As in scikit-learn, entries that became tiny are set to 0,
    of W for β < 1 and of H for β ≤ 1.

    Args:
      problem: for a β-divergence; V may be sparse for every β > 0.
      factors: the start.
      tol, max_iter: when to stop.
      both: whether H is updated too.
      quick: whether to spend less time on compiling (`compiled_quickly`).
      verbose: print √(2D) at every test.

    Reference: Févotte & Idier, Neural Computation 23 (2011) [Fevotte2011].
    """
    dtype = problem.operand.dtype
    units, problem = problem.units, problem.plain
    run = Progress.of(units.inverse.of(factors), dtype)
    tol_array = np.asarray(tol, dtype)
    step, start = TEST_EVERY if verbose else WORTH_COMPILING, time.perf_counter()
    unit = float(np.sqrt(units.objective))
    while int(run.iteration) < max_iter and not run.stopped:
        until = np.int32(min(int(run.iteration) + step, max_iter))
        arguments = (problem, run, tol_array, until)
        run = _after(MULTIPLY[both], arguments, quick)
        if verbose:
            print(
                f"Epoch {int(run.iteration):02d} reached after "
                f"{time.perf_counter() - start:.3f} seconds, "
                f"error: {run.last * unit:f}"
            )
    error = float(run.last) * unit
    return Plain(_on_host(units.of(run.factors)), int(run.iteration), error)


def _after(function: Any, arguments: tuple[Any, ...], quick: bool) -> Progress:
    """The progress, the second argument, after more iterations."""
    program, _ = (compiled_quickly if quick else compiled)(function, *arguments)
    before, run = int(arguments[1].iteration), program(*arguments)
    if quick:
        note_iterations(program, int(run.iteration) - before)
    return run


def _on_host(factors: Factors) -> Factors:
    return Factors(*(np.array(X) for X in factors))  # pyright: ignore


def _descend(
    problem: Problem, run: Progress, orders: Any, tol: Any, until: Any, *, both: bool
) -> Progress:
    order_W, order_H = (None, None) if orders is None else (orders[0], orders[-1])
    of_W = None if both else problem.T.quadratic(run.factors.H)

    def going(run: Progress) -> Array:
        return ~run.stopped & (run.iteration < until)

    def iterate(run: Progress) -> Progress:
        Wt, H = run.factors
        quadratic = of_W or problem.T.quadratic(H)
        Wt, violation = _swept(problem.T, *quadratic, Wt, order_W)
        if both:
            H, more = _swept(problem, *problem.quadratic(Wt), H, order_H)
            violation = violation + more
        first = jnp.where(run.iteration == 0, violation, run.first)
        return Progress(
            factors=Factors(Wt, H),
            iteration=run.iteration + 1,
            first=first,
            last=violation,
            measured=run.iteration + 1,
            stopped=(first == 0) | (violation <= tol * first),
        )

    return jax.lax.while_loop(going, iterate, run)


def _swept(
    problem: Problem, gram: Gram, cross: Cross, X: FreeFactor, order: Any
) -> tuple[FreeFactor, Scalar]:
    """X after one sweep, and its violation."""
    if order is not None:
        gram = type(gram)(array=gram.array[order][:, order])
        cross, X = cross[order], X[order]
    new = sweep(problem, gram, cross, X)
    # −gradient of each row at its update: the rows before it are new, itself and those
    # after it old.
    before, after = jnp.tril(gram.array, -1), jnp.triu(gram.array)
    descent = cross - before @ new - after @ X - problem.penalty.gradient(X)
    feasible = jnp.where(X > 0, descent, jnp.maximum(descent, 0))
    feasible = jnp.where(problem.project.free, feasible, 0)
    if order is not None:
        new = jnp.zeros_like(new).at[order].set(new)
    return new, jnp.abs(feasible).sum(1).sum()


def _multiply(
    problem: Problem, run: Progress, tol: Any, until: Any, *, both: bool
) -> Progress:
    of_W = None if both else updater(problem.T, run.factors.H)

    def iterate(_: Any, factors: Factors) -> Factors:
        Wt, H = factors
        Wt = (of_W or updater(problem.T, H))(Wt)
        Wt = dropped(problem.T, Wt) if problem.loss.beta < 1 else Wt
        if both:
            H = updater(problem, Wt)(H)
            H = dropped(problem, H) if problem.loss.beta <= 1 else H
        return Factors(Wt, H)

    def going(run: Progress) -> Array:
        return ~run.stopped & (run.measured < until)

    def body(run: Progress) -> Progress:
        now, at = _error(problem, run.factors), run.iteration
        first = jnp.where(at == 0, now, run.first)
        due = (at > run.measured) & (at > 0) & (at % TEST_EVERY == 0)
        stopped = due & (tol > 0) & (run.last - now < tol * first)
        steps = jnp.minimum(TEST_EVERY - at % TEST_EVERY, until - at)
        steps = jnp.where(stopped, 0, steps)
        return Progress(
            factors=jax.lax.fori_loop(0, steps, iterate, run.factors),
            iteration=at + steps,
            first=first,
            last=now,
            measured=at,
            stopped=stopped,
        )

    return jax.lax.while_loop(going, body, run)


DESCEND = {both: partial(_descend, both=both) for both in (True, False)}
MULTIPLY = {both: partial(_multiply, both=both) for both in (True, False)}


def updater(problem: Problem, fixed: FixedFactor) -> Update:
    """The multiplicative update X ∘ (minus / plus)^γ of the free factor X."""
    gamma = problem.loss.mu_exponent
    gradient = splitter(problem, fixed)

    def update(X: FreeFactor) -> FreeFactor:
        ratio = quotient(*gradient(X))
        return problem.project.hold(X * (ratio if gamma == 1 else ratio**gamma))

    return update


def splitter(
    problem: Problem, fixed: FixedFactor
) -> Callable[[FreeFactor], tuple[FreeFactor, FreeFactor]]:
    """The function that gives (minus, plus) of a free factor, penalties included; what
    depends on the fixed factor alone is computed once."""
    penalty = problem.penalty
    if problem.by_gram:
        gram, cross = problem.quadratic(fixed)
        return lambda X: (cross, gram @ X + penalty.gradient(X))
    if not _zeros_count(problem):
        return lambda X: problem.gradient(fixed, X)
    loss, floor = problem.loss, problem.operand.floor

    def block(X: FreeFactor) -> FreeFactor:
        x = jnp.maximum(fixed.T @ X, floor)
        return fixed @ loss.split(jnp.zeros_like(x), x)[1]

    def gradient(X: FreeFactor) -> tuple[FreeFactor, FreeFactor]:
        (minus,) = problem.operand.map_dot(lambda v, x: loss.split(v, x)[:1], fixed, X)
        plus = jnp.concatenate(_by_columns(block, fixed, X), 1)[:, : X.shape[1]]
        return minus, plus + penalty.gradient(X)

    return gradient


def dropped(problem: Problem, X: FreeFactor) -> FreeFactor:
    """The free factor with 0 for what is tiny."""
    return jnp.where(SMALL * problem.project.mean(X) > X, 0, X)


def value(problem: Problem, factors: Factors) -> Scalar:
    """D(V | WH), without penalties."""
    if not _zeros_count(problem):
        penalties = (Penalty(), Penalty())
        return dataclasses.replace(problem, penalties=penalties).value(factors)
    loss, floor = problem.loss, problem.operand.floor

    def stored(v: Any, x: Any) -> Any:
        x = jnp.where(v > 0, jnp.maximum(x, floor), x)
        return loss.pointwise(v, x) - loss.pointwise(0 * v, x)

    def block(X: FreeFactor) -> Float[Array, "1 q"]:
        x = factors.Wt.T @ X
        return loss.pointwise(jnp.zeros_like(x), x).sum(0, keepdims=True)

    zeros = _by_columns(block, *factors)
    return problem.operand.map_sum(stored, *factors) + sum(x.sum() for x in zeros)


def _error(problem: Problem, factors: Factors) -> Scalar:
    return jnp.sqrt(2 * jnp.maximum(value(problem, factors), 0))


def _zeros_count(problem: Problem) -> bool:
    """Whether what a sparse V does not store is in the loss without a closed form."""
    return problem.operand.kind == "sparse" and not problem.loss.separable_zeros


def _by_columns(
    function: Callable[[FreeFactor], Float[Array, "r q"]],
    fixed: FixedFactor,
    free: FreeFactor,
) -> list[Float[Array, "r _"]]:
    """The function of blocks of the free factor's columns, so many that a block of
    X = fixedᵀ free is small."""
    p, n = free.shape
    size = max(1, min(n, BLOCK // fixed.shape[1]))
    whole = n // size * size
    blocks = free[:, :whole].reshape(p, -1, size).swapaxes(0, 1)
    done = jax.lax.map(function, blocks)
    done = [done.swapaxes(0, 1).reshape(done.shape[1], whole)]
    return [*done, function(free[:, whole:])] if whole < n else done
