"""Sums of U² over blocks of V, U = V − X; sparse V is never made dense."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxnmf.data.known import is_sparse
from jaxnmf.data.observed import Observed
from jaxnmf.plots.samples import ENTRIES
from jaxnmf.shapes import Float, Int


def squares(
    V: Any,
    W: Float[np.ndarray, "m p"],
    H: Float[np.ndarray, "p n"],
    rows: Int[np.ndarray, " m"],
    columns: Int[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, "a b"], Float[np.ndarray, "a b"]]:
    """Sums of U² over the known entries of each block, and how many there are.

    Of sparse V, ``Σ u² = Σ (v² − 2 v x) + Σ x²`` with the first sum over the stored
    entries and the second ``Σ_j h_jᵀ (Σ_i w_i w_iᵀ) h_j``.

    Args:
      V: (m, n), dense (NaN where it is unknown), SciPy sparse or `jaxnmf.Observed`.
      W, H: the factors.
      rows, columns: the number of the block that each row and each column is in.
    """
    if rows.max() > columns.max():
        turned = (
            Observed(V.cols, V.rows, V.values, V.shape[::-1])
            if isinstance(V, Observed)
            else V.T
        )
        sums, counts = squares(turned, H.T, W.T, columns, rows)
        return sums.T, counts.T
    W, H = np.asarray(W, float), np.asarray(H, float)
    shape = int(rows.max()) + 1, int(columns.max()) + 1
    if isinstance(V, Observed):
        return _of_observed(V, W, H, rows, columns, shape)
    if is_sparse(V):
        counts = np.outer(np.bincount(rows), np.bincount(columns)).astype(float)
        return _of_sparse(V.tocoo(), W, H, rows, columns, shape), counts
    return _of_dense(V, W, H, rows, columns, shape)


def _of_dense(
    V: Any, W: Any, H: Any, rows: Any, columns: Any, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    sums, unknown = np.zeros(shape), np.zeros(shape)
    step = max(1, ENTRIES // V.shape[1])
    order = np.argsort(rows, kind="stable")
    for start in range(0, len(order), step):
        here = order[start : start + step]
        U = V[here] - W[here] @ H
        missing = np.isnan(U)
        starts = np.unique(rows[here], return_index=True)[1]
        for total, part in ((sums, np.square(U)), (unknown, missing.astype(float))):
            if total is unknown and not missing.any():
                continue
            part = np.where(missing, 0.0, part) if total is sums else part
            of_block = np.add.reduceat(part, starts, axis=0)
            for row, values in zip(rows[here][starts], of_block, strict=True):
                total[row] += np.bincount(columns, values, minlength=shape[1])
    return sums, np.outer(np.bincount(rows), np.bincount(columns)) - unknown


def _of_sparse(
    V: Any, W: Any, H: Any, rows: Any, columns: Any, shape: tuple[int, int]
) -> np.ndarray:
    i, j, v = V.row, V.col, V.data.astype(float)
    x = _entries(W, H, i, j)
    at = rows[i] * shape[1] + columns[j]
    size = shape[0] * shape[1]
    sums = np.bincount(at, v * (v - 2 * x), minlength=size).reshape(shape)
    for row in range(shape[0]):
        of_block = W[rows == row]
        gram = of_block.T @ of_block
        products = np.einsum("kj,kj->j", gram @ H, H)
        sums[row] += np.bincount(columns, products, minlength=shape[1])
    return np.maximum(sums, 0.0)


def _of_observed(
    V: Observed, W: Any, H: Any, rows: Any, columns: Any, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    x = _entries(W, H, V.rows, V.cols)
    at, size = rows[V.rows] * shape[1] + columns[V.cols], shape[0] * shape[1]
    counts = np.bincount(at, minlength=size).reshape(shape).astype(float)
    sums = np.bincount(at, np.square(V.values - x), minlength=size)
    return sums.reshape(shape), counts


def _entries(W: Any, H: Any, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """(W H)_ij at the entries."""
    x, step, Ht = np.empty(len(i)), max(1, ENTRIES // len(H)), np.ascontiguousarray(H.T)
    for start in range(0, len(i), step):
        e = slice(start, start + step)
        x[e] = np.einsum("ek,ek->e", W[i[e]], Ht[j[e]])
    return x
