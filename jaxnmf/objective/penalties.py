"""The penalty on a factor: weighted sums of its entries, of their squares, and of the
squared differences of neighbours."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.objective.graph import Graph
from jaxnmf.shapes import Array, Bool, Float
from jaxnmf.types import pytree


@pytree
class Penalty:
    """Σ l1·x + ½·l2·(x − toward)² over the entries x of one factor X, and on a graph of
    neighbours λ tr(X L Xᵀ) (`jaxnmf.objective.graph`).

    For x ≥ 0 the first term is an L1 norm. The first three fields are each a number, or
    an array that broadcasts to the factor's (p, q). ``toward`` is the value that l2
    shrinks entries to, 0 by default; another number is for data observed in part, an
    array for solvers that support targets. ``graph_weight`` is λ, None for a factor
    without a graph. The graph itself is with the problem, whose numbers in lanes are a
    lane's own while all share the graph; `Problem.penalty` has both.
    """

    l1: float | jax.Array = 0.0
    l2: float | jax.Array = 0.0
    toward: float | jax.Array = 0.0
    graph_weight: float | jax.Array | None = None
    graph: Graph | None = None

    @property
    def attracts(self) -> bool:
        """Whether its gradient has a part below zero, known when a program is made: of
        a graph or of targets."""
        return self.graph is not None or jnp.ndim(self.toward) > 0

    @property
    def is_zero(self) -> bool:
        """Whether no entry is penalised; not of a penalty that is traced."""
        return self.graph is None and not np.any(self.l1) and not np.any(self.l2)

    def value(
        self, X: Float[Array, "p q"], where: Bool[Array, "#p #q"] | bool = True
    ) -> Float[Array, ""]:
        """The penalty, summed over the entries ``where`` is true."""
        apart = X - self.toward
        # A square alone could be below the smallest number.
        values = self.l1 * X + 0.5 * self.l2 * apart * apart
        # Rows first: one long float32 sum would lose digits.
        total = jnp.where(where, values, 0).sum(1).sum()
        if self.graph is None:
            return total
        return total + self.graph_weight * self.graph.roughness(X)  # pyright: ignore

    def split(self, X: Float[Array, "p q"]) -> tuple[jax.Array, jax.Array]:
        """(minus, plus), both ≥ 0, with gradient plus − minus."""
        minus = jnp.broadcast_to(self.l2 * self.toward, X.shape)
        plus = self.l1 + self.l2 * X
        if self.graph is None:
            return minus, plus
        twice = 2 * self.graph_weight  # pyright: ignore
        near, degrees = self.graph.near(X), self.graph.degrees
        return minus + twice * near, plus + twice * degrees * X

    def gradient(self, X: Float[Array, "p q"]) -> Float[Array, "p q"]:
        """l1 + l2·(x − toward), entrywise, and `bent`."""
        entrywise = self.l1 + self.l2 * (X - self.toward)
        return entrywise if self.graph is None else entrywise + self.bent(X)

    def curved(self, X: Float[Array, "p q"]) -> Float[Array, "p q"]:
        """The Hessian times X: l2·x, entrywise, and `bent`."""
        entrywise = self.l2 * X
        return entrywise if self.graph is None else entrywise + self.bent(X)

    def bent(self, X: Float[Array, "p q"]) -> Float[Array, "p q"]:
        """2λ X L, the graph's part of the gradient."""
        assert self.graph is not None
        twice = 2 * self.graph_weight  # pyright: ignore
        return twice * (self.graph.degrees * X - self.graph.near(X))

    @property
    def curvature(self) -> jax.Array | float:
        """What bounds the Hessian entry by entry: l2, and 4λ D since L ⪯ 2D."""
        if self.graph is None:
            return self.l2
        return self.l2 + 4 * self.graph_weight * self.graph.degrees  # pyright: ignore
