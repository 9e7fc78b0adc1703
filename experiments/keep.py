"""The report of a finished study, kept with the package.

    python experiments/keep.py STUDY_FOLDER TARGET_FOLDER [--tables]

Leaves in the target ``report.html`` with its figures and tables. What the page says
of the folder it was made in holds on that machine alone, and becomes ``runs/…``. With
``--tables``, of a page too large to keep, the comparison tables as CSV and all that is
over several data sets.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from jaxnmf.experiment.report import build_report
from jaxnmf.experiment.study import load_dataset

OVER_ALL = ("figures/profile*", "figures/ranking*", "tables/profiles*.csv",
            "tables/ranking*.csv", "tables/*-comparison.csv")  # fmt: skip


def keep(study: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    page = build_report(study, target=target, load_dataset=load_dataset)
    text = page.read_text(encoding="utf-8")
    name = f"runs/{target.resolve().name}"
    for there in (
        Path(os.path.relpath(study.resolve(), target.resolve())).as_posix(),
        str(study.resolve()),
    ):
        text = text.replace(there, name)
    page.write_text(text, encoding="utf-8")
    (target / ".report-files.json").unlink(missing_ok=True)


def keep_tables(study: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        build_report(study, target=made, load_dataset=load_dataset)
        for pattern in OVER_ALL:
            for path in sorted(Path(made).glob(pattern)):
                place = target / path.relative_to(made)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)


if __name__ == "__main__":
    study, target, *options = sys.argv[1:]
    (keep_tables if options == ["--tables"] else keep)(Path(study), Path(target))
