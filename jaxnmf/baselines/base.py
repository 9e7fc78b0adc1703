"""The interface of a baseline, the registry of baselines, and their timed runs."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf._util.names import check_free, lookup
from jaxnmf.objective.problem import Problem
from jaxnmf.objective.units import Units
from jaxnmf.registry import build, options, solvers
from jaxnmf.run.clock import Look, clocked, record_kkt_of_ends
from jaxnmf.run.loop import Run
from jaxnmf.run.stop import RECORD_EVERY, Measure, Stop
from jaxnmf.solvers.base import ANY, Supports
from jaxnmf.supported import UnsupportedError, check_problem
from jaxnmf.types import Factors

T = TypeVar("T")

_baselines: dict[str, type[Baseline]] = {}


class FrobeniusOrKL(Supports):
    """The losses of Lee & Seung (2001)."""

    __slots__ = ()

    def includes(self, loss: Any) -> bool:
        return loss.quadratic or loss.beta == 1


class Baseline:
    """An algorithm of another package: a frozen dataclass of its options.

    A baseline does not loop, stop, record or time itself: `timed` does. Where the
    package's public function checks its input, draws a start or evaluates the
    objective, the baseline calls the function inside it, so that the clock counts
    iterations alone.

    Attributes:
      name: set by `register_baseline`.
      supports: the losses and operands that it supports.
      monotone: whether it claims that no iteration increases the objective.
      requires: the package that it needs; None for a dependency of jaxnmf.
      install: what pip installs it by.
    """

    name: ClassVar[str]
    supports: ClassVar[Supports] = ANY
    monotone: ClassVar[bool] = True
    requires: ClassVar[str | None] = None
    install: ClassVar[str] = "'jaxnmf[baselines]'"

    def start(self, V: Any, loss: Any, W: np.ndarray, H: np.ndarray) -> Any:
        """The package's own form of the data and the start; not timed.

        Args:
          V: (m, n), a NumPy array in C order or a SciPy CSR array; read-only.
          loss: a loss that the baseline supports.
          W, H: (m, p) and (p, n) in C order, of V's precision; may be overwritten.
        """
        raise NotImplementedError

    def advance(self, state: Any, iterations: int) -> Any:
        """The state after further iterations, all done when it returns; timed."""
        raise NotImplementedError

    def factors(self, state: Any) -> tuple[np.ndarray, np.ndarray]:
        """W (m, p) and H (p, n); may share the state's memory; not timed."""
        raise NotImplementedError

    def check(self, problem: Problem) -> None:
        """Check, before anything runs, what every baseline needs.

        Raises:
          UnsupportedError: the package is not installed, or the objective has
            penalties.
        """
        name, package = self.name, self.requires
        if package is not None and not installed(package):
            raise UnsupportedError(
                f"solver {name!r} needs the package {package!r}, which is not "
                f"installed: pip install {self.install}"
            )
        if any(np.any(np.asarray(x)) for x in jax.tree.leaves(problem.penalties)):
            raise UnsupportedError(
                f"solver {name!r} does not support penalties: l1 and l2 must be 0"
            )


def installed(package: str) -> bool:
    """Whether the distribution `package` is installed."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@dataclass_transform(frozen_default=True, kw_only_default=True)
def register_baseline(name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: make a `Baseline` a frozen dataclass and register its name.

    Raises:
      ValueError: the name is taken, or a field has no default.
    """

    def decorate(cls: type[T]) -> type[T]:
        check_free("baseline", name, cls, _baselines)
        if not issubclass(cls, Baseline):
            raise ValueError(f"baseline {name!r} is not a subclass of Baseline")
        cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        known = {option.name for option in options(cls)}
        for field in dataclasses.fields(cls):  # pyright: ignore
            if field.name not in known:
                raise ValueError(
                    f"baseline {name!r}: field {field.name} has no default"
                )
        cls.name = name
        _baselines[name] = cls
        return cls

    return decorate


def names() -> tuple[str, ...]:
    """The names of all baselines, whether their packages are installed or not."""
    solvers()  # imports the entry points of other packages, which may add baselines
    return tuple(sorted(_baselines))


def baseline_class(name: str) -> type[Baseline]:
    """The class registered under a name; a ValueError lists the names."""
    names()
    return lookup("baseline", name, _baselines)


def make(name: str, given: Mapping[str, Any] | None = None) -> Baseline:
    """A baseline by name, with its options checked by name and type."""
    return build("baseline", name, baseline_class(name), given or {})


def timed(
    problem: Problem,
    baseline: Baseline,
    factors: Factors,
    stop: Stop,
    *,
    record_every: int = RECORD_EVERY,
    record_growth: float = 0.0,
    kkt: bool = True,
    on_record: Callable[[int, float], None] | None = None,
) -> Run:
    """Run a baseline as `jaxnmf.run.clock.timed` runs a solver of jaxnmf.

    The start, the data, their precision, the stop rule and the records of objective and
    KKT residual are the same; so is the number of threads (`every_core`). The clock
    counts the iterations alone. One iteration from a copy of the start warms up what a
    first call pays for and is discarded; its time is reported as ``compile_seconds``.

    Args:
      problem, factors, stop, …: as for `jaxnmf.run.clock.timed`.

    Raises:
      ValueError: the baseline does not support the problem (`UnsupportedError`).
    """
    check_problem(problem, baseline)
    units, problem = problem.units, problem.plain
    kept = factors = jax.tree.map(jnp.asarray, factors)
    look = Look(problem, factors, units, kkt=kkt)
    V, dtype = problem.operand.to_host(), problem.operand.dtype
    if isinstance(V, np.ndarray):
        V = np.ascontiguousarray(V)

    def started() -> Any:
        Wt, H = (np.asarray(X) for X in factors)
        return baseline.start(V, problem.loss, Wt.T.copy(order="C"), H.copy())

    def measured(state: Any) -> Measure:
        nonlocal kept
        W, H = baseline.factors(state)
        # Copies: the package may continue in the same memory.
        copies = (np.array(X, dtype, order="C") for X in (np.transpose(W), H))
        pairs = zip(copies, factors, strict=True)
        new = Factors(*(jax.device_put(X, old.sharding) for X, old in pairs))
        now = look(new)
        if np.isfinite(now.objective):
            kept = new
        return now

    def iterate(state: Any, _: None, steps: int) -> tuple[Any, None]:
        return baseline.advance(state, steps), None

    # The first `started` imports the package, so that its threads can be set after it.
    begin = time.perf_counter()
    warm_up = started()
    with every_core():
        baseline.advance(warm_up, 1)
        warm_up_seconds = time.perf_counter() - begin
        del warm_up
        run = clocked(
            iterate,
            measured,
            started(),
            None,
            stop,
            record_every=record_every,
            record_growth=record_growth,
            on_record=on_record,
        )
    if not kkt:
        look = Look(problem, factors, Units(), kkt=True)
        record_kkt_of_ends(run.trace, look, factors, kept)
    factors = units.of(kept)
    return run._replace(factors=factors, compile_seconds=warm_up_seconds)


@contextlib.contextmanager
def every_core() -> Iterator[int]:
    """Give OpenBLAS, MKL, OpenMP and torch as many threads as jax uses.

    That is one for each core that this process may use. The former numbers are restored
    at the end. Libraries that are imported later are not reached.

    Yields:
      The number of cores.
    """
    from threadpoolctl import threadpool_limits

    affinity = getattr(os, "sched_getaffinity", None)  # on Linux alone
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else cores
    with threadpool_limits(cores):
        if torch:
            torch.set_num_threads(cores)
        try:
            yield cores
        finally:
            if torch:
                torch.set_num_threads(before)
