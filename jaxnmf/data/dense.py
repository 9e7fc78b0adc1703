"""A dense V as an operand."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from jaxnmf._util.platform import on_cpu
from jaxnmf.data.moments import Moments
from jaxnmf.data.operand import EntryFn, true_shape
from jaxnmf.data.placement import Placement, put, summed
from jaxnmf.data.spread import fetch
from jaxnmf.shapes import Array, Float, Int
from jaxnmf.types import pytree, static

# Entries in a block of X. On a CPU a block and its quotient stay in the cache.
CPU_BLOCK = 2**21
ACCELERATOR_BLOCK = 2**28
# The same in double precision, beside an operand in single.
DOUBLE_BLOCK = 2**21
# From this m/n on V is stored along its columns for lanes on a CPU.
TALL = 4


def rows_together(rows: int, columns: int) -> int:
    """How many of these rows of V, and of X, solvers work on at a time."""
    limit = CPU_BLOCK if on_cpu() else ACCELERATOR_BLOCK
    return max(1, min(rows, limit // columns))


@pytree
class Dense:
    """A dense V. ``array`` is as stored; with ``transposed`` V is its transpose.

    With ``scale``, V is the stored matrix with its rows, or after a transposition its
    columns, times these numbers: so that many V share one array.
    """

    array: Float[Array, "r c"]
    floor: Float[Array, ""]
    moments: Moments
    weights: Float[Array, "r c"] | None = None
    scale: Float[Array, "#r #c"] | None = None
    transposed: bool = static(False)
    block: int = static(0)
    padded: bool = static(default=False)
    placement: Placement | None = static(default=None)

    @property
    def kind(self) -> str:
        return "dense" if self.weights is None else "observed"

    @property
    def shape(self) -> tuple[int, int]:
        r, c = self.array.shape
        return (c, r) if self.transposed else (r, c)

    @property
    def entries(self) -> int:
        """How many numbers a product reads."""
        return self.array.size

    @property
    def by_entries(self) -> bool:
        return False

    @property
    def dtype(self) -> Any:
        return self.array.dtype

    @property
    def any_known(self) -> Any:
        """Which columns have a known entry: True for all, or (n,)."""
        return self.weights is None or (self._turned(self.weights) > 0).any(0)

    @property
    def T(self) -> Dense:
        return dataclasses.replace(
            self,
            transposed=not self.transposed,
            moments=self.moments.T,
            placement=self.placement and self.placement.T,
        )

    def scaled_rows(self, scale: Float[np.ndarray, " m"]) -> Dense:
        """V with row i times scale_i, on the array of V.

        The moments stay those of V, which rows drawn from it have on average.
        """
        column = np.asarray(scale, self.dtype)[:, None]
        return dataclasses.replace(self, scale=jnp.asarray(self._turned(column)))

    def rows(self, index: Int[Array, " b"]) -> Dense:
        """The rows of V at ``index``, (b, n); all ``floor`` where it is no row's, and
        of weight 0."""
        axis = 1 if self.transposed else 0
        there = jnp.expand_dims(index < self.array.shape[axis], 1 - axis)

        def taken(x: Any, otherwise: Any) -> Any:
            rows = jnp.take(x, index, axis, mode="clip")
            return jnp.where(there, rows, otherwise)

        array = taken(self.array, self.floor)
        weights = None if self.weights is None else taken(self.weights, 0)
        scale = self.scale
        if scale is not None and scale.shape[axis] > 1:
            scale = jnp.take(scale, index, axis, mode="clip")
        block = min(self.block, array.shape[0])
        place = self.placement
        return dataclasses.replace(
            self,
            array=array,
            weights=weights,
            scale=scale,
            block=block,
            placement=place and dataclasses.replace(place, rows=()),
            moments=self.moments.sample(there.sum(dtype=self.dtype)),
        )

    def padded_to(self, rows: int, columns: int) -> Dense:
        """V with more rows and columns, of the floor of X (0 where there is none) and
        of weight 0. With factors that are 0 there they add nothing to a loss with
        φ(v, v) = 0."""
        (r, c), (m, n) = self.array.shape, self.shape
        width = [(0, rows - m), (0, columns - n)]
        width = width[::-1] if self.transposed else width

        def grown(x: jax.Array, value: Any) -> jax.Array:
            # On the host: jax.numpy would compile a program for each shape.
            return jnp.asarray(np.pad(fetch(x), width, constant_values=value))

        array = grown(self.array, max(float(self.floor), 0.0))
        weights = None if self.weights is None else grown(self.weights, 0)
        scale = self.scale
        if scale is not None:
            more = [
                x if s > 1 else (0, 0) for x, s in zip(width, scale.shape, strict=True)
            ]
            scale = jnp.asarray(np.pad(fetch(scale), more, constant_values=1))
        new_r, new_c = array.shape
        block = new_r if self.block >= r else max(1, self.block * c // new_c)
        return dataclasses.replace(
            self,
            array=array,
            weights=weights,
            scale=scale,
            block=block,
            padded=True,
            placement=None,
        )

    def placed(self, placement: Placement) -> Dense:
        """The same V over the devices of a mesh that its shape divides over."""
        place = placement.T if self.transposed else placement
        sharding = place.sharding(place.rows, place.columns)
        array, weights = jax.tree.map(
            lambda x: put(x, sharding), (self.array, self.weights)
        )
        return dataclasses.replace(
            self,
            array=array,
            weights=weights,
            floor=put(self.floor, place.sharding()),
            placement=placement,
        )

    def stored_wide(self) -> Dense:
        """The same V stored along its longer side, a copy where it is not.

        A product with few rows then runs along memory: on a CPU an iteration at
        5000×38 takes a tenth less (quadratic) to a third less (Kullback-Leibler).
        """
        r, c = self.array.shape
        if r <= c:
            return self
        turned = jax.tree.map(lambda x: x.T, (self.array, self.weights, self.scale))
        array, weights, scale = turned
        return dataclasses.replace(
            self,
            array=array,
            weights=weights,
            scale=scale,
            transposed=not self.transposed,
            block=max(1, min(c, self.block * c // r)),
        )

    def for_lanes(self) -> Dense:
        """The same V, stored along its longer side where it is tall, on one CPU."""
        m, n = self.shape
        on_one_cpu = on_cpu() and len(self.array.devices()) == 1
        return self.stored_wide() if on_one_cpu and m >= TALL * n else self

    def to_host(self) -> np.ndarray:
        """V as NumPy sees it, without a copy where the memory is shared."""
        V = self._on_host(self.array)
        return V if self.scale is None else V * self._turned(fetch(self.scale))

    def host_weights(self) -> np.ndarray | None:
        """The weights as NumPy sees them, None for data observed whole."""
        return None if self.weights is None else self._on_host(self.weights)

    def _on_host(self, x: jax.Array) -> np.ndarray:
        found = self._turned(fetch(x))
        m, n = map(int, true_shape(self))
        return found[:m, :n] if self.padded else found

    def _turned(self, x: Any) -> Any:
        return x.T if self.transposed else x

    def dot(self, fixed: Float[Array, "p m"]) -> Float[Array, "p n"]:
        array = self.array if self.weights is None else self.array * self.weights
        if self.scale is None:
            return fixed @ self._turned(array)
        scale = self._turned(self.scale)
        if len(scale) > 1:  # of the rows, over which the product sums
            return (fixed * scale.T) @ self._turned(array)
        return (fixed @ self._turned(array)) * scale

    def dot_weights(self, left: Float[Array, "q m"]) -> Float[Array, "q n"]:
        return left @ self._turned(self.weights)

    def residual(self, fixed: Float[Array, "p m"], free: Float[Array, "p n"]) -> Dense:
        """V − fixedᵀ free: as large as V."""
        left, right = self._stored(fixed, free)
        array = self.array if self.scale is None else self.array * self.scale
        return dataclasses.replace(self, array=array - left.T @ right, scale=None)

    def map_sum(
        self,
        fn: EntryFn,
        fixed: Float[Array, "p m"],
        *frees: Any,
    ) -> jax.Array:
        """Σ fn(v, x…), with an x for each of ``frees``, not kept above the floor; in
        the precision of the factors."""
        place = self.placement
        if place is not None:
            both = (*place.rows, *place.columns)
            own = summed(lambda block, *factors: block.map_sum(fn, *factors), both)
            return self._mapped(own, P(), fixed, *frees)

        def visit(total, _, v, xs, __, weighted):
            # Along rows first, then rows, then blocks: one long float32 sum drifts.
            return total + weighted(fn(v.astype(total.dtype), *xs)).sum(1).sum()

        pairs = [self._stored(fixed, free) for free in frees]
        zero = jnp.zeros((), fixed.dtype)
        return self._fold(visit, pairs, zero, floor=None)

    def map_dot(self, fn: EntryFn, fixed: Any, free: Any) -> tuple[jax.Array, ...]:
        place = self.placement
        if place is None:
            return self._map_dot(fn, fixed, free, both=False)[0]
        own = summed(lambda block, *pair: block.map_dot(fn, *pair), place.rows)
        return self._mapped(own, P(None, place.columns), fixed, free)

    def map_dot_both(
        self, fn: EntryFn, fixed: Any, free: Any
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        place = self.placement
        if place is None:
            return self._map_dot(fn, fixed, free, both=True)
        own, out = place.both_sums(lambda block, *pair: block.map_dot_both(fn, *pair))
        return self._mapped(own, out, fixed, free)

    def _mapped(self, own: Any, out: Any, fixed: Any, *frees: Any) -> Any:
        """``own(block, fixed, *frees)`` on every device, of its own block of V and of
        its parts of the factors."""
        place: Any = self.placement
        over = (place.columns, place.rows)
        over = over if self.transposed else over[::-1]

        def spec(x: jax.Array) -> P:
            sides = zip(over, x.shape, strict=True)
            return P(*(axes if size > 1 else () for axes, size in sides))

        def on_device(arrays: Any, rest: Any, *factors: Any) -> Any:
            (array, weights, scale), (floor, moments) = arrays, rest
            block = dataclasses.replace(
                self,
                array=array,
                floor=floor,
                moments=moments,
                weights=weights,
                scale=scale,
                block=rows_together(*array.shape),
                placement=None,
            )
            return own(block, *factors)

        arrays = self.array, self.weights, self.scale
        rest = self.floor, self.moments
        specs = jax.tree.map(spec, arrays)
        return place.mapped(on_device, arrays, specs, out, rest, fixed, *frees)

    def _map_dot(self, fn: EntryFn, fixed: Any, free: Any, *, both: bool) -> Any:
        left, right = self._stored(fixed, free)
        example = jax.ShapeDtypeStruct((1, 1), self.dtype)
        outputs = len(jax.eval_shape(fn, example, example))
        by_left = outputs if both or not self.transposed else 0  # left @ y
        by_right = outputs if both or self.transposed else 0  # right @ yᵀ

        def visit(carry, start, v, xs, left, weighted):
            ys = fn(v, *xs)
            return tuple(
                total + left @ weighted(y)
                for total, y in zip(carry[0], ys[:by_left], strict=True)
            ), tuple(
                jax.lax.dynamic_update_slice_in_dim(
                    total, right @ weighted(y, again=True).T, start, 1
                )
                for total, y in zip(carry[1], ys[:by_right], strict=True)
            )

        start = (
            tuple(jnp.zeros_like(right) for _ in range(by_left)),
            tuple(jnp.zeros_like(left) for _ in range(by_right)),
        )
        folded = self._fold(visit, [(left, right)], start, floor=self.floor)
        left_products, right_products = folded
        if self.transposed:
            return right_products, left_products
        return left_products, right_products

    def _stored(self, fixed: Any, free: Any) -> tuple[Any, Any]:
        """The pair (left, right) with leftᵀ right in the stored orientation."""
        return (free, fixed) if self.transposed else (fixed, free)

    def _fold(self, visit: Any, pairs: Any, carry: Any, *, floor: Any) -> Any:
        """Fold ``visit(carry, start, v, xs, left, weighted)`` over blocks of rows;
        ``weighted(y)`` is y times the weights, 0 where a row was seen before unless
        ``again``."""
        rows = self.array.shape[0]
        size = self.block
        if pairs[0][0].dtype != self.dtype:
            size = max(1, min(size, DOUBLE_BLOCK // self.array.shape[1]))

        def products(lefts):
            rights = [right for _, right in pairs]
            xs = [left.T @ right for left, right in zip(lefts, rights, strict=True)]
            return xs if floor is None else [jnp.maximum(x, floor) for x in xs]

        lefts = [left for left, _ in pairs]

        def weighting(weights: Any, fresh: Any) -> Any:
            def weighted(y: Any, again: bool = False) -> Any:
                y = y if weights is None else y * weights.astype(y.dtype)
                return y if again or fresh is None else jnp.where(fresh, y, 0)

            return weighted

        if size >= rows:
            weighted = weighting(self.weights, None)
            v = self.array if self.scale is None else self.array * self.scale
            return visit(carry, 0, v, products(lefts), lefts[0], weighted)

        def body(i, carry):
            start = jnp.minimum(i * size, rows - size)
            # The last block reaches back into the one before: count a row once.
            fresh = (start + jnp.arange(size) >= i * size)[:, None]
            v, weights, scale = (
                x
                if x is None or len(x) == 1
                else jax.lax.dynamic_slice_in_dim(x, start, size)
                for x in (self.array, self.weights, self.scale)
            )
            v = v if scale is None else jnp.multiply(v, scale)
            blocks = [
                jax.lax.dynamic_slice_in_dim(left, start, size, axis=1)
                for left in lefts
            ]
            weighted = weighting(weights, fresh)
            return visit(carry, start, v, products(blocks), blocks[0], weighted)

        return jax.lax.fori_loop(0, -(-rows // size), body, carry)
