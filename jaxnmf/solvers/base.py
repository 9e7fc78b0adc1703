"""The protocol of a solver, and a base class for solvers that alternate."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol

import jax
from jaxtyping import Array, Float

from jaxnmf.data.grams import Gram
from jaxnmf.objective.losses import Loss
from jaxnmf.objective.problem import Problem
from jaxnmf.types import Cross, Factors, FixedFactor, FreeFactor, State


class Supports(NamedTuple):
    """The problems that a solver supports.

    Attributes:
      losses: "quadratic" (Frobenius), "kl" (Kullback-Leibler), "beta" (every
        β-divergence), "split" (every loss with a split gradient) or "any" (also a
        user's own).
      operands: kinds of V, of "dense", "sparse" and "observed".
      constraints: names of the constraints on a factor.
      signed: which of "V", "W" and "H" may have negative entries.
      symmetric: whether V must be a symmetric matrix.
      padded: whether rows and columns that only pad V change nothing: the solver
        counts by `jaxnmf.data.operand.true_shape` or by what the projection says is
        present, and returns projected factors.
      unscaled: which of "W" and "H" have a scale of their own, whatever that of V.
      mesh: whether V may be divided over several devices.
      ordered: whether the order of V's rows and columns matters, so that a mesh must
        not reorder a sparse V to give each device as many entries.
    """

    losses: str = "any"
    operands: frozenset[str] = frozenset({"dense", "sparse"})
    constraints: frozenset[str] = frozenset({"nonnegative"})
    signed: frozenset[str] = frozenset()
    symmetric: bool = False
    padded: bool = True
    unscaled: frozenset[str] = frozenset()
    mesh: bool = True
    ordered: bool = False

    def includes(self, loss: Loss) -> bool:
        """Whether a loss is among ``losses``."""
        return {
            "quadratic": loss.quadratic,
            "kl": loss.beta == 1,
            "beta": loss.beta is not None,
            "split": loss.has_split,
            "any": True,
        }[self.losses]


QUADRATIC = Supports("quadratic")
KL = Supports("kl")
BETA = Supports("beta")
ANY = Supports("any")
# For a solver that uses only the methods that every operand has.
EVERY_OPERAND = frozenset({"dense", "sparse", "observed"})
# A solver that projects full columns supports every constraint; one that changes
# single entries supports those that constrain each entry separately.
PROJECTED = frozenset({"nonnegative", "box", "simplex"})
ENTRYWISE = frozenset({"nonnegative", "box"})


def constraints_of(solver: Any) -> frozenset[str]:
    """The constraints that a solver supports: of a wrapper those that its inner solver
    supports too."""
    return solver.supports.constraints & _inner(solver).constraints


def operands_of(solver: Any) -> frozenset[str]:
    """The kinds of V that a solver supports: of a wrapper those that its inner solver
    supports too."""
    return solver.supports.operands & _inner(solver).operands


def supports_padding(solver: Any) -> bool:
    """Whether a solver allows a padded V: a wrapper as the solver inside does; none
    that draws batches of rows, which are others where V is padded."""
    batches = bool(getattr(solver, "batch", 0))
    return solver.supports.padded and _inner(solver).padded and not batches


def keeps_order(solver: Any) -> bool:
    """Whether the order of rows and columns matters to a solver, or to the one inside a
    wrapper."""
    return solver.supports.ordered or _inner(solver).ordered


def _inner(solver: Any) -> Supports:
    return getattr(getattr(solver, "inner", None), "supports", solver.supports)


class Solver(Protocol):
    """A frozen dataclass, registered as a pytree by `jaxnmf.register_solver`.

    It does not loop, stop, record or measure time: `jaxnmf.run` does, in the same way
    for every solver.

    Attributes:
      supports: the problems that it supports; others are refused.
      monotone: whether no step raises the objective; the contract tests it.
      own_objective: whether it minimises another objective than the problem's (with a
        constraint or penalty of its own, or a sketch of V), so that its fixed points
        are not stationary points of the problem. False for a class without it.
    """

    supports: ClassVar[Supports]
    monotone: ClassVar[bool]
    own_objective: ClassVar[bool]

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> State:
        """The state before the first step."""
        ...

    def step(
        self, problem: Problem, factors: Factors, state: State
    ) -> tuple[Factors, State]:
        """One iteration: new factors and the next state, of the same structure."""
        ...


class Alternating:
    """A solver that improves H for fixed W, then W for fixed H, by one function.

    A subclass defines ``half_step``; or, for the Frobenius loss, only ``nnls``, which
    works on the Gram matrix and cross product, and which `extrapolated` calls. It
    defines ``half_init`` where it has a state.
    """

    supports: ClassVar[Supports] = ANY
    monotone: ClassVar[bool] = False
    own_objective: ClassVar[bool] = False

    def half_init(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor
    ) -> State:
        """The state of one factor's half-step; empty by default."""
        return ()

    def half_step(
        self, problem: Problem, fixed: FixedFactor, free: FreeFactor, state: State
    ) -> tuple[FreeFactor, State]:
        """An improved ``free`` factor of V ≈ fixedᵀ free, and its next state."""
        return self.nnls(problem, *problem.quadratic(fixed), free, state)

    def nnls(
        self,
        problem: Problem,
        gram: Gram,
        cross: Cross,
        free: FreeFactor,
        state: State,
    ) -> tuple[FreeFactor, State]:
        """An X ≥ 0 with a smaller ½⟨X, gram X⟩ − ⟨cross, X⟩ + penalty(X) than X = free:
        the half-step for the Frobenius loss."""
        raise NotImplementedError

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> State:
        del key
        Wt, H = factors
        return self.half_init(problem.T, H, Wt), self.half_init(problem, Wt, H)

    def step(
        self, problem: Problem, factors: Factors, state: State
    ) -> tuple[Factors, State]:
        Wt, H = factors
        state_W, state_H = state
        H, state_H = self.half_step(problem, Wt, H, state_H)
        Wt, state_W = self.half_step(problem.T, H, Wt, state_W)
        return Factors(Wt, H), (state_W, state_H)


def gives_nnls(solver: object) -> bool:
    """Whether a solver works on Gram and cross products, by an ``nnls`` of its own."""
    own = getattr(type(solver), "nnls", Alternating.nnls)
    return own is not Alternating.nnls


def column_changes(
    gram: Gram, cross: Cross, old: FreeFactor, new: FreeFactor
) -> Float[Array, " n"]:
    """The change of each column's ½⟨x, gram x⟩ − ⟨cross, x⟩ from old to new."""
    delta = new - old
    return ((gram @ (old + 0.5 * delta) - cross) * delta).sum(0)
