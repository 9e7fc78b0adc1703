"""Components of many runs: which are the same, how alike they are, what they agree on.

Profiles are (r, p, q): the components of r runs as vectors of length q, scaled to
‖·‖₂ = 1, so that a product is a cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnmf.metrics import match_components
from jaxnmf.shapes import Float, Int


def unit(X: Any) -> np.ndarray:
    """Vectors along the last axis scaled to length 1, in float64; zero ones stay."""
    X = np.asarray(X, np.float64)
    lengths = np.linalg.norm(X, axis=-1, keepdims=True)
    return X / np.where(lengths > 0, lengths, 1.0)


def matched(
    profiles: Float[np.ndarray, "r p q"], first: int = 0, rounds: int = 50
) -> Int[np.ndarray, "r p"]:
    """Clusters with one component of every run in each.

    From the components of run ``first`` as centres, by turns: each run's components
    are assigned one to one to the centres (Hungarian algorithm on cosines), and a
    centre becomes the mean of its members, until no assignment changes.

    Returns:
      Which component of each run is in each cluster.

    Reference: Alexandrov, Nik-Zainal, Wedge, Campbell & Stratton, "Deciphering
    signatures of mutational processes operative in human cancer", Cell Reports 3 (2013)
    [Alexandrov2013].
    """
    centres, order = profiles[first], None
    for _ in range(rounds):
        new = np.stack([match_components(None, X, None, centres)[0] for X in profiles])
        if order is not None and (new == order).all():
            break
        order = new
        centres = np.take_along_axis(profiles, order[..., None], 1).mean(0)
    assert order is not None
    return order


def silhouettes(members: Float[np.ndarray, "r p q"]) -> Float[np.ndarray, "r p"]:
    """Silhouette of each component in its cluster, members[:, k], by cosine distance.

    (b − a) / max(a, b), a the mean distance to the others of its cluster and b to those
    of the nearest other one; 1 where there is but one cluster.

    Reference: Rousseeuw, "Silhouettes", J. Computational and Applied Mathematics 20
    (1987) [Rousseeuw1987].
    """
    r, p, _ = members.shape
    if p == 1:
        return np.ones((r, 1))
    # The mean distance to a cluster is that of its mean: a cosine is linear.
    to = 1 - np.einsum("rpq,kq->rpk", members, members.mean(0))
    # A zero vector, too, is at no distance from itself.
    itself = 1 - np.einsum("rpq,rpq->rp", members, members)
    own = np.einsum("rpp->rp", to)
    a = (r * own - itself) / max(r - 1, 1)
    b = np.where(np.eye(p, dtype=bool), np.inf, to).min(2)
    largest = np.maximum(np.maximum(a, b), 1e-300)
    return np.clip((b - a) / largest, -1, 1)


def median_components(fits: Sequence[Any]) -> Float[np.ndarray, "p n"]:
    """The median of every matched component, each scaled to Σ_j H_kj = 1."""
    best = int(np.argmin([fit.objective for fit in fits]))
    H = np.stack([fit.H for fit in fits]).astype(np.float64)
    order = matched(unit(H), best)
    H = np.take_along_axis(H, order[..., None], 1)
    total = H.sum(2, keepdims=True)
    median = np.median(H / np.where(total > 0, total, 1.0), axis=0)
    total = median.sum(1, keepdims=True)
    return median / np.where(total > 0, total, 1.0)
