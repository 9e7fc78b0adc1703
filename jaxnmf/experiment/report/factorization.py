"""The page of a single factorisation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnmf import plots
from jaxnmf.data.blocks import Blocks
from jaxnmf.experiment.report import pictures, residual, words
from jaxnmf.experiment.report.blocks import Block, Card, strongest_first
from jaxnmf.experiment.report.drawing import drawn, panels
from jaxnmf.experiment.report.files import ReportFiles
from jaxnmf.experiment.report.page import style, template
from jaxnmf.experiment.report.problems import named
from jaxnmf.experiment.report.topics import MAX_WORDS, word_block
from jaxnmf.plots.factors import strongest
from jaxnmf.topics import top_words


def factorization_page(dataset: Any, result: Any, files: Sequence[str]) -> str:
    """The page of a result: what was read, components, residual and convergence.

    Args:
      dataset: the data set that was factorised.
      result: the `Result`.
      files: the names of the files beside the page, that of the result first.
    """
    W, H = result.W, result.H
    sections = {"Components": _components(dataset, W, H)}
    if not isinstance(dataset.V, Blocks):  # larger than memory: not read again
        sections["Data and residual"] = residual.residual(dataset, W, H)
    sections["Convergence"] = [_convergence(result)]
    own = ReportFiles()
    return template("factorization.html.j2").render(
        name=Path(dataset.source).name,
        summary=_summary(dataset, result),
        files=files,
        sections=[
            (title, [named(own, title, block) for block in blocks])
            for title, blocks in sections.items()
        ],
        style=style(),
    )


def _summary(dataset: Any, result: Any) -> list[tuple[str, str]]:
    (m, p), n = result.W.shape, result.H.shape[1]
    loss = words.loss_name(result.model.loss.name)
    error = words.number(100 * result.relative_error)
    said = [
        (
            "Approximation",
            f"V ≈ W H with W ({m}×{p}) and H ({p}×{n}): ‖V − W H‖ is {error} % of ‖V‖",
        ),
        (
            "Run",
            f"{loss} loss, {words.count(result.iterations, 'iteration')} in "
            f"{words.duration(result.seconds)}: {result.status.message}",
        ),
    ]
    if dataset.kind == "text":
        said.insert(0, ("Data", dataset.about))
    if dataset.read_as:
        said.append(("Read with", dataset.read_as))
    if dataset.doubts:
        said.append(("Perhaps wrong", "; ".join(dataset.doubts)))
    return said


def _components(dataset: Any, W: np.ndarray, H: np.ndarray) -> list[Block]:
    """The components in the form of the data, and by name where columns have names."""
    found = pictures.components(dataset, W, H)
    order = strongest(W, H)
    order = order[W[:, order].any(0) & H[order].any(1)]
    if dataset.column_names and dataset.kind != "text":  # whose top words are shown
        note = "The largest entries of each row of H, as shares of that row."
        found.insert(0, word_block(dataset, H, order, "Largest columns", note))
    if dataset.row_names:
        found.append(_largest_rows(dataset.row_names, W, order))
    return found


def _largest_rows(names: Sequence[str], W: np.ndarray, order: np.ndarray) -> Block:
    """The rows of V in which each component is largest, by name."""
    shown = order[:MAX_WORDS].tolist()
    cards = []
    for k in shown:
        (top,) = top_words(W[:, [k]].T, names, 8)
        found = [(name, f"{share:.1%}", share / top[0][1]) for name, share in top]
        cards.append(Card(str(k), words=found))
    note = "The largest entries of each column of W, as shares of that column."
    note = f"{note} {strongest_first(shown, order)}"
    return Block("Largest rows", note, "words", cards)


def _convergence(result: Any) -> Block:
    """The objective and the KKT residual by iteration."""
    measures = {"objective": "objective", "kkt": "KKT residual"}
    with panels(2, 2.4, left=0.75) as axes:
        for each, y in zip(axes, measures, strict=True):
            plots.convergence(result, y=y, ax=each)
            each.set_ylabel("")
    cards = [
        Card(title, panels=[drawn(each)])
        for title, each in zip(measures.values(), axes, strict=True)
    ]
    note = f"By iteration; the final objective is {words.number(result.objective, 4)}."
    return Block("Objective and KKT residual", note, "panels", cards)
