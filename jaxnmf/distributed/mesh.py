"""Runs on a mesh of devices: V over its rows and columns, W over the rows, H over the
columns.

Device (a, b) of a mesh of A × B has a block of V of m/A × n/B entries, the part of W
that goes with its rows and that of H with its columns. A half-step multiplies these and
sums over a column or a row of the mesh: of H the p n/B numbers of the cross product,
and p² of the Gram matrix. That is the communication of the two-dimensional algorithm of
Kannan, Ballard & Park, "MPI-FAUN", IEEE Trans. Knowledge and Data Engineering 30 (2018)
[Kannan2018], and all that an iteration of HALS sends.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxnmf import costs
from jaxnmf._util.names import suggestion
from jaxnmf.build import Objective, make_problem
from jaxnmf.data.blocks import Blocks
from jaxnmf.data.dense import Dense
from jaxnmf.data.known import Known
from jaxnmf.data.placed import Placed
from jaxnmf.data.placement import Placement, on_host, put
from jaxnmf.data.shards import Shards, balanced_order
from jaxnmf.data.sparse import Sparse
from jaxnmf.data.spread import fetch, is_spread
from jaxnmf.distributed.processes import check_agreement
from jaxnmf.distributed.reading import read_onto
from jaxnmf.init.random import key_seed
from jaxnmf.objective.problem import Problem
from jaxnmf.padding import padded, run_shared, unpadded
from jaxnmf.run.clock import timed
from jaxnmf.run.loop import Run
from jaxnmf.run.stop import Stop
from jaxnmf.solvers.base import keeps_order, supports_padding
from jaxnmf.types import Factors

NAMES = ("rows", "grid", "auto")
Shape = tuple[int, int]
Orders = tuple[np.ndarray | None, np.ndarray | None]


class Divided(NamedTuple):
    """V over a mesh.

    Attributes:
      host: V, padded if its shape does not divide over the devices.
      operand: the same on the devices.
      orders: that its rows and columns have there, None where they stay as they are.
    """

    host: Any
    operand: Any
    orders: Orders


def as_placement(mesh: Any, shape: Shape, solver: Any) -> Placement:
    """The placement of V on a user's mesh.

    Args:
      mesh: a `jax.sharding.Mesh`, the rows of V over its first axis and the columns
        over its second, where more than two have other sizes than 1 it is refused; or
        of all devices "rows", "grid", the one of both axes on which an iteration sends
        least, or "auto", the one of any shape on which it does.
      shape: (m, n).
      solver: what is to run on it.

    Raises:
      ValueError: for a mesh that V or the devices do not fit, or a solver that does not
        support it.
    """
    name = getattr(solver, "name", type(solver).__name__)
    if not solver.supports.mesh:
        raise ValueError(f"mesh: solver {name!r} does not support several devices")
    pads = supports_padding(solver)
    if isinstance(mesh, str):
        found = _of_name(mesh, shape, pads)
    elif isinstance(mesh, Mesh):
        found = _of_mesh(mesh)
    else:
        raise ValueError(
            f"mesh={mesh!r} must be a jax.sharding.Mesh of devices, or one of "
            f"{', '.join(NAMES)}"
        )
    grid = a, b = found.grid
    if a > shape[0] or b > shape[1]:
        raise ValueError(
            f"mesh: {a}×{b} devices are too many for V of shape {shape}; there must be "
            "a row and a column of V for each"
        )
    if _even(shape, grid, solver) != shape and not pads:
        raise ValueError(
            f"mesh: solver {name!r} needs a V whose shape divides over the devices; "
            f"{shape} does not over {a}×{b}"
        )
    return found


def placed_problem(
    mesh: Any, known: Known, solver: Any, objective: Objective, dtype: Any
) -> tuple[Problem, Placement | None]:
    """The problem of V, and the placement to run it with; None for one device.

    For a mesh the problem is made on the host: no device holds V as a whole. `Blocks`
    are read onto the devices, no process more of them than its own rows.

    Args:
      mesh: as `jaxnmf.factorize` has it.
      others: as for `jaxnmf.build.make_problem`.
    """
    if mesh is None:
        if is_spread(known.V) and known.weights is not None:
            raise ValueError(
                "mask: V is spread over several processes, of which every entry must "
                "be known; pass V itself in each process, with a mesh"
            )
        problem = make_problem(known, solver, objective, dtype)
        placement = getattr(problem.operand, "placement", None)
        if placement is not None:
            check_no_graph(objective)
        return problem, placement
    check_no_graph(objective)
    if isinstance(known.V, Blocks):
        placement = as_placement(mesh, known.V.shape, solver)
        parts = read_onto(
            known.V,
            placement,
            dtype,
            shape=_even(known.V.shape, placement.grid, solver),
            balance=supports_padding(solver)
            and not (keeps_order(solver) or solver.supports.symmetric),
        )
        known = known._replace(V=parts)
        return make_problem(known, solver, objective, dtype), placement
    if is_spread(known.V):
        raise ValueError(
            "mesh: V is spread over several processes already, and stays where it is; "
            "leave mesh out"
        )
    placement = as_placement(mesh, known.V.shape, solver)
    with on_host():
        return make_problem(in_memory(known), solver, objective, dtype), placement


def in_memory(known: Known) -> Known:
    """The same, of a V that is on several devices in the memory of the host."""
    if isinstance(known.V, jax.Array) and len(known.V.devices()) > 1:
        return known._replace(V=np.asarray(known.V))
    return known


def check_no_graph(objective: Objective) -> None:
    """Raise a ValueError for neighbours, which need one device."""
    if objective.has_graph:
        raise ValueError(
            "graph: neighbours on several devices are not supported; leave mesh out, "
            "and give a V that is on one device"
        )


def run_anywhere(
    problem: Problem,
    solver: Any,
    factors: Factors,
    seed: int,
    stop: Stop,
    *,
    placement: Placement | None,
    pad: bool,
    **given: Any,
) -> Run:
    """The run on one device, padded if it may be, or with a placement on its mesh."""
    run = problem, solver, factors, seed, stop
    if placement is None:
        return run_shared(*run, pad=pad, **given)
    return run_on_mesh(*run, placement, **given)


def run_on_mesh(
    problem: Problem,
    solver: Any,
    factors: Factors,
    seed: int,
    stop: Stop,
    placement: Placement,
    **given: Any,
) -> Run:
    """The run of `jaxnmf.run.clock.timed` on a mesh: V is padded until its shape
    divides over the devices, and a sparse V reordered until each has about as many
    entries. The result is that of one device to rounding.

    Args:
      problem: of V on the host, or over this mesh.
      seed: of what the solver draws.
      placement: of V.
      others: as for `timed`.
    """
    rank, shape = len(factors.H), problem.operand.shape
    V = problem.operand
    of_all = isinstance(V, Placed) and placement.several_processes
    stays = of_all or is_spread(getattr(V, "array", None))
    if placement.several_processes:
        check_agreement(problem, solver, factors, stop)
    problem, factors, orders = on_mesh(problem, solver, factors, placement)
    key = jax.random.key(key_seed(seed))
    run = timed(problem, solver, factors, key, stop, **given)
    if stays:
        return run
    own = unpadded(in_own_order(run.factors, orders), rank, shape)
    return run._replace(factors=own)


def on_mesh(
    problem: Problem, solver: Any, factors: Factors, placement: Placement
) -> tuple[Problem, Factors, Orders]:
    """The problem and its initial factors on a mesh, padded if V does not divide, and
    the orders that V's rows and columns have there."""
    own = divided(problem.operand, solver, placement)
    if own.host is not problem.operand:
        problem, factors = padded(problem, factors, solver, operand=own.host)
    return *placed(problem, solver, factors, own, placement), own.orders


def divided(operand: Any, solver: Any, placement: Placement) -> Divided:
    """V over the devices of a mesh."""
    host, orders = operand, (None, None)
    if isinstance(host, Placed):
        rows, columns = host.ranges
        return Divided(host.on_mesh, host.on_devices(), (rows.order, columns.order))
    larger = _even(host.shape, placement.grid, solver)
    if larger != host.shape:
        host = operand = host.padded_to(*larger)
    if isinstance(host, Sparse):
        orders = _balanced(host, placement, solver)
        operand = Shards.of(host, placement, orders)
    elif isinstance(host, Dense) and host.placement is None:
        operand = host.placed(placement)
    return Divided(host, operand, orders)


def in_own_order(factors: Factors, orders: Orders) -> Factors:
    """Factors from a mesh, on the host and in the order of V's own rows and columns."""
    pairs = zip(map(fetch, factors), orders, strict=True)
    found = (X if order is None else X[:, np.argsort(order)] for X, order in pairs)
    return Factors(*found)  # pyright: ignore


def _of_name(name: str, shape: Shape, pads: bool) -> Placement:
    if name not in NAMES:
        raise ValueError(
            f"mesh={name!r} is not known{suggestion(name, NAMES)}; it must be one of "
            f"{', '.join(NAMES)}, or a jax.sharding.Mesh"
        )
    devices = np.array(jax.devices())
    grids = costs.grids(len(devices))
    if name == "rows":
        grids = [(len(devices), 1)]
    elif name == "grid":
        grids = [grid for grid in grids if min(grid) > 1] or grids
    else:
        (m, n), count = shape, len(devices)
        fit: list[Shape] = []
        while not fit:  # a V of few rows and columns: fewer devices
            fit = [
                (a, b)
                for a, b in costs.grids(count)
                if a <= m and b <= n and (pads or not (m % a or n % b))
            ]
            count -= 1
        grids = fit
    a, b = min(grids, key=lambda grid: costs.sent_bytes(*shape, 1, 1, grid))
    return _of_mesh(Mesh(devices[: a * b].reshape(a, b), ("rows", "columns")))


def _of_mesh(mesh: Mesh) -> Placement:
    """By the first axis and the second, of more than two those of other sizes than
    1."""
    names, sizes = mesh.axis_names, mesh.devices.shape
    used = names
    if len(names) > 2:
        used = [one for one, size in zip(names, sizes, strict=True) if size > 1]
    if len(used) > 2:
        listed = ", ".join(f"{x}={k}" for x, k in zip(names, sizes, strict=True))
        raise ValueError(
            f"mesh has the axes {listed}; V has rows and columns, so at most two may "
            "be larger than 1"
        )
    if not mesh.devices.size:
        raise ValueError("mesh has no devices; jax.make_mesh makes one of those here")
    return Placement(mesh, *((str(name),) for name in used))


def _even(shape: Shape, grid: Shape, solver: Any) -> Shape:
    """The least shape that divides over a grid: a square one for symmetric V."""
    a, b = grid
    if solver.supports.symmetric:
        a = b = math.lcm(a, b)
    m, n = shape
    return -(-m // a) * a, -(-n // b) * b


def _balanced(operand: Sparse, placement: Placement, solver: Any) -> Orders:
    """The orders of rows and columns, None where they stay as they are."""
    if keeps_order(solver):
        return None, None
    parts = placement.grid
    if solver.supports.symmetric:
        parts = (math.lcm(*parts),) * 2
    places = operand.csr.rows, operand.csr.indices
    rows, columns = (
        balanced_order(np.bincount(np.asarray(place), minlength=size), own)
        for place, size, own in zip(places, operand.shape, parts, strict=True)
    )
    return rows, columns


def placed(
    problem: Problem,
    solver: Any,
    factors: Factors,
    own: Divided,
    placement: Placement,
) -> tuple[Problem, Factors]:
    """A problem that is padded as its V, and its factors, on the mesh."""
    operand, orders = own.operand, own.orders
    sides = zip(
        zip(problem.projects, problem.penalties, factors, strict=True),
        operand.shape,
        (placement.rows, placement.columns),
        orders,
        strict=True,
    )

    def put_all(tree: Any, size: int, axes: Any, order: Any) -> Any:
        def one(x: Any) -> jax.Array:
            there = order is None or is_spread(x)
            if not there and np.ndim(x) and np.shape(x)[-1] == size:
                x = np.asarray(x)[..., order]
            return put(x, placement.of_leaf(x, size, axes))

        return jax.tree.map(one, tree)

    projects, penalties, found = zip(*(put_all(*side) for side in sides), strict=True)
    problem = dataclasses.replace(
        problem, operand=operand, projects=projects, penalties=penalties
    )
    if hasattr(solver, "check"):
        solver.check(problem)
    return problem, Factors(*found)
