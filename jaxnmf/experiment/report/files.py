"""The files of a report, each written whole or not at all.

    report.html                  the page, which needs no other file
    tables/<name>.csv            the values of its tables
    tables/<name>.tex            on request: the tables for a paper
    figures/<name>.svg, .png     on request: the figures

Every file is written under another name and renamed. Files of an earlier report of the
same folder that this one does not have are removed, and nothing else: ``figures/`` and
``tables/`` may hold files from elsewhere.
"""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from jaxnmf._util.disk import put
from jaxnmf.experiment.report.drawing import Drawing
from jaxnmf.experiment.report.pixels import sheet
from jaxnmf.experiment.report.tables import Table
from jaxnmf.experiment.store.layout import PAGE

INDEX = ".report-files.json"
FOLDERS = ("figures", "tables")
LONGEST = 100  # characters of a file name; file systems allow 255


class Panel(NamedTuple):
    """A figure on the page: its SVG, and its files without their endings, if any."""

    svg: str
    link: str


@dataclass
class ReportFiles:
    """The files beside the page, by name; figures and LaTeX only where asked for."""

    figures: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def figure(self, name: str, drawing: Drawing) -> Panel:
        """Add a figure; returns it as the page shows it."""
        stem = self._stem(f"figures/{name}")
        if self.figures:
            svg, png = drawing.as_files()
            self.files[f"{stem}.svg"], self.files[f"{stem}.png"] = svg.encode(), png
        return Panel(drawing.inline(stem), stem if self.figures else "")

    def sheet(self, name: str, rows: Sequence[Sequence[str]]) -> None:
        """Add pictures, data addresses, as one PNG that arranges them in rows."""
        if self.figures:
            self.files[self._stem(f"figures/{name}") + ".png"] = sheet(rows)

    def table(self, name: str, table: Table) -> Table:
        """Add a table; returns it with the name of its files."""
        stem = self._stem(f"tables/{name}")
        self.files[f"{stem}.csv"] = table.to_csv().encode()
        if self.figures:
            label = "tab:" + stem.removeprefix("tables/")
            self.files[f"{stem}.tex"] = table.to_latex(label).encode()
        self.tables.append(stem)
        return dataclasses.replace(table, link=stem)

    def _stem(self, path: str) -> str:
        """A new path, valid and unique on any file system."""
        folder, name = path.split("/", 1)
        name = unicodedata.normalize("NFKD", name)
        name = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:LONGEST] or "x"
        stem, number = f"{folder}/{name}", 1
        while stem in self.taken:
            number += 1
            stem = f"{folder}/{name}-{number}"
        self.taken.add(stem)
        return stem


def write_report(target: Path, page: str, files: ReportFiles) -> Path:
    """Write the files of a report into a folder, the page last.

    Raises:
      ValueError: when the folder cannot be written.
    """
    path = target / PAGE
    try:
        target.mkdir(parents=True, exist_ok=True)
        old = _listed(target)
        # Listed before they exist: what a killed report leaves is removed by the next.
        put(target / INDEX, json.dumps(sorted({*old, *files.files})).encode())
        for name, data in files.files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            put(target / name, data, durable=False)  # they can be made again
        put(path, page.encode())
        for name in old - set(files.files):
            (target / name).unlink(missing_ok=True)
        put(target / INDEX, json.dumps(sorted(files.files)).encode())
    except OSError as error:
        raise ValueError(
            f"folder: a report cannot be written into {str(target)!r}: {error}"
        ) from error
    return path


def _listed(target: Path) -> set[str]:
    """The files that an earlier report says it wrote."""
    try:
        names = json.loads((target / INDEX).read_text("utf-8"))
    except (OSError, ValueError):
        return set()
    pattern = rf"({'|'.join(FOLDERS)})/[a-z0-9][a-z0-9.-]*\.(svg|png|csv|tex)"
    names = names if isinstance(names, list) else []
    return {name for name in names if re.fullmatch(pattern, str(name))}
