"""Joint NMF: how views become one matrix for an objective, and its result theirs."""

from __future__ import annotations

import dataclasses
from collections.abc import Set
from typing import Any

import numpy as np

from jaxnmf.build import Objective
from jaxnmf.data.known import Known
from jaxnmf.data.views import ViewParts, Views
from jaxnmf.objective.constraints import NonNegative
from jaxnmf.objective.targets import targets_of


def joined(
    views: Views, objective: Objective, mask: Any, settings: Set[str] = frozenset()
) -> tuple[Known, ViewParts]:
    """The views as one V, and how they were joined.

    A β-divergence has D(cV | cX) = c^β D(V | X): so a weight ω is a scale ω^(1/β) of
    V_k and H_k, and the problem one of every solver, at the speed of one matrix. Where
    a loss has no such scale, or H has penalties, constraints, known parts or offsets of
    its own, whose scale must not change, the weight is one of each entry instead.

    Args:
      views: the data.
      objective: what is minimised.
      mask: which views do not have.
      settings: the penalties that the lanes of a sweep have of their own.

    Raises:
      ValueError: for a mask, or weights that sparse views cannot have.
    """
    if mask is not None:
        raise ValueError(
            "mask: views say themselves what is known of them; give each as a masked "
            "array or jaxnmf.Observed"
        )
    if None in views.widths:
        raise ValueError(
            f"views[{views.widths.index(None)}] is None, which is for views that new "
            "rows do not have; leave it out"
        )
    beta, weights = objective.loss.beta, views.weights
    scales = np.ones_like(weights)
    if beta is not None and beta > 0 and not (_held_to_scale(objective) or settings):
        weights, scales = scales, weights ** (1 / beta)
    parts = ViewParts(np.array(views.widths, int), scales, weights)
    return views.joined(parts), parts


def _held_to_scale(objective: Objective) -> bool:
    """Whether something besides V depends on the scale of H."""
    _, target = targets_of(objective.toward)
    known = (None, None) if objective.parts is None else objective.parts
    return (
        objective.l1[1] > 0
        or objective.l2[1] > 0
        or type(objective.constraints[1]) is not NonNegative
        or objective.graph[1] is not None
        or objective.offsets is not None
        or objective.toward == "mean"
        or target is not None
        or known[1] is not None
    )


def of_views(result: Any, parts: ViewParts) -> Any:
    """A `Result` of joined views with H in the scale of the views."""
    scales = parts.of_columns.astype(result.H.dtype)
    covariates = result.covariates
    if covariates is not None:
        covariates = covariates._replace(H=covariates.H / scales)
    return dataclasses.replace(
        result, H=result.H / scales, covariates=covariates, views=parts
    )
