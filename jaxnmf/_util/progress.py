"""Progress bars."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(
    total: int, show: bool | None = None, label: str = "iterations"
) -> Iterator[Callable[[int, float], None] | None]:
    """Yield a function of (iteration, objective) that updates a bar, or None.

    None means that nothing is shown. With show=None the bar appears after two seconds,
    and only in a terminal.
    """
    if show is False or (show is None and not sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(
            "{task.completed}/{task.total}  objective {task.fields[objective]:.6g}"
        ),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True, force_terminal=show)
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task(label, total=total, objective=float("nan"))
    started, patience = time.perf_counter(), 0.0 if show else 2.0

    def on_record(iteration: int, objective: float) -> None:
        if not bar.live.is_started and time.perf_counter() - started > patience:
            bar.start()
        bar.update(task, completed=iteration, objective=objective)

    try:
        yield on_record
    finally:
        bar.stop()
