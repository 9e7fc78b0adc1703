"""V from blocks onto the devices of a mesh: each process reads only its own rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxnmf.data.blocks import Blocks
from jaxnmf.data.containers import is_sparse
from jaxnmf.data.parts import Parts
from jaxnmf.data.placement import Placement
from jaxnmf.data.spread import least
from jaxnmf.data.survey import ReadError

Bounds = tuple[tuple[int, int], ...]
"""(first, end) of some rows and of some columns."""


def read_onto(V: Blocks, placement: Placement, dtype: Any) -> jax.Array | Parts:
    """V over a mesh, each block read once by every process that has devices for some of
    its rows: a dense V as an array, a sparse one as `Parts`.

    Args:
      V: whose shape divides over the mesh.
      placement: of V.
      dtype: of the array.

    Raises:
      ReadError: a block cannot be read or does not fit.
    """
    sharding = placement.sharding(placement.rows, placement.columns)
    places = sharding.addressable_devices_indices_map(V.shape)
    bounds = {device: _bounds(index, V.shape) for device, index in places.items()}
    wrong: ReadError | None = None
    found: Any = None
    try:
        found = _read(V, list(dict.fromkeys(bounds.values())), dtype)
    except ReadError as error:
        wrong = error
    if least(0 if wrong else 1, placement.several_processes) == 0:
        raise wrong or ReadError("V: another process cannot read its part")
    if is_sparse(next(iter(found.values()))):
        (m, n), (a, b) = V.shape, placement.grid
        blocks = {
            (rows[0] // (m // a), columns[0] // (n // b)): part
            for (rows, columns), part in found.items()
        }
        return Parts.of(V.shape, blocks, placement)
    arrays = [jax.device_put(found[own], device) for device, own in bounds.items()]
    return jax.make_array_from_single_device_arrays(V.shape, sharding, arrays)


def _read(V: Blocks, wanted: list[Bounds], dtype: Any) -> dict[Bounds, Any]:
    """The parts of V within some bounds, arrays or CSR arrays."""
    from scipy.sparse import vstack

    parts: dict[Bounds, Any] = {}
    for i, first, end in _needed(V, wanted):
        block = V.block(i)
        if is_sparse(block) != is_sparse(next(iter(parts.values()), [block])[0]):
            raise ReadError(f"V: block {i} is not sparse as the others, or alone is")
        for own in wanted:
            (a, b), (c, d) = own
            start, stop = max(a, first), min(b, end)
            if start >= stop:
                continue
            piece = block[start - first : stop - first, c:d]
            if is_sparse(block):
                parts.setdefault(own, []).append(piece)
            else:
                part = parts.setdefault(own, np.empty((b - a, d - c), dtype))
                part[start - a : stop - a] = piece
    return {
        own: vstack(part, format="csr") if isinstance(part, list) else part
        for own, part in parts.items()
    }


def _needed(V: Blocks, wanted: list[Bounds]) -> Iterator[tuple[int, int, int]]:
    """(the number, the first row, the end) of the blocks with rows that are wanted."""
    for i, (first, end) in enumerate(itertools.pairwise(V.starts.tolist())):
        if any(a < end and first < b for (a, b), _ in wanted):
            yield i, first, end


def _bounds(index: Any, shape: tuple[int, int]) -> Bounds:
    ranges = (one.indices(size) for one, size in zip(index, shape, strict=True))
    return tuple((start, stop) for start, stop, _ in ranges)
