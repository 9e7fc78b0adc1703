"""Solvers and losses by name: what is listed, refused, and built from options."""

import re
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import jaxnmf
from jaxnmf import registry
from jaxnmf.objective.losses import Loss, OwnLoss
from jaxnmf.solvers import HALS, QUADRATIC, Alternating
from jaxnmf.types import static

V = np.random.default_rng(0).random((8, 6))


@pytest.fixture(autouse=True)
def _lists_as_they_were():
    """What a test registers is gone after it."""
    registry.solvers()  # loads the entry points: those stay
    kept = dict(registry._solvers), dict(registry._losses)
    yield
    for known, before in zip((registry._solvers, registry._losses), kept, strict=True):
        known.clear()
        known.update(before)


def halving() -> Any:
    """A solver that halves both factors, not yet registered."""

    class Halving(Alternating):
        supports = QUADRATIC
        share: float = 0.5
        times: int = static(1)

        def half_step(self, problem, fixed, free, state):
            return free * self.share**self.times, state

    return Halving


# --- Registering ---------------------------------------------------------------------


def test_a_registered_solver_is_listed_and_runs_and_can_go():
    cls = registry.register_solver("halving")(halving())
    assert "halving" in jaxnmf.solvers()  # pyright: ignore
    assert cls.name == "halving"
    start = np.ones((8, 2)), np.ones((2, 6))
    found = jaxnmf.factorize(
        V,
        2,
        solver="halving",
        solver_options={"times": 2},
        init=start,
        max_iter=3,
        tol=0,
        record_every=1,
    )
    np.testing.assert_allclose(found.W, 0.25**3)
    np.testing.assert_allclose(found.H, 0.25**3)
    del registry._solvers["halving"]
    with pytest.raises(ValueError, match="'halving' is not known"):
        jaxnmf.factorize(V, 2, solver="halving")


def test_a_taken_name_is_refused_and_keeps_its_solver():
    with pytest.raises(ValueError, match="'hals' is taken by HALS"):
        registry.register_solver("hals")(halving())
    assert registry.solver_class("hals") is HALS


def test_the_same_class_may_be_registered_anew():
    """A module that is reloaded, or a cell of a notebook run twice."""
    registry.register_solver("halving")(halving())
    again = registry.register_solver("halving")(halving())
    assert registry.solver_class("halving") is again


@pytest.mark.parametrize("lacking", ["init", "step", "supports", "monotone"])
def test_a_class_without_the_protocol_is_refused(lacking):
    whole: dict[str, Any] = {
        "init": lambda self, problem, factors, key: (),
        "step": lambda self, problem, factors, state: (factors, state),
        "supports": QUADRATIC,
        "monotone": False,
    }
    del whole[lacking]
    with pytest.raises(ValueError, match=f"'part' has no attribute {lacking}"):
        registry.register_solver("part")(type("Part", (), whole))
    assert "part" not in registry.solvers()


def test_a_field_without_a_default_is_refused():
    cls = halving()
    cls.__annotations__["gamma"] = float
    with pytest.raises(ValueError, match="'halving': field gamma has no default"):
        registry.register_solver("halving")(cls)
    assert "halving" not in registry.solvers()


def test_floats_are_leaves_and_counts_are_not():
    import jax

    cls = registry.register_solver("halving")(halving())
    assert jax.tree.leaves(cls(share=0.25, times=3)) == [0.25]


# --- Options -------------------------------------------------------------------------


@pytest.mark.parametrize("name", registry.solvers())
def test_the_options_of_a_solver_build_it(name):
    cls = registry.solver_class(name)
    schema = registry.options(cls)
    given = {option.name: option.default for option in schema}
    built = registry.build("solver", name, cls, given)
    assert type(built) is cls
    bare = registry.make_solver(name)
    for option in schema:
        value, default = getattr(built, option.name), getattr(bare, option.name)
        # A solver within a solver has no ==, but a type.
        assert value == default or type(value) is type(default), option


@pytest.mark.parametrize("name", registry.solvers())
def test_every_option_of_a_solver_takes_only_its_type(name):
    cls = registry.solver_class(name)
    for option in registry.options(cls):
        wrong = 1 if option.type in (bool, str) else "wrong"
        if option.type not in (bool, int, float, str):
            continue
        message = rf"solver '{name}': option {option.name}={wrong!r} must be of type "
        with pytest.raises(ValueError, match=message + option.type.__name__):
            registry.make_solver(name, {option.name: wrong})


def test_an_options_schema_says_name_type_default_and_whether_static():
    cls = registry.register_solver("halving")(halving())
    assert registry.options(cls) == (
        registry.Option("share", float, 0.5, False),
        registry.Option("times", int, 1, True),
    )


def test_an_int_is_a_float_but_a_bool_is_no_number():
    registry.register_solver("halving")(halving())
    assert registry.make_solver("halving", {"share": 1}).share == 1
    for option, value in (("share", True), ("times", True), ("times", 1.0)):
        with pytest.raises(ValueError, match=rf"{option}={value} must be of type"):
            registry.make_solver("halving", {option: value})


def test_an_unknown_option_names_the_nearest_and_all():
    registry.register_solver("halving")(halving())
    message = re.escape(
        "solver 'halving' has no option 'tims' (did you mean 'times'?); its options: "
        "share, times"
    )
    with pytest.raises(ValueError, match=message):
        registry.make_solver("halving", {"tims": 1})


def test_an_instance_takes_no_options_and_is_returned_as_it_is():
    solver = HALS(inner=2)
    assert registry.make_solver(solver) is solver
    with pytest.raises(ValueError, match="solver_options: expected a solver by name"):
        registry.make_solver(solver, {"inner": 1})


# --- Losses --------------------------------------------------------------------------


def test_aliases_of_losses():
    for short, full in (("kl", "kullback-leibler"), ("is", "itakura-saito")):
        assert registry.loss_class(short) is registry.loss_class(full)
        assert registry.loss_aliases(full) == (short,)
    assert registry.make_loss("beta", {"beta": 0.5}).beta == 0.5


def test_a_function_is_registered_as_a_loss():
    @registry.register_loss("quartic")
    def quartic(v, x):
        return (v - x) ** 4

    assert "quartic" in jaxnmf.losses()  # pyright: ignore
    made = registry.make_loss("quartic")
    assert isinstance(made, OwnLoss)
    assert made.function is quartic
    found = jaxnmf.factorize(V, 2, solver="pgd", loss="quartic", max_iter=10)
    assert found.objective == pytest.approx(
        ((V - found.W @ found.H) ** 4).sum(), rel=1e-4
    )


def test_a_loss_class_is_registered_under_its_name():
    @registry.register_loss("tripled")
    class Tripled(Loss):
        times: float = 3.0

        def pointwise(self, v, x):
            return self.times * (v - x) ** 2

    assert registry.make_loss("tripled", {"times": 2.0}).times == 2.0  # pyright: ignore
    assert Tripled.name == "tripled"


def test_what_extrapolated_cannot_wrap_is_refused():
    registry.register_solver("halving")(halving())
    for inner in ("halving", "optax", 3):
        with pytest.raises(ValueError, match="works on Gram and cross products"):
            registry.make_solver("extrapolated", {"inner": inner})


def test_a_name_of_a_loss_is_not_taken_twice():
    with pytest.raises(ValueError, match="'frobenius' is taken by Frobenius"):
        registry.register_loss("frobenius")(lambda v, x: v - x)


def test_a_loss_whose_gradient_needs_the_zeros_of_a_sparse_v_is_refused():
    class Cubic(Loss):
        separable_zeros: bool = True

        def pointwise(self, v, x):
            return (v - x) ** 2 * (1 + x)

    with pytest.raises(ValueError, match="needs every entry of W H"):
        jaxnmf.factorize(sparse.csr_array(V), 2, solver="pgd", loss=Cubic())


@pytest.mark.parametrize("loss", [3, lambda v: v, HALS], ids=["int", "unary", "class"])
def test_what_is_no_loss_is_refused(loss):
    with pytest.raises(ValueError, match="'bad' is neither a Loss nor a function"):
        registry.register_loss("bad")(loss)
    assert "bad" not in registry.losses()
