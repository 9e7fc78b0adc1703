"""Randomised compression of V, around any solver that works on Gram matrices."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxnmf.data.moments import Moments
from jaxnmf.data.operand import true_shape
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import make_solver, register_solver
from jaxnmf.solvers.base import QUADRATIC, Supports, gives_nnls
from jaxnmf.types import Factors, pytree, static


@pytree
class LowRank:
    """V' = leftᵀ right in place of V, for solvers that ask for products alone."""

    kind: ClassVar[str] = "low-rank"
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


class State(NamedTuple):
    sketch: LowRank
    inner: Any
    count: jax.Array


@register_solver("compressed")
class Compressed:
    """A solver on V' = Q (QᵀV) in place of V, Q a random basis of V's range.

    Q = qr((V Vᵀ)^power V Ω), Ω of l = p + oversample Gaussian columns and a new qr
    after each product; then the inner solver's own step with B = Wᵀ V' = (WᵀQ)(QᵀV)
    and B' = H V'ᵀ = (H (QᵀV)ᵀ) Qᵀ. V is read at the start, 2 power + 2 times, and not
    again. The Gram matrices, and with them W, H ≥ 0, are exact: what is minimised is
    ‖V' − WH‖², the same for both half-steps. Of V it loses what the l-th singular
    subspace does not hold. With ``polish_after`` the steps after that many are taken
    on V itself, and limits are those of the inner solver.

    Cost: 2lp(m + n) a half-step where it is 2mnp without; at the start
    2mnl (2 power + 2) and 2 power + 1 QR factors. ‖V' − WH‖ descends if the inner
    solver does; ‖V − WH‖ need not.

    Args:
      inner: a solver of the Frobenius loss by Gram and cross products, or its name.
      oversample: columns of Ω beyond p; l is at most min(m, n).
      power: how often V Vᵀ is applied: more, where singular values fall slowly.
      polish_after: take steps on V itself after that many; 0 for never.

    References: Erichson, Mendible, Wihlborn & Kutz, "Randomized nonnegative matrix
    factorization", Pattern Recognition Letters 104 (2018), whose W̃ = QᵀW replaces W
    in the Gram matrix too; Tepper & Sapiro, "Compressed nonnegative matrix
    factorization is fast and accurate", IEEE Trans. Signal Processing 64 (2016), which
    compresses the rows for one half-step and the columns for the other.
    """

    supports: ClassVar[Supports] = QUADRATIC
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
                f"solver 'compressed': inner={self.inner!r} does not work on Gram and "
                "cross products of V alone, as 'hals' and 'extrapolated' do"
            )

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> State:
        rank = problem.project.rank(factors.H)
        sketch = compress(
            problem.operand, rank, len(factors.H), key, self.oversample, self.power
        )
        small = dataclasses.replace(problem, operand=sketch)
        inner = self.inner.init(small, factors, jax.random.fold_in(key, 1))
        return State(sketch, inner, jnp.zeros((), jnp.int32))

    def step(
        self, problem: Problem, factors: Factors, state: State
    ) -> tuple[Factors, State]:
        def on_sketch() -> Any:
            small = dataclasses.replace(problem, operand=state.sketch)
            return self.inner.step(small, factors, state.inner)

        def on_data() -> Any:
            return self.inner.step(problem, factors, state.inner)

        if self.polish_after:
            early = state.count < self.polish_after
            factors, inner = jax.lax.cond(early, on_sketch, on_data)
        else:
            factors, inner = on_sketch()
        return factors, State(state.sketch, inner, state.count + 1)


def compress(
    operand: Any, rank: Any, most: int, key: jax.Array, oversample: int, power: int
) -> LowRank:
    """Q and QᵀV, with rank + oversample columns in use of room for most + oversample.

    A column of Ω depends on its number alone and QR works from the first on, so a
    larger ``most`` with the same ``rank`` adds columns of zeros and nothing else. What
    pads V takes no part.
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
        # QR completes the basis where a column is 0: what it adds is taken out.
        return jnp.where(used, jnp.linalg.qr(jnp.where(used, Y, 0).T)[0].T, 0)

    def again(_: Any, Q: Any) -> Any:
        return basis(operand.T.dot(basis(operand.dot(Q), wide)), tall)

    normals = jnp.where(wide, jax.vmap(gaussian)(numbers), 0)
    Q = basis(operand.T.dot(normals), tall)
    Q = jax.lax.fori_loop(0, power, again, Q)
    return LowRank(
        left=Q,
        right=operand.dot(Q),
        floor=operand.floor,
        moments=operand.moments,
        entries=operand.entries,
        padded=operand.padded,
    )
