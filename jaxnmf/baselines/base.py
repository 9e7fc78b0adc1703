"""What a baseline is, their list, and the clock they run under."""

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
from jaxnmf.build import UnsupportedError, check_problem
from jaxnmf.objective.problem import Problem
from jaxnmf.registry import build, options, solvers
from jaxnmf.run.clock import clocked, on_host, tell_ends
from jaxnmf.run.loop import Run, measure, measure_with_kkt
from jaxnmf.run.programs import compiled
from jaxnmf.run.stop import RECORD_EVERY, Measure, Stop
from jaxnmf.solvers.base import ANY, Supports
from jaxnmf.types import Factors

T = TypeVar("T")

_baselines: dict[str, type[Baseline]] = {}


class Baseline:
    """An algorithm of another system: a frozen dataclass of its options.

    Looping, stopping, recording and timing are not its business: `timed` does them.
    Where the system's public call would check its input, draw a start or look at the
    loss, the function inside it is called, so that the clock counts iterations alone.

    Attributes:
      name: set by `register_baseline`.
      supports: losses and operands it takes; others are refused by name.
      monotone: claims that no iteration raises the loss.
      requires: the package to install, None where ours brings it.
    """

    name: ClassVar[str]
    supports: ClassVar[Supports] = ANY
    monotone: ClassVar[bool] = True
    requires: ClassVar[str | None] = None

    def begin(self, V: Any, loss: Any, W: np.ndarray, H: np.ndarray) -> Any:
        """The system's own form of the data and the factors, off the clock.

        Args:
          V: (m, n), NumPy in C order or a SciPy CSR array; not to be written to.
          loss: a loss that the baseline supports.
          W, H: (m, p) and (p, n) in C order, of V's precision; may be written to.
        """
        raise NotImplementedError

    def advance(self, state: Any, iterations: int) -> Any:
        """The state after so many iterations more, finished when it returns."""
        raise NotImplementedError

    def factors(self, state: Any) -> tuple[np.ndarray, np.ndarray]:
        """W (m, p) and H (p, n), off the clock; may share the state's memory."""
        raise NotImplementedError

    def check(self, problem: Problem) -> None:
        """Refuse, before anything runs, what no baseline takes.

        Raises:
          Unsupported: the package is not installed, or the objective has penalties.
        """
        name, package = self.name, self.requires
        if package is not None and not installed(package):
            raise UnsupportedError(
                f"solver {name!r} needs the package {package!r}, which is not "
                "installed: pip install 'jaxnmf[baselines]'"
            )
        if any(np.any(np.asarray(x)) for x in jax.tree.leaves(problem.penalties)):
            raise UnsupportedError(
                f"solver {name!r} takes no penalties: l1 and l2 must be 0"
            )


def installed(package: str) -> bool:
    """Whether a package is there, by the name it is installed under."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@dataclass_transform(frozen_default=True, kw_only_default=True)
def register_baseline(name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: make a frozen dataclass of a `Baseline` and list it by name.

    Raises:
      ValueError: when the name is taken, or a field has no default.
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
    solvers()  # what other packages list by entry points may hold baselines too
    return tuple(sorted(_baselines))


def baseline_class(name: str) -> type[Baseline]:
    """The class listed under a name. Raises ValueError with the names there are."""
    names()
    return lookup("baseline", name, _baselines)


def make(name: str, given: Mapping[str, Any] | None = None) -> Baseline:
    """A baseline from its name and options, checked by name and type."""
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
    """A baseline's run, as `jaxnmf.run.clock.timed` runs a solver of ours.

    The start, the data, their precision, the stop rule and the looks at loss and KKT
    residual are the same; so is the number of threads (`every_core`). The clock counts
    the iterations alone. One iteration from a copy of the start, thrown away, warms up
    what a first call pays for; it is told as ``compile_seconds``.

    Args:
      as `jaxnmf.run.clock.timed`.

    Raises:
      ValueError: for a problem that the baseline does not take (`UnsupportedError`).
    """
    check_problem(problem, baseline)
    kept = factors = jax.tree.map(jnp.asarray, factors)
    program, _ = compiled(measure_with_kkt if kkt else measure, problem, factors)
    V, dtype = problem.operand.to_host(), problem.operand.dtype
    if isinstance(V, np.ndarray):
        V = np.ascontiguousarray(V)

    def begin() -> Any:
        Wt, H = (np.asarray(X) for X in factors)
        return baseline.begin(V, problem.loss, Wt.T.copy(order="C"), H.copy())

    def look(state: Any) -> Measure:
        nonlocal kept
        W, H = baseline.factors(state)
        # Copies: the system may go on in the same memory.
        copies = (np.array(X, dtype, order="C") for X in (np.transpose(W), H))
        pairs = zip(copies, factors, strict=True)
        new = Factors(*(jax.device_put(X, old.sharding) for X, old in pairs))
        now = on_host(program(problem, new))
        if np.isfinite(now.objective):
            kept = new
        return now

    def iterate(state: Any, _: None, steps: int) -> tuple[Any, None]:
        return baseline.advance(state, steps), None

    # The first `begin` imports the system, whose threads are then there to be set.
    start = time.perf_counter()
    thrown_away = begin()
    with every_core():
        baseline.advance(thrown_away, 1)
        warming = time.perf_counter() - start
        del thrown_away
        run = clocked(
            iterate,
            look,
            begin(),
            None,
            stop,
            record_every=record_every,
            record_growth=record_growth,
            on_record=on_record,
        )
    if not kkt:
        tell_ends(run.trace, problem, factors, kept)
    return run._replace(factors=kept, compile_seconds=warming)


@contextlib.contextmanager
def every_core() -> Iterator[int]:
    """OpenBLAS, MKL, OpenMP and torch with a thread for each core this process may
    use, as jax has; afterwards with what they had. Yields how many.

    What is imported later is not reached.
    """
    from threadpoolctl import threadpool_limits

    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
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
