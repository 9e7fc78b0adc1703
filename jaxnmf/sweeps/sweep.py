"""`sweep`: ranks × seeds × settings of one solver as lanes of few programs."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnmf._util.checks import check_amount, check_count, check_list
from jaxnmf._util.describe import described
from jaxnmf._util.progress import progress_bar
from jaxnmf._version import __version__
from jaxnmf.auto import chosen_solver
from jaxnmf.build import Objective, Start, warn_of_scale
from jaxnmf.data.blocks import check_in_memory
from jaxnmf.data.containers import Names, names_of
from jaxnmf.data.known import what_is_known
from jaxnmf.data.placement import Placement
from jaxnmf.data.spread import is_spread
from jaxnmf.distributed.mesh import as_placement, check_no_graph
from jaxnmf.init.start import AUTO
from jaxnmf.joint import data_of
from jaxnmf.objective.targets import check_weights
from jaxnmf.padding import may_share
from jaxnmf.registry import make_solver
from jaxnmf.run.loop import Run
from jaxnmf.run.programs import precision
from jaxnmf.run.stop import RECORD_EVERY, Stop
from jaxnmf.supported import warn_of_rank
from jaxnmf.sweeps.batching import Batching
from jaxnmf.sweeps.buckets import buckets, waste
from jaxnmf.sweeps.lane import (
    PENALTIES,
    DataPerSeed,
    Lane,
    LaneBuilder,
    stored_for_lanes,
)
from jaxnmf.sweeps.lanes import Runner
from jaxnmf.sweeps.plan import fit_memory, note_timing, plan
from jaxnmf.sweeps.result import SweepResult
from jaxnmf.sweeps.settings import as_seeds, make_settings
from jaxnmf.sweeps.store import LaneStore, fingerprint


def sweep(
    V: Any = None,
    ranks: Any = None,
    seeds: Any = None,
    *,
    views: Any = None,
    solver: Any = AUTO,
    loss: Any = "frobenius",
    settings: Mapping[str, Any] | None = None,
    init: Any = AUTO,
    max_iter: int = 200,
    tol: float = 1e-4,
    kkt_tol: float = 0.0,
    target: float | None = None,
    l1: float | tuple[float, float] = 0.0,
    l2: float | tuple[float, float] = 0.0,
    constraints: Any = "nonnegative",
    mask: Any = None,
    offsets: Any = False,
    toward: Any = "zero",
    known_W: Any = None,
    known_H: Any = None,
    covariates: Any = None,
    batch: Any = None,
    graph: Any = None,
    graph_weight: float | tuple[float, float] = 1.0,
    dtype: Any = "float32",
    record_every: int = RECORD_EVERY,
    kkt: bool = False,
    max_memory: float | None = None,
    folder: str | Path | None = None,
    progress: bool | None = None,
    batching: Batching | None = None,
    mesh: Any = None,
    solver_options: Mapping[str, Any] | None = None,
    loss_options: Any = None,
) -> SweepResult:
    """Factorise V for every rank, seed and combination of settings.

    Each lane is the run that `jaxnmf.factorize` makes of its rank, seed and settings,
    with the same result up to rounding. Ranks are padded to few bucket ranks, one
    program each; a new seed, setting or penalty never recompiles. Lanes are spread over
    the cores of a CPU or the width of an accelerator, of several accelerators each with
    lanes of its own, and each stops by its own rule.

    Args:
      V, views: as for `factorize`; V may be `DataPerSeed`, other data for each seed.
      ranks: the values of p.
      seeds: as a list, or how many: 20 is 0 … 19.
      settings: float settings of the solver, and "l1", "l2" or "graph_weight" (for
        both factors), each with a list of values: every combination is a lane.
      init: the name of a start.
      max_memory: bytes that the lanes in progress may use; groups are narrowed to fit.
        By default half of an accelerator's memory, and no limit on a CPU.
      folder: where finished lanes are saved. An interrupted sweep that is called again
        runs only the missing lanes.
      progress: show a line with lanes done, best objective and time left; by default
        only for a sweep of over two seconds in a terminal.
      batching: how lanes are spread (`jaxnmf.sweeps.batching.Batching`); by default as
        suits the device.
      mesh: several devices over which V is divided, as for `factorize`, where it is too
        large for one: the lanes then run one after the other, each on all of them.
      others: as for `factorize`.

    Returns:
      A `SweepResult`. After Ctrl-C it has the finished lanes, and a warning says how
      many are missing.

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
    check_in_memory("V", V, "a sweep")
    ranks = check_list("ranks", ranks, 1)
    seeds = as_seeds(seeds)
    if not isinstance(init, str):
        raise ValueError("init must be a name; a sweep draws a start for every rank")
    objective = Objective.of(
        loss,
        loss_options=loss_options,
        l1=l1,
        l2=l2,
        toward=toward,
        constraints=constraints,
        offsets=offsets,
        known_W=known_W,
        known_H=known_H,
        covariates=covariates,
        batch=batch,
        graph=graph,
        graph_weight=graph_weight,
    )
    if "l2" not in (settings or ()):
        check_weights(objective.toward, objective.l2)
    own = {name for name in settings or () if name in PENALTIES}
    V, names, objective, joined = data_of(
        V, views, objective, mask, mesh=mesh, settings=own
    )
    solver = solver_of_lanes(solver, solver_options, objective, V, mask, max(ranks))
    found = run_sweep(
        V,
        ranks,
        seeds,
        solver=solver,
        objective=objective,
        # A start from the SVD is the same for every seed.
        start=Start.of("random" if init == AUTO else init),
        stop=Stop.of(max_iter, tol, kkt_tol, target),
        settings=make_settings(solver, settings),
        mask=mask,
        dtype=dtype,
        record_every=record_every,
        kkt=kkt,
        max_memory=max_memory,
        folder=folder,
        progress=progress,
        batching=batching,
        mesh=mesh,
    )
    shape = found.builder.problems[0].operand.shape
    if objective.parts is None:  # with known parts W H may fit no V exactly
        warn_of_rank("ranks", max(ranks), shape)
    if not {"l1", "l2"} & set(settings or ()):
        warn_of_scale(objective)
    return dataclasses.replace(found, names=names, views=joined)


def solver_of_lanes(
    solver: Any,
    options: Mapping[str, Any] | None,
    objective: Objective,
    V: Any,
    mask: Any,
    rank: int,
) -> Any:
    """An instance of the solver, for "auto" that of lanes."""
    if solver != AUTO:
        return make_solver(solver, options)
    pair = V.pairs[0] if isinstance(V, DataPerSeed) else (V, mask)
    known = what_is_known(*pair)
    return chosen_solver(solver, options, objective, known, rank, lanes=True)[0]


def run_sweep(
    V: Any,
    ranks: Sequence[int],
    seeds: Sequence[int],
    *,
    solver: Any,
    objective: Objective,
    start: Start,
    stop: Stop,
    settings: Sequence[Mapping[str, float]] = ({},),
    mask: Any = None,
    dtype: Any = "float32",
    record_every: int = RECORD_EVERY,
    kkt: bool = False,
    max_memory: float | None = None,
    folder: str | Path | None = None,
    progress: bool | None = None,
    batching: Batching | None = None,
    pad: bool = False,
    mesh: Any = None,
) -> SweepResult:
    """The sweep of a specification.

    Args:
      ranks, seeds: distinct integers.
      solver: an instance.
      objective, start, stop: the specification that all lanes share, but for the seed
        of the start.
      settings: what else lanes differ in (`make_settings`).
      pad: whether a small V is padded to one of a few sizes that share programs.
      others: as for `sweep`.
    """
    begun = time.perf_counter()
    check_count("record_every", record_every)
    if max_memory is not None:
        check_amount("max_memory", max_memory)
    if isinstance(V, DataPerSeed) and mask is not None:
        raise ValueError("mask: DataPerSeed has masks of its own")
    with precision(dtype) as dtype:
        data = V if isinstance(V, DataPerSeed) else DataPerSeed([V], [mask])
        placement = _placement(mesh, data, solver, objective, batching)
        several = placement is not None
        problems = data.problems(solver, objective, dtype, mesh=several)
        lanes = tuple(
            Lane(rank, seed, chosen)
            for rank in ranks
            for chosen in settings
            for seed in seeds
        )
        builder = LaneBuilder(
            problems=problems if several else stored_for_lanes(problems),
            data_of_seed={seed: i % len(problems) for i, seed in enumerate(seeds)},
            solver=solver,
            objective=objective,
            init=start.init,
            sizes=buckets([lane.rank for lane in lanes]),
            dtype=dtype,
            pad=pad
            and not several
            and all(may_share(one, solver, max(ranks)) for one in problems),
            starts=data.starts,
            placement=placement,
        )
        # A start that cannot be drawn is refused before anything is run.
        first_tasks = {
            rank: builder.task(Lane(rank, seeds[0], settings[0])) for rank in ranks
        }
        runs: list[Run | None] = [None] * len(lanes)
        store = None
        if folder is not None:
            specification = {
                "version": __version__,
                "solver": [solver.name, described(solver)],
                **described(objective)[1],
                "init": described(start.init),
                "stop": described(stop),
                "dtype": dtype.name,
                "record_every": record_every,
                "kkt": kkt,
                "data": fingerprint(problems),
            }
            store = LaneStore(Path(folder), specification)
            for i, lane in enumerate(lanes):
                runs[i] = store.read(builder.key(lane))
        records = -(-int(stop.max_iter) // record_every)
        every = {"records": records, "record_every": record_every, "kkt": kkt}
        target = float(stop.target) / problems[0].units.objective
        own_stop = dataclasses.replace(stop, target=target)
        timings: dict[str, Any] = {}
        interrupted, compiling = False, 0.0
        with progress_bar(len(lanes), progress, "lanes") as show:
            best = np.inf

            def done(i: int, run: Run) -> None:
                nonlocal best
                runs[i] = run = builder.finished(lanes[i], run)
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
                    given = waiting, batching, timings, problems[0], several
                    for part, chosen in plan(*given):
                        like = first_tasks[lanes[part[0]].rank]
                        chosen = fit_memory(max_memory, chosen, like, records)
                        runner = Runner(
                            dtype,
                            own_stop,
                            graphs=problems[0].graphs,
                            batching=chosen,
                            **every,
                        )
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
            names=Names() if isinstance(V, DataPerSeed) else names_of(V),
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
            kept = f", and saved in {folder}" if store is not None else ""
            warnings.warn(
                f"interrupted with {left} of {len(lanes)} lanes unfinished; the "
                f"finished ones are in the result{kept}",
                stacklevel=3,
            )
        return result


def _placement(
    mesh: Any,
    data: DataPerSeed,
    solver: Any,
    objective: Objective,
    batching: Batching | None,
) -> Placement | None:
    """The placement of V on a user's mesh, None without one."""
    if any(is_spread(V) for V in data.data):
        raise ValueError(
            "V is spread over several processes; a sweep runs in one (a study of "
            "several processes shares its jobs)"
        )
    if mesh is None:
        return None
    if batching is not None:
        raise ValueError(
            f"batching={batching!r} with a mesh, on which lanes run one after the "
            "other; give one of the two"
        )
    check_no_graph(objective)
    placement = as_placement(mesh, what_is_known(*data.pairs[0]).V.shape, solver)
    if placement.several_processes:
        raise ValueError(
            "mesh has devices of other processes; a sweep runs in one process, give a "
            "mesh of jax.local_devices()"
        )
    return placement
