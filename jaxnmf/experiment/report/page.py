"""The page: `build_report` reads the jobs, renders the templates, writes the files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from jaxnmf.experiment.report import (
    choices,
    profiles,
    provenance,
    sentences,
    settings,
    significance,
    words,
)
from jaxnmf.experiment.report.contents import Contents, Section, merged
from jaxnmf.experiment.report.files import write_report
from jaxnmf.experiment.report.problems import LoadDataset, problems
from jaxnmf.experiment.report.statistics import prediction_table
from jaxnmf.experiment.report.tables import Cell, Column
from jaxnmf.experiment.store.stored import StoredJob

MODULES: Any = (profiles, significance, choices, settings)
SECTIONS: tuple[Section, ...] = MODULES
"""The parts between the summary and the data sets, in their order."""


def build_report(
    folder: str | Path | Sequence[str | Path],
    *,
    target: str | Path | None = None,
    load_dataset: LoadDataset | None = None,
    jobs: Sequence[StoredJob] | None = None,
    figures: bool = False,
) -> Path:
    """Write ``report.html`` and ``tables/*.csv``, from the stored jobs alone.

    Args:
      folder: the study folder, or several, whose jobs are merged; a job that is in two
        of them counts once.
      target: the folder to write into; of a single study by default its own.
      load_dataset: loads the data set of a job's config, so that factors are shown in
        the form of the data. If it raises, the page gives the reason instead.
      jobs: the jobs of the folders (`merged`), if they have been read already.
      figures: also write each figure as SVG and PNG and each table as LaTeX.

    Returns:
      The page's path.

    Raises:
      ValueError: if a folder has a corrupt job, none has any run, several folders are
        given without a target, or the target cannot be written.
    """
    single = isinstance(folder, (str, Path))
    folders = [Path(folder)] if single else [Path(each) for each in folder]
    if not folders:
        raise ValueError("folder: expected one or more study folders, got none")
    if target is None:
        if len(set(folders)) > 1:
            raise ValueError(
                f"target: the report of {len(folders)} folders needs one to go into "
                "(--into)"
            )
        target = folders[0]
    jobs = merged(folders) if jobs is None else jobs
    if not jobs:
        named = words.listed(repr(str(each)) for each in folders)
        raise ValueError(f"folder: {named} holds no runs under jobs/")
    contents = Contents.of(jobs, figures=figures)
    page = template("page.html.j2", figures=figures).render(
        **_context(folders, Path(target), contents, load_dataset)
    )
    return write_report(Path(target), page, contents.files)


def template(name: str, *, figures: bool = False) -> jinja2.Template:
    """A template of this folder; with ``figures``, it links to files of them."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["word_cells"] = _word_cells
    environment.filters["share_cells"] = _share_cells
    environment.filters["share_columns"] = _share_columns
    environment.globals["figures"] = figures
    return environment.get_template(name)


def style() -> Markup:
    """The style sheet of every page."""
    return Markup((Path(__file__).parent / "page.css").read_text("utf-8"))


def _word_cells(words: Any) -> list[list[Cell]]:
    """Rows of a word, a bar and a share."""
    return [[Cell(x), Cell("", part=part), Cell(share)] for x, share, part in words]


def _share_columns(table: Any) -> list[Column]:
    return [Column(table.corner), *map(Column, table.columns)]


def _share_cells(rows: Any) -> list[list[Cell]]:
    """Rows of a name and shares, each shaded by how large it is."""
    return [
        [Cell(name), *(Cell(text, part=part if text else None) for text, part in cells)]
        for name, cells in rows
    ]


def _context(
    folders: Sequence[Path],
    target: Path,
    contents: Contents,
    load_dataset: LoadDataset | None,
) -> dict[str, Any]:
    """What the templates need."""
    sections: dict[Any, dict[str, Any]] = {
        module: {
            "id": module.TITLE.lower().replace(" ", "-"),
            "title": module.TITLE,
            "template": module.TEMPLATE,
            **shown,
        }
        for module in SECTIONS
        if (shown := module.section(contents)) is not None
    }
    return {
        "name": provenance.study_name(folders, contents.jobs),
        "summary": _summary(contents, sections),
        "facts": provenance.facts(folders, contents.jobs),
        "sections": list(sections.values()),
        "problems": problems(contents, load_dataset),
        "environment": provenance.environment(contents),
        "jobs": [provenance.job_details(target, job) for job in contents.jobs],
        "tables": contents.files.tables,
        "style": style(),
    }


def _summary(
    contents: Contents, sections: dict[Any, dict[str, Any]]
) -> list[tuple[str, list[str]]]:
    """The main results: (about what, sentences)."""
    table, failed = contents.table, []
    found: list[tuple[str, list[str]]] = []
    if not table.empty:
        predicted = sentences.predictions(prediction_table(contents.summary))
        found.append(("Compared", [sentences.compared(table)]))
        found.append(("Lowest error", sentences.lowest_error(table)))
        found.append(("Predictions", [predicted] if predicted else []))
        failed = sentences.failures(contents.summary)
    found += [(module.LABEL, module.summary(x)) for module, x in sections.items()]
    missing = [job for job in contents.jobs if not job.complete]
    if missing:
        failed.append(f"{words.count(len(missing), 'job')} did not finish.")
    if not (failed or table.empty):
        failed = ["None: no run diverged or reached a limit."]
    found.append(("Failures and limits", failed))
    return [(label, said) for label, said in found if said]
