"""The protocol of a solver, and a base class for solvers that alternate."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxnmf.data.grams import Gram
from jaxnmf.objective.losses import Loss
from jaxnmf.objective.problem import Problem
from jaxnmf.shapes import Array, Bool, Float
from jaxnmf.types import Cross, Factors, FixedFactor, FreeFactor, State, pytree


class Supports(NamedTuple):
    """The problems that a solver supports.

    Attributes:
      losses: "quadratic" (Frobenius), "kl" (Kullback-Leibler), "beta" (every
        β-divergence), "multiplicative" (every loss with a monotone multiplicative
        update), "split" (every loss with a split gradient) or "any" (also a user's
        own).
      operands: kinds of V, of "dense", "sparse", "observed" and "blocks".
      constraints: names of the constraints on a factor.
      signed: which of "V", "W" and "H" may have negative entries.
      symmetric: whether V must be a symmetric matrix.
      padded: whether rows and columns that only pad V change nothing: the solver
        counts by `jaxnmf.data.operand.true_shape` or by what the projection says is
        present, and returns projected factors.
      unscaled: which of "W" and "H" have a scale of their own, whatever that of V.
      mesh: whether V may be divided over several devices.
      known: of which of "W" and "H" entries may be held at known values.
      ordered: whether the order of V's rows and columns matters, so that a mesh must
        not reorder a sparse V to give each device as many entries.
      graph: whether a penalty on neighbours (`jaxnmf.objective.graph`) is part of every
        update: it couples the columns of a factor.
      toward: whether l2 may shrink each entry of a factor to a value of its own
        (`jaxnmf.objective.targets`).
    """

    losses: str = "any"
    operands: frozenset[str] = frozenset({"dense", "sparse"})
    constraints: frozenset[str] = frozenset({"nonnegative"})
    signed: frozenset[str] = frozenset()
    symmetric: bool = False
    padded: bool = True
    unscaled: frozenset[str] = frozenset()
    mesh: bool = True
    known: frozenset[str] = frozenset("WH")
    ordered: bool = False
    graph: bool = False
    toward: bool = False

    def includes(self, loss: Loss) -> bool:
        """Whether a loss is among ``losses``."""
        return {
            "quadratic": loss.quadratic,
            "kl": loss.beta == 1,
            "beta": loss.beta is not None,
            "multiplicative": loss.majoriser is not None,
            "split": loss.has_split,
            "any": True,
        }[self.losses]


QUADRATIC = Supports("quadratic")
KL = Supports("kl")
BETA = Supports("beta")
MULTIPLICATIVE = Supports("multiplicative")
ANY = Supports("any")
# For a solver that uses only the methods that every operand has.
EVERY_OPERAND = frozenset({"dense", "sparse", "observed"})
# For an alternating solver whose `improved` treats each column apart, and for one that
# takes batches of rows: then blocks of V's rows can be taken one by one.
BLOCKS = frozenset({"blocks"})
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


def known_of(solver: Any) -> frozenset[str]:
    """The factors of which a solver supports known entries, likewise."""
    return solver.supports.known & _inner(solver).known


def supports_padding(solver: Any) -> bool:
    """Whether a solver allows a padded V: a wrapper as the solver inside does; none
    that draws batches of rows, which are others where V is padded."""
    batches = bool(getattr(solver, "batch", 0))
    return solver.supports.padded and _inner(solver).padded and not batches


def keeps_order(solver: Any) -> bool:
    """Whether the order of rows and columns matters to a solver, or to the one inside a
    wrapper."""
    return solver.supports.ordered or _inner(solver).ordered


def supports_graph(solver: Any) -> bool:
    """Whether a solver supports graphs of neighbours, and the one inside a wrapper."""
    return solver.supports.graph and _inner(solver).graph


def supports_targets(solver: Any) -> bool:
    """Whether a solver supports targets of l2, and the one inside a wrapper."""
    return solver.supports.toward and _inner(solver).toward


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

    A half-step is in three parts: the point ``ahead`` from which the factor is
    improved, the ``products`` with V there, which are sums over the rows of V, and what
    is ``improved`` by them. A solver that defines these, or ``nnls`` alone, can take V
    block by block (`OverBlocks`).
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
        free, state = self.ahead(problem, free, state)
        products = self.products(problem, fixed, free)
        return self.improved(problem, products, free, state)

    def ahead(
        self, problem: Problem, free: FreeFactor, state: State
    ) -> tuple[FreeFactor, State]:
        """The point from which the factor is improved, and the state with it."""
        del problem
        return free, state

    def products(self, problem: Problem, fixed: FixedFactor, free: FreeFactor) -> Any:
        """What `improved` needs of V: sums over its rows."""
        del free
        return problem.quadratic(fixed)

    def improved(
        self, problem: Problem, products: Any, free: FreeFactor, state: State
    ) -> tuple[FreeFactor, State]:
        """The half-step from the point ahead and the products there."""
        gram, cross = products
        return self.nnls(problem, gram, cross, free, state)

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

    @property
    def over_blocks(self) -> OverBlocks:
        """The same steps over blocks of rows."""
        return OverBlocks(solver=self)

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


class Half(NamedTuple):
    """A factor over blocks, its state, and the point ahead where that is another."""

    factor: Float[Array, "p q"]
    state: State
    ahead: Float[Array, "p q"] | None = None

    @property
    def point(self) -> Float[Array, "p q"]:
        """From where the factor is improved."""
        return self.factor if self.ahead is None else self.ahead


@pytree
class OverBlocks:
    """The steps of an alternating solver over blocks of V's rows, each read once.

    While a block is there, the columns of Wt for its rows are improved with H, and the
    products of their new values are added up, from which H is improved before the next
    pass. It is the sequence of the solver's own steps.

    Its methods are pure; `jaxnmf.run.streamed` compiles and calls them. ``of_H`` is
    shared by all blocks. ``of_W`` has the columns of a block, or of all of them where
    ``problem`` is that of all rows.
    """

    solver: Any
    in_turn: ClassVar[bool] = False
    """Whether H is updated at each block, and not once in a pass."""

    @property
    def looks_back(self) -> bool:
        """Whether `after` has anything to do."""
        return type(self.solver).ahead is not Alternating.ahead

    def start(
        self, problem: Problem, factors: Factors, key: jax.Array
    ) -> tuple[Half, Half]:
        """(of_W, of_H) before the first step, without a look at V."""
        del key
        Wt, H = factors
        of_W = self.solver.half_init(problem.T, H, Wt)
        of_H = self.solver.half_init(problem, Wt, H)
        return self._ahead(problem.T, Wt, of_W), self._ahead(problem, H, of_H)

    def _ahead(self, problem: Problem, X: FreeFactor, state: State) -> Half:
        if not self.looks_back:
            return Half(X, state)
        ahead, state = self.solver.ahead(problem, X, state)
        return Half(X, state, ahead)

    def tally(self, part: Problem, of_W: Half, of_H: Half) -> Any:
        """The products of a block for the step to come."""
        return self.solver.products(part, of_W.factor, of_H.point)

    def before(self, problem: Problem, of_H: Half, products: Any) -> Half:
        """``of_H`` with H improved by the products of all blocks."""
        H, state = self.solver.improved(problem, products, of_H.point, of_H.state)
        return self._ahead(problem, H, state)

    def visit(self, part: Problem, of_W: Half, of_H: Half) -> tuple[Half, Any, Any]:
        """A block: W improved, the products for the next step, and sums for `after`."""
        turned = part.T
        products = self.solver.products(turned, of_H.factor, of_W.point)
        Wt, state = self.solver.improved(turned, products, of_W.point, of_W.state)
        of_W = of_W._replace(factor=Wt, state=state)
        return of_W, self.tally(part, of_W, of_H), ()

    def after(
        self, problem: Problem, of_W: Half, of_H: Half, sums: Any
    ) -> tuple[Half, Half, Bool[Array, ""]]:
        """(of_W, of_H) after a pass, and whether its products hold."""
        del sums
        of_W = self._ahead(problem.T, of_W.factor, of_W.state)
        return of_W, of_H, jnp.asarray(True)

    def tried(self, of_W: Half, of_H: Half) -> Factors:
        """The factors after `visit`."""
        return Factors(of_W.factor, of_H.factor)

    def kept(self, of_W: Half, of_H: Half) -> Factors:
        """The factors after `after`."""
        return Factors(of_W.factor, of_H.factor)


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
