"""Runs on a mesh: the same factors, and devices that send no more than they must."""

from __future__ import annotations

import math
import re
from typing import Any

import jax
import numpy as np
import pytest
import scipy.sparse
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxnmf
from jaxnmf.build import Objective, Start, draw_start, make_problem
from jaxnmf.costs import sent_bytes
from jaxnmf.data.convert import as_operand
from jaxnmf.data.known import Known
from jaxnmf.data.parts import Ranges
from jaxnmf.data.shards import balanced_order
from jaxnmf.distributed.mesh import as_placement, on_mesh
from jaxnmf.distributed.reading import read_onto
from jaxnmf.registry import make_solver
from jaxnmf.run.clock import _begin
from jaxnmf.run.loop import advance
from jaxnmf.run.programs import as_leaves, precision
from jaxnmf.solvers.hals import HALS

pytestmark = pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")

M, N, RANK = 17, 13, 3  # no multiple of two
V = np.random.default_rng(0).random((M, N), np.float32)
# Three quarters of the entries are in the first rows.
SKEWED = V * (np.where(np.arange(M) < 4, 0.9, 0.1)[:, None] > V)
AXES = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
each_axes = pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
SHORT: Any = {"max_iter": 20, "tol": 0, "solver": "hals", "init": "random"}


def mesh(grid: tuple[int, ...], axes: AxisType = AxisType.Auto) -> jax.sharding.Mesh:
    names = tuple("abcd"[: len(grid)])
    return jax.make_mesh(grid, names, axis_types=(axes,) * len(grid))


# --- What the devices send each other ------------------------------------------------


def sums(program: str) -> list[int]:
    """The bytes of each collective operation of a compiled program, all of which must
    be sums over devices."""
    found = re.findall(
        r"= (.*?) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)"
        r"(?:-start)?\(",
        program,
    )
    assert {kind for _, kind in found} <= {"all-reduce"}
    shapes = [re.findall(r"\bf32\[([\d,]*)\]", result) for result, _ in found]
    return [sum(4 * math.prod(map(int, x.split(","))) for x in y) for y in shapes]


def iterations(
    solver: str, loss: str, data: Any, grid: tuple[int, int]
) -> tuple[str, Any, Any]:
    """The compiled iterations, factors before them and after."""
    with precision("float32") as dtype:
        objective, made = Objective.of(loss), make_solver(solver)
        placement = as_placement(mesh(grid), data.shape, made)
        problem = make_problem(data, made, objective, dtype)
        factors = draw_start(problem, objective, Start.of(), RANK)
        problem, factors, _ = on_mesh(problem.plain, made, factors, placement)
        made = as_leaves(made, dtype)
        state = jax.jit(_begin)(problem, made, factors, jax.random.key(0))
        arguments = (problem, made, factors, state, np.int32(3))
        program = jax.jit(advance).lower(*arguments).compile()
        return str(program.as_text()), factors, program(*arguments)[0]


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("grid", [(2, 2), (4, 1)], ids=str)
def test_an_iteration_of_hals_sends_the_two_products_and_nothing_else(grid, form):
    (a, b), m, n = grid, 20, 16
    text, before, after = iterations("hals", "frobenius", form(np.eye(m, n) + 1), grid)
    of_H, of_W = 4 * RANK * (n // b + RANK), 4 * RANK * (m // a + RANK)
    expected = [of_H, of_W] if b > 1 else [of_H]
    assert sums(text) == expected
    shares = [2 * (k - 1) / k for k in (a, b)]
    total = np.dot(expected, shares[: len(expected)])
    assert sent_bytes(m, n, RANK, 4, grid) == pytest.approx(total)
    for X, Y in zip(before, after, strict=True):  # the next call finds them in place
        assert Y.sharding.is_equivalent_to(X.sharding, 2)


def test_multiplicative_updates_send_products_of_a_factor_and_its_sum():
    text, *_ = iterations("mu", "kullback-leibler", np.eye(20, 16) + 1, (2, 2))
    assert sums(text) == [4 * RANK * (8 + 1), 4 * RANK * (10 + 1)]


# --- The same result ------------------------------------------------------------------


def assert_same(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found.W @ found.H, expected.W @ expected.H, rtol=1e-3)
    assert found.objective == pytest.approx(expected.objective, rel=1e-5)
    assert found.relative_error == pytest.approx(expected.relative_error, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "loss"),
    [("dense", "frobenius"), ("sparse", "kullback-leibler"), ("observed", "frobenius")],
)
def test_factorize_on_a_grid(kind, loss):
    """Of a V that does not divide over the devices, whose entries are in few rows."""
    data, more = (V, {}) if kind == "dense" else (scipy.sparse.csr_array(SKEWED), {})
    if kind == "observed":
        data, more = V, {"mask": (SKEWED > 0) & (V > 0.8), "l2": 0.1}
    options = SHORT | more | {"loss": loss}
    if loss != "frobenius":
        options |= {"solver": "mu"}
    expected = jaxnmf.factorize(data, RANK, **options)
    found = jaxnmf.factorize(data, RANK, mesh="grid", **options)
    assert_same(found, expected)
    for one, other in zip(found.unobserved, expected.unobserved, strict=True):
        np.testing.assert_array_equal(one, other)


def test_factorize_takes_a_sharded_array():
    data = V[:16, :12]
    placement = NamedSharding(mesh((2, 2), AxisType.Explicit), P("a", "b"))
    sharded = jax.device_put(data, placement)
    found = jaxnmf.factorize(sharded, RANK, **SHORT)
    assert_same(found, jaxnmf.factorize(data, RANK, **SHORT))
    assert sharded.sharding == placement


@pytest.mark.slow
def test_a_sweep_of_a_sharded_array_runs_its_lanes_in_turn():
    data = V[:16, :12]
    sharded = jax.device_put(data, NamedSharding(mesh((2, 2)), P("a", "b")))
    options = SHORT | {"solver": "optax"}  # whose state begins with zeros
    found = jaxnmf.sweep(sharded, [RANK], 2, **options)
    assert [entry["group"] for entry in found.batching.values()] == [1]
    assert "workers=1" in next(iter(found.batching))
    expected = jaxnmf.factorize(data, RANK, seed=1, **options)
    assert_same(found.result(1), expected)
    assert_same(jaxnmf.factorize(sharded, RANK, seed=1, **options), expected)


@pytest.mark.slow
def test_a_constraint_on_rows_in_another_order():
    data = scipy.sparse.csr_array(SKEWED)
    simplex = {"constraints": ("simplex", "nonnegative"), "solver": "pgd"}
    options = SHORT | simplex
    expected = jaxnmf.factorize(data, RANK, **options)
    assert_same(jaxnmf.factorize(data, RANK, mesh=mesh((4, 1)), **options), expected)


# --- Blocks ---------------------------------------------------------------------------


def test_each_device_has_as_many_entries():
    solver, objective = make_solver("hals"), Objective.of()
    data = scipy.sparse.csr_array(SKEWED)
    problem = make_problem(data, solver, objective, np.dtype("float32"))
    factors = draw_start(problem, objective, Start.of(), RANK)
    placement = as_placement(mesh((2, 2)), data.shape, solver)
    operand = on_mesh(problem, solver, factors, placement)[0].operand
    counts = np.asarray(operand.counts)
    assert counts.sum() == data.nnz
    assert counts.max() < 1.5 * counts.mean()
    assert (SKEWED[:9] > 0).sum() > 1.5 * data.nnz / 2
    for part in operand.csr.data.addressable_shards:
        assert part.data.shape == (1, 1, counts.max())
    # The blocks are all of V, its rows and columns in another order.
    host = operand.to_host()
    for axis in (0, 1):
        found = np.sort(host.toarray().sum(axis))[-SKEWED.shape[1 - axis] :]
        np.testing.assert_allclose(found, np.sort(SKEWED.sum(axis)), rtol=1e-6)
    np.testing.assert_array_equal(operand.T.to_host().toarray(), host.toarray().T)


def test_rows_that_are_balanced_stay_in_order():
    np.testing.assert_array_equal(balanced_order(np.array([3, 1, 2, 2]), 2), range(4))
    found = balanced_order(np.array([9, 8, 1, 0]), 2)
    assert sorted(found) == [0, 1, 2, 3]
    assert {frozenset(found[:2]), frozenset(found[2:])} == {
        frozenset({0, 3}),
        frozenset({1, 2}),
    }


# --- Meshes ---------------------------------------------------------------------------


@each_axes
@pytest.mark.parametrize(
    ("sizes", "grid"),
    [
        ((4,), (4, 1)),
        ((1, 4), (1, 4)),
        ((4, 1), (4, 1)),
        ((1, 2, 1, 2), (2, 2)),
        ((1, 1, 4), (4, 1)),
        ((1, 1), (1, 1)),
    ],
    ids=str,
)
def test_any_mesh(sizes, grid, axes):
    found = as_placement(mesh(sizes, axes), (M, N), make_solver("hals"))
    assert found.grid == grid
    assert found.mesh.devices.size == np.prod(sizes)


@pytest.mark.parametrize(
    ("name", "shape", "solver", "grid"),
    [
        ("rows", (100, 10), "hals", (4, 1)),
        ("grid", (100, 10), "hals", (2, 2)),
        ("auto", (100, 100), "hals", (2, 2)),
        ("auto", (1000, 10), "hals", (4, 1)),
        ("auto", (10, 1000), "hals", (1, 4)),
        ("auto", (3, 1), "hals", (3, 1)),
        ("auto", (9, 6), "hals-online", (3, 1)),  # which takes no padded V
    ],
)
def test_a_grid_of_all_devices_by_name(name, shape, solver, grid, monkeypatch):
    four = jax.devices()[:4]
    monkeypatch.setattr(jax, "devices", lambda: four)
    assert as_placement(name, shape, make_solver(solver)).grid == grid


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("row", "mesh='row' is not known.*did you mean 'rows'"),
        (4, "mesh=4 must be a jax.sharding.Mesh"),
        ((2, 2), "must be a jax.sharding.Mesh"),
    ],
)
def test_what_is_no_mesh_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        jaxnmf.factorize(V, RANK, mesh=given)


def test_a_mesh_that_does_not_fit_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(jax, "jit", None)  # nothing is compiled
    with pytest.raises(ValueError, match=r"4×1 devices are too many for V of shape"):
        jaxnmf.factorize(V[:3], RANK, mesh=mesh((4, 1)))
    with pytest.raises(ValueError, match=r"'hals-online' needs a V whose shape div"):
        jaxnmf.factorize(V, RANK, mesh=mesh((2, 2)), solver="hals-online")
    devices = np.array(jax.devices()[:1] * 8).reshape(2, 2, 2)
    with pytest.raises(ValueError, match=r"axes x=2, y=2, z=2; .* at most two"):
        jaxnmf.factorize(V, RANK, mesh=jax.sharding.Mesh(devices, ("x", "y", "z")))


def test_batches_of_entries_are_refused_on_a_mesh():
    options: Any = {"solver": "optax", "solver_options": {"batch": 4}}
    with pytest.raises(ValueError, match=r"'optax'.*divided over several devices"):
        jaxnmf.factorize(V, RANK, mask=V > 0.9, mesh=mesh((1, 1)), **options)


# --- Blocks that are read onto the devices --------------------------------------------


class RowsOf:
    """Blocks of five rows, and which of them were read."""

    def __init__(self, V):
        self.V, self.shape, self.dtype, self.seen = V, V.shape, V.dtype, []

    def block(self, i):
        self.seen.append(i)
        return self.V[5 * i : 5 * i + 5]


def test_blocks_are_read_onto_the_devices_once():
    data = V[:16, :12]
    source = RowsOf(data)
    found = jaxnmf.factorize(jaxnmf.Blocks(source), RANK, mesh=mesh((2, 2)), **SHORT)
    assert source.seen == [0, 1, 2, 3] * 2  # once for the heights of the blocks
    assert_same(found, jaxnmf.factorize(data, RANK, **SHORT | {"init": "random"}))
    slices = jaxnmf.factorize(jaxnmf.Blocks(data, rows=7), RANK, mesh="auto", **SHORT)
    assert_same(slices, found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "scale"), [("frobenius", 2.0**60), ("kullback-leibler", 1.0)]
)
def test_sparse_blocks_are_read_onto_the_devices(loss, scale):
    data = scipy.sparse.csr_array(SKEWED[:16, :12].astype(float) * scale)
    blocks = jaxnmf.Blocks(RowsOf(data))
    options = SHORT | {"solver": "mu", "loss": loss, "init": "random"}
    found = jaxnmf.factorize(blocks, RANK, mesh=mesh((2, 2)), **options)
    expected = jaxnmf.factorize(data, RANK, **options)
    assert found.objective == pytest.approx(expected.objective, rel=1e-4)
    assert found.relative_error == pytest.approx(expected.relative_error, rel=1e-4)
    # Each device has only its own entries.
    known = Known(
        read_onto(blocks, as_placement(mesh((2, 2)), (16, 12), HALS()), "f4"), None
    )
    placed = as_operand(known, "float32", unit=scale)
    counts = np.asarray(placed.on_devices().counts)
    parts = SKEWED[:16, :12].reshape(2, 8, 2, 6)
    np.testing.assert_array_equal(counts, (parts > 0).sum((1, 3)))


@pytest.mark.parametrize("loss", ["frobenius", "itakura-saito"])
def test_blocks_whose_shape_does_not_divide_are_padded(loss):
    """With what pads V at the floor of the loss, where this one is infinite at 0."""
    options = SHORT | {"loss": loss, "solver": "mu"}
    source = RowsOf(V)
    found = jaxnmf.factorize(jaxnmf.Blocks(source), RANK, mesh=mesh((2, 2)), **options)
    assert_same(found, jaxnmf.factorize(V, RANK, **options))
    assert source.seen == [0, 1, 2, 3] * 2


def blocks_with_entries():
    """Sparse blocks whose source has the entries of each row without reading."""
    data = scipy.sparse.csr_array(SKEWED)
    source = RowsOf(data)
    source.indptr = data.indptr
    return data, jaxnmf.Blocks(source)


@pytest.mark.slow
def test_sparse_blocks_that_are_divided_unevenly():
    data, blocks = blocks_with_entries()
    found = jaxnmf.factorize(blocks, RANK, mesh=mesh((4, 1)), **SHORT)
    assert_same(found, jaxnmf.factorize(data, RANK, **SHORT))


def test_rows_of_sparse_blocks_are_divided_by_their_entries():
    _, blocks = blocks_with_entries()
    parts = read_onto(blocks, as_placement(mesh((4, 1)), (M, N), HALS()), "f4")
    placed = as_operand(Known(parts, None), "float32")
    np.testing.assert_array_equal(placed.to_host().toarray(), SKEWED)
    counts = np.asarray(placed.on_devices().counts)[:, 0]
    even = [(SKEWED[a : a + 5] > 0).sum() for a in (0, 5, 10, 15)]
    assert counts.sum() == sum(even)
    assert counts.max() < 0.7 * max(even)
    assert parts.ranges[0].height <= 2 * -(-M // 4)


@pytest.mark.parametrize("parts", [1, 3, 4])
def test_ranges_have_every_row_once(parts):
    counts = np.random.default_rng(2).integers(0, 9, 11) ** 3
    even = Ranges.even(11, -(-11 // parts), parts)
    for ranges in (even, Ranges.balanced(counts, even)):
        assert (np.diff(ranges.bounds) >= 0).all()
        places = np.arange(11) if ranges.places is None else ranges.places
        order = ranges.order
        order = np.arange(ranges.padded) if order is None else order
        np.testing.assert_array_equal(order[places], np.arange(11))
        np.testing.assert_array_equal(np.sort(order), np.arange(ranges.padded))
        part = places // ranges.height
        np.testing.assert_array_equal(
            np.bincount(part, minlength=parts), np.diff(ranges.bounds)
        )


def test_more_devices_than_parts_with_rows():
    """Of five rows in parts of two the last device has none."""
    data = V[:5]
    options = SHORT | {"solver": "mu"}
    blocks = jaxnmf.Blocks(data, rows=2)
    found = jaxnmf.factorize(blocks, 2, mesh=mesh((4, 1)), **options)
    assert_same(found, jaxnmf.factorize(data, 2, **options))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.where(V[:16] == V[9, 2], np.nan, V[:16]), "holds NaN"),
        (V[:16].astype("U5"), "contain real numbers"),
    ],
)
def test_blocks_that_do_not_fit_a_mesh_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        jaxnmf.factorize(jaxnmf.Blocks(data, rows=5), RANK, mesh=mesh((4, 1)))
