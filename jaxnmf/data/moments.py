"""Moments of what is known of V, computed once on the host."""

from __future__ import annotations

import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.data.dense import Dense
from jaxnmf.data.operand import Operand

_totals: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()


def total(operand: Operand) -> float:
    """Σ|V|; of data observed in part, mn times the mean of what is known. Summed once:
    many runs begin from one matrix."""
    if operand not in _totals:
        _totals[operand] = _summed(operand)
    return _totals[operand]


def _summed(operand: Operand) -> float:
    if isinstance(operand, Dense):
        # The same order of summation, and the same bits, however V is stored.
        turned = jax.tree.map(jnp.transpose, operand) if operand.transposed else operand
        data, weights = turned.array, turned.weights
    else:
        data, weights = operand.csr.data, operand.csr.weights
    if weights is None:
        return _sum(abs(data))
    m, n = operand.shape
    return m * n * _sum(abs(data) * weights) / _sum(weights)


def _sum(x: Any) -> float:
    return float(np.asarray(x.sum(-1)).sum(dtype=np.float64))
