"""Topics of a factorisation of word counts: top words, coherence and labels.

V (m×n) has one document per row and one word per column, so each row of H is a topic.
Everything is computed on the host in float64; a sparse V is never made dense.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxnmf._util.checks import check_count
from jaxnmf.metrics import cluster_by_component
from jaxnmf.shapes import Float


def top_words(
    H: ArrayLike, words: Sequence[str], k: int = 10
) -> list[list[tuple[str, float]]]:
    r"""The k words with the largest weights in each topic.

    The weight of word j in topic t is its share H_tj / Σ_l H_tl, which does not depend
    on the scale of the topic. Negative entries count as zero.

    Args:
      H: (p, n), one topic per row.
      words: the n words.
      k: how many; fewer are returned if fewer have a positive weight.

    Returns:
      For each topic, pairs (word, share) in decreasing order.

    Raises:
      ValueError: H is not 2-D or not finite, there are not n words, or k is not an
        integer ≥ 1.

    Example:
      >>> import numpy as np, jaxnmf
      >>> H = np.array([[3.0, 0.0, 1.0], [0.0, 2.0, 2.0]])
      >>> jaxnmf.topics.top_words(H, ["cat", "car", "red"], k=1)
      [[('cat', 0.75)], [('car', 0.5)]]
    """
    H = _weights(H)
    if len(words) != H.shape[1]:
        raise ValueError(
            f"words: {len(words)} given for H of shape {H.shape}; expected {H.shape[1]}"
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
    r"""Coherence of topics: how often their top words occur in the same documents.

    Of D documents, D_i contain word i (V_di > 0) and D_ij contain both words i and j.
    The coherence of a topic is the mean over pairs of its k top words, word j with a
    larger weight than word i, of

    - npmi: ln( (D_ij/D + ε) / (D_i/D · D_j/D) ) / −ln(D_ij/D + ε)
    - umass: ln( (D_ij + ε) / D_j )

    NPMI is in [−1, 1]: 1 for words that only occur together, 0 for independent words,
    −1 for words that never occur together (the limit for ε = 0); two words that occur
    in every document count as 0. UMass is at most slightly above 0; Mimno et al. use
    the sum over pairs, k (k − 1) / 2 times this mean. For both, larger is better. Pairs
    with a word that occurs in no document are left out.

    Args:
      topics: H (p, n), a floating-point array; or for each topic the column indices of
        its words, largest weight first, of which the first k are used.
      V: (m, n), the documents: an array or a SciPy sparse array; or its `occurrence`,
        which saves work if there are many calls.
      measure: "npmi" or "umass".
      k: number of words per topic.
      epsilon: ε; None is 0 for NPMI and 1 for UMass, as in Bouma and Mimno et al.

    Returns:
      (p,) coherences; NaN for a topic without any pair.

    Raises:
      ValueError: the shapes do not match, the measure or a word is unknown, or an
        option is out of range.

    Example:
      >>> import numpy as np, jaxnmf
      >>> V = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1]])
      >>> jaxnmf.topics.coherence([[0, 1], [0, 2]], V).tolist()
      [1.0, -1.0]

    References:
      Bouma, Normalized (pointwise) mutual information in collocation extraction, GSCL
      (2009) [Bouma2009]. Lau, Newman & Baldwin, Machine reading tea leaves:
      automatically evaluating topic coherence and topic model quality, EACL (2014)
      [Lau2014], with sliding windows in place of documents. Mimno, Wallach, Talley,
      Leenders & McCallum, Optimizing semantic coherence in topic models, EMNLP (2011)
      [Mimno2011].
    """
    if measure not in MEASURES:
        raise ValueError(f"measure: {measure!r} is not one of {', '.join(MEASURES)}")
    return _coherences(topics, V, (measure,), k, epsilon)[measure]


def coherences(topics: Any, V: Any, k: int = 10) -> dict[str, np.ndarray]:
    """`coherence` by every measure, from one count of the documents."""
    return _coherences(topics, V, tuple(MEASURES), k, None)


def _coherences(
    topics: Any, V: Any, measures: Sequence[str], k: int, epsilon: float | None
) -> dict[str, np.ndarray]:
    if not isinstance(epsilon, int | float | None) or not 0 <= (epsilon or 0) < np.inf:
        raise ValueError(f"epsilon={epsilon!r} must be a finite number ≥ 0, or None")
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
    r"""The share of distinct words among the k top words of all topics.

    Args:
      topics: as in `coherence`.
      k: number of words per topic.

    Returns:
      The diversity: 1 if no two topics share a top word, 1 / p if all have the same top
      words, NaN if there are no words.

    Raises:
      ValueError: as `coherence`.

    Example:
      >>> import jaxnmf
      >>> jaxnmf.topics.topic_diversity([[0, 1], [1, 2]], k=2)
      0.75

    References:
      Dieng, Ruiz & Blei, Topic modeling in embedding spaces, TACL 8 (2020) [Dieng2020].
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
    r"""The distribution of the documents of each label over the topics.

    Each document belongs to its strongest topic by `metrics.cluster_by_component`:
    argmax_t W_dt Σ_j H_tj, which does not depend on how the scale of a topic is divided
    between W and H; without H, argmax_t W_dt / ‖W[:, t]‖₂.

    Args:
      W: (m, p).
      labels: (m,) the label of each document; with `label_names`, indices into them.
      label_names: the names of the columns, in order; None uses the sorted labels.
      H: (p, n), or None.
      counts: whether to return numbers of documents instead of shares.

    Returns:
      A pandas DataFrame with one row per topic and one column per label: the share of
      the label's documents in each topic. Columns sum to 1, or are NaN for a label
      without documents.

    Raises:
      ValueError: the shapes do not match, or a label has no name.

    Example:
      >>> import numpy as np, jaxnmf
      >>> W = np.array([[0.9, 0.1], [0.8, 0.1], [0.1, 0.6]])
      >>> jaxnmf.topics.topic_label_table(W, ["a", "b", "b"]).values.tolist()
      [[1.0, 0.5], [0.0, 0.5]]
    """
    import pandas as pd

    found = np.asarray(labels)
    topic = cluster_by_component(W, H)
    if found.shape != topic.shape:
        raise ValueError(
            f"labels: shape {found.shape} does not match W of {len(topic)} rows; "
            f"expected {topic.shape}"
        )
    if label_names is None:
        names, index = np.unique(found, return_inverse=True)
    else:
        names, index = list(label_names), found
        fits = found.dtype.kind in "iu" and found.min(initial=0) >= 0
        if not fits or found.max(initial=0) >= len(names):
            raise ValueError(
                f"labels: must be integers from 0 to {len(names) - 1}, indices into "
                f"the {len(names)} label_names"
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
    r"""Term frequencies weighted by inverse document frequency (tf-idf).

    V_ij (1 + ln((1 + m) / (1 + d_j))), where d_j of the m documents contain word j,
    with rows scaled to length 1: the V of the data set `documents` with `tfidf`.

    Args:
      V: (m, n) counts: an array or a SciPy sparse array.

    Returns:
      (m, n) `csr_array`, float32 if V is, else float64. Rows of zeros stay zero.

    Raises:
      ValueError: V is not 2-D, or has negative or non-finite entries.

    Example:
      >>> import numpy as np, jaxnmf
      >>> weighted = jaxnmf.topics.tfidf(np.array([[1, 1], [1, 0]])).toarray()
      >>> np.linalg.norm(weighted, axis=1).round(6).tolist()
      [1.0, 1.0]
    """
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import TfidfTransformer

    V = csr_array(_two_axes(V))
    if not np.isfinite(V.data).all() or V.data.min(initial=0) < 0:
        raise ValueError("V: has negative, NaN or infinite entries; expected counts")
    return csr_array(TfidfTransformer().fit_transform(V))


def _weights(H: ArrayLike) -> np.ndarray:
    """H in float64, negative entries set to zero."""
    weights = np.asarray(H, np.float64)
    if weights.ndim != 2:
        raise ValueError(f"H: shape {weights.shape} is not 2-D; expected (p, n)")
    if not np.isfinite(weights).all():
        raise ValueError("H: has NaN or infinite entries; expected finite")
    return np.maximum(weights, 0.0)


def _largest(H: np.ndarray, k: int) -> list[np.ndarray]:
    """The columns of the k largest positive entries of each row, ties in order."""
    check_count("k", k)

    def largest(row: np.ndarray) -> np.ndarray:
        least = np.partition(row, -k)[-k] if k < len(row) else -np.inf
        few = np.flatnonzero((row >= least) & (row > 0))
        return few[np.argsort(-row[few], kind="stable")][:k]

    return [largest(row) for row in H]


def _indices(topics: Any, n: int | None, k: int) -> list[np.ndarray]:
    """The columns of the k top words of each topic, from H or as given."""
    if getattr(topics, "ndim", 0) == 2 and np.asarray(topics).dtype.kind == "f":
        H = _weights(topics)
        if n not in (None, H.shape[1]):
            raise ValueError(
                f"topics: H of shape {H.shape} does not match V of {n} columns; "
                f"expected ({H.shape[0]}, {n})"
            )
        return _largest(H, k)
    _largest(np.zeros((0, 1)), k)  # checks k
    given = [np.asarray(top) for top in topics]
    for top in given:
        if top.ndim != 1 or (top.size and top.dtype.kind not in "iu"):
            raise ValueError(
                "topics: must be H, a floating-point array (p, n), or for each topic "
                "a list of column indices"
            )
        if top.size and (top.min() < 0 or (n is not None and top.max() >= n)):
            raise ValueError(
                f"topics: column indices from {top.min()} to {top.max()} are out of "
                f"range for V of {n} columns"
            )
        if len(np.unique(top[:k])) < len(top[:k]):
            raise ValueError(f"topics: {top[:k].tolist()} contains duplicates")
    return [top[:k].astype(int) for top in given]


def occurrence(V: Any) -> Any:
    """Whether each document contains each word, V_ij > 0, as a boolean CSC array.

    Args:
      V: (m, n), an array or a SciPy sparse array; a result of this function is returned
        unchanged.

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
        raise ValueError(f"V: shape {array.shape} is not 2-D; expected (m, n)")
    return array
