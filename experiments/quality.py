"""What came out of a study of ratings or of topics: its table and its report.

    python experiments/quality.py STUDY_FOLDER TARGET_FOLDER

Reads the store of a finished `jaxnmf run` and leaves in the target ``table.md`` and the
study's ``report.html``. The table has, for ratings, the setting of each model that
validation chose and the baselines; for topics, the solver of lowest error of each data
set, loss and rank. Medians over splits or seeds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from keep import keep

from jaxnmf.experiment.report import gather, prediction_table
from jaxnmf.experiment.report.words import HEADINGS, cell, loss_name
from jaxnmf.experiment.store.layout import PREDICTION_COLUMNS
from jaxnmf.experiment.store.stored import read_jobs

QUALITY = ["error", "npmi", "diversity", "nmi", "ari", "seconds"]


def markdown(columns: list[str], table: pd.DataFrame, names: list[str]) -> str:
    """A table, the columns of ``names`` as they are and the others as numbers."""
    lines = [
        "| " + " | ".join(HEADINGS.get(c, c.replace("_", " ")) for c in columns) + " |",
        "|---" * len(columns) + "|",
    ]
    for row in table.to_dict("records"):
        cells = [str(row[c] or "") if c in names else cell(c, row[c]) for c in columns]
        if row.get("chosen"):
            cells = [f"**{text}**" if text else "" for text in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def of_ratings(summary: pd.DataFrame) -> str:
    table: Any = prediction_table(summary)
    simple, settings = table[table["rank"] == 0], table[table["rank"] > 0]
    # Settings are in the order of their validation error.
    best = settings.drop_duplicates("model")
    names = ["solver", "model", "rank"]
    return markdown([*names, *PREDICTION_COLUMNS], pd.concat([simple, best]), names)


def of_topics(summary: pd.DataFrame) -> str:
    keys = ["dataset", "loss", "rank"]
    recorded = [c for c in QUALITY if c in summary]
    medians: Any = summary.groupby([*keys, "solver"])[recorded].median().reset_index()
    best = medians.loc[medians.groupby(keys)["error"].idxmin()]
    best = best.assign(loss=[loss_name(loss) for loss in best["loss"]])
    names = [*keys, "solver"]
    return markdown([*names, *recorded], best, names)


def main(study: str, target: str) -> None:
    summary, _ = gather(read_jobs(Path(study)))
    where = Path(target)
    where.mkdir(parents=True, exist_ok=True)
    table = of_ratings(summary) if "rmse" in summary else of_topics(summary)
    (where / "table.md").write_text(table)
    keep(Path(study), where)


if __name__ == "__main__":
    main(*sys.argv[1:])
