"""A live table of a running study, read from its folder, so that it includes the jobs
of other processes."""

from __future__ import annotations

import contextlib
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

from jaxnmf._util.disk import read_json
from jaxnmf.experiment.config import labels
from jaxnmf.experiment.store import outcomes

FINISHED_ROWS = 12  # the latest finished jobs
INTERVAL = 0.5  # seconds between updates


class Watch:
    """Context manager that shows the table where standard error is a terminal."""

    def __init__(self, folder: Path, call: str) -> None:
        self.folder, self.call = folder, call
        self._console = Console(stderr=True)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._update, daemon=True)

    def __enter__(self) -> None:
        if self._console.is_terminal:
            self._thread.start()

    def __exit__(self, *_: Any) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _update(self) -> None:
        names: dict[Path, dict[str, str]] = {}
        with Live(console=self._console, transient=True, auto_refresh=False) as live:
            while not self._stopped.wait(INTERVAL):
                # A file may be removed while it is read; the next update is complete.
                with contextlib.suppress(OSError, ValueError):
                    live.update(
                        study_table(self.folder, self.call, names), refresh=True
                    )


def study_table(
    folder: Path, call: str, names: dict[Path, dict[str, str]] | None = None
) -> Table:
    """The finished jobs of a call, and those in progress.

    Args:
      folder: the study folder.
      call: the call whose outcomes are shown.
      names: a cache of the names of jobs in progress.
    """
    said = ("warning", "note")
    ended = [one for one in outcomes.read(folder, call) if one["status"] not in said]
    counts = {
        status: sum(one["status"] == status for one in ended)
        for status in ("run", "done before", "skipped", "failed")
    }
    title = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    names = {} if names is None else names
    table = Table(
        title=Text(f"{folder.name}: {title or 'started'}", style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ("data set", "loss", "solver"):
        table.add_column(column)
    for column in ("runs", "best error", "seconds"):
        table.add_column(column, justify="right")
    table.add_column("status")
    for one in ended[-FINISHED_ROWS:]:
        table.add_row(
            *_cells(one.get("names", {})),
            str(one.get("runs", "")),
            f"{one['error']:.4g}" if "error" in one else "",
            f"{one['seconds']:.1f}" if "seconds" in one else "",
            Text(one["status"]),
        )
    for path in sorted((folder / "jobs").glob(".*~runs")):
        if path not in names:
            with (path / "config.yaml").open("rb") as opened:
                names[path] = labels(yaml.safe_load(opened))
        started = (path / "manifest.json").stat().st_mtime
        manifest = read_json(path / "manifest.json")
        runs = str(manifest.get("runs", "?"))
        if manifest.get("kind") == "runs":
            runs = f"{len(list(path.glob('*.npz')))} of {runs}"
        table.add_row(
            *_cells(names[path]),
            runs,
            "",
            f"{time.time() - started:.0f}",
            "in progress",
            style="bold",
        )
    return table


def _cells(names: dict[str, str]) -> list[Text]:
    """Text, as rich would parse brackets in a string as markup."""
    return [Text(names.get(part, "")) for part in ("dataset", "loss", "solver")]
