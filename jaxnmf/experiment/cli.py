"""The command line: run, work, submit, factorize, convert, report, reproduce, list,
plan, completion."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxnmf._version import __version__

if TYPE_CHECKING:
    from rich.console import Console

DIFFERS = 1
SETTINGS = ("solver", "loss", "seed", "max_iter", "mask", "mesh", "checkpoint")
READING = (
    "key",
    "layer",
    "transpose",
    "separator",
    "decimal",
    "thousands",
    "header",
    "index",
    "encoding",
    "missing",
)
SLURM = (
    "array",
    "time",
    "partition",
    "memory",
    "cpus",
    "gpus",
    "sbatch",
    "dry_run",
)
LISTS = ("solvers", "datasets", "losses", "experiments")
SHELLS = ("bash", "zsh", "fish")


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
        if given.command == "completion":
            from jaxnmf.experiment.completion import completion
            from jaxnmf.experiment.listing import listed_names

            print(completion(given.shell, parser, listed_names()), end="")
            return failed()
        if given.command == "plan":
            from jaxnmf.experiment import plan

            text = plan.as_text(plan.plan(plan.parse(given.settings)))
            console.print(text, highlight=False, markup=False, soft_wrap=True)
            return failed()
        if given.command == "factorize":
            _factorize(given, console)
            return failed()
        if given.command == "convert":
            from jaxnmf.files.convert import convert

            options = {"dtype": given.dtype, "by_columns": given.by_columns}
            place = convert(given.file, given.out, **options, **_chosen(given, READING))
            console.print(str(place), highlight=False, markup=False, soft_wrap=True)
            return failed()
        if getattr(given, "join", None) is not None:  # before anything else of JAX
            from jaxnmf.experiment.joined import join, led

            join(given.join)
            led(lambda: _study(given, console))
            return failed()
        from jaxnmf.experiment import printing

        if given.command in ("run", "work"):
            _study(given, console)
        elif given.command == "submit":
            from jaxnmf.experiment.submit import submit_slurm

            submit_slurm(Path(given.folder), console, **_chosen(given, SLURM))
        elif given.command == "report":
            folders = [Path(folder) for folder in given.folders]
            printing.print_report(
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


def _study(given: argparse.Namespace, console: Console) -> None:
    from jaxnmf.experiment import study

    if given.command == "work":
        study.work(Path(given.folder), console, wait=given.wait)
        return
    options = {"config_dir": given.config_dir, "force": given.force}
    options["only_queue"] = given.queue
    study.run_study(given.overrides, console, **options)


def _factorize(given: argparse.Namespace, console: Console) -> None:
    import jax

    if given.join is not None:
        from jaxnmf.experiment.joined import join

        join(given.join)
    from jaxnmf.experiment.factorization import factorize_file

    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    result, files = factorize_file(
        given.file,
        given.rank,
        given.out,
        form=given.format,
        reading=_chosen(given, READING),
        blocks=given.blocks,
        weights=given.weights,
        say=say,
        **_chosen(given, SETTINGS),
    )
    if jax.process_index():
        return
    for line in (result, *files):
        say(str(line))


def _chosen(given: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """The options that were given."""
    found = {name: getattr(given, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _count(text: str) -> int:
    if not text.isdigit() or text == "0":
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer ≥ 1")
    return int(text)


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _index(text: str) -> str | int | bool:
    if text.lower() == "false":
        return False
    return int(text) if text.isdigit() else text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaxnmf", description="Non-negative matrix factorisation in JAX."
    )
    parser.add_argument("--version", action="version", version=f"jaxnmf {__version__}")
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
    run.add_argument(
        "--queue",
        action="store_true",
        help="run nothing: put the jobs into the folder, for jaxnmf work and submit",
    )
    _add_join(run)
    _add_work(commands)
    _add_factorize(commands)
    _add_convert(commands)
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
    plan = commands.add_parser(
        "plan",
        help="what a run needs: jaxnmf plan m=1e6 n=1e4 p=50 density=0.01 mesh=4x2",
        description="Memory, operations and bytes of an iteration on each device, "
        "which of them binds, and the limits. m, n and p are needed; others are "
        "density, solver, mesh (a shape, rows or auto), devices, processes, dtype, "
        "device, and its flops, bandwidth, memory and link.",
    )
    plan.add_argument("settings", nargs="*", help="key=value")
    listing = commands.add_parser("list", help="list what is available by name")
    listing.add_argument("what", choices=LISTS)
    shell = commands.add_parser(
        "completion",
        help="print a script for a shell: source <(jaxnmf completion bash)",
        description="A script that completes commands, options and names. For bash: "
        "source <(jaxnmf completion bash) in ~/.bashrc; for zsh the same with zsh in "
        "~/.zshrc; for fish: jaxnmf completion fish > "
        "~/.config/fish/completions/jaxnmf.fish.",
    )
    shell.add_argument("shell", choices=SHELLS)
    return parser


def _add_work(commands: Any) -> None:
    work = commands.add_parser(
        "work",
        help="run jobs of a study that another process began",
        description="Takes from the folder of a study, one after another, the jobs "
        "that no other process runs. Any number of processes may do so, on every "
        "machine that shares the folder; one that dies loses its job to another.",
    )
    work.add_argument("folder")
    work.add_argument(
        "--wait",
        action="store_true",
        help="for jobs in progress elsewhere, and run those whose process dies",
    )
    _add_join(work)
    submit = commands.add_parser(
        "submit",
        help="submit workers of a study to a cluster, and return",
        description="Writes a script whose tasks run jaxnmf work FOLDER, and submits "
        "it. The jobs are those of jaxnmf run --queue … folder=FOLDER.",
    )
    submit.add_argument("folder")
    submit.add_argument(
        "--slurm", action="store_true", required=True, help="as an array of SLURM"
    )
    submit.add_argument(
        "--array", type=_count, help="the number of tasks, by default one a job up to 8"
    )
    submit.add_argument("--time", help="the limit of a task, such as 2:00:00")
    submit.add_argument("--partition", help="where tasks run")
    submit.add_argument("--memory", help="of a task, such as 8G")
    submit.add_argument("--cpus", type=_count, help="cores of a task")
    submit.add_argument("--gpus", type=_count, help="GPUs of a task")
    submit.add_argument(
        "--sbatch",
        action="append",
        metavar="OPTION",
        help="any other option of sbatch, such as --sbatch=--account=me; repeatable",
    )
    submit.add_argument(
        "--dry-run",
        action="store_true",
        default=None,
        help="write and print the script, and do not submit it",
    )


def _add_factorize(commands: Any) -> None:
    one = commands.add_parser(
        "factorize",
        help="factorise the matrix in a file: jaxnmf factorize FILE -p 10 -o OUT",
        description="Factorise V ≈ W H and write the factors, with the names of rows "
        "and columns, and a page with pictures. How the file is written is detected; "
        "the options after --key are for what cannot be.",
    )
    files = "the file of V, whose rows are samples, or a folder of .txt; several files "
    files += "of the same rows are views that share W"
    one.add_argument("file", nargs="+", help=files)
    one.add_argument(
        "-p", "--rank", type=_count, required=True, help="the number of components"
    )
    one.add_argument(
        "-o", "--out", required=True, help="a folder, or a file that ends in .npz"
    )
    one.add_argument(
        "--format", choices=("csv", "parquet"), default="csv", help="of W and H"
    )
    one.add_argument("--solver", help="see jaxnmf list solvers")
    one.add_argument("--loss", help="see jaxnmf list losses; A,B: one for each view")
    one.add_argument("--weights", help="of views, such as 1,0.5")
    one.add_argument("--seed", type=int, help="of the random start, 0 by default")
    one.add_argument(
        "--max-iter", type=_count, help="the most iterations, 200 by default"
    )
    one.add_argument(
        "--mask", choices=("nan",), help="nan: missing values are unknown entries"
    )
    one.add_argument(
        "--mesh", choices=("rows", "grid", "auto"), help="divide V over all devices"
    )
    one.add_argument(
        "--blocks",
        action="store_true",
        help="read the file block by block, as one larger than memory is anyway",
    )
    one.add_argument(
        "--checkpoint",
        metavar="FOLDER",
        help="save the run there every ten seconds, and resume what is there",
    )
    _add_join(one)
    _add_reading(one)


def _add_convert(commands: Any) -> None:
    one = commands.add_parser(
        "convert",
        help="store a matrix so that it is read fast: jaxnmf convert IN OUT",
        description="Store a matrix so that jaxnmf.Blocks reads it block by block: a "
        "dense one in OUT.npy, a sparse one in a folder. NumPy, HDF5, AnnData, Zarr "
        "and Parquet files need not fit the memory.",
    )
    one.add_argument("file", help="the file of V, whose rows are samples")
    one.add_argument("out", help="a file that ends in .npy, or a folder")
    one.add_argument("--dtype", choices=("float32", "float64"), help="of the entries")
    one.add_argument(
        "--by-columns",
        action="store_true",
        help="of a sparse matrix, also store each block by columns: iterations are "
        "faster, the folder is twice as large",
    )
    _add_reading(one)


def _add_join(one: Any) -> None:
    one.add_argument(
        "--join",
        metavar="PROCESSES",
        help="run what has a mesh on the devices of several processes: cluster, or "
        "HOST:PORT,PROCESSES,PROCESS; the same command in each",
    )


def _add_reading(one: Any) -> None:
    """The options of `jaxnmf.read`."""
    one.add_argument("--key", help="the array to read, in a file of several")
    one.add_argument("--layer", help="of AnnData, in place of X")
    one.add_argument(
        "--transpose", action="store_true", default=None, help="samples are columns"
    )
    one.add_argument("--separator", help="comma, semicolon, tab, space or a character")
    one.add_argument("--decimal", help="point or comma")
    one.add_argument("--thousands", help="comma, point, space or apostrophe")
    one.add_argument(
        "--header", type=_switch, help="true or false: the first line names the columns"
    )
    one.add_argument(
        "--index", type=_index, help="the column of row names, or false for none"
    )
    one.add_argument("--encoding", help="of the text, such as latin-1")
    one.add_argument(
        "--missing", action="append", help="a cell that marks a missing value"
    )


if __name__ == "__main__":
    sys.exit(main())
