"""`sweep`: seeds × ranks × settings of one solver as lanes of few programs."""

from __future__ import annotations

import dataclasses
import itertools
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf import registry
from jaxnmf._version import __version__
from jaxnmf.api import begin, make_problem, make_stop, progress_bar
from jaxnmf.checks import check_amount, check_count, check_list, is_number
from jaxnmf.lane_store import LaneStore, described, fingerprint
from jaxnmf.lanes import Form, Runner, Task
from jaxnmf.matrix import Dense
from jaxnmf.problem import Problem
from jaxnmf.programs import precision
from jaxnmf.result import Result, to_result
from jaxnmf.run import RECORD_EVERY, Run
from jaxnmf.types import Factors, Status

WASTE = 0.25  # of the work, what padding to a bucket's rank may add
GROUP = 8  # lanes in a group on a CPU
CACHE = 2**20  # bytes of X that the lanes of a group may have without falling out of it
TALL = 4  # from this m/n on V is stored along its columns on a CPU
PENALTIES = ("l1", "l2")


@dataclasses.dataclass(frozen=True)
class Lane:
    """What one lane runs: a rank, a seed, and the settings it differs in."""

    rank: int
    seed: int
    settings: Mapping[str, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Several:
    """Data of one shape that the seeds of a sweep take in turn: the i-th seed works on
    the i-th of them, and after the last on the first again.

    For resampled data, and for one V of which each seed knows other entries.

    Args:
      data: each what `factorize` takes. All are held at once.
      masks: what is known of each, or None.
    """

    data: Sequence[Any]
    masks: Sequence[Any] | None = None

    def problems(self, *given: Any) -> tuple[Problem, ...]:
        """The problem of each, by `make_problem`.

        Raises:
          ValueError: where there are none, or they differ in shape or kind.
        """
        masks = [None] * len(self.data) if self.masks is None else self.masks
        if not len(self.data) or len(masks) != len(self.data):
            raise ValueError(
                f"Several: {len(masks)} masks do not fit {len(self.data)} data; one "
                "for each would, and there must be some"
            )
        # A problem for the same two objects is made once, and its matrix is shared.
        made: dict[tuple[int, int], Problem] = {}
        for V, mask in zip(self.data, masks, strict=True):
            if (id(V), id(mask)) not in made:
                made[id(V), id(mask)] = make_problem(V, *given, mask=mask)
        kinds = {_kind(problem.matrix) for problem in made.values()}
        if len(kinds) > 1:
            raise ValueError(
                f"Several: the data differ in shape, kind or known entries: {kinds}"
            )
        return tuple(
            made[id(V), id(mask)] for V, mask in zip(self.data, masks, strict=True)
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Maker:
    """What makes the run of a lane."""

    problems: tuple[Problem, ...]  # without a lane's own penalties, offsets and rank
    turns: Mapping[int, int]  # which of the problems a seed works on
    solver: Any
    init: str
    offsets: Any
    toward: str
    sizes: Mapping[int, int]  # the bucket of a rank
    dtype: Any

    def problem(self, lane: Lane) -> Problem:
        """What a lane works on, as above."""
        return self.problems[self.turns[lane.seed]]

    def unpadded(self, lane: Lane) -> tuple[Problem, Factors]:
        """The problem of a lane and its start, at its own rank."""
        with precision(self.dtype.name):
            own = {
                name: np.asarray(value, self.dtype)
                for name, value in lane.settings.items()
                if name in PENALTIES
            }
            problem = self.problem(lane)
            penalties = tuple(
                dataclasses.replace(penalty, **own) for penalty in problem.penalties
            )
            problem = dataclasses.replace(problem, penalties=penalties)
            given = (lane.rank, self.init, lane.seed, self.offsets, self.toward)
            return begin(problem, *given)

    def task(self, lane: Lane) -> Task:
        """The run of a lane, padded to its bucket."""
        problem, factors = self.unpadded(lane)
        problem, factors = padded(problem, factors, self.sizes[lane.rank] - lane.rank)
        own = {k: v for k, v in lane.settings.items() if k not in PENALTIES}
        solver = dataclasses.replace(self.solver, **own)
        solver = jax.tree.map(lambda x: np.asarray(x, self.dtype), solver)
        return Task(problem, solver, factors, np.int64(lane.seed))

    def key(self, lane: Lane) -> str:
        """The name of a lane where lanes are kept. Of several data it says which: a
        seed's own are another's when there are more seeds."""
        parts = [f"{k}={v!r}" for k, v in sorted(lane.settings.items())]
        if len(self.problems) > 1:
            parts.append(f"data={self.turns[lane.seed]}")
        return ",".join([f"rank={lane.rank}", f"seed={lane.seed}", *parts])

    def cut(self, lane: Lane, run: Run) -> Run:
        """The run without the rows that padded its factors."""
        rows = lane.rank + len(run.factors.H) - self.sizes[lane.rank]
        return run._replace(factors=Factors(*(X[:rows] for X in run.factors)))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SweepResult:
    """The lanes of a sweep.

    Attributes:
      lanes: what each lane ran.
      runs: what it left, None for a lane that was not finished.
      buckets: the ranks that factors were padded to, and the waste: what padding added
        to the work, as a share.
      form: how lanes were spread over threads and groups, and what was measured.
      seconds: of the whole sweep; compile_seconds: of that, spent compiling.
      complete: whether every lane was finished.
    """

    lanes: tuple[Lane, ...]
    runs: tuple[Run | None, ...]
    maker: Maker
    buckets: dict[str, Any]
    form: dict[str, Any]
    seconds: float
    compile_seconds: float

    @property
    def complete(self) -> bool:
        return all(run is not None for run in self.runs)

    @property
    def table(self) -> Any:
        """A `pandas.DataFrame` with a row a finished lane: lane, rank, seed, its
        settings, loss, relative_error (Frobenius only: ‖V − WH‖_F / ‖V‖_F from the
        loss), kkt, iterations, status."""
        import pandas as pd

        quadratic = self.maker.problems[0].loss.quadratic
        sizes = [
            _squares(problem.matrix) if quadratic else 0.0
            for problem in self.maker.problems
        ]
        rows = []
        for i, (lane, run) in enumerate(zip(self.lanes, self.runs, strict=True)):
            if run is None:
                continue
            size = sizes[self.maker.turns[lane.seed]]
            rows.append(
                {
                    "lane": i,
                    "rank": lane.rank,
                    "seed": lane.seed,
                    **lane.settings,
                    "loss": float(run.trace.loss[-1]),
                    "relative_error": self._relative_error(lane, run, size),
                    "kkt": float(run.trace.kkt[-1]),
                    "iterations": int(run.iterations),
                    "status": str(Status.from_code(int(run.status))),
                }
            )
        return pd.DataFrame(rows)

    def _relative_error(self, lane: Lane, run: Run, size: float) -> float:
        """From the loss, and ``size`` = Σ w v²; NaN where that is 0."""
        if size == 0:
            return float("nan")
        problem, _ = self.maker.unpadded(lane)
        with precision(self.maker.dtype.name):
            pairs = zip(problem.penalties, run.factors, strict=True)
            penalty = sum(float(p.value(jnp.asarray(X))) for p, X in pairs)
        fit = max(float(run.trace.loss[-1]) - penalty, 0.0)
        return float(np.sqrt(2 * fit / size))

    def factors(self, lane: int) -> tuple[np.ndarray, np.ndarray]:
        """(W, H) of a lane, (m, p) and (p, n)."""
        result = self.result(lane)
        return result.W, result.H

    def result(self, lane: int) -> Result:
        """The `Result` of a lane, as `jaxnmf.factorize` gives it.

        Raises:
          ValueError: for a lane that there is not, or that was not finished.
        """
        if not 0 <= lane < len(self.lanes):
            raise ValueError(f"lane={lane!r} must be within 0 … {len(self.lanes) - 1}")
        run = self.runs[lane]
        if run is None:
            raise ValueError(f"lane {lane} was not finished: {self.lanes[lane]}")
        problem, _ = self.maker.unpadded(self.lanes[lane])
        return to_result(run, problem)

    def best(self, rank: int | None = None) -> Result:
        """The result of the lowest loss, its own penalties included, of a rank or of
        all.

        Raises:
          ValueError: when no lane of that rank was finished without diverging.
        """
        found = [
            (float(run.trace.loss[-1]), i)
            for i, (lane, run) in enumerate(zip(self.lanes, self.runs, strict=True))
            if run is not None
            and rank in (None, lane.rank)
            and int(run.status) != Status.DIVERGED.code
        ]
        if not found:
            ranks = sorted({lane.rank for lane in self.lanes})
            raise ValueError(
                f"no finished lane of rank {rank}; the sweep has ranks {ranks}"
            )
        return self.result(min(found)[1])

    def __repr__(self) -> str:
        done = sum(run is not None for run in self.runs)
        ranks = sorted({lane.rank for lane in self.lanes})
        return (
            f"SweepResult({done} of {len(self.lanes)} lanes, p = {ranks}, "
            f"{self.seconds:.3g} s of which {self.compile_seconds:.2g} s compiling)"
        )


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
    form: Form | None = None,
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
      V: as for `factorize`; or `Several` of them, which the seeds take in turn.
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
      form: how lanes are spread (`jaxnmf.lanes.Form`); by default what suits the
        device.
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
        if isinstance(V, Several) and mask is not None:
            raise ValueError("mask: Several data have masks of their own")
        several = V if isinstance(V, Several) else Several([V], [mask])
        problems = several.problems(dtype, made, objective, l1, l2, constraints)
        lanes = tuple(
            Lane(rank, seed, chosen)
            for rank in ranks
            for chosen in combinations
            for seed in seeds
        )
        maker = Maker(
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
            rank: maker.task(Lane(rank, seeds[0], combinations[0])) for rank in ranks
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
                "data": fingerprint([problem.matrix for problem in problems]),
            }
            store = LaneStore(Path(folder), asked)
            for i, lane in enumerate(lanes):
                runs[i] = store.read(maker.key(lane))
        records = -(-max_iter // record_every)
        every = {"records": records, "record_every": record_every, "kkt": kkt}
        told: dict[str, Any] = {}
        interrupted, compiling = False, 0.0
        with progress_bar(len(lanes), progress, "lanes") as show:
            best = np.inf

            def done(i: int, run: Run) -> None:
                nonlocal best
                runs[i] = run = maker.cut(lanes[i], run)
                if store is not None:
                    store.add(maker.key(lanes[i]), run)
                best = min(best, float(run.trace.loss[-1]))
                if show is not None:
                    show(sum(run is not None for run in runs), best)

            try:
                for size in sorted(set(maker.sizes.values()), reverse=True):
                    waiting = [
                        i
                        for i, lane in enumerate(lanes)
                        if runs[i] is None and maker.sizes[lane.rank] == size
                    ]
                    for part, chosen in plan(waiting, form, told, problems[0]):
                        like = first_tasks[lanes[part[0]].rank]
                        chosen = within(max_memory, chosen, like, records)
                        runner = Runner(dtype, stop, form=chosen, **every)
                        started = time.perf_counter()
                        try:
                            runner.run(part, lambda i: maker.task(lanes[i]), done)
                        finally:
                            compiling += runner.compile_seconds
                        took = time.perf_counter() - started - runner.compile_seconds
                        work = sum(
                            size * int(run.iterations)
                            for i in part
                            if (run := runs[i]) is not None
                        )
                        tell(told, chosen, took, work)
            except KeyboardInterrupt:
                interrupted = True
            finally:
                if store is not None:
                    store.flush()
        result = SweepResult(
            lanes=lanes,
            runs=tuple(runs),
            maker=maker,
            buckets={
                "sizes": sorted(set(maker.sizes.values())),
                "waste": waste([lane.rank for lane in lanes], maker.sizes),
            },
            form=told,
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
                f"{registry.suggestion(name, known)}; there are: "
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


def buckets(ranks: Sequence[int], most: float = WASTE) -> dict[int, int]:
    """{rank: the bucket rank it is padded to}: as few buckets as keep the waste, of all
    lanes together, below ``most``; of those the ones that waste least.

    A lane's work is taken as proportional to its rank, which its products with V are.
    """
    distinct = sorted(set(ranks))
    counts = [sum(rank == one for rank in ranks) for one in distinct]
    work = sum(rank * count for rank, count in zip(distinct, counts, strict=True))

    def cost(first: int, last: int) -> int:
        """Of the ranks first … last padded to the last."""
        return distinct[last] * sum(counts[first : last + 1])

    n = len(distinct)
    # best[j]: (work, ends of the buckets) of the first j ranks in so many buckets.
    best: list[tuple[float, tuple[int, ...]]] = [(0, ())] + [(np.inf, ())] * n
    for _ in range(n):
        best = [(np.inf, ())] + [
            min(
                (best[i][0] + cost(i, j), (*best[i][1], distinct[j]))
                for i in range(j + 1)
            )
            for j in range(n)
        ]
        if best[n][0] < (1 + most) * work:
            break
    return {rank: next(end for end in best[n][1] if end >= rank) for rank in distinct}


def waste(ranks: Sequence[int], sizes: Mapping[int, int]) -> float:
    """What padding adds to the work, as a share of it."""
    return sum(sizes[rank] for rank in ranks) / sum(ranks) - 1


def padded(problem: Problem, factors: Factors, extra: int) -> tuple[Problem, Factors]:
    """The problem and factors with ``extra`` components more that are absent; also with
    none, so that every lane has a mask and one structure."""
    rank = len(factors.H)
    dtype = problem.matrix.dtype
    mask = np.array([1.0] * rank + [0.0] * extra, dtype)

    def grown(x: Any, value: float = 0.0) -> Any:
        x = np.asarray(x)
        if x.ndim == 0 or x.shape[0] != rank:
            return x
        width = [(0, extra)] + [(0, 0)] * (x.ndim - 1)
        return np.pad(x, width, constant_values=value)

    projects = tuple(
        dataclasses.replace(
            project,
            mask=mask,
            pinned=None if project.pinned is None else grown(project.pinned, np.nan),
        )
        for project in problem.projects
    )
    penalties = jax.tree.map(grown, problem.penalties)
    problem = dataclasses.replace(problem, projects=projects, penalties=penalties)
    return problem, Factors(*(grown(X) for X in factors))  # pyright: ignore


def plan(
    waiting: list[int], form: Form | None, told: Mapping[str, Any], problem: Problem
) -> Iterator[tuple[list[int], Form]]:
    """Parts of the lanes and the form for each.

    On a CPU a group of lanes makes larger products of a shared V, and a lane alone
    keeps its X to the cache; which is faster depends on the shapes. So where there are
    many lanes the first are run alone and the next in groups, and all others in what
    was faster; few are run in what is likely to be.
    """
    if not waiting:
        return
    if form is not None or jax.default_backend() != "cpu":
        yield waiting, form or Form.default(len(waiting))
        return
    alone = Form.default(len(waiting))
    few, more = alone.workers, GROUP * alone.workers
    group, found = fitting(len(waiting), alone.workers), _found(told)
    if len(found) < 2 and len(waiting) >= 2 * (few + more):
        group = GROUP
        yield waiting[:few], alone
        yield waiting[few : few + more], dataclasses.replace(alone, group=group)
        waiting, found = waiting[few + more :], _found(told)
    if len(found) == 2:
        grouped = found[True] < found[False]
    else:
        size = np.prod(problem.matrix.shape) * np.dtype(problem.matrix.dtype).itemsize
        grouped = problem.by_gram or GROUP * size <= CACHE
    if waiting:
        yield waiting, dataclasses.replace(alone, group=group) if grouped else alone


def fitting(lanes: int, workers: int) -> int:
    """The width of groups, at most `GROUP`, that shares the lanes evenly out."""
    each = -(-lanes // workers)
    rounds = max(1, -(-each // GROUP))
    return max(1, -(-each // rounds))


def _found(told: Mapping[str, Any]) -> dict[bool, float]:
    """Seconds for the work of lanes in groups (True) and alone (False), where known."""
    return {entry["group"] > 1: entry["seconds_per_work"] for entry in told.values()}


def tell(told: dict[str, Any], form: Form, seconds: float, work: int) -> None:
    """Note what a form took; the first time, per iteration and component of a lane."""
    entry = told.setdefault(str(form), {"group": form.group, "seconds": 0.0, "work": 0})
    entry["seconds"] += seconds
    entry["work"] += work
    entry.setdefault("seconds_per_work", seconds / max(work, 1))


def within(max_memory: float | None, form: Form, task: Task, records: int) -> Form:
    """The form, narrowed until the lanes under way fit into ``max_memory`` bytes.

    A lane holds its factors, a state that is taken to be three times as large, and its
    trace; X is worked off in blocks that all lanes of a worker share.
    """
    if max_memory is None:
        return form
    factors = sum(np.asarray(X).nbytes for X in task.factors)
    block = getattr(task.problem.matrix, "block", 0) * task.problem.matrix.shape[1]
    itemsize = np.dtype(task.problem.matrix.dtype).itemsize
    lane = 4 * factors + 4 * itemsize * (records + 1) + 2 * itemsize * block
    if lane > max_memory:
        raise ValueError(
            f"max_memory={max_memory:g} bytes is too little for one lane, which needs "
            f"about {lane:g}"
        )
    while form.workers * form.group * lane > max_memory:
        if form.group > 1:
            form = dataclasses.replace(form, group=form.group // 2)
        else:
            form = dataclasses.replace(form, workers=form.workers - 1)
    return form


def _arranged(problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    """The problems with V stored as suits the products of many lanes; a problem that
    stands there several times stays one."""
    made: dict[int, Problem] = {}
    for problem in problems:
        if id(problem) in made:
            continue
        matrix = problem.matrix
        m, n = matrix.shape
        tall = isinstance(matrix, Dense) and m >= TALL * n
        on_cpu = jax.default_backend() == "cpu"
        if tall and on_cpu and len(matrix.array.devices()) == 1:
            made[id(problem)] = dataclasses.replace(problem, matrix=matrix.along())
        else:
            made[id(problem)] = problem
    return tuple(made[id(problem)] for problem in problems)


def _kind(matrix: Any) -> tuple[Any, ...]:
    """What operands have in common that one program serves."""
    leaves, structure = jax.tree.flatten(matrix)
    return matrix.kind, matrix.shape, structure, tuple(x.shape for x in leaves)


def _squares(matrix: Any) -> float:
    """Σ w v²."""
    values, weights = matrix.to_host(), matrix.host_weights()
    if hasattr(values, "tocsr"):
        values = values.data
        weights = None if weights is None else weights.data
    squares = np.square(values, dtype=np.float64)
    return float((squares if weights is None else squares * weights).sum())
