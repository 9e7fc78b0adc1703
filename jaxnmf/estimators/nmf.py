"""`NMF` with scikit-learn's signature."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from sklearn import config_context, decomposition
from sklearn.base import _fit_context
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.validation import check_is_fitted

from jaxnmf import auto
from jaxnmf.build import Objective
from jaxnmf.data.containers import names_of
from jaxnmf.data.views import Views
from jaxnmf.estimators.data import checked_data
from jaxnmf.estimators.fits import (
    PLAIN,
    Fit,
    by_factorize,
    by_plain,
    check_plain,
    chosen,
    initial,
    reconstruction_error,
    rows,
)
from jaxnmf.estimators.views import fit_views, rows_of_views
from jaxnmf.fold_in import check_H
from jaxnmf.init.start import INITS
from jaxnmf.objective.losses import Loss, beta_divergence
from jaxnmf.objective.offsets import TOWARD
from jaxnmf.registry import make_loss, make_solver
from jaxnmf.shapes import Float

MOST_SEEDS = 2**31 - 1  # what is drawn from a RandomState is below this


class NMF(decomposition.NMF):
    """Non-negative matrix factorisation, in place of `sklearn.decomposition.NMF`.

    min over W, H ≥ 0 of D(X | WH) + l1_W ΣW + l1_H ΣH + ½ l2_W ‖W‖² + ½ l2_H ‖H‖² for
    X (m, n), with l1 = ρ α_W n for W and ρ α_H m for H, l2 = (1 − ρ) α_W n and
    (1 − ρ) α_H m, where α_W = ``alpha_W``, α_H = ``alpha_H`` and ρ = ``l1_ratio``. The
    transformed data are W; for new rows W is fitted with H fixed.

    Parameters, attributes, warnings and errors are scikit-learn's; the parameters from
    ``constraints`` on are jaxnmf's own. It works and answers in float32 for X in
    float32, in float64 for all else. What differs:

    - ``solver`` is "auto" by default.
    - ``init=None`` and solver "auto": "nndsvd" for the Frobenius loss, without effect
      of ``random_state``.
    - With "auto" and the Frobenius loss, `fit_transform` returns the W that `transform`
      finds for the same X.

    Row offsets, covariates, batches, masks as arrays and `jaxnmf.Observed` are for
    `jaxnmf.factorize`: they belong to the rows of one matrix, and an estimator is
    applied to others. X may be `jaxnmf.Views`, of which ``components_`` are those of
    all views, one after the other, and ``result_.view_H`` has each apart.

    Args:
      n_components: p; "auto" or None: as many as a given start has, else n.
      solver: "auto", chosen by the loss, the kind of X and the constraints; "cd" and
        "mu", the two of scikit-learn (`jaxnmf.run.plain`) with its starts and stop
        rules; any of `jaxnmf.solvers()` but "mu", or an instance
        (``jaxnmf.solvers.MU()``).
      init: None; "random", "nndsvd", "nndsvda", "nndsvdar"; "custom", W and H of
        `fit_transform`; for solvers of jaxnmf's own "spa", "snpa", "xray", and for all
        a pair (W, H).
      beta_loss: "frobenius", "kullback-leibler", "itakura-saito", or β; for solvers of
        jaxnmf's own any of `jaxnmf.losses()`, an instance, or an entrywise φ(v, x); of
        views a list, one for each.
      tol, max_iter: when to stop. For "cd" tol bounds the violation relative to the
        first, for "mu" the change of √(2D) over ten iterations relative to the first,
        for others that of the objective.
      random_state: for starts at random, and for the order of ``shuffle``.
      alpha_W, alpha_H, l1_ratio: the penalties above; α_H = α_W for "same".
      verbose: print progress.
      shuffle: for "cd", a new order of the components in every sweep.
      constraints: for solvers of jaxnmf's own: "nonnegative", "box" or "simplex", for
        both factors or as a pair.
      mask: "nan" if NaN in X means unknown (solvers of jaxnmf's own); None if every
        entry is known.
      toward: what the l2 penalty shrinks to: "zero"; with mask="nan" "mean", the
        constant at which the model predicts the mean of X; or targets, as in
        `jaxnmf.factorize`. Those for W belong to the X that is fitted.
      known_H: known components, (p, n) or the first rows of H, held as they are, with
        NaN for an entry that is free (solvers of jaxnmf's own).
      graph, graph_weight: neighbours whose entries in a factor are to be alike, as in
        `jaxnmf.factorize`, for solvers of jaxnmf's own. Those among rows belong to the
        X that is fitted: `fit_transform` returns its W with them, and `transform`
        finds W without.
      solver_options, loss_options: the options of a solver or loss of jaxnmf.
      progress: show a bar, for solvers of jaxnmf's own; None shows one in a terminal
        for a run of over two seconds.
      pad: whether small problems share compiled programs, as in `jaxnmf.factorize`.

    Attributes:
      components_: H (p, n).
      n_components_: the number of components.
      reconstruction_err_: √(2 D(X | WH)) without penalties, for the Frobenius loss
        ‖X − WH‖_F; for a loss that is no β-divergence D itself. Over the known entries.
      n_iter_: the number of iterations.
      result_: the `jaxnmf.Result` of a solver of jaxnmf's own.
      n_features_in_: the number of columns of V.
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

    _parameter_constraints: ClassVar[dict] = {
        **decomposition.NMF._parameter_constraints,
        "solver": [str, HasMethods("step")],
        "init": [StrOptions({*INITS, "custom"}), list, tuple, None],
        "beta_loss": [Sequence, numbers.Real, callable, HasMethods("pointwise")],
        "constraints": "no_validation",
        "mask": "no_validation",
        "toward": [StrOptions(set(TOWARD)), list, tuple, HasMethods("__array__")],
        "known_H": "no_validation",
        "graph": "no_validation",
        "graph_weight": "no_validation",
        "solver_options": [Mapping, None],
        "loss_options": [Mapping, None],
        "progress": ["boolean", None],
        "pad": ["boolean"],
    }

    def __init__(
        self,
        n_components: int | str | None = "auto",
        *,
        init: str | Sequence[Any] | None = None,
        solver: Any = "auto",
        beta_loss: float | str | Loss | Callable[..., Any] = "frobenius",
        tol: float = 1e-4,
        max_iter: int = 200,
        random_state: int | np.random.RandomState | None = None,
        alpha_W: float = 0.0,
        alpha_H: float | str = "same",
        l1_ratio: float = 0.0,
        verbose: int = 0,
        shuffle: bool = False,
        constraints: Any = "nonnegative",
        mask: str | None = None,
        toward: Any = "zero",
        known_H: Any = None,
        graph: Any = None,
        graph_weight: Any = 1.0,
        solver_options: Mapping[str, Any] | None = None,
        loss_options: Mapping[str, Any] | None = None,
        progress: bool | None = False,
        pad: bool = True,
    ) -> None:
        super().__init__(
            n_components=n_components,  # pyright: ignore
            init=init,  # pyright: ignore
            solver=solver,
            beta_loss=beta_loss,  # pyright: ignore
            tol=tol,
            max_iter=max_iter,
            random_state=random_state,
            alpha_W=alpha_W,
            alpha_H=alpha_H,  # pyright: ignore
            l1_ratio=l1_ratio,
            verbose=verbose,
            shuffle=shuffle,
        )
        self.constraints = constraints
        self.mask = mask
        self.toward = toward
        self.known_H = known_H
        self.graph = graph
        self.graph_weight = graph_weight
        self.solver_options = solver_options
        self.loss_options = loss_options
        self.progress = progress
        self.pad = pad

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(
        self, X: Any, y: Any = None, W: Any = None, H: Any = None
    ) -> Float[np.ndarray, "m p"]:
        """Factorise X ≈ W H, keep H and return W.

        Args:
          X: (m, n), non-negative: an array, a data frame, `jaxnmf.Views`, or SciPy
            sparse, which is not made dense.
          y: not used.
          W, H: the start (m, p) and (p, n), for init="custom".

        Returns:
          W (m, p).

        Raises:
          ValueError: for anything that does not fit, before any compilation.
        """
        if isinstance(X, Views):
            return fit_views(self, X, W, H)
        names, X = names_of(X), self._checked(X, reset=True)
        vars(self).pop("result_", None)
        with config_context(assume_finite=True):
            fit = self._factorised(X, W, H, update_H=True)
        if hasattr(self, "result_"):
            self.result_ = self.result_.named(names)
        self.reconstruction_err_ = fit.error()
        self.n_components_ = len(fit.H)
        self.components_ = fit.H
        self.n_iter_ = fit.iterations
        return fit.W

    def transform(self, X: Any) -> Float[np.ndarray, "r p"]:
        """W of the rows of X, with H = ``components_``, fitted or set by hand.

        min over W ≥ 0 of D(X | W H) + penalty(W): for solvers "cd" and "mu" by these,
        else by `jaxnmf.Result.fold_in`, a problem for each row by itself, which end
        together when the sum of their losses hardly changes. `ConvergenceWarning` warns
        where that was not reached. Setting ``components_`` needs no `fit` before it.

        Args:
          X: (r, n), as for `fit`.

        Returns:
          W (r, p).

        Raises:
          NotFittedError: before `fit`.
          ValueError: X does not have the columns that were fitted, or does not fit.
        """
        check_is_fitted(self)
        if isinstance(X, Views):
            return rows_of_views(self, X)
        X = self._checked(X, reset=False)
        H = check_H("components_", self.components_, self._signed)
        if H.shape[1] != X.shape[1]:
            raise ValueError(
                f"components_ has shape {H.shape}; for X of shape {X.shape} it must be "
                f"(p, {X.shape[1]})"
            )
        with config_context(assume_finite=True):
            return self._check_params(X)._rows(X, H).W

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

    def _check_params(self, X: Any) -> NMF:
        """Check parameters that depend on each other, or on X."""
        p = X.shape[1] if self.n_components is None else self.n_components
        self._n_components = p if isinstance(p, str) else int(p)
        beta, plain = self._loss().beta, self.solver in PLAIN
        if plain:
            check_plain(self, beta)
        if self.solver == "mu" and self.init == "nndsvd":
            warnings.warn(
                "The multiplicative update ('mu') solver cannot update zeros present "
                "in the initialization, and so leads to poorer results when used "
                "jointly with init='nndsvd'. You may try init='nndsvda' or "
                "init='nndsvdar' instead.",
                UserWarning,
                stacklevel=5,
            )
        least = X.min() if self.mask is None else np.nanmin(X)
        if least == 0 and beta is not None and beta <= 0:
            raise ValueError(
                "When beta_loss <= 0 and X contains zeros, the solver may diverge. "
                "Please add small values to X, or use a positive beta_loss."
            )
        return self

    def _fit_transform(
        self, X: Any, y: Any = None, W: Any = None, H: Any = None, update_H: bool = True
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """W, H and the number of iterations, for `non_negative_factorization`."""
        return self._factorised(X, W, H, update_H=update_H)[:3]

    def _factorised(self, X: Any, W: Any, H: Any, *, update_H: bool) -> Fit:
        self._check_params(X)
        if not update_H:
            return self._rows(X, self._check_w_h(X, W, H, update_H)[1])
        objective = self._objective(X)
        solver = chosen(self, X, objective)
        start = initial(self, X, W, H, plain=solver in PLAIN)
        if solver in PLAIN:
            return by_plain(self, X, objective, solver, start, both=True)
        seed, solver = self._seed(), self._made(solver)
        given = auto.AUTO if self.solver == "auto" else solver
        found = self.result_ = by_factorize(self, X, objective, given, start, seed)
        rows_alone = self.mask is None and objective.rows_apart
        if self.solver == "auto" and objective.loss.quadratic and rows_alone:
            return self._rows(X, found.H)._replace(iterations=found.iterations)
        return self._fit(X, found.W.copy(), found.H, found.iterations, solver)

    def _rows(self, X: Any, H: Float[np.ndarray, "p n"]) -> Fit:
        """W of the rows of X for this H."""
        self._n_components = len(H)
        objective = self._objective(X)
        solver = chosen(self, X, objective)
        if solver in PLAIN:
            W = np.zeros((X.shape[0], len(H)), X.dtype)
            if solver == "mu":
                W += np.sqrt(X.mean() / len(H))
            start = W, H.astype(X.dtype, copy=False)
            return by_plain(self, X, objective, solver, start, both=False)
        solver, result = self._made(solver), getattr(self, "result_", None)
        found = rows(self, result, X, H, objective, solver)
        return self._fit(X, found.W, H.astype(X.dtype), found.iterations, solver)

    def _fit(self, X: Any, W: Any, H: Any, iterations: int, solver: Any) -> Fit:
        error = partial(reconstruction_error, X, W, H, self._loss(), solver, self.mask)
        return Fit(W, H, iterations, error)

    def _made(self, solver: Any) -> Any:
        """A solver of jaxnmf's own."""
        if not isinstance(solver, str):
            return make_solver(solver)
        return make_solver(solver, self.solver_options)

    @property
    def _signed(self) -> bool:
        """Whether the solver takes data of any sign."""
        if isinstance(self.solver, str) and self.solver in ("auto", *PLAIN):
            return False
        return "V" in self._made(self.solver).supports.signed

    def _loss(self) -> Loss:
        loss = self.beta_loss
        if isinstance(loss, numbers.Real):
            return beta_divergence(float(loss))
        return make_loss(loss, self.loss_options)

    def _objective(self, X: Any) -> Objective:
        """What is minimised for X."""
        l1_W, l1_H, l2_W, l2_H = self._compute_regularization(X)
        return Objective.of(
            self._loss(),
            l1=(l1_W, l1_H),
            l2=(l2_W, l2_H),
            toward=self.toward,
            constraints=self.constraints,
            known_H=self.known_H,
            graph=self.graph,
            graph_weight=self.graph_weight,
        )

    def _seed(self) -> int:
        if isinstance(self.random_state, numbers.Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(MOST_SEEDS))

    def _checked(self, X: Any, *, reset: bool) -> Any:
        """X as scikit-learn has it."""
        signed = self._signed
        return checked_data(self, X, mask=self.mask, signed=signed, reset=reset)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self.mask is None
        tags.input_tags.positive_only = not self._signed
        tags.input_tags.allow_nan = self.mask is not None
        return tags
