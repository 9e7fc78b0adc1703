"""Covariates: columns of W that are known, as components beyond the rank.

V ≈ W H + C B with C (m, k) given and B (k, n) ≥ 0 fitted is W'H' with W' = [W, C] and
H' = [H; B], the columns C held. Batches are covariates made from labels: a column of
zeros and ones for each, so that a row of B is what a batch adds to each column of V.

An effect that may go down as well as up needs two columns, c and max(c) − c: with
b₁, b₂ ≥ 0 the slope b₁ − b₂ has any sign, and the model stays non-negative.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnmf.data.containers import names_of
from jaxnmf.data.operand import true_shape
from jaxnmf.objective.parts import as_part
from jaxnmf.objective.problem import Problem
from jaxnmf.shapes import Float
from jaxnmf.types import Factors

SHAPE = "(m, k), a column for each covariate"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Design:
    """The known columns of W, checked.

    Attributes:
      columns: (k, m), those of W as rows.
      names: of the columns.
      batches: how many of them, the last, are of batches.
    """

    columns: Float[np.ndarray, "k m"]
    names: tuple[str, ...]
    batches: int

    @classmethod
    def of(
        cls, covariates: Any, batch: Any, batches: Sequence[str] | None = None
    ) -> Design | None:
        """The columns from a user's arguments, None for no columns.

        Args:
          covariates: (m, k), non-negative, or None.
          batch: m labels, or None.
          batches: the names of all batches, by default those that occur.

        Raises:
          ValueError: for what is no matrix or no list of labels, for a column of zeros,
            for a batch that is not among the batches, or two lengths.
        """
        parts, names, count = [], [], 0
        if covariates is not None:
            part = as_part("covariates", covariates, SHAPE)
            given = names_of(covariates).columns
            own = map(str, range(part.shape[1])) if given is None else given.tolist()
            parts.append(part.T)
            names += own
        if batch is not None:
            labels = _labels(batch)
            listed = list(dict.fromkeys(labels)) if batches is None else list(batches)
            for label in labels:
                if label not in listed:
                    raise ValueError(
                        f"batch: {label!r} is none of those that were fitted, "
                        f"{', '.join(listed)}"
                    )
            parts.append(np.array(listed)[:, None] == np.array(labels))
            names += listed
            count = len(listed)
        if not parts:
            return None
        if len({part.shape[1] for part in parts}) > 1:
            raise ValueError(
                f"covariates has {parts[0].shape[1]} rows and batch {parts[1].shape[1]}"
                " labels; both must be of the rows of V"
            )
        columns = np.vstack(parts).astype(np.float64)
        return cls(columns=columns, names=tuple(names), batches=count)

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def covariates(self) -> int:
        """How many columns, the first, are of covariates."""
        return len(self) - self.batches

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise a ValueError for columns of another V, or one of zeros alone."""
        q, m, own = self.columns.shape[1], int(shape[0]), self.covariates
        if q != m:
            found, fit = f"covariates has shape {(q, own)}", f"be ({m}, k)"
            if not own:
                found, fit = f"batch has {q} labels", f"have {m}"
            raise ValueError(f"{found}; for a V of m = {m} it must {fit}")
        for j, column in enumerate(self.columns[:own]):
            if not column.any():
                raise ValueError(
                    f"covariates: column {j} is 0 in every row; leave it out"
                )


def _labels(batch: Any) -> list[str]:
    """The labels as text.

    Raises:
      ValueError: for what is no list of labels, one that is missing, or two that differ
        and have one text.
    """
    fit = "it must be a list of labels, one for each row of V"
    if isinstance(batch, str) or not hasattr(batch, "__iter__"):
        raise ValueError(f"batch={batch!r}: {fit}")
    labels = np.asarray(batch).tolist() if hasattr(batch, "dtype") else list(batch)
    for i, label in enumerate(labels):
        if not isinstance(label, Hashable):
            raise ValueError(f"batch: entry {i} is a {type(label).__name__}; {fit}")
        if label is None or label != label:
            raise ValueError(
                f"batch: the label of row {i} is missing; give those without a batch "
                "one of their own"
            )
    texts = {label: str(label) for label in labels}
    if len(set(texts.values())) < len(texts):
        seen: dict[str, Any] = {}
        one, other = next(
            (label, seen[text])
            for label, text in texts.items()
            if seen.setdefault(text, label) != label
        )
        raise ValueError(f"batch: the labels {other!r} and {one!r} have one name")
    if not labels:
        raise ValueError(f"batch is empty; {fit}")
    return [texts[label] for label in labels]


def with_covariates(problem: Problem, rank: int, design: Design) -> Problem:
    """The problem at a rank with the columns of a design held, after its components.

    Penalties are those of the components, but l2 shrinks to no mean of V.

    Args:
      problem: at this rank, with offsets or without, and with its known parts.
      rank: p.
      design: checked for this V.

    Raises:
      ValueError: for a constraint that couples the components of a factor.
    """
    if "simplex" in [project.name for project in problem.projects]:
        raise ValueError(
            "covariates and batch with the constraint 'simplex': they are components "
            "too, which must not count in a sum to one; use 'nonnegative' or 'box'"
        )
    k, dtype = len(design), problem.operand.dtype
    own = design.columns / problem.units.W

    def grown(x: Any, more: Any) -> Any:
        """An array with a row for each component, with more rows."""
        x = np.asarray(x)
        more = np.broadcast_to(more, (k, x.shape[1]))
        return jnp.asarray(np.vstack([x, more]), dtype)

    projects, penalties = [], []
    for side, (project, penalty) in enumerate(
        zip(problem.projects, problem.penalties, strict=True)
    ):
        held = None if project.held is None else np.asarray(project.held)
        if side == 0:
            free = np.full((rank, 1), np.nan) if held is None else held
            free = np.broadcast_to(free, (len(free), own.shape[1]))
            projects.append(dataclasses.replace(project, held=grown(free, own)))
        elif held is None:
            projects.append(project)
        else:
            projects.append(dataclasses.replace(project, held=grown(held, np.nan)))
        changes = {}
        for name in ("l1", "l2"):
            x = np.asarray(getattr(penalty, name))
            if x.ndim:
                changes[name] = grown(x, x[-1])
        toward = np.asarray(penalty.toward)
        if not toward.ndim and toward != 0:
            toward = np.broadcast_to(toward, (rank, 1))
        if toward.ndim:
            changes["toward"] = grown(toward, 0.0)
        penalties.append(dataclasses.replace(penalty, **changes))
    return dataclasses.replace(
        problem, projects=tuple(projects), penalties=tuple(penalties)
    )


def start_with_covariates(
    problem: Problem, factors: Factors, design: Design, *, drawn: bool
) -> Factors:
    """A start for `with_covariates`, in which every component has the same share of the
    mean of V.

    Args:
      problem: at the rank, with covariates.
      factors: without them.
      design: the columns.
      drawn: whether the factors were drawn, so that they may be rescaled.
    """
    rank, k = len(factors.H), len(design)
    own = design.columns / problem.units.W
    mean = abs(float(problem.operand.moments.mean)) or 1.0
    level = mean / (rank + k) / own.mean(1, keepdims=True)
    share = np.sqrt(rank / (rank + k)) if drawn else 1.0
    shape = int(true_shape(problem.operand)[1])
    Wt, H = (share * np.asarray(X) for X in factors)
    grown = np.vstack([Wt, own]), np.vstack([H, np.repeat(level, shape, 1)])
    dtype = problem.operand.dtype
    return Factors(*(X.astype(dtype) for X in grown))  # pyright: ignore
