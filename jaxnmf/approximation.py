"""What factors approximate V by: its entries, the residual, recommendations."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxnmf._util.checks import check_count, check_indices
from jaxnmf.data.arrays import as_array
from jaxnmf.data.blocks import Blocks
from jaxnmf.data.containers import contents
from jaxnmf.data.known import Known
from jaxnmf.data.observed import Observed, excluded
from jaxnmf.data.placement import less_product
from jaxnmf.data.spread import is_spread
from jaxnmf.data.views import ViewParts, Views
from jaxnmf.outcome import Covariates, Offsets


class Approximation:
    """V ≈ W H, with offsets and covariates where there are some.

    Attributes:
      W, H: (m, p) and (p, n).
      offsets, covariates, views: as of `jaxnmf.Result`.
    """

    W: Any
    H: Any
    offsets: Offsets | None
    covariates: Covariates | None
    views: ViewParts | None

    @property
    def view_H(self) -> list[np.ndarray]:
        """H of each view, (p, n_k); [H] where V was none of `jaxnmf.Views`."""
        return [self.H] if self.views is None else self.views.cut(self.H)

    @property
    def all_factors(self) -> tuple[np.ndarray, np.ndarray]:
        """(W, H) with a component for each covariate after those of the rank."""
        if self.covariates is None:
            return self.W, self.H
        own = self.covariates
        return np.hstack([self.W, own.W]), np.vstack([self.H, own.H])

    def predict(self, rows: Any, cols: Any) -> np.ndarray:
        """The approximation of V at the entries (rows, cols).

        x_ij = (W H)_ij, plus b_i + c_j where there are offsets, and what covariates
        add.

        Args:
          rows, cols: integers, or arrays of them that broadcast to one shape.

        Returns:
          The values, of that shape.

        Raises:
          ValueError: for indices that are no integers or out of range.
        """
        rows = check_indices("rows", rows, self.W.shape[0])
        cols = check_indices("cols", cols, self.H.shape[1])
        try:
            rows, cols = np.broadcast_arrays(rows, cols)
        except ValueError:
            raise ValueError(
                f"rows has shape {rows.shape} and cols {cols.shape}; they must "
                "broadcast to one shape"
            ) from None
        x = np.zeros(rows.shape, self.W.dtype)
        W, H = self.all_factors
        for w, h in zip(W.T, H, strict=True):
            x += w[rows] * h[cols]
        if self.offsets is not None:
            x += self.offsets.rows[rows] + self.offsets.cols[cols]
        return x

    def recommend(self, row: int, k: int = 10, exclude: Any = None) -> np.ndarray:
        """The k columns of the largest predictions in a row, largest first.

        Args:
          row: the index of the row.
          k: how many; fewer are returned where fewer are left.
          exclude: columns to leave out: their numbers, a mask of length n, or data
            whose known entries in this row are left out (`jaxnmf.Observed` or SciPy
            sparse, (m, n)).

        Returns:
          The columns' numbers; `predict` gives the values.

        Raises:
          ValueError: for a row out of range, k < 1, or an exclude that does not fit.
        """
        row = check_indices("row", row, self.W.shape[0])  # pyright: ignore
        if np.ndim(row):
            raise ValueError(f"row has shape {np.shape(row)}; it must be one integer")
        row = int(row)
        check_count("k", k)
        n = self.H.shape[1]
        scores = self.predict(row, np.arange(n)).astype(float)
        left = n
        if exclude is not None:
            out = excluded(exclude, row, self.W.shape[0], n)
            scores[out] = -np.inf
            left = int(np.isfinite(scores).sum())
        # Ties go to the smaller number, whatever the platform sorts by.
        return np.argsort(-scores, kind="stable")[: min(k, left)]

    def residual(self, V: Any) -> Any:
        """The residual U = V − X, with X the approximation of V: a dense (m, n) array,
        masked where V is, or for `jaxnmf.Observed` data its value at each known entry.
        Of `jaxnmf.Views` it is a list, of each view. Of `jaxnmf.Blocks` it is
        `jaxnmf.Blocks` too, computed when a block is read; of a JAX array over several
        processes another one.

        Raises:
          ValueError: when V has another shape than W H.
        """
        if isinstance(V, Views):
            return self._residuals(V)
        # As they are: factors that are spread over processes are not collected.
        V, (W, H) = contents(V), (self.__dict__[name] for name in "WH")
        expected = W.shape[0], H.shape[1]
        found = tuple(V.shape if hasattr(V, "shape") else np.shape(V))
        if found != expected:
            raise ValueError(
                f"V has shape {found}; this result is of a matrix of shape {expected}"
            )
        if is_spread(V):
            return less_product(V, W, H)
        if isinstance(V, Blocks):
            dtype = np.result_type(V.dtype, self.W.dtype)
            return V.map(lambda rows, block: self._less(block, rows), dtype)
        return self._less(V, slice(None))

    def _residuals(self, views: Views) -> list[Any]:
        """The residual of each view."""
        expected = [H.shape[1] for H in self.view_H]
        if not views.fits(expected) or views.rows != self.W.shape[0]:
            raise ValueError(
                f"V has {views.rows} rows and views of {views.widths} columns; this "
                f"result is of {self.W.shape[0]} rows and {expected} columns"
            )
        first = np.cumsum([0, *expected])
        return [
            None if one is None else self._less(_masked(one), slice(None), int(a))
            for one, a in zip(views.known, first[:-1], strict=True)
        ]

    def _less(self, V: Any, rows: slice, first: int = 0) -> Any:
        """Rows of V less their approximation, its columns from the ``first`` on."""
        if isinstance(V, Observed):
            return V.values - self.predict(V.rows, V.cols + first)
        dense = V.toarray() if hasattr(V, "toarray") else as_array("V", V)
        columns = slice(first, first + dense.shape[1])
        W, H = self.all_factors
        X = W[rows] @ H[:, columns]
        if self.offsets is not None:
            X += self.offsets.rows[rows, None] + self.offsets.cols[columns]
        return (dense if np.ma.isMaskedArray(dense) else np.asarray(dense)) - X


def _masked(known: Known) -> Any:
    """A view, masked where nothing of it is known."""
    V, weights = known
    return V if weights is None else np.ma.masked_array(V, weights == 0)
