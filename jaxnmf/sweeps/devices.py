"""Lanes over several devices: each has its own part of a group."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXIS = "lanes"


@functools.cache
def grouped(
    function: Callable[..., Any], axes: tuple[Any, ...], devices: int
) -> Callable[..., Any]:
    """``function`` vmapped over the arguments with an axis of 0; others have None, and
    one that is a tuple a tuple of axes. On several devices each runs its own lanes,
    without waiting for the others between two calls."""
    together = jax.vmap(function, in_axes=axes)
    if devices == 1:
        return together
    return jax.shard_map(
        together,
        mesh=_mesh(devices),
        in_specs=jax.tree.map(
            lambda axis: P() if axis is None else P(AXIS),
            axes,
            is_leaf=lambda axis: axis is None,
        ),
        out_specs=P(AXIS),
        check_vma=False,
    )


def placed(tree: Any, devices: int, *, lanes: bool) -> Any:
    """Arrays on several devices: of lanes each has its part, of others all. On one
    device lanes are moved there, and others are as they are."""
    if devices == 1:
        return jax.device_put(tree) if lanes else tree
    sharding = NamedSharding(_mesh(devices), P(AXIS) if lanes else P())
    return jax.device_put(tree, sharding)


@functools.cache
def taken(devices: int) -> Callable[..., Any]:
    """The function (index, *trees) that gives the rows at ``index`` of concatenated
    trees of lanes, in their places."""

    def rows(index: Any, *trees: Any) -> Any:
        found = jax.tree.map(lambda *x: jax.numpy.concatenate(x)[index], *trees)
        if devices == 1:
            return found
        sharding = NamedSharding(_mesh(devices), P(AXIS))
        return jax.lax.with_sharding_constraint(found, sharding)

    return rows


@functools.cache
def _mesh(devices: int) -> Mesh:
    there = jax.local_devices()
    if len(there) < devices:
        raise ValueError(
            f"batching: devices={devices}, but this process has {len(there)}"
        )
    return Mesh(np.array(there[:devices]), (AXIS,))
