"""Components with the bands of their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnmf.plots.axes import many_axes, plain_ticks
from jaxnmf.plots.domain import domain
from jaxnmf.plots.factors import check_factor, check_names, factors_of, which


def intervals(
    found: Any,
    dataset: Any = None,
    *,
    factor: str = "H",
    x: Any = None,
    label: str | None = None,
    names: Sequence[str] | None = None,
    components: Sequence[int] | None = None,
    ax: Any = None,
) -> np.ndarray:
    """Draw the components of a fit, each with the interval of every entry as a band.

    Over an axis (``x``, a data set with wavelengths, frequencies or times, or none) a
    component is a line in a band; with ``names`` a bar with whiskers. Entries that are
    indistinguishable from zero are hollow.

    Args:
      found: what `jaxnmf.uncertainty` returns.
      dataset: a `jaxnmf.datasets.Dataset`, for its axis or names.
      factor: "H" for its rows, "W" for its columns.
      x: where the entries are on the axis, one number each; their numbers by default.
        ``label`` names the axis and its unit.
      names: a name for each entry of a component.
      components: the numbers of those to draw; by default all, strongest first.
      ax: an array of axes, one for each component; None for a new figure.

    Returns:
      The axes, (number of components,).

    Raises:
      ValueError: an argument that does not fit, or ``found`` has no intervals.

    Example:
      >>> import numpy as np, jaxnmf
      >>> V = np.random.default_rng(0).random((30, 8)) + 0.1
      >>> found = jaxnmf.uncertainty(V, 2, replicates=20)
      >>> jaxnmf.plots.intervals(found).shape
      (2,)
    """
    if not hasattr(found, "H_interval"):
        raise ValueError(
            f"found is a {type(found).__name__}; give what jaxnmf.uncertainty returns"
        )
    of_H = check_factor(factor) == "H"
    pair = factors_of(found.result)
    vectors = pair.vectors(factor)
    low, high = found.H_interval if of_H else (x.T for x in found.W_interval)
    zero = found.H_zero if of_H else found.W_zero.T
    if names is not None:
        check_names("names", names, vectors.shape[1], f"entries in a row of {factor}")
    given = {} if x is None else {"x": x}
    of = domain(dataset, factor, vectors.shape[1], label=label, **given)
    names = of.names if names is None else names
    shown = which(pair, components, ax)
    size = (4.2, 1.9)
    axes = many_axes(ax, len(shown), what="components", size=size, columns=1)
    at = np.arange(vectors.shape[1]) if names is not None else of.positions
    for one, k in zip(axes, shown, strict=True):
        hollow = {"mfc": "none", "ls": "none", "ms": 4}
        if names is not None:
            off = vectors[k] - low[k], high[k] - vectors[k]
            one.bar(at, vectors[k], yerr=np.maximum(off, 0), color="C0", alpha=0.6)
            one.set_xticks(at, [str(name) for name in names], rotation=90)
        else:
            one.fill_between(at, low[k], high[k], color="C0", alpha=0.3, lw=0)
            one.plot(at, vectors[k], color="C0")
            plain_ticks(one.xaxis, 7)
        one.plot(at[zero[k]], vectors[k][zero[k]], "o", color="C0", **hollow)
        one.set_ylim(bottom=0)
        one.margins(x=0.01)
        plain_ticks(one.yaxis, 4)
        stable = found.stability[k]
        known = "" if np.isnan(stable) else f", stability {stable:.2f}"
        one.set_title(f"component {k}{known}", fontsize="medium")
        one.set_ylabel("share of the row" if of_H else "W")
    axes[-1].set_xlabel(of.label)
    return axes
