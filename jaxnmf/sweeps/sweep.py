"""`sweep`: seeds × ranks × settings of one solver as lanes of few programs."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnmf import registry
from jaxnmf._util import names
from jaxnmf._util.checks import check_amount, check_count, check_list, is_number
from jaxnmf._util.describe import described
from jaxnmf._util.progress import progress_bar
from jaxnmf._version import __version__
from jaxnmf.run.loop import Run
from jaxnmf.run.programs import precision
from jaxnmf.run.stop import RECORD_EVERY, make_stop
from jaxnmf.sweeps.buckets import buckets, waste
from jaxnmf.sweeps.lane import PENALTIES, DataPerSeed, Lane, LaneBuilder, _arranged
from jaxnmf.sweeps.lanes import Batching, Runner
from jaxnmf.sweeps.plan import fit_memory, note_timing, plan
from jaxnmf.sweeps.result import SweepResult
from jaxnmf.sweeps.store import LaneStore, fingerprint


def sweep(
    V: Any,
    ranks: Any,
    seeds: Any,
    *,
    solver: Any = "hals",
    loss: Any = "frobenius",
    settings: Mapping[str, Any] | None = None,
    init: Any = "random",
    max_iter: int = 200,
    tol: float = 1e-4,
    kkt_tol: float = 0.0,
    target: float | None = None,
    l1: float | tuple[float, float] = 0.0,
    l2: float | tuple[float, float] = 0.0,
    constraints: Any = "nonnegative",
    mask: Any = None,
    offsets: Any = False,
    toward: str = "zero",
    dtype: Any = "float32",
    record_every: int = RECORD_EVERY,
    kkt: bool = False,
    max_memory: float | None = None,
    folder: str | Path | None = None,
    progress: bool | None = None,
    batching: Batching | None = None,
    solver_options: Mapping[str, Any] | None = None,
    loss_options: Mapping[str, Any] | None = None,
) -> SweepResult:
    """Factorise V for every rank, seed and combination of settings.

    Each lane is the run that `jaxnmf.factorize` makes of its rank, seed and settings,
    with the same result up to rounding. Ranks are padded to few bucket ranks, one
    program each; a seed, a setting or a penalty never compiles anew. Lanes are spread
    over the cores of a CPU or the width of an accelerator, and stop each by their own
    rule.

    Args:
      V: as for `factorize`; or `DataPerSeed` of them, which the seeds take in turn.
      ranks: the values of p.
      seeds: as a list, or how many: 20 is 0 … 19.
      settings: float settings of the solver, and "l1" or "l2" (for both factors), each
        with the values it is to take: every combination is a lane.
      init: the name of a start.
      max_memory: bytes that the lanes under way may hold; groups are narrowed to fit.
      folder: where finished lanes are kept. A sweep that was cut short and is called
        again does only what is missing.
      progress: show a line with lanes done, best loss and time left; by default only
        for a sweep of over two seconds in a terminal.
      form: how lanes are spread (`jaxnmf.sweeps.lanes.Batching`); by default what
        suits the device.
      Everything else: as for `factorize`.

    Returns:
      A `SweepResult`. After Ctrl-C it has the lanes that were finished, and a warning
      says how many.

    Raises:
      ValueError: for an empty list, a value that occurs twice, a setting that the
        solver does not have, a folder of another sweep, memory too small for a lane,
        and all that `factorize` refuses.

    Example:
      >>> import numpy as np, jaxnmf
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> found = jaxnmf.sweep(V, [2, 3], seeds=4, max_iter=50)
      >>> len(found.table), found.best(3).W.shape
      (8, (30, 3))
    """
    begun = time.perf_counter()
    ranks = check_list("ranks", ranks, 1)
    if isinstance(seeds, int | np.integer) and not isinstance(seeds, bool):
        check_count("seeds", seeds)
        seeds = range(int(seeds))
    seeds = check_list("seeds", seeds, 0)
    made = registry.make_solver(solver, solver_options)
    combinations = make_settings(made, settings)
    stop = make_stop(max_iter, tol, kkt_tol, target)
    check_count("record_every", record_every)
    if not isinstance(init, str):
        raise ValueError("init must be a name; a sweep starts every rank anew")
    if max_memory is not None:
        check_amount("max_memory", max_memory)

    with precision(dtype) as dtype:
        objective = registry.make_loss(loss, loss_options)
        if isinstance(V, DataPerSeed) and mask is not None:
            raise ValueError("mask: Several data have masks of their own")
        data_per_seed = V if isinstance(V, DataPerSeed) else DataPerSeed([V], [mask])
        problems = data_per_seed.problems(dtype, made, objective, l1, l2, constraints)
        lanes = tuple(
            Lane(rank, seed, chosen)
            for rank in ranks
            for chosen in combinations
            for seed in seeds
        )
        builder = LaneBuilder(
            problems=_arranged(problems),
            turns={seed: i % len(problems) for i, seed in enumerate(seeds)},
            solver=made,
            init=init,
            offsets=offsets,
            toward=toward,
            sizes=buckets([lane.rank for lane in lanes]),
            dtype=dtype,
        )
        # What cannot be started is refused before anything is run.
        first_tasks = {
            rank: builder.task(Lane(rank, seeds[0], combinations[0])) for rank in ranks
        }
        runs: list[Run | None] = [None] * len(lanes)
        store = None
        if folder is not None:
            asked = {
                "solver": [made.name, described(made)],
                "loss": [type(objective).name, described(objective)],
                "stop": described(stop),
                "init": init,
                "penalties": described(problems[0].penalties),
                "constraints": described(problems[0].projects),
                "offsets": described([offsets, toward]),
                "dtype": dtype.name,
                "record_every": record_every,
                "kkt": kkt,
                "version": __version__,
                "data": fingerprint([problem.operand for problem in problems]),
            }
            store = LaneStore(Path(folder), asked)
            for i, lane in enumerate(lanes):
                runs[i] = store.read(builder.key(lane))
        records = -(-max_iter // record_every)
        every = {"records": records, "record_every": record_every, "kkt": kkt}
        timings: dict[str, Any] = {}
        interrupted, compiling = False, 0.0
        with progress_bar(len(lanes), progress, "lanes") as show:
            best = np.inf

            def done(i: int, run: Run) -> None:
                nonlocal best
                runs[i] = run = builder.cut(lanes[i], run)
                if store is not None:
                    store.add(builder.key(lanes[i]), run)
                best = min(best, float(run.trace.objective[-1]))
                if show is not None:
                    show(sum(run is not None for run in runs), best)

            try:
                for size in sorted(set(builder.sizes.values()), reverse=True):
                    waiting = [
                        i
                        for i, lane in enumerate(lanes)
                        if runs[i] is None and builder.sizes[lane.rank] == size
                    ]
                    for part, chosen in plan(waiting, batching, timings, problems[0]):
                        like = first_tasks[lanes[part[0]].rank]
                        chosen = fit_memory(max_memory, chosen, like, records)
                        runner = Runner(dtype, stop, batching=chosen, **every)
                        started = time.perf_counter()
                        try:
                            runner.run(part, lambda i: builder.task(lanes[i]), done)
                        finally:
                            compiling += runner.compile_seconds
                        took = time.perf_counter() - started - runner.compile_seconds
                        work = sum(
                            size * int(run.iterations)
                            for i in part
                            if (run := runs[i]) is not None
                        )
                        note_timing(timings, chosen, took, work)
            except KeyboardInterrupt:
                interrupted = True
            finally:
                if store is not None:
                    store.flush()
        result = SweepResult(
            lanes=lanes,
            runs=tuple(runs),
            builder=builder,
            buckets={
                "sizes": sorted(set(builder.sizes.values())),
                "waste": waste([lane.rank for lane in lanes], builder.sizes),
            },
            batching=timings,
            seconds=time.perf_counter() - begun,
            compile_seconds=compiling,
        )
        if interrupted:
            left = sum(run is None for run in runs)
            kept = f", and kept in {folder}" if store is not None else ""
            warnings.warn(
                f"interrupted with {left} of {len(lanes)} lanes to do; those finished "
                f"are in the result{kept}",
                stacklevel=2,
            )
        return result


def float_settings(solver: type) -> list[str]:
    """The settings of a solver's class that lanes of one program may differ in."""
    options = registry.options(solver)
    return [o.name for o in options if o.type is float and not o.static]


def make_settings(
    solver: Any, settings: Mapping[str, Any] | None
) -> list[dict[str, float]]:
    """Every combination of the settings' values."""
    settings = dict(settings or {})
    known = float_settings(type(solver))
    for name, values in settings.items():
        if name not in known and name not in PENALTIES:
            raise ValueError(
                f"settings: solver {solver.name!r} has no float setting {name!r}"
                f"{names.suggestion(name, known)}; there are: "
                f"{', '.join([*known, *PENALTIES])}"
            )
        if np.ndim(values) != 1 or not len(values):
            raise ValueError(
                f"settings: {name}={values!r} must be a list of at least one number"
            )
        for value in values:
            if not is_number(value) or not np.isfinite(value):
                raise ValueError(f"settings: {name}={value!r} must be a finite number")
            if name in PENALTIES:
                check_amount(f"settings: {name}", value)
        if len(set(values)) < len(values):
            raise ValueError(f"settings: {name}={list(values)} names one twice")
    return [
        dict(zip(settings, (float(x) for x in chosen), strict=True))
        for chosen in itertools.product(*settings.values())
    ]
