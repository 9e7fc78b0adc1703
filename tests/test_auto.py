"""The solver and the start that "auto" takes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import jaxnmf
from jaxnmf import auto, registry
from jaxnmf.build import Objective
from jaxnmf.solvers.base import constraints_of, operands_of
from jaxnmf.supported import UnsupportedError

LOSSES = ("frobenius", "kl", "is", "beta", "huber", "negative-binomial", "bernoulli")
LOSSES += (lambda v, x: (v - x) ** 4,)
CONSTRAINTS = ("nonnegative", "box", "simplex")
RNG = np.random.default_rng(0)
V = RNG.gamma(1.0, size=(12, 3)) @ RNG.gamma(1.0, size=(3, 9)) + 0.1


def any_solver(objective: Objective, kind: str) -> bool:
    asked = {one.name for one in objective.constraints}
    return any(
        cls.supports.includes(objective.loss)
        and kind in operands_of(cls)
        and asked <= constraints_of(cls)
        for cls in map(registry.solver_class, registry.solvers())
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", auto.EVERY)
def test_there_is_an_answer_for_whatever_a_solver_supports(loss, kind):
    pairs = itertools.product(CONSTRAINTS, CONSTRAINTS)
    for pair, rank, lanes in itertools.product(pairs, (1, 100), (False, True)):
        objective = Objective.of(loss, constraints=pair)
        if any_solver(objective, kind):
            row = auto.chosen(objective, kind, rank, lanes=lanes)
            assert row.study
            solver = registry.make_solver(row.solver, row.options)
            assert kind in operands_of(solver)
        else:
            with pytest.raises(UnsupportedError, match="solver='auto': no solver"):
                auto.chosen(objective, kind, rank, lanes=lanes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "given", "solver"),
    [
        (V, {}, "extrapolated"),
        (sp.csr_array(V), {}, "extrapolated"),
        (V, {"mask": V > 0.5}, "hals"),
        (V, {"loss": "kl"}, "kl-newton"),
        (jaxnmf.Blocks(V), {}, "extrapolated"),
        (jaxnmf.Blocks(V), {"loss": "kl"}, "mu-extrapolated"),
        (jaxnmf.Blocks(V), {"constraints": "simplex"}, "nenmf"),
        (V, {"constraints": "simplex"}, "nenmf"),
        (sp.csr_array(V), {"constraints": "simplex"}, "ao-admm"),
        (sp.csr_array(V), {"loss": "kl"}, "mu-extrapolated"),
        (V, {"loss": "is"}, "mu-extrapolated"),
        (V, {"loss": "huber"}, "mu-extrapolated"),
        (V, {"loss": "kl", "constraints": "box"}, "kl-admm"),
        (V, {"loss": lambda v, x: (v - x) ** 4}, "pgd-lin"),
    ],
)
def test_a_result_says_which_solver_it_was(data, given, solver, tmp_path):
    found = jaxnmf.factorize(data, 2, max_iter=20, **given)
    assert found.solver == solver
    assert found.objective < found.trace.objective[0]
    kept = jaxnmf.load(found.save(tmp_path / "a.npz"))
    assert kept.solver == solver


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:rank. 4 components for")
def test_the_start_is_from_the_svd_where_there_is_one():
    def start(data: Any, rank: int, **given: Any) -> float:
        found = jaxnmf.factorize(data, rank, max_iter=1, **given)
        return float(found.trace.objective[0])

    assert start(V, 3) == start(V, 3, init="nndsvd") != start(V, 3, init="random")
    square = RNG.random((4, 3))
    assert start(square, 4) == start(square, 4, init="random")
    for given in (
        {"mask": V > 0.5},
        {"constraints": "box"},
        {"loss": "kl"},
        {"solver": "mu"},  # which keeps the zeros of "nndsvd"
    ):
        assert start(V, 3, **given) == start(V, 3, init="random", **given)


def test_options_go_with_a_name():
    with pytest.raises(ValueError, match="solver='auto' has none"):
        jaxnmf.factorize(V, 2, solver_options={"inner": 1})


def test_lanes_have_seeds_of_their_own():
    found = jaxnmf.sweep(V, [2], 3, loss="kl", max_iter=5)
    assert found.table["objective"].nunique() == 3
    assert found.result(0).solver == "mu-extrapolated"
    assert found.result(0).W.shape == (12, 2)
