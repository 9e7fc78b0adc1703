"""The measures of a choice of p, and the choice."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxnmf.plots.axes import one_axes
from jaxnmf.selection.base import RankSelection
from jaxnmf.selection.residual_spread import LEAST

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "os^Dv"
GREY = "0.6"


class Measure(NamedTuple):
    """How a column of a method's table is drawn."""

    label: str
    spread: str | None = None  # the column of its error bars
    linestyle: str = "-"


MEASURES: dict[str, dict[str, Measure]] = {
    "consensus": {
        "cophenetic": Measure("cophenetic correlation", "cophenetic_se"),
        "dispersion": Measure("dispersion"),
        "pac": Measure("PAC", linestyle=":"),
    },
    "cross_validation": {"error": Measure("mean ± standard error", "error_se")},
    "bi_cross_validation": {"error": Measure("mean ± standard error", "error_se")},
    "stability": {
        "silhouette_min": Measure("silhouette, least component"),
        "silhouette_mean": Measure("silhouette, mean", "silhouette_std"),
    },
    "ard": {"runs": Measure("runs")},
    "information": {"aic": Measure("AIC"), "bic": Measure("BIC")},
    "residual_spread": {
        "mci": Measure("entries of the residual"),
        "objective_iqr": Measure("objective", linestyle=":"),
    },
}
"""Method → the columns of its table that are drawn."""

WHAT = {
    "consensus": "agreement of runs",
    "cross_validation": "loss of a held-out entry",
    "bi_cross_validation": "loss of a held-out entry",
    "stability": "silhouette (cosine)",
    "ard": "runs that end with p components",
    "information": "above the smallest",
    "residual_spread": "interquartile range over starts, relative",
}
"""Method → what its measures are together."""


def selection(
    found: Any,
    *,
    measures: Sequence[str] | None = None,
    legend: bool = True,
    ax: Any = None,
) -> Axes:
    """Draw the measures of a choice of p against p, the choice marked by a grey bar.

    What is drawn is the method's: of "consensus" the cophenetic correlation, dispersion
    and PAC; of "cross_validation" and "bi_cross_validation" the mean error of held-out
    entries, and in grey that of each part; of "stability" the silhouettes, their
    thresholds dashed, and the objective on an axis of its own at the right; of "ard"
    how many runs end at each p; of "information" AIC and BIC; of "residual_spread" both
    spreads, on a logarithmic axis. Error bars are the standard errors or deviations of
    the table.

    `consensus`, `silhouettes`, `relevance` and `objectives` draw what a method shows
    besides.

    Args:
      found: a `RankSelection`.
      measures: columns of ``found.table`` to draw in place of the method's.
      legend: whether to add a legend where there are several lines.
      ax: axes to draw into; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: ``found`` is no `RankSelection`, or a measure is no column.

    Example:
      >>> import numpy as np, jaxnmf
      >>> rng = np.random.default_rng(0)
      >>> V = rng.gamma(0.5, size=(40, 3)) @ rng.gamma(0.5, size=(3, 30))
      >>> V = V * rng.uniform(0.9, 1.1, V.shape)
      >>> found = jaxnmf.select_rank(V, [2, 3, 4], method="information", seeds=2)
      >>> ax = jaxnmf.plots.selection(found)
      >>> ax.get_xlabel()
      'components p (chosen: 3)'
    """
    check_selection(found)
    axes, name = one_axes(ax), found.method.name
    if measures is not None:
        for column in measures:
            if column not in found.table.columns:
                raise ValueError(
                    f"measures holds {column!r}, which is no column of the table: "
                    f"{', '.join(found.table.columns)}"
                )
        drawn = {c: of_method(name).get(c, Measure(c)) for c in measures}
        what = next(iter(drawn.values())).label if len(drawn) == 1 else ""
        draw_measures(axes, found, drawn)
        mark_choice(axes, found, what)
    else:
        drawn = of_method(name)
        draw = SPECIAL.get(name, draw_measures)
        draw(axes, found, drawn)
        mark_choice(axes, found, WHAT.get(name, ""))
    handles, labels = axes.get_legend_handles_labels()
    if legend and len(labels) > 1:
        # Above the axes: in them it would lie on the bars or on a second axis' lines.
        axes.legend(
            handles, labels, frameon=False, fontsize="small", ncols=2,
            loc="lower center", bbox_to_anchor=(0.5, 1.0),
        )  # fmt: skip
    return axes


def of_method(name: str) -> dict[str, Measure]:
    """The measures of a method; none of one that is not known."""
    return MEASURES.get(name, {})


def check_selection(found: Any) -> None:
    """Raise a ValueError unless this is a `RankSelection`."""
    if not isinstance(found, RankSelection):
        raise ValueError(
            f"found is a {type(found).__name__}; give a RankSelection, such as "
            "jaxnmf.select_rank returns"
        )


def draw_measures(
    axes: Axes, found: RankSelection, measures: dict[str, Measure]
) -> None:
    """Lines with error bars against p, one a measure."""
    for i, (column, measure) in enumerate(measures.items()):
        table = found.table
        spread = None if measure.spread is None else table[measure.spread]
        axes.errorbar(
            table.index,
            table[column],
            spread,
            label=measure.label,
            linestyle=measure.linestyle,
            marker=MARKERS[i % len(MARKERS)],
            markersize=4,
            capsize=3,
            linewidth=1.4,
        )


def mark_choice(axes: Axes, found: RankSelection, ylabel: str) -> None:
    """Label the axes, and mark the choice."""
    if found.rank is not None:
        axes.axvline(found.rank, color=GREY, linewidth=8, alpha=0.35, zorder=0)
    chosen = "none" if found.rank is None else found.rank
    axes.set(xlabel=f"components p (chosen: {chosen})", ylabel=ylabel)
    axes.set_xticks(list(found.table.index))
    axes.spines[["top", "right"]].set_visible(False)


def _draw_held_out(axes: Axes, found: RankSelection, measures: Any) -> None:
    """The error of each part, pale; few that are far off are beyond the axes."""
    ranks = list(found.evidence)
    errors = np.stack([found.evidence[rank]["errors"] for rank in ranks])
    axes.plot(ranks, errors, color="0.75", linewidth=0.8, zorder=1)
    draw_measures(axes, found, measures)
    low, high = fences(errors)
    if found.rank is not None:
        mean = float(found.table["error"][found.rank])
        low, high = min(low, mean), max(high, mean)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    axes.set_ylim(low - margin, high + margin)
    beyond = int(((errors < low) | (errors > high)).sum())
    title = f"{beyond} of {errors.size} errors are beyond" if beyond else None
    axes.legend(frameon=False, fontsize="small", title=title, title_fontsize="small")


def _draw_stability(axes: Axes, found: RankSelection, measures: Any) -> None:
    """With the thresholds of the rule, and the objective on an axis of its own."""
    draw_measures(axes, found, measures)
    method: Any = found.method
    for limit, colour in ((method.least, "C0"), (method.mean, "C1")):
        axes.axhline(limit, color=colour, linewidth=0.8, linestyle="--", alpha=0.6)
    axes.set_ylim(top=1.05)
    right = axes.twinx()
    table = found.table
    right.errorbar(
        table.index,
        table["objective"],
        table["objective_std"],
        color="C3",
        marker="^",
        markersize=4,
        capsize=3,
        linewidth=1.4,
    )
    right.set_ylabel("objective", color="C3")
    right.set_ylim(bottom=0)
    right.spines["top"].set_visible(False)


def _draw_ard(axes: Axes, found: RankSelection, measures: Any) -> None:
    """A bar for each p."""
    for column in measures:
        axes.bar(found.table.index, found.table[column], color="C0", width=0.7)


def _draw_residual_spread(axes: Axes, found: RankSelection, measures: Any) -> None:
    """On a logarithmic axis, on which equal jumps are equal steps; what counts as no
    spread is drawn as the smallest that counts."""
    clipped = {c: found.table[c].clip(lower=LEAST[c]) for c in measures}
    table = found.table.assign(**clipped)
    draw_measures(axes, dataclasses.replace(found, table=table), measures)
    axes.set_yscale("log")


SPECIAL: dict[str, Callable[[Axes, RankSelection, Any], None]] = {
    "cross_validation": _draw_held_out,
    "bi_cross_validation": _draw_held_out,
    "stability": _draw_stability,
    "ard": _draw_ard,
    "residual_spread": _draw_residual_spread,
}


def fences(values: np.ndarray) -> tuple[float, float]:
    """The least and greatest finite value within 1.5 interquartile ranges of the
    quartiles: few outliers do not flatten a picture.

    Reference: Tukey, "Exploratory Data Analysis" (1977) [Tukey1977].
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    first, third = np.percentile(values, [25, 75])
    reach = 1.5 * (third - first)
    inside = values[(values >= first - reach) & (values <= third + reach)]
    return float(inside.min()), float(inside.max())
