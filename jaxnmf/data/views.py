"""Views: several matrices of the same rows, as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnmf._util.checks import check_amount
from jaxnmf.data.containers import Names, concatenated, is_sparse, names_of
from jaxnmf.data.known import Known, SideBySide, what_is_known
from jaxnmf.data.observed import Observed
from jaxnmf.shapes import Float, Int


class Views:
    """Several matrices V_k of the same m rows, which are to share W: joint NMF.

    min over W, H_k ≥ 0 of Σ_k ω_k D_k(V_k | W H_k), in place of V in `jaxnmf.factorize`
    and `jaxnmf.sweep`: rows are what two or more kinds of measurement are of, such as
    patients, cells, documents in two languages. The loss is one for all views, or a
    list with one for each, ``loss=("kl", "frobenius")``.

    Args:
      views: V_k (m, n_k), each as V of `jaxnmf.factorize`, unknown entries masked
        included (a masked array, or `jaxnmf.Observed`); sparse ones are not made dense.
        None for a view that new rows do not have (`jaxnmf.Result.transform`).
      weights: ω_k > 0, all 1 by default. For views of other scales than each other
        1 / Σ V_k² (for the Frobenius loss) or 1 / Σ V_k (Kullback-Leibler) give each
        the same say; for losses of their own 1 / D_k(V_k | the mean of V_k).

    Raises:
      ValueError: for views of different numbers of rows, other weights than one number
        > 0 for each, or a view that is no matrix.

    Example:
      >>> import numpy as np, jaxnmf
      >>> rng = np.random.default_rng(0)
      >>> W = rng.random((30, 3))
      >>> views = jaxnmf.Views([W @ rng.random((3, 20)), W @ rng.random((3, 8))])
      >>> result = jaxnmf.factorize(views, 3)
      >>> result.W.shape, [H.shape for H in result.view_H]
      ((30, 3), [(3, 20), (3, 8)])
      >>> [U.shape for U in result.residual(views)]
      [(30, 20), (30, 8)]
      >>> jaxnmf.factorize(views, 3, loss=("kl", "frobenius")).H.shape
      (3, 28)
    """

    def __init__(
        self, views: Sequence[Any], weights: Sequence[float] | None = None
    ) -> None:
        if not isinstance(views, list | tuple) or not views:
            raise ValueError(
                f"views: {type(views).__name__} is not a list of at least one matrix"
            )
        known = [None if x is None else _known(k, x) for k, x in enumerate(views)]
        rows = [one.V.shape[0] for one in known if one is not None]
        if not rows:
            raise ValueError("views: every one is None; give at least one matrix")
        if len(set(rows)) > 1:
            raise ValueError(
                f"views have {', '.join(map(str, rows))} rows; all must have the same"
            )
        weights = [1.0] * len(known) if weights is None else list(weights)
        if len(weights) != len(known):
            raise ValueError(
                f"weights: {len(weights)} for {len(known)} views; give one for each"
            )
        for k, weight in enumerate(weights):
            check_amount(f"weights[{k}]", weight)
            if weight == 0:
                raise ValueError(f"weights[{k}]=0; leave the view out")
        self.known = tuple(known)
        self.weights = np.array(weights, np.float64)
        self._names = [names_of(view) for view in views]

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise ValueError(
            "jaxnmf.Views are for factorize, sweep, NMF and the methods of results; "
            "what else is done with V needs one matrix, such as numpy.hstack of them"
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(m, Σ n_k)."""
        return self.rows, sum(width or 0 for width in self.widths)

    @property
    def dtype(self) -> np.dtype:
        """float32 where all views are, else float64."""
        kinds = [one.dtype for one in self.known if one is not None]
        single = all(kind == np.float32 for kind in kinds)
        return np.dtype(np.float32 if single else np.float64)

    @property
    def rows(self) -> int:
        """m."""
        return next(one.V.shape[0] for one in self.known if one is not None)

    @property
    def widths(self) -> list[int | None]:
        """n_k, None for a view that is None."""
        return [None if one is None else one.V.shape[1] for one in self.known]

    def fits(self, widths: Sequence[int]) -> bool:
        """Whether the views that there are have so many columns."""
        pairs = zip(self.widths, widths, strict=False)
        same = all(own in (None, width) for own, width in pairs)
        return same and len(self.known) == len(widths)

    @property
    def names(self) -> Names:
        """The names of the rows, of the first view that has some, and of all columns,
        where all views have some."""
        rows = [names.rows for names in self._names if names.rows is not None]
        columns = [names.columns for names in self._names]
        whole = [one for one in columns if one is not None]
        every = np.concatenate(whole) if len(whole) == len(columns) else None
        return Names(rows[0] if rows else None, every)

    @property
    def sizes(self) -> list[float]:
        """The power of two near the mean of the known entries of each view."""
        means = [1.0 if one is None else one.mean for one in self.known]
        return [2.0 ** round(np.log2(x)) if 0 < x < np.inf else 1.0 for x in means]

    def apart(self, parts: ViewParts) -> Known:
        """The views that there are, side by side: [c₁ V₁, c₂ V₂, …], each as it is."""
        pairs = zip(self.known, parts.scales, strict=True)
        there = [_scaled(_in_memory(one), c, 1) for one, c in pairs if one is not None]
        return Known(SideBySide(there), None)

    def joined(self, parts: ViewParts) -> Known:
        """The views as one matrix, [c₁ V₁, c₂ V₂, …], with their weights."""
        known = [
            one or Known(*np.zeros((2, self.rows, width)))
            for one, width in zip(self.known, parts.widths, strict=True)
        ]
        sides = zip(known, parts.scales, parts.weights, strict=True)
        scaled = [_scaled(one, c, w) for one, c, w in sides]
        if len(scaled) == 1:
            return scaled[0]
        if any(isinstance(one.V, Observed) for one in scaled):
            return Known(_beside([one.observed() for one in scaled]), None)
        in_part = any(one.in_part for one in scaled)
        if in_part and any(is_sparse(one.V) for one in scaled):
            raise ValueError(
                "views: one is sparse, of which every entry is known, and another "
                "has a mask or weights; give all as jaxnmf.Observed or V.toarray()"
            )
        V = concatenated([_in_memory(one).V for one in scaled])
        if not in_part:
            return Known(V, None)
        weights = [
            np.ones(one.V.shape) if one.weights is None else one.weights
            for one in scaled
        ]
        return Known(V, np.hstack(weights))


class ViewParts(NamedTuple):
    """How views were joined.

    Attributes:
      widths: n_k.
      scales: c_k, what V_k and H_k were multiplied by.
      weights: of the entries of V_k besides, 1 where the scale does it.
    """

    widths: Int[np.ndarray, " k"]
    scales: Float[np.ndarray, " k"]
    weights: Float[np.ndarray, " k"]

    @property
    def of_columns(self) -> Float[np.ndarray, " n"]:
        """The scale of each column."""
        return np.repeat(self.scales, self.widths)

    def cut(self, X: np.ndarray) -> list[np.ndarray]:
        """The columns of each view."""
        return np.split(X, np.cumsum(self.widths)[:-1], axis=1)


def _known(k: int, view: Any) -> Known:
    """What is known of the view of this number."""
    try:
        known = what_is_known(view)
    except ValueError as error:
        raise ValueError(f"views[{k}]: {error}") from None
    if known.kind == "blocks":
        raise ValueError(f"views[{k}] is Blocks; a view has to be in memory")
    return known


def _in_memory(known: Known) -> Known:
    """The same, of an array of JAX as one of NumPy."""
    V = known.V
    kept = isinstance(V, Observed) or is_sparse(V)
    return known if kept else known._replace(V=np.asarray(V))


def _scaled(known: Known, scale: float, weight: float) -> Known:
    """c V, its entries with a weight."""
    V, weights = known
    if isinstance(V, Observed):
        if scale == weight == 1:
            return known
        values, own = V.values * scale, V.weights
        return Known(Observed(V.rows, V.cols, values, V.shape, own * weight), None)
    if scale != 1:
        V = V * scale
    if weight != 1:
        if is_sparse(V):
            raise ValueError(
                "weights: a view is sparse, and no scale of it stands for its weight "
                "with this loss, or with penalties, constraints or known parts of H; "
                "give equal weights, or a loss for each view: loss=('kl', 'kl')"
            )
        own = np.ones(V.shape) if weights is None else weights
        weights = own * weight
    return Known(V, weights)


def _beside(parts: Sequence[Observed]) -> Observed:
    """The entries of several matrices beside each other."""
    first = np.cumsum([0, *(part.shape[1] for part in parts)])
    rows = np.concatenate([part.rows for part in parts])
    cols = np.concatenate([p.cols + a for p, a in zip(parts, first[:-1], strict=True)])
    values = np.concatenate([part.values for part in parts])
    weights = np.concatenate([part.weights for part in parts])
    return Observed(rows, cols, values, (parts[0].shape[0], int(first[-1])), weights)
