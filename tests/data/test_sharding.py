"""A sharded V: the same factors, and devices that talk no more than they must."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxnmf
from jaxnmf.data.convert import as_operand
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import make_loss, make_solver
from jaxnmf.run import programs
from jaxnmf.types import Factors

pytestmark = pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")

M, N, RANK = 16, 12, 3
V = np.random.default_rng(0).random((M, N), np.float32)
AXES = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
each_axes = pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "collective-permute",
    "reduce-scatter",
)


def mesh(grid: tuple[int, ...], axes: AxisType) -> jax.sharding.Mesh:
    names = ("rows", "columns")[: len(grid)]
    return jax.make_mesh(grid, names, axis_types=(axes,) * len(grid))


def collectives(program: str) -> dict[str, int]:
    """How often a compiled program makes its devices talk, by kind."""
    counts = {
        kind: len(re.findall(rf"\b{kind}(?:-start)?\(", program))
        for kind in COLLECTIVES
    }
    return {kind: count for kind, count in counts.items() if count}


@each_axes
@pytest.mark.parametrize(
    ("solver", "loss"),
    [("hals", "frobenius"), ("mu", "frobenius"), ("mu", "kullback-leibler")],
)
def test_a_half_step_on_a_grid_talks_once(solver, loss, axes):
    """W over the rows of the grid and H over its columns: each device holds what it
    needs, and the Gram matrix and the products are summed together."""
    grid = mesh((2, 2), AxisType.Auto)
    data = jax.device_put(V, NamedSharding(mesh((2, 2), axes), P("rows", "columns")))
    problem = Problem.of(as_operand(data), make_loss(loss))
    fixed, free = (
        jax.device_put(jnp.ones((RANK, size)), NamedSharding(grid, P(None, axis)))
        for size, axis in ((M, "rows"), (N, "columns"))
    )
    made = programs.as_leaves(make_solver(solver), np.float32)

    def half_steps(problem: Any, fixed: Any, free: Any, state: Any) -> Any:
        free, _ = made.half_step(problem, fixed, free, state[1])
        new, _ = made.half_step(problem.T, free, fixed, state[0])
        return free, new

    state = made.init(problem, Factors(fixed, free), jax.random.key(0))
    program = jax.jit(half_steps).lower(problem, fixed, free, state).compile()
    assert collectives(program.as_text()) == {"all-reduce": 2}
    one = jax.jit(lambda *x: half_steps(*x)[0]).lower(problem, fixed, free, state)
    assert collectives(one.compile().as_text()) == {"all-reduce": 1}
    # The factors stay where they are: the next step finds them in place.
    H, Wt = program(problem, fixed, free, state)
    assert H.sharding.is_equivalent_to(free.sharding, 2)
    assert Wt.sharding.is_equivalent_to(fixed.sharding, 2)


def test_one_device_has_none_to_talk_to():
    problem = Problem.of(as_operand(V), make_loss("frobenius"))
    one = jax.jit(Problem.quadratic).lower(problem, jnp.ones((RANK, M)))
    assert collectives(one.compile().as_text()) == {}


@each_axes
@pytest.mark.parametrize("grid", [(4,), (2, 2)], ids=["rows", "grid"])
def test_factorize_takes_a_sharded_array(grid, axes):
    placement = NamedSharding(mesh(grid, axes), P(*("rows", "columns")[: len(grid)]))
    sharded = jax.device_put(V, placement)
    found = jaxnmf.factorize(sharded, RANK, max_iter=20, tol=0)
    expected = jaxnmf.factorize(V, RANK, max_iter=20, tol=0)
    np.testing.assert_allclose(found.W @ found.H, expected.W @ expected.H, rtol=1e-4)
    assert found.objective == pytest.approx(expected.objective, rel=1e-5)
    assert len(sharded.devices()) == 4
    assert sharded.sharding == placement
