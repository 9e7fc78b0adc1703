"""The command line: run, report, reproduce, list."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

DIFFERS = 1
LISTS = ("solvers", "datasets", "losses", "experiments")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `jaxnmf …`; an error of the user is printed as one line, with exit code 2."""
    parser = _parser()
    given, rest = parser.parse_known_args(arguments)
    # argparse does not parse overrides after an option: run a=1 --force b=2.
    if given.command == "run" and not any(more.startswith("-") for more in rest):
        given.overrides += rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    # Imported here so that -h and a mistyped command answer without delay.
    from rich.console import Console

    from jaxnmf.experiment.errors import readable_errors

    # Wide enough for a table where standard output is not a terminal.
    console = Console(width=None if sys.stdout.isatty() else 110)
    with readable_errors() as failed:
        if given.command == "list":
            from jaxnmf.experiment.listing import print_list

            print_list(given.what, console)
            return failed()
        from jaxnmf.experiment import study

        if given.command == "run":
            options = {"config_dir": given.config_dir, "force": given.force}
            study.run_study(given.overrides, console, **options)
        elif given.command == "report":
            folders = [Path(folder) for folder in given.folders]
            study.print_report(
                folders,
                console,
                target=given.into,
                figures=given.figures,
                check_data=True,
            )
        elif given.command == "reproduce":
            from jaxnmf.experiment.reproduce import print_reproduction, reproduce

            found = reproduce(Path(given.folder), given.sample)
            if not print_reproduction(found, console):
                return DIFFERS
    return failed()


def _count(text: str) -> int:
    if not text.isdigit() or text == "0":
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer ≥ 1")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaxnmf", description="Non-negative matrix factorisation in JAX."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="run a study: jaxnmf run experiment=faces solver=hals ranks=[8,16]",
        description="Run solvers on a data set and write a report. The overrides are "
        "Hydra's: dataset=…, solver=a,b, loss=…, ranks=[…], seeds=[…], stop=…, "
        "experiment=…, folder=….",
    )
    run.add_argument("overrides", nargs="*", help="Hydra overrides, key=value")
    run.add_argument("--config-dir", help="a folder with your own configs")
    run.add_argument("--force", action="store_true", help="run complete jobs again")
    report = commands.add_parser("report", help="build report.html of study folders")
    report.add_argument("folders", nargs="+", metavar="folder")
    report.add_argument("--into", help="folder of the page of several studies")
    report.add_argument(
        "--figures",
        action="store_true",
        help="also write each figure as SVG and PNG, and each table as LaTeX",
    )
    again = commands.add_parser(
        "reproduce",
        help="run the jobs of a study again and compare the bits",
        description="The exit code is 1 if a factor or a trace differs.",
    )
    again.add_argument("folder")
    again.add_argument("--sample", type=_count, help="number of jobs, drawn at random")
    listing = commands.add_parser("list", help="list what is available by name")
    listing.add_argument("what", choices=LISTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
