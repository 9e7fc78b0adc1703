"""What was recorded on the way, against iterations or seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnmf.plots.axes import bare, log_ticks, one_axes
from jaxnmf.plots.lines import Styles, add_legend, style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELS = {"objective": "objective", "error": "relative error", "kkt": "KKT residual"}
AXES = {"iterations": "iteration", "seconds": "seconds"}
"""``x`` → the field of a `Trace`."""


def convergence(
    results: Any,
    *,
    y: str = "objective",
    x: str = "iterations",
    above_best: bool = False,
    styles: Styles | None = None,
    ax: Any = None,
) -> Axes:
    """Draw the objective, error or KKT residual of one or several runs as they went.

    Both axes are logarithmic: a run's start, at iteration 0, is left out. Several runs
    under one name, such as from several seeds, are lines of one colour.

    Args:
      results: a `Result`, or a mapping name → `Result` or a list of them.
      y: "objective"; "error", ‖V − W H‖ / ‖V‖, for the Frobenius loss without
        penalties; or "kkt".
      x: "iterations" or "seconds", which do not count compilation.
      above_best: draw how far y is above the lowest value of any run.
      styles: name → options of matplotlib's `plot`.
      ax: axes to draw into; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: results that are none, an unknown y or x, or a y that was not
        recorded.

    Example:
      >>> import numpy as np, jaxnmf
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> found = {
      ...     solver: jaxnmf.factorize(V, 3, solver=solver, max_iter=30)
      ...     for solver in ("hals", "mu")
      ... }
      >>> ax = jaxnmf.plots.convergence(found, y="kkt")
      >>> [line.get_label() for line in ax.lines]
      ['hals', 'mu']
    """
    for name, value, known in (("y", y, LABELS), ("x", x, AXES)):
        if value not in known:
            raise ValueError(f"{name}={value!r} must be one of {', '.join(known)}")
    groups = _groups(results)
    curves = {
        name: [
            (np.asarray(getattr(r.trace, AXES[x]), float), _values(r, y)) for r in of
        ]
        for name, of in groups.items()
    }
    if above_best:
        known = [v[np.isfinite(v)] for of in curves.values() for _, v in of]
        best = min((float(v.min()) for v in known if len(v)), default=0.0)
        curves = {
            name: [(at, values - best) for at, values in of]
            for name, of in curves.items()
        }
    axes = one_axes(ax)
    for place, (name, of) in enumerate(curves.items()):
        style = style_of(name, place, styles)
        for i, (at, values) in enumerate(of):
            shown = (at > 0) & np.isfinite(values) & (values > 0)
            label = name if not i else "_"
            axes.plot(at[shown], values[shown], **{"label": label, **style})
    what = LABELS[y] + (" above the best" if above_best else "")
    axes.set(xlabel=x, ylabel=what)
    if not any(np.size(line.get_xdata()) for line in axes.lines):
        # Such as an exact fit: a logarithm has no place for 0.
        bare(axes)
        axes.text(0.5, 0.5, "0 after the start", ha="center", transform=axes.transAxes)
        return axes
    axes.set(xscale="log", yscale="log")
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        log_ticks(axis, *limits)
    add_legend(axes, len(groups))
    return axes


def _groups(results: Any) -> dict[str, list[Any]]:
    """Name → results."""
    given = results if isinstance(results, Mapping) else {"": results}
    groups = {
        str(name): list(of) if isinstance(of, list | tuple) else [of]
        for name, of in given.items()
    }
    for of in groups.values():
        for each in of:
            if not hasattr(each, "trace") or not hasattr(each, "W"):
                raise ValueError(
                    f"results holds a {type(each).__name__}; give a Result, or a "
                    "mapping of names to results or lists of them"
                )
    if not any(groups.values()):
        raise ValueError("results is empty; give at least one Result")
    return groups


def _values(result: Any, y: str) -> np.ndarray:
    """The recorded values of y."""
    objective = np.asarray(result.trace.objective, float)
    if y == "objective":
        return objective
    if y == "kkt":
        kkt = np.asarray(result.trace.kkt, float)
        # Those of the start and the end are always there.
        if len(kkt) > 2 and np.isnan(kkt[1:-1]).all():
            raise ValueError(
                "y='kkt': it was not recorded on the way; run with kkt=True"
            )
        return kkt
    model = result.model
    if model is None or not model.loss.quadratic or not model.penalty.is_zero:
        raise ValueError(
            "y='error' is for the Frobenius loss without penalties; y='objective' is "
            "for all"
        )
    if not objective[-1] > 0:
        return np.where(objective > 0, np.nan, 0.0)
    return result.relative_error * np.sqrt(objective / objective[-1])
