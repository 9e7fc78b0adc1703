"""Tables of what is available by name: `jaxnmf list …`."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


def listed_names() -> dict[str, list[str]]:
    """The names that the overrides of a study take, by override."""
    from jaxnmf import datasets, registry
    from jaxnmf.experiment.config import solver_names

    return {
        "solver": list(solver_names()),
        "loss": list(registry.losses()),
        "dataset": list(datasets.names()),
        "experiment": [str(row["name"]) for row in _experiment_rows()],
    }


def print_list(what: str, console: Console) -> None:
    """Print a table of the solvers, data sets, losses or experiments."""
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
    console.print(table)


def _solver_rows() -> list[dict[str, Any]]:
    from jaxnmf import registry
    from jaxnmf.experiment.config import solver_class, solver_names

    rows = []
    for name in solver_names():
        cls: Any = solver_class(name)
        options = registry.options(cls)
        rows.append(
            {
                "name": name,
                "losses": cls.supports.losses,
                "data": ", ".join(sorted(cls.supports.operands)),
                "graph": "yes" if cls.supports.graph else "no",
                "monotone": "yes" if cls.monotone else "no",
                "options": ", ".join(f"{o.name}={_show(o.default)}" for o in options),
                "description": _first_line(cls),
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
        rows.append(
            {"name": name, "options": options, "description": _first_line(loss)}
        )
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
            rows.append({"name": name, "description": " ".join(about)})
    return rows


def _show(default: Any) -> str:
    return "{}" if hasattr(default, "keys") else str(default)


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().split("\n")[0]
