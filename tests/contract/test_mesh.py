r"""Every solver of the registry gives on a mesh of devices what it gives on one, for
every kind of V that it supports.

The suite tests each dense, every third with one of its other kinds of V too, and each
with one mesh of at most four devices. All kinds and meshes, also of eight devices:

    XLA_FLAGS=--xla_force_host_platform_device_count=8 \
        pytest tests/contract/test_mesh.py
"""

from __future__ import annotations

import itertools
from typing import Any

import cases
import jax
import numpy as np
import pytest
import scipy.sparse
from cases import PROGRAM_CASES, RANK, SOLVERS, Case, M, N

from jaxnmf import registry
from jaxnmf.data.shards import Shards
from jaxnmf.distributed.mesh import as_placement, in_own_order, on_mesh
from jaxnmf.objective.penalties import Penalty
from jaxnmf.padding import unpadded
from jaxnmf.run.programs import precision

MANY = jax.device_count() >= 8
# 16×12 does not divide over three rows of devices, nor over eight columns.
GRIDS = [(2, 2), (3, 1), (1, 4), (4, 1), (2, 1), (1, 2), (1, 1)]
GRIDS += [(4, 2), (2, 4), (8, 1), (1, 8)] if MANY else []
LOSSES = ("frobenius", "kullback-leibler", "beta")


def kinds_of(case: Case) -> list[str]:
    kinds = ["sparse"] * case.takes("sparse")
    return kinds + ["observed", "by entries"] * case.takes("observed")


def first_case(solver: str) -> Case:
    own = [Case(solver, loss) for loss in LOSSES]
    return next(case for case in own if case.takes("dense"))


FIRST = [first_case(solver) for solver in SOLVERS]
if MANY:
    ALL = [(case, "dense") for case in PROGRAM_CASES]
    ALL += [(case, kind) for case in FIRST for kind in kinds_of(case)]
else:
    ALL = [(case, "dense") for case in FIRST]
    other = [(case, kinds) for case in FIRST if (kinds := kinds_of(case))]
    other = enumerate(cases.some(other, 3))
    ALL += [(case, kinds[i % len(kinds)]) for i, (case, kinds) in other]


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with precision("float64"):
        yield


def given(kind: str) -> dict[str, Any]:
    """Data of a kind as `cases.setup` takes them. The entries of a sparse V are in few
    rows, which a mesh must divide."""
    if kind == "dense":
        return {}
    if kind == "sparse":
        V = cases.data(zeros=True)
        V[6:] *= np.random.default_rng(4).random((M - 6, N)) < 0.4
        return {"V": scipy.sparse.csr_array(V)}
    share = 0.7 if kind == "observed" else 0.19
    known = np.random.default_rng(5).random((M, N)) < share
    # Of fewer entries than components a column's least squares have many solutions.
    return {"mask": known, "penalties": (Penalty(l2=0.2), Penalty(l2=0.1))}


def parameters() -> Any:
    grids = itertools.cycle(GRIDS[:4])
    for case, kind in ALL:
        mesh = next(grids)
        if not case.solver_class.supports.padded:
            mesh = (2, 2)
        for grid in GRIDS if MANY else [mesh]:
            name = f"{case}-{kind}-{grid[0]}x{grid[1]}".replace(" ", "-")
            yield pytest.param(case, kind, grid, id=name)


def divides(grid: tuple[int, int]) -> bool:
    return not (M % grid[0] or N % grid[1])


@pytest.mark.parametrize(("case", "kind", "grid"), list(parameters()))
def test_a_mesh_gives_what_one_device_gives(case, kind, grid):
    start = cases.setup(case, **given(kind))
    mesh = jax.make_mesh(grid, ("rows", "columns"))
    shape = start.problem.operand.shape
    if not (case.solver_class.supports.padded or divides(grid)):
        with pytest.raises(ValueError, match=f"{case.solver!r} needs a V whose shape"):
            as_placement(mesh, shape, start.solver)
        return
    placement = as_placement(mesh, shape, start.solver)
    problem, factors, orders = on_mesh(
        start.problem, start.solver, start.factors, placement
    )
    assert len(factors.H.devices()) == np.prod(grid)
    assert isinstance(problem.operand, Shards) == (kind in ("sparse", "by entries"))
    there = cases.Setup(problem, start.solver, factors, start.key)
    found = in_own_order(cases.iterate(there, 5), orders)
    expected = cases.iterate(start, 5)
    for X, Y in zip(unpadded(found, RANK, shape), expected, strict=True):
        np.testing.assert_allclose(X, Y, rtol=1e-8, atol=1e-10 * np.abs(Y).max())


def test_a_solver_that_does_not_support_it_is_refused_by_name(monkeypatch):
    hals = registry.solver_class("hals")
    monkeypatch.setattr(hals, "supports", hals.supports._replace(mesh=False))
    with pytest.raises(ValueError, match="'hals' does not support several devices"):
        as_placement("rows", (M, N), registry.make_solver("hals"))
