"""Pytrees by their class: what jit tells apart, what is data, what is program."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnmf
from jaxnmf import registry
from jaxnmf.types import Factors, pytree, static


@pytree
class Line:
    """slope·x + offset, and how often."""

    slope: Any = 1.0
    offset: Any = 0.0
    times: int = static(1)

    def __call__(self, x: Any) -> Any:
        for _ in range(self.times):
            x = self.slope * x + self.offset
        return x


def test_floats_are_leaves_named_by_their_field():
    line = Line(slope=2.0, offset=3.0, times=4)
    paths = jax.tree_util.tree_flatten_with_path(line)[0]
    named = {jax.tree_util.keystr(path): leaf for path, leaf in paths}
    assert named == {".slope": 2.0, ".offset": 3.0}
    doubled = jax.tree.map(lambda x: 2 * x, line)
    assert isinstance(doubled, Line)
    assert (doubled.slope, doubled.offset, doubled.times) == (4.0, 6.0, 4)


def test_a_static_field_is_another_program_and_a_float_is_not():
    traces = []

    @jax.jit
    def call(line, x):
        traces.append(1)
        return line(x)

    for slope, times in itertools.product((2.0, 3.0), (1, 2)):
        found = call(Line(slope=slope, times=times), jnp.ones(()))
        assert float(found) == slope**times
    assert len(traces) == 2


def test_an_instance_is_frozen_and_built_by_keyword():
    line = Line()
    with pytest.raises(dataclasses.FrozenInstanceError):
        line.slope = 2.0  # pyright: ignore
    with pytest.raises(TypeError):
        Line(2.0)  # pyright: ignore


def test_a_subclass_has_the_fields_of_its_parent():
    @pytree
    class Twice(Line):
        more: float = 1.0

    tree = jax.tree.structure(Twice())
    assert tree.num_leaves == 3
    assert tree != jax.tree.structure(Line())


def test_jit_tells_apart_what_differs_in_the_class_alone():
    """Two losses have no field between them: with trees that are equal, jit would now
    and then run one with the program of the other."""

    def numbered(number: int) -> Any:
        @pytree
        class Empty:
            def __call__(self, x: Any) -> Any:
                return x + number

        return Empty()

    made = [numbered(i) for i in range(40)]
    call = jax.jit(lambda object, x: object(x).astype(jnp.float32))
    found = [float(call(x, jnp.zeros(()))) for x in made]
    assert found == list(range(40))
    assert len({jax.tree.structure(x) for x in made}) == 40


@pytest.mark.parametrize(
    ("names", "find"),
    [
        (registry.losses(), registry.loss_class),
        (jaxnmf.solvers(), registry.solver_class),
    ],
    ids=["losses", "solvers"],
)
def test_every_registered_class_has_a_tree_of_its_own(names, find):
    made = [jax.tree.structure(find(name)()) for name in names]
    for a, b in itertools.combinations(made, 2):
        assert a != b


def test_factors_turn_without_a_copy():
    factors = Factors(np.ones((2, 3)), np.zeros((2, 4)))  # pyright: ignore
    assert factors.T.Wt is factors.H
    assert factors.T.T.Wt is factors.Wt
