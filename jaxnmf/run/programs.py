"""Compiled programs: their precision, cache and hash."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnmf._util.names import suggestion
from jaxnmf._util.platform import on_cpu
from jaxnmf.data.arrays import as_leaf

PRECISION = "highest"
MOST_MAPPINGS = 30_000
# LLVM does not optimise, and XLA writes a program as one piece, by its older emitters
# where it has them (before jaxlib 0.11).
QUICK: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,
}
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
    QUICK["xla_cpu_use_fusion_emitters"] = False
# Of a small problem, each half a millisecond slower in a program compiled quickly, for
# about a second of compiling.
WORTH_COMPILING = 2000


_used = False  # whether this process, or the one it was forked from, ran anything
_forked = False


def _note_fork() -> None:
    # What a hook raises Python swallows, so that the next call has to.
    global _forked
    _forked = _used


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


@contextlib.contextmanager
def precision(dtype: Any) -> Iterator[np.dtype]:
    """Work in float32 or float64 with exact products, whatever the global settings.

    Yields the dtype. Accelerators would else round float32 products to TF32 or
    bfloat16, and results would differ between devices in the third digit.

    Raises:
      ValueError: for another dtype.
      RuntimeError: in a process forked from one that had used jaxnmf, which would hang.
    """
    global _used
    if _forked:
        raise RuntimeError(
            "this process was forked from one that had used jaxnmf, and JAX's threads "
            "do not survive a fork; start workers with "
            "multiprocessing.get_context('spawn'), or with joblib.Parallel"
        )
    _used = True
    known = {name: np.dtype(name) for name in ("float32", "float64")}
    try:
        name = None if dtype is None else np.dtype(dtype).name  # NumPy's is float64
    except TypeError:
        name = None
    if name not in known:
        raise ValueError(
            f"dtype={dtype!r} is not one of {', '.join(known)}"
            f"{suggestion(str(dtype), known)}"
        )
    with jax.default_matmul_precision(PRECISION), jax.enable_x64(name == "float64"):
        yield known[name]


def as_leaves(tree: Any, dtype: Any) -> Any:
    """The tree with every float setting as an array of the data's precision, so that a
    new value is new data for the same program."""
    return jax.tree.map(partial(as_leaf, dtype=dtype), tree)


_programs: dict[Any, Any] = {}
_iterations: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


def compiled(
    function: Callable[..., Any], *args: Any, **options: Any
) -> tuple[Any, float]:
    """The compiled program of a function for arguments of these shapes and types.

    Args:
      function: what to compile.
      args: the arguments; values do not matter.
      options: of the compiler, for this program alone.

    Returns:
      The program, and the seconds that compiling took: 0 for one that was compiled
      before in this process.
    """
    leaves, structure = jax.tree.flatten(args)
    kinds = tuple(
        (np.shape(x), _dtype(x), getattr(x, "sharding", None)) for x in leaves
    )
    context = (jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision)  # pyright: ignore
    signature = (function, structure, kinds, context, tuple(options.items()))
    if signature in _programs:
        return _programs[signature], 0.0
    make_room()
    start = time.perf_counter()
    program = jax.jit(function, compiler_options=options).lower(*args).compile()
    # The oldest is dropped: thousands of shapes must not fill the memory.
    if len(_programs) >= 256:
        _programs.pop(next(iter(_programs)))
    _programs[signature] = program
    return program, time.perf_counter() - start


def _dtype(x: Any) -> Any:
    # `jax.dtypes.result_type` takes microseconds for each of some thirty arrays.
    return x.dtype if hasattr(x, "dtype") else jax.dtypes.result_type(x)


_turn = threading.Lock()


def in_turn(program: Any) -> Callable[..., Any]:
    """The program, and where it calls LAPACK on a CPU one call at a time of all such.

    JAX's batched LAPACK calls occupy a thread of XLA's pool while they wait for other
    threads of that pool: as many programs at once as it has threads wait for ever.
    Seen with jaxlib 0.10.2, where `xla_cpu_multi_thread_eigen=False` does not help, and
    not with 0.12.0.
    """
    if 'custom_call_target="lapack_' not in program.as_text():
        return program

    def call(*args: Any) -> Any:
        with _turn:
            return jax.block_until_ready(program(*args))

    return call


def compiled_quickly(function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """`compiled` for small problems: compiled two to six times faster for a program
    that runs two to four times slower, until that has done so many iterations that
    compiling it well is worth the time."""
    if not on_cpu():
        return compiled(function, *args)
    program, seconds = compiled(function, *args, **QUICK)
    if _iterations.get(program, 0) < WORTH_COMPILING:
        return program, seconds
    program, more = compiled(function, *args)
    return program, seconds + more


def note_iterations(program: Any, count: int) -> None:
    """Count iterations that a program has done, for `compiled_quickly`."""
    _iterations[program] = _iterations.get(program, 0) + count


def make_room() -> None:
    """Drop every compiled program when the process has little room for more.

    On a CPU each holds several memory mappings, of which Linux gives a process 65530;
    beyond that the compiler aborts. A long study or session reaches it, since jax keeps
    programs of its own besides those of this module.
    """
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPPINGS:
        _programs.clear()
        jax.clear_caches()
        gc.collect()


_hashes: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def program_hash(program: Any) -> str:
    """The first digits of the SHA-256 of the instructions of a compiled program,
    without its notes on source lines."""
    if program not in _hashes:
        _hashes[program] = _hash(program)
    return _hashes[program]


def _hash(program: Any) -> str:
    text = re.sub(r"metadata=\{[^}]*\}", "", program.as_text())
    text = re.sub(r"(?m)^(\d+ .*|(File|Function|Stack)\w+)\n", "", text)
    text = re.sub(r"[ \t]+", " ", text)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
