"""One job: a data set, a loss and a solver; a timed run for each rank and seed."""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from jaxnmf import api, datasets, metrics, ratings, registry, topics
from jaxnmf._version import __version__
from jaxnmf.checks import check_list
from jaxnmf.datasets import Dataset
from jaxnmf.experiment import config as configs
from jaxnmf.experiment import store
from jaxnmf.operand import Observed
from jaxnmf.problem import Problem
from jaxnmf.result import Result, to_result
from jaxnmf.run import compiled, measure, timed
from jaxnmf.types import Factors

RECORDED_VERSIONS = ("jax", "jaxlib", "optax", "numpy", "scipy", "hydra-core")
WRITE_SECONDS = 10.0  # a job still running is made readable this often

Report = Callable[[str, int, int], None]
"""Called with (what runs now, runs done, runs in all)."""


def job_key(config: Mapping[str, Any], checksum: str) -> str:
    """The name of a job's result: what was asked for, of which data, by what code."""
    asked = {k: v for k, v in config.items() if k not in ("folder", "name")}
    text = json.dumps([asked, checksum, __version__], sort_keys=True)
    name = "-".join(config[part]["name"] for part in ("dataset", "loss", "solver"))
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def run_job(
    config: Mapping[str, Any], folder: Path, report: Report = lambda *_: None
) -> Path:
    """Run what the config asks for, or find that it was done, and store it.

    Args:
      config: a resolved `StudyConfig`.
      folder: the study folder.
      report: told of every run before it starts.

    Returns:
      The job's folder.

    Raises:
      ValueError: for a config that cannot be run, before anything is run.
    """
    begun = _now()
    dataset_name, options = configs.split_name(config["dataset"])
    dataset = datasets.load(dataset_name, **options)
    checksum = dataset.checksum
    key = job_key(config, checksum)
    if store.has_job(folder, key):
        job = store.read_job(folder / "jobs" / key)
        if job.complete:
            return job.path

    ranks = config["ranks"]
    if ranks is None:
        # What the data set's own field uses.
        ranks = [dataset.rank] if dataset.rank else []
    check_list("ranks", ranks, 1)
    check_list("seeds", config["seeds"], 0)
    solver_name, solver_options = configs.split_name(config["solver"])
    solver = registry.make_solver(solver_name, solver_options)
    loss_name, loss_options = configs.split_name(config["loss"])
    loss = registry.make_loss(loss_name, loss_options)
    stop = api.make_stop(**config["stop"])
    api.check_count("record_every", config["record_every"])

    rated = dataset.kind == "ratings"
    if not rated:
        _check_no_ratings(config, dataset)
    folds = range(config["holdout"]["folds"]) if rated else ()

    with api.precision(config["dtype"]) as dtype:
        given = [config[name] for name in ("l1", "l2", "constraints")]

        @functools.cache
        def part(seed: int, fold: int | None) -> Part:
            """The problem of a split; of data that are no ratings there is but one."""
            V, held, baselines = dataset.V, None, {}
            if rated:
                held = split_of(dataset.V, config["holdout"], seed, fold)
                V, baselines = held.train, _baselines(held)
            problem = api.make_problem(V, dtype, solver, loss, *given)
            return Part(problem, _reference(problem, V, dtype), held, baselines)

        def part_of(seed: int, fold: int | None) -> Part:
            return part(seed, fold) if rated else part(0, None)

        # What cannot be run is refused before anything is.
        part_of(config["seeds"][0], folds[0] if folds else None)

        def row(
            rank: int, seed: int, fold: int | None
        ) -> tuple[dict[str, Any], pd.DataFrame, Result]:
            here = part_of(seed, fold)
            problem, factors = api.begin(
                here.problem,
                rank,
                config["init"]["name"],
                seed,
                config["offsets"],
                config["toward"],
            )
            run = timed(
                problem,
                solver,
                factors,
                jax.random.key(seed),
                stop,
                record_every=config["record_every"],
                kkt=config["kkt"],
            )
            result = to_result(run, problem)
            name = f"r{rank}-s{seed}" + ("" if fold is None else f"-f{fold}")
            trace = pd.DataFrame(
                {
                    "run": name,
                    "iteration": result.trace.iteration,
                    "seconds": result.trace.seconds,
                    "objective": result.trace.loss,
                    "error": _error(loss, result.trace.loss, here.reference),
                    "kkt": result.trace.kkt,
                }
            )
            summary = {
                "run": name,
                "dataset": dataset.name,
                "loss": configs.label(config["loss"], _defaults("loss", loss_name)),
                "model": configs.model_label(config),
                "solver": configs.label(
                    config["solver"], _defaults("solver", solver_name)
                ),
                "rank": rank,
                "seed": seed,
                "objective": result.loss,
                "error": trace["error"].iloc[-1],
                "relative_error": result.relative_error,
                "iterations": result.iterations,
                "seconds": result.seconds,
                "compile_seconds": result.compile_seconds,
                "kkt": result.kkt,
                "status": str(result.status),
                **_quality(dataset, result),
            }
            if here.held is not None:
                summary.update(_predictions(here, result))
            if fold is not None:
                summary["fold"] = fold
            return summary, trace, result

        rows, traces, factors, offsets = [], [], {}, {}

        def write(complete: bool) -> Path:
            return store.write_job(
                folder,
                key,
                config=dict(config),
                manifest=_manifest(config, checksum, begun, complete),
                trace=pd.concat(traces, ignore_index=True),
                summary=pd.DataFrame(rows),
                factors=factors,
                offsets=offsets,
            )

        cases = [
            (rank, seed, fold)
            for rank in ranks
            for seed in config["seeds"]
            for fold in folds or [None]
        ]
        written, complete = time.monotonic(), False
        try:
            for done, (rank, seed, fold) in enumerate(cases):
                what = f"{solver_name}, p = {rank}, seed {seed}"
                report(what, done, len(cases))
                summary, trace, result = row(rank, seed, fold)
                rows.append(summary)
                traces.append(trace)
                factors[summary["run"]] = (result.W, result.H)
                offsets[summary["run"]] = result.offsets
                if time.monotonic() - written > WRITE_SECONDS:
                    write(complete=False)
                    written = time.monotonic()
            complete = True
        finally:
            # Also on Ctrl-C: what was finished stays readable.
            path = write(complete) if rows else folder
        return path


class Part(NamedTuple):
    """What the runs of a split share."""

    problem: Problem
    reference: float
    held: ratings.Split | None
    baselines: dict[str, float]


def _check_no_ratings(config: Mapping[str, Any], dataset: Dataset) -> None:
    for name, default in configs.RATINGS_ONLY.items():
        if config[name] != default:
            raise ValueError(
                f"{name}={config[name]!r} is for data of kind 'ratings', of which "
                f"entries are unknown; {dataset.name!r} is of kind {dataset.kind!r} "
                f"and takes the default, {default!r}"
            )


def split_of(
    V: Any, holdout: Mapping[str, Any], seed: int, fold: int | None
) -> ratings.Split:
    """The split of a run, of ratings whose unstored entries are unknown.

    Raises:
      ValueError: names the key of ``holdout`` that does not fit.
    """
    try:
        return ratings.split(Observed.stored(V), seed, **holdout, fold=fold or 0)
    except ValueError as error:
        raise ValueError(f"holdout.{error}") from None


def _baselines(held: ratings.Split) -> dict[str, float]:
    """The measures of what a factorisation has to beat, such as ``rmse_mean``."""
    fitted = {
        "mean": ratings.global_mean(held.train),
        "offsets": ratings.baseline(held.train),
    }
    return {
        f"{measure}_{name}": value
        for name, simple in fitted.items()
        for measure, value in ratings.measures(held, simple.predict).items()
    }


def _predictions(part: Part, result: Result) -> dict[str, float]:
    """How well a run predicts what it was not trained on, and the simplest do."""
    assert part.held is not None
    return {
        **ratings.measures(part.held, result.predict),
        **part.baselines,
        "test_entries": part.held.test.nnz,
        "unseen": ratings.unseen(part.held.train, part.held.test),
    }


def _reference(problem: Problem, V: Any, dtype: Any) -> float:
    """What a loss is divided by to become an error without units.

    ½‖V‖² for the Frobenius loss, so that the error is the square of the relative
    error; for others the loss of the best matrix whose rows are constant. Of data
    observed in part, over the known entries.
    """
    m, n = V.shape
    observed = isinstance(V, Observed)
    if problem.loss.quadratic:
        data = V.values if observed else V.data if hasattr(V, "nnz") else V
        return 0.5 * float(np.sum(np.square(data, dtype=np.float64)))
    if observed:
        known = np.bincount(V.rows, minlength=m)
        means = np.bincount(V.rows, V.values, minlength=m) / np.maximum(known, 1)
        means = np.where(known, means, V.values.mean())
    else:
        means = V.mean(axis=1)
    means = np.asarray(means, dtype).reshape(1, m)
    factors = Factors(means, np.ones((1, n), dtype))  # pyright: ignore
    bare = Problem.of(problem.matrix, problem.loss)
    look, _ = compiled(measure, bare, factors)
    return float(look(bare, factors).loss)


def _error(loss: Any, objective: np.ndarray, reference: float) -> np.ndarray:
    """The objective without units: see `_reference`."""
    ratio = np.asarray(objective, np.float64) / (reference or 1.0)
    return np.sqrt(np.maximum(ratio, 0)) if loss.quadratic else ratio


def _quality(dataset: Dataset, result: Result) -> dict[str, float]:
    """Measures of the factors, where the data set holds what they need."""
    found = {
        "sparsity_W": float(np.mean(metrics.hoyer_sparsity(result.W, axis=0))),
        "sparsity_H": float(np.mean(metrics.hoyer_sparsity(result.H, axis=1))),
    }
    if dataset.labels is not None:
        clusters = metrics.cluster_by_component(result.W, result.H)
        found["accuracy"] = metrics.clustering_accuracy(dataset.labels, clusters)
        found["ari"] = metrics.adjusted_rand_index(dataset.labels, clusters)
        found["nmi"] = metrics.normalised_mutual_information(dataset.labels, clusters)
    if dataset.kind == "text" and np.isfinite(result.H).all():
        for measure in topics.MEASURES:
            each = topics.coherence(result.H, dataset.V, measure)
            found[measure] = float(pd.Series(each).mean())  # of topics that have one
        found["diversity"] = topics.topic_diversity(result.H)
    truth = dataset.truth
    if truth is not None and truth.W is not None and truth.H is not None:
        found["match_score"] = metrics.factor_match_score(
            result.W, result.H, truth.W, truth.H
        )
    return found


def _defaults(kind: str, name: str) -> dict[str, Any]:
    find = registry.solver_class if kind == "solver" else registry.loss_class
    return {option.name: option.default for option in registry.options(find(name))}


def _manifest(
    config: Mapping[str, Any], checksum: str, begun: str, complete: bool
) -> dict[str, Any]:
    device = jax.devices()[0]
    commit, dirty = _commit()
    return {
        "package_version": __version__,
        "versions": {name: version(name) for name in RECORDED_VERSIONS},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device.platform}: {device.device_kind}",
        "device_count": jax.device_count(),
        "dtype": config["dtype"],
        "precision": api.PRECISION,
        "commit": commit,
        "dirty": dirty,
        "data_checksum": checksum,
        "command": shlex.join(["jaxnmf", "run", *sys.argv[1:]]),
        "started": begun,
        "finished": _now(),
        "complete": complete,
    }


@functools.cache
def _commit() -> tuple[str | None, bool | None]:
    """The commit of the checkout this package runs from, and whether it is changed."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(here), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    tracked = git("ls-files", "--error-unmatch", Path(__file__).name)
    if tracked is None:
        return None, None
    status = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD"), None if status is None else bool(status)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
