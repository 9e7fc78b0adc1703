"""Components over a common axis, as spectra are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxnmf.plots.axes import one_axes, plain_ticks
from jaxnmf.plots.domain import domain
from jaxnmf.plots.factors import (
    check_factor,
    check_names,
    factors_of,
    scaled,
    which,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def spectra(
    result: Any,
    dataset: Any = None,
    *,
    factor: str = "H",
    x: Any = None,
    label: str | None = None,
    names: Sequence[str] | None = None,
    components: Sequence[int] | None = None,
    relative: bool = True,
    ax: Any = None,
    **style: Any,
) -> Axes:
    """Draw components as curves over one axis, such as endmembers over wavelengths.

    Args:
      result: a `Result`, or a pair (W, H).
      dataset: a `jaxnmf.datasets.Dataset` with ``wavelengths`` or ``frequencies`` (of
        H) or ``times`` (of W).
      factor: "H" for its rows, "W" for its columns.
      x: where the entries are on the axis, one number each; their numbers by default.
        ``label`` names the axis and its unit.
      names: a name for each of the p components, for the legend; their numbers by
        default.
      components: the numbers of those to draw; by default all, strongest first.
      relative: whether to divide each by its largest entry.
      ax: axes to draw into; None for a new figure.
      style: options of matplotlib's `plot`.

    Returns:
      The axes.

    Raises:
      ValueError: an argument that does not fit the result, or the entries of the data
        set are pixels or names.

    Example:
      >>> import numpy as np, jaxnmf
      >>> H = np.array([[0.0, 2, 4], [3, 1, 0]])
      >>> nm = [400, 500, 600]
      >>> ax = jaxnmf.plots.spectra((np.ones((5, 2)), H), x=nm, label="wavelength, nm")
      >>> ax.lines[0].get_ydata()
      array([0. , 0.5, 1. ])
    """
    pair = factors_of(result)
    vectors = pair.vectors(check_factor(factor))
    of = domain(dataset, factor, vectors.shape[1], x=x, label=label)
    if of.image is not None or of.names is not None:
        what = "pixels" if of.image else "names"
        raise ValueError(
            f"dataset: the entries of a component of {factor} are {what}, not points "
            "on an axis; jaxnmf.plots.components draws them"
        )
    if names is not None:
        check_names("names", names, len(vectors), "components")
    axes = one_axes(ax)
    shown = which(pair, components, None)
    for k in shown:
        values = scaled(vectors[k]) if relative else vectors[k]
        name = str(k) if names is None else str(names[k])
        axes.plot(of.positions, values, **{"label": name, **style})
    axes.set_ylim(bottom=0, auto=True)  # of what is drawn later too
    axes.margins(x=0.01)
    plain_ticks(axes.xaxis, 7)
    axes.set(xlabel=of.label, ylabel="relative to the largest" if relative else factor)
    if len(shown) > 1:
        axes.legend(title="component", frameon=False)
    return axes
