"""Clusters of the rows of V by their components, and their agreement with classes."""

import numpy as np
from numpy.typing import ArrayLike

from jaxnmf._util.checks import as_matrix
from jaxnmf.metrics.recovery import unit_rows
from jaxnmf.shapes import Int


def cluster_by_component(
    W: ArrayLike, H: ArrayLike | None = None
) -> Int[np.ndarray, " m"]:
    r"""Assign each row of V to the cluster of its largest component.

    With H: argmax_k W_ik Σ_j H_kj, the component with the largest share of the row's
    sum, as Brunet et al. do. Without: argmax_k W_ik / ‖W[:, k]‖₂. Either way a
    component's scale, which may be moved between W and H, has no say.

    Args:
      W: (m, p).
      H: (p, n), or None.

    Returns:
      (m,) components, counted from 0.

    Raises:
      ValueError: W is not 2-D or has no column.

    Example:
      >>> import numpy as np
      >>> from jaxnmf import metrics
      >>> metrics.cluster_by_component(np.array([[0.9, 0.1], [0.2, 0.7]])).tolist()
      [0, 1]

    References:
      Brunet, Tamayo, Golub & Mesirov, Metagenes and molecular pattern discovery using
      matrix factorization, PNAS 101 (2004) [Brunet2004]; Xu, Liu & Gong, Document
      clustering based on non-negative matrix factorization, SIGIR (2003) [Xu2003].
    """
    W = as_matrix("W", W, "(m, p)")
    if not W.shape[1]:
        raise ValueError(
            f"W: shape {W.shape} has no component; expected (m, p) with p ≥ 1"
        )
    if H is None:
        return np.argmax(unit_rows(W.T), axis=0)
    H = as_matrix("H", H, "(p, n)")
    if len(H) != W.shape[1]:
        raise ValueError(
            f"H: shape {H.shape} does not match W of shape {W.shape}; "
            f"expected ({W.shape[1]}, n)"
        )
    return np.argmax(W * H.sum(1), axis=1)


def clustering_accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    r"""Share of samples in the right cluster, under the best match with the classes.

    max_π (1/m) Σ_i [labels_i = π(predicted_i)] over one-to-one maps π from clusters to
    classes (Hungarian algorithm); samples of a cluster without a class count as wrong.

    Args:
      labels: (m,) classes.
      predicted: (m,) clusters, with any labels.

    Returns:
      The accuracy, in (0, 1].

    Raises:
      ValueError: they are not 1-D arrays of equal length.

    Example:
      >>> from jaxnmf import metrics
      >>> metrics.clustering_accuracy(["a", "a", "b", "b"], [1, 1, 0, 1])
      0.75

    References:
      Xu, Liu & Gong, Document clustering based on non-negative matrix factorization,
      SIGIR (2003) [Xu2003].
    """
    from scipy.optimize import linear_sum_assignment

    labels, predicted = _clusterings(labels, predicted)
    classes, row = np.unique(labels, return_inverse=True)
    clusters, column = np.unique(predicted, return_inverse=True)
    together = np.zeros((len(classes), len(clusters)), dtype=int)
    np.add.at(together, (row, column), 1)
    return float(
        together[linear_sum_assignment(together, maximize=True)].sum() / len(labels)
    )


def adjusted_rand_index(labels: ArrayLike, predicted: ArrayLike) -> float:
    r"""Agreement of two clusterings on pairs of samples, corrected for chance.

    (RI − E[RI]) / (max RI − E[RI]), where RI is the share of pairs that are together in
    both clusterings or apart in both.

    Args:
      labels: (m,) classes.
      predicted: (m,) clusters, with any labels.

    Returns:
      The index: 1 for equal clusterings, about 0 for independent ones.

    Raises:
      ValueError: they are not 1-D arrays of equal length.

    Example:
      >>> from jaxnmf import metrics
      >>> metrics.adjusted_rand_index(["a", "a", "b", "b"], [1, 1, 0, 0])
      1.0

    References:
      Hubert & Arabie, Comparing partitions, Journal of Classification 2 (1985)
      [Hubert1985].
    """
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(*_clusterings(labels, predicted)))


def normalised_mutual_information(labels: ArrayLike, predicted: ArrayLike) -> float:
    r"""Mutual information of two clusterings, normalised by their mean entropy.

    2 I(labels; predicted) / (Entropy(labels) + Entropy(predicted)).

    Args:
      labels: (m,) classes.
      predicted: (m,) clusters, with any labels.

    Returns:
      A value in [0, 1]: 1 for equal clusterings, 0 for independent ones.

    Raises:
      ValueError: they are not 1-D arrays of equal length.

    Example:
      >>> from jaxnmf import metrics
      >>> metrics.normalised_mutual_information(["a", "a", "b", "b"], [1, 0, 1, 0])
      0.0

    References:
      Vinh, Epps & Bailey, Information theoretic measures for clusterings comparison,
      JMLR 11 (2010) [Vinh2010].
    """
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(*_clusterings(labels, predicted)))


def _clusterings(
    labels: ArrayLike, predicted: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    if labels.ndim != 1 or not labels.size:
        raise ValueError(f"labels: shape {labels.shape}; expected (m,) with m ≥ 1")
    if predicted.shape != labels.shape:
        raise ValueError(
            f"predicted: shape {predicted.shape} does not match labels; "
            f"expected {labels.shape}"
        )
    return labels, predicted
