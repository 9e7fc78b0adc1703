"""Any optimiser of optax, kept non-negative."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnmf._util.names import suggestion
from jaxnmf.objective.constraints import NonNegative
from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import register_solver
from jaxnmf.shapes import Array, Float, Int, PyTree
from jaxnmf.solvers.base import ANY, EVERY_OPERAND, Supports
from jaxnmf.types import Factors, Index, Scalar, static

TRANSFORMS = ("projection", "softplus", "square")
LINE_SEARCH = ("lbfgs",)


@jax.tree_util.register_pytree_node_class
class Options(Mapping[str, Any]):
    """Keyword options: strings, booleans and integers are static, others leaves."""

    def __init__(self, given: Mapping[str, Any] | None = None) -> None:
        self._given = dict(sorted((given or {}).items()))

    def __getitem__(self, key: str) -> Any:
        return self._given[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)

    def tree_flatten(self) -> tuple[Any, Any]:
        fixed = {
            k: v for k, v in self._given.items() if isinstance(v, str | bool | int)
        }
        leaves = {k: v for k, v in self._given.items() if k not in fixed}
        return tuple(leaves.values()), (tuple(leaves), tuple(fixed.items()))

    @classmethod
    def tree_unflatten(cls, aux: Any, leaves: Any) -> Options:
        names, fixed = aux
        return cls(dict(zip(names, leaves, strict=True)) | dict(fixed))


class State(NamedTuple):
    """The raw parameters, the optimiser's state, and the units of both."""

    raw: Factors
    optimiser: PyTree
    scale: Factors  # the mean entry of each factor at the start
    unit: Scalar  # the objective's unit: makes a raw gradient of order one
    key: jax.Array  # draws the batches


@register_solver("optax")
class Optax:
    """Joint gradient descent on (W, H) by any optimiser and schedule of optax.

    The raw parameters are W and H in units of their mean entry at the start, and
    the objective is scaled so that their gradient is of order one: a learning rate
    means the same whatever the data. Non-negativity by ``transform``:
    "projection" clips after each update; "softplus" and "square" optimise r with
    x = log(1 + eʳ) or x = r² (which adds saddle points at 0).

    With ``batch`` an iteration is an epoch: the rows of V are divided at random into
    batches, and each gives a step of the optimiser by the gradient of its rows, times
    m / batch for H. Where V is known only at scattered entries, these are divided.

    Cost: one gradient of both factors an iteration, 8mnp, and a step of the optimiser
    for each batch. Not monotone.

    Use: a loss of your own, or an optimiser to try; with many components and
    Kullback-Leibler Adam can be the first to come close.

    Args:
      optimizer: the name of an optax optimiser ("adam", "sgd", "lbfgs", …).
      learning_rate: its learning rate, or a schedule's first value; None for the
        optimiser's own default where it has one, else 0.1.
      schedule: the name of an optax schedule ("cosine_decay_schedule", …), or "".
      options, schedule_options: their further arguments.
      batch: rows to a gradient (dense V), or known entries; 0 for all at once.

    Reference: DeepMind et al., "The DeepMind JAX ecosystem" (2020) [DeepMind2020];
    Kingma & Ba, "Adam", ICLR 2015 [Kingma2015], for the default.
    """

    supports: ClassVar[Supports] = ANY._replace(operands=EVERY_OPERAND)
    monotone: ClassVar[bool] = False
    optimizer: str = static("adam")
    learning_rate: float | None = None
    schedule: str = static("")
    batch: int = static(0)
    transform: str = static("projection")
    options: Mapping[str, Any] = dataclasses.field(default_factory=Options)
    schedule_options: Mapping[str, Any] = dataclasses.field(default_factory=Options)

    def __post_init__(self) -> None:
        _check_name("optimizer", self.optimizer, _optimizers())
        if self.schedule:
            _check_name("schedule", self.schedule, _schedules())
        _check_name("transform", self.transform, TRANSFORMS)
        if self.batch < 0 or (self.batch and self.optimizer in LINE_SEARCH):
            raise ValueError(
                f"solver 'optax': batch={self.batch} with {self.optimizer!r}; it must "
                f"be ≥ 0, and 0 for a line search ({', '.join(LINE_SEARCH)}), which "
                "compares values of all of V"
            )
        for name, function in (
            ("options", self.optimizer),
            ("schedule_options", self.schedule),
        ):
            given = getattr(self, name)
            if function:
                known = inspect.signature(getattr(optax, function)).parameters
                for key in given:
                    _check_name(f"{name} of {function}", key, list(known))
            if not isinstance(given, Options):
                object.__setattr__(self, name, Options(given))

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> State:
        def means(pair: Factors) -> list[jax.Array]:
            return [P.mean(X) for P, X in zip(problem.projects, pair, strict=True)]

        scale = Factors(*means(factors))
        scale = Factors(*(jnp.where(s > 0, s, 1) for s in scale))
        _, plus = problem.gradients(factors)
        units = [s * p for s, p in zip(scale, means(plus), strict=True)]
        unit = 0.5 * (units[0] + units[1])
        unit = jnp.where(unit > 0, unit, 1)
        raw = Factors(
            *(self._to_raw(X / s) for X, s in zip(factors, scale, strict=True))
        )
        return State(raw, self._optimiser().init(raw), scale, unit, key)

    def check(self, problem: Problem) -> None:
        if self.batch and problem.operand.kind == "sparse":
            raise ValueError(
                f"solver 'optax': batch={self.batch} draws rows of a dense V, or known "
                "entries; for a sparse V use batch=0, or pass V.toarray()"
            )
        if self.batch and problem.loss.losses:
            raise ValueError(
                f"solver 'optax': batch={self.batch} is for one loss, and not for one "
                "for each view; use batch=0"
            )
        operand = problem.operand
        if self.batch and operand.by_entries and not hasattr(operand, "stored"):
            raise ValueError(
                f"solver 'optax': batch={self.batch} draws from known entries, and not "
                "where these are divided over several devices; use batch=0"
            )

    def step(
        self, problem: Problem, factors: Factors, state: State
    ) -> tuple[Factors, State]:
        del factors
        # Rows of V, or entries where they alone are known.
        stored = problem.operand.by_entries
        batch_gradients = entry_gradients if stored else row_gradients
        total = problem.operand.entries if stored else problem.operand.shape[0]
        count = -(-total // self.batch) if self.batch else 1
        if count == 1:
            state = self._update(problem, state, problem.gradients)
            return self._to_factors(problem, state), state
        size = -(-total // count)
        key, draw = jax.random.split(state.key)
        order = jax.random.permutation(draw, jnp.arange(total, dtype=jnp.int32))
        order = jnp.pad(order, (0, count * size - total), constant_values=total)

        def visit(i: Index, state: State) -> State:
            batch = jax.lax.dynamic_slice_in_dim(order, i * size, size)

            def gradients(factors: Factors) -> tuple[Factors, Factors]:
                return batch_gradients(problem, factors, batch)

            return self._update(problem, state, gradients)

        state = jax.lax.fori_loop(0, count, visit, state._replace(key=key))
        return self._to_factors(problem, state), state

    def _to_factors(self, problem: Problem, state: State) -> Factors:
        sides = zip(problem.projects, state.raw, state.scale, strict=True)
        return Factors(*(P(s * self._from_raw(r)) for P, r, s in sides))

    def _update(
        self,
        problem: Problem,
        state: State,
        gradients: Callable[[Factors], tuple[Factors, Factors]],
    ) -> State:
        """The state after one step of the optimiser, by ``gradients`` of factors."""

        @jax.custom_vjp
        def value(factors: Factors) -> jax.Array:
            return problem.value(factors) / state.unit

        def value_forward(factors: Factors) -> tuple[jax.Array, Factors]:
            return value(factors), factors

        def value_backward(factors: Factors, cotangent: jax.Array) -> tuple[Factors]:
            minus, plus = gradients(factors)
            factor = cotangent / state.unit
            return (jax.tree.map(lambda p, m: factor * (p - m), plus, minus),)

        value.defvjp(value_forward, value_backward)

        def objective(raw: Factors) -> jax.Array:
            return value(self._to_factors(problem, state._replace(raw=raw)))

        # The value is dead code, and not computed, for optimisers that ignore it.
        loss, gradient = jax.value_and_grad(objective)(state.raw)
        # optax mixes dtypes (0.9**count), which a user's strict promotion refuses.
        with jax.numpy_dtype_promotion("standard"):
            updates, optimiser = self._optimiser().update(
                gradient,
                state.optimiser,
                state.raw,
                value=loss,
                grad=gradient,
                value_fn=objective,
            )
        raw = optax.apply_updates(state.raw, updates)
        if self.transform == "projection":
            # Where a loss is infinite at x = 0 a jump to 0 is hard to undo: an entry
            # then keeps a tenth of itself.
            keep = 0.0 if problem.loss.quadratic else 0.1
            sides = zip(problem.projects, raw, state.raw, strict=True)  # pyright: ignore
            raw = Factors(*(P(new, keep * old) for P, new, old in sides))
        return state._replace(raw=raw, optimiser=optimiser)  # pyright: ignore

    def _optimiser(self) -> Any:
        make = getattr(optax, self.optimizer)
        rate = self.learning_rate
        default = inspect.signature(make).parameters["learning_rate"].default
        if rate is None and default is inspect.Parameter.empty:
            rate = 0.1
        if self.schedule:
            schedule = getattr(optax, self.schedule)
            given = dict(self.schedule_options)
            first = next(iter(inspect.signature(schedule).parameters))
            if rate is not None:
                given.setdefault(first, rate)
            rate = schedule(**given)
        arguments = {} if rate is None else {"learning_rate": rate}
        return optax.with_extra_args_support(make(**arguments, **self.options))

    def _from_raw(self, raw: jax.Array) -> jax.Array:
        if self.transform == "softplus":
            return jax.nn.softplus(raw)
        if self.transform == "square":
            return raw * raw
        return NonNegative().entrywise(raw)

    def _to_raw(self, x: jax.Array) -> jax.Array:
        if self.transform == "softplus":
            x = jnp.maximum(x, 1e-6)  # the inverse of softplus is −∞ at 0
            return x + jnp.log(-jnp.expm1(-x))
        # A square's derivative vanishes at 0, which would lock an entry there.
        return jnp.sqrt(jnp.maximum(x, 1e-6)) if self.transform == "square" else x


def row_gradients(
    problem: Problem, factors: Factors, rows: Int[Array, " b"]
) -> tuple[Factors, Factors]:
    """(minus, plus) of both factors from some rows of V, an index of m for none: the
    rows' own for W, 0 for all others, and m/b times the rows' for H."""
    m = problem.operand.shape[0]
    there = (rows < m).sum().astype(problem.operand.dtype)
    part = dataclasses.replace(
        problem,
        operand=problem.operand.rows(rows),
        penalties=(problem.penalties[0], Penalty()),
    )
    codes = factors.Wt.at[:, rows].get(mode="fill", fill_value=0)
    sides = part.gradients(Factors(codes, factors.H))
    (minus_W, minus_H), (plus_W, plus_H) = sides

    def spread(columns: Float[Array, "p b"]) -> Float[Array, "p m"]:
        return jnp.zeros_like(factors.Wt).at[:, rows].set(columns, mode="drop")

    scale = m / there
    plus_H = scale * plus_H + problem.penalty.gradient(factors.H)
    minus = Factors(spread(minus_W), scale * minus_H)
    return minus, Factors(spread(plus_W), plus_H)


def entry_gradients(
    problem: Problem, factors: Factors, entries: Int[Array, " b"]
) -> tuple[Factors, Factors]:
    """(minus, plus) of both factors from some known entries of V, an index of nnz for
    none: nnz/b times theirs."""
    operand, (Wt, H) = problem.operand, factors
    total = operand.entries
    there = entries < total
    index = jnp.minimum(entries, total - 1)
    rows, cols, values, weights = operand.stored(index)
    W_there, H_there = Wt[:, rows], H[:, cols]
    x = jnp.maximum((W_there * H_there).sum(0), operand.floor)
    weights = jnp.where(there, weights, 0) * (total / there.sum())
    a, b = (weights * y for y in problem.loss.split(values, x))

    def spread(y: Float[Array, " b"]) -> Factors:
        return Factors(
            jnp.zeros_like(Wt).at[:, rows].add(y * H_there),
            jnp.zeros_like(H).at[:, cols].add(y * W_there),
        )

    plus = spread(b)
    on_W, on_H = problem.penalties
    plus = Factors(plus.Wt + on_W.gradient(Wt), plus.H + on_H.gradient(H))
    return spread(a), plus


def _optimizers() -> list[str]:
    return [
        name
        for name in dir(optax)
        if inspect.isfunction(function := getattr(optax, name))
        and "learning_rate" in inspect.signature(function).parameters
        and not name.startswith(("scale_by", "_"))
    ]


def _schedules() -> list[str]:
    return [name for name in dir(optax) if name.endswith("_schedule")]


def _check_name(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ValueError(
            f"solver 'optax': {what} {name!r} is not known{suggestion(name, known)}; "
            f"there are: {', '.join(known)}"
        )
