"""The page: everything studies found, in one file that needs no other."""

from __future__ import annotations

import collections
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup

from jaxnmf.experiment.report import choices, profiles, settings, significance, words
from jaxnmf.experiment.report.contents import Contents, Section, merged
from jaxnmf.experiment.report.files import write_report
from jaxnmf.experiment.report.problems import LoadDataset, problems
from jaxnmf.experiment.report.statistics import prediction_table
from jaxnmf.experiment.report.tables import Cell, Column
from jaxnmf.experiment.store.layout import DATA_FILES
from jaxnmf.experiment.store.stored import StoredJob

MODULES: Any = (profiles, significance, choices, settings)
SECTIONS: tuple[Section, ...] = MODULES
"""What stands between the summary and the data sets, in this order; see `Section`."""

ENVIRONMENT = {
    "package_version": "jaxnmf",
    "commit": "commit",
    "python": "Python",
    "platform": "platform",
    "device": "device",
    "device_count": "devices",
    "dtype": "dtype",
    "precision": "matmul precision",
}
LINKED = (
    "summary.parquet",
    "trace.parquet",
    "factors.npz",
    "choice.parquet",
    "evidence.npz",
    "manifest.json",
)


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
      folder: the study folder, or several, whose jobs are merged; a job that stands in
        two of them counts once.
      target: the folder to write into; that of the study where there is but one.
      load_dataset: gives the data set of a job's config, to show factors in the
        data's own form. Where it raises, the page says why and leaves them out.
      jobs: what the folders hold (`merged`), where it has been read before.
      figures: also write each figure as SVG and PNG and each table as LaTeX.

    Returns:
      The page's path.

    Raises:
      ValueError: when a folder holds a corrupt job, none holds any run, the target is
        missing for several folders, or cannot be written.
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
    page = _template(figures).render(
        **_context(folders, Path(target), contents, load_dataset)
    )
    return write_report(Path(target), page, contents.files)


def _template(figures: bool) -> jinja2.Template:
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
    return environment.get_template("page.html.j2")


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
    sections: dict[Any, dict[str, Any]] = {
        module: {
            "id": module.TITLE.lower().replace(" ", "-"),
            "title": module.TITLE,
            "template": module.TEMPLATE,
            **found,
        }
        for module in SECTIONS
        if (found := module.section(contents)) is not None
    }
    shown = problems(contents, load_dataset)
    return {
        "name": _name(folders, contents.jobs),
        "brief": _brief(contents, sections),
        "facts": _facts(folders, contents),
        "sections": list(sections.values()),
        "problems": shown,
        "environment": _environment(contents.jobs, contents.summary),
        "jobs": [_job(target, job) for job in contents.jobs],
        "tables": contents.files.tables,
        "style": Markup((Path(__file__).parent / "page.css").read_text("utf-8")),
    }


def _brief(contents: Contents, sections: dict[Any, Any]) -> list[tuple[str, list[str]]]:
    """What a reader should know within a minute: (about what, sentences)."""
    brief = [] if contents.table.empty else _compared(contents, sections)
    for about, module in (("Chosen", choices), ("Settings", settings)):
        if shown := sections.get(module):
            brief.append((about, module.finding(shown)))
    failed = [] if contents.table.empty else words.troubles(contents.summary)
    missing = [job for job in contents.jobs if not job.complete]
    if missing:
        failed.append(f"{words.count(len(missing), 'job')} did not finish.")
    if failed or not contents.table.empty:
        nothing = ["Nothing: no run diverged or met a limit."]
        brief.append(("What failed", failed or nothing))
    return brief


def _compared(
    contents: Contents, sections: dict[Any, Any]
) -> list[tuple[str, list[str]]]:
    """What the comparison of solvers says."""
    table, summary = contents.table, contents.summary
    brief = [("Compared", [words.compared(table)])]
    if won := words.winners(table):
        brief.append(("Lowest error", won))
    if told := words.predicted(prediction_table(summary)):
        brief.append(("Predictions", [told]))
    if fast := sections.get(profiles):
        brief.append(("Fastest", [profiles.finding(each) for each in fast["losses"]]))
    if ranked := sections.get(significance):
        told = [each["finding"] for each in ranked["rankings"]]
        if len(set(summary["loss"])) > 1:
            told = [
                f"{words.loss_name(each['loss'])} loss: {words.lower_first(one)}"
                for each, one in zip(ranked["rankings"], told, strict=True)
            ]
        brief.append(("Significance", told))
    return brief


def _name(folders: Sequence[Path], jobs: Sequence[StoredJob]) -> str:
    """What the studies were called, or the folders' names."""
    names: Any = {job.config.get("name") for job in jobs} - {None, "run"}
    names = sorted(names) or [folder.resolve().name for folder in folders]
    return words.some(list(dict.fromkeys(names)))


def _facts(folders: Sequence[Path], contents: Contents) -> list[str]:
    jobs = contents.jobs
    held = collections.Counter[str]()
    for job in jobs:
        held[_unit(job)] += len(job.summary)
    facts = [words.count(number, unit) for unit, number in held.items()]
    facts.append(words.count(len(jobs), "job"))
    if len(set(folders)) > 1:
        facts.append(f"of {len(set(folders))} folders")
    if unfinished := sum(not job.complete for job in jobs):
        facts.append(f"{unfinished} of them not complete")
    days = sorted(str(job.manifest.get("finished") or "")[:10] for job in jobs)
    facts += [day for day in days[-1:] if day]
    return facts


def _environment(
    jobs: Sequence[StoredJob], summary: pd.DataFrame
) -> list[tuple[str, str]]:
    """(what, its value), every distinct value where jobs differ."""
    found: dict[str, dict[str, None]] = {}

    def add(label: str, value: Any) -> None:
        if value not in (None, ""):
            found.setdefault(label, {})[str(value)] = None

    for job in jobs:
        manifest = job.manifest
        for key, label in ENVIRONMENT.items():
            value = manifest.get(key)
            if key == "commit" and value and manifest.get("dirty"):
                value = f"{value}, with changes that are not committed"
            add(label, value)
        versions = manifest.get("versions")
        for package, version in (versions or {}).items():
            add(package, version)
        dataset = job.summary["dataset"].iloc[0]
        add(f"SHA-256 of {dataset}", manifest.get("data_checksum"))
    seconds = [float(s) for s in summary["compile_seconds"] if s == s]
    if seconds:
        longest = words.duration(max(seconds))
        add("compilation", f"up to {longest} a run, in no other time on this page")
    return [(label, " · ".join(values)) for label, values in found.items()]


def _job(target: Path, job: StoredJob) -> dict[str, Any]:
    row = {"solver": "", "dataset": "", "loss": "", **job.summary.iloc[0]}
    state = "" if job.complete else ", not complete"
    inside = Path(os.path.relpath(job.path, target)).as_posix()
    held = {*job.manifest.get("files", DATA_FILES), "manifest.json"}
    return {
        "title": f"{row['solver']} on {row['dataset']}, {row['loss']}{_purpose(job)}",
        "runs": words.count(len(job.summary), _unit(job)) + state,
        "command": job.manifest.get("command") or "",
        "config": yaml.safe_dump(job.config, sort_keys=False, allow_unicode=True),
        "files": [(name, quote(f"{inside}/{name}")) for name in LINKED if name in held],
        "key": job.key,
    }


def _unit(job: StoredJob) -> str:
    """What a row of a job's summary is."""
    return "run" if job.kind == "runs" else "lane"


def _purpose(job: StoredJob) -> str:
    """What a job of lanes was for."""
    if method := job.manifest.get("method"):
        return f": p by {method}"
    if swept := job.manifest.get("settings"):
        return f": {words.listed(swept)}"
    return ""
