"""The report of a finished study, kept with the package.

    python experiments/keep.py STUDY_FOLDER TARGET_FOLDER

Leaves in the target ``report.html`` with its figures and tables. What the page says
of the folder it was made in holds on that machine alone, and becomes ``runs/…``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jaxnmf.experiment.report import build_report
from jaxnmf.experiment.study import load_dataset


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


if __name__ == "__main__":
    keep(Path(sys.argv[1]), Path(sys.argv[2]))
