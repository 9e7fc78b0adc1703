"""V from blocks onto the devices of a mesh: each process reads only its own rows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxnmf.data.blocks import Blocks
from jaxnmf.data.containers import is_sparse
from jaxnmf.data.placement import Placement
from jaxnmf.data.spread import least
from jaxnmf.data.survey import ReadError


def read_onto(V: Blocks, placement: Placement, dtype: Any) -> jax.Array:
    """A dense V as an array over the mesh, each block read once by every process that
    has devices for some of its rows.

    Args:
      V: whose shape divides over the mesh.
      placement: of V.
      dtype: of the array.

    Raises:
      ValueError: V is sparse, or a block cannot be read or does not fit.
    """
    sharding = placement.sharding(placement.rows, placement.columns)
    places = sharding.addressable_devices_indices_map(V.shape)
    parts: dict[Any, np.ndarray] = {}
    for index in places.values():
        rows, columns = _bounds(index, V.shape)
        shape = rows[1] - rows[0], columns[1] - columns[0]
        parts.setdefault((rows, columns), np.empty(shape, dtype))
    wrong: ReadError | None = None
    try:
        _fill(V, parts)
    except ReadError as error:
        wrong = error
    if least(0 if wrong else 1, placement.several_processes) == 0:
        raise wrong or ReadError("V: another process cannot read its part")
    arrays = [
        jax.device_put(parts[_bounds(index, V.shape)], device)
        for device, index in places.items()
    ]
    return jax.make_array_from_single_device_arrays(V.shape, sharding, arrays)


def _fill(V: Blocks, parts: Mapping[Any, np.ndarray]) -> None:
    """Read the parts of V, by their bounds."""
    starts = V.starts
    for i, (first, end) in enumerate(itertools.pairwise(starts)):
        own = [
            (max(a, first), min(b, end), a, c, d, part)
            for ((a, b), (c, d)), part in parts.items()
            if a < end and first < b
        ]
        block = V.block(i) if own else None
        if is_sparse(block):
            raise ReadError(
                "mesh: V is sparse Blocks, which are not divided over devices; leave "
                "mesh out, or pass jaxnmf.read of the file"
            )
        for start, stop, a, c, d, part in own:
            part[start - a : stop - a] = block[start - first : stop - first, c:d]  # pyright: ignore


def _bounds(index: Any, shape: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """(first, end) of the rows and of the columns of an index."""
    ranges = (one.indices(size) for one, size in zip(index, shape, strict=True))
    return tuple((start, stop) for start, stop, _ in ranges)
