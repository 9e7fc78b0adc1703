"""The table and the picture of a study of ratings or of topics.

    python experiments/quality.py STUDY_FOLDER [PICTURE.png]

Reads the store of a finished `jaxnmf run` and prints the table of its README: for
ratings, the baselines and the setting of each model that has the lowest validation
error; for topics, the solver of lowest error for each data set, loss and rank. Medians
over splits or seeds. The picture shows the measures against the rank.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from keep import fewer_colors

from jaxnmf.experiment.report import gather, prediction_table, tables
from jaxnmf.experiment.report.words import loss_name
from jaxnmf.experiment.store.layout import BASELINES, PREDICTION_COLUMNS
from jaxnmf.experiment.store.stored import read_jobs

TOPIC_KEYS = ["dataset", "loss", "rank"]
QUALITY = ["median_error", "npmi", "diversity", "nmi", "ari", "seconds"]


def markdown(columns: list[str], table: pd.DataFrame, names: list[str]) -> str:
    """A table; the columns ``names`` are text, the others numbers."""
    lines = [
        "| " + " | ".join(tables.column(c).heading for c in columns) + " |",
        "|---" * len(columns) + "|",
    ]
    for row in table.to_dict("records"):
        cells = [
            str(row[c] or "") if c in names else tables.column(c).text(row[c])
            for c in columns
        ]
        if row.get("chosen"):
            cells = [f"**{text}**" if text else "" for text in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def ratings_table(predictions: Any) -> str:
    simple = predictions[predictions["rank"] == 0]
    # Settings are in the order of their validation error.
    best = predictions[predictions["rank"] > 0].drop_duplicates("model")
    names = ["solver", "model", "rank"]
    return markdown([*names, *PREDICTION_COLUMNS], pd.concat([simple, best]), names)


def topics_table(best: pd.DataFrame) -> str:
    columns = [*TOPIC_KEYS, "solver", *(c for c in QUALITY if c in best)]
    return markdown(columns, best, [*TOPIC_KEYS, "solver"])


def best_solvers(summary: pd.DataFrame) -> pd.DataFrame:
    """The solver of lowest median error for each data set, loss and rank."""
    summary = summary.rename(columns={"error": "median_error"})
    recorded = [c for c in QUALITY if c in summary]
    medians: Any = summary.groupby([*TOPIC_KEYS, "solver"])[recorded].median()
    medians = medians.reset_index()
    best = medians.loc[medians.groupby(TOPIC_KEYS)["median_error"].idxmin()]
    return best.assign(loss=[loss_name(loss) for loss in best["loss"]])


def draw_ratings(predictions: Any, path: Path) -> None:
    """Draw validation and test RMSE against the rank, a line per model.

    At each rank the solver of lowest validation error; dashed without offsets.
    """
    settings = predictions[predictions["rank"] > 0]
    best = settings.drop_duplicates(["model", "rank"]).sort_values("rank")
    offsets = predictions[predictions["solver"] == BASELINES["offsets"]].iloc[0]
    penalties = sorted({m.removesuffix(", offsets") for m in best["model"]})
    figure, axes = plt.subplots(
        1, 2, figsize=(11, 4), sharey=True, layout="constrained"
    )
    titles = {"validation_rmse": "validation RMSE", "rmse": "test RMSE"}
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        for model, points in best.groupby("model", sort=True):
            penalty = str(model).removesuffix(", offsets")
            ax.plot(
                points["rank"],
                points[column],
                "o-" if model != penalty else "o--",
                color=f"C{penalties.index(penalty)}",
                label=model,
            )
        ax.axhline(offsets[column], color="grey", label=BASELINES["offsets"])
        ax.set(title=title, xlabel="rank", xticks=best["rank"].unique())
        ax.grid(alpha=0.3)
    save(figure, axes[0], path)


def draw_topics(best: Any, path: Path) -> None:
    """Draw each measure against the rank, a line per loss and data set."""
    measures = [c for c in ("npmi", "diversity", "nmi", "ari") if c in best]
    losses, datasets = sorted(best["loss"].unique()), sorted(best["dataset"].unique())
    figure, axes = plt.subplots(
        1, len(measures), figsize=(3.4 * len(measures), 3.8), layout="constrained"
    )
    for ax, column in zip(axes, measures, strict=True):
        for (dataset, loss), points in best.groupby(["dataset", "loss"], sort=True):
            ax.plot(
                points["rank"],
                points[column],
                marker="o",
                linestyle=("solid", "dashed", "dotted")[datasets[::-1].index(dataset)],
                color=f"C{losses.index(loss)}",
                label=f"{dataset}, {loss}",
            )
        ax.set(
            title=tables.column(column).heading,
            xlabel="rank",
            xticks=best["rank"].unique(),
        )
        ax.grid(alpha=0.3)
    save(figure, axes[0], path)


def save(figure: Any, ax: Any, path: Path) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    fewer_colors(path, path)


def main(study: str, picture: str | None = None) -> None:
    summary, _ = gather(read_jobs(Path(study)))
    if "rmse" in summary:
        table: Any = prediction_table(summary)
        make, draw = ratings_table, draw_ratings
    else:
        table = best_solvers(summary)
        make, draw = topics_table, draw_topics
    print(make(table), end="")
    if picture is not None:
        draw(table, Path(picture))


if __name__ == "__main__":
    main(*sys.argv[1:])
