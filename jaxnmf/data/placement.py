"""Placement: where V and its factors are on a mesh of devices."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnmf.data.spread import Spread, is_spread

Axes = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Placement:
    """V (m, n) over a mesh: its rows over some axes, its columns over others.

    A factor Wt (p, m) is divided as the rows of V are and H (p, n) as its columns; each
    is on every device of the other axes. All else is on every device.

    Attributes:
      mesh: of devices; its axes become Auto ones, the placement within a program left
        to the compiler.
      rows, columns: names of its axes, those of size one left out.
    """

    mesh: Mesh
    rows: Axes = ()
    columns: Axes = ()

    def __post_init__(self) -> None:
        # jax.make_mesh gives Explicit axes, under which a plain product of a factor and
        # a sharded V is refused.
        names = self.mesh.axis_names
        types = (AxisType.Auto,) * len(names)
        auto = Mesh(self.mesh.devices, names, axis_types=types)
        object.__setattr__(self, "mesh", auto)
        for name in ("rows", "columns"):
            axes = (one for one in getattr(self, name) if self.mesh.shape[one] > 1)
            object.__setattr__(self, name, tuple(axes))

    @classmethod
    def of_array(cls, array: jax.Array) -> Placement:
        """That of an array on several devices: by its own sharding, or for one that
        has no mesh as a whole on every device."""
        sharding = array.sharding
        if not isinstance(sharding, NamedSharding):
            devices = np.array(sorted(sharding.device_set, key=lambda one: one.id))
            return cls(Mesh(devices, ("devices",)))
        mesh: Any = sharding.mesh
        spec = (*sharding.spec, None, None)
        return cls(mesh, *(_axes(entry) for entry in spec[:2]))

    @property
    def T(self) -> Placement:
        """That of Vᵀ."""
        return dataclasses.replace(self, rows=self.columns, columns=self.rows)

    @property
    def grid(self) -> tuple[int, int]:
        """In how many parts the rows and the columns are."""
        r, c = (
            int(np.prod([self.mesh.shape[name] for name in axes], dtype=int))
            for axes in (self.rows, self.columns)
        )
        return r, c

    @property
    def several_processes(self) -> bool:
        """Whether devices of other processes are on the mesh too."""
        here = jax.process_index()
        return any(one.process_index != here for one in self.mesh.devices.flat)

    def sharding(self, *spec: Any) -> NamedSharding:
        """That of an array whose axes are over these axes of the mesh."""
        return NamedSharding(self.mesh, P(*spec))

    def of_leaf(self, x: Any, size: int, axes: Axes) -> NamedSharding:
        """That of an array with one entry for each of ``size`` rows or columns of V
        along its last axis, and of any other array."""
        shape = np.shape(x)
        if not axes or not shape or shape[-1] != size:
            return self.sharding()
        return self.sharding(*(None,) * (len(shape) - 1), axes)

    def both_sums(self, own: Callable[..., Any]) -> tuple[Callable[..., Any], Any]:
        """What sums the pair that ``own`` gives over V's rows and over its columns, and
        where the two are."""

        def sums(*args: Any) -> Any:
            of_free, of_fixed = own(*args)
            return (
                jax.lax.psum(of_free, self.rows),
                jax.lax.psum(of_fixed, self.columns),
            )

        return sums, (P(None, self.columns), P(None, self.rows))

    def mapped(
        self,
        own: Callable[..., Any],
        arrays: Any,
        specs: Any,
        out: Any,
        rest: Any,
        fixed: Any,
        *frees: Any,
    ) -> Any:
        """``own(arrays, rest, fixed, *frees)`` on every device, of its parts of the
        arrays, which are divided as ``specs`` say, and of the factors."""
        by_rows, by_columns = P(None, self.rows), P(None, self.columns)
        each = (specs, P(), by_rows, *(by_columns for _ in frees))
        mapped = jax.shard_map(
            own, mesh=self.mesh, in_specs=each, out_specs=out, check_vma=False
        )
        return mapped(arrays, rest, fixed, *frees)

    def kept(self, shape: tuple[int, int], factors: Any, state: Any) -> Any:
        """(factors, state) within a program, in their places: what has an entry for
        each row of V with them, what has one for each column likewise."""
        m, n = shape

        def held(x: Any, *order: tuple[int, Axes]) -> Any:
            size, axes = next((one for one in order if one[0] == x.shape[-1]), (-1, ()))
            place = self.of_leaf(x, size, axes)
            return jax.lax.with_sharding_constraint(x, place)

        def tree(x: Any, *order: tuple[int, Axes]) -> Any:
            return jax.tree.map(lambda x: held(x, *order) if x.ndim else x, x)

        sides = (m, self.rows), (n, self.columns)
        Wt, H = factors
        factors = type(factors)(tree(Wt, *sides), tree(H, *sides[::-1]))
        if type(state) is tuple and len(state) == 2:  # of an alternating solver
            state = tree(state[0], *sides), tree(state[1], *sides[::-1])
        else:
            state = tree(state, *sides)
        return factors, state


def summed(own: Callable[..., Any], axes: Axes) -> Callable[..., Any]:
    """The sum of what each device has, over the devices along some axes."""
    return lambda *args: jax.lax.psum(own(*args), axes) if axes else own(*args)


def put(x: Any, sharding: Any) -> jax.Array:
    """An array on the devices of a sharding. One that a process has as a whole, each
    of several has, and gives its own devices their parts."""
    if sharding.is_fully_addressable or is_spread(x):
        return jax.device_put(x, sharding)
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def less_product(V: jax.Array, W: Any, H: Any) -> jax.Array:
    """V − W H where a spread V is, of factors that are spread or not."""
    place = Placement.of_array(V)
    pair = [(x.array, x.places) if isinstance(x, Spread) else (x, None) for x in (W, H)]
    (Wt, rows), (H, columns) = pair
    Wt = Wt if isinstance(W, Spread) else Wt.T
    sharding = place.sharding(place.rows, place.columns)

    def less(V: Any, Wt: Any, H: Any) -> Any:
        Wt = Wt if rows is None else Wt[:, rows]
        H = H if columns is None else H[:, columns]
        return V - jnp.matmul(Wt.T, H, precision="highest")

    found = jax.jit(less, out_shardings=sharding)(put(V, sharding), Wt, H)
    return put(found, V.sharding)


def kept_in_place(operand: Any, factors: Any, state: Any) -> Any:
    """(factors, state) of a solver where the operand wants them."""
    placement = getattr(operand, "placement", None)
    if placement is None:
        return factors, state
    return placement.kept(operand.shape, factors, state)


def on_host() -> AbstractContextManager[Any]:
    """Within it arrays are made in the memory of the host, from which a mesh is
    filled: the devices of an accelerator need not hold V as a whole."""
    if jax.default_backend() == "cpu":
        return contextlib.nullcontext()
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
        return contextlib.nullcontext()


def _axes(entry: Any) -> Axes:
    if entry is None or entry is P.UNCONSTRAINED:
        return ()
    return (entry,) if isinstance(entry, str) else tuple(entry)
