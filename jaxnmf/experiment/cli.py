"""The command line: run, report, list."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """`jaxnmf …`. An error a person can mend is one line and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="jaxnmf", description="Non-negative matrix factorisation in JAX."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="run a study: jaxnmf run experiment=faces solver=hals ranks=[8,16]",
        description="Run solvers on a data set and leave a report. Overrides are "
        "Hydra's: dataset=…, solver=a,b, loss=…, ranks=[…], seeds=[…], stop=…, "
        "experiment=…, folder=…; -h after run shows this.",
    )
    run.add_argument("overrides", nargs="*", help="Hydra overrides, key=value")
    run.add_argument("--config-dir", help="a folder with configs of your own")
    report = commands.add_parser("report", help="build report.html of a study folder")
    report.add_argument("folder")
    listing = commands.add_parser("list", help="what there is by name")
    listing.add_argument(
        "what", choices=("solvers", "datasets", "losses", "experiments")
    )
    given = parser.parse_args(arguments)
    with readable_errors() as failed:
        if given.command == "run":
            run_study(given.overrides, given.config_dir)
        elif given.command == "report":
            print_report(Path(given.folder))
        else:
            print_list(given.what)
    return failed()


@contextlib.contextmanager
def readable_errors() -> Iterator[Callable[[], int]]:
    """Turn errors that a person can mend into one line; yields the exit code."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    code = 0
    try:
        yield lambda: code
    except (ValueError, HydraException, OmegaConfBaseException) as error:
        print(f"jaxnmf: error: {_one_line(error)}", file=sys.stderr)
        code = USAGE_ERROR
    except KeyboardInterrupt:
        print("jaxnmf: interrupted; finished runs are kept", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_study(overrides: Sequence[str], config_dir: str | None = None) -> Path:
    """Run every job of a study and build its report; returns the study folder."""
    import hydra
    from omegaconf.errors import MissingMandatoryValue

    from jaxnmf.api import Unsupported
    from jaxnmf.experiment.config import register_configs, resolved
    from jaxnmf.experiment.job import run_job

    register_configs()
    given = [o for o in overrides if o.startswith("folder=")]
    folder = Path(given[-1].removeprefix("folder=")) if given else _new_folder()
    folder = folder.expanduser().resolve()
    new = _check_writable(folder)
    done: list[Path] = []
    skipped: list[str] = []
    failed: list[Exception] = []

    def task(config: Any) -> None:
        try:
            plain = resolved(config)
        except MissingMandatoryValue as error:
            failed.append(ValueError(f"{error.full_key} is missing: give it a value"))
            return
        name = f"{plain['dataset']['name']} · {plain['loss']['name']}"
        with study_progress(name) as report:
            try:
                done.append(run_job(plain, folder, report))
            except Unsupported as error:
                skipped.append(str(error))
            except ValueError as error:
                # Kept for the end: the other jobs of the study go on.
                failed.append(error)

    arguments = [o for o in overrides if not o.startswith("folder=")]
    arguments.append(f"folder={folder}")
    if config_dir is not None:
        arguments = ["--config-dir", config_dir, *arguments]
    saved, sys.argv = sys.argv, ["jaxnmf", *arguments]
    # Hydra would print a traceback of its own and exit; here errors are one line.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        hydra.main(
            config_path="pkg://jaxnmf.configs", config_name="config", version_base="1.3"
        )(task)()
    finally:
        sys.argv = saved
        if done:
            print_report(folder, skipped)
        elif new:
            shutil.rmtree(folder, ignore_errors=True)
    if failed:
        raise failed[0]
    if skipped and not done:
        raise ValueError(skipped[0])
    return folder


@contextlib.contextmanager
def study_progress(name: str) -> Iterator[Callable[[str, int, int], None]]:
    """A line that says which run of a job goes on; nothing where no one watches."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(name, total=None)

        def report(what: str, done: int, total: int) -> None:
            bar.update(
                task, description=f"{name} · {what}", completed=done, total=total
            )

        yield report


def print_report(folder: Path, skipped: Sequence[str] = ()) -> None:
    """Build report.html from a study folder's store, and print its table."""
    from jaxnmf import datasets
    from jaxnmf.experiment import report, store

    if not folder.is_dir():
        raise ValueError(f"folder: {str(folder)!r} is not a folder of a study")

    def load_dataset(name: str, options: dict[str, Any]) -> Any:
        return datasets.load(name, **options)

    console = _console()
    jobs = store.read_jobs(folder)
    summary, trace = report.gather(jobs)
    report.print_table(report.comparison_table(summary, trace), console)
    report.print_predictions(report.prediction_table(summary), console)
    page = report.build_report(folder, load_dataset=load_dataset)
    for reason in skipped:
        console.print(f"left out: {reason}", highlight=False, markup=False)
    console.print(f"report: {page}", highlight=False, markup=False, soft_wrap=True)


def print_list(what: str) -> None:
    """A table of the solvers, data sets, losses or experiments there are."""
    from rich import box
    from rich.table import Table

    rows = {
        "solvers": _solver_rows,
        "datasets": _dataset_rows,
        "losses": _loss_rows,
        "experiments": _experiment_rows,
    }[what]()
    table = Table(box=box.SIMPLE_HEAD)
    for column in rows[0]:
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    _console().print(table)


def _console() -> Any:
    """Standard output; where it is no terminal, wide enough for a table."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 110)


def _solver_rows() -> list[dict[str, Any]]:
    from jaxnmf import registry

    rows = []
    for name in registry.solvers():
        cls: Any = registry.solver_class(name)
        options = registry.options(cls)
        rows.append(
            {
                "name": name,
                "losses": cls.supports.losses,
                "data": ", ".join(sorted(cls.supports.operands)),
                "monotone": "yes" if cls.descends else "no",
                "options": ", ".join(f"{o.name}={_show(o.default)}" for o in options),
                "what it is": _first_line(cls),
            }
        )
    return rows


def _loss_rows() -> list[dict[str, Any]]:
    from jaxnmf import registry

    rows = []
    for name in registry.losses():
        loss = registry.loss_class(name)
        options = ", ".join(
            f"{o.name}={_show(o.default)}" for o in registry.options(loss)
        )
        rows.append({"name": name, "options": options, "what it is": _first_line(loss)})
    return rows


def _dataset_rows() -> list[dict[str, Any]]:
    from jaxnmf import datasets

    return [
        {key: "" if value is None else value for key, value in row.items()}
        for row in datasets.describe()
    ]


def _experiment_rows() -> list[dict[str, Any]]:
    from importlib.resources import files

    rows = []
    folder = files("jaxnmf.configs") / "experiment"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            lines = file.read_text(encoding="utf-8").splitlines()
            about = [x[1:].strip() for x in lines if x.startswith("#") and "@" not in x]
            name = file.name.removesuffix(".yaml")
            rows.append({"name": name, "what it is": " ".join(about)})
    return rows


def _show(default: Any) -> str:
    return "{}" if hasattr(default, "keys") else str(default)


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().split("\n")[0]


def _new_folder() -> Path:
    """A study folder that is not there yet."""
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for suffix in ("", *(f"_{i}" for i in range(2, 1000))):
        folder = Path("runs") / f"{stamp}{suffix}"
        if not folder.exists():
            return folder
    raise ValueError(f"folder: runs/{stamp} and a thousand after it are taken")


def _check_writable(folder: Path) -> bool:
    """Make the folder where it is missing; returns whether it was."""
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"folder: {str(folder)!r} cannot be written: {error.strerror or error}"
        ) from None
    return new


def _one_line(error: BaseException) -> str:
    """What went wrong, for a person, without line breaks.

    Hydra's own messages name its machinery; what was typed and what would fit is
    taken from them.
    """
    from jaxnmf.experiment.config import known_keys
    from jaxnmf.registry import suggestion

    parts = [str(error)]
    if error.__cause__ is not None and str(error.__cause__) not in parts[0]:
        parts.append(str(error.__cause__))
    text = " ".join(" ".join(parts).split())

    unknown = re.search(
        r"Could not find '([\w/]+)/([^'/]+)' Available options in "
        r"'[^']+': (.*?)(?: Config search path|$)",
        text,
    )
    if unknown:
        group, name, known = unknown[1], unknown[2], unknown[3].split()
        text = (
            f"{group}={name} is not known{suggestion(name, known)}; there are: "
            + ", ".join(known)
        )
        if group == "dataset" and "JAXNMF_DATA" not in os.environ:
            text += " (set JAXNMF_DATA to a folder of shared data sets for more)"
        return text
    key = re.search(r"Could not override '([^']+)'.*Key '([^']+)' not in '(\w+)'", text)
    if key:
        known = known_keys(key[3])
        return (
            f"{key[1]} is not a setting{suggestion(key[2], known)}; there are: "
            + ", ".join(known)
        )
    return re.sub(r" full_key: .*", "", text)


if __name__ == "__main__":
    sys.exit(main())
