"""Topics by their top words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnmf._util.checks import check_count
from jaxnmf.plots.components import components as draw_components


def topics(
    result: Any,
    words: Any,
    *,
    k: int = 10,
    components: Sequence[int] | None = None,
    ax: Any = None,
    **style: Any,
) -> np.ndarray:
    """Draw the top words of each topic as bars, one picture each, strongest first.

    A topic is a row of H; a bar is the share H_tj / Σ_l H_tl of word j in it, as in
    `jaxnmf.topics.top_words`.

    Args:
      result: a `Result`, or a pair (W, H).
      words: the n words, or a `jaxnmf.datasets.Dataset` with ``column_names``.
      k: how many words.
      components: the numbers of the topics to draw; by default all, or as many of the
        strongest as there are axes.
      ax: axes to draw into, one for each topic; None for a new figure.
      style: options of matplotlib's `barh`.

    Returns:
      The axes, (count,).

    Raises:
      ValueError: the words are not n, or k is no whole number from 1 on.

    Example:
      >>> import numpy as np, jaxnmf
      >>> H = np.array([[0.0, 3, 1], [2, 0, 0]])
      >>> axes = jaxnmf.plots.topics((np.ones((4, 2)), H), ["ant", "bee", "cow"])
      >>> [label.get_text() for label in axes[0].get_yticklabels()]
      ['bee', 'cow']
    """
    check_count("k", k)
    if hasattr(words, "column_names"):
        words = words.column_names
    if words is None:
        raise ValueError("words: the data set has no column_names; give the n words")
    return draw_components(
        result, factor="H", names=words, words=k, components=components, ax=ax, **style
    )
