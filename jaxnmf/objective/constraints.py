"""Projections on the feasible set of a factor, the only place they are written.

Those on the non-negative orthant and on the simplex also work on NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.shapes import Array, Bool, Float
from jaxnmf.types import pytree, static

A = TypeVar("A", jax.Array, np.ndarray)


@pytree
class NonNegative:
    """Projection on {X ≥ 0, some entries held at values of their own}.

    ``held`` broadcasts to the factor's shape (p, q): NaN where an entry is free, the
    value where it is held; None where all entries are free. A component that pads the
    rank is a row held at 0, a row or column that pads V is a column of a factor held at
    0, and offsets come with a row held at 1.

    An entry held at 0 is *absent*: it does not count in means, ranks or the KKT
    residual. All others are *present*.

    Example:
      >>> import numpy as np, jaxnmf
      >>> jaxnmf.NonNegative()(np.array([[-1.0, 2.0]])).tolist()
      [[0.0, 2.0]]
    """

    name: ClassVar[str] = "nonnegative"
    upper: ClassVar[Any] = np.inf  # above which no free entry can be
    held: Float[Array, "#p #q"] | None = None

    def __call__(self, X: Float[A, "p q"], floor: A | float = 0.0) -> Float[A, "p q"]:
        """The nearest feasible point with no free entry below ``floor``."""
        return self.hold(self.entrywise(X, floor))

    def entrywise(self, x: A, floor: A | float = 0.0) -> A:
        """The projection of single free entries, x of any shape: max(x, floor)."""
        xp: Any = _namespace(x)
        return xp.maximum(x, xp.asarray(floor, x.dtype))

    def hold(self, X: Float[A, "p q"]) -> Float[A, "p q"]:
        """X with the held entries at their values."""
        xp: Any = _namespace(X)
        return X if self.held is None else xp.where(xp.isnan(self.held), X, self.held)

    def start(self, X: Float[A, "p q"]) -> Float[A, "p q"]:
        """A feasible point to start from, of the same direction as X ≥ 0."""
        return self.hold(X)

    def natural_residual(
        self,
        X: Float[Any, "p q"],
        gradient: Float[Any, "p q"],
        unit: Any,
        size: Any = None,
    ) -> Float[Any, "p q"]:
        """X − P(X − gradient), 0 at a stationary point and at held entries: here
        min(x, g), with each component's entries x in units of their mean and its
        gradient g in units of ``unit`` (p, 1). ``size`` (p, 1), the means, is given
        where X has some of the columns alone."""
        x, g, _ = self._without_units(X, gradient, unit, size)
        xp: Any = _namespace(x)
        return xp.where(self.free, xp.minimum(x, g), 0)

    @property
    def free(self) -> Bool[Array, "#p #q"] | bool:
        """Which entries are free: True for all, or an array that broadcasts."""
        return True if self.held is None else jnp.isnan(self.held)

    @property
    def present(self) -> Bool[Array, "#p #q"] | bool:
        """Which entries are present: True for all, or an array that broadcasts."""
        return True if self.held is None else self.held != 0

    def components(self, X: Float[Array, "p q"]) -> Bool[Array, "p 1"]:
        """Which components have a present entry."""
        present = jnp.atleast_2d(jnp.asarray(self.present)).any(1, keepdims=True)
        return jnp.broadcast_to(present, (X.shape[0], 1))

    def columns(self, X: Float[Array, "p q"]) -> Bool[Array, "1 q"]:
        """Which columns have a present entry."""
        present = jnp.atleast_2d(jnp.asarray(self.present)).any(0, keepdims=True)
        return jnp.broadcast_to(present, (1, X.shape[1]))

    def rank(self, X: Float[Array, "p q"]) -> Float[Array, ""]:
        """How many components are present."""
        if self.held is None:
            return jnp.asarray(X.shape[0], X.dtype)
        return self.components(X).sum(dtype=X.dtype)

    def count(self, X: Float[Array, "p q"]) -> jax.Array | int:
        """How many entries are present."""
        if self.held is None:
            return X.size
        rows, columns = self.held.shape
        # Rows first: one long float32 sum would lose digits.
        count = self.present.sum(1, dtype=X.dtype).sum()  # pyright: ignore
        return count * (X.shape[0] // rows * (X.shape[1] // columns))

    def mean(self, X: Float[Array, "p q"]) -> Float[Array, ""]:
        """The mean of the present entries of X."""
        return self.masked(X).sum(1).sum() / self.count(X)

    def row_means(self, X: Float[Any, "p q"]) -> Float[Any, "p 1"]:
        """The mean of the present entries of each row of X, 0 where it has none."""
        X = self.masked(X)
        if self.held is None or self.held.shape[1] == 1:
            return X.mean(1, keepdims=True)
        count = self.present.sum(1, keepdims=True, dtype=X.dtype)  # pyright: ignore
        return X.sum(1, keepdims=True) / jnp.maximum(count, 1)

    def masked(self, X: Float[Any, "p q"]) -> Float[Any, "p q"]:
        """X with 0 at the absent entries."""
        return X if self.held is None else jnp.where(self.present, X, 0)

    def _without_units(
        self,
        X: Float[Any, "p q"],
        gradient: Float[Any, "p q"],
        unit: Any,
        size: Any,
    ) -> tuple[Float[Any, "p q"], Float[Any, "p q"], Float[Any, "p 1"]]:
        """(x, g, size): a component's entries over their mean ``size``, its gradient
        over ``unit``."""
        size = self.row_means(X) if size is None else size
        xp: Any = _namespace(X)
        live = size > 0
        size = xp.where(live, size, 1)
        # A component that is all zero may be revived: judge it as all ones.
        x = xp.where(live, X / size, 1)
        g = xp.where(unit > 0, gradient / xp.where(unit > 0, unit, 1), 0)
        return x, g, size


@pytree
class Box(NonNegative):
    """Projection on {0 ≤ X ≤ upper} entry by entry.

    For factors that are fractions, memberships or probabilities (Boolean-like NMF).

    Example:
      >>> import numpy as np, jaxnmf
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> result = jaxnmf.factorize(V, 4, constraints=(jaxnmf.Box(upper=0.5), "box"))
      >>> bool(result.W.max() <= 0.5), bool(result.H.max() <= 1)
      (True, True)
    """

    name: ClassVar[str] = "box"
    upper: float | jax.Array = 1.0  # pyright: ignore

    def entrywise(self, x: A, floor: A | float = 0.0) -> A:
        xp: Any = _namespace(x)
        return xp.minimum(super().entrywise(x, floor), self.upper)

    def start(self, X: Float[Any, "p q"]) -> Float[Array, "p q"]:
        X = jnp.asarray(X)
        largest = jnp.where(self.free, X, 0).max()
        over = jnp.where(largest > self.upper, largest, self.upper)
        return self.hold(X * (self.upper / over))

    def natural_residual(
        self,
        X: Float[Array, "p q"],
        gradient: Float[Array, "p q"],
        unit: jax.Array,
        size: jax.Array | None = None,
    ) -> Float[Array, "p q"]:
        x, g, mean = self._without_units(X, gradient, unit, size)
        upper = self.upper / mean
        x = jnp.minimum(x, upper)
        return jnp.where(self.free, x - jnp.clip(x - g, 0, upper), 0)


@pytree
class Simplex(NonNegative):
    """Projection on {X ≥ 0, the entries of every column sum to one}.

    A column of a factor (p, q) is what one sample (of W) or one feature (of H) has of
    every component: abundances in a mixture. Held entries are part of the sum, except
    that a column without free entries stays as it is. The nearest point is (X − θ)₊;
    θ, one for each column, comes from Newton's method from below on Σ(x − θ)₊ = 1,
    which drops entries until those left stay positive.

    ``at_most``: a sum of one or less.

    Example:
      >>> import numpy as np, jaxnmf
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> result = jaxnmf.factorize(V, 4, constraints=(jaxnmf.Simplex(), "nonnegative"))
      >>> np.allclose(result.W.sum(1), 1)
      True

    Reference: Michelot, "A finite algorithm for finding the projection of a point onto
    the canonical simplex of ℝⁿ", J. Optimization Theory and Applications 50 (1986)
    [Michelot1986].
    """

    name: ClassVar[str] = "simplex"
    upper: ClassVar[Any] = 1.0
    at_most: bool = static(default=False)

    def __call__(self, X: Float[A, "p q"], floor: A | float = 0.0) -> Float[A, "p q"]:
        xp: Any = _namespace(X)
        floor = self.hold(xp.broadcast_to(xp.asarray(floor, X.dtype), X.shape))
        mass = xp.maximum(1 - floor.sum(0), 0)
        # Relative to the largest entry of a column, which the projection allows: beside
        # numbers that are large the mass would be lost to rounding.
        largest = self._where_free(X - floor, -xp.inf).max(0)
        largest = xp.where(xp.isfinite(largest), largest, 0)
        shifted = X - floor - largest
        # From the mean of all or from the largest alone, whichever is nearer.
        mean = (self._where_free(shifted, 0).sum(0) - mass) / self._free_count(X)
        theta = xp.maximum(mean, -mass)

        def over(theta: Any) -> Any:
            return xp.maximum(self._where_free(shifted - theta, 0), 0)

        def newton(theta: Any) -> Any:
            above = over(theta)
            count = xp.maximum((above > 0).sum(0), 1).astype(X.dtype)
            return theta + xp.maximum(above.sum(0) - mass, 0) / count

        theta = _repeated(newton, theta, X.shape[0])
        if self.at_most:
            return floor + over(xp.maximum(theta, -largest))
        # Rounding, and a θ that was not quite there, leave a sum near one.
        new = over(theta)
        total = new.sum(0)
        scale = xp.where(total > 0, mass / xp.where(total > 0, total, 1), 0)
        return floor + new * scale

    def entrywise(self, x: A, floor: A | float = 0.0) -> A:
        raise NotImplementedError("a sum to one ties the entries of a column")

    def start(self, X: Float[Any, "p q"]) -> Float[Array, "p q"]:
        X = jnp.asarray(X)
        mass = jnp.maximum(1 - self.hold(jnp.zeros_like(X)).sum(0), 0)
        total = self._where_free(X, 0).sum(0)
        if self.at_most:
            most = jnp.maximum(total, jnp.where(mass > 0, mass, 1))
            return self.hold(X * mass / most)
        even = mass / self._free_count(X)
        scaled = X / jnp.where(total > 0, total, 1) * mass
        return self.hold(jnp.where(total > 0, scaled, even))

    def natural_residual(
        self,
        X: Float[Array, "p q"],
        gradient: Float[Array, "p q"],
        unit: jax.Array,
        size: jax.Array | None = None,
    ) -> Float[Array, "p q"]:
        """X − P(X − g): X has a scale of its own, and g one unit for all components."""
        del size
        mean = unit.sum() / self.rank(X)
        g = jnp.where(mean > 0, gradient / jnp.where(mean > 0, mean, 1), 0)
        return jnp.where(self.free, self.rank(X) * (X - self(X - g)), 0)

    def _where_free(self, X: Float[A, "p q"], otherwise: float) -> Float[A, "p q"]:
        xp: Any = _namespace(X)
        return X if self.held is None else xp.where(self.free, X, otherwise)

    def _free_count(self, X: Float[A, "p q"]) -> Any:
        """How many entries of a column are free, 1 where none is."""
        if self.held is None:
            return X.shape[0]
        return jnp.maximum(jnp.isnan(self.held).sum(0, dtype=X.dtype), 1)


@pytree
class Free(NonNegative):
    """No bound on the sign of the entries that are not held: what a solver that allows
    negative entries of a factor has in place of `NonNegative`."""

    name: ClassVar[str] = "free"

    def entrywise(self, x: A, floor: A | float = 0.0) -> A:
        del floor
        return x

    def natural_residual(
        self,
        X: Float[Array, "p q"],
        gradient: Float[Array, "p q"],
        unit: jax.Array,
        size: jax.Array | None = None,
    ) -> Float[Array, "p q"]:
        return jnp.where(self.free, self._without_units(X, gradient, unit, size)[1], 0)


def _namespace(x: Any) -> ModuleType:
    """NumPy for its arrays, JAX's for all others."""
    return np if isinstance(x, np.ndarray) else jnp


def _repeated(fn: Callable[[Any], Any], x: Any, most: int) -> Any:
    """x after ``most`` calls of fn, 16 in a compiled program: on the host fewer, where
    nothing changes any more."""
    if not isinstance(x, np.ndarray):
        return jax.lax.fori_loop(0, min(most, 16), lambda _, x: fn(x), x)
    for _ in range(most):
        x, last = fn(x), x
        if np.array_equal(x, last):
            break
    return x


CONSTRAINTS = {cls.name: cls for cls in (NonNegative, Box, Simplex)}
