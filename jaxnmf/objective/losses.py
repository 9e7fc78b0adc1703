"""Losses D(V | X) with X = W H: sums of entrywise terms φ(v, x).

A loss has φ (``pointwise``) and a split of its derivative, ∂φ/∂x = b − a with a, b ≥ 0
(``split``). For a fixed W the gradient in H is then Wᵀb − Wᵀa: multiplicative updates
take the ratio of the two, gradient methods the difference, the KKT residual both.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.data.arrays import as_leaf
from jaxnmf.data.operand import Described
from jaxnmf.shapes import Array, Float
from jaxnmf.types import Pointwise, pytree, static

# |v − x| / x below which φ(v, x) is a power series, by the bytes of a number, where
# the error of the definition is as small as that of the powers left out.
NEAR = {4: 1 / 8, 8: 1 / 64}
TERMS = 7
# The floor under X, relative to the least positive entry of V.
REACH = 1e-3


class Loss:
    """The base class of losses. Subclass it, or register a plain function φ(v, x).

    Attributes:
      name: in the registry.
      quadratic: whether it is ½‖V − X‖², for which solvers may work on Gram and cross
        products.
      unit_plus: whether b = 1 everywhere, so that Wᵀb is a sum and needs no product.
      has_split: whether the loss defines `split`, which is otherwise computed by
        automatic differentiation.
      separable_zeros: whether Σφ(0, x) over all entries has a closed form
        (`zero_total`), so that a sparse V costs only its stored entries. Unless it is
        ``quadratic``, such a loss needs a(0, x) = 0, ``unit_plus``, and a `zero_total`
        that is linear in each factor.
      positive_data: whether φ is infinite at v = 0.
      most: the largest entry that V and X may have.
      beta: β of a β-divergence, else None.
      majoriser: β of the divergence whose multiplicative update, with this loss's
        split, is monotone; None where there is none.
      losses: those of the views, where each has its own (`ByView`); else none.
    """

    name: ClassVar[str] = ""
    quadratic: bool = False
    unit_plus: bool = False
    has_split: bool = True
    separable_zeros: bool = False
    positive_data: bool = False
    most: float = np.inf
    beta: float | None = None
    majoriser: float | None = None
    losses: tuple[Loss, ...] = ()

    @property
    def label(self) -> str:
        """The name, or that of the class for a loss that is not in the registry."""
        return self.name or type(self).__name__

    def check(self) -> None:
        """Raise a ValueError for an option that does not fit."""

    def pointwise(self, v: jax.Array, x: jax.Array) -> jax.Array:
        """φ(v, x), entrywise."""
        raise NotImplementedError

    def split(self, v: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(a, b), both ≥ 0, with ∂φ/∂x = b − a, entrywise."""
        raise NotImplementedError

    def at_zero(self, x: jax.Array) -> jax.Array:
        """φ(0, x), entrywise."""
        return self.pointwise(jnp.zeros_like(x), x)

    def zero_total(
        self, fixed: Float[Array, "p m"], free: Float[Array, "p n"]
    ) -> jax.Array:
        """Σφ(0, x) over all entries of X = fixedᵀ free, in closed form."""
        raise NotImplementedError

    def floor(self, mean: float, least: float, largest: float, dtype: Any) -> float:
        """The value that entries of X are kept above, so that φ and the split are
        finite: below what a fit to the data can reach.

        Args:
          mean, least, largest: of V's entries, ``least`` of those > 0.
          dtype: the precision.
        """
        del largest
        return max(min(1e-10 * mean, REACH * least), float(jnp.finfo(dtype).tiny))

    @property
    def powers(self) -> tuple[float, float]:
        """(l, u): with r the ratio of an entry to what it was, the slope of the
        majoriser is plus r^(u − 1) − minus r^(l − 2), and γ is 1/(1 + u − l)."""
        beta = self.majoriser
        assert beta is not None
        return min(beta, 2.0), max(beta, 1.0)

    @property
    def mu_exponent(self) -> float:
        """γ, the exponent with which the multiplicative update is monotone."""
        if self.majoriser is None:
            raise AttributeError("no multiplicative update of this loss is monotone")
        lower, upper = self.powers
        return 1 / ((2 - lower) + (upper - 1))


class BetaDivergence(Loss):
    """The β-divergence for a real β.

    d(v | x) = (v^β + (β−1) x^β − β v x^(β−1)) / (β (β−1)), with the limits
    v log(v/x) − v + x at β = 1 and v/x − log(v/x) − 1 at β = 0;
    a = v x^(β−2), b = x^(β−1).

    Reference: Févotte & Idier, "Algorithms for nonnegative matrix factorization with
    the β-divergence", Neural Computation 23 (2011) [Fevotte2011].
    """

    beta: float = 2.0

    @property
    def majoriser(self) -> float:
        return self.beta

    @property
    def quadratic(self) -> bool:
        return self.beta == 2

    @property
    def unit_plus(self) -> bool:
        return self.beta == 1

    @property
    def separable_zeros(self) -> bool:
        return self.beta in (1, 2)

    @property
    def positive_data(self) -> bool:
        return self.beta <= 0

    def pointwise(self, v: jax.Array, x: jax.Array) -> jax.Array:
        """φ(v, x), to the precision that v − x has: where v is near x by a power
        series, since the terms of the definition cancel there."""
        if self.beta == 2:
            return 0.5 * (v - x) ** 2
        inverse = 1 / x
        delta = (v - x) * inverse
        near = jnp.abs(delta) < NEAR[delta.dtype.itemsize]
        delta = jnp.where(near, delta, 0)
        # Σ over k ≥ 2 of the binomial (β k) δ^k / (β (β − 1)).
        series = jnp.ones_like(delta)
        for k in range(TERMS, 2, -1):
            series = 1 + (self.beta - k + 1) / k * delta * series
        series = 0.5 * delta * delta * series
        size = x if self.beta == 1 else x**self.beta
        return jnp.where(near, size * series, self._apart(v, x, v * inverse))

    def _apart(self, v: jax.Array, x: jax.Array, ratio: jax.Array) -> jax.Array:
        """φ(v, x) by its definition, with the ratio v/x."""
        b = self.beta
        if b in (0, 1):
            log = jnp.log(jnp.where(v > 0, ratio, 1))
            return v * log - v + x if b == 1 else ratio - log - 1
        if b > 1:  # no quotient, whose power may overflow
            return (v**b - x ** (b - 1) * (x + b * (v - x))) / (b * (b - 1))
        # x^β times a function of v/x: the three powers alone could overflow.
        ratio = jnp.where(v > 0, ratio, 0)
        return x**b * ((ratio**b - 1) - b * (ratio - 1)) / (b * (b - 1))

    def at_zero(self, x: jax.Array) -> jax.Array:
        # Without the logarithm, which would cost as much as that of φ(v, x).
        return x if self.beta == 1 else super().at_zero(x)

    def split(self, v: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        if self.beta == 2:
            return v, x
        if self.beta == 1:
            return v / x, jnp.ones_like(x)
        if self.beta == 0:
            b = 1 / x
            return (v / x) * b, b
        if self.beta == 3:
            return v * x, x * x
        b = x ** (self.beta - 1)
        return (v / x) * b, b

    def zero_total(
        self, fixed: Float[Array, "p m"], free: Float[Array, "p n"]
    ) -> jax.Array:
        if self.beta == 1:
            return (fixed.sum(1) * free.sum(1)).sum()
        return 0.5 * ((fixed @ fixed.T) * (free @ free.T)).sum()

    def floor(self, mean: float, least: float, largest: float, dtype: Any) -> float:
        limits, beta = jnp.finfo(dtype), self.beta
        if beta == 2:
            return 0.0
        floor = min(1e-10 * mean, REACH * least)
        if beta > 1:  # φ(v, 0) is finite: an x far below v may be the best
            floor = 1e-16 * mean
        elif beta == 1:  # what lies below 1e-16 of the mean adds nothing to the sum
            floor = max(floor, 1e-16 * mean)
        elif beta > 0:  # where x is 0 and v is not, v x^(β−2) must be finite
            floor = max(floor, largest * float(limits.max) ** (-0.8 / (2 - beta)))
        return max(floor, float(limits.tiny))

    def least(self, v: jax.Array) -> jax.Array:
        """The x ≥ 0 from which φ(v, x) is finite for β ≥ 1; v/x is for β = 1."""
        if self.beta > 1:
            return jnp.zeros_like(v)
        limits = jnp.finfo(v.dtype)
        least = jnp.maximum(float(limits.max) ** -0.9 * v, limits.tiny)
        return jnp.where(v > 0, least, 0)


@pytree
class Frobenius(BetaDivergence):
    """½‖V − W H‖²_F, maximum likelihood for Gaussian noise (β = 2)."""

    name: ClassVar[str] = "frobenius"
    beta: ClassVar[float] = 2.0  # pyright: ignore


@pytree
class KullbackLeibler(BetaDivergence):
    """Σ v log(v/x) − v + x, maximum likelihood for Poisson counts (β = 1)."""

    name: ClassVar[str] = "kullback-leibler"
    beta: ClassVar[float] = 1.0  # pyright: ignore


@pytree
class ItakuraSaito(BetaDivergence):
    """Σ v/x − log(v/x) − 1, the same at every scale: for multiplicative noise and power
    spectra (β = 0)."""

    name: ClassVar[str] = "itakura-saito"
    beta: ClassVar[float] = 0.0  # pyright: ignore


@pytree
class Beta(BetaDivergence):
    """The β-divergence with β as an option."""

    name: ClassVar[str] = "beta"
    beta: float = static(1.5)  # pyright: ignore


def beta_divergence(beta: float) -> BetaDivergence:
    """The β-divergence of a number."""
    known = {2.0: Frobenius, 1.0: KullbackLeibler, 0.0: ItakuraSaito}
    return known[beta]() if beta in known else Beta(beta=float(beta))


@pytree
class OwnLoss(Loss):
    """The loss of a user's entrywise function φ(v, x), by automatic differentiation.

    With d = ∂φ/∂x and c = |x ∂²φ/∂x²|, the split is a = c + max(−d, 0) and
    b = c + max(d, 0). Its difference is the gradient and its size is the scale of the
    KKT residual; multiplicative updates by it need not be monotone.
    """

    name: ClassVar[str] = "own"
    has_split: ClassVar[bool] = False  # pyright: ignore
    function: Pointwise = static()

    def pointwise(self, v: jax.Array, x: jax.Array) -> jax.Array:
        return self.function(v, x)

    def split(self, v: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        def derivative(x: jax.Array) -> jax.Array:
            return jax.jvp(lambda x: self.function(v, x), (x,), (jnp.ones_like(x),))[1]

        first, second = jax.jvp(derivative, (x,), (jnp.ones_like(x),))
        size = jnp.abs(second) * x
        return size + jnp.maximum(-first, 0), size + jnp.maximum(first, 0)


def check_one_loss(loss: Loss) -> None:
    """Raise a ValueError for a loss for each view, of a V that is one matrix."""
    if loss.losses:
        raise ValueError(
            f"loss: {len(loss.losses)} losses, one for each view, and V is one matrix; "
            "give jaxnmf.Views([V1, V2, …]), or one loss"
        )


def of_each(operand: Any, loss: Loss) -> list[tuple[Any, Loss]]:
    """The operand and the loss of each view.

    Raises:
      ValueError: for an operand that is one matrix.
    """
    if not hasattr(operand, "parts"):
        check_one_loss(loss)
    return list(zip(operand.parts, loss.losses, strict=True))


def with_floor(operand: Described, loss: Loss, bound: Any = np.inf) -> Any:
    """The operand with X kept above the floor of a loss; none for data of any sign.

    ``bound`` is the largest product of two entries of W and H: where it is far below V,
    so is the floor, as long as v x^(β−2) is finite.
    """
    if loss.losses:
        each = [with_floor(*pair, bound) for pair in of_each(operand, loss)]
        return dataclasses.replace(operand, parts=tuple(each))  # pyright: ignore
    if not float(operand.floor) > -np.inf:
        return operand
    known, dtype = operand.moments, operand.dtype
    mean, least, largest = map(float, (known.mean, known.least, known.largest))
    power = 1 / (2 - min(loss.beta or 0.0, 1.5))
    finite = (largest / float(jnp.finfo(dtype).max) ** 0.8) ** power
    mean = min(mean, max(float(bound), 1e10 * finite))
    floor = as_leaf(loss.floor(mean, least, largest, dtype), dtype)
    return dataclasses.replace(operand, floor=floor)  # pyright: ignore
