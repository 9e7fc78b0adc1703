"""New rows, and known components: W with H fixed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf import tiny
from jaxnmf._util.checks import as_matrix, check_amount, check_count
from jaxnmf._util.platform import on_cpu
from jaxnmf.build import Objective, feasible_sets
from jaxnmf.data.beside import Beside
from jaxnmf.data.blocks import Blocks
from jaxnmf.data.convert import as_operand
from jaxnmf.data.known import what_is_known
from jaxnmf.objective.constraints import NonNegative
from jaxnmf.objective.covariates import Design
from jaxnmf.objective.losses import Loss
from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.problem import Problem
from jaxnmf.objective.targets import without_targets
from jaxnmf.objective.units import Units, unit_of
from jaxnmf.padding import run_shared
from jaxnmf.registry import make_solver
from jaxnmf.run.loop import Run
from jaxnmf.run.programs import precision
from jaxnmf.run.stop import Stop
from jaxnmf.shapes import Bool, Float
from jaxnmf.solvers.base import Alternating, Supports
from jaxnmf.supported import check_loss
from jaxnmf.types import Factors, Status, Trace, pytree

MANY = 2**24  # m p² of a second of coordinate descent: pivoting is worth compiling
ONCE = Stop(max_iter=1, tol=0.0)
APART = 0.1  # measured: above it coordinate descent ends within 1e-5 of the solution


@pytree
class RowsOnly:
    """An alternating solver that updates W alone."""

    inner: Alternating

    @property
    def supports(self) -> Supports:
        return self.inner.supports

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
    """What new rows are fitted with, besides H.

    Attributes:
      loss: D.
      project, penalty: the feasible set of W and the penalty on it, without a graph:
        new rows have no neighbours.
      offsets: the components of W that are offsets, as of `Units`.
      signed: which of "V" and "H" may have negative entries.
      dtype: the precision.
    """

    loss: Loss
    project: NonNegative
    penalty: Penalty
    offsets: tuple[int, int] | None = None
    signed: frozenset[str] = frozenset()
    dtype: str = "float32"

    @classmethod
    def of(cls, problem: Problem) -> Model:
        """The model of a solved problem."""
        host = (problem.projects[0], problem.penalties[0])
        of_W, penalty = jax.tree.map(np.asarray, host)
        units = problem.units
        of_W, penalty = units.constraint(of_W, 0), units.penalty(penalty, 0)
        penalty = dataclasses.replace(penalty, graph_weight=None)
        if units.offsets is None:
            penalty = without_targets(penalty)
        sides = zip("WH", problem.projects, strict=True)
        signed = [side for side, project in sides if project.name == "free"]
        if float(problem.operand.floor) == -np.inf:
            signed.append("V")
        return cls(
            loss=problem.loss,
            project=_of_new_rows(of_W, units.offsets),
            penalty=penalty,
            offsets=units.offsets,
            signed=frozenset(signed),
            dtype=np.dtype(problem.operand.dtype).name,
        )

    @classmethod
    def of_objective(cls, objective: Objective, signed: Set[str], dtype: Any) -> Model:
        """The model of a specification that has no offsets and shrinks to zero."""
        return cls(
            loss=objective.loss,
            project=feasible_sets(objective, signed)[0],
            penalty=dataclasses.replace(objective.penalties[0], graph_weight=None),
            signed=frozenset(signed),
            dtype=dtype,
        )

    def fit(
        self,
        V: Any,
        H: Any,
        *,
        mask: Any = None,
        design: Design | None = None,
        max_iter: int = 1000,
        tol: float = 1e-7,
        exact: bool | None = None,
        pad: bool = True,
    ) -> tuple[Run, Problem]:
        """argmin over W of D(V | W H) + penalty(W), and the problem it solves.

        By `hals` for the Frobenius loss, `mu` for other losses with multiplicative
        updates, and `pgd` for what neither of them supports.

        Args:
          V, mask: the rows, and what is known of them.
          H: (p, n); with its offsets, where the penalty has weights for them, and with
            the rows of the design.
          design: the columns of W that are known, for the last rows of H.
          max_iter, tol: when to stop.
          exact: end with a step of block principal pivoting in double precision; by
            default for components that overlap and data observed in part. Tiny problems
            are exact by themselves, and many rows on a CPU pivot from the beginning.
          pad: run a small problem padded to one of a few sizes.
        """
        check_count("max_iter", max_iter)
        check_amount("tol", tol)
        H = check_H("H", H, "H" in self.signed)
        solver, stop = make_solver(self.solver), Stop(max_iter=max_iter, tol=tol)
        with precision(self.dtype) as dtype:
            problem = self._problem(V, H, mask, design, dtype)
            units = problem.units.inverse
            start = _start(problem, H * units.of_factor(1, len(H)))
            if pad and exact is not False and tiny.suits_rows(problem, len(H)):
                return tiny.least_squares(problem, start), problem
            work = problem.operand.shape[0] * len(H) ** 2
            at_once = self.pivots and exact is not False and on_cpu() and work >= MANY
            if at_once:
                run = _rows(problem, make_solver("anls-bpp"), start, ONCE, pad)
                run = run._replace(status=Status.CONVERGED.code)  # pyright: ignore
            else:
                run = _rows(problem, solver, start, stop, pad)
        if exact is None:
            exact = not problem.fully_observed or overlap(H)
        if exact and self.pivots and not (at_once and dtype == np.float64):
            # In float32 the Gram matrix of such components has no digit to spare.
            with precision("float64") as double:
                finer = self._problem(V, H, mask, design, double)
                own = units.of(Factors(*(np.asarray(X, double) for X in run.factors)))  # pyright: ignore
                factors = Factors(*map(jnp.asarray, own))
                more = _rows(finer, make_solver("anls-bpp"), factors, ONCE, pad)
            run = _continued(run, more, dtype)
        return run, problem

    def _problem(
        self,
        V: Any,
        H: Float[np.ndarray, "p n"],
        mask: Any,
        design: Design | None,
        dtype: Any,
    ) -> Problem:
        """The problem of W alone, H held."""
        signed, known = "V" in self.signed, what_is_known(V, mask)
        units = self._units(known.largest(signed), H)
        operand = as_operand(known, dtype, signed=signed, unit=units.V)
        if operand.shape[1] != H.shape[1]:
            raise ValueError(
                f"V has shape {operand.shape} and H {H.shape}; rows for this H need "
                f"{H.shape[1]} columns"
            )
        simplex = self.project.name == "simplex"
        check_loss(operand, self.loss, float(np.max(H)) if simplex else np.inf)
        project, penalty = _at_rank((self.project, self.penalty), len(H))
        held = project.held
        if design is not None:
            design.check(operand.shape)
            held = np.nan if held is None else held
            held = np.array(np.broadcast_to(held, (len(H), operand.shape[0])))
            held[-len(design) :] = design.columns
        return Problem.of(
            operand,
            self.loss,
            penalties=(penalty, Penalty()),
            constraints=(project, NonNegative()),
            held=(held, H),
            units=units,
        )

    def _units(self, largest: float, H: Float[np.ndarray, "p n"]) -> Units:
        """By the sizes of V and of H, which W alone must make up for."""
        if self.loss.beta is None:
            return Units(offsets=self.offsets)
        of_V = of_H = unit_of(largest)
        if self.project.name != "simplex":  # on which W has no scale
            components = H if self.offsets is None else H[len(self.offsets) :]
            of_H = unit_of(float(np.abs(components).max(initial=0)))
        return Units(of_V / of_H, of_H, self.loss.beta, self.offsets)

    @property
    def solver(self) -> str:
        """The alternating solver of new rows."""
        if self.loss.quadratic and self.project.name != "simplex":
            return "hals"
        multiplicative = make_solver("mu").supports.includes(self.loss)
        if multiplicative and self.project.name == "nonnegative":
            return "mu"
        return "pgd"

    @property
    def pivots(self) -> bool:
        """Whether rows are those that block principal pivoting solves exactly."""
        return self.solver == "hals" and self.project.name == "nonnegative"


def fit_W(
    V: Any,
    H: Any,
    *,
    loss: Any = "frobenius",
    l1: float = 0.0,
    l2: float = 0.0,
    mask: Any = None,
    dtype: Any = "float32",
) -> Float[np.ndarray, "m p"]:
    """W for a known H: each row of V as a combination of given components.

    argmin over W ≥ 0 of D(V | W H) + l1·ΣW + ½ l2·‖W‖², which is convex for Frobenius,
    Kullback-Leibler and every β from 1 to 2: non-negative least squares in each row for
    the Frobenius loss.

    Args:
      V: (m, n), non-negative, as for `jaxnmf.factorize`. The rows of `jaxnmf.Blocks`
        are fitted block by block.
      H: (p, n), non-negative: the components, such as spectra of known substances. One
        that is all zeros has a W of 0.
      loss: a name (`jaxnmf.losses()`), an instance, or your own entrywise φ(v, x).
      l1, l2: penalties on W, ≥ 0.
      mask: what is known of V, as for `jaxnmf.factorize`. A row of which nothing is
        known has the mean of the other rows.
      dtype: "float32" or "float64", the precision.

    Returns:
      W (m, p).

    Raises:
      ValueError: H is no non-negative matrix with as many columns as V, or anything
        that `jaxnmf.factorize` refuses.

    Example:
      >>> import numpy as np, jaxnmf
      >>> H = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
      >>> jaxnmf.fit_W([[2.0, 3.0, 1.0], [0.0, 4.0, 4.0]], H)
      array([[2., 1.],
             [0., 4.]], dtype=float32)
    """
    check_amount("l1", l1)
    check_amount("l2", l2)
    with precision(dtype) as dtype:
        objective = Objective.of(loss, l1=(l1, 0.0), l2=(l2, 0.0))
    model = Model.of_objective(objective, frozenset(), dtype.name)
    if isinstance(V, Blocks):
        what_is_known(V, mask)
        return by_blocks(V, lambda block: _solved(model, block, H))
    return _solved(model, V, H, mask)


def _solved(model: Model, V: Any, H: Any, mask: Any = None) -> Float[np.ndarray, "m p"]:
    run, problem = model.fit(V, H, mask=mask)
    Wt = np.array(run.factors.Wt)
    known = known_rows(problem)
    Wt[:, ~known] = Wt[:, known].mean(1, keepdims=True)
    return np.ascontiguousarray(Wt.T)


def by_blocks(
    V: Blocks, solve: Callable[[Any], Float[np.ndarray, "r p"]]
) -> Float[np.ndarray, "m p"]:
    """W of the rows of V, one block after the other: V is read once, after the pass
    that finds its sums. Each block stops by its own rule."""
    return np.concatenate([solve(block) for _, block in V.each()])


def known_rows(problem: Problem) -> Bool[np.ndarray, " m"]:
    """The rows of V of which an entry is known."""
    return _known_rows(problem.operand)


def _known_rows(operand: Any) -> Bool[np.ndarray, " m"]:
    if isinstance(operand, Beside):
        parts = [_known_rows(part) for part in operand.parts]
        return np.concatenate(parts) if operand.transposed else np.any(parts, axis=0)
    weights = operand.host_weights()
    if weights is None:
        return np.ones(operand.shape[0], bool)
    return np.asarray(weights.sum(1)).ravel() > 0


def overlap(H: Float[np.ndarray, "p n"]) -> bool:
    """Whether the components are so alike that coordinate descent is slow: whether the
    smallest eigenvalue of their cosines is below `APART`."""
    X = H[H.any(1)].astype(np.float64)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return len(X) > 0 and float(np.linalg.eigvalsh(X @ X.T)[0]) < APART


def check_H(name: str, H: Any, signed: bool) -> Float[np.ndarray, "p n"]:
    """H as a float64 matrix, or a ValueError."""
    H = as_matrix(name, H, "(p, n)")
    if not len(H):
        raise ValueError(
            f"{name} has no components, shape {H.shape}; give at least one"
        )
    if np.isnan(H).any() or np.isinf(H).any():
        found = "NaN" if np.isnan(H).any() else "an infinite entry"
        raise ValueError(f"{name} holds {found}; every entry must be a finite number")
    if not signed and (H < 0).any():
        raise ValueError(
            f"{name} holds negative entries, the smallest is {H.min():g}; every entry "
            "must be ≥ 0"
        )
    return H


def _at_rank(sides: Any, rank: int) -> Any:
    """A constraint and a penalty with their columns of a value for each component cut
    or, by the last value, extended to the rank."""

    def fitted(x: Any) -> Any:
        own = np.ndim(x) == 2 and len(x) > 1
        return x[np.minimum(np.arange(rank), len(x) - 1)] if own else x

    return jax.tree.map(fitted, sides)


def _of_new_rows(project: NonNegative, offsets: tuple[int, int] | None) -> NonNegative:
    """The constraint of W for other rows, of which nothing is known but the offsets."""
    if project.held is None or project.held.shape[1] == 1:
        return project
    held = None
    if offsets is not None:
        held = np.full((len(project.held), 1), np.nan)
        held[offsets[1]] = 1.0
    return dataclasses.replace(project, held=held)


def _start(problem: Problem, H: Float[np.ndarray, "p n"]) -> Factors:
    """W at the right mean: multiplicative updates need entries > 0. What H has only
    zeros of stays 0."""
    total = float(np.abs(H).sum(0).mean())
    level = float(problem.operand.moments.mean) / total if total > 0 else 1.0
    Wt = np.full((len(H), problem.operand.shape[0]), abs(level) or 1.0)
    Wt[~H.any(1)] = 0
    dtype = problem.operand.dtype
    # On the host: jax.numpy would compile a program for each number of rows.
    Wt = problem.projects[0](Wt.astype(dtype))
    return problem.start(Factors(Wt, H.astype(dtype)))  # pyright: ignore


def _rows(
    problem: Problem, solver: Any, factors: Factors, stop: Stop, pad: bool
) -> Run:
    """The run of W alone."""
    rows = RowsOnly(inner=solver)
    return run_shared(problem, rows, factors, 0, stop, pad=pad, new_rows=True)


def _continued(run: Run, more: Run, dtype: Any) -> Run:
    """A run and the one that went on from its end."""
    starts = (int(run.iterations), 0, 0, run.trace.seconds[-1])
    parts = zip(run.trace, more.trace, starts, strict=True)
    return Run(
        factors=Factors(*(np.asarray(X, dtype) for X in more.factors)),  # pyright: ignore
        status=run.status,
        iterations=run.iterations + more.iterations,
        trace=Trace(*(np.append(x, start + y[1:]) for x, y, start in parts)),
        compile_seconds=run.compile_seconds + more.compile_seconds,
        program=run.program,
    )
