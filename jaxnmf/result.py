"""The result of a factorisation: factors, predictions, new rows, residual."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnmf import saved
from jaxnmf.approximation import Approximation
from jaxnmf.data.blocks import Blocks
from jaxnmf.data.containers import Names, names_of, write_to_anndata
from jaxnmf.data.known import Known, what_is_known
from jaxnmf.data.spread import Factor
from jaxnmf.data.views import ViewParts, Views
from jaxnmf.files.frames import factor_frames
from jaxnmf.fold_in import Model
from jaxnmf.joint import of_views
from jaxnmf.objective.covariates import Design
from jaxnmf.objective.problem import Problem
from jaxnmf.objective.relative_error import squares
from jaxnmf.outcome import (
    NOTHING,
    Covariates,
    Offsets,
    Unobserved,
    design_of,
    of_parts,
    outcome,
)
from jaxnmf.run.loop import Run
from jaxnmf.shapes import Float
from jaxnmf.types import Status, Trace


class Frames(NamedTuple):
    """The factors as data frames of pandas, W (m, p) and H (p, n)."""

    W: Any
    H: Any


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Result(Approximation):
    """A factorisation V ≈ W H; with offsets b_i + c_j, or the product of covariates
    with their effects, added to it.

    Attributes:
      W: (m, p), non-negative.
      H: (p, n), non-negative. Where V is spread over several processes W and H are too,
        until they are read, which then has to be done in all processes.
      objective: its value at the end, penalties included.
      relative_error: ‖V − X‖_F / ‖V‖_F with X the approximation of V, for every loss;
        over the known entries and with their weights where not all are known. NaN where
        all of V is 0, or could not be read to the end. Of views with a loss each it is
        the root mean square of theirs.
      kkt: the KKT residual at the end (see `jaxnmf.objective.problem.Problem.kkt`).
      iterations: the number of iterations.
      status: why it stopped; ``status.message`` says it in words.
      trace: iteration, objective, kkt and seconds of every record.
      solver: the name of the solver.
      seconds: time in the iterations; compile_seconds: time spent compiling.
      offsets: (rows, cols), or None without offsets.
      covariates: (W, H, names, batch) of covariates and batches (W as it was given and
        H as it was fitted), or None without.
      views: (widths, scales, weights) of a V that was `jaxnmf.Views`, whose columns H
        has one after the other, or None; `view_H` has each apart.
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
    covariates: Covariates | None = None
    views: ViewParts | None = None
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

    def fold_in(
        self,
        V: Any,
        *,
        mask: Any = None,
        covariates: Any = None,
        batch: Any = None,
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
          covariates, batch: those of the new rows, where this result has some: as many
            columns, and labels of batches that were fitted.
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
        if (self.views is None) == isinstance(V, Views):
            other = "one matrix" if self.views is None else "jaxnmf.Views"
            raise ValueError(
                f"V is of type {type(V).__name__}; this result is of {other}, and new "
                "rows must be so too"
            )
        design = design_of(self.covariates, covariates, batch)
        given: Any = {"max_iter": max_iter, "tol": tol, "pad": pad}
        if isinstance(V, Blocks):
            what_is_known(V, mask)
            if design is not None:
                raise ValueError(
                    "V is Blocks; new rows with covariates must be in memory"
                )
            parts = [
                (self.fold_in(block, **given), squares(block)) for _, block in V.each()
            ]
            found = dataclasses.replace(parts[0][0], **of_parts(parts))
            return found.named(Names(V.names.rows, self.column_names))
        names, typical, model = names_of(V), None, self.model
        H = self.H if self.covariates is None else self.all_factors[1]
        if self.views is None:
            known = what_is_known(V, mask)
        else:
            known, H, model = self._joined(V, mask, H)
        if known.in_part and self.W.shape[1] == len(self.H):
            typical = np.ascontiguousarray(self.all_factors[0].T).mean(1)
        if self.offsets is not None:
            rows, cols = self.offsets
            H = np.vstack([np.ones_like(cols), cols, H])
            typical = None if typical is None else np.append([rows.mean(), 1], typical)
        run, problem = model.fit(known, H, design=design, **given)
        own = {"model": self.model, "typical": typical, "design": design}
        found = to_result(run, problem, self.solver, **own)
        found = found.named(Names(names.rows, self.column_names))
        if self.views is None:
            return found
        if model is not self.model:  # H of the views that the new rows have
            fitted = found.covariates
            if fitted is not None:
                fitted = fitted._replace(H=self.all_factors[1][len(self.H) :])
            return dataclasses.replace(found, H=self.H, covariates=fitted)
        return of_views(found, self.views)

    def _joined(self, V: Views, mask: Any, H: Any) -> tuple[Known, Any, Model]:
        """New rows of the views as one V, with H and the model for it."""
        parts, model = self.views, self.model
        assert parts is not None
        assert model is not None
        if mask is not None:
            raise ValueError("mask: views say themselves what is known of them")
        if not V.fits(parts.widths.tolist()):
            raise ValueError(
                f"V has views of {V.widths} columns; those of this result have "
                f"{parts.widths.tolist()}"
            )
        H = H * parts.of_columns
        if not model.loss.losses:
            return V.joined(parts), H, model
        there = [k for k, width in enumerate(V.widths) if width is not None]
        loss: Any = model.loss
        own = dataclasses.replace(model, loss=loss.only(there))
        return V.apart(parts), np.hstack([parts.cut(H)[k] for k in there]), own

    def transform(
        self, V: Any, *, mask: Any = None, covariates: Any = None, batch: Any = None
    ) -> np.ndarray:
        """W (r, p) of new rows V (r, n) with H fixed, by `fold_in`."""
        return self.fold_in(V, mask=mask, covariates=covariates, batch=batch).W

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
_PARTS = {
    "trace": Trace,
    "offsets": Offsets,
    "covariates": Covariates,
    "views": ViewParts,
    "unobserved": Unobserved,
}


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
    design: Design | None = None,
) -> Result:
    """The result of a run, with the arguments of `jaxnmf.outcome.outcome`."""
    return Result(**outcome(run, problem, solver, model, typical, design))
