"""Topics of a factorisation of word counts: their words, coherence and labels.

V (m×n) has a document a row and a word a column, so a row of H is a topic. All of it
runs on the host in float64; a sparse V is never made dense.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from jaxnmf.metrics import cluster_by_component


def top_words(
    H: ArrayLike, words: Sequence[str], k: int = 10
) -> list[list[tuple[str, float]]]:
    r"""The k words of largest weight in each topic.

    The weight of word j in topic t is its share H_tj / Σ_l H_tl, which does not depend
    on the topic's scale. Entries below zero count as zero.

    Args:
      H: (p, n), a topic a row.
      words: the n words.
      k: how many; fewer where fewer have a weight above zero.

    Returns:
      For each topic its (word, share), largest first.

    Raises:
      ValueError: H is not 2-D and finite, `words` are not n, or k is no whole number
        from 1 on.
    """
    H = _weights(H)
    if len(words) != H.shape[1]:
        raise ValueError(
            f"words: {len(words)} do not fit H of shape {H.shape}; {H.shape[1]} would"
        )
    return [
        [(str(words[j]), float(row[j] / row.sum())) for j in top]
        for row, top in zip(H, _largest(H, k), strict=True)
    ]


def coherence(
    topics: Any,
    V: Any,
    measure: str = "npmi",
    k: int = 10,
    epsilon: float | None = None,
) -> Float[np.ndarray, " p"]:
    r"""How often the top words of each topic are in the same documents.

    With D documents, D_i those with word i (V_di > 0) and D_ij those with both, and
    over the pairs of a topic's k top words, word j of larger weight than word i, the
    mean of

        npmi:   ln( (D_ij/D + ε) / (D_i/D · D_j/D) ) / −ln(D_ij/D + ε)
        umass:  ln( (D_ij + ε) / D_j )

    NPMI is in [−1, 1]: 1 for words that are only ever together, 0 for independent
    ones, −1 for two that never meet, which is its limit at ε = 0; two words that are
    in every document count 0. UMass is at most a little above 0; Mimno et al. have the
    sum over pairs, k (k − 1) / 2 times this mean. For both, more is better. Pairs with
    a word that is in no document are left out.

    Args:
      topics: H (p, n) of floating point; or for each topic the column numbers of its
        words, largest weight first, of which the first k are used.
      V: (m, n), the documents: an array or a SciPy sparse array; or its `occurrence`,
        which many calls may share.
      measure: "npmi" or "umass".
      k: words a topic.
      epsilon: ε; None is 0 for NPMI and 1 for UMass, as Bouma and Mimno et al. have.

    Returns:
      (p,) coherences; NaN for a topic of which no pair is left.

    Raises:
      ValueError: the shapes do not fit, no such measure or word, or an option is out
        of range.

    References:
      Bouma, Normalized (pointwise) mutual information in collocation extraction, GSCL
      (2009). Lau, Newman & Baldwin, Machine reading tea leaves: automatically
      evaluating topic coherence and topic model quality, EACL (2014); documents stand
      here for their sliding windows. Mimno, Wallach, Talley, Leenders & McCallum,
      Optimizing semantic coherence in topic models, EMNLP (2011).
    """
    if measure not in MEASURES:
        raise ValueError(f"measure: {measure!r} is not one of {', '.join(MEASURES)}")
    return _coherences(topics, V, (measure,), k, epsilon)[measure]


def coherences(topics: Any, V: Any, k: int = 10) -> dict[str, np.ndarray]:
    """`coherence` by every measure there is, from one count of the documents."""
    return _coherences(topics, V, tuple(MEASURES), k, None)


def _coherences(
    topics: Any, V: Any, measures: Sequence[str], k: int, epsilon: float | None
) -> dict[str, np.ndarray]:
    if not isinstance(epsilon, int | float | None) or not 0 <= (epsilon or 0) < np.inf:
        raise ValueError(f"epsilon: {epsilon!r} does not fit; a number ≥ 0 would")
    occurs = occurrence(V)
    m, n = occurs.shape
    means: dict[str, list[float]] = {measure: [] for measure in measures}
    for top in _indices(topics, n, k):
        of_topic = occurs[:, top].astype(np.int64)
        together = (of_topic.T @ of_topic).toarray()
        alone = np.diag(together)
        j, i = np.triu_indices(len(top), 1)
        known = (alone[i] > 0) & (alone[j] > 0)
        i, j = i[known], j[known]
        pairs = (together[i, j], alone[i], alone[j])
        for measure, found in means.items():
            score = MEASURES[measure](*pairs, m, epsilon)
            found.append(score.mean() if len(i) else np.nan)
    return {measure: np.array(found, float) for measure, found in means.items()}


def _npmi(both, one, other, m: int, epsilon: float | None) -> np.ndarray:
    p = both / m + (epsilon or 0.0)
    never, always = p == 0, p >= 1
    inside = np.where(never | always, 0.5, p)
    scores = np.log(inside / (one / m * (other / m))) / -np.log(inside)
    return np.where(never, -1.0, np.where(always, 0.0, scores))


def _umass(both, one, other, m: int, epsilon: float | None) -> np.ndarray:
    epsilon = 1.0 if epsilon is None else epsilon
    with np.errstate(divide="ignore"):  # ln 0 = −∞ is the measure's own answer
        return np.log((both + epsilon) / other)


MEASURES = {"npmi": _npmi, "umass": _umass}


def topic_diversity(topics: Any, k: int = 25) -> float:
    r"""Share of distinct words among the k top words of all topics.

    Args:
      topics: as in `coherence`.
      k: words a topic.

    Returns:
      The diversity: 1 where no two topics share a top word, 1 / p where all have the
      same; NaN where there is no word.

    Raises:
      ValueError: as `coherence`.

    References:
      Dieng, Ruiz & Blei, Topic modeling in embedding spaces, TACL 8 (2020).
    """
    listed = np.concatenate([*_indices(topics, None, k), np.array([], int)])
    return len(np.unique(listed)) / len(listed) if len(listed) else float("nan")


def topic_label_table(
    W: ArrayLike,
    labels: ArrayLike,
    label_names: Sequence[str] | None = None,
    *,
    H: ArrayLike | None = None,
    counts: bool = False,
) -> Any:
    r"""Where the documents of each label go: topics × labels.

    Each document goes to its strongest topic, as `metrics.cluster_by_component` has
    it: argmax_t W_dt Σ_j H_tj, which does not depend on how a topic's scale is shared
    by W and H; without H, argmax_t W_dt / ‖W[:, t]‖₂.

    Args:
      W: (m, p).
      labels: (m,) the label of each document; with `label_names`, integers that index
        them.
      label_names: the columns, in this order; None takes the labels there are, sorted.
      H: (p, n), or None.
      counts: numbers of documents in place of shares.

    Returns:
      A pandas DataFrame, a row a topic and a column a label: the share of the label's
      documents in each topic (a column sums to 1; NaN for a label without documents).

    Raises:
      ValueError: the shapes do not fit, or a label has no name.
    """
    import pandas as pd

    found = np.asarray(labels)
    topic = cluster_by_component(W, H)
    if found.shape != topic.shape:
        raise ValueError(
            f"labels: shape {found.shape} does not fit W of {len(topic)} rows; "
            f"{topic.shape} would"
        )
    if label_names is None:
        names, index = np.unique(found, return_inverse=True)
    else:
        names, index = list(label_names), found
        whole = found.dtype.kind in "iu"
        if not whole or found.min(initial=0) < 0 or found.max(initial=0) >= len(names):
            raise ValueError(
                f"labels: not all are whole numbers from 0 to {len(names) - 1}, which "
                f"would index the {len(names)} label_names"
            )
    table = np.zeros((np.shape(W)[1], len(names)), int)
    np.add.at(table, (topic, index), 1)
    if not counts:
        total = table.sum(0, keepdims=True)
        table = np.where(total > 0, table / np.maximum(total, 1), np.nan)
    return pd.DataFrame(
        table,
        index=pd.RangeIndex(len(table), name="topic"),
        columns=pd.Index(names, name="label"),
    )


def tfidf(V: Any) -> Any:
    r"""Counts weighted down where a word is in many documents.

    V_ij (1 + ln((1 + m) / (1 + d_j))) with d_j of the m documents having word j, each
    row then scaled to length 1: what the data set `documents` gives with `tfidf`.

    Args:
      V: (m, n) counts: an array or a SciPy sparse array.

    Returns:
      (m, n) `csr_array`, in float32 if V is, else in float64. Rows of zeros stay.

    Raises:
      ValueError: V is not 2-D, or has negative or not finite entries.
    """
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import TfidfTransformer

    V = csr_array(_two_axes(V))
    if not np.isfinite(V.data).all() or V.data.min(initial=0) < 0:
        raise ValueError("V: has negative, NaN or infinite entries; counts would fit")
    return csr_array(TfidfTransformer().fit_transform(V))


def _weights(H: ArrayLike) -> np.ndarray:
    """H in float64 without what is below zero."""
    weights = np.asarray(H, np.float64)
    if weights.ndim != 2:
        raise ValueError(f"H: shape {weights.shape} is not 2-D; (p, n) would fit")
    if not np.isfinite(weights).all():
        raise ValueError("H: has NaN or infinite entries; finite would fit")
    return np.maximum(weights, 0.0)


def _largest(H: np.ndarray, k: int) -> list[np.ndarray]:
    """The columns of the k largest entries above zero of each row, first come first."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k: {k!r} does not fit; a whole number ≥ 1 would")

    def largest(row: np.ndarray) -> np.ndarray:
        least = np.partition(row, -k)[-k] if k < len(row) else -np.inf
        few = np.flatnonzero((row >= least) & (row > 0))
        return few[np.argsort(-row[few], kind="stable")][:k]

    return [largest(row) for row in H]


def _indices(topics: Any, n: int | None, k: int) -> list[np.ndarray]:
    """The columns of the k top words of each topic, from H or as they are given."""
    if getattr(topics, "ndim", 0) == 2 and np.asarray(topics).dtype.kind == "f":
        H = _weights(topics)
        if n not in (None, H.shape[1]):
            raise ValueError(
                f"topics: H of shape {H.shape} does not fit V of {n} columns; "
                f"({H.shape[0]}, {n}) would"
            )
        return _largest(H, k)
    _largest(np.zeros((0, 1)), k)  # checks k
    given = [np.asarray(top) for top in topics]
    for top in given:
        if top.ndim != 1 or (top.size and top.dtype.kind not in "iu"):
            raise ValueError(
                "topics: neither H, a floating-point array (p, n), nor for each topic "
                "a list of column numbers"
            )
        if top.size and (top.min() < 0 or (n is not None and top.max() >= n)):
            raise ValueError(
                f"topics: column numbers from {top.min()} to {top.max()} do not fit "
                f"V of {n} columns"
            )
        if len(np.unique(top[:k])) < len(top[:k]):
            raise ValueError(f"topics: {top[:k].tolist()} names a word twice")
    return [top[:k].astype(int) for top in given]


def occurrence(V: Any) -> Any:
    """Which words are in which documents, V_ij > 0: a CSC array of truth values.

    Args:
      V: (m, n), an array or a SciPy sparse array; one that this function
        returned is returned as it is.

    Returns:
      (m, n) `scipy.sparse.csc_array`.

    Raises:
      ValueError: V is not 2-D.
    """
    from scipy.sparse import csc_array

    made = getattr(V, "format", "") == "csc" and V.dtype == bool
    if made and V.has_canonical_format:
        return V
    occurs = csc_array(_two_axes(V), copy=True)
    occurs.sum_duplicates()
    occurs.data = occurs.data > 0
    return occurs


def _two_axes(V: Any) -> Any:
    array = V if hasattr(V, "tocsr") else np.asarray(V)
    if array.ndim != 2:
        raise ValueError(f"V: shape {array.shape} is not 2-D; (m, n) would fit")
    return array
