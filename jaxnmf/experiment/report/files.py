"""Figures and tables as files beside the page, each whole or not there.

    report.html
    figures/<name>.svg, .png
    tables/<name>.csv, .tex

Every file is written aside and renamed. What an earlier report of the same folder left
and this one has not is removed, and nothing else: ``figures/`` and ``tables/`` may hold
files of other makers.
"""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from jaxnmf._util.disk import put
from jaxnmf.experiment.report.drawing import Drawing, sheet
from jaxnmf.experiment.report.latex import latex_table
from jaxnmf.experiment.store.layout import PAGE

INDEX = ".report-files.json"
FOLDERS = ("figures", "tables")
LONGEST = 100  # characters of a file name, of the 255 that file systems have


@dataclass
class Album:
    """What is drawn and tabulated for a page, by file name."""

    files: dict[str, bytes] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def figure(self, name: str, drawing: Drawing) -> Drawing:
        """Take a drawing; returns it with the name of its files."""
        stem = self._stem(f"figures/{name}")
        self.files[f"{stem}.svg"] = drawing.svg.encode()
        self.files[f"{stem}.png"] = drawing.png
        return dataclasses.replace(drawing, stem=stem)

    def sheet(self, name: str, rows: Sequence[Sequence[str]]) -> None:
        """Take pictures, data addresses, as one PNG that sets them out in rows."""
        stem = self._stem(f"figures/{name}")
        self.files[f"{stem}.png"] = sheet(rows)

    def table(
        self, name: str, values: pd.DataFrame, shown: pd.DataFrame, caption: str
    ) -> str:
        """Take a table: its values as CSV, what is shown of them as LaTeX.

        Returns:
          The files' common path, without ``.csv`` and ``.tex``.
        """
        stem = self._stem(f"tables/{name}")
        self.files[f"{stem}.csv"] = values.to_csv(index=False).encode()
        label = "tab:" + stem.removeprefix("tables/")
        self.files[f"{stem}.tex"] = latex_table(shown, caption, label).encode()
        self.tables.append(stem)
        return stem

    def _stem(self, path: str) -> str:
        """A path of plain characters that no other has, on any file system."""
        folder, name = path.split("/", 1)
        name = unicodedata.normalize("NFKD", name)
        name = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:LONGEST] or "x"
        stem, number = f"{folder}/{name}", 1
        while stem in self.taken:
            number += 1
            stem = f"{folder}/{name}-{number}"
        self.taken.add(stem)
        return stem


def write_report(target: Path, page: str, album: Album) -> Path:
    """Write the page and its files into a folder; the page comes last.

    Raises:
      ValueError: when the folder cannot be written.
    """
    path = target / PAGE
    try:
        target.mkdir(parents=True, exist_ok=True)
        old = _listed(target)
        # Listed before they are there: one that is killed now is tidied up later.
        put(target / INDEX, json.dumps(sorted({*old, *album.files})).encode())
        for name, data in album.files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            put(target / name, data, durable=False)  # can be built again
        put(path, page.encode())
        for name in old - set(album.files):
            (target / name).unlink(missing_ok=True)
        put(target / INDEX, json.dumps(sorted(album.files)).encode())
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
