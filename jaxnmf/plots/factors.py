"""The factors that a picture is of, and the order of their components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnmf._util.checks import as_matrix
from jaxnmf.shapes import Float, Int


class Pair(NamedTuple):
    """W and H of V ≈ W H + b 1ᵀ + 1 cᵀ; b and c are None where there are no offsets."""

    W: Float[np.ndarray, "m p"]
    H: Float[np.ndarray, "p n"]
    b: Float[np.ndarray, " m"] | None = None
    c: Float[np.ndarray, " n"] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.W.shape[0], self.H.shape[1]

    def vectors(self, factor: str) -> np.ndarray:
        """The components, a row each: rows of H or columns of W."""
        return self.H if factor == "H" else self.W.T

    def with_offsets(self) -> Pair:
        """The same approximation by W and H alone: offsets are two components more."""
        if self.b is None or self.c is None:
            return self
        m, n = self.shape
        W = np.column_stack([self.W, self.b, np.ones(m)])
        return Pair(W, np.vstack([self.H, np.ones(n), self.c]))


def factors_of(result: Any) -> Pair:
    """W and H in float64 of a `Result`, or of a pair (W, H).

    Raises:
      ValueError: ``result`` is neither, or W and H do not fit each other.
    """
    if hasattr(result, "W") and hasattr(result, "H"):
        offsets = getattr(result, "offsets", None)
        W, H = result.W, result.H
    elif isinstance(result, tuple | list) and len(result) == 2:
        offsets, (W, H) = None, result
    else:
        hint = "; its best(rank) is one" if hasattr(result, "lanes") else ""
        raise ValueError(
            f"result is a {type(result).__name__}; give a Result or a pair (W, H){hint}"
        )
    W, H = as_matrix("W", W, "(m, p)"), as_matrix("H", H, "(p, n)")
    if W.shape[1] != len(H):
        raise ValueError(
            f"result: W has shape {W.shape} and H {H.shape}; W must be (m, p) and H "
            "(p, n)"
        )
    if offsets is None:
        return Pair(W, H)
    return Pair(W, H, *(np.asarray(each, float) for each in offsets))


def strongest(W: Any, H: Any) -> Int[np.ndarray, " p"]:
    """The numbers of the components by ‖w_k‖ ‖h_k‖, the largest first."""
    strength = np.linalg.norm(W, axis=0) * np.linalg.norm(H, axis=1)
    return np.argsort(-strength, kind="stable")


def which(pair: Pair, components: Any, ax: Any) -> list[int]:
    """The components to draw: those asked for, else the strongest that ``ax`` has room
    for.

    Raises:
      ValueError: a number that is none of the components'.
    """
    p = len(pair.H)
    if components is None:
        order = strongest(pair.W, pair.H)
        return [int(k) for k in (order if ax is None else order[: np.size(ax)])]
    if np.ndim(components) != 1:
        raise ValueError(f"components={components!r} must be a list of integers")
    found = list(components)
    for k in found:
        if not isinstance(k, int | np.integer) or not 0 <= k < p:
            raise ValueError(f"components holds {k!r}; they are numbered 0 … {p - 1}")
    if not found:
        raise ValueError("components is empty; give at least one")
    return [int(k) for k in found]


def check_factor(factor: Any) -> str:
    """The name of a factor, or a ValueError."""
    if factor not in ("W", "H"):
        raise ValueError(f"factor={factor!r} must be 'W' or 'H'")
    return factor


def scaled(rows: np.ndarray) -> np.ndarray:
    """Rows, or one row, divided by the largest entry."""
    rows = np.asarray(rows, float)
    return rows / np.maximum(rows.max(axis=-1, keepdims=True), 1e-30)


def check_names(argument: str, names: Sequence[str], size: int, what: str) -> None:
    """Raise a ValueError unless there is a name for each of ``size`` entries."""
    if isinstance(names, str) or len(names) != size:
        raise ValueError(
            f"{argument} has {len(names)} entries; there are {size} {what}"
        )
