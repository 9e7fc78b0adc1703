"""The measurements on an accelerator, each a function that reports rows.

python parts.py PART ROWS_FILE [--small]
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from iterations import blocks, iterations, large, method_of
from timing import SMALL, attempt, repeated, report, seconds_of, together

import jaxnmf
from jaxnmf import registry
from jaxnmf._util.platform import compiled_for
from jaxnmf.data.convert import as_operand
from jaxnmf.kernels import coordinate
from jaxnmf.objective.problem import Problem
from jaxnmf.run.programs import precision
from jaxnmf.solvers.base import operands_of

# The machine.


def machine() -> None:
    """What the device is, and its rates."""
    device = jax.devices()[0]
    report("device", str(device.device_kind), platform=device.platform)
    report("versions", "jax", version=jax.__version__)
    size = 2**16 if SMALL else 2**28
    x = jnp.ones((size,), jnp.float32)
    seconds = seconds_of(repeated(lambda x: x * 1.0001, x))
    report("rates", "copy", GB_a_second=8 * size / seconds / 1e9)
    k = 128 if SMALL else 8192
    a = jax.random.uniform(jax.random.key(0), (k, k)) / k
    seconds = seconds_of(repeated(lambda x: x @ a, a))
    report("rates", f"float32 product {k}", TFLOP_a_second=2 * k**3 / seconds / 1e12)
    tiny = jnp.ones((32,), jnp.float32)

    def chain(x: Any) -> Any:
        return jax.lax.fori_loop(0, 100, lambda i, x: jnp.sin(x + i), x)

    report("rates", "step of a loop", us=seconds_of(repeated(chain, tiny)) * 1e4)
    report("rates", "loop condition on the host", us=seconds_of(
        repeated(jnp.sin, tiny)) * 1e6)  # fmt: skip


# The forms of a sweep.


@contextlib.contextmanager
def form(tile: int) -> Iterator[None]:
    """A sweep by tiles of at most so many rows, or with 0 the form of a CPU."""
    chosen = coordinate.UNROLLED
    coordinate.UNROLLED = tile
    try:
        with compiled_for("gpu" if tile else "cpu"):
            yield
    finally:
        coordinate.UNROLLED = chosen


def forms() -> None:
    """A sweep row by row, and by tiles of several sizes."""
    shapes = [(20, 40_000, 1), (49, 2429, 1), (88, 5168, 1), (10, 5000, 60)]
    if SMALL:
        shapes = [(5, 50, 1), (5, 40, 3)]
    calls, names = [], []
    for p, n, lanes in shapes:
        # Of equal tiles.
        tiles = {-(-p // -(-p // most)): most for most in (64, 32, 16, 8)}
        for tile, most in [(0, 0), *sorted(tiles.items())]:
            calls.append(sweep_program(p, n, lanes, most))
            names.append((f"p={p}, {n} columns, {lanes} lanes", tile))
    for (case, tile), program in zip(names, together(calls), strict=True):
        method = f"tiles of {tile}" if tile else "row by row"
        seconds = attempt(case, method, functools.partial(seconds_of, program))
        report(case, method, us=seconds and seconds * 1e6)


def sweep_program(p: int, n: int, lanes: int, tile: int) -> Callable[[], Any]:
    """What compiles a program of many sweeps, each with its products."""
    rng = np.random.default_rng(0)
    V = rng.random((30, n), np.float32)
    problem = Problem.of(as_operand(V, jnp.float32), registry.make_loss("frobenius"))
    W = jnp.asarray(rng.random((lanes, p, 30), np.float32))
    X = jnp.asarray(rng.random((lanes, p, n), np.float32))

    def once(W: Any, X: Any) -> Any:
        gram, cross = problem.quadratic(W)
        return coordinate.sweep(problem, gram, cross, X)

    def many(W: Any, X: Any, n: Any) -> Any:
        step = jax.vmap(once) if lanes > 1 else lambda W, X: once(W[0], X[0])[None]
        return jax.lax.fori_loop(0, n, lambda _, X: step(W, X), X)

    with form(tile):
        lowered = jax.jit(many).lower(W, X, np.int32(1))

    def compiled() -> Any:
        program = lowered.compile()
        return lambda n: jax.block_until_ready(program(W, X, np.int32(n)))

    return compiled


# Sparse products.


def sparse() -> None:
    """WᵀV, VHᵀ, and W H at the stored entries in three forms."""
    sizes = [(5000, 40_000, 42 / 256), (50_000, 30_000, 1 / 300), (3430, 6906, 0.0149)]
    for m, n, density in [(50, 60, 0.2)] if SMALL else sizes:
        rng = np.random.default_rng(0)
        if density > 0.1:
            V = scipy.sparse.csr_array(large(m, n, 20))
        else:
            places = np.unique(rng.integers(0, m * n, int(m * n * density)))
            values = rng.random(len(places), np.float32)
            V = scipy.sparse.csr_array((values, (places // n, places % n)), (m, n))
        operand: Any = as_operand(V, jnp.float32)
        calls, names = [], []
        for p in (20, 50):
            x = (
                jnp.asarray(rng.random((p, m), np.float32)),
                jnp.asarray(rng.random((p, n), np.float32)),
                jnp.ones((V.nnz,), jnp.float32),
            )
            for method, function in sparse_products(operand).items():
                case = f"{m}×{n}, {V.nnz} stored, p={p}"
                names.append((case, method, p))
                made = functools.partial(repeated, function, x)
                calls.append(functools.partial(attempt, case, method, made))
        for (case, method, p), call in zip(names, together(calls), strict=True):
            timed = functools.partial(seconds_of, call)
            seconds = call and attempt(case, method, timed)
            if seconds:
                rate = 2 * V.nnz * p / seconds / 1e9
                report(case, method, ms=seconds * 1e3, GFLOP_a_second=rate)


def sparse_products(operand: Any) -> dict[str, Callable[[Any], Any]]:
    """Functions of (W, H, entries), each of which depends on its last result."""

    def left(x: Any) -> Any:
        return x[0] + 1e-30 * operand.dot(x[0]).sum(), x[1], x[2]

    def right(x: Any) -> Any:
        return x[0], x[1] + 1e-30 * operand.T.dot(x[1]).sum(), x[2]

    def at_stored(form: Any) -> Any:
        return lambda x: (x[0] + 1e-30 * x[2][0], x[1], form(x[0], x[1]))

    return {
        "WᵀV": left,
        "VHᵀ": right,
        "WH by components": at_stored(operand._gathered),
        "WH by rows": at_stored(operand._from_rows),
        "WH by blocks": at_stored(operand._from_blocks),
    }


# Lanes.


def lanes() -> None:
    """Sweeps of 180 lanes at 5000×38 and of 10 000 at 200×100, compiled before."""
    rng = np.random.default_rng(0)

    def planted(m: int, n: int, p: int) -> np.ndarray:
        V = rng.gamma(1.0, size=(m, p)) @ rng.gamma(1.0, size=(p, n))
        return (V * rng.uniform(0.7, 1.3, V.shape)).astype(np.float32)

    genes, thin = planted(5000, 38, 6), planted(200, 100, 5)
    cases = [(genes, range(2, 11), 20, 200), (thin, [5], 10_000, 100)]
    if SMALL:
        cases = [(genes[:40], [2, 3], 2, 20), (thin[:30, :20], [5], 12, 10)]
    for V, ranks, seeds, max_iter in cases:
        for entry in (("hals", {"inner": 1}, "frobenius"), ("mu", {}, "kl")):
            case = f"{V.shape[0]}×{V.shape[1]}, {len(ranks) * seeds} lanes"
            call = functools.partial(many_runs, V, ranks, max_iter, entry)
            attempt(
                case,
                method_of(entry),
                functools.partial(lanes_of, case, entry, call, seeds),
            )


def many_runs(V: Any, ranks: Any, max_iter: int, entry: Any, seeds: int) -> Any:
    solver, options, loss = entry
    return jaxnmf.sweep(
        V, ranks, seeds, solver=solver, loss=loss, solver_options=options,
        max_iter=max_iter, tol=0, progress=False,
    )  # fmt: skip


def lanes_of(case: str, entry: Any, call: Callable[[int], Any], seeds: int) -> None:
    first = call(min(seeds, 256))
    found = call(seeds)
    report(
        case,
        method_of(entry),
        seconds=found.seconds - found.compile_seconds,
        of_which_lanes=sum(entry["seconds"] for entry in found.batching.values()),
        best=float(min(run.trace.objective[-1] for run in found.runs)),
        compile_s=first.compile_seconds + found.compile_seconds,
    )


# Answers.


def answers() -> None:
    """Every solver on dense, sparse and observed data, from one start."""
    rng = np.random.default_rng(3)
    V = rng.gamma(1.0, size=(60, 4)) @ rng.gamma(1.0, size=(4, 40)) + 0.05
    V = (V * rng.uniform(0.6, 1.4, V.shape)).astype(np.float32)
    mask = rng.random(V.shape) < 0.7
    square = (V @ V.T / V.mean()).astype(np.float32)
    thin = scipy.sparse.csr_array(V * (rng.random(V.shape) < 0.4))
    thin_square = scipy.sparse.csr_array(thin @ thin.T)
    names = registry.solvers()[:3] if SMALL else registry.solvers()

    def run(name: str, kind: str, loss: str) -> None:
        symmetric = registry.solver_class(name).supports.symmetric
        data: Any = (square, thin_square) if symmetric else (V, thin)
        given: dict[str, Any] = {"mask": mask} if kind == "observed" else {}
        # The repeats that sizes suggest differ between platforms.
        once: Any = {int: 1, str: registry.make_solver("hals", {"inner": 1})}
        options = {
            option.name: once[type(option.default)]
            for option in registry.options(registry.solver_class(name))
            if option.name == "inner"
        }
        found = jaxnmf.factorize(
            data[kind == "sparse"], 4, solver=name, loss=loss, seed=0, max_iter=30,
            tol=0, record_every=30, kkt=False, solver_options=options, **given,
        )  # fmt: skip
        report(f"{name} ({loss})", kind, objective=float(found.objective))

    calls = []
    for name in names:
        solver = registry.make_solver(name)
        for kind in ("dense", "sparse", "observed"):
            if kind not in operands_of(solver):
                continue
            for loss in registry.losses():
                value = registry.make_loss(loss)
                fits = kind != "sparse" or value.separable_zeros
                if solver.supports.includes(value) and fits:
                    call = functools.partial(run, name, kind, loss)
                    case = f"{name} ({loss})"
                    calls.append(functools.partial(attempt, case, kind, call))
                    break
    together(calls)


# Bits.


def bits() -> None:
    """The same run twice."""
    rng = np.random.default_rng(0)
    m, n, p = (30, 20, 3) if SMALL else (800, 600, 12)
    V = rng.random((m, p)) @ rng.random((p, n)) + 0.1 * rng.random((m, n))
    V = V.astype(np.float32)
    thin = scipy.sparse.csr_array(V * (rng.random(V.shape) < 0.1))
    kinds: dict[str, tuple[Any, Any]] = {
        "dense": (V, None),
        "sparse": (thin, None),
        "observed": (V, rng.random(V.shape) < 0.5),
    }

    def twice(solver: str, loss: str, kind: str) -> None:
        data, mask = kinds[kind]
        first, second = (
            jaxnmf.factorize(
                data, p, solver=solver, loss=loss, mask=mask, max_iter=50, tol=0
            )
            for _ in range(2)
        )
        same = np.array_equal(first.W, second.W) and np.array_equal(first.H, second.H)
        apart = float(np.abs(first.W - second.W).max() / first.W.max())
        report(f"{solver} ({loss})", kind, same_bits=bool(same), apart=apart)

    pairs = (("hals", "frobenius"), ("extrapolated", "frobenius"), ("mu", "kl"))
    together([
        functools.partial(
            attempt, f"{solver} ({loss})", kind,
            functools.partial(twice, solver, loss, kind),
        )
        for solver, loss in pairs
        for kind in kinds
    ])  # fmt: skip


PARTS = {
    f.__name__: f
    for f in (machine, forms, blocks, iterations, sparse, lanes, answers, bits)
}

if __name__ == "__main__":
    with precision("float32"):
        PARTS[sys.argv[1]]()
