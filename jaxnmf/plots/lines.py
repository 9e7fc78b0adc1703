"""Lines with their range over runs, one for each group, in one style wherever drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Styles = Mapping[str, Mapping[str, Any]]
"""Group → options of matplotlib's `plot`, such as colour and dashes."""


def style_of(group: str, place: int, styles: Styles | None) -> dict[str, Any]:
    """The style of a group's line: what it is given, else the colour of its place."""
    return {"color": f"C{place}", **(styles or {}).get(group, {})}


def band(
    axes: Axes,
    x: Any,
    middle: Any,
    low: Any,
    high: Any,
    style: Mapping[str, Any],
    label: str = "",
) -> None:
    """A line, and pale around it the range from low to high."""
    axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
    axes.plot(x, middle, label=label, **style)


def with_ranges(
    axes: Axes,
    x: Any,
    middle: Any,
    low: Any,
    high: Any,
    style: Mapping[str, Any],
    label: str = "",
) -> None:
    """A line with a dot at each x, and there a bar from low to high."""
    axes.vlines(x, low, high, color=style["color"], alpha=0.45)
    axes.plot(x, middle, marker="o", markersize=4, label=label, **style)


def add_legend(axes: Axes, groups: int, title: str | None = None) -> None:
    """A legend, where there is more than one group."""
    if groups > 1:
        found = axes.legend(frameon=False, title=title)
        for text in found.get_texts():
            text.set_parse_math(False)


def runs_table(results: Any, argument: str = "results") -> Any:
    """A copy of the table with a row for each run: a `SweepResult`'s, or one given.

    Raises:
      ValueError: it is neither, or has no rows.
    """
    table = getattr(results, "table", results)
    if not (hasattr(table, "columns") and hasattr(table, "groupby")):
        raise ValueError(
            f"{argument} is a {type(results).__name__}; give a SweepResult, or a table "
            "with a row for each run"
        )
    if not len(table):
        raise ValueError(f"{argument} holds no run")
    return table.copy()


def value_column(table: Any, value: str | None) -> str:
    """The column to draw: ``value``, else the relative error or, where there is none,
    the objective.

    Raises:
      ValueError: the table has no such column.
    """
    if value is None:
        errors = table.get("relative_error")
        known = errors is not None and bool(errors.notna().any())
        value = "relative_error" if known else "objective"
    check_column("value", value, table)
    return value


def check_column(argument: str, name: str, table: Any) -> None:
    """Raise a ValueError unless the table has the column that an argument names."""
    if name not in table.columns:
        raise ValueError(
            f"{argument}={name!r} is no column of the runs, which have "
            f"{', '.join(map(str, table.columns))}"
        )


def group_column(table: Any, by: str | None, otherwise: str | None) -> str | None:
    """The column with a line for each of its values: ``by``, else the solver where the
    table has several, else ``otherwise``.

    Raises:
      ValueError: the table has no such column.
    """
    if by is None:
        several = "solver" in table.columns and table["solver"].nunique() > 1
        return "solver" if several else otherwise
    check_column("by", by, table)
    return by


def groups_of(table: Any, by: str | None) -> list[tuple[Any, Any]]:
    """(value, its runs) for each value of the column ``by``; all runs where it is
    None."""
    return [("", table)] if by is None else list(table.groupby(by, sort=True))


def with_failures(table: Any, value: str) -> np.ndarray:
    """The values, infinite where a run diverged or has none."""
    values = table[value].to_numpy(float)
    failed = ~np.isfinite(values)
    if "status" in table.columns:
        failed |= (table["status"] == "diverged").to_numpy()
    return np.where(failed, np.inf, values)
