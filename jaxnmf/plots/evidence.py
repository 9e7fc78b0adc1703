"""What a method of rank selection shows of one p beside its measures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnmf.plots.axes import bare, ink, one_axes
from jaxnmf.plots.blocks import block_means
from jaxnmf.plots.selection import (
    Measure,
    check_selection,
    draw_measures,
    mark_choice,
)
from jaxnmf.shapes import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PIXELS = 240  # rows and columns of a consensus matrix, at most
LEAST_RELEVANCE = 1e-6  # that the log scale of relevance shows


def consensus(
    found: Any,
    *,
    rank: int | None = None,
    colorbar: bool = True,
    ax: Any = None,
    **style: Any,
) -> Axes:
    """Draw the consensus matrix of method "consensus", reordered.

    C_ij is the share of runs that put samples i and j into one cluster, from 0 to 1;
    rows and columns are in the order of the leaves of its average linkage, so that
    samples that stay together are blocks. Of more than 240 samples, means over blocks
    are drawn.

    Args:
      found: a `RankSelection` by "consensus".
      rank: of which p; the chosen one by default.
      colorbar: whether to add a colour bar.
      ax: axes to draw into; None for a new figure.
      style: options of matplotlib's `imshow`, such as ``cmap``.

    Returns:
      The axes.

    Raises:
      ValueError: another method's selection, or a rank that was not measured.

    Example:
      >>> import numpy as np, jaxnmf
      >>> rng = np.random.default_rng(0)
      >>> V = rng.gamma(0.3, size=(20, 2)) @ rng.gamma(0.5, size=(2, 30))
      >>> found = jaxnmf.select_rank(V, [2, 3], method="consensus", seeds=4)
      >>> ax = jaxnmf.plots.consensus(found, rank=2)
      >>> ax.images[0].get_array().shape
      (20, 20)
    """
    rank, parts = _evidence(found, "consensus", rank)
    order = parts["order"]
    axes = one_axes(ax, (4.4, 3.6))
    given = {"vmin": 0, "vmax": 1, "cmap": "viridis", "interpolation": "none"}
    values = block_means(parts["consensus"][np.ix_(order, order)], PIXELS, PIXELS)
    image = axes.imshow(values, **{**given, **style})
    bare(axes)
    axes.set_title(f"consensus of samples, p = {rank}")
    samples = getattr(found.method, "samples", "rows")
    axes.set_xlabel(f"samples ({samples} of V), by average linkage")
    if colorbar:
        label = "share of runs together"
        axes.figure.colorbar(image, ax=axes, label=label, shrink=0.9)
    return axes


def silhouettes(found: Any, *, rank: int | None = None, ax: Any = None) -> Axes:
    """Draw the silhouettes of method "stability": a bar for each component and run.

    Bars are grouped by component and sorted within each, the most stable component
    first; the dashed line is the mean of all.

    Args:
      found: a `RankSelection` by "stability".
      rank: of which p; the chosen one by default.
      ax: axes to draw into; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: another method's selection, or a rank that was not measured.

    Example:
      >>> import numpy as np, jaxnmf
      >>> rng = np.random.default_rng(0)
      >>> V = rng.gamma(0.3, size=(30, 3)) @ rng.gamma(0.3, size=(3, 20))
      >>> V *= rng.gamma(100, 0.01, size=V.shape)
      >>> found = jaxnmf.select_rank(V, [2, 3], method="stability", seeds=3)
      >>> ax = jaxnmf.plots.silhouettes(found, rank=3)
      >>> len(ax.patches)  # of three components in three runs
      9

    Reference: Rousseeuw, "Silhouettes", J. Computational and Applied Mathematics 20
    (1987) [Rousseeuw1987].
    """
    rank, parts = _evidence(found, "silhouettes", rank)
    axes = one_axes(ax)
    values: Float[np.ndarray, "r p"] = parts["silhouettes"]
    start = 0
    for k in np.argsort(-values.mean(0)):
        bars = np.sort(values[:, k])
        axes.barh(start + np.arange(len(bars)), bars, height=1.0, color=f"C{k % 10}")
        axes.text(-0.02, start + len(bars) / 2, str(k), ha="right", va="center")
        start += len(bars) + max(2, len(bars) // 8)
    axes.axvline(values.mean(), color=ink(axes), linewidth=0.8, linestyle="--")
    axes.set_xlim(min(0.0, values.min()), 1)
    axes.set_yticks([])
    axes.set_xlabel("silhouette (cosine)")
    axes.set_ylabel("component", labelpad=14)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(f"silhouettes by component, p = {rank}")
    return axes


def relevance(found: Any, *, ax: Any = None) -> Axes:
    """Draw the relevance of the components of every run of method "ard", sorted.

    (λ_k − b/c)/(b/c) on a log scale, not below 1e-6; runs that end with the chosen p
    are in colour, the dashed line is the threshold above which a component counts.

    Args:
      found: a `RankSelection` by "ard".
      ax: axes to draw into; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: another method's selection.

    Example:
      >>> import numpy as np, jaxnmf
      >>> rng = np.random.default_rng(0)
      >>> V = rng.gamma(0.3, size=(30, 3)) @ rng.gamma(0.3, size=(3, 20))
      >>> found = jaxnmf.select_rank(V, [2, 3, 4, 5], method="ard", seeds=3)
      >>> jaxnmf.plots.relevance(found).get_yscale()
      'log'
    """
    _evidence(found, "relevance", None)
    axes = one_axes(ax)
    for rank in found.evidence:
        colour, alpha = ("C0", 0.5) if rank == found.rank else ("0.6", 0.4)
        for one in found.evidence[rank]["relevance"]:
            values = np.maximum(np.sort(one)[::-1], LEAST_RELEVANCE)
            places = np.arange(1, len(one) + 1)
            axes.plot(places, values, ".-", color=colour, alpha=alpha)
    method: Any = found.method
    axes.axhline(method.threshold, color=ink(axes), linewidth=0.8, linestyle="--")
    axes.set(
        yscale="log",
        xlabel="component, by relevance",
        ylabel="relevance above its bound",
    )
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def objectives(found: Any, *, ax: Any = None) -> Axes:
    """Draw the objective of every run of method "information" against p, and a line
    through the best.

    Args:
      found: a `RankSelection` by "information".
      ax: axes to draw into; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: another method's selection.

    Example:
      >>> import numpy as np, jaxnmf
      >>> rng = np.random.default_rng(0)
      >>> V = rng.gamma(0.3, size=(30, 3)) @ rng.gamma(0.3, size=(3, 20))
      >>> V *= rng.gamma(100, 0.01, size=V.shape)
      >>> found = jaxnmf.select_rank(V, [2, 3, 4], method="information", seeds=3)
      >>> jaxnmf.plots.objectives(found).get_ylabel()
      'objective, best of the seeds'
    """
    _evidence(found, "objectives", None)
    axes = one_axes(ax)
    draw_measures(axes, found, {"objective": Measure("objective")})
    for rank in found.evidence:
        values = found.evidence[rank]["objectives"]
        axes.plot(
            [rank] * len(values), values, ".", color="0.7", markersize=4, zorder=1
        )
    axes.set_ylim(bottom=0)
    mark_choice(axes, found, "objective, best of the seeds")
    return axes


def _evidence(found: Any, name: str, rank: int | None) -> tuple[int, Any]:
    """(the rank, its evidence), which must hold what is named."""
    check_selection(found)
    rank = found.rank if rank is None else rank
    if rank is None:  # none was chosen, and for what shows every rank none is needed
        rank = min(found.evidence)
    if rank not in found.evidence:
        raise ValueError(
            f"rank={rank!r} is none of those measured: {list(found.evidence)}"
        )
    if name not in found.evidence[rank]:
        raise ValueError(
            f"found: method {found.method.name!r} has no {name} to draw; "
            f"{OF_METHOD[name]!r} has"
        )
    return rank, found.evidence[rank]


OF_METHOD = {
    "consensus": "consensus",
    "silhouettes": "stability",
    "relevance": "ard",
    "objectives": "information",
}
"""What is drawn → the method that has it."""
