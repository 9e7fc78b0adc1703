"""Arrays that are spread over several processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P


def is_spread(x: Any) -> bool:
    """Whether an array is in part on devices of other processes."""
    return isinstance(x, jax.Array) and not x.is_fully_addressable


def fetch(x: Any) -> np.ndarray:
    """An array in the memory of this process. One that is spread over several has to be
    fetched by all of them."""
    if is_spread(x) and not x.is_fully_replicated:
        whole = NamedSharding(x.sharding.mesh, P())
        x = jax.jit(lambda x: x, out_shardings=whole)(x)
    return np.asarray(x)


def agreed(seconds: float, together: bool) -> float:
    """The seconds on the clock of the first process, where several run together."""
    if not together:
        return seconds
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return float(broadcast_one_to_all(np.float32(seconds)))


def gathered(numbers: np.ndarray, together: bool) -> np.ndarray:
    """The float64 numbers of each process as a row, where several run together."""
    if not together:
        return numbers[None]
    from jax.experimental.multihost_utils import process_allgather

    # As bits: in single precision jax would round them.
    bits = np.frombuffer(numbers.tobytes(), np.uint32)
    found = np.ascontiguousarray(process_allgather(bits)).reshape(-1, len(bits))
    return found.view(np.float64)


def least(number: int, together: bool) -> int:
    """The smallest of the numbers of all processes, where several run together."""
    return int(gathered(np.array([number], np.float64), together).min())


class Spread(NamedTuple):
    """A factor that is spread over processes, rank-major as it was computed.

    Attributes:
      array: (p, q).
      turned: whether the factor is its transpose.
      places: where its columns are in the array, increasing; None where all are.
    """

    array: Any
    turned: bool
    places: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        p, q = self.array.shape
        q = q if self.places is None else len(self.places)
        return (q, p) if self.turned else (p, q)

    def fetched(self) -> np.ndarray:
        """The factor, in every process; called in all of them."""
        X = fetch(self.array)
        X = X if self.places is None else X[:, self.places]
        return np.ascontiguousarray(X.T) if self.turned else X


class Factor:
    """A factor as a field of a dataclass, fetched when it is read first."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, result: Any, owner: type | None = None) -> Any:
        if result is None:  # a field without a default
            raise AttributeError(self.name)
        found = result.__dict__[self.name]
        if isinstance(found, Spread):
            found = result.__dict__[self.name] = found.fetched()
        return found

    def __set__(self, result: Any, value: Any) -> None:
        result.__dict__[self.name] = value


def pieces_of(
    x: jax.Array,
    name: str,
    *,
    once: bool = False,
    places: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The shape of a spread array and what this process has of it, by names that begin
    with ``name`` and say the place; with ``once`` not what another process gives, with
    ``places`` of its columns these alone."""
    shape = x.shape if places is None else (*x.shape[:-1], len(places))
    pieces = {f"{name}/shape": np.array(shape)}
    for shard in x.addressable_shards:
        if once and shard.replica_id:
            continue
        index, data = shard.index, np.asarray(shard.data)
        if places is not None:
            start, stop, _ = index[-1].indices(x.shape[-1])
            own = slice(*np.searchsorted(places, [start, stop]).tolist())
            index, data = (*index[:-1], own), data[..., places[own] - start]
        if data.size:
            pieces[f"{name}/{_place(index, shape)}"] = data
    return pieces


class Pieces:
    """The pieces of an array, and any part of it from them."""

    def __init__(self, saved: Mapping[str, np.ndarray], name: str) -> None:
        self.shape = tuple(saved[f"{name}/shape"].tolist())
        self.pieces = {
            place: array
            for key, array in saved.items()
            if (place := key.removeprefix(f"{name}/")) not in (key, "shape")
        }

    def read(self, index: tuple[slice, ...]) -> np.ndarray:
        """The part at an index.

        Raises:
          KeyError: a piece of it is missing.
        """
        place = _place(index, self.shape)
        if place in self.pieces:
            return self.pieces[place]
        bounds = _bounds(place)
        some = next(iter(self.pieces.values()), np.zeros(0))
        part = np.zeros([stop - start for start, stop in bounds], some.dtype)
        filled = np.zeros(part.shape, bool)
        for own, array in self.pieces.items():
            own = _bounds(own)
            common = [
                (max(a, c), min(b, d))
                for (a, b), (c, d) in zip(bounds, own, strict=True)
            ]
            if all(a < b for a, b in common):
                to = _within(common, bounds)
                part[to], filled[to] = array[_within(common, own)], True
        if not filled.all():
            raise KeyError(place)
        return part


def _within(bounds: Any, of: Any) -> tuple[slice, ...]:
    """Bounds as an index of what has the bounds ``of``."""
    pairs = zip(bounds, of, strict=True)
    return tuple(slice(a - first, b - first) for (a, b), (first, _) in pairs)


def _place(index: tuple[slice, ...], shape: tuple[int, ...]) -> str:
    """An index as text: "0-4,8-16"."""
    ranges = (one.indices(size) for one, size in zip(index, shape, strict=True))
    return ",".join(f"{start}-{stop}" for start, stop, _ in ranges)


def _bounds(place: str) -> list[tuple[int, int]]:
    """The inverse of `_place`."""
    pairs = (one.split("-") for one in place.split(","))
    return [(int(start), int(stop)) for start, stop in pairs]
