"""The two products of sparse data, each in two forms; milliseconds a pass.

First V times a factor: by compiled rows, and by the padded rows that stand in where a
platform has no compiled product. Then W H at the stored entries, by gathers or from
blocks of W H: entries at random places, at several densities and ranks. What is chosen
is the second form where density × p is at least `jaxnmf.data.sparse.BLOCKS_FROM`.

    python experiments/benchmarks/sparse_products.py
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import alternate

from jaxnmf import datasets
from jaxnmf.data import csr
from jaxnmf.data.convert import as_operand
from jaxnmf.data.sparse import Sparse

SIZES = [(1000, 1000), (20_000, 2000)]
DENSITIES = [0.01, 0.05, 0.1, 0.2, 0.4]
RANKS = [8, 20, 50]
REPEATS = 15


def medians(*programs: Any) -> list[float]:
    """Milliseconds a call of each, called in turn."""

    def call(one: Any) -> None:
        jax.block_until_ready(one())

    calls = [partial(call, one) for one in programs]
    alternate(2, *calls)
    return [1e3 * float(np.median(x)) for x in alternate(REPEATS, *calls)]


def by_rows() -> None:
    program = jax.jit(lambda operand, X: operand.dot(X))
    for name, p in (("newsgroups20_w1000", 20), ("kos_blogs", 50)):
        V: Any = datasets.load(name).V
        forms = []
        for csr.COMPILED in (("cpu", "gpu"), ()):
            forms.append(as_operand(V.astype(np.float32)))
        for side in ("V", "Vᵀ"):
            X = jnp.ones((p, forms[0].shape[0]), jnp.float32)
            compiled, padded = medians(*(partial(program, x, X) for x in forms))
            print(
                f"{name} p={p}, a factor times {side}: compiled {compiled:.2f} ms, "
                f"padded rows {padded:.2f} ms",
                flush=True,
            )
            forms = [x.T for x in forms]
    csr.COMPILED = ("cpu", "gpu")


def at_stored() -> None:
    from scipy.sparse import random_array

    rng = np.random.default_rng(0)
    forms = [jax.jit(Sparse._gathered), jax.jit(Sparse._from_blocks)]
    for m, n in SIZES:
        for density in DENSITIES:
            V = random_array((m, n), density=density, rng=rng, dtype=np.float32)
            operand = as_operand(V)
            for p in RANKS:
                Wt, H = (
                    jnp.asarray(rng.random((p, size)), jnp.float32) for size in (m, n)
                )
                programs = (partial(form, operand, Wt, H) for form in forms)
                gathers, blocks = medians(*programs)
                print(
                    f"{m}×{n}, {density:4.0%} stored, p={p}: gathers {gathers:6.2f} "
                    f"ms, blocks {blocks:6.2f} ms, density × p = {density * p:.2g}",
                    flush=True,
                )


if __name__ == "__main__":
    by_rows()
    at_stored()
