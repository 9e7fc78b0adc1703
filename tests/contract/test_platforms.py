"""Every solver as a program for an accelerator, lowered on a CPU.

In the suite half of the solvers with their first or last loss, each on one kind of data
and for one platform; with ``JAXNMF_EVERY_CASE=1`` in the environment all losses on all
kinds for all platforms:

    JAXNMF_EVERY_CASE=1 pytest tests/contract/test_platforms.py
"""

from __future__ import annotations

import itertools
from typing import Any

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from cases import CASES, PROGRAM_CASES, Case, for_solver

from jaxnmf import registry
from jaxnmf._util.platform import compiled_for
from jaxnmf.build import Objective, Start, draw_start, make_problem
from jaxnmf.objective.losses import Loss
from jaxnmf.run.programs import as_leaves, precision

KINDS = ("dense", "sparse", "observed")
PLATFORMS = ("gpu", "tpu")
# Larger than a tile of rows, and no other size of a program.
RANK = 37
# Those whose components follow each other, since each needs W H of the last.
ONE_BY_ONE = {"kl-cd", "kl-sn-mu"}


def cases_of_platforms() -> list[Any]:
    every = cases.EVERY_CASE
    found = []
    for i, case in enumerate(CASES if every else cases.some(PROGRAM_CASES)):
        kinds = [kind for kind in KINDS if case.takes(kind)]
        pairs = list(itertools.product(kinds, PLATFORMS))
        for kind, platform in pairs if every else [pairs[i % len(pairs)]]:
            id = f"{platform}-{case}-{kind}"
            found.append(pytest.param(case, kind, platform, id=id))
    return found


def step(case: Case, kind: str) -> tuple[Any, tuple[Any, ...]]:
    """A solver's step in float32, and its arguments."""
    rng = np.random.default_rng(0)
    V: Any = rng.random((50, 46)) + 0.1
    if kind == "sparse":
        V = scipy.sparse.csr_array(V * (rng.random(V.shape) < 0.4))
    V = for_solver(case.solver, V)
    mask = rng.random(V.shape) < 0.8 if kind == "observed" else None
    loss: Loss = case.make_loss()
    solver = registry.make_solver(case.solver)
    objective = Objective(loss=loss)
    problem = make_problem(V, solver, objective, np.dtype("float32"), mask)
    factors = draw_start(problem, objective, Start(), RANK)
    factors = jax.tree.map(jnp.asarray, factors)
    solver = as_leaves(solver, "float32")
    state = jax.eval_shape(
        lambda *x: solver.init(*x, jax.random.key(0)), problem, factors
    )
    return lambda *x: x[1].step(x[0], x[2], x[3]), (problem, solver, factors, state)


@pytest.mark.parametrize(("case", "kind", "platform"), cases_of_platforms())
def test_a_step_lowers_for_an_accelerator(case, kind, platform):
    name = {"gpu": "cuda", "tpu": "tpu"}[platform]
    with precision("float32"), compiled_for(platform):
        function, arguments = step(case, kind)
        # By the leaves: export knows no classes of ours.
        leaves, structure = jax.tree.flatten(arguments)
        program = jax.jit(
            lambda *leaves: jax.tree.leaves(function(*structure.unflatten(leaves)))
        )
        text = jax.export.export(program, platforms=[name])(*leaves).mlir_module()
    assert "xf64" not in text
    assert "callback" not in text


def parts(equation: Any) -> list[Any]:
    """The programs inside an equation, such as the body of a loop."""
    found = []
    for value in equation.params.values():
        for inner in value if isinstance(value, tuple | list) else [value]:
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                found.append(inner)
    return found


def lengths(jaxpr: Any) -> set[int]:
    """The lengths of the loops of a program that are known when it is compiled."""
    found = set()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            found.add(equation.params["length"])
        for inner in parts(equation):
            found |= lengths(inner)
    return found


def products(jaxpr: Any) -> int:
    """How many matrix products follow each other, those of a loop as often as it runs:
    of a loop whose end is not known when it is compiled, once."""
    total = 0
    for equation in jaxpr.eqns:
        inside = [products(inner) for inner in parts(equation)]
        name = equation.primitive.name
        if name == "cond":
            total += max(inside)
        else:
            times = equation.params["length"] if name == "scan" else 1
            total += times * sum(inside) + (name == "dot_general")
    return total


@pytest.mark.parametrize(("case", "kind", "platform"), cases_of_platforms())
def test_no_loop_over_components_on_an_accelerator(case, kind, platform):
    with precision("float32"), compiled_for(platform):
        function, arguments = step(case, kind)
        jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    by_component = any(length % RANK == 0 for length in lengths(jaxpr) if length)
    assert by_component == (case.solver in ONE_BY_ONE)
    # Every product is a launch or more.
    assert (products(jaxpr) < 2 * RANK) != by_component
