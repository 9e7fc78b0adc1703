"""Conversion of a user's V, and what is known of it, into an operand."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.data.arrays import as_leaf
from jaxnmf.data.beside import Beside
from jaxnmf.data.blocks import Blocks
from jaxnmf.data.csr import both_ways
from jaxnmf.data.dense import Dense, rows_together
from jaxnmf.data.known import SideBySide, is_sparse, stored_dense, what_is_known
from jaxnmf.data.moments import Moments, weighted_mean
from jaxnmf.data.observed import Observed
from jaxnmf.data.operand import Operand
from jaxnmf.data.parts import Parts
from jaxnmf.data.placed import Placed
from jaxnmf.data.placement import Placement, put
from jaxnmf.data.sparse import Sparse
from jaxnmf.data.streamed import Streamed


def as_operand(
    V: Any,
    dtype: Any = np.float32,
    *,
    mask: Any = None,
    signed: bool = False,
    unit: float = 1.0,
) -> Any:
    """Check V on the host and make an operand of it.

    Args:
      V: (m, n), non-negative and finite: a NumPy or JAX array (sharded or not),
        anything `numpy.asarray` takes, a SciPy sparse matrix or array, `Blocks`,
        `Observed`, or what is `Known`.
      dtype: the precision to work in, float32 or float64.
      mask: what is known of V: (m, n), true or a weight > 0 for a known entry, an array
        or SciPy sparse; or "nan", everything that is not NaN. The value of V at
        an unknown entry is ignored.
      signed: allow negative entries, of V and of W H: no floor under the latter.
      unit: a power of two that V is divided by, before it is rounded to the dtype.

    Raises:
      ValueError: for anything else.
    """
    V, weights = what_is_known(V, mask)
    if isinstance(V, SideBySide):
        return _beside(V, dtype, signed, unit)
    if isinstance(V, Blocks):
        operand = _as_streamed(V, dtype, signed, unit)
    elif isinstance(V, Parts):
        operand = _of_parts(V, dtype, signed, unit)
    elif isinstance(V, Observed):
        operand = _as_observed(V, dtype, signed, unit)
    elif weights is not None:
        operand = _masked_dense(V, weights, dtype, signed, unit)
    elif is_sparse(V):
        operand = _as_sparse(V, dtype, signed, unit)
    else:
        operand = _as_dense(V, dtype, signed, unit)
    if signed:
        floor = jnp.full_like(operand.floor, -jnp.inf)
        return dataclasses.replace(operand, floor=floor)  # pyright: ignore
    return operand


def _beside(V: SideBySide, dtype: Any, signed: bool, unit: float) -> Beside:
    parts = []
    for k, one in enumerate(V.each):
        try:
            parts.append(as_operand(one, dtype, signed=signed, unit=unit))
        except ValueError as error:
            raise ValueError(f"views[{k}]: {error}") from None
    return Beside.of(parts)


def in_units(array: Any, unit: float) -> Any:
    """The array over a power of two: on the host in float64, so that nothing is lost
    before it is rounded; a JAX array where it is."""
    if unit == 1:
        return array
    if isinstance(array, jax.Array):
        if array.dtype not in (jnp.float32, jnp.float64):
            array = array.astype(jnp.float32)
        return array / unit
    return np.divide(array, unit, dtype=np.float64)


def _as_dense(array: Any, dtype: Any, signed: bool, unit: float) -> Dense:
    low, high = _range(array)
    check_values(low, high, array.shape, signed)
    array, low = in_units(array, unit), low / unit
    mean = float(array.mean(dtype=None if isinstance(array, jax.Array) else np.float64))
    return _dense(array, mean, low, dtype)


def _dense(
    array: Any, mean: float, low: float, dtype: Any, weights: Any = None
) -> Dense:
    array, placement = jnp.asarray(array, dtype), None
    if len(array.devices()) > 1:
        placement = Placement.of_array(array)
        array = put(array, placement.sharding(placement.rows, placement.columns))
    if weights is not None:
        weights = jax.device_put(jnp.asarray(weights, dtype), array.sharding)
    m, n = array.shape
    dense = Dense(
        array=array,
        floor=_floor(mean, dtype),
        moments=Moments.of(array, weights, mean=mean, smallest=low, shape=(m, n)),
        weights=weights,
        transposed=False,
        block=rows_together(m, n),
    )
    return dense if placement is None else dense.placed(placement)


def _as_sparse(csr: Any, dtype: Any, signed: bool, unit: float) -> Sparse:
    low, high = map(float, (csr.data.min(), csr.data.max()) if csr.nnz else (0, 0))
    check_values(low, high, csr.shape, signed)
    if unit != 1:
        parts = in_units(csr.data, unit), csr.indices, csr.indptr
        csr, low = type(csr)(parts, shape=csr.shape), low / unit
    mean = float(csr.sum(dtype=np.float64)) / (csr.shape[0] * csr.shape[1])
    return _sparse(csr, mean, low, dtype)


def _sparse(
    csr: Any, mean: float, low: float, dtype: Any, weights: Any = None
) -> Sparse:
    m, numbers = csr.shape[0], {"mean": mean, "smallest": low, "shape": csr.shape}
    columns = csr.indices.astype(np.int32, copy=False)
    rows = np.repeat(np.arange(m, dtype=np.int32), np.diff(csr.indptr))
    by_rows, by_columns = both_ways(rows, columns, csr.data, weights, csr.shape, dtype)
    return Sparse(
        csr=by_rows,
        csr_t=by_columns,
        floor=_floor(mean, dtype),
        moments=Moments.of(by_rows.data, by_rows.weights, **numbers),
    )


def _as_streamed(blocks: Blocks, dtype: Any, signed: bool, unit: float) -> Streamed:
    found = blocks.survey()
    check_values(found.low, found.high, blocks.shape, signed)
    blocks = blocks.over(unit)
    mean = blocks.survey().total / (blocks.shape[0] * blocks.shape[1])
    return Streamed.of(blocks, _floor(mean, dtype), dtype)


def _of_parts(parts: Parts, dtype: Any, signed: bool, unit: float) -> Placed:
    found, (m, n) = parts.survey, parts.shape
    check_values(found.low, found.high, parts.shape, signed)
    floor = _floor(found.total / unit / (m * n), dtype)
    return Placed.of(parts, floor, dtype, unit)


def _as_observed(V: Observed, dtype: Any, signed: bool, unit: float) -> Operand:
    from scipy.sparse import csr_array

    low = float(V.values.min())
    check_values(low, float(V.values.max()), V.shape, signed)
    values, low = in_units(V.values, unit).astype(dtype), low / unit
    weights = V.weights.astype(dtype)
    if stored_dense(V.nnz, V.shape):
        array, everywhere = np.zeros((2, *V.shape), dtype)
        array[V.rows, V.cols], everywhere[V.rows, V.cols] = values, weights
        return _dense_observed(array, everywhere, low, dtype)
    # Rows are sorted, so the entries are already in the order of a CSR matrix.
    indptr = np.searchsorted(V.rows, np.arange(V.shape[0] + 1))
    csr = csr_array((values, V.cols, indptr), shape=V.shape)
    return _sparse(csr, weighted_mean(values, weights), low, dtype, weights)


def _masked_dense(
    V: Any, mask: np.ndarray, dtype: Any, signed: bool, unit: float
) -> Dense:
    known = mask > 0
    xp: Any = jnp if isinstance(V, jax.Array) else np
    low = _range(xp.where(known, V, np.inf))[0]
    high = _range(xp.where(known, V, -np.inf))[1]
    check_values(low, high, V.shape, signed)
    V = in_units(xp.where(known, V, 0), unit)
    return _dense_observed(V, mask, low / unit, dtype)


def _dense_observed(V: Any, weights: np.ndarray, low: float, dtype: Any) -> Dense:
    """V, 0 where nothing is known, of weight 0 there."""
    weights = weights.astype(dtype)
    xp: Any = jnp if isinstance(V, jax.Array) else np
    V = xp.asarray(V, dtype)
    mean = weighted_mean(V, weights)
    # An unknown entry becomes a number at which no loss is infinite.
    return _dense(xp.where(weights > 0, V, mean), mean, low, dtype, weights)


def _range(array: Any) -> tuple[float, float]:
    """The smallest and the largest entry, NaN where there is one."""
    # On one device min and max carry a NaN through, and no m×n temporary is needed to
    # find one; over several devices they lose it.
    several = isinstance(array, jax.Array) and len(array.devices()) > 1
    if several and bool(jnp.isnan(array).any()):
        return np.nan, np.nan
    return float(array.min()), float(array.max())


def _floor(mean: float, dtype: Any) -> jax.Array:
    """What values of WH are kept above; not 0 where V is, or 0/0 would follow."""
    return as_leaf(max(1e-10 * mean, float(jnp.finfo(dtype).tiny)), dtype)


def check_values(low: float, high: float, shape: tuple[int, ...], signed: bool) -> None:
    """Raise a ValueError unless the smallest and largest entry of V are numbers, and
    ≥ 0 where they are not ``signed``."""
    what = f"V of shape {tuple(shape)}"
    if np.isnan(low) or np.isnan(high):
        raise ValueError(
            f"{what} holds NaN; every entry must be a number ≥ 0 (with mask='nan' the "
            "NaN of a dense V are unknown entries)"
        )
    if np.isinf(low) or np.isinf(high):
        raise ValueError(f"{what} holds an infinite entry; every entry must be finite")
    if low < 0 and not signed:
        raise ValueError(
            f"{what} holds negative entries, the smallest is {low:g}; every entry "
            "must be ≥ 0"
        )
