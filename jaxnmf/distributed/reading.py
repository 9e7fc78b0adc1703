"""V from blocks onto the devices of a mesh: each process reads only its own rows."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np

from jaxnmf.data.blocks import Blocks
from jaxnmf.data.containers import is_sparse
from jaxnmf.data.parts import Parts, Ranges, survey_of
from jaxnmf.data.placement import Placement
from jaxnmf.data.spread import least
from jaxnmf.data.survey import ReadError

Place = tuple[int, int]
"""The place of a device in the grid of the mesh."""


def read_onto(
    V: Blocks,
    placement: Placement,
    dtype: Any,
    *,
    shape: tuple[int, int] | None = None,
    balance: bool = True,
) -> Parts:
    """V over a mesh, each block read once by every process that has devices for some of
    its rows.

    Args:
      V: the blocks.
      placement: of V.
      dtype: of the array of a dense V.
      shape: that of V with what pads it; the least that divides over the mesh by
        default.
      balance: whether a sparse V whose source says how long its rows are is divided by
        its stored entries, and not into parts of as many rows.

    Raises:
      ReadError: a block cannot be read or does not fit.
    """
    (m, n), (a, b) = V.shape, placement.grid
    larger = shape or (-(-m // a) * a, -(-n // b) * b)
    rows, columns = Ranges.even(m, larger[0] // a, a), Ranges.even(n, larger[1] // b, b)
    counts = V.row_entries
    if balance and counts is not None and counts.any():
        rows = Ranges.balanced(counts, rows)
    padded = rows.padded, columns.padded
    sharding = placement.sharding(placement.rows, placement.columns)
    devices = {
        device: _place(index, (rows.height, columns.height))
        for device, index in sharding.addressable_devices_indices_map(padded).items()
    }
    wrong: ReadError | None = None
    found: Any = None
    try:
        found = _read(V, (rows, columns), list(dict.fromkeys(devices.values())), dtype)
    except ReadError as error:
        wrong = error
    if least(0 if wrong else 1, placement.several_processes) == 0:
        raise wrong or ReadError("V: another process cannot read its part")
    sparse = is_sparse(next(iter(found.values())))
    own = (
        part.data if sparse else part[: _length(rows, i), : _length(columns, j)]
        for (i, j), part in found.items()
    )
    survey = survey_of(own, m, sparse=sparse, together=placement.several_processes)
    if not sparse:
        arrays = [jax.device_put(found[i], device) for device, i in devices.items()]
        found = jax.make_array_from_single_device_arrays(padded, sharding, arrays)
    return Parts((rows, columns), found, placement, survey)


def _read(
    V: Blocks, ranges: tuple[Ranges, Ranges], wanted: list[Place], dtype: Any
) -> dict[Place, Any]:
    """The parts of V at some places of the grid, padded: arrays or CSR arrays."""
    from scipy.sparse import csr_array, vstack

    rows, columns = ranges
    pieces: dict[Place, list[Any]] = {place: [] for place in wanted}
    dense: dict[Place, np.ndarray] = {}
    sparse: bool | None = None
    shape = rows.height, columns.height
    for i, first, end in _needed(V, [_bounds(rows, a) for a, _ in wanted]):
        block = V.block(i)
        if sparse is None:
            sparse = is_sparse(block)
            dense = {} if sparse else {one: np.zeros(shape, dtype) for one in wanted}
        if is_sparse(block) != sparse:
            raise ReadError(f"V: block {i} is not sparse as the others, or alone is")
        for place in wanted:
            (a, b), (c, d) = _bounds(rows, place[0]), _bounds(columns, place[1])
            start, stop = max(a, first), min(b, end)
            if start >= stop:
                continue
            piece = block[start - first : stop - first, c:d]
            if sparse:
                pieces[place].append(piece)
            else:
                dense[place][start - a : stop - a, : d - c] = piece
    if dense:
        return dense
    found = {}
    for place, part in pieces.items():
        found[place] = vstack(part, format="csr") if part else csr_array(shape, dtype)
        found[place].resize(shape)
    return found


def _needed(V: Blocks, wanted: list[tuple[int, int]]) -> list[tuple[int, ...]]:
    """(the number, the first row, the end) of the blocks with rows that are wanted; of
    the first, which says what V is, where none are."""
    blocks = [
        (i, *ends) for i, ends in enumerate(itertools.pairwise(V.starts.tolist()))
    ]
    found = [
        (i, first, end)
        for i, first, end in blocks
        if any(max(a, first) < min(b, end) for a, b in wanted)
    ]
    return found or blocks[:1]


def _bounds(ranges: Ranges, part: int) -> tuple[int, int]:
    first, end = ranges.bounds[part : part + 2].tolist()
    return first, end


def _length(ranges: Ranges, part: int) -> int:
    first, end = _bounds(ranges, part)
    return end - first


def _place(index: Any, part: tuple[int, int]) -> Place:
    starts = [one.start or 0 for one in index]
    return starts[0] // part[0], starts[1] // part[1]
