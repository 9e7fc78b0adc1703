"""Measures of factors: recovery of known ones, sparsity, orthogonality."""

import numpy as np
from numpy.typing import ArrayLike

from jaxnmf._util.checks import as_matrix
from jaxnmf.shapes import Float, Int


def match_components(
    W: ArrayLike | None,
    H: ArrayLike | None,
    W_true: ArrayLike | None,
    H_true: ArrayLike | None,
) -> tuple[Int[np.ndarray, " q"], Float[np.ndarray, " q"]]:
    r"""Match each true component with the most similar estimated one.

    The similarity of estimate k and true component l does not depend on scale,

        s_kl = cos(W[:, k], W_true[:, l]) · cos(H[k, :], H_true[l, :]),

    and the pairs are the one-to-one assignment with the largest sum (Hungarian
    algorithm). If only one factor is known, pass None for both of the other.

    Args:
      W: (m, p), or None with `W_true`.
      H: (p, n), or None with `H_true`.
      W_true: (m, q).
      H_true: (q, n).

    Returns:
      permutation: (q,) index of the estimate of each true component, −1 for none.
      similarity: (q,) s of each pair, 0 for a true component without an estimate.

    Raises:
      ValueError: the shapes do not match, a value is not finite, or all are None.

    Example:
      >>> import numpy as np
      >>> from jaxnmf import metrics
      >>> H = np.array([[0.0, 1.0], [1.0, 0.0]])
      >>> permutation, similarity = metrics.match_components(None, H, None, 3 * H[::-1])
      >>> permutation.tolist(), similarity.tolist()
      ([1, 0], [1.0, 1.0])

    References:
      Kuhn, The Hungarian method for the assignment problem, Naval Research Logistics
      Quarterly 2 (1955) [Kuhn1955].
    """
    from scipy.optimize import linear_sum_assignment

    similarity = _similarity(W, H, W_true, H_true)
    found, true = linear_sum_assignment(similarity, maximize=True)
    permutation = np.full(similarity.shape[1], -1)
    permutation[true] = found
    matched = np.zeros(similarity.shape[1])
    matched[true] = similarity[found, true]
    return permutation, matched


def factor_match_score(
    W: ArrayLike | None,
    H: ArrayLike | None,
    W_true: ArrayLike | None,
    H_true: ArrayLike | None,
) -> float:
    r"""Recovery of known factors, up to order and scale of the components.

    The mean similarity of `match_components` over max(p, q) components: a missing or a
    spurious component counts as 0.

    Args:
      W: (m, p), or None with `W_true`.
      H: (p, n), or None with `H_true`.
      W_true: (m, q).
      H_true: (q, n).

    Returns:
      The score, at most 1, which is reached only if p = q and all components match.

    Raises:
      ValueError: as `match_components`.

    Example:
      >>> import numpy as np
      >>> from jaxnmf import metrics
      >>> W, H = np.random.default_rng(0).random((2, 5, 5))
      >>> round(metrics.factor_match_score(W[:, ::-1], 2 * H[::-1], W, H), 6)
      1.0

    References:
      Acar, Dunlavy, Kolda & Mørup, Scalable tensor factorizations for incomplete data,
      Chemometrics and Intelligent Laboratory Systems 106 (2011) [Acar2011].
    """
    from scipy.optimize import linear_sum_assignment

    similarity = _similarity(W, H, W_true, H_true)
    pairs = linear_sum_assignment(similarity, maximize=True)
    return float(similarity[pairs].sum() / max(similarity.shape))


def _similarity(W, H, W_true, H_true) -> np.ndarray:
    """(p, q) products of the cosines of estimated and true components."""
    cosines = [
        _cosines(name, found, true)
        for name, found, true in (("W", W, W_true), ("H", H, H_true))
        if found is not None or true is not None
    ]
    if not cosines:
        raise ValueError("W, H: both are None; expected one with its true counterpart")
    if cosines[0].shape != cosines[-1].shape:
        raise ValueError(
            "H: {} components, estimated and true, do not match {} of W".format(
                *(c.shape for c in reversed(cosines))
            )
        )
    return np.prod(cosines, axis=0)


def _cosines(name: str, found: ArrayLike | None, true: ArrayLike | None) -> np.ndarray:
    if found is None or true is None:
        missing = name if found is None else f"{name}_true"
        raise ValueError(f"{missing}: is None, but its counterpart is given")
    unit = []
    for label, X in ((name, found), (f"{name}_true", true)):
        X = as_matrix(label, X, "(m, p)" if name == "W" else "(p, n)")
        if not np.isfinite(X).all():
            raise ValueError(f"{label}: has NaN or infinite entries; expected finite")
        unit.append(unit_rows(X.T if name == "W" else X))
    if unit[0].shape[1] != unit[1].shape[1]:
        raise ValueError(
            f"{name}: components of length {unit[0].shape[1]} do not match those of "
            f"{name}_true, of length {unit[1].shape[1]}"
        )
    return unit[0] @ unit[1].T


def spectral_angle(H: ArrayLike, H_true: ArrayLike) -> Float[np.ndarray, " q"]:
    r"""Spectral angle between each reference endmember and its estimate.

    arccos(⟨h, h*⟩ / ‖h‖ ‖h*‖) for the pairs of `match_components`, computed as
    2 atan2(‖u − u*‖, ‖u + u*‖) with unit vectors u, u*, which resolves small angles.

    Args:
      H: (p, n), one spectrum per row.
      H_true: (q, n), the reference spectra.

    Returns:
      (q,) angles in radians; NaN for a reference without an estimate (p < q), π/2 to a
      zero spectrum.

    Raises:
      ValueError: as `match_components`.

    Example:
      >>> import numpy as np
      >>> from jaxnmf import metrics
      >>> found, true = np.array([[1.0, 1.0]]), np.array([[2.0, 0.0]])
      >>> np.degrees(metrics.spectral_angle(found, true)).round(6).tolist()
      [45.0]

    References:
      Kruse et al., The spectral image processing system (SIPS), Remote Sensing of
      Environment 44 (1993) [Kruse1993].
    """
    permutation, _ = match_components(None, H, None, H_true)
    true = unit_rows(as_matrix("H_true", H_true, "(q, n)"))
    found = unit_rows(as_matrix("H", H, "(p, n)"))[permutation]
    angles = 2 * np.arctan2(
        np.linalg.norm(found - true, axis=1), np.linalg.norm(found + true, axis=1)
    )
    return np.where(permutation < 0, np.nan, angles)


def hoyer_sparsity(
    X: ArrayLike, axis: int | None = None
) -> Float[np.ndarray, " k"] | float:
    r"""Hoyer's sparsity of vectors, which does not depend on their length or scale.

    (√n − ‖x‖₁ / ‖x‖₂) / (√n − 1) for a vector of n entries.

    Args:
      X: (m, n).
      axis: the axis along which the vectors lie: 0 for the columns, 1 for the rows,
        None for all of X as one vector.

    Returns:
      One value per vector, or one number for `axis=None`: 0 if all entries are equal, 1
      if a single entry is nonzero, NaN for a zero vector.

    Raises:
      ValueError: X is not 2-D, axis is invalid, or the vectors have one entry.

    Example:
      >>> import numpy as np
      >>> from jaxnmf import metrics
      >>> H = np.array([[1.0, 1.0], [0.0, 3.0]])
      >>> metrics.hoyer_sparsity(H, axis=1).round(6).tolist()
      [0.0, 1.0]

    References:
      Hoyer, Non-negative matrix factorization with sparseness constraints, JMLR 5
      (2004) [Hoyer2004].
    """
    X = as_matrix("X", X, "(m, n)")
    if axis not in (0, 1, None):
        raise ValueError(f"axis: {axis!r} is not 0, 1 or None")
    length = X.size if axis is None else X.shape[axis]
    if length < 2:
        raise ValueError(
            f"X: shape {X.shape} has {length} entries along axis {axis}; at least 2 "
            "are needed"
        )
    l1 = np.sum(np.abs(X), axis=axis)
    l2 = np.sqrt(np.sum(X**2, axis=axis))
    ratio = np.divide(l1, l2, out=np.full(np.shape(l1), np.nan), where=l2 > 0)
    sparsity = (np.sqrt(length) - ratio) / (np.sqrt(length) - 1)
    return float(sparsity) if axis is None else sparsity


def orthogonality(H: ArrayLike) -> float:
    r"""Distance of the rows of H from orthogonality; 0 if they are orthogonal.

    ‖D H HᵀD − I‖_F with D = diag(1 / ‖h_k‖), the violation of the constraint of
    orthogonal NMF, H Hᵀ = I, for rows scaled to length 1. It is the norm of the
    off-diagonal cosines, at most √(p (p − 1)). For the columns of W pass Wᵀ. Zero rows
    count as orthogonal to all others.

    Args:
      H: (p, n).

    Returns:
      The distance.

    Raises:
      ValueError: H is not 2-D.

    Example:
      >>> import numpy as np
      >>> from jaxnmf import metrics
      >>> metrics.orthogonality(np.array([[2.0, 0.0], [0.0, 3.0]]))
      0.0

    References:
      Ding, Li, Peng & Park, Orthogonal nonnegative matrix tri-factorizations for
      clustering, KDD (2006) [Ding2006]. Pompili, Gillis, Absil & Glineur, Two
      algorithms for orthogonal nonnegative matrix factorization with application to
      clustering, Neurocomputing 141 (2014) [Pompili2014].
    """
    unit = unit_rows(as_matrix("H", H, "(p, n)"))
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, 0.0)
    return float(np.linalg.norm(cosines))


def unit_rows(X: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; zero rows stay zero."""
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(lengths > 0, lengths, 1.0)
