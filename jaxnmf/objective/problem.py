"""The problem: data, loss, constraints and penalties; its objective, gradients and KKT
residual."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnmf.data.arrays import as_leaf
from jaxnmf.data.grams import ColumnGrams, Gram, SharedGram
from jaxnmf.data.operand import Described
from jaxnmf.objective import by_view, in_double
from jaxnmf.objective.constraints import NonNegative
from jaxnmf.objective.graph import Graph
from jaxnmf.objective.in_turn import zero_total
from jaxnmf.objective.losses import REACH, Loss, with_floor
from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.units import Units
from jaxnmf.types import Cross, Factors, FixedFactor, FreeFactor, pytree, static


@pytree
class Problem:
    """The problem min D(V | WH) + penalty(W) + penalty(H) over feasible W and H.

    Methods with the arguments ``(fixed, free)`` are about V ≈ fixedᵀ free, with
    ``free`` (p, n) the factor to improve. ``problem.T`` is the same problem for Vᵀ, so
    that one function is the half-step of both factors.

    Attributes:
      operand: V; in transformations of jax, tracers may take its place.
      loss: D.
      projects: the projections on the feasible sets of W and of H.
      penalties: on W and on H.
      graphs: of their penalties, each None where it has none.
      units: what its numbers are multiplied by to be the user's.
    """

    operand: Any
    loss: Any
    projects: tuple[NonNegative, ...]
    penalties: tuple[Penalty, ...]
    graphs: tuple[Graph | None, ...] = (None, None)
    units: Units = static(default=Units())

    @classmethod
    def of(
        cls,
        operand: Described,
        loss: Loss,
        *,
        penalties: tuple[Penalty, Penalty] | None = None,
        constraints: tuple[NonNegative, NonNegative] | None = None,
        held: tuple[Any, Any] | None = None,
        graphs: tuple[Graph | None, Graph | None] = (None, None),
        units: Units | None = None,
    ) -> Problem:
        """Make a problem, its numbers in the precision of V.

        Args:
          operand: V, in units of ``units.V``.
          loss: D.
          penalties: on W and on H; none by default.
          constraints: on W and on H; non-negativity by default.
          held: the held entries of Wt and of H, arrays that broadcast to (p, m) and
            (p, n) with NaN for a free entry; None where all are free.
          graphs: over the columns of Wt and of H, for penalties with a
            ``graph_weight``.
          units: of the problem, 1 by default; penalties, constraints and held entries
            are the user's, and scaled by them.
        """
        units = units or Units()
        own = units.inverse
        projects = tuple(
            dataclasses.replace(constraint, held=values)
            for constraint, values in zip(
                constraints or (NonNegative(), NonNegative()),
                held or (None, None),
                strict=True,
            )
        )
        pair = penalties or (Penalty(), Penalty())
        numbers = (
            tuple(own.constraint(one, side) for side, one in enumerate(projects)),
            tuple(own.penalty(one, side) for side, one in enumerate(pair)),
        )
        bound = math.prod(constraint.upper for constraint in numbers[0])
        operand = with_floor(operand, loss, bound)
        projects, pair = jax.tree.map(partial(as_leaf, dtype=operand.dtype), numbers)
        return cls(
            operand=operand,
            loss=loss,
            projects=projects,
            penalties=pair,
            graphs=graphs,
            units=units,
        )

    @property
    def plain(self) -> Problem:
        """The same numbers without units, which programs are compiled for."""
        return dataclasses.replace(self, units=Units())

    @property
    def T(self) -> Problem:
        """The same problem for Vᵀ ≈ Hᵀ Wᵀ."""
        return Problem(
            operand=self.operand.T,
            loss=self.loss,
            projects=self.projects[::-1],
            penalties=self.penalties[::-1],
            graphs=self.graphs[::-1],
            units=self.units.T,
        )

    @property
    def project(self) -> NonNegative:
        """The projection on the free factor's feasible set."""
        return self.projects[1]

    @property
    def penalty(self) -> Penalty:
        """The penalty on the free factor, with its graph."""
        penalty, graph = self.penalties[1], self.graphs[1]
        return penalty if graph is None else dataclasses.replace(penalty, graph=graph)

    def start(self, factors: Factors) -> Factors:
        """Feasible initial factors, with the directions of these."""
        pairs = zip(self.projects, factors, strict=True)
        return Factors(*(project.start(X) for project, X in pairs))

    def value(self, factors: Factors) -> jax.Array:
        """The objective, summed from the entries themselves, in the precision of V.

        ‖V‖² − 2⟨cross, H⟩ + ⟨gram, HHᵀ⟩ would be cheaper and lose every digit in
        float32 once the fit is good. For a sparse V, Σφ(0, x) over the entries that are
        not stored is its closed form over all less the stored.
        """
        fit = self.divergence(factors)
        for penalty in self.penalty_values(factors):
            fit = fit + penalty.astype(fit.dtype)
        return fit

    def divergence(self, factors: Factors) -> jax.Array:
        """`value` without the penalties."""
        if self.loss.losses:
            return by_view.divergence(self, factors)
        Wt, H = factors
        if not self.zeros_apart:
            return self.operand.map_sum(self._pointwise, Wt, H)

        def both(v: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return self._pointwise(v, x), self.loss.at_zero(x)

        fit, stored = self.operand.map_sum(both, Wt, H)
        wide = jax.tree.map(lambda X: X.astype(stored.dtype), factors)
        whole = zero_total(self.loss, wide)
        return fit + jnp.maximum(whole - stored, 0)

    def penalty_values(self, factors: Factors) -> tuple[jax.Array, jax.Array]:
        """The penalties on W and on H."""
        Wt, H = factors
        on_W = self.T.penalty.value(Wt, self.T._counted)
        return on_W, self.penalty.value(H, self._counted)

    def objective(self, factors: Factors) -> jax.Array:
        """The objective to four digits or more: `value`, in double precision where the
        fit is so good that the precision of V would leave fewer."""
        return in_double.objective(self, factors)

    @property
    def _counted(self) -> Any:
        """The entries of the free factor that are part of the penalty. Not those of a
        column of which nothing is known and that has no neighbours: it has the mean of
        the others in the end."""
        known, graph = self.operand.any_known, self.graphs[1]
        if graph is not None:
            known = known | (graph.degrees > 0)
        return self.project.present & jnp.atleast_2d(known)

    @property
    def zeros_apart(self) -> bool:
        """Whether φ(0, x) is summed in closed form, over all entries; of a view."""
        operand = self.operand
        if self.loss.losses:
            return any(part.zeros_apart for _, part in by_view.views_of(self))
        return operand.kind in ("sparse", "blocks") and operand.by_entries

    def _pointwise(self, v: jax.Array, x: jax.Array) -> jax.Array:
        """φ(v, x)."""
        return self.loss.pointwise(v, self._above(v, x))

    def _above(self, v: jax.Array, x: jax.Array) -> jax.Array:
        """x as φ takes it. Where φ is finite at x = 0, or nearly so, that is x, however
        small; else above the floor, of which it is no more than a thousandth of v."""
        loss, beta = self.loss, self.loss.beta
        if loss.quadratic:
            return x
        floor = self.operand.floor.astype(x.dtype)
        if beta is None:
            return jnp.maximum(x, floor)
        low = loss.least(v) if beta >= 1 else jnp.minimum(floor, REACH * v)
        # An entry that only pads V is the floor itself, and so φ is 0 there.
        return jnp.maximum(x, jnp.where(v == floor, floor, low))

    def quadratic(self, fixed: FixedFactor) -> tuple[Any, Cross]:
        """(gram, cross) = (fixed fixedᵀ, fixed V).

        The Frobenius loss of the free factor X is ½⟨X, gram X⟩ − ⟨cross, X⟩, up to a
        constant. For V observed in part there is a Gram matrix for each column,
        `ColumnGrams`.
        """
        cross = self.operand.dot(fixed)
        if self.fully_observed:
            return SharedGram.of(fixed), cross
        return ColumnGrams.of(fixed, self.operand), cross

    @property
    def fully_observed(self) -> bool:
        """Whether every entry of V is known, with one weight."""
        return self.operand.kind != "observed"

    @property
    def powers(self) -> tuple[Any, Any]:
        """`jaxnmf.objective.losses.Loss.powers` for the free factor: numbers, or of a
        loss for each view a number for each column of H."""
        return by_view.powers(self) if self.loss.losses else self.loss.powers

    @property
    def by_gram(self) -> bool:
        """Whether the loss is quadratic with one Gram matrix for all columns."""
        return self.loss.quadratic and self.fully_observed

    def gradient(
        self, fixed: FixedFactor, free: FreeFactor
    ) -> tuple[FreeFactor, FreeFactor]:
        """(minus, plus), both ≥ 0, with plus − minus the gradient of the objective in
        the free factor."""
        return self.penalised(self.split(fixed, free), free)

    def penalised(
        self, split: tuple[FreeFactor, FreeFactor], free: FreeFactor
    ) -> tuple[FreeFactor, FreeFactor]:
        """A split gradient with that of the penalty."""
        return _plus(self.penalty.split(free), split)

    def split(
        self, fixed: FixedFactor, free: FreeFactor
    ) -> tuple[FreeFactor, FreeFactor]:
        """`gradient` of the loss alone: a sum over the rows of V."""
        loss = self.loss
        if loss.losses:
            return by_view.split(self, fixed, free)
        if self.by_gram:
            gram, minus = self.quadratic(fixed)
            plus = gram @ free
        elif loss.unit_plus and self.fully_observed:
            (minus,) = self.operand.map_dot(
                lambda v, x: loss.split(v, x)[:1], fixed, free
            )
            plus = jnp.broadcast_to(fixed.sum(1)[:, None], free.shape)
        else:
            minus, plus = self.operand.map_dot(loss.split, fixed, free)
        return minus, plus

    def gradients(self, factors: Factors) -> tuple[Factors, Factors]:
        """(minus, plus) of both factors, from one pass over X."""
        Wt, H = factors
        of_H, of_W = self.splits(factors)
        minus_W, plus_W = self.T.penalised(of_W, Wt)
        minus_H, plus_H = self.penalised(of_H, H)
        return Factors(minus_W, minus_H), Factors(plus_W, plus_H)

    def splits(self, factors: Factors) -> tuple[Any, Any]:
        """`split` for H and for W, from one pass over X."""
        Wt, H = factors
        loss = self.loss
        if loss.losses:
            return by_view.splits(self, factors)
        if self.by_gram:
            return self.split(Wt, H), self.T.split(H, Wt)
        if not (loss.unit_plus and self.fully_observed):
            return self.operand.map_dot_both(loss.split, Wt, H)
        (minus_H,), (minus_W,) = self.operand.map_dot_both(
            lambda v, x: loss.split(v, x)[:1], Wt, H
        )
        plus_H = jnp.broadcast_to(Wt.sum(1)[:, None], H.shape)
        plus_W = jnp.broadcast_to(H.sum(1)[:, None], Wt.shape)
        return (minus_H, plus_H), (minus_W, plus_W)

    def change(
        self,
        fixed: FixedFactor,
        free: FreeFactor,
        new: FreeFactor,
    ) -> jax.Array:
        """objective(new) − objective(free), summed from the changes of the entries: a
        difference of two objectives would lose its digits to cancellation."""
        if self.by_gram:
            return self.quadratic_change(*self.quadratic(fixed), free, new)
        delta = new - free
        if self.loss.losses:
            fit = by_view.change(self, fixed, free, new)
        else:
            fit = self._change_of_fit(fixed, free, new)
        return fit + self.slope(self.penalty.gradient(free + 0.5 * delta), delta)

    def slope(self, gradient: FreeFactor, delta: FreeFactor) -> jax.Array:
        """⟨gradient, Δ⟩ over the entries that are part of the objective."""
        products = gradient * delta
        if not self.fully_observed:
            products = jnp.where(self._counted, products, 0)
        return products.sum(1).sum()

    def _change_of_fit(self, fixed: Any, free: Any, new: Any) -> jax.Array:
        """`change` without the penalty, for one loss."""
        if not self.zeros_apart:
            return self.operand.map_sum(
                lambda v, x, y: self._pointwise(v, y) - self._pointwise(v, x),
                fixed,
                free,
                new,
            )
        # φ(0, x) is linear in the free factor, so that its change is its value at
        # d = y − x: of small steps this keeps the digits.
        phi, delta = self._pointwise, new - free

        def change(v: jax.Array, x: jax.Array, d: jax.Array) -> jax.Array:
            return phi(v, x + d) - phi(v, x) - self.loss.at_zero(d)

        stored = self.operand.map_sum(change, fixed, free, delta)
        return stored + self.loss.zero_total(fixed, delta)

    def quadratic_change(
        self,
        gram: Gram,
        cross: Cross,
        free: FreeFactor,
        new: FreeFactor,
    ) -> jax.Array:
        """`change` of a quadratic loss, ⟨∇, Δ⟩ + ½⟨Δ, (G + l2) Δ⟩, from the Gram and
        cross product of the fixed factor."""
        delta, penalty = new - free, self.penalty
        if gram.shared and penalty.graph is None and not jnp.ndim(penalty.l2):
            # Numbers are part of G where they can be: XLA writes a number that is added
            # to a product out as an array of its size.
            half = 0.5 * gram.plus_diagonal(penalty.l2).array
            constant = penalty.l1 - penalty.l2 * penalty.toward
            gradient = half @ (free + new) - cross + constant
        else:
            middle = free + 0.5 * delta
            gradient = gram @ middle - cross + penalty.gradient(middle)
        return self.slope(gradient, delta)

    def kkt(self, factors: Factors) -> jax.Array:
        """The KKT residual, which is 0 exactly at a stationary point.

        The root mean square over both factors of the natural residual x − P(x − g), for
        x ≥ 0 the min(x, g) of the conditions x ≥ 0, g ≥ 0, x·g = 0. The entries x of a
        component are in units of their mean, and its gradient g in units of the mean of
        its positive part ``plus``: so the residual depends neither on the scale of V
        nor on how a component's scale is divided between W and H. The mean is over the
        present entries.
        """
        minus, plus = self.gradients(factors)
        total, count = 0.0, 0.0
        for project, X, m, p in zip(self.projects, factors, minus, plus, strict=True):
            r = project.natural_residual(X, p - m, project.row_means(jnp.abs(p)))
            total = total + (r * r).sum(1).sum()
            # A factor without free entries has no conditions.
            count = count + jnp.where(jnp.any(project.free), project.count(X), 0)
        return jnp.sqrt(total / count)


def _plus(one: Any, other: Any) -> Any:
    """The sum of two split gradients."""
    return one[0] + other[0], one[1] + other[1]
