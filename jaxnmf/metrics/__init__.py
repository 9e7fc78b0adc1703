"""Measures of a factorisation: fit, recovery of known factors, clusters.

All of them are computed on the host in float64, from NumPy arrays or what converts to
them.
"""

from jaxnmf.metrics.clusters import (
    adjusted_rand_index,
    cluster_by_component,
    clustering_accuracy,
    normalised_mutual_information,
)
from jaxnmf.metrics.recovery import (
    factor_match_score,
    hoyer_sparsity,
    match_components,
    orthogonality,
    spectral_angle,
)
from jaxnmf.objective.relative_error import relative_error

__all__ = [
    "adjusted_rand_index",
    "cluster_by_component",
    "clustering_accuracy",
    "factor_match_score",
    "hoyer_sparsity",
    "match_components",
    "normalised_mutual_information",
    "orthogonality",
    "relative_error",
    "spectral_angle",
]
