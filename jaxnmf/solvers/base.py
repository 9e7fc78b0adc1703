"""What a solver is, and the base class that makes one of a half-step."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol

import jax
from jaxtyping import Array, Float

from jaxnmf.data.grams import ColumnGrams
from jaxnmf.objective.problem import Problem
from jaxnmf.types import Factors


class Supports(NamedTuple):
    """What a solver can take.

    ``losses``: "quadratic" (Frobenius), "kl" (Kullback-Leibler), "beta" (any
    β-divergence), "split" (any with a split gradient) or "any" (also a user's own).
    ``operands``: kinds of V. ``constraints``: what the factors may be held to.
    ``signed``: which of "V", "W" and "H" may hold negative entries. ``symmetric``: V
    must be a symmetric matrix.
    """

    losses: str = "any"
    operands: frozenset[str] = frozenset({"dense", "sparse"})
    constraints: frozenset[str] = frozenset({"nonnegative"})
    signed: frozenset[str] = frozenset()
    symmetric: bool = False

    def includes(self, loss: Any) -> bool:
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


# For a solver that asks of V no more than every operand answers.
EVERY_OPERAND = frozenset({"dense", "sparse", "observed"})


# A solver that calls the projection on whole factors takes every constraint; one that
# moves single entries takes those that tie no entries together.
PROJECTED = frozenset({"nonnegative", "box", "simplex"})


ENTRYWISE = frozenset({"nonnegative", "box"})


def constraints_of(solver: Any) -> frozenset[str]:
    """What a solver can hold factors to: a wrapper no more than the solver inside."""
    return solver.supports.constraints & _inner(solver).constraints


def operands_of(solver: Any) -> frozenset[str]:
    """The kinds of V a solver takes: a wrapper no more than the solver inside."""
    return solver.supports.operands & _inner(solver).operands


def _inner(solver: Any) -> Supports:
    return getattr(getattr(solver, "inner", None), "supports", solver.supports)


class Solver(Protocol):
    """A frozen dataclass, registered as a pytree by `jaxnmf.register_solver`.

    Looping, stopping, recording and timing are not its business: `jaxnmf.run` does
    them, alike for all.

    Attributes:
      supports: losses and operands it takes; others are refused by name.
      monotone: claims that no step raises the objective; tested.
      variant: minimises something else than the problem's objective (a constraint or
        penalty of its own, a sketch of V), so its fixed points are not the problem's;
        False where a class does not say.
    """

    supports: ClassVar[Supports]
    monotone: ClassVar[bool]
    own_objective: ClassVar[bool]

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> Any:
        """The state that the first step takes: any pytree."""
        ...

    def step(
        self, problem: Problem, factors: Factors, state: Any
    ) -> tuple[Factors, Any]:
        """One iteration: new factors and a state of the same structure."""
        ...


class Alternating:
    """A solver that improves H with W fixed, then W with H fixed, by one function.

    A subclass gives ``half_step``, or for a quadratic loss ``nnls`` alone, which
    starts from the Gram and cross product and is what `extrapolated` calls; and
    ``half_init`` where it keeps a state.
    """

    supports: ClassVar[Supports] = ANY
    monotone: ClassVar[bool] = False
    own_objective: ClassVar[bool] = False

    def half_init(
        self, problem: Problem, fixed: Float[Array, "p m"], free: Float[Array, "p n"]
    ) -> Any:
        """The state of one factor's half-step; none by default."""
        return ()

    def half_step(
        self,
        problem: Problem,
        fixed: Float[Array, "p m"],
        free: Float[Array, "p n"],
        state: Any,
    ) -> tuple[Float[Array, "p n"], Any]:
        """An improved ``free`` factor of V ≈ fixedᵀ free, and its next state."""
        return self.nnls(problem, *problem.quadratic(fixed), free, state)

    def nnls(
        self,
        problem: Problem,
        gram: Float[Array, "p p"] | ColumnGrams,
        cross: Float[Array, "p n"],
        free: Float[Array, "p n"],
        state: Any,
    ) -> tuple[Float[Array, "p n"], Any]:
        """A smaller ½⟨X, gram X⟩ − ⟨cross, X⟩ + penalty(X) over X ≥ 0, from X = free:
        what a half-step is for the Frobenius loss."""
        raise NotImplementedError

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> Any:
        del key
        Wt, H = factors
        return self.half_init(problem.T, H, Wt), self.half_init(problem, Wt, H)

    def step(
        self, problem: Problem, factors: Factors, state: Any
    ) -> tuple[Factors, Any]:
        Wt, H = factors
        state_W, state_H = state
        H, state_H = self.half_step(problem, Wt, H, state_H)
        Wt, state_W = self.half_step(problem.T, H, Wt, state_W)
        return Factors(Wt, H), (state_W, state_H)


def gives_nnls(solver: Any) -> bool:
    """Whether a solver works on Gram and cross products, by an ``nnls`` of its own."""
    own = getattr(type(solver), "nnls", Alternating.nnls)
    return own is not Alternating.nnls


def column_changes(
    gram: Float[Array, "p p"] | ColumnGrams,
    cross: Float[Array, "p q"],
    old: Float[Array, "p q"],
    new: Float[Array, "p q"],
) -> Float[Array, " q"]:
    """What each column's ½⟨x, gram x⟩ − ⟨cross, x⟩ changes by from old to new."""
    delta = new - old
    return ((gram @ (old + 0.5 * delta) - cross) * delta).sum(0)
