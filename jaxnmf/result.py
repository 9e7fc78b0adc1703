"""The result of a factorisation: factors, predictions, new rows, residual."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxnmf import saved
from jaxnmf._util.checks import check_count, check_indices
from jaxnmf.data.arrays import as_array
from jaxnmf.data.blocks import Blocks
from jaxnmf.data.containers import Names, contents, names_of, write_to_anndata
from jaxnmf.data.known import is_sparse, what_is_known
from jaxnmf.data.observed import Observed
from jaxnmf.data.placement import less_product
from jaxnmf.data.spread import Factor, is_spread
from jaxnmf.files.frames import factor_frames
from jaxnmf.fold_in import Model
from jaxnmf.objective.problem import Problem
from jaxnmf.objective.relative_error import squares
from jaxnmf.outcome import NOTHING, Offsets, Unobserved, of_parts, outcome
from jaxnmf.run.loop import Run
from jaxnmf.types import Status, Trace


class Frames(NamedTuple):
    """The factors as data frames of pandas, W (m, p) and H (p, n)."""

    W: Any
    H: Any


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """A factorisation V ≈ W H, or with offsets V_ij ≈ b_i + c_j + (W H)_ij.

    Attributes:
      W: (m, p), non-negative.
      H: (p, n), non-negative. Where V is spread over several processes W and H are too,
        until they are read, which then has to be done in all processes.
      objective: its value at the end, penalties included.
      relative_error: ‖V − X‖_F / ‖V‖_F with X the approximation of V, for every loss;
        over the known entries and with their weights where not all are known. NaN where
        all of V is 0, or could not be read to the end.
      kkt: the KKT residual at the end (see `jaxnmf.objective.problem.Problem.kkt`).
      iterations: the number of iterations.
      status: why it stopped; ``status.message`` says it in words.
      trace: iteration, objective, kkt and seconds of every record.
      solver: the name of the solver.
      seconds: time in the iterations; compile_seconds: time spent compiling.
      offsets: (rows, cols), or None without offsets.
      unobserved: (rows, cols) of which nothing was known. They have the mean factors
        and offsets of the others.
      model: what `fold_in` fits new rows with, besides H.
      row_names, column_names: (m,) and (n,) strings, the names of the rows and columns
        of V; None where it has none.

    Example:
      >>> import numpy as np, jaxnmf
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> result = jaxnmf.factorize(V[:28], 4)
      >>> result.W.shape, result.H.shape, str(result.status)
      ((28, 4), (4, 20), 'converged')
      >>> result.transform(V[28:]).shape  # W of new rows
      (2, 4)
      >>> result.fold_in(V[28:]).iterations > 0  # the same as a `Result`
      True
      >>> float(result.predict(0, 3)) > 0, len(result.recommend(0, k=5))
      (True, 5)
      >>> result.residual(V[:28]).shape
      (28, 20)
    """

    W: np.ndarray = Factor()  # noqa: RUF009  # pyright: ignore
    H: np.ndarray = Factor()  # noqa: RUF009  # pyright: ignore
    objective: float
    relative_error: float
    kkt: float
    iterations: int
    status: Status
    trace: Trace
    seconds: float
    compile_seconds: float
    solver: str = ""
    offsets: Offsets | None = None
    unobserved: Unobserved = NOTHING
    model: Model | None = None
    row_names: np.ndarray | None = None
    column_names: np.ndarray | None = None

    def named(self, names: Names) -> Result:
        """The result of data whose rows and columns have these names."""
        given = dict(zip(_NAMES, names, strict=True))
        given |= {name: self.__dict__[name] for name in "WH"}  # without fetching them
        return dataclasses.replace(self, **given)

    def frames(self) -> Frames:
        """W and H as data frames of pandas, with the names of rows and columns.

        Returns:
          ``(W, H)``: a row of W for each row of V and a column for each component, a
          row of H for each component and a column for each column of V. Components are
          numbered from 0, as are rows and columns without names.

        Example:
          >>> import jaxnmf, pandas as pd
          >>> V = pd.DataFrame([[1.0, 2.0], [2.0, 4.0]], ["a", "b"], ["x", "y"])
          >>> jaxnmf.factorize(V, 1).frames().W.index.tolist()
          ['a', 'b']
        """
        return Frames(*factor_frames(self.W, self.H, self.row_names, self.column_names))

    def write_to(self, data: Any, key: str = "nmf") -> None:
        """Write the factors into AnnData of the same cells and genes: W to
        ``obsm["X_nmf"]``, Hᵀ to ``varm["nmf"]``, what the run was to ``uns["nmf"]``.

        Args:
          data: AnnData, changed in place.
          key: the name, "nmf" in the above.

        Raises:
          ValueError: for anything else, or data of another shape.
        """
        about = {name: getattr(self, name) for name in ("solver", *_NUMBERS)}
        about["status"] = str(self.status)
        write_to_anndata(data, key, self.W, self.H, about)

    def save(self, path: str | Path) -> Path:
        """Write the result to a file that `jaxnmf.load` reads: one NumPy archive, with
        factors, names, trace and settings, without pickles. Of factors that are spread
        over processes each writes its part, ``name-0of4.npz`` and so on, beside it.

        Args:
          path: the file; ".npz" is added where it ends otherwise.

        Returns:
          The path of the file.

        Raises:
          ValueError: for a folder that does not exist.
        """
        arrays = {name: self.__dict__[name] for name in "WH"}
        for name in _NAMES:
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        for name in _PARTS:
            part = getattr(self, name)
            if part is not None:
                arrays |= {f"{name}.{k}": x for k, x in part._asdict().items()}
        about = {name: getattr(self, name) for name in _NUMBERS}
        about |= {"status": str(self.status), "solver": self.solver}
        return saved.write(path, about, arrays, self.model)

    def predict(self, rows: Any, cols: Any) -> np.ndarray:
        """The approximation of V at the entries (rows, cols).

        x_ij = (W H)_ij, plus b_i + c_j where there are offsets.

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
        for w, h in zip(self.W.T, self.H, strict=True):
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
            out = _excluded(exclude, row, self.W.shape[0], n)
            scores[out] = -np.inf
            left = int(np.isfinite(scores).sum())
        # Ties go to the smaller number, whatever the platform sorts by.
        return np.argsort(-scores, kind="stable")[: min(k, left)]

    def fold_in(
        self,
        V: Any,
        *,
        mask: Any = None,
        max_iter: int = 1000,
        tol: float = 1e-7,
        pad: bool = True,
    ) -> Result:
        """The factorisation of new rows V with H fixed.

        min over W ≥ 0 of D(V | W H) + penalty(W), with the loss, penalty, constraint
        and offsets of this result: a convex problem for Frobenius, Kullback-Leibler and
        every β from 1 to 2.

        Args:
          V: (r, n), as for `jaxnmf.factorize`. `jaxnmf.Blocks` are read once, and each
            block stops by its own rule: the trace has their start and their end.
          mask: what is known of V, as there.
          max_iter, tol: when to stop, as there.
          pad: whether small problems share compiled programs, as there.

        Returns:
          A `Result` whose W (and row offsets) are those of the new rows, each row
          fitted independently. A row of which nothing is known has the mean of the rows
          of this result.

        H is what this result has: ``dataclasses.replace(result, H=H)`` fits rows with
        components of your own, of any number (`jaxnmf.fit_W` needs no result).

        Raises:
          ValueError: V does not have n columns, or anything that `factorize` refuses.
        """
        if self.model is None:
            raise ValueError("this result has no model to fit new rows with")
        known = what_is_known(V, mask)
        if isinstance(V, Blocks):
            given: Any = {"max_iter": max_iter, "tol": tol, "pad": pad}
            parts = [
                (self.fold_in(block, **given), squares(block)) for _, block in V.each()
            ]
            found = dataclasses.replace(parts[0][0], **of_parts(parts))
            return found.named(Names(V.names.rows, self.column_names))
        H, typical = self.H, None
        if known.in_part and self.W.shape[1] == len(H):
            typical = np.ascontiguousarray(self.W.T).mean(1)
        if self.offsets is not None:
            rows, cols = self.offsets
            H = np.vstack([np.ones_like(cols), cols, H])
            typical = None if typical is None else np.append([rows.mean(), 1], typical)
        run, problem = self.model.fit(known, H, max_iter=max_iter, tol=tol, pad=pad)
        found = to_result(run, problem, self.solver, model=self.model, typical=typical)
        return found.named(Names(names_of(V).rows, self.column_names))

    def transform(self, V: Any, *, mask: Any = None) -> np.ndarray:
        """W (r, p) of new rows V (r, n) with H fixed, by `fold_in`."""
        return self.fold_in(V, mask=mask).W

    def residual(self, V: Any) -> Any:
        """The residual U = V − X, with X the approximation of V: a dense (m, n) array,
        masked where V is, or for `jaxnmf.Observed` data its value at each known entry.
        Of `jaxnmf.Blocks` it is `jaxnmf.Blocks` too, computed when a block is read; of
        a JAX array over several processes another one.

        Raises:
          ValueError: when V has another shape than W H.
        """
        V, (W, H) = contents(V), (self.__dict__[name] for name in "WH")
        expected = W.shape[0], H.shape[1]
        observed = isinstance(V, Observed)
        found = tuple(V.shape if hasattr(V, "shape") else np.shape(V))
        if found != expected:
            raise ValueError(f"V has shape {found}; this result is of {expected}")
        if is_spread(V):
            return less_product(V, W, H)
        if isinstance(V, Blocks):
            dtype = np.result_type(V.dtype, self.W.dtype)
            return V.map(lambda rows, block: self._less(block, rows), dtype)
        if observed:
            return V.values - self.predict(V.rows, V.cols)
        return self._less(V, slice(None))

    def _less(self, V: Any, rows: slice) -> np.ndarray:
        """Rows of V less their approximation."""
        dense = V.toarray() if hasattr(V, "toarray") else as_array("V", V)
        X = self.W[rows] @ self.H
        if self.offsets is not None:
            X += self.offsets.rows[rows, None] + self.offsets.cols
        return (dense if np.ma.isMaskedArray(dense) else np.asarray(dense)) - X

    def __repr__(self) -> str:
        # Of what is spread, without fetching it: this may be one process alone.
        (m, p), (_, n) = (self.__dict__[name].shape for name in "WH")
        return (
            f"Result({m}×{n}, p={p}: relative error {self.relative_error:.4g}, "
            f"objective {self.objective:.6g}, {self.iterations} iterations, "
            f"{self.status})"
        )


# The fields of a result that are numbers, those that are arrays or None, and those
# that are named tuples of arrays.
_NUMBERS = (
    "objective",
    "relative_error",
    "kkt",
    "iterations",
    "seconds",
    "compile_seconds",
)
_NAMES = ("row_names", "column_names")
_PARTS = {"trace": Trace, "offsets": Offsets, "unobserved": Unobserved}


def load(path: str | Path) -> Result:
    """The result that `Result.save` wrote to a file.

    Args:
      path: the file.

    Returns:
      The `Result`. With a loss that is a function of the user's own it cannot fit new
      rows, since a function is not in the file.

    Raises:
      ValueError: the file is missing, damaged or none of a result, or was written by a
        later version in a form that this one does not know.

    Example:
      >>> import numpy as np, jaxnmf, tempfile, pathlib
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "factors.npz"
      >>> saved = jaxnmf.factorize(V, 4).save(path)
      >>> jaxnmf.load(path).W.shape
      (30, 4)
    """
    about, arrays, model = saved.read(path)
    with saved.refused(path):
        parts = {
            name: cls(**{k: arrays[f"{name}.{k}"] for k in cls._fields})
            for name, cls in _PARTS.items()
            if f"{name}.{cls._fields[0]}" in arrays
        }
        return Result(
            W=arrays["W"],
            H=arrays["H"],
            status=Status(about["status"]),
            solver=about.get("solver", ""),
            model=model,
            **{name: about[name] for name in _NUMBERS},
            **{name: arrays[name] for name in _NAMES if name in arrays},
            **parts,
        )


def to_result(
    run: Run,
    problem: Problem,
    solver: Any,
    model: Model | None = None,
    typical: Float[np.ndarray, " p"] | None = None,
) -> Result:
    """The result of a run, with the arguments of `jaxnmf.outcome.outcome`."""
    return Result(**outcome(run, problem, solver, model, typical))


def _excluded(exclude: Any, row: int, m: int, n: int) -> np.ndarray:
    if isinstance(exclude, Observed) or is_sparse(exclude):
        if tuple(exclude.shape) != (m, n):
            raise ValueError(
                f"exclude has shape {tuple(exclude.shape)}; it must be ({m}, {n})"
            )
        if isinstance(exclude, Observed):
            return exclude.cols[exclude.rows == row]
        start, stop = (exclude := exclude.tocsr()).indptr[row : row + 2]
        return exclude.indices[start:stop]
    exclude = np.asarray(exclude)
    if exclude.dtype == bool:
        if exclude.shape != (n,):
            raise ValueError(f"exclude has shape {exclude.shape}; it must be ({n},)")
        return exclude
    return check_indices("exclude", exclude, n)
