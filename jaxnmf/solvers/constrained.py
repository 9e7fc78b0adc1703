"""Frobenius factorisations with a constraint or penalty of their own.

Each minimises the objective in its docstring plus the l1 and l2 penalties.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxnmf.data.grams import Gram
from jaxnmf.kernels.coordinate import differences, sweep
from jaxnmf.kernels.inverses import inverse
from jaxnmf.objective.constraints import NonNegative
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.shapes import Array, Bool, Float
from jaxnmf.solvers.base import QUADRATIC, Alternating, Supports
from jaxnmf.types import Cross, Factors, Index, Scalar, State, static


@register_solver("orthogonal")
class Orthogonal(Alternating):
    """Orthogonal NMF: every row of V belongs to one component, as in k-means.

    min ½‖V − WH‖² over W, H ≥ 0 with at most one non-zero entry in a row of W, so that
    WᵀW is diagonal. Exact in W: row i is assigned to k = argmax_k ⟨v_i, h_k⟩/‖h_k‖,
    with w_ik = ⟨v_i, h_k⟩/‖h_k‖². Exact in H: h_k = Σ_i w_ik v_i / Σ_i w_ik². A
    component without rows gets the row with the worst fit.

    Cost: the products with V, 4mnp. Its objective is monotone after the first step, so
    the assignment converges in finitely many steps: to a local minimum of a
    combinatorial problem. Run several seeds, or start from init="snpa".

    Use: hard clusters of samples, as of k-means, with non-negative centres.

    Args:
      revive: assign the rows with the worst fit to components without rows.

    Reference: Pompili, Gillis, Absil & Glineur, "Two algorithms for orthogonal
    nonnegative matrix factorization with application to clustering", Neurocomputing 141
    (2014) [Pompili2014].
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(known=frozenset())
    own_objective: ClassVar[bool] = True
    revive: bool = static(True)

    def init(
        self, problem: Problem, factors: Factors, key: jax.Array
    ) -> Float[Array, " m"]:
        """‖v_i‖² (m,)."""
        del key
        Wt, H = factors
        rows = jnp.ones_like(Wt[:1])
        columns = jnp.asarray(problem.project.columns(H), H.dtype)
        (squares,) = problem.T.operand.map_dot(lambda v, _: (v * v,), columns, rows)
        return squares[0]

    def step(
        self, problem: Problem, factors: Factors, state: Float[Array, " m"]
    ) -> tuple[Factors, Float[Array, " m"]]:
        H = factors.H
        gram, cross = problem.T.quadratic(H)
        best, scale = _separate(problem.T, gram, cross)
        root = jnp.sqrt(scale)[:, None]
        # A row of V that is 0 must not go to an absent component.
        gains = jnp.where(problem.project.components(H), best * root, -1)
        owner, gain = gains.argmax(0), gains.max(0)
        owns = owner[None] == jnp.arange(len(H), dtype=owner.dtype)[:, None]
        Wt = problem.T.project.hold(jnp.where(owns, best * scale[:, None], 0))
        if self.revive:
            Wt = self._revived(problem, Wt, state - gain**2, state)
        gram, cross = problem.quadratic(Wt)
        best, scale = _separate(problem, gram, cross)
        # A component without rows stays as it is until it gets one.
        used = gram.diagonal > 0
        return Factors(Wt, jnp.where(used, best * scale[:, None], H)), state

    def _revived(
        self,
        problem: Problem,
        Wt: Float[Array, "p m"],
        residual: Float[Array, " m"],
        norms: Float[Array, " m"],
    ) -> Float[Array, "p m"]:
        """Wt with the rows of the worst fit assigned to components without rows."""
        p, m = Wt.shape
        empty = problem.project.components(Wt)[:, 0] & (Wt.sum(1) == 0)
        residual = jnp.where(problem.T.project.columns(Wt)[0], residual, -jnp.inf)
        worst, rows = jax.lax.top_k(residual, min(p, m))
        turn = jnp.clip(jnp.cumsum(empty, dtype=jnp.int32) - 1, 0, min(p, m) - 1)
        # A row with a residual of rounding errors stays where it is.
        resolution = jnp.sqrt(jnp.finfo(Wt.dtype).eps)
        gets = empty & (worst[turn] > resolution * norms[rows[turn]])
        every = jnp.arange(m, dtype=rows.dtype)
        moved = gets[:, None] & (rows[turn][:, None] == every[None])
        return jnp.where(moved, 1, jnp.where(moved.any(0), 0, Wt)).astype(Wt.dtype)


@register_solver("sparse-hoyer")
class SparseHoyer(Alternating):
    """NMF with components of a given sparseness, on Hoyer's scale.

    min ½‖V − WH‖² over W, H ≥ 0 with (√n − ‖h_k‖₁/‖h_k‖₂)/(√n − 1) = sparseness for
    every k (and likewise for the columns of W, by ``factor``). Coordinate descent by
    component: the best h_k without the constraint, (b_k − G_k H)/G_kk + h_k, is
    projected on the cone of vectors of that sparseness, which is exact, since the
    objective has circular level sets in h_k. The projection is r (x − t)₊, with t from
    a quadratic equation on the remaining entries, without those that it makes negative,
    until none is: Hoyer's algorithm with a free length r.

    Cost: 4mnp, and a few passes over n numbers for each component of the constrained
    factor. Its objective is monotone once all components have been updated; the set is
    not convex, so limit points are stationary at best.

    Use: components whose sparseness you want to set, such as local parts of images.

    Args:
      sparseness: from 0 (all entries equal) to 1 (one non-zero entry).
      factor: the constrained factor, "H", "W" or "both".

    Reference: Hoyer, "Non-negative matrix factorization with sparseness constraints",
    JMLR 5 (2004) [Hoyer2004], whose steps are projected gradients.
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(known=frozenset())
    own_objective: ClassVar[bool] = True
    sparseness: float = 0.7
    factor: str = static("H")

    def __post_init__(self) -> None:
        _check_factor("sparse-hoyer", self.factor, ("H", "W", "both"))

    def step(
        self, problem: Problem, factors: Factors, state: State
    ) -> tuple[Factors, State]:
        Wt, H = factors

        def hoyer(columns: jax.Array) -> Callable[[jax.Array], jax.Array]:
            return lambda x: onto_sparseness(x, self.sparseness, columns[0])

        columns = {
            "W": problem.T.project.columns(Wt),
            "H": problem.project.columns(H),
        }
        # The constrained factor first, so that the other is fitted to it.
        for name in ("W", "H") if self.factor == "W" else ("H", "W"):
            constrained = self.factor in (name, "both")
            project = hoyer(columns[name]) if constrained else None
            if name == "H":
                H = sweep(problem, *problem.quadratic(Wt), H, project)
            else:
                Wt = sweep(problem.T, *problem.T.quadratic(H), Wt, project)
        return Factors(Wt, H), state


@register_solver("smooth")
class Smooth(Alternating):
    """NMF with components that are smooth along the samples, or along the features.

    min ½‖V − WH‖² + ½ weight Σ_k ‖h_k‖² ‖D w_k‖² over W, H ≥ 0, with D the differences
    of neighbours along the samples (``factor`` "W") or, with W and H exchanged, along
    the features ("H"). The penalty is the roughness of the component's part of V,
    w_k h_k: it does not depend on how the component's scale is split between W and H.

    The update of the smooth factor is HALS on a majoriser, since the curvature of
    ‖D x‖² is at most 4:

        x ← max(0, x + (b_k − G_k X − weight G_kk DᵀD x) / (G_kk (1 + 4 weight))).

    That of the other factor is HALS with a ridge of weight ‖D w_k‖² for component k.

    Cost: that of HALS. Its objective is monotone; with a weight ≫ 1 steps are small.

    Use: components along times, wavelengths or other neighbours that should not jump.

    Args:
      weight: the weight of the roughness.
      factor: the smooth factor, "W" or "H".
      inner: sweeps for each Gram and cross product.

    References: Virtanen, "Monaural sound source separation by nonnegative matrix
    factorization with temporal continuity and sparseness criteria", IEEE Trans. Audio,
    Speech and Language Processing 15 (2007) [Virtanen2007], for the term without scale;
    Essid & Févotte, "Smooth nonnegative matrix factorization for unsupervised
    audiovisual document structuring", IEEE Trans. Multimedia 15 (2013) [Essid2013].
    """

    supports: ClassVar[Supports] = QUADRATIC._replace(ordered=True)
    own_objective: ClassVar[bool] = True
    weight: float = 1.0
    factor: str = static("W")
    inner: int = static(2)

    def __post_init__(self) -> None:
        _check_factor("smooth", self.factor, ("W", "H"))

    def step(
        self, problem: Problem, factors: Factors, state: State
    ) -> tuple[Factors, State]:
        if self.factor == "W":
            problem, factors = problem.T, factors.T
        other, X = factors  # V (or Vᵀ) ≈ otherᵀ X with X smooth
        weight = jnp.asarray(self.weight, X.dtype)
        gram, cross = problem.quadratic(other)
        sizes = weight * gram.diagonal

        def smooth(_: Index, X: Float[Array, "p n"]) -> Float[Array, "p n"]:
            bend = jnp.diff(jnp.pad(differences(problem.project, X), ((0, 0), (1, 1))))
            return sweep(problem, gram, cross + sizes * bend, X, more=4 * sizes)

        X = jax.lax.fori_loop(0, self.inner, smooth, X)
        gram_X, cross_X = problem.T.quadratic(X)
        bends = (differences(problem.project, X) ** 2).sum(1)
        gram_X = gram_X.plus_diagonal(weight * bends[:, None])

        def fit(_: Index, Y: Float[Array, "p m"]) -> Float[Array, "p m"]:
            return sweep(problem.T, gram_X, cross_X, Y)

        factors = Factors(jax.lax.fori_loop(0, self.inner, fit, other), X)
        return (factors.T if self.factor == "W" else factors), state


def onto_sparseness(
    x: Float[Array, " n"], sparseness: Scalar | float, present: Bool[Array, " n"]
) -> Float[Array, " n"]:
    """The nearest y ≥ 0 with (√n − ‖y‖₁/‖y‖₂)/(√n − 1) = sparseness, or 0, for the n
    entries that are present."""
    root = jnp.sqrt(present.sum(dtype=x.dtype))
    ratio = root - sparseness * (root - 1)  # ‖y‖₁ / ‖y‖₂

    def excess(kept: Bool[Array, " n"]) -> Float[Array, " n"]:
        """x − t, with t such that the entries kept have that ratio."""
        count = kept.sum().astype(x.dtype)
        mean = jnp.where(kept, x, 0).sum() / count
        spread = jnp.where(kept, (x - mean) ** 2, 0).sum()
        divisor = count * (count - ratio**2)
        squared = spread / jnp.where(divisor > 0, divisor, 1)
        return x - mean + jnp.where(divisor > 0, ratio * jnp.sqrt(squared), 0)

    def changed(carry: tuple[Bool[Array, " n"], Bool[Array, ""]]) -> Bool[Array, ""]:
        return carry[1]

    def drop(
        carry: tuple[Bool[Array, " n"], Bool[Array, ""]],
    ) -> tuple[Bool[Array, " n"], Bool[Array, ""]]:
        kept, _ = carry
        fewer = kept & (excess(kept) > 0)
        # Where all the remaining entries are equal they are the solution.
        fewer = jnp.where(fewer.any(), fewer, kept)
        return fewer, (fewer != kept).any()

    kept, _ = jax.lax.while_loop(changed, drop, (present, jnp.asarray(True)))
    direction = NonNegative().entrywise(jnp.where(kept, excess(kept), 0))
    direction = jnp.where(direction.sum() > 0, direction, kept.astype(x.dtype))
    direction = direction / jnp.sqrt((direction * direction).sum())
    length = (x * direction).sum()
    return jnp.where(length > 0, length, 0) * direction


def _separate(
    problem: Problem, gram: Gram, cross: Cross
) -> tuple[Float[Array, "p n"], Float[Array, " p"]]:
    """(max(0, b), 1/g), whose product is the best entry of a component by itself."""
    curvature = gram.diagonal[:, 0] + problem.penalty.l2
    return problem.project(cross - problem.penalty.l1), inverse(curvature)


def _check_factor(name: str, factor: str, known: tuple[str, ...]) -> None:
    if factor not in known:
        raise ValueError(
            f"solver {name!r}: factor={factor!r} is not one of {', '.join(known)}"
        )
