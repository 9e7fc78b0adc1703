"""A live table of a study that runs, from what its folder holds: also of jobs that
other processes are at."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jaxnmf.experiment.config import labels
from jaxnmf.experiment.store import outcomes

SHOWN = 12  # finished jobs, the last ones
SECONDS = 0.5  # between two looks


class Watch:
    """Shows the table while it is entered; nothing where no one watches."""

    def __init__(self, folder: Path, call: str) -> None:
        self.folder, self.call = folder, call
        self._console = Console(stderr=True)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        if self._console.is_terminal:
            self._thread.start()

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _follow(self) -> None:
        seen: dict[Path, dict[str, str]] = {}
        with Live(console=self._console, transient=True, auto_refresh=False) as live:
            while not self._over.wait(SECONDS):
                # A file may go while it is read: then the next look shows it.
                with contextlib.suppress(OSError, ValueError):
                    live.update(study_table(self.folder, self.call, seen), refresh=True)


def study_table(
    folder: Path, call: str, seen: dict[Path, dict[str, str]] | None = None
) -> Table:
    """The jobs of a call that ended, and those that run now.

    Args:
      folder: the study folder.
      call: which call's outcomes to show.
      seen: keeps the names of jobs from one look to the next.
    """
    ended = [one for one in outcomes.read(folder, call) if one["what"] != "warning"]
    counts = {
        what: sum(one["what"] == what for one in ended)
        for what in ("ran", "stood", "left out", "failed")
    }
    title = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    table = Table(
        title=Text(f"{folder.name}: {title or 'begun'}", style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ("data set", "loss", "solver"):
        table.add_column(column)
    for column in ("runs", "best error", "seconds"):
        table.add_column(column, justify="right")
    table.add_column("")
    for one in ended[-SHOWN:]:
        table.add_row(
            *_names(one.get("names", {})),
            str(one.get("runs", "")),
            f"{one['error']:.4g}" if "error" in one else "",
            f"{one['seconds']:.1f}" if "seconds" in one else "",
            Text(one["what"]),
        )
    for path in sorted((folder / "jobs").glob(".*~runs")):
        known = {} if seen is None else seen
        if path not in known:
            with (path / "config.yaml").open("rb") as opened:
                known[path] = labels(yaml.safe_load(opened))
        begun = (path / "manifest.json").stat().st_mtime
        manifest = json.loads((path / "manifest.json").read_bytes())
        runs = str(manifest.get("runs", "?"))
        if manifest.get("kind") == "runs":
            runs = f"{len(list(path.glob('*.npz')))} of {runs}"
        table.add_row(
            *_names(known[path]),
            runs,
            "",
            f"{time.time() - begun:.0f}",
            "runs",
            style="bold",
        )
    return table


def _names(names: dict[str, str]) -> list[Text]:
    """Text, not str: a label may hold brackets, which rich would take for markup."""
    return [Text(names.get(part, "")) for part in ("dataset", "loss", "solver")]
