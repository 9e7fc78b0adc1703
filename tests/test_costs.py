"""Formulas of costs against XLA's own analysis of the compiled programs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from scipy.sparse import csr_array

from jaxnmf import costs
from jaxnmf._util.platform import compiled_for
from jaxnmf.data.convert import as_operand
from jaxnmf.kernels.repeats import inner_repeats
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import make_loss, make_solver
from jaxnmf.run import programs
from jaxnmf.run.loop import advance
from jaxnmf.types import Factors

M, N = 512, 256
DENSE = np.random.default_rng(0).random((M, N), np.float32)
EACH = 8  # stored entries of a row: a power of two, as of padded rows
SPARSE = csr_array(
    (
        np.ones(M * EACH, np.float32),
        (np.arange(M)[:, None] * 3 + np.arange(EACH) * 31).ravel() % N,
        np.arange(M + 1) * EACH,
    ),
    shape=(M, N),
)
DENSITY = EACH / N
HALS = make_solver("hals", {"inner": 1})
SOLVERS = {
    "hals": (HALS, (1, 1)),
    "hals, two sweeps": (make_solver("hals", {"inner": 2}), (2, 2)),
    "mu": (make_solver("mu"), (0, 0)),
    "extrapolated": (make_solver("extrapolated", {"inner": HALS}), (1, 1)),
}


def parts(V, solver, p):
    """A problem, and the arguments of a step of a solver."""
    problem = Problem.of(as_operand(V), make_loss("frobenius")).plain
    solver = programs.as_leaves(solver, np.float32)
    factors = Factors(jnp.ones((p, M)), jnp.ones((p, N)))
    return problem, solver, factors, solver.init(problem, factors, jax.random.key(0))


@pytest.fixture
def analysis(monkeypatch):
    """XLA's analysis of a step, in which every turn of a loop counts."""

    def unrolled(first, last, body, x):
        for i in range(first, last):
            x = body(i, x)
        return x

    def of(V, solver, p):
        problem, solver, factors, state = parts(V, solver, p)
        with monkeypatch.context() as there:
            there.setattr(jax.lax, "fori_loop", unrolled)
            # A function of its own, which no cache knows.
            step = jax.jit(lambda *x: type(solver).step(*x))
            program = step.lower(solver, problem, factors, state).compile()
        found = program.cost_analysis()
        assert found is not None
        return found

    return of


@pytest.mark.slow
@pytest.mark.parametrize("p", [8, 16])
@pytest.mark.parametrize("name", SOLVERS)
def test_of_a_dense_V(name, p, analysis):
    solver, repeats = SOLVERS[name]
    found, kind = analysis(DENSE, solver, p), name.split(",")[0]
    flops = costs.product_flops(M, N, p, 1)
    flops += costs.factor_flops(M, N, p, kind, repeats)
    assert flops == pytest.approx(found["flops"], rel=0.01)
    moved, gathered = costs.product_bytes(M, N, p, 1, 4)
    moved += costs.factor_bytes(M, N, p, 1, 4, kind, repeats, tiled=False)
    assert gathered == 0
    assert moved == pytest.approx(found["bytes accessed"], rel=0.1)


@pytest.mark.parametrize("name", SOLVERS)
def test_of_a_sparse_V_on_a_cpu(name, analysis):
    """XLA counts no operations of the compiled product, and no gathered rows."""
    solver, repeats = SOLVERS[name]
    found, kind = analysis(SPARSE, solver, 8), name.split(",")[0]
    flops = costs.factor_flops(M, N, 8, kind, repeats)
    assert flops == pytest.approx(found["flops"], rel=0.06)
    moved, _ = costs.product_bytes(M, N, 8, DENSITY, 4)
    moved += costs.factor_bytes(M, N, 8, DENSITY, 4, kind, repeats, tiled=False)
    assert moved == pytest.approx(found["bytes accessed"], rel=0.1)


def test_the_products_of_a_sparse_V():
    """In the form without a compiled product, where all is counted."""
    with compiled_for("tpu"):
        problem, _, factors, _ = parts(SPARSE, HALS, 64)
        both = jax.jit(lambda V, W, H: (V.dot(W), V.T.dot(H)))
        program = both.lower(problem.operand, *factors).compile()
    lengths = np.bincount(SPARSE.indices, minlength=N)
    np.testing.assert_array_equal(lengths, M * EACH // N)  # no row is filled up
    flops = costs.product_flops(M, N, 64, DENSITY)
    # The rest is arithmetic with places.
    found = program.cost_analysis() or {}
    assert flops == pytest.approx(found["flops"], rel=0.06)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize(("V", "density"), [(DENSE, 1), (SPARSE, DENSITY)])
def test_the_memory_of_V(V, density, platform):
    with compiled_for(platform):
        problem, *_ = parts(V, HALS, 8)
    stored = sum(x.nbytes for x in jax.tree.leaves(problem.operand))
    found = costs.memory(M, N, 8, density, 4, "hals", platform == "tpu")["V"]
    # Padded rows are filled up to twice their length, or not at all.
    low = 0.6 if platform == "tpu" and density < 1 else 0.99
    assert low * found <= stored <= 1.01 * found


@pytest.mark.parametrize("name", ["hals", "mu", "extrapolated"])
def test_the_memory_of_factors(name):
    arguments = parts(DENSE, make_solver(name), 16)
    found = jax.jit(advance).lower(*arguments, np.int32(3)).compile().memory_analysis()
    used = found.argument_size_in_bytes + found.output_size_in_bytes
    used += found.temp_size_in_bytes - DENSE.nbytes
    expected = costs.memory(M, N, 16, 1, 4, name, False)["factors"]
    assert 0.8 * expected <= used <= expected


@pytest.mark.parametrize("p", [4, 16, 64])
@pytest.mark.parametrize(("V", "density"), [(DENSE, 1), (SPARSE, DENSITY)])
def test_the_sweeps_are_those_that_hals_chooses(V, density, p):
    problem, _, factors, _ = parts(V, HALS, p)
    chosen = (
        inner_repeats(problem.T, factors.Wt, 0),
        inner_repeats(problem, factors.H, 0),
    )
    assert costs.sweeps(M, N, p, density, "cpu") == tuple(map(int, chosen))


@pytest.mark.slow
@pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")
@pytest.mark.parametrize("name", ["hals", "mu", "extrapolated"])
@pytest.mark.parametrize("grid", [(2, 2), (4, 1)])
def test_what_devices_send(grid, name):
    """The numbers that the compiled half-steps sum over devices."""
    p, (a, b), axes = 8, grid, (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh(grid, ("a", "b"), axis_types=axes)

    def put(x, *axes):
        return jax.device_put(x, NamedSharding(mesh, P(*axes)))

    problem, solver, factors, _ = parts(put(DENSE, "a", "b"), SOLVERS[name][0], p)
    factors = Factors(put(factors.Wt, None, "a"), put(factors.H, None, "b"))
    state = solver.init(problem, factors, jax.random.key(0))
    step = jax.jit(lambda *x: type(solver).step(*x))
    text = step.lower(solver, problem, factors, state).compile().as_text()
    sent, count = 0.0, 0
    for shapes in re.findall(r"= (.*?) all-reduce(?:-start)?\(", text):
        sizes = re.findall(r"f32\[([\d,]*)\]", shapes)
        numbers = sum(np.prod([int(x) for x in s.split(",") if x]) for s in sizes)
        devices = a if numbers == p * p + p * N // b else b
        sent += 4 * 2 * numbers * (devices - 1) / devices
        count += numbers > p * p
    assert count == sum(size > 1 for size in grid)
    # And a few sums that are one number each.
    expected = costs.sent_bytes(M, N, p, 4, grid)
    assert expected <= sent <= 1.01 * expected


def test_the_best_grid_sends_least():
    assert costs.best_grid(1e9, 1e6, 50, 1024) == (1024, 1)
    assert costs.best_grid(1e6, 1e9, 50, 1024) == (1, 1024)
    assert costs.best_grid(1e6, 1e6, 50, 1024) == (32, 32)
    assert costs.best_grid(3, 1e6, 2, 8) in [(1, 8), (2, 4)]
