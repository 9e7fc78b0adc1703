"""Losses for noise that is neither Gaussian nor Poisson: gross outliers, overdispersed
counts, Boolean data.

Scale parameters such as δ are in the units of V.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxnmf.objective.losses import NEAR, TERMS, KullbackLeibler, Loss
from jaxnmf.types import pytree

# How near 0 and 1 a probability may come.
EDGE = 1e-6

poisson = KullbackLeibler()


class Robust(Loss):
    """ρ(r) of the residual r = v − x, with ρ a concave function of r².

    With the weight w = ρ′(r)/r the split is a = w v, b = w x. A tangent of ρ in r² is a
    weighted square above ρ: the multiplicative update is that of iteratively reweighted
    least squares, and monotone.

    Reference: Kong, Ding & Huang, "Robust nonnegative matrix factorization using
    L21-norm", CIKM (2011) [Kong2011], with weights of rows in place of entries.
    """

    majoriser: ClassVar[float] = 2.0  # pyright: ignore

    def weight(self, residual: jax.Array) -> jax.Array:
        """w = ρ′(r)/r."""
        raise NotImplementedError

    def split(self, v: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        weight = self.weight(v - x)
        return weight * v, weight * x

    def floor(self, mean: float, least: float, largest: float, dtype: Any) -> float:
        return 0.0


@pytree
class Huber(Robust):
    """½ (v − x)² where |v − x| ≤ δ, else δ |v − x| − ½ δ²: for outliers of either sign.

    Reference: Huber, "Robust estimation of a location parameter", Annals of
    Mathematical Statistics 35 (1964) [Huber1964].
    """

    name: ClassVar[str] = "huber"
    delta: float = 1.0

    def check(self) -> None:
        _check_positive(self, "delta", self.delta)

    def pointwise(self, v: jax.Array, x: jax.Array) -> jax.Array:
        size = jnp.abs(v - x)
        square = jnp.minimum(size, self.delta)
        return square * (size - 0.5 * square)

    def weight(self, residual: jax.Array) -> jax.Array:
        return self.delta / jnp.maximum(jnp.abs(residual), self.delta)


@pytree
class L1(Robust):
    """√((v − x)² + ε²) − ε, |v − x| made smooth near zero: for many outliers."""

    name: ClassVar[str] = "l1"
    epsilon: float = 0.01

    def check(self) -> None:
        _check_positive(self, "epsilon", self.epsilon)

    def pointwise(self, v: jax.Array, x: jax.Array) -> jax.Array:
        squared = (v - x) ** 2
        # √(r² + ε²) − ε without its cancellation.
        return squared / (jnp.sqrt(squared + self.epsilon**2) + self.epsilon)

    def weight(self, residual: jax.Array) -> jax.Array:
        return 1 / jnp.sqrt(residual**2 + self.epsilon**2)


@pytree
class Cauchy(Robust):
    """½ γ² log(1 + (v − x)²/γ²): a gross outlier has next to no weight. Not convex.

    Reference: Guan et al., "Truncated Cauchy non-negative matrix factorization", IEEE
    Transactions on Pattern Analysis and Machine Intelligence 41 (2019) [Guan2019].
    """

    name: ClassVar[str] = "cauchy"
    gamma: float = 1.0

    def check(self) -> None:
        _check_positive(self, "gamma", self.gamma)

    def pointwise(self, v: jax.Array, x: jax.Array) -> jax.Array:
        return 0.5 * self.gamma**2 * jnp.log1p(((v - x) / self.gamma) ** 2)

    def weight(self, residual: jax.Array) -> jax.Array:
        return 1 / (1 + (residual / self.gamma) ** 2)


@pytree
class NegativeBinomial(Loss):
    """v log(v/x) − (v + r) log((v + r)/(x + r)), r = 1/d: for overdispersed counts.

    It is maximum likelihood for counts of mean x and variance x + d x², d the
    dispersion. a = v/x, b = (v + r)/(x + r). Since log(x + r) is below its tangents,
    the multiplicative update is monotone. d → 0 is the Kullback-Leibler divergence.

    Reference: Gouvert, Oberlin & Févotte, "Negative binomial matrix factorization",
    IEEE Signal Processing Letters 27 (2020) [Gouvert2020].
    """

    name: ClassVar[str] = "negative-binomial"
    majoriser: ClassVar[float] = 1.0  # pyright: ignore
    dispersion: float = 1.0

    def check(self) -> None:
        _check_positive(self, "dispersion", self.dispersion)

    def pointwise(self, v: jax.Array, x: jax.Array) -> jax.Array:
        """φ(v, x) = v log(1 + s) − r log(1 + t), to the precision that v − x has.

        s = r (v − x) / (x (v + r)), t = (v − x) / (x + r), which, unlike the logarithms
        of the definition, are small where the variance is far above that of a Poisson
        law. Near x = v it is v s − r t, a square, less the rest of both logarithms.
        """
        r = 1 / self.dispersion
        difference = v - x
        s, t = r * difference / (x * (v + r)), difference / (x + r)
        near = jnp.abs(difference) < NEAR[x.dtype.itemsize] * x
        square = r * difference / x * (r * difference / ((v + r) * (x + r)))
        close = square - v * _log_rest(s, near) + r * _log_rest(t, near)
        share = jnp.where(v > 0, v / (v + r), x / (x + r)) * ((x + r) / x)
        far = v * _log(s, share) - r * _log(t, (v + r) / (x + r))
        return jnp.where(near, close, far)

    def split(self, v: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        r = 1 / self.dispersion
        return v / x, (v + r) / (x + r)


@pytree
class ZeroInflatedPoisson(Loss):
    """Kullback-Leibler, but −log(π + (1 − π) e⁻ˣ) at v = 0: counts with more zeros.

    It is for zeros that a Poisson law does not explain, such as dropouts. A zero is one
    of a share π that would be zero at any x, or a Poisson zero, and counts by the
    probability w = (1 − π) e⁻ˣ / (π + (1 − π) e⁻ˣ) of the second: a = v/x and b = 1, or
    w at v = 0. The multiplicative update is a step of the EM algorithm, and monotone.

    Reference: Lambert, "Zero-inflated Poisson regression, with an application to
    defects in manufacturing", Technometrics 34 (1992) [Lambert1992].
    """

    name: ClassVar[str] = "zero-inflated-poisson"
    majoriser: ClassVar[float] = 1.0  # pyright: ignore
    inflation: float = 0.1

    def check(self) -> None:
        if not 0 <= float(self.inflation) < 1:
            raise ValueError(
                f"loss {self.name!r}: inflation={self.inflation!r} must be a number "
                "from 0 to less than 1"
            )

    def pointwise(self, v: jax.Array, x: jax.Array) -> jax.Array:
        share = jnp.asarray(self.inflation, x.dtype)
        # The first has the digits of a small x, the second does not round e⁻ˣ away.
        low = -jnp.log1p((1 - share) * jnp.expm1(-jnp.minimum(x, 1)))
        high = -jnp.logaddexp(jnp.log(share), jnp.log1p(-share) - x)
        at_zero = jnp.where(x < 1, low, high)
        return jnp.where(v > 0, poisson.pointwise(v, x), at_zero)

    def split(self, v: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        odds = self.inflation / (1 - self.inflation)
        # e⁻ˣ, which cannot overflow.
        poisson_zero = jnp.exp(-x)
        weight = poisson_zero / jnp.maximum(poisson_zero + odds, 1e-30)
        return v / x, jnp.where(v > 0, 1, weight)


@pytree
class Bernoulli(Loss):
    """v log(v/x) + (1 − v) log((1 − v)/(1 − x)): for Boolean data, x = P(v = 1).

    a = v/x, b = (1 − v)/(1 − x). W H ≤ 1 needs constraints: the components of each row
    of W sum to one and H ≤ 1, ``constraints=("simplex", "box")``, or the reverse.

    Reference: Magron & Févotte, "A majorization-minimization algorithm for nonnegative
    binary matrix factorization", IEEE Signal Processing Letters 29 (2022) [Magron2022].
    """

    name: ClassVar[str] = "bernoulli"
    most: ClassVar[float] = 1.0  # pyright: ignore

    def pointwise(self, v: jax.Array, x: jax.Array) -> jax.Array:
        x = jnp.minimum(x, 1 - EDGE)
        return poisson.pointwise(v, x) + poisson.pointwise(1 - v, 1 - x)

    def split(self, v: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = jnp.minimum(x, 1 - EDGE)
        return v / x, (1 - v) / (1 - x)

    def floor(self, mean: float, least: float, largest: float, dtype: Any) -> float:
        return EDGE


def _log_rest(t: jax.Array, near: jax.Array) -> jax.Array:
    """t − log(1 + t) for small t, by its power series; 0 where it is not near."""
    t = jnp.where(near, t, 0)
    series = jnp.zeros_like(t)
    for k in range(TERMS, 1, -1):
        series = 1 / k - t * series
    return t * t * series


def _log(t: jax.Array, ratio: jax.Array) -> jax.Array:
    """log(1 + t) with ratio = 1 + t, of which one has all its digits."""
    small = jnp.abs(t) < 0.5
    return jnp.where(small, jnp.log1p(jnp.where(small, t, 0)), jnp.log(ratio))


def _check_positive(loss: Loss, option: str, value: Any) -> None:
    if not 0 < float(value) < float("inf"):
        raise ValueError(
            f"loss {loss.name!r}: {option}={value!r} must be a finite number > 0"
        )


LOSSES = (Huber, L1, Cauchy, NegativeBinomial, ZeroInflatedPoisson, Bernoulli)
