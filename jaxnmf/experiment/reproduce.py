"""`jaxnmf reproduce`: runs the jobs of a study again and compares the bits."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxnmf import datasets
from jaxnmf.experiment.config import labels, split_name
from jaxnmf.experiment.jobs.job import run_job
from jaxnmf.experiment.store import stored
from jaxnmf.experiment.store.stored import StoredJob

COMPARED = ("iteration", "objective", "error", "kkt")
"""Columns of the trace that are compared: all but the seconds."""
LANE_TOLERANCE = 1e-3
"""Relative tolerance of the final objective of a lane."""
ENVIRONMENT = ("package_version", "device", "device_count", "xla_flags", "platform")


@dataclass(frozen=True)
class Comparison:
    """A job and its repetition.

    Attributes:
      runs: the number of runs.
      differences: for each run that differs, where it first does; empty for the same
        bits in every factor and trace. Lanes are compared by their final objective.
      environment: differences of the machine and the versions.
    """

    job: StoredJob
    runs: int
    differences: tuple[str, ...]
    environment: tuple[str, ...]

    @property
    def same(self) -> bool:
        return not self.differences


def reproduce(
    folder: Path, sample: int | None = None, seed: int = 0
) -> Iterator[Comparison]:
    """Run the complete jobs of a study again, one after another.

    The time budget of a run is replaced by the iterations that it took, so that its
    factors can be compared on a machine of any speed.

    Args:
      folder: the study folder, which is only read.
      sample: number of jobs, drawn at random; all by default.
      seed: of the draw.

    Raises:
      ValueError: if there is no complete job, a job is corrupt, its data have changed,
        or it cannot be run.
    """
    jobs = [job for job in stored.read_jobs(folder) if job.complete]
    if not jobs:
        raise ValueError(
            f"folder: {str(folder)!r} contains no complete job under jobs/"
        )
    if sample is not None and sample < len(jobs):
        chosen = np.random.default_rng(seed).choice(len(jobs), sample, replace=False)
        jobs = [jobs[i] for i in sorted(chosen)]
    for job in jobs:
        _check_data(job)
    for job in jobs:
        yield _repeated(job)


def print_reproduction(found: Iterator[Comparison], console: Console) -> bool:
    """Print a line for each job as it ends; returns whether all were the same."""
    differing, count, exact = [], 0, True
    for one in found:
        count += 1
        exact = exact and one.job.kind == "runs"
        names = labels(one.job.config)
        title = f"{names['dataset']}, {names['loss']}, {names['solver']}"
        timed = one.job.kind == "runs"
        verdict = "same bits" if timed else "same up to rounding"
        if not one.same:
            verdict = f"{len(one.differences)} of them differ"
        console.print(
            Text(
                f"{title}: {_plural(one.runs, 'run' if timed else 'lane')}, {verdict}"
            ),
            highlight=False,
            soft_wrap=True,
        )
        if not one.same:
            differing.append((title, one))
    if not differing:
        what = "the same bits" if exact else "the same result, lanes up to rounding"
        console.print(f"all of {_plural(count, 'job')} gave {what}", highlight=False)
        return True
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("job")
    table.add_column("what differs", overflow="fold")
    for title, one in differing:
        lines = [*one.differences[:5], *one.environment]
        if len(one.differences) > 5:
            lines.insert(5, f"and {len(one.differences) - 5} more runs")
        table.add_row(Text(title), Text("\n".join(lines)))
    console.print(table)
    console.print(
        f"{len(differing)} of {_plural(count, 'job')} differ", highlight=False
    )
    return False


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _check_data(job: StoredJob) -> None:
    name, options = split_name(job.config["dataset"])
    job.check_data(datasets.load(name, **options).checksum)


def _repeated(job: StoredJob) -> Comparison:
    # For every run: on a loaded machine the time budget may end any of them earlier.
    iterations = job.summary["iterations"].astype(int)
    limits = dict(zip(job.summary["run"], iterations, strict=True))
    with _scratch() as folder:
        again = run_job(job.config, folder, limits=limits).job
        runs = list(job.summary["run"])
        difference = _difference if job.kind == "runs" else _lane_difference
        differences = [difference(job, again, run) for run in runs]
        chosen, now = (x.manifest.get("chosen") for x in (job, again))
        if chosen != now:
            differences.insert(0, f"p={chosen} was chosen before, p={now} now")
    return Comparison(
        job=job,
        runs=len(runs),
        differences=tuple(one for one in differences if one),
        environment=tuple(_environment(job, again)),
    )


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="jaxnmf-reproduce-") as folder:
        yield Path(folder)


def _difference(job: StoredJob, again: StoredJob, run: str) -> str:
    """Where a run first differs, or ""."""
    one, other = (_trace(x, run) for x in (job, again))
    count = min(len(one), len(other))
    for column in COMPARED:
        a, b = (_values(x[column], count) for x in (one, other))
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        if not same.all():
            first = int(np.argmin(same))
            return (
                f"{run}: {column} from record {first} (iteration "
                f"{int(one['iteration'].iloc[first])}): {a[first]:.9g} before, "
                f"{b[first]:.9g} now"
            )
    if len(one) != len(other):
        return f"{run}: {len(one)} records before, {len(other)} now; equal up to there"
    try:
        pairs: list[Any] = list(
            zip("WH", job.factors(run), again.factors(run), strict=True)
        )
    except ValueError:  # only the best lanes have factors
        return ""
    offsets, other_offsets = job.offsets(run), again.offsets(run)
    if offsets is not None and other_offsets is not None:
        pairs += zip("bc", offsets, other_offsets, strict=True)
    for name, a, b in pairs:
        if a.tobytes() != b.tobytes():
            largest = float(np.max(np.abs(a - b)))
            return f"{run}: {name} by up to {largest:.3g}, with the same trace"
    return ""


def _lane_difference(job: StoredJob, again: StoredJob, run: str) -> str:
    """The final objectives of a lane where they differ, or "". Which lanes share a
    program depends on timings, and rounding depends on that."""
    one, other = (
        x.summary.loc[x.summary["run"] == run, "objective"].item() for x in (job, again)
    )
    if one == other or abs(one - other) <= LANE_TOLERANCE * abs(one):
        return ""
    return f"{run}: objective {one:.9g} before, {other:.9g} now"


def _trace(job: StoredJob, run: str) -> Any:
    return job.trace[job.trace["run"] == run]


def _values(column: Any, count: int) -> np.ndarray:
    return column.to_numpy(np.float64)[:count]


def _environment(job: StoredJob, again: StoredJob) -> Iterator[str]:
    recorded, now = job.manifest, again.manifest
    versions = [
        (package, version, now["versions"].get(package))
        for package, version in recorded.get("versions", {}).items()
    ]
    named = [(key, recorded.get(key), now.get(key)) for key in ENVIRONMENT]
    for name, before, after in (*versions, *named):
        if before != after:
            yield f"{name}: {before} before, {after} now"
    if "program" in job.summary and "program" in again.summary:
        pairs = zip(job.summary["program"], again.summary["program"], strict=False)
        if any(before != after for before, after in pairs):
            yield "the compiled programs differ"
