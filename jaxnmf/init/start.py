"""Initial factors, on the host: the same for every solver of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxnmf._util.names import suggestion
from jaxnmf.data.arrays import as_array
from jaxnmf.data.operand import Described, true_shape
from jaxnmf.init.random import random_factors, random_parts
from jaxnmf.init.rows import SEPARABLE, row_factors
from jaxnmf.init.svd import svd_factors
from jaxnmf.types import Factors

AUTO = "auto"
INITS = ("random", "nndsvd", "nndsvda", "nndsvdar", *SEPARABLE)


def initial_factors(
    operand: Described,
    rank: int,
    init: str | Sequence[Any] = "random",
    seed: int = 0,
    units: tuple[float, float] = (1.0, 1.0),
    *,
    own_rows: bool = False,
) -> Factors:
    """Initial rank-major factors in the precision of V.

    Args:
      operand: V, (m, n).
      rank: p.
      init: "random", "nndsvd", "nndsvda", "nndsvdar"; "spa", "snpa", "xray" (rows
        of V for H, see `jaxnmf.init.separable`, and the best W ≥ 0 for them); or a pair
        (W, H) of shapes (m, p) and (p, n), both non-negative.
      seed: of "random" and of the noise of "nndsvdar".
      units: what the problem's W and H are multiplied by to be those of a pair.
      own_rows: whether, of a V over several processes, each may draw its own rows of a
        random W alone.

    Raises:
      ValueError: for an unknown name, a p that the SVD or the rows of V cannot give,
        a V without a row to choose, or factors of the wrong shape or sign.
    """
    m, n = map(int, true_shape(operand))
    check_init(init)
    if not isinstance(init, str):
        pair = _custom(init, (m, rank), (rank, n))
        W, H = (
            x if unit == 1 else x / np.float64(unit)
            for x, unit in zip(pair, units, strict=True)
        )
    elif init == "random":
        placement = getattr(operand, "placement", None)
        if own_rows and placement is not None and placement.several_processes:
            return _spread(operand, rank, seed)
        W, H = random_factors(operand, rank, seed)
    elif operand.kind == "blocks":
        raise ValueError(
            f"init={init!r} needs V in memory; of jaxnmf.Blocks a start is 'random', "
            "which reads nothing, or a pair (W, H)"
        )
    elif init in SEPARABLE:
        W, H = row_factors(operand, rank, init)
    else:
        W, H = svd_factors(operand, rank, init, seed)
    dtype = np.dtype(operand.dtype)
    return Factors(
        np.ascontiguousarray(W.T, dtype),  # pyright: ignore
        np.ascontiguousarray(H, dtype),  # pyright: ignore
    )


def _spread(operand: Any, rank: int, seed: int) -> Factors:
    """Random factors of the same bits, W only where it is needed, on the devices of V's
    rows and padded with 0 as V is."""
    placement, dtype = operand.placement, np.dtype(operand.dtype)
    m, M = operand.shape[0], getattr(operand, "on_mesh", operand).shape[0]
    places = getattr(operand, "places", (None, None))[0]
    places = np.arange(m) if places is None else places
    shape = rank, M
    sharding = placement.of_leaf(jax.ShapeDtypeStruct(shape, dtype), M, placement.rows)
    indices = sharding.addressable_devices_indices_map(shape).values()
    ends = list(dict.fromkeys(index[1].indices(M)[:2] for index in indices))
    own = [slice(*np.searchsorted(places, pair).tolist()) for pair in ends]
    parts, H = random_parts(operand, rank, seed, own)
    drawn = dict(zip(ends, zip(own, parts, strict=True), strict=True))

    def made(index: Any) -> np.ndarray:
        first, end = index[1].indices(M)[:2]
        columns, part = drawn[first, end]
        X = np.zeros((rank, end - first), dtype)
        X[:, places[columns] - first] = part
        return X

    Wt = jax.make_array_from_callback(shape, sharding, made)
    return Factors(Wt, H.astype(dtype))  # pyright: ignore


def check_init(init: Any) -> None:
    """Raise a ValueError unless init is the name of a start or a pair."""
    if isinstance(init, str):
        if init not in (AUTO, *INITS):
            raise ValueError(
                f"init={init!r} is not known{suggestion(init, INITS)}; it must be "
                f"{AUTO}, one of {', '.join(INITS)}, or a pair (W, H)"
            )
    elif not hasattr(init, "__len__"):
        raise ValueError(
            f"init={init!r} is neither one of {', '.join(INITS)} nor a pair (W, H)"
        )
    elif len(init) != 2:
        raise ValueError(f"init has {len(init)} entries; a pair (W, H) is needed")


def _custom(
    init: Sequence[Any], W_shape: tuple[int, int], H_shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for name, x, shape in (("W", init[0], W_shape), ("H", init[1], H_shape)):
        x = np.asarray(as_array(f"init: {name}", x, f"of shape {shape}"))
        if x.shape != shape:
            raise ValueError(
                f"init: {name} has shape {x.shape}; for this V and rank it must be "
                f"{shape}"
            )
        if not (np.isfinite(x).all() and (x >= 0).all()):
            raise ValueError(
                f"init: {name} holds entries that are negative or not finite; every "
                "entry must be ≥ 0"
            )
        found.append(x)
    return found[0], found[1]
