"""V as an operand: what a solver may ask of the data, dense or sparse.

Both operands answer the same questions about X = fixedᵀ free:

  dot(fixed)               fixed @ V                                   (p, n)
  sum(fn, fixed, free…)    Σ fn(v, x)
  pull(fn, fixed, free)    fixed @ fn(v, x), for each output of fn     (p, n)
  pulls(fn, fixed, free)   the same for both factors from one pass over X

``.T`` is the transposed operand, without a copy of dense data. X itself is never
held whole: a dense pass works on blocks of rows, a sparse one on the stored entries.
Values of x are kept above ``floor``, a ten-billionth of the mean of V, so that a
quotient v/x stays finite.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxnmf.types import pytree, static

EntryFn = Callable[..., Any]

# Entries in a block of X. On a CPU a block and its quotient stay in the cache.
CPU_BLOCK = 2**21
ACCELERATOR_BLOCK = 2**24


@pytree
class Dense:
    """A dense V. ``array`` is as stored; ``transposed`` says that Vᵀ is meant."""

    kind: ClassVar[str] = "dense"
    array: Float[Array, "r c"]
    floor: Float[Array, ""]
    transposed: bool = static(False)
    block: int = static(0)

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
        return Dense(
            array=self.array,
            floor=self.floor,
            transposed=not self.transposed,
            block=self.block,
        )

    def rows(self, index: Int[Array, " b"]) -> Dense:
        """The rows of V at ``index``, (b, n); all ``floor`` where it is no row's."""
        axis = 1 if self.transposed else 0
        there = index < self.array.shape[axis]
        taken = jnp.take(self.array, index, axis, mode="clip")
        array = jnp.where(jnp.expand_dims(there, 1 - axis), taken, self.floor)
        block = min(self.block, array.shape[0])
        return dataclasses.replace(self, array=array, block=block)

    def to_host(self) -> np.ndarray:
        """V as NumPy sees it, without a copy where the memory is shared."""
        array = np.asarray(self.array)
        return array.T if self.transposed else array

    def dot(self, fixed: Float[Array, "p m"]) -> Float[Array, "p n"]:
        return fixed @ (self.array.T if self.transposed else self.array)

    def sum(self, fn: EntryFn, fixed: Float[Array, "p m"], *frees: Any) -> jax.Array:
        """Σ fn(v, x…), with an x for each of ``frees``."""

        def visit(total, _, v, xs, __, fresh):
            # Along rows first, then rows, then blocks: one long float32 sum drifts.
            return total + jnp.where(fresh, fn(v, *xs), 0).sum(1).sum()

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

        def visit(carry, start, v, xs, left, fresh):
            ys = fn(v, *xs)
            return tuple(
                total + left @ jnp.where(fresh, y, 0)
                for total, y in zip(carry[0], ys[:by_left], strict=True)
            ), tuple(
                jax.lax.dynamic_update_slice_in_dim(total, right @ y.T, start, 1)
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
        """Fold ``visit(carry, start, v, xs, left, fresh)`` over blocks of rows."""
        rows = self.array.shape[0]
        size = self.block

        def products(lefts):
            rights = [right for _, right in pairs]
            return [
                jnp.maximum(left.T @ right, self.floor)
                for left, right in zip(lefts, rights, strict=True)
            ]

        lefts = [left for left, _ in pairs]
        if size >= rows:
            return visit(carry, 0, self.array, products(lefts), lefts[0], True)

        def body(i, carry):
            start = jnp.minimum(i * size, rows - size)
            # The last block reaches back into the one before: count a row once.
            fresh = (start + jnp.arange(size) >= i * size)[:, None]
            v = jax.lax.dynamic_slice_in_dim(self.array, start, size)
            blocks = [
                jax.lax.dynamic_slice_in_dim(left, start, size, axis=1)
                for left in lefts
            ]
            return visit(carry, start, v, products(blocks), blocks[0], fresh)

        return jax.lax.fori_loop(0, -(-rows // size), body, carry)


@pytree
class CSR:
    """Compressed rows, with the row of each entry written out as well."""

    data: Float[Array, " nnz"]
    indices: Int[Array, " nnz"]
    indptr: Int[Array, " r1"]
    rows: Int[Array, " nnz"]
    columns: int = static()

    def matmul(self, right: Float[Array, "c p"], data: Any) -> Float[Array, "r p"]:
        """A @ right with A's pattern and the values ``data``."""
        return _csr_matmul(data, self.indices, self.indptr, right, self.columns)


@pytree
class Sparse:
    """A sparse V whose absent entries are zeros (data, not unknowns).

    Holds V and Vᵀ by rows, so that either product is a product of a CSR matrix
    with a thin dense one. Costs O(nnz·p) a product and never holds m×n numbers.
    """

    kind: ClassVar[str] = "sparse"
    csr: CSR
    csr_t: CSR
    floor: Float[Array, ""]

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
        from scipy.sparse import csr_array

        csr = self.csr
        parts = (csr.data, csr.indices, csr.indptr)
        return csr_array(tuple(np.asarray(x) for x in parts), shape=self.shape)

    def dot(self, fixed: Float[Array, "p m"]) -> Float[Array, "p n"]:
        return self.csr_t.matmul(fixed.T, self.csr_t.data).T

    def sum(self, fn: EntryFn, fixed: Float[Array, "p m"], *frees: Any) -> jax.Array:
        """Σ fn(v, x…) over the stored entries alone."""
        xs = [self._at_stored(fixed, free) for free in frees]
        return _blocked_sum(fn(self.csr_t.data, *xs))

    def pull(self, fn: EntryFn, fixed: Any, free: Any) -> tuple[jax.Array, ...]:
        """fixed @ y where y = fn(v, x) at the stored entries and 0 elsewhere."""
        ys = fn(self.csr_t.data, self._at_stored(fixed, free))
        return tuple(self.csr_t.matmul(fixed.T, y).T for y in ys)

    def pulls(
        self, fn: EntryFn, fixed: Any, free: Any
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        return self.pull(fn, fixed, free), self.T.pull(fn, free, fixed)

    def _at_stored(self, fixed: Any, free: Any) -> jax.Array:
        """x at the entries of Vᵀ's rows, component by component.

        Two gathers of nnz numbers at a time beat one of nnz × p on a CPU, and hold
        p times less.
        """

        def add(k, x):
            return x + fixed[k][self.csr_t.indices] * free[k][self.csr_t.rows]

        x = jax.lax.fori_loop(0, fixed.shape[0], add, jnp.zeros_like(self.csr_t.data))
        return jnp.maximum(x, self.floor)


Matrix = Dense | Sparse


def _blocked_sum(x: jax.Array, size: int = 1024) -> jax.Array:
    """Σx in two levels, since one long float32 sum drifts."""
    padded = jnp.pad(x, (0, -x.shape[0] % size))
    return padded.reshape(-1, size).sum(1).sum()


def _csr_matmul(data: Any, indices: Any, indptr: Any, right: Any, columns: int) -> Any:
    """CSR times dense. Lanes that share the pattern are folded into one product.

    The compiled kernel takes no batch dimension: a batch of right-hand sides
    becomes more columns, and a batch of values is worked off in turn.
    """
    # Imported here: it takes half as long as jax itself.
    from jax.experimental import sparse as jsparse

    shape = (indptr.shape[0] - 1, columns)

    @jax.custom_batching.custom_vmap
    def product(data, indices, indptr, right):
        matrix = jsparse.BCSR((data, indices, indptr), shape=shape)
        return matrix @ right

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


# --- From what a user has to an operand -------------------------------------------


def as_matrix(V: Any, dtype: Any = np.float32, *, signed: bool = False) -> Matrix:
    """Check V on the host and make an operand of it.

    Args:
      V: (m, n), non-negative and finite: a NumPy or JAX array (sharded or not),
        anything `numpy.asarray` takes, or a SciPy sparse matrix or array.
      dtype: the precision to work in, float32 or float64.
      signed: allow negative entries, of V and of W H: no floor under the latter.

    Raises:
      ValueError: for anything else, naming what was found and what would fit.
    """
    if hasattr(V, "tocsr") and hasattr(V, "nnz"):
        matrix = _as_sparse(V, dtype, signed)
    else:
        matrix = _as_dense(V, dtype, signed)
    if signed:
        return dataclasses.replace(matrix, floor=jnp.full_like(matrix.floor, -jnp.inf))
    return matrix


def _as_dense(V: Any, dtype: Any, signed: bool) -> Dense:
    # A JAX array stays on its devices; anything else is looked at by NumPy.
    try:
        array = V if isinstance(V, jax.Array) else np.asarray(V)
    except ValueError:
        raise ValueError(
            f"V is a {type(V).__name__} that makes no array (rows of different "
            "lengths?); it must be a matrix of shape (m, n)"
        ) from None
    _check_form(array.shape, array.dtype)
    # min and max carry a NaN through, so no m×n temporary is needed to find one.
    _check_values(float(array.min()), float(array.max()), array.shape, signed)
    mean = float(array.mean(dtype=None if isinstance(V, jax.Array) else np.float64))
    array = _placed(jnp.asarray(array, dtype))
    m, n = array.shape
    limit = CPU_BLOCK if jax.default_backend() == "cpu" else ACCELERATOR_BLOCK
    # Slices along a sharded axis would move data: there a block is all rows.
    block = m if len(array.devices()) > 1 else max(1, min(m, limit // n))
    floor = _floor(mean, dtype)
    return Dense(array=array, floor=floor, transposed=False, block=block)


def _as_sparse(V: Any, dtype: Any, signed: bool) -> Sparse:
    _check_form(V.shape, V.dtype)
    csr = V.tocsr()
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    low, high = (csr.data.min(), csr.data.max()) if csr.nnz else (0.0, 0.0)
    _check_values(float(low), float(high), V.shape, signed)
    mean = float(csr.sum(dtype=np.float64)) / (V.shape[0] * V.shape[1])
    floor = _floor(mean, dtype)
    return Sparse(csr=_csr(csr, dtype), csr_t=_csr(csr.T.tocsr(), dtype), floor=floor)


def _floor(mean: float, dtype: Any) -> jax.Array:
    """What values of WH are kept above; not 0 where V is, or 0/0 would follow."""
    return jnp.asarray(max(1e-10 * mean, float(jnp.finfo(dtype).tiny)), dtype)


def _csr(matrix: Any, dtype: Any) -> CSR:
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr))
    return CSR(
        data=jnp.asarray(matrix.data, dtype),
        indices=jnp.asarray(matrix.indices, np.int32),
        indptr=jnp.asarray(matrix.indptr, np.int32),
        rows=jnp.asarray(rows),
        columns=matrix.shape[1],
    )


def _placed(array: jax.Array) -> jax.Array:
    """The array with its placement left to the compiler inside a program.

    ``jax.make_mesh`` gives Explicit axes, under which a plain product of a factor
    and a sharded V is refused.
    """
    sharding = array.sharding
    if isinstance(sharding, jax.sharding.NamedSharding):
        auto = (jax.sharding.AxisType.Auto,) * len(sharding.mesh.axis_names)
        if sharding.mesh.axis_types != auto:
            mesh = jax.sharding.Mesh(
                sharding.mesh.devices,  # pyright: ignore
                sharding.mesh.axis_names,
                axis_types=auto,
            )
            named = jax.sharding.NamedSharding(mesh, sharding.spec)
            return jax.device_put(array, named)
    return array


def _check_form(shape: tuple[int, ...], dtype: Any) -> None:
    if np.dtype(dtype).kind not in "fiub":
        raise ValueError(
            f"V has dtype {dtype}; it must hold real numbers (float, integer or bool)"
        )
    if len(shape) != 2:
        raise ValueError(
            f"V has {len(shape)} dimension(s), shape {tuple(shape)}; it must be a "
            "matrix of shape (m, n)"
        )
    if 0 in shape:
        raise ValueError(f"V is empty, shape {tuple(shape)}; it needs m ≥ 1 and n ≥ 1")


def _check_values(
    low: float, high: float, shape: tuple[int, ...], signed: bool
) -> None:
    what = f"V of shape {tuple(shape)}"
    if np.isnan(low) or np.isnan(high):
        raise ValueError(f"{what} holds NaN; every entry must be a number ≥ 0")
    if np.isinf(low) or np.isinf(high):
        raise ValueError(f"{what} holds an infinite entry; every entry must be finite")
    if low < 0 and not signed:
        raise ValueError(
            f"{what} holds negative entries, the smallest is {low:g}; every entry "
            "must be ≥ 0"
        )
