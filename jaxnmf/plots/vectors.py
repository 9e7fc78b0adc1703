"""One component in the form of its domain: a picture, a curve, bars, or names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnmf.plots.axes import bare, plain_ticks
from jaxnmf.plots.blocks import bounded
from jaxnmf.plots.domain import Domain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS = 128  # entries, up to which each has a bar


def draw_vector(
    axes: Axes, values: np.ndarray, domain: Domain, *, words: int = 8, **style: Any
) -> None:
    """Draw the entries of a component; ``style`` goes to the artist of matplotlib."""
    if domain.image is not None:
        draw_image(axes, values.reshape(domain.image), **style)
    elif domain.names is not None:
        draw_names(axes, values, domain.names, words, **style)
    else:
        draw_curve(axes, values, domain, **style)


def draw_image(axes: Axes, image: np.ndarray, **style: Any) -> Any:
    """An image from 0 to its largest entry; NaN is left out. Returns the artist."""
    image = bounded(image)
    high = float(image[np.isfinite(image)].max(initial=0)) or 1.0
    given = {"cmap": "gray", "vmin": 0.0, "vmax": high, "interpolation": "none"}
    shown = axes.imshow(image, **{**given, **style})
    bare(axes)
    return shown


def draw_curve(axes: Axes, values: np.ndarray, domain: Domain, **style: Any) -> None:
    """A line over an axis, or a bar for each entry where they are few and in order."""
    x = domain.positions
    if domain.x is None and domain.size <= BARS:
        axes.vlines(x, 0, values, **{"linewidth": 1.6, "color": "C0", **style})
    else:
        axes.plot(x, values, **{"linewidth": 1.3, "color": "C0", **style})
    axes.set_ylim(bottom=0, auto=True)  # of what is drawn later too
    axes.margins(x=0.01)
    plain_ticks(axes.xaxis, 5, integer=domain.x is None)
    plain_ticks(axes.yaxis, 3)
    axes.set_xlabel(domain.label)


def draw_names(
    axes: Axes, values: np.ndarray, names: Any, most: int, **style: Any
) -> None:
    """The names of the largest entries, with their share of the sum as bars."""
    total = float(values.sum()) or 1.0
    top = np.argsort(-values, kind="stable")[:most]
    top = top[values[top] > 0]
    shares = values[top] / total
    places = np.arange(len(top))
    axes.barh(places, shares, **{"height": 0.7, "color": "C0", **style})
    axes.set_yticks(places, [str(names[j]) for j in top], parse_math=False)
    axes.set(
        xlim=(0, 1.3 * shares.max(initial=0.0) or 1.0),
        ylim=(max(len(top), 1) - 0.4, -0.6),
    )
    axes.grid(visible=False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])
    for place, share in zip(places, shares, strict=True):
        axes.annotate(
            f"{share:.1%}", (share, place), (3, 0), textcoords="offset points",
            va="center", fontsize="small",
        )  # fmt: skip
