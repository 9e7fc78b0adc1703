"""What a report is made of: jobs of one or several folders, and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from jaxnmf.experiment.report import statistics
from jaxnmf.experiment.report.files import ReportFiles
from jaxnmf.experiment.report.look import Line, solver_lines
from jaxnmf.experiment.store.stored import StoredJob, read_jobs


@dataclass(frozen=True, eq=False)
class Contents:
    """The jobs, the tables of their runs, and the files beside the page.

    ``summary``, ``trace`` and ``table`` (`statistics.comparison_table`) are of the jobs
    of kind ``"runs"`` alone.
    """

    jobs: Sequence[StoredJob]
    summary: pd.DataFrame
    trace: pd.DataFrame
    table: pd.DataFrame
    lines: dict[str, Line]
    files: ReportFiles

    @classmethod
    def of(cls, jobs: Sequence[StoredJob], *, figures: bool = False) -> Contents:
        """Gather the tables of the jobs; ``figures`` as in `page.build_report`."""
        summary, trace = statistics.gather(jobs)
        table = statistics.comparison_table(summary, trace)
        lines = solver_lines({str(x) for job in jobs for x in job.summary["solver"]})
        return cls(jobs, summary, trace, table, lines, ReportFiles(figures))

    def of_kind(self, kind: str) -> list[StoredJob]:
        """The jobs of a kind (`StoredJob.kind`)."""
        return [job for job in self.jobs if job.kind == kind]


class Section(Protocol):
    """A module that adds a section to the page.

    ``section`` gives what its template needs, or None where the jobs have nothing of
    it; the template, a file of this folder, sees that as ``section``. ``summary`` says
    the same in a few sentences, which the head of the page gives under ``LABEL``.
    """

    TITLE: str
    LABEL: str
    TEMPLATE: str

    def section(self, contents: Contents) -> dict[str, Any] | None: ...

    def summary(self, shown: dict[str, Any]) -> list[str]: ...


def merged(folders: Sequence[Path]) -> list[StoredJob]:
    """The jobs of several study folders that have any runs, one of each key.

    Of a job that is in two folders the complete one is taken, of two complete ones
    that with more runs, of equal ones the first.

    Raises:
      ValueError: names the folder that holds a corrupt job.
    """
    found: dict[str, StoredJob] = {}
    for folder in folders:
        for job in read_jobs(folder):
            other = found.get(job.key)
            if len(job.summary) and (other is None or _worth(job) > _worth(other)):
                found[job.key] = job
    return [found[key] for key in sorted(found)]


def _worth(job: StoredJob) -> tuple[bool, int]:
    return job.complete, len(job.summary)
