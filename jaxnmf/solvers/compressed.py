"""Randomised compression of V, for any solver that works on Gram matrices."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxnmf.data.moments import Moments
from jaxnmf.data.operand import Operand, true_shape
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import make_solver, register_solver
from jaxnmf.shapes import Array, Bool, Float, Int
from jaxnmf.solvers.base import QUADRATIC, Supports, gives_nnls
from jaxnmf.types import Factors, Index, Scalar, State, pytree, static


@pytree
class LowRank:
    """V' = leftᵀ right in place of V, for solvers that only use products."""

    kind: ClassVar[str] = "low-rank"
    by_entries: ClassVar[bool] = False
    left: Float[Array, "l m"]
    right: Float[Array, "l n"]
    floor: Float[Array, ""]
    moments: Moments  # of V
    entries: int = static()  # of V, so that solvers repeat their sweeps as on V
    padded: bool = static(default=False)

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[1], self.right.shape[1]

    @property
    def dtype(self) -> Any:
        return self.left.dtype

    @property
    def T(self) -> LowRank:
        return dataclasses.replace(
            self, left=self.right, right=self.left, moments=self.moments.T
        )

    def dot(self, fixed: Float[Array, "p m"]) -> Float[Array, "p n"]:
        return (fixed @ self.left.T) @ self.right


class Sketched(NamedTuple):
    """The sketch of V, the state of the inner solver and the number of steps."""

    sketch: LowRank
    inner: State
    count: Int[Array, ""]


@register_solver("compressed")
class Compressed:
    """A solver on a randomised sketch V' = Q (QᵀV) in place of V.

    Q = qr((V Vᵀ)^power V Ω), Ω of l = p + oversample Gaussian columns, with a new qr
    after each product; then the inner solver's own step with B = Wᵀ V' = (WᵀQ)(QᵀV)
    and B' = H V'ᵀ = (H (QᵀV)ᵀ) Qᵀ. V is read only at the start, 2 power + 2 times.
    The Gram matrices and the constraints W, H ≥ 0 are exact: both half-steps minimise
    ‖V' − WH‖². The sketch loses the part of V outside its first l singular subspaces.
    With ``polish_after`` the later steps work on V itself, and limit points are those
    of the inner solver.

    Cost: 2lp(m + n) for a half-step in place of 2mnp; at the start 2mnl (2 power + 2)
    and 2 power + 1 QR factorisations. ‖V' − WH‖ is monotone where the inner solver is;
    ‖V − WH‖ is not.

    Use: a large dense V that is close to low rank, so that products with V dominate.

    Args:
      inner: a solver of the Frobenius loss by Gram and cross products, or its name.
      oversample: columns of Ω beyond p; l is at most min(m, n).
      power: applications of V Vᵀ; more for slowly decaying singular values.
      polish_after: steps on the sketch before those on V itself; 0 for all of them.

    References: Erichson, Mendible, Wihlborn & Kutz, "Randomized nonnegative matrix
    factorization", Pattern Recognition Letters 104 (2018) [Erichson2018], where W̃ =
    QᵀW replaces W also in the Gram matrix; Tepper & Sapiro, "Compressed nonnegative
    matrix factorization is fast and accurate", IEEE Trans. Signal Processing 64 (2016)
    [Tepper2016], which compresses the rows for one half-step and the columns for the
    other.
    """

    # The sketch is drawn column by column.
    supports: ClassVar[Supports] = QUADRATIC._replace(ordered=True)
    monotone: ClassVar[bool] = False
    own_objective: ClassVar[bool] = True
    inner: Any = "hals"
    oversample: int = static(20)
    power: int = static(2)
    polish_after: int = static(0)

    def __post_init__(self) -> None:
        if isinstance(self.inner, str):
            object.__setattr__(self, "inner", make_solver(self.inner))
        losses = getattr(getattr(self.inner, "supports", None), "losses", "any")
        by_products = gives_nnls(self.inner) or losses == "quadratic"
        if not by_products or getattr(self.inner, "own_objective", False):
            raise ValueError(
                f"solver 'compressed': inner={self.inner!r} needs more than Gram and "
                "cross products of V; use a solver such as 'hals' or 'extrapolated'"
            )

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> Sketched:
        rank = problem.project.rank(factors.H)
        sketch = compress(
            problem.operand, rank, len(factors.H), key, self.oversample, self.power
        )
        small = dataclasses.replace(problem, operand=sketch)
        inner = self.inner.init(small, factors, jax.random.fold_in(key, 1))
        return Sketched(sketch, inner, jnp.zeros((), jnp.int32))

    def step(
        self, problem: Problem, factors: Factors, state: Sketched
    ) -> tuple[Factors, Sketched]:
        def on_sketch() -> tuple[Factors, State]:
            small = dataclasses.replace(problem, operand=state.sketch)
            return self.inner.step(small, factors, state.inner)

        def on_data() -> tuple[Factors, State]:
            return self.inner.step(problem, factors, state.inner)

        if self.polish_after:
            early = state.count < self.polish_after
            factors, inner = jax.lax.cond(early, on_sketch, on_data)
        else:
            factors, inner = on_sketch()
        return factors, Sketched(state.sketch, inner, state.count + 1)


def compress(
    operand: Operand,
    rank: Scalar | int,
    most: int,
    key: jax.Array,
    oversample: int,
    power: int,
) -> LowRank:
    """Q and QᵀV: rank + oversample columns, padded with zeros to most + oversample.

    A column of Ω depends only on its number, and QR works from the first column on, so
    a larger ``most`` with the same ``rank`` only adds columns of zeros. Rows and
    columns that pad V are left out.
    """
    (m, n), dtype = operand.shape, operand.dtype
    rows, columns = true_shape(operand)
    room = min(most + oversample, m, n)
    numbers = jnp.arange(room, dtype=jnp.int32)
    count = jnp.minimum(rank + oversample, jnp.minimum(rows, columns))
    used = (numbers.astype(dtype) < count)[:, None]
    tall, wide = (
        used & (jnp.arange(size, dtype=jnp.int32).astype(dtype) < own)
        for size, own in ((m, rows), (n, columns))
    )

    def gaussian(number: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(key, number), (n,), dtype)

    def basis(Y: Float[Array, "l q"], used: Bool[Array, "l q"]) -> Float[Array, "l q"]:
        # QR completes the basis where a column is 0: those columns are removed.
        return jnp.where(used, jnp.linalg.qr(jnp.where(used, Y, 0).T)[0].T, 0)

    def iterate(_: Index, Q: Float[Array, "l m"]) -> Float[Array, "l m"]:
        return basis(operand.T.dot(basis(operand.dot(Q), wide)), tall)

    normals = jnp.where(wide, jax.vmap(gaussian)(numbers), 0)
    Q = basis(operand.T.dot(normals), tall)
    Q = jax.lax.fori_loop(0, power, iterate, Q)
    return LowRank(
        left=Q,
        right=operand.dot(Q),
        floor=operand.floor,
        moments=operand.moments,
        entries=operand.entries,
        padded=operand.padded,
    )
