"""The measurements on an accelerator, each a function that reports rows.

python parts.py PART ROWS_FILE [--small]
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

import jaxnmf
from jaxnmf import registry
from jaxnmf._util.platform import compiled_for
from jaxnmf.data.convert import as_operand
from jaxnmf.kernels import coordinate
from jaxnmf.objective.problem import Problem
from jaxnmf.run.loop import advance
from jaxnmf.run.programs import as_leaves, compiled, precision
from jaxnmf.solvers.base import operands_of
from jaxnmf.types import Factors

SMALL = "--small" in sys.argv
THREADS = 6  # that compile at once; with more, each waits for the device


def report(case: str, method: str, **quantities: Any) -> None:
    """Write a row for each quantity."""
    with Path(sys.argv[2]).open("a") as file:
        for quantity, value in quantities.items():
            row = {
                "part": sys.argv[1],
                "case": case,
                "method": method,
                "quantity": quantity.replace("_", " "),
                "value": value,
            }
            file.write(json.dumps(row) + "\n")
    shown = " ".join(f"{k}={v}" for k, v in quantities.items())
    print(f"{sys.argv[1]} | {case} | {method} | {shown}", flush=True)


def attempt(case: str, method: str, call: Callable[[], Any]) -> Any:
    """What a call returns; an exception is reported in its place."""
    try:
        return call()
    except Exception as error:
        traceback.print_exc()
        words = str(error).strip().splitlines() or [""]
        report(case, method, failed=f"{type(error).__name__}: {words[0][:200]}")
        return None


def seconds_of(call: Callable[[int], Any], about: float = 0.1) -> float:
    """Seconds of one repeat; ``call(n)`` does n and waits. The median of five."""

    def took(n: int) -> float:
        begin = time.perf_counter()
        call(n)
        return (time.perf_counter() - begin) / n

    call(2)
    n = int(min(max(about / max(took(3), 1e-7), 2), 2000))
    return statistics.median(took(n) for _ in range(5))


def together(calls: list[Callable[[], Any]]) -> list[Any]:
    """The results of calls on several threads, as they compile."""

    def one(call: Callable[[], Any]) -> Any:
        with precision("float32"):  # a setting of the thread
            return call()

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, calls))


def repeated(function: Callable[[Any], Any], x: Any) -> Callable[[int], Any]:
    """``call(n)``, which applies a function to x n times in one program."""

    def many(x: Any, n: Any) -> Any:
        return jax.lax.fori_loop(0, n, lambda _, x: function(x), x)

    program = jax.jit(many).lower(x, np.int32(1)).compile()
    return lambda n: jax.block_until_ready(program(x, np.int32(n)))


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


def blocks() -> None:
    """A pass over X by blocks of several sizes, of a dense V."""
    m, n, p = (50, 60, 4) if SMALL else (5000, 40_000, 20)
    matrix = Matrix(f"{m}×{n} p={p}", large(m, n, p), p, ("kl",))
    operand: Any = as_operand(matrix.V, jnp.float32)
    W, H = start_of(matrix)
    start = Factors(jnp.asarray(W.T), jnp.asarray(H))
    sizes = [2**k for k in ((8, 10) if SMALL else (20, 21, 22, 23, 24, 26, 28))]
    entries = [("mu", {}, "kl"), ("mu", {"joint": True}, "kl")]
    calls, names = [], []
    for entry in entries:
        for size in sizes:
            other = dataclasses.replace(operand, block=max(1, min(m, size // n)))
            calls.append(functools.partial(iteration, other, start, entry))
            names.append((method_of(entry), size))
    for (method, size), (call, _) in zip(names, together(calls), strict=True):
        seconds = attempt(matrix.name, method, functools.partial(seconds_of, call))
        report(matrix.name, f"{method}, {size} entries", ms=seconds and seconds * 1e3)


# Iterations.


class Matrix(NamedTuple):
    name: str
    V: Any
    rank: int
    losses: tuple[str, ...]


def matrices() -> Iterator[Matrix]:
    rng = np.random.default_rng(0)
    beta = ("frobenius", "kl", "itakura-saito")
    m, n, p = (30, 40, 4) if SMALL else (1025, 5168, 88)
    V = rng.gamma(1.0, size=(m, p)) @ rng.gamma(1.0, size=(p, n))
    V = (V * rng.uniform(0.5, 1.5, V.shape)).astype(np.float32)
    yield Matrix(f"{m}×{n} p={p}", V, p, beta)
    if not SMALL:
        faces = attempt(
            "cbcl_faces", "data", lambda: jaxnmf.datasets.load("cbcl_faces")
        )
        if faces is not None:
            yield Matrix(
                "cbcl_faces p=49", np.asarray(faces.V, np.float32), 49, beta[:2]
            )
    m, n, p = (50, 60, 4) if SMALL else (5000, 40_000, 20)
    V = large(m, n, p)
    yield Matrix(f"{m}×{n} p={p}", V, p, beta[:2])
    yield Matrix(
        f"{m}×{n} p={p}, a sixth stored", scipy.sparse.csr_array(V), p, beta[:2]
    )


def large(m: int, n: int, p: int) -> np.ndarray:
    """A product of factors with a sixth of its entries kept (33 of 200 million)."""
    rng = np.random.default_rng(0)
    V = rng.random((m, p), np.float32) @ rng.random((p, n), np.float32)
    V *= rng.integers(0, 256, V.shape, np.uint8) < 42
    return V


SOLVERS: list[tuple[str, dict[str, Any], str]] = [
    ("hals", {}, "frobenius"),
    ("hals", {"inner": 1}, "frobenius"),
    ("extrapolated", {}, "frobenius"),
    ("mu", {}, "frobenius"),
    ("mu", {}, "kl"),
    ("mu", {"joint": True}, "kl"),
    ("kl-newton", {}, "kl"),
    ("mu", {}, "itakura-saito"),
]


def start_of(matrix: Matrix) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    m, n = matrix.V.shape
    scale = np.sqrt(matrix.V.sum(dtype=np.float64) / (m * n) / matrix.rank)
    W = scale * rng.random((m, matrix.rank)) + 1e-3
    H = scale * rng.random((matrix.rank, n)) + 1e-3
    return W.astype(np.float32), H.astype(np.float32)


def method_of(entry: tuple[str, dict[str, Any], str]) -> str:
    name, options, loss = entry
    return " ".join([name, *(f"{k}={v}" for k, v in options.items()), f"({loss})"])


def iteration(operand: Any, start: Factors, entry: Any) -> tuple[Any, float]:
    """(``call(n)``, which does n iterations, seconds of its compilation)."""
    name, options, loss = entry
    problem = Problem.of(operand, registry.make_loss(loss))
    solver = as_leaves(registry.make_solver(name, options), operand.dtype)
    state = solver.init(problem, start, jax.random.key(0))
    arguments = (problem, solver, start, state)
    program, seconds = compiled(advance, *arguments, np.int32(1))
    return lambda n: jax.block_until_ready(program(*arguments, np.int32(n))), seconds


def iterations() -> None:
    """Solvers, their products alone, and torchnmf, on the same data."""
    for matrix in matrices():
        iterations_of(matrix)


def iterations_of(matrix: Matrix) -> None:
    operand = as_operand(matrix.V, jnp.float32)
    W, H = start_of(matrix)
    start = Factors(jnp.asarray(W.T), jnp.asarray(H))
    case = matrix.name
    products = attempt(case, "products", lambda: both_products(case, operand, start))
    chosen = [
        entry
        for entry in SOLVERS
        if entry[2] in matrix.losses
        and operand.kind in registry.solver_class(entry[0]).supports.operands
    ]
    calls = [
        functools.partial(
            attempt, case, method_of(e), functools.partial(iteration, operand, start, e)
        )
        for e in chosen
    ]
    for entry, made in zip(chosen, together(calls), strict=True):
        if made is None:
            continue
        method, (call, compiling) = method_of(entry), made
        seconds = attempt(case, method, functools.partial(seconds_of, call, 0.2))
        if seconds is not None:
            share = {"of_the_products": products / seconds} if products else {}
            report(case, method, ms=seconds * 1e3, compile_s=compiling, **share)
    if not scipy.sparse.issparse(matrix.V):
        peer(matrix, W, H)


def both_products(case: str, operand: Any, start: Factors) -> float:
    """Seconds of WᵀV and HVᵀ, and how near they are to the memory's rate."""

    def both(factors: Any) -> Any:
        Wt, H = factors
        # The results depend on each other's, so that no product is left out.
        H = H + 1e-30 * operand.dot(Wt)
        return Factors(Wt + 1e-30 * operand.T.dot(H), H)

    seconds = seconds_of(repeated(both, start))
    flops = 4 * operand.entries * len(start.H)
    size = operand.entries * (4 if operand.kind == "dense" else 8)
    report(
        case, "the two products", ms=seconds * 1e3,
        TFLOP_a_second=flops / seconds / 1e12, GB_a_second=2 * size / seconds / 1e9,
    )  # fmt: skip
    return seconds


def peer(matrix: Matrix, W: np.ndarray, H: np.ndarray) -> None:
    """torchnmf's multiplicative updates on the same device."""
    for package in ("torch", "torchnmf"):
        if importlib.util.find_spec(package) is None:
            report(matrix.name, "torchnmf", left_out=f"{package} is not installed")
            return
    torch: Any = importlib.import_module("torch")
    nmf: Any = importlib.import_module("torchnmf.nmf")

    device = "cuda" if torch.cuda.is_available() else "cpu"
    V = torch.tensor(matrix.V, device=device)
    for loss in matrix.losses:
        beta = {"frobenius": 2, "kl": 1, "itakura-saito": 0}[loss]
        gamma = 0.5 if beta < 1 else 1
        model = nmf.NMF(W=torch.tensor(H.T.copy()), H=torch.tensor(W)).to(device)

        def call(
            n: int, model: Any = model, beta: Any = beta, gamma: Any = gamma
        ) -> None:
            W, H = model.W, model.H
            for _ in range(n):
                plus = nmf._get_W_kl_positive(H.detach()) if beta == 1 else None
                X = model.reconstruct(H.detach(), W)
                nmf._double_backward_update(V, X, W, beta, gamma, 0, 0, plus)
                plus = nmf._get_H_kl_positive(W.detach()) if beta == 1 else None
                X = model.reconstruct(H, W.detach())
                nmf._double_backward_update(V, X, H, beta, gamma, 0, 0, plus)
            if device == "cuda":
                torch.cuda.synchronize()

        method = f"torchnmf ({loss})"
        seconds = attempt(matrix.name, method, lambda call=call: seconds_of(call, 0.2))
        if seconds is not None:
            report(matrix.name, method, ms=seconds * 1e3)
        del model
    if device == "cuda":
        torch.cuda.empty_cache()


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
