"""Axes to draw in, and ticks with plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def one_axes(ax: Any, size: tuple[float, float] = (5.2, 3.4)) -> Axes:
    """The caller's axes, or those of a new figure of this size in inches.

    Raises:
      ValueError: ``ax`` is not axes of matplotlib.
    """
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    if ax is None:
        return Figure(figsize=size, layout="constrained").subplots()
    if not isinstance(ax, Axes):
        raise ValueError(
            f"ax is a {type(ax).__name__}; give axes of matplotlib, or None for a "
            "figure of their own"
        )
    return ax


def many_axes(
    ax: Any,
    count: int,
    *,
    what: str,
    size: tuple[float, float] = (1.7, 1.8),
    columns: int | None = None,
) -> np.ndarray:
    """``count`` axes, (count,): the first of the caller's, or those of a new figure.

    Args:
      ax: axes, or an array or sequence of them of any shape, or None.
      count: how many are needed.
      what: what each is for, in the plural, as the message says it.
      size: of each in inches, where the figure is new.
      columns: of the new figure; as many as rows by default.

    Raises:
      ValueError: ``ax`` holds anything but axes, or too few.
    """
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    if ax is None:
        columns = columns or int(np.ceil(np.sqrt(count)))
        rows = -(-count // columns)
        figure = Figure(
            figsize=(size[0] * columns, size[1] * rows), layout="constrained"
        )
        found = figure.subplots(rows, columns, squeeze=False).ravel()
        for unused in found[count:]:
            unused.remove()
        return found[:count]
    given = np.asarray(ax, dtype=object).ravel()
    for each in given:
        if not isinstance(each, Axes):
            raise ValueError(
                f"ax holds a {type(each).__name__}; give axes of matplotlib, one for "
                f"each of the {count} {what}, or None for a figure of their own"
            )
    if len(given) < count:
        raise ValueError(
            f"ax holds {len(given)} axes for {count} {what}; give one for each, or "
            "None for a figure of their own"
        )
    return given[:count]


def ink(axes: Axes) -> Any:
    """The colour of text on these axes, for lines that belong to none of the data."""
    return axes.xaxis.label.get_color()


def bare(axes: Axes) -> None:
    """Take away ticks, grid and frame: what a picture does without."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def plain_ticks(axis: Axis, most: int, *, integer: bool = False) -> None:
    """At most so many ticks, written without exponents where that is short."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(most, integer=integer))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Plain numbers at 1 (or at 1, 2, 5 within two decades, or evenly spaced where
    those are fewer than two), about five at most."""
    from matplotlib.ticker import MaxNLocator

    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    steps = (1,) if np.log10(high / low) > 2 else (1, 2, 5)
    ticks = [s * 10.0**k for k in range(first, last + 1) for s in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) < 2:
        even = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high)
        ticks = [float(tick) for tick in even if low <= tick <= high]
    fixed_ticks(axis, ticks[:: -(-len(ticks) // 6) or 1])


def fixed_ticks(axis: Axis, ticks: Sequence[float]) -> None:
    """Ticks at these values and nowhere else."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FixedFormatter([plain(tick) for tick in ticks]))


def plain(value: float) -> str:
    """A number as a tick has it.

    >>> plain(0.25), plain(-2.0), plain(1e-5)
    ('0.25', '−2', '10⁻⁵')
    """
    size = abs(value)
    power = round(np.log10(size)) if size else 0
    if abs(power) > 3 and np.isclose(size, 10.0**power):
        return ("−" if value < 0 else "") + "10" + str(power).translate(SUPERSCRIPTS)
    return f"{value:g}".replace("-", "−")
