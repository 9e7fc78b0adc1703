"""What a study prints when it ends, and its report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxnmf import datasets
from jaxnmf.experiment.config import split_name
from jaxnmf.experiment.store import stored
from jaxnmf.experiment.store.layout import PAGE


class _Datasets:
    """The data sets of a report's jobs, each loaded once."""

    def __init__(self) -> None:
        self._loaded: dict[str, datasets.Dataset] = {}

    def load(self, name: str, options: Mapping[str, Any]) -> datasets.Dataset:
        """The data set of a job."""
        given = {key: value for key, value in options.items() if value is not None}
        key = repr((name, given))
        if key not in self._loaded:
            self._loaded[key] = datasets.load(name, **given)
        return self._loaded[key]

    def check(self, job: stored.StoredJob) -> None:
        """Raise a ValueError if the data of a job have changed; the page says if they
        cannot be loaded."""
        try:
            dataset = self.load(*split_name(job.config["dataset"]))
        except ValueError:
            return
        job.check_data(dataset.checksum)


def print_report(
    folders: Sequence[Path],
    console: Console,
    skipped: Sequence[str] = (),
    *,
    target: str | Path | None = None,
    jobs: Sequence[stored.StoredJob] | None = None,
    figures: bool = False,
    check_data: bool = False,
) -> None:
    """Build report.html from study folders and print its tables.

    Args:
      folders: the study folders.
      console: where tables are printed.
      skipped: reasons why jobs were skipped, to be printed.
      target: the folder of the page; needed where there are several folders.
      jobs: the jobs of the folders, where they have been read already.
      figures: as in `report.build_report`.
      check_data: raise an error, after the report is written, if the data of a job have
        changed.

    Raises:
      ValueError: a folder has no jobs or a corrupt one, or the data have changed. The
        page then has the tables, but no pictures of these data.
    """
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"folder: {str(folder)!r} is not a study folder")
    # Imported here: matplotlib takes as long to import as everything else.
    from jaxnmf.experiment import report

    jobs = report.merged(folders) if jobs is None else jobs
    summary, trace = report.gather(jobs)
    report.print_table(report.comparison_table(summary, trace), console)
    report.print_predictions(report.prediction_table(summary), console)
    report.print_choices(report.choices_table(jobs), console)
    report.print_sensitivity(report.sensitivity_table(jobs), console)
    used = _Datasets()
    page = report.build_report(
        folders,
        target=target,
        load_dataset=used.load,
        jobs=jobs,
        figures=figures,
    )
    for reason in skipped:
        print_line(console, f"skipped: {reason}")
    print_line(console, f"report: {page}")
    if check_data:
        for each in jobs:
            used.check(each)


def messages(ended: Sequence[Mapping[str, Any]], status: str) -> list[str]:
    """The distinct messages of outcomes with a status, in order."""
    messages = (one["message"] for one in ended if one["status"] == status)
    return list(dict.fromkeys(messages))


def print_outcomes(
    folder: Path, ended: Sequence[Mapping[str, Any]], console: Console
) -> None:
    """Print the notes and warnings of a call, and the report if there is anything
    new."""
    for message in messages(ended, "note"):
        print_line(console, f"data: {message}")
    for message in messages(ended, "warning"):
        print_line(console, f"warning: {message}")
    complete = sum(one["status"] == "done before" for one in ended)
    new = any(one["status"] not in ("done before", "skipped", "note") for one in ended)
    if (folder / PAGE).is_file() and complete and not new:
        print_complete(folder, complete, console)
        return
    from jaxnmf.experiment import report

    if jobs := report.merged([folder]):
        print_report([folder], console, messages(ended, "skipped"), jobs=jobs)


def print_complete(folder: Path, jobs: int, console: Console) -> None:
    done = f"{jobs} job{'s' * (jobs > 1)} done before"
    print_line(console, f"nothing to do: {done}\nreport: {folder / PAGE}")


def print_queue(folder: Path, jobs: int, console: Console) -> None:
    if jobs:
        count, path = f"{jobs} job{'s' * (jobs > 1)}", shlex.quote(str(folder))
        print_line(console, f"{count} in the queue; run them by jaxnmf work {path}")


def print_line(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
