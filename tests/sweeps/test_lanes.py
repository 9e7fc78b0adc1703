"""Programs of lanes that may not run at once."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnmf.run import programs

# Both threads factorise many small matrices, each in a thread of a pool of two: of a
# rank for which the factors are not written out.
SWEEP = """
import jaxnmf, numpy as np
V = np.random.default_rng(0).random((5000, 38), np.float32)
for first in (0, 60):
    seeds = list(range(first, first + 60))
    jaxnmf.sweep(V, [6], seeds, solver="anls-bpp", max_iter=4, tol=0, progress=False)
"""


@pytest.mark.slow
def test_lanes_of_solvers_that_call_lapack_end():
    subprocess.run([sys.executable, "-c", SWEEP], check=True, timeout=240)


def test_programs_that_call_lapack_run_in_turn():
    X = jnp.stack([jnp.eye(3)] * 4)
    product, _ = programs.compiled(_product, X)
    assert programs.in_turn(product) is product
    roots, _ = programs.compiled(jnp.linalg.cholesky, X)
    found = programs.in_turn(roots)
    assert found is not roots
    np.testing.assert_array_equal(found(X), X)


def _product(X: jax.Array) -> jax.Array:
    return X @ X
