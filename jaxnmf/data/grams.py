"""Gram matrices of a fixed factor: one for all columns, or one for each column of data
observed in part. Both have the same methods."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.data.operand import Operand
from jaxnmf.shapes import Array, Float
from jaxnmf.types import pytree


@pytree
class SharedGram:
    """The Gram matrix G = fixed fixedᵀ of all columns.

    ``gram @ X`` is G X and ``gram[k] @ X`` its row k.
    """

    shared: ClassVar[bool] = True
    array: Float[Array, "p p"]

    @classmethod
    def of(cls, fixed: Float[Array, "p m"]) -> SharedGram:
        return cls(array=fixed @ fixed.T)

    def __matmul__(self, X: Float[Array, "p ..."]) -> Float[Array, "p ..."]:
        return self.array @ X

    def __getitem__(self, k: Any) -> Any:
        return self.array[k]

    def sum(self, axis: int) -> Float[Array, " p"]:
        return self.array.sum(axis)

    @property
    def diagonal(self) -> Float[Array, "p 1"]:
        """The diagonal as a column."""
        return jnp.diagonal(self.array)[:, None]

    def plus_diagonal(self, x: Any) -> SharedGram:
        """G + diag(x), x a number or a column (p, 1)."""
        p = len(self.array)
        return SharedGram(array=self.array + x * jnp.eye(p, dtype=self.array.dtype))

    def scaled(self, scale: Float[Array, "p 1"]) -> SharedGram:
        """S G S for S = diag(scale)."""
        return SharedGram(array=self.array * scale * scale.T)

    def tile(self, first: Any, size: int) -> tuple[Any, Any]:
        """``size`` rows from ``first`` on, and of these the columns of the same
        components."""
        return _tile(self.array, first, size)

    def of_columns(self, columns: Any) -> Float[Array, "p p"]:
        """The matrix of some columns."""
        return self.array


@pytree
class ColumnGrams:
    """A Gram matrix for every column of data observed in part.

    G_j = Σᵢ w_ij f_i f_iᵀ over the known entries (i, j) of column j, f_i the fixed
    factor's column i. ``grams @ X`` is G_j x_j for every column and ``grams[k] @ X``
    row k of that.

    Cost: a product of p(p+1)/2 columns, O(nnz p²), and np² numbers.
    """

    shared: ClassVar[bool] = False
    array: Float[Array, "p p n"]

    @classmethod
    def of(cls, fixed: Float[Array, "p m"], operand: Operand) -> ColumnGrams:
        first, second, packed = component_pairs(fixed.shape[0])
        return cls(array=operand.dot_weights(fixed[first] * fixed[second])[packed])

    def __matmul__(self, X: Float[Array, "p n"]) -> Float[Array, "... n"]:
        return (self.array * X).sum(-2)

    def __getitem__(self, k: Any) -> ColumnGrams:
        return ColumnGrams(array=self.array[k])

    def sum(self, axis: int) -> Float[Array, "p n"]:
        return self.array.sum(axis)

    @property
    def diagonal(self) -> Float[Array, "p n"]:
        """The diagonal of each as a column."""
        index = np.arange(self.array.shape[0])
        return self.array[index, index]

    def plus_diagonal(self, x: Any) -> ColumnGrams:
        """G_j + diag(x), x a number, a column (p, 1) or one for each (p, n)."""
        p = len(self.array)
        x = jnp.broadcast_to(x, (p, jnp.shape(x)[-1] if jnp.ndim(x) else 1))
        identity = jnp.eye(p, dtype=self.array.dtype)
        return ColumnGrams(array=self.array + identity[:, :, None] * x[:, None])

    def scaled(self, scale: Float[Array, "p n"]) -> ColumnGrams:
        """S G_j S for S = diag(scale_j)."""
        return ColumnGrams(array=self.array * scale[:, None] * scale)

    def tile(self, first: Any, size: int) -> tuple[Any, Any]:
        """``size`` rows from ``first`` on, and of these the columns of the same
        components."""
        rows, own = _tile(self.array, first, size)
        return ColumnGrams(array=rows), own

    def of_columns(self, columns: Any) -> Float[Array, "t p p"]:
        """The matrices of some columns, one after the other."""
        return jnp.moveaxis(self.array[..., columns], -1, 0)


Gram = SharedGram | ColumnGrams


def _tile(array: Any, first: Any, size: int) -> tuple[Any, Any]:
    rows = jax.lax.dynamic_slice_in_dim(array, first, size)
    return rows, jax.lax.dynamic_slice_in_dim(rows, first, size, 1)


def component_pairs(p: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first, second, packed): the pairs k ≤ l of p components, and the place in that
    list of each entry of a symmetric (p, p) matrix."""
    first, second = np.triu_indices(p)
    packed = np.zeros((p, p), int)
    packed[first, second] = packed[second, first] = np.arange(len(first))
    return first, second, packed
