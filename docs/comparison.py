"""Tables and pictures of the committed comparisons, for the page on them."""

from pathlib import Path

import numpy as np
import pandas as pd

STUDIES = Path(__file__).parents[1] / "experiments"
FASTEST, OURS, THEIRS = "#0072B2", "#56B4E9", "#D55E00"  # Okabe & Ito


def runs(study, loss):
    """One row for each data set, rank and solver, as `jaxnmf report` wrote them."""
    paths = sorted((STUDIES / study / "tables").glob(f"*-{loss}-comparison.csv"))
    return pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)


def times(study, loss):
    """Milliseconds to within 1 % of the best error: a row for each solver, a column for
    each data set and rank; NaN where it was not reached."""
    table = runs(study, loss)
    problem = table["dataset"] + " p=" + table["rank"].astype(str)
    table = table.assign(problem=problem, ms=1e3 * table["seconds_to_1pct"])
    wide = table.pivot(index="solver", columns="problem", values="ms")
    return wide.loc[over_fastest(wide).index]


def over_fastest(wide):
    """Each solver's median over the problems of its time over the fastest one's; a
    problem that it does not solve counts as infinite. In ascending order."""
    ratio = wide.div(wide.min(), axis=1)
    solved = ratio.notna().sum(axis=1)
    median = ratio.fillna(np.inf).median(axis=1)
    table = pd.DataFrame({"median": median, "solved": solved})
    return table.sort_values(["median", "solved"], ascending=[True, False])


def summary(study, loss):
    """A table in Markdown: how often a solver is the fastest, within twice, at all."""
    wide = times(study, loss)
    ratio = wide.div(wide.min(), axis=1)
    rank = pd.read_csv(
        STUDIES / study / "tables" / f"ranking-{loss}-seconds-to-1pct.csv",
        index_col="solver",
    )["mean rank"]
    lines = [
        f"| of {ratio.shape[1]} | fastest | within twice | ever | mean rank |",
        "|---|---|---|---|---|",
    ]
    for name, row in ratio.iterrows():
        counts = ((row == 1).sum(), (row <= 2).sum(), row.notna().sum())
        cells = " | ".join(str(count) for count in counts)
        shown = f"{rank[name]:.2f}" if name in rank.index else ""
        lines.append(f"| `{name}` | {cells} | {shown} |")
    return "\n".join(lines)


def details(study, loss):
    """The times as a table in Markdown, the fastest of each problem in bold."""
    wide = times(study, loss)
    heads = [name.replace("_", " ") for name in wide.columns]
    lines = ["| ms | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    lowest = wide.min()
    for name, row in wide.iterrows():
        cells = [
            "–"
            if np.isnan(x)
            else f"**{x:.3g}**"
            if x == lowest[problem]
            else f"{x:.3g}"
            for problem, x in row.items()
        ]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def picture(study, loss, ours):
    """Time over that of the fastest: a dot for each problem, a bar the median."""
    import matplotlib.pyplot as plt

    wide = times(study, loss)
    ratio = wide.div(wide.min(), axis=1)
    names = list(ratio.index)[::-1]
    figure, ax = plt.subplots(
        figsize=(5.2, 0.8 + 0.26 * len(names)), layout="constrained"
    )
    for height, name in enumerate(names):
        row = ratio.loc[name]
        colour = OURS if name in ours else THEIRS
        edge = FASTEST if name in ours else THEIRS
        reached = row.dropna()
        ax.plot(reached, np.full(len(reached), height), "o", ms=4, c=colour, alpha=0.7)
        median = row.fillna(np.inf).median()
        if np.isfinite(median):
            ax.plot([median], [height], "|", ms=15, mew=2.5, c=edge)
        missed = int(row.isna().sum())
        if missed:
            ax.annotate(
                f"{missed} not",
                (1, height),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color="#666666",
            )
    ax.set(
        xscale="log", xlabel="time to within 1 % of the best error, over the fastest"
    )
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(-0.7, len(names) - 0.3)
    ax.grid(axis="x", alpha=0.3)
    return figure
