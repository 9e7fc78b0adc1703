"""Iterations of the solvers on an accelerator, beside their products and torchnmf."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from timing import SMALL, attempt, repeated, report, seconds_of, together

import jaxnmf
from jaxnmf import registry
from jaxnmf.baselines.torchnmf import State, TorchNMF
from jaxnmf.data.convert import as_operand
from jaxnmf.objective.problem import Problem
from jaxnmf.run.loop import advance
from jaxnmf.run.programs import as_leaves, compiled
from jaxnmf.types import Factors


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
        model = nmf.NMF(W=torch.tensor(H.T.copy()), H=torch.tensor(W)).to(device)
        state = State(V, model, registry.make_loss(loss))

        def call(n: int, state: State = state) -> None:
            TorchNMF().advance(state, n)
            if device == "cuda":
                torch.cuda.synchronize()

        method = f"torchnmf ({loss})"
        seconds = attempt(matrix.name, method, lambda call=call: seconds_of(call, 0.2))
        if seconds is not None:
            report(matrix.name, method, ms=seconds * 1e3)
        del model, state
    if device == "cuda":
        torch.cuda.empty_cache()


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
