"""Joint NMF: how views become one V for an objective, and its result theirs."""

from __future__ import annotations

import dataclasses
from collections.abc import Set
from typing import Any, NamedTuple

import numpy as np

from jaxnmf.build import Objective, Start
from jaxnmf.data.containers import Names, names_of
from jaxnmf.data.known import Known
from jaxnmf.data.views import ViewParts, Views
from jaxnmf.objective.by_view import ByView
from jaxnmf.objective.constraints import NonNegative
from jaxnmf.objective.losses import check_one_loss
from jaxnmf.objective.targets import targets_of


class Data(NamedTuple):
    """A user's data for an objective.

    Attributes:
      V: one matrix as it was given, or what is known of the views.
      names: of the rows and columns.
      objective: what is minimised; of a loss for each view with their weights.
      views: how the views were joined, None for one matrix.
    """

    V: Any
    names: Names
    objective: Objective
    views: ViewParts | None


def data_of(
    V: Any,
    views: Any,
    objective: Objective,
    mask: Any,
    *,
    mesh: Any = None,
    settings: Set[str] = frozenset(),
) -> Data:
    """The data of the arguments ``V`` and ``views``, of which one is given.

    Args:
      V: one matrix, `Views`, or None.
      views: `Views`, a list for them, or None.
      objective: what is minimised.
      mask: what is known of V, which views do not have.
      mesh: of the run.
      settings: the penalties that the lanes of a sweep have of their own.

    Raises:
      ValueError: where both or none are given; for a mask, weights that sparse views
        cannot have, or a loss for each view that does not fit.
    """
    if (V is None) == (views is None):
        found = "neither is" if V is None else "both are"
        raise ValueError(f"V and views: {found} given; give V, or views=[V1, V2, …]")
    if views is not None:
        V = views if isinstance(views, Views) else Views(views)
    names = names_of(V)
    if not isinstance(V, Views):
        check_one_loss(objective.loss)
        return Data(V, names, objective, None)
    if mask is not None:
        raise ValueError(
            "mask: views say themselves what is known of them; give each as a masked "
            "array or jaxnmf.Observed"
        )
    if None in V.widths:
        raise ValueError(
            f"views[{V.widths.index(None)}] is None, which is for views that new "
            "rows do not have; leave it out"
        )
    if objective.loss.losses:
        _check_losses(objective, V, mesh)
        return Data(*_apart(V, names, objective, settings))
    return Data(*_joined(V, names, objective, settings))


def _joined(
    views: Views, names: Names, objective: Objective, settings: Set[str]
) -> tuple[Known, Names, Objective, ViewParts]:
    """The views as one matrix.

    A β-divergence has D(cV | cX) = c^β D(V | X): so a weight ω is a scale ω^(1/β) of
    V_k and H_k, and the problem one of every solver, at the speed of one matrix. Where
    a loss has no such scale, or H has penalties, constraints, known parts or offsets of
    its own, whose scale must not change, the weight is one of each entry instead.
    """
    beta, weights = objective.loss.beta, views.weights
    scales = np.ones_like(weights)
    if beta is not None and beta > 0 and not (_held_to_scale(objective) or settings):
        weights, scales = scales, weights ** (1 / beta)
    parts = ViewParts(np.array(views.widths, int), scales, weights)
    return views.joined(parts), names, objective, parts


def _apart(
    views: Views, names: Names, objective: Objective, settings: Set[str]
) -> tuple[Known, Names, Objective, ViewParts]:
    """The views side by side, each with its loss and weight.

    Steps along a gradient are slow where H_k of one view has other numbers than that of
    another. So V_k and H_k are multiplied by the power of two c at which V_k has a mean
    near 1, and ω_k by c^−β: the same objective. Where that is not possible, c is 1.
    """
    losses, weights = objective.loss.losses, views.weights
    scales = np.ones_like(weights)
    if not (_held_to_scale(objective) or settings):
        beta = [one.beta for one in losses]
        own = [1.0 if b is None else c for b, c in zip(beta, views.sizes, strict=True)]
        scales = 1 / np.array(own)
        weights = weights * np.array(own) ** [b or 0.0 for b in beta]
    parts = ViewParts(np.array(views.widths, int), scales, np.ones_like(weights))
    loss = ByView(losses=losses, weights=tuple(weights.tolist()))
    objective = dataclasses.replace(objective, loss=loss)
    return views.apart(parts), names, objective, parts


def _check_losses(objective: Objective, views: Views, mesh: Any) -> None:
    """Raise a ValueError for a loss for each view that does not fit."""
    loss, count = objective.loss, len(views.known)
    if len(loss.losses) != count:
        raise ValueError(
            f"loss: {len(loss.losses)} losses for {count} views; give one for each, or "
            "one for all"
        )
    for name, given in {
        "mesh": mesh is not None,
        "offsets": objective.offsets is not None,
        "toward='mean'": objective.toward == "mean",
    }.items():
        if given:
            raise ValueError(
                f"{name}: not supported with a loss for each view; leave it out, or "
                "give one loss for all"
            )


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


def start_of_views(start: Start, parts: ViewParts) -> Start:
    """A start with the H of a pair (W, H) in the scale of the joined views."""
    if isinstance(start.init, str) or len(start.init) != 2:
        return start
    W, H = start.init
    if np.ndim(H) != 2 or np.shape(H)[1] != parts.widths.sum():  # refused with V
        return start
    return dataclasses.replace(start, init=(W, np.asarray(H) * parts.of_columns))


def of_views(result: Any, parts: ViewParts) -> Any:
    """A `Result` of joined views with H in the scale of the views."""
    scales = parts.of_columns.astype(result.H.dtype)
    covariates = result.covariates
    if covariates is not None:
        covariates = covariates._replace(H=covariates.H / scales)
    return dataclasses.replace(
        result, H=result.H / scales, covariates=covariates, views=parts
    )
