"""V as an operand: what a solver may ask of data that are dense, sparse or observed in
part.

Every operand answers the same questions about X = fixedᵀ free:

  dot(fixed)               fixed @ V                                   (p, n)
  sum(fn, fixed, free…)    Σ fn(v, x)
  pull(fn, fixed, free)    fixed @ fn(v, x), for each output of fn     (p, n)
  pulls(fn, fixed, free)   the same for both factors from one pass over X
  weigh(left)              left @ weights, for data observed in part   (q, n)
  minus(fixed, free)       V − X as an operand, dense or known in part

``.T`` is the transposed operand, without a copy of dense data. X itself is never
held whole: a dense pass works on blocks of rows, a sparse one on the stored entries.
Values of x are kept above ``floor``, a ten-billionth of the mean of V, so that a
quotient v/x stays finite.

With ``weights`` an operand is observed in part: every sum and product above is over
the known entries alone, each times its weight. They are those where a dense V has a
weight > 0, or all that a sparse V stores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxnmf.types import pytree, static

EntryFn = Callable[..., Any]

# Columns of a sparse product on a CPU come in multiples of this.
CPU_COLUMNS = 8
# Components to a pass over the stored entries.
COMPONENTS = 4
# From this density × p on, blocks of X are sooner than gathers; entries of a block.
BLOCKS_FROM = 1.0
X_BLOCK = 2**18
# Rows of the dense factor that a product of padded rows gathers at a time.
PASS = 2**16


@pytree
class Dense:
    """A dense V. ``array`` is as stored; ``transposed`` says that Vᵀ is meant."""

    array: Float[Array, "r c"]
    floor: Float[Array, ""]
    weights: Float[Array, "r c"] | None = None
    transposed: bool = static(False)
    block: int = static(0)

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
    def dtype(self) -> Any:
        return self.array.dtype

    @property
    def T(self) -> Dense:
        return dataclasses.replace(self, transposed=not self.transposed)

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
        block = min(self.block, array.shape[0])
        return dataclasses.replace(self, array=array, weights=weights, block=block)

    def along(self) -> Dense:
        """The same V stored along its longer side, a copy where it is not.

        A product with few rows then runs along memory: on a CPU an iteration at
        5000×38 takes a tenth less (quadratic) to a third less (Kullback-Leibler).
        """
        r, c = self.array.shape
        if r <= c:
            return self
        array, weights = jax.tree.map(lambda x: x.T, (self.array, self.weights))
        return dataclasses.replace(
            self,
            array=array,
            weights=weights,
            transposed=not self.transposed,
            block=max(1, min(c, self.block * c // r)),
        )

    def to_host(self) -> np.ndarray:
        """V as NumPy sees it, without a copy where the memory is shared."""
        return self._turned(np.asarray(self.array))

    def host_weights(self) -> np.ndarray | None:
        """The weights as NumPy sees them, None for data observed whole."""
        return None if self.weights is None else self._turned(np.asarray(self.weights))

    def _turned(self, x: Any) -> Any:
        return x.T if self.transposed else x

    def dot(self, fixed: Float[Array, "p m"]) -> Float[Array, "p n"]:
        array = self.array if self.weights is None else self.array * self.weights
        return fixed @ self._turned(array)

    def weigh(self, left: Float[Array, "q m"]) -> Float[Array, "q n"]:
        return left @ self._turned(self.weights)

    def minus(self, fixed: Float[Array, "p m"], free: Float[Array, "p n"]) -> Dense:
        """V − fixedᵀ free: as large as V."""
        left, right = self._stored(fixed, free)
        return dataclasses.replace(self, array=self.array - left.T @ right)

    def sum(self, fn: EntryFn, fixed: Float[Array, "p m"], *frees: Any) -> jax.Array:
        """Σ fn(v, x…), with an x for each of ``frees``."""

        def visit(total, _, v, xs, __, weigh):
            # Along rows first, then rows, then blocks: one long float32 sum drifts.
            return total + weigh(fn(v, *xs)).sum(1).sum()

        pairs = [self._stored(fixed, free) for free in frees]
        return self._fold(visit, pairs, jnp.zeros((), self.dtype))

    def pull(self, fn: EntryFn, fixed: Any, free: Any) -> tuple[jax.Array, ...]:
        return self._pull(fn, fixed, free, both=False)[0]

    def pulls(
        self, fn: EntryFn, fixed: Any, free: Any
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        return self._pull(fn, fixed, free, both=True)

    def _pull(self, fn: EntryFn, fixed: Any, free: Any, *, both: bool) -> Any:
        left, right = self._stored(fixed, free)
        example = jax.ShapeDtypeStruct((1, 1), self.dtype)
        outputs = len(jax.eval_shape(fn, example, example))
        by_left = outputs if both or not self.transposed else 0  # left @ y
        by_right = outputs if both or self.transposed else 0  # right @ yᵀ

        def visit(carry, start, v, xs, left, weigh):
            ys = fn(v, *xs)
            return tuple(
                total + left @ weigh(y)
                for total, y in zip(carry[0], ys[:by_left], strict=True)
            ), tuple(
                jax.lax.dynamic_update_slice_in_dim(
                    total, right @ weigh(y, again=True).T, start, 1
                )
                for total, y in zip(carry[1], ys[:by_right], strict=True)
            )

        start = (
            tuple(jnp.zeros_like(right) for _ in range(by_left)),
            tuple(jnp.zeros_like(left) for _ in range(by_right)),
        )
        left_products, right_products = self._fold(visit, [(left, right)], start)
        if self.transposed:
            return right_products, left_products
        return left_products, right_products

    def _stored(self, fixed: Any, free: Any) -> tuple[Any, Any]:
        """The pair (left, right) with leftᵀ right in the stored orientation."""
        return (free, fixed) if self.transposed else (fixed, free)

    def _fold(self, visit: Any, pairs: Any, carry: Any) -> Any:
        """Fold ``visit(carry, start, v, xs, left, weigh)`` over blocks of rows;
        ``weigh(y)`` is y times the weights, 0 where a row was seen before unless
        ``again``."""
        rows = self.array.shape[0]
        size = self.block

        def products(lefts):
            rights = [right for _, right in pairs]
            return [
                jnp.maximum(left.T @ right, self.floor)
                for left, right in zip(lefts, rights, strict=True)
            ]

        lefts = [left for left, _ in pairs]

        def weighing(weights: Any, fresh: Any) -> Any:
            def weigh(y: Any, again: bool = False) -> Any:
                y = y if weights is None else y * weights
                return y if again or fresh is None else jnp.where(fresh, y, 0)

            return weigh

        if size >= rows:
            weigh = weighing(self.weights, None)
            return visit(carry, 0, self.array, products(lefts), lefts[0], weigh)

        def body(i, carry):
            start = jnp.minimum(i * size, rows - size)
            # The last block reaches back into the one before: count a row once.
            fresh = (start + jnp.arange(size) >= i * size)[:, None]
            v, weights = (
                x if x is None else jax.lax.dynamic_slice_in_dim(x, start, size)
                for x in (self.array, self.weights)
            )
            blocks = [
                jax.lax.dynamic_slice_in_dim(left, start, size, axis=1)
                for left in lefts
            ]
            weigh = weighing(weights, fresh)
            return visit(carry, start, v, products(blocks), blocks[0], weigh)

        return jax.lax.fori_loop(0, -(-rows // size), body, carry)


@pytree
class PaddedRows:
    """Rows of a CSR pattern in buckets, filled up to a power of two of entries.

    A product is gathers and dense sums alone, no scatter: for platforms without a
    compiled one. At most two places an entry; a pass holds ``PASS`` rows of the dense
    factor, or one for each row of a bucket.
    """

    places: tuple[Int[Array, "r l"], ...]  # of the entries, nnz where filled up
    columns: tuple[Int[Array, "r l"], ...]
    back: Int[Array, " r"]  # where each row stands, bucket after bucket

    @classmethod
    def of(cls, indices: np.ndarray, indptr: np.ndarray) -> PaddedRows:
        """The buckets of a pattern, made on the host."""
        lengths = np.diff(indptr)
        widths = 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(int)
        order = np.argsort(widths, kind="stable")
        places, columns = [], []
        for width in np.unique(widths):
            rows = np.flatnonzero(widths == width)
            step = np.arange(width)
            there = step < lengths[rows, None]
            place = np.where(there, indptr[rows, None] + step, len(indices))
            column = np.append(indices, 0)[place]
            places.append(jnp.asarray(place, np.int32))
            columns.append(jnp.asarray(column, np.int32))
        back = jnp.asarray(np.argsort(order), np.int32)
        return cls(places=tuple(places), columns=tuple(columns), back=back)

    def matmul(self, right: Float[Array, "c p"], data: Any) -> Float[Array, "r p"]:
        data = jnp.append(data, jnp.zeros((), data.dtype))

        def bucket(place: Any, column: Any) -> jax.Array:
            rows, width = place.shape
            # A power of two, as the width is.
            size = min(width, 1 << (max(1, PASS // rows).bit_length() - 1))

            def add(i: Any, total: Any) -> Any:
                now, there = (
                    jax.lax.dynamic_slice_in_dim(x, i * size, size, 1)
                    for x in (place, column)
                )
                part = jnp.einsum("rl,rlp->rp", _taken(data, now), _taken(right, there))
                return total + part

            zero = jnp.zeros((rows, right.shape[1]), right.dtype)
            return jax.lax.fori_loop(0, width // size, add, zero)

        parts = [bucket(*x) for x in zip(self.places, self.columns, strict=True)]
        return _taken(jnp.concatenate(parts), self.back)


@pytree
class CSR:
    """Compressed rows, with the row of each entry written out as well.

    ``order`` says where each entry stands in the other orientation; ``padded`` is the
    pattern once more, where there is no compiled product. Where there are many columns
    the entries stand in ``blocks`` of them, each with all rows, so that what a block
    reads of a dense factor stays in the cache.
    """

    data: Float[Array, " nnz"]
    indices: Int[Array, " nnz"]
    indptr: Int[Array, " r1"]  # blocks × r + 1
    rows: Int[Array, " nnz"]
    order: Int[Array, " nnz"]
    weights: Float[Array, " nnz"] | None = None
    padded: PaddedRows | None = None
    columns: int = static()
    blocks: int = static(1)

    def weigh(self, y: Float[Array, " nnz"]) -> Float[Array, " nnz"]:
        return y if self.weights is None else y * self.weights

    def matmul(self, right: Float[Array, "c p"], data: Any) -> Float[Array, "r p"]:
        """A @ right with A's pattern and the values ``data``."""
        if self.padded is not None:
            return self.padded.matmul(right, data)
        parts = _csr_matmul(data, self.indices, self.indptr, right, self.columns)
        return parts.reshape(self.blocks, -1, right.shape[1]).sum(0)


@pytree
class Sparse:
    """A sparse V whose absent entries are zeros, or with weights unknown.

    Holds V and Vᵀ by rows, so that either product is a product of a CSR matrix
    with a thin dense one. Costs O(nnz·p) a product and never holds m×n numbers.
    """

    csr: CSR
    csr_t: CSR
    floor: Float[Array, ""]

    @property
    def kind(self) -> str:
        return "sparse" if self.csr.weights is None else "observed"

    @property
    def shape(self) -> tuple[int, int]:
        return (self.csr_t.columns, self.csr.columns)

    @property
    def entries(self) -> int:
        """How many numbers a product reads."""
        return self.csr.data.shape[0]

    @property
    def dtype(self) -> Any:
        return self.csr.data.dtype

    @property
    def T(self) -> Sparse:
        return Sparse(csr=self.csr_t, csr_t=self.csr, floor=self.floor)

    def to_host(self) -> Any:
        """V as a SciPy array."""
        return self._on_host(self.csr.data)

    def host_weights(self) -> Any:
        """The weights as a SciPy array, None where zeros are data."""
        return None if self.csr.weights is None else self._on_host(self.csr.weights)

    def _on_host(self, data: Any) -> Any:
        from scipy.sparse import coo_array

        data, rows, columns = map(np.asarray, (data, self.csr.rows, self.csr.indices))
        return coo_array((data, (rows, columns)), shape=self.shape).tocsr()

    def dot(self, fixed: Float[Array, "p m"]) -> Float[Array, "p n"]:
        csr = self.csr_t
        return csr.matmul(fixed.T, csr.weigh(csr.data)).T

    def weigh(self, left: Float[Array, "q m"]) -> Float[Array, "q n"]:
        return self.csr_t.matmul(left.T, self.csr_t.weights).T

    def minus(self, fixed: Float[Array, "p m"], free: Float[Array, "p n"]) -> Sparse:
        """V − fixedᵀ free at the known entries, of data observed in part: what is
        absent as a zero would be no zero any more."""
        if self.kind == "sparse":
            raise TypeError("a sparse V less a product is not sparse")
        data = self.csr_t.data - self._product(fixed, free)
        turned = _taken(data, self.csr.order)
        return dataclasses.replace(
            self,
            csr=dataclasses.replace(self.csr, data=turned),
            csr_t=dataclasses.replace(self.csr_t, data=data),
        )

    def sum(self, fn: EntryFn, fixed: Float[Array, "p m"], *frees: Any) -> jax.Array:
        """Σ fn(v, x…) over the stored entries alone."""
        return _blocked_sum(self._at_stored(fn, fixed, *frees))

    def pull(self, fn: EntryFn, fixed: Any, free: Any) -> tuple[jax.Array, ...]:
        """fixed @ y where y = fn(v, x) at the stored entries and 0 elsewhere."""
        ys = self._at_stored(fn, fixed, free)
        return tuple(self.csr_t.matmul(fixed.T, y).T for y in ys)

    def pulls(
        self, fn: EntryFn, fixed: Any, free: Any
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        ys = self._at_stored(fn, fixed, free)
        # To put y in the other order is cheaper than to find x again.
        turned = [_taken(y, self.csr.order) for y in ys]
        return (
            tuple(self.csr_t.matmul(fixed.T, y).T for y in ys),
            tuple(self.csr.matmul(free.T, y).T for y in turned),
        )

    def _at_stored(self, fn: EntryFn, fixed: Any, *frees: Any) -> Any:
        """fn(v, x…) times the weights, in the order of Vᵀ's rows."""
        csr = self.csr_t

        def value(free: Any) -> jax.Array:
            return jnp.maximum(self._product(fixed, free), self.floor)

        return jax.tree.map(csr.weigh, fn(csr.data, *map(value, frees)))

    def _product(self, fixed: Any, free: Any) -> Float[Array, " nnz"]:
        """x at the stored entries, in the order of Vᵀ's rows."""
        m, n = self.shape
        dense = self.entries * fixed.shape[0] >= BLOCKS_FROM * m * n
        dense = dense and self.csr_t.blocks == 1  # X's rows are all together then
        return (self._from_blocks if dense else self._gathered)(fixed, free)

    def _gathered(self, fixed: Any, free: Any) -> Float[Array, " nnz"]:
        """x at the stored entries, component by component.

        Two gathers of nnz numbers at a time beat one of nnz × p on a CPU, and hold p
        times less. Four components to a pass over the indices are three times faster
        than one, and eight are no better (`experiments/benchmarks`).
        """
        csr = self.csr_t
        size = min(len(fixed), COMPONENTS)

        def blocks(X: Any) -> Any:
            # Cut beforehand, not by unrolling the loop, which is not fused as well.
            X = jnp.pad(X, ((0, -len(X) % size), (0, 0)))
            return X.reshape(-1, size, X.shape[1])

        left, right = blocks(fixed), blocks(free)

        def add(i: Any, x: Any) -> Any:
            for w, h in zip(left[i], right[i], strict=True):
                x = x + _taken(w, csr.indices) * _taken(h, csr.rows)
            return x

        return jax.lax.fori_loop(0, len(left), add, jnp.zeros_like(csr.data))

    def _from_blocks(self, fixed: Any, free: Any) -> Float[Array, " nnz"]:
        """x at the stored entries, taken from blocks of Xᵀ's rows.

        2mnp operations as one product of matrices, and one gather an entry where
        `_gathered` has 2p: sooner from a few per cent of entries on.
        """
        csr, (m, n) = self.csr_t, self.shape
        size = min(n, max(1, X_BLOCK // m))
        # A block's entries are worked off in parts, since every size must be fixed.
        part = max(1, self.entries * size // (4 * n))

        def block(i: Any, x: Any) -> Any:
            first = jnp.minimum(i * size, n - size)
            X = jax.lax.dynamic_slice_in_dim(free, first, size, 1).T @ fixed
            begin, end = csr.indptr[first], csr.indptr[first + size]

            def fill(j: Any, x: Any) -> Any:
                start = jnp.minimum(begin + j * part, self.entries - part)
                row, column, old = (
                    jax.lax.dynamic_slice_in_dim(whole, start, part)
                    for whole in (csr.rows, csr.indices, x)
                )
                row = row - first
                new = X.at[row, column].get(mode="clip")
                # A part may reach into the blocks beside this one.
                new = jnp.where((row >= 0) & (row < size), new, old)
                return jax.lax.dynamic_update_slice_in_dim(x, new, start, 0)

            return jax.lax.fori_loop(0, (end - begin + part - 1) // part, fill, x)

        zero = jnp.zeros_like(csr.data)
        return jax.lax.fori_loop(0, -(-n // size), block, zero)


def _taken(x: jax.Array, index: jax.Array) -> jax.Array:
    """x[index], the index known to be within x."""
    return x.at[index].get(mode="promise_in_bounds")


Matrix = Dense | Sparse


def component_pairs(p: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first, second, packed): the pairs k ≤ l of p components, and where in that list
    each entry of a symmetric (p, p) matrix stands."""
    first, second = np.triu_indices(p)
    packed = np.zeros((p, p), int)
    packed[first, second] = packed[second, first] = np.arange(len(first))
    return first, second, packed


@pytree
class ColumnGrams:
    """A Gram matrix for every column of data observed in part.

    G_j = Σᵢ w_ij f_i f_iᵀ over the known entries (i, j) of column j, f_i the fixed
    factor's column i. It stands wherever one (p, p) Gram matrix does: ``grams @ X`` is
    G_j x_j for every column, ``grams[k] @ X`` row k of that.

    Cost: a product of p(p+1)/2 columns, O(nnz p²), and np² numbers.
    """

    array: Float[Array, "p p n"]

    @classmethod
    def of(cls, fixed: Float[Array, "p m"], matrix: Matrix) -> ColumnGrams:
        first, second, packed = component_pairs(fixed.shape[0])
        return cls(array=matrix.weigh(fixed[first] * fixed[second])[packed])

    def __matmul__(self, X: Float[Array, "p n"]) -> Float[Array, "... n"]:
        return (self.array * X).sum(-2)

    def __getitem__(self, k: Any) -> ColumnGrams:
        return ColumnGrams(array=self.array[k])

    @property
    def diagonal(self) -> Float[Array, "p n"]:
        index = np.arange(self.array.shape[0])
        return self.array[index, index]


def _blocked_sum(x: jax.Array, size: int = 1024) -> jax.Array:
    """Σx in two levels, since one long float32 sum drifts."""
    padded = jnp.pad(x, (0, -x.shape[0] % size))
    return padded.reshape(-1, size).sum(1).sum()


def _csr_matmul(data: Any, indices: Any, indptr: Any, right: Any, columns: int) -> Any:
    """CSR times dense. Lanes that share the pattern are folded into one product.

    The compiled kernel takes no batch dimension: a batch of right-hand sides
    becomes more columns, and a batch of values is worked off in turn. On a CPU it is
    up to four times faster where the columns fill whole vectors: 20 columns take 4.7 ms
    of half a million entries, and 24 take 1.1.
    """
    # Imported here: it takes half as long as jax itself.
    from jax.experimental import sparse as jsparse

    shape = (indptr.shape[0] - 1, columns)

    @jax.custom_batching.custom_vmap
    def product(data, indices, indptr, right):
        # BCSR is compiled on a CPU, but on a GPU without a flag it is a scatter; CSR
        # is cuSPARSE there.
        cpu = jax.default_backend() == "cpu"
        form = jsparse.BCSR if cpu else jsparse.CSR
        matrix: Any = form((data, indices, indptr), shape=shape)
        width = right.shape[1]
        padding = -width % CPU_COLUMNS if cpu else 0
        if not padding:
            return matrix @ right
        return (matrix @ jnp.pad(right, ((0, 0), (0, padding))))[:, :width]

    @product.def_vmap
    def _(size, batched, data, indices, indptr, right):
        if not any(batched[:3]):
            wide = jnp.moveaxis(right, 0, 1).reshape(right.shape[1], -1)
            out = product(data, indices, indptr, wide)
            return jnp.moveaxis(out.reshape(shape[0], size, -1), 1, 0), True

        def one(i):
            args = zip((data, indices, indptr, right), batched, strict=True)
            return product(*(a[i] if b else a for a, b in args))

        return jax.lax.map(one, jnp.arange(size)), True

    return product(data, indices, indptr, right)
