"""`NMF`: `factorize` as an estimator of scikit-learn."""

from __future__ import annotations

import dataclasses
import numbers
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxnmf._util.checks import check_count
from jaxnmf.build import Objective, make_problem
from jaxnmf.data.arrays import check_columns, widened
from jaxnmf.data.containers import contents, is_frame, names_of
from jaxnmf.data.known import is_sparse
from jaxnmf.data.observed import Observed
from jaxnmf.factorize import factorize
from jaxnmf.fold_in import Model, check_H
from jaxnmf.objective.losses import Loss
from jaxnmf.registry import make_solver
from jaxnmf.result import to_result
from jaxnmf.run.clock import divergence
from jaxnmf.run.programs import precision
from jaxnmf.types import Factors, Status

MOST_SEEDS = 2**31 - 1  # what is drawn from a RandomState is below this


class NMF(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Non-negative matrix factorisation as a transformer of scikit-learn.

    min over W, H ≥ 0 of D(X | WH) + l1·ΣW + l1·ΣH + ½ l2·‖W‖² + ½ l2·‖H‖², by
    `jaxnmf.factorize`, whose V is X here. The transformed data are W; for new rows W is
    fitted with H fixed.

    Differences from `sklearn.decomposition.NMF`:

    - ``loss`` is ``beta_loss`` there, and the solver "hals" is "cd".
    - ``init`` is "random" by default, so that fits differ unless ``random_state`` is an
      int. A start of your own is the pair ``init=(W, H)``, in place of
      ``init="custom"`` and arguments of ``fit_transform``.
    - ``l1`` and ``l2`` are the weights themselves: with α_W = ``alpha_W``, α_H =
      ``alpha_H`` and ρ = ``l1_ratio`` on a matrix (m, n), l1 = (ρ α_W n, ρ α_H m) and
      l2 = ((1 − ρ) α_W n, (1 − ρ) α_H m) is the same objective.
    - ``tol`` bounds the change of the loss over ten iterations, against the first loss,
      for every solver.
    - It works and returns float32 unless ``dtype="float64"``, whatever X has.
    - ``transform`` iterates to a tolerance of its own, 1e-7.
    - Sparse X needs the Frobenius or Kullback-Leibler loss.

    Row offsets, masks as arrays and `jaxnmf.Observed` are for `jaxnmf.factorize`: they
    belong to the rows of one matrix, and an estimator is applied to others.

    Args:
      n_components: p; "auto" or None: as many as ``init`` has if it is a pair, else n.
      solver: a name (`jaxnmf.solvers()`) or an instance.
      loss: a name (`jaxnmf.losses()`), an instance, or your own entrywise φ(v, x).
      init: "random"; "nndsvd", "nndsvda", "nndsvdar", "spa", "snpa", "xray"; or a pair
        (W, H) of shapes (m, p) and (p, n).
      max_iter, tol: when to stop, whichever comes first: iterations; change of the loss
        over ten of them, against the first loss.
      l1, l2: penalties, for both factors or as a pair (for W, for H).
      constraints: "nonnegative", "box" or "simplex", for both factors or as a pair.
      mask: "nan" if NaN in X means unknown; None if every entry is known.
      toward: with mask="nan", the point that l2 shrinks to: "zero", or "mean", the
        constant at which the model predicts the mean of X.
      dtype: "float32" or "float64", the precision.
      progress: show a bar; None shows one in a terminal for a run of over two seconds.
      solver_options, loss_options: options that go with a name.
      random_state: an int, the ``seed`` of `jaxnmf.factorize`; a
        `numpy.random.RandomState`, from which each fit draws one; or None, NumPy's own.

    Attributes:
      components_: H (p, n).
      n_components_: p.
      reconstruction_err_: √(2 D(X | WH)) without penalties, for the Frobenius loss
        ‖X − WH‖_F; for a loss that is no β-divergence D itself. Over the known entries.
      n_iter_: the number of iterations.
      result_: the `jaxnmf.Result`, with W, trace and status.
      n_features_in_: n.
      feature_names_in_: the names of the columns of X, where it has some.

    Raises:
      ValueError: by ``fit``, for anything that does not fit; `ConvergenceWarning` warns
        of a fit that ended by ``max_iter`` while tol > 0, or that diverged.

    Example:
      >>> import numpy as np, jaxnmf
      >>> X = np.random.default_rng(0).random((30, 20))
      >>> model = jaxnmf.NMF(4, random_state=0)
      >>> model.fit_transform(X).shape, model.components_.shape
      ((30, 4), (4, 20))

    Reference: Buitinck et al., "API design for machine learning software: experiences
    from the scikit-learn project", ECML PKDD workshop (2013) [Buitinck2013].
    """

    def __init__(
        self,
        n_components: int | str | None = "auto",
        *,
        solver: Any = "hals",
        loss: str | Loss | Callable[..., Any] = "frobenius",
        init: str | Sequence[Any] = "random",
        max_iter: int = 200,
        tol: float = 1e-4,
        l1: float | tuple[float, float] = 0.0,
        l2: float | tuple[float, float] = 0.0,
        constraints: Any = "nonnegative",
        mask: str | None = None,
        toward: str = "zero",
        dtype: Any = "float32",
        progress: bool | None = False,
        solver_options: Mapping[str, Any] | None = None,
        loss_options: Mapping[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.solver = solver
        self.loss = loss
        self.init = init
        self.max_iter = max_iter
        self.tol = tol
        self.l1 = l1
        self.l2 = l2
        self.constraints = constraints
        self.mask = mask
        self.toward = toward
        self.dtype = dtype
        self.progress = progress
        self.solver_options = solver_options
        self.loss_options = loss_options
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> NMF:
        """Factorise X ≈ W H, and keep H.

        Args:
          X: (m, n), non-negative: an array, a data frame or SciPy sparse, which is not
            made dense.
          y: not looked at.

        Returns:
          The estimator.

        Raises:
          ValueError: for anything that does not fit, before any compilation.
        """
        labels, X = names_of(X), self._checked(X, reset=True)
        # The rest have the names that they have there. Not `get_params`: a subclass may
        # have parameters of its own.
        names = set(NMF._get_param_names()) - {"n_components", "random_state"}
        settings = {name: getattr(self, name) for name in names}
        rank, seed = self._rank(X.shape[1]), self._seed()
        result = factorize(X, rank, seed=seed, **settings)
        self.result_ = result.named(labels)
        self.components_ = self.result_.H
        self.n_components_ = len(self.components_)
        self.n_iter_ = self.result_.iterations
        self.reconstruction_err_ = self._error(X)
        status = self.result_.status
        message = f"NMF: {status.message}"
        if status == Status.MAX_ITER and self.tol > 0:
            message += ", and the loss still falls; raise max_iter, or tol"
            warnings.warn(message, ConvergenceWarning, stacklevel=2)
        elif status == Status.DIVERGED:
            warnings.warn(message, ConvergenceWarning, stacklevel=2)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Float[np.ndarray, "m p"]:
        """`fit`, and the W that it found for X itself.

        Args:
          X, y: as for `fit`.

        Returns:
          W (m, p), a copy of that of ``result_``.

        Raises:
          ValueError: as `fit` does.
        """
        return self.fit(X, y).result_.W.copy()

    def transform(self, X: Any) -> Float[np.ndarray, "r p"]:
        """W of the rows of X, with H = ``components_``, fitted or set by hand.

        min over W ≥ 0 of D(X | W H) + penalty(W), by `jaxnmf.Result.fold_in`: a problem
        for each row by itself, which end together when the sum of their losses hardly
        changes. `ConvergenceWarning` warns where that was not reached. Setting
        ``components_`` needs no `fit` before it.

        Args:
          X: (r, n), as for `fit`.

        Returns:
          W (r, p).

        Raises:
          NotFittedError: before `fit`.
          ValueError: X has not the columns that were fitted, or does not fit.
        """
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        solver = make_solver(self.solver, self.solver_options)
        H = check_H("components_", self.components_, "H" in solver.supports.signed)
        if H.shape[1] != X.shape[1]:
            raise ValueError(
                f"components_ has shape {H.shape}; for X of shape {X.shape} it must be "
                f"(p, {X.shape[1]})"
            )
        if hasattr(self, "result_"):
            folded = dataclasses.replace(self.result_, H=H).fold_in(X, mask=self.mask)
        else:
            model = self._model(solver)
            folded = to_result(*model.fit(X, H, mask=self.mask), model)
        if folded.status == Status.MAX_ITER:
            warnings.warn(
                f"NMF.transform: {folded.status.message}, and the loss still falls",
                ConvergenceWarning,
                stacklevel=2,
            )
        return folded.W

    def inverse_transform(self, X: Any) -> Float[np.ndarray, "r n"]:
        """W H, what data are approximated by of which W is the transform.

        Args:
          X: W (r, p), an array, a data frame or SciPy sparse.

        Returns:
          W H (r, n), dense.

        Raises:
          NotFittedError: before `fit`.
          ValueError: X does not have p columns.
        """
        check_is_fitted(self)
        W = check_array(X, accept_sparse=True, input_name="X")
        if W.shape[1] != len(self.components_):
            raise ValueError(
                f"X has shape {W.shape}; for {len(self.components_)} components it "
                f"must be (r, {len(self.components_)})"
            )
        return W @ self.components_

    def _model(self, solver: Any) -> Model:
        """What rows are fitted with before any `fit`."""
        if self.toward != "zero":
            raise NotFittedError(
                f"toward={self.toward!r} needs the mean of the data that were fitted; "
                "call fit first"
            )
        with precision(self.dtype) as dtype:
            objective = Objective.of(
                self.loss,
                loss_options=self.loss_options,
                l1=self.l1,
                l2=self.l2,
                constraints=self.constraints,
            )
        return Model.of_objective(objective, solver.supports.signed, dtype.name)

    @property
    def _n_features_out(self) -> int:
        """What ``get_feature_names_out`` counts: nmf0, nmf1, …"""
        return len(self.components_)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self.mask is None
        tags.input_tags.positive_only = not self._signed
        tags.input_tags.allow_nan = self.mask is not None
        tags.transformer_tags.preserves_dtype = []
        return tags

    @property
    def _signed(self) -> bool:
        """Whether the solver takes data of any sign."""
        return "V" in make_solver(self.solver, self.solver_options).supports.signed

    def _checked(self, X: Any, *, reset: bool) -> Any:
        """X as scikit-learn has it: an array or CSR or CSC, its columns counted."""
        if isinstance(X, Observed):
            raise ValueError(
                "X is jaxnmf.Observed, which is for jaxnmf.factorize; an estimator "
                "needs an array (m, n), with mask='nan' and NaN for what is unknown"
            )
        named = isinstance(self.mask, str)
        if self.mask is not None and not (named and self.mask == "nan"):
            found = f"={self.mask!r}" if named else f" is a {type(self.mask).__name__}"
            raise ValueError(
                f"mask{found}; it must be 'nan' or None (jaxnmf.factorize takes arrays "
                "too, which belong to the rows of one X)"
            )
        if isinstance(X, np.ma.MaskedArray):
            if self.mask is None and np.ma.getmaskarray(X).any():
                raise ValueError(
                    "X is a masked array; mask='nan' takes what is masked as unknown"
                )
            X = np.ma.filled(X.astype(np.float64), np.nan)
        X = contents(X)
        if is_frame(X):
            X = check_columns("X", X)
        X = validate_data(
            self,
            widened(X),
            reset=reset,
            accept_sparse=("csr", "csc"),
            ensure_all_finite="allow-nan",
            ensure_non_negative=not self._signed,
        )
        if self.mask is None and not is_sparse(X) and np.isnan(X.min()):
            raise ValueError(
                "X holds NaN; every entry must be a number, or mask='nan' say that NaN "
                "stands for what is unknown"
            )
        return X

    def _rank(self, n: int) -> int:
        """p, where it is left open as in the start, or as many as there are columns."""
        p: Any = self.n_components
        if p is None or (isinstance(p, str) and p == "auto"):
            pair = isinstance(self.init, list | tuple) and len(self.init) == 2
            return len(self.init[1]) if pair else n
        check_count("n_components", p)
        return int(p)

    def _seed(self) -> int:
        try:
            drawn = check_random_state(self.random_state)
        except ValueError as error:
            raise ValueError(
                f"random_state={self.random_state!r} must be an integer from 0 to "
                "2³² − 1, a numpy.random.RandomState or None"
            ) from error
        if isinstance(self.random_state, numbers.Integral):
            return int(self.random_state)
        return int(drawn.randint(MOST_SEEDS))

    def _error(self, X: Any) -> float:
        """`reconstruction_err_`."""
        result, model = self.result_, self.result_.model
        loss, dtype = model.loss, model.dtype  # pyright: ignore
        value = result.objective
        if np.any(self.l1) or np.any(self.l2):
            with precision(dtype):
                solver = make_solver(self.solver, self.solver_options)
                plain = make_problem(X, solver, Objective(loss=loss), dtype, self.mask)
                factors = Factors(*map(jnp.asarray, (result.W.T, result.H)))
                value = divergence(plain, plain.units.inverse.of(factors))
        # Rounding may leave a sum of divergences below 0 where the fit is exact.
        return value if loss.beta is None else float(np.sqrt(2 * max(value, 0.0)))
