"""Gram matrices: one for all columns, or one for each column of data observed in
part."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Array, Float

from jaxnmf.data.operand import Operand
from jaxnmf.types import pytree


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
    def of(cls, fixed: Float[Array, "p m"], operand: Operand) -> ColumnGrams:
        first, second, packed = component_pairs(fixed.shape[0])
        return cls(array=operand.dot_weights(fixed[first] * fixed[second])[packed])

    def __matmul__(self, X: Float[Array, "p n"]) -> Float[Array, "... n"]:
        return (self.array * X).sum(-2)

    def __getitem__(self, k: Any) -> ColumnGrams:
        return ColumnGrams(array=self.array[k])

    @property
    def diagonal(self) -> Float[Array, "p n"]:
        index = np.arange(self.array.shape[0])
        return self.array[index, index]


Gram = Float[Array, "p p"] | ColumnGrams
"""What a half-step asks of the fixed factor: its Gram matrix, or one a column."""
