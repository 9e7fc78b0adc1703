"""`MiniBatchNMF` with scikit-learn's signature."""

from __future__ import annotations

import dataclasses
import warnings
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import config_context, decomposition
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from jaxnmf.data.blocks import Blocks
from jaxnmf.data.convert import as_operand, check_values
from jaxnmf.data.sparse import Sparse
from jaxnmf.estimators.data import suited_to
from jaxnmf.objective.losses import beta_divergence
from jaxnmf.objective.penalties import Penalty
from jaxnmf.objective.problem import Problem
from jaxnmf.padding import grown, may_share, next_size, shared, unpadded
from jaxnmf.run.plain import dropped, splitter, updater, value
from jaxnmf.run.programs import (
    compiled,
    compiled_quickly,
    note_iterations,
    precision,
)
from jaxnmf.shapes import Array, Float
from jaxnmf.types import Factors, FreeFactor, Scalar

ACCEPTED: dict[str, Any] = {
    "accept_sparse": ("csr", "csc"),
    "dtype": [np.float64, np.float32],
}


class Online(NamedTuple):
    """What H is updated from: decayed sums of numerators and denominators."""

    numerator: Float[Array, "p n"]
    denominator: Float[Array, "p n"]
    decay: Scalar


class MiniBatchNMF(decomposition.MiniBatchNMF):
    """NMF by batches of rows, in place of `sklearn.decomposition.MiniBatchNMF`.

    The objective, parameters, attributes, stop rules and warnings are scikit-learn's;
    the updates are compiled. For a batch X of b of the m rows, with the split gradients
    plus − minus of its penalised loss and the exponent γ of the loss,

    - W ← W ∘ (minus / plus)^γ,
    - A ← r A + H^(1/γ) ∘ minus, B ← r B + plus,
    - H ← (A / B)^γ,

    where r = ``forget_factor`` ^ (b / m). It works and answers in float32 for X in
    float32, in float64 for all else; sparse X is not made dense.

    Args:
      n_components, init, beta_loss: as for `jaxnmf.NMF` with solver "mu".
      alpha_W, alpha_H, l1_ratio, random_state, verbose: as there.
      tol, max_iter: when to stop: tol bounds the relative change of H in one step,
        max_iter counts passes over X.
      batch_size: rows in each batch.
      max_no_improvement: steps without an improvement of the smoothed cost after which
        it stops; None for no such rule.
      forget_factor: the weight of the past after one pass over X, from 0 to 1.
      fresh_restarts: solve for the W of each batch from a constant start.
      fresh_restarts_max_iter, transform_max_iter: the most updates of W in that, and in
        `transform` (``max_iter`` by default).

    Attributes:
      components_: H (p, n).
      n_components_: the number of components.
      reconstruction_err_: √(2 D(X | WH)) without penalties.
      n_iter_: the number of passes over X.
      n_steps_: the number of batches.
      n_features_in_: the number of columns of V.
      feature_names_in_: the names of the columns of X, where it has some.

    Raises:
      ValueError: by ``fit``, for anything that does not fit.

    Example:
      >>> import numpy as np, jaxnmf
      >>> X = np.random.default_rng(0).random((90, 20))
      >>> model = jaxnmf.MiniBatchNMF(4, batch_size=30, tol=0.01, random_state=0)
      >>> model.fit_transform(X).shape, model.components_.shape
      ((90, 4), (4, 20))

    Reference: Lefèvre, Bach & Févotte, "Online algorithms for nonnegative matrix
    factorization with the Itakura-Saito divergence", WASPAA (2011) [Lefevre2011].
    """

    def fit_transform(self, X: Any, y: Any = None, W: Any = None, H: Any = None) -> Any:
        """Fit the model to X, and return W (m, p).

        Args:
          X: (m, n), non-negative; of `jaxnmf.Blocks` a batch is a block, in place of
            ``batch_size`` rows, and the start is "random".
          y: ignored.
          W, H: the start, with init="custom".
        """
        if not isinstance(X, Blocks):
            return super().fit_transform(X, y, W=W, H=H)
        self._validate_params()
        with config_context(assume_finite=True):
            return self._fit_blocks(X, W, H)

    def partial_fit(self, X: Any, y: Any = None, W: Any = None, H: Any = None) -> Any:
        """Update the model by X as one batch, or by each block of `jaxnmf.Blocks`."""
        if not isinstance(X, Blocks):
            return super().partial_fit(X, y, W=W, H=H)
        for rows, block in X.each():
            super().partial_fit(block, W=None if W is None else W[rows], H=H)
        return self

    def transform(self, X: Any) -> Any:
        """W (r, p) of new rows X (r, n), block by block where X is `jaxnmf.Blocks`."""
        if not isinstance(X, Blocks):
            return super().transform(X)
        return np.concatenate(
            [super(MiniBatchNMF, self).transform(x) for _, x in X.each()]
        )

    def _fit_blocks(self, X: Blocks, W: Any, H: Any) -> np.ndarray:
        """`fit_transform` of scikit-learn, with blocks for batches."""
        survey, first = X.survey(), X.block(0)
        check_values(survey.low, survey.high, X.shape, signed=False)
        checked: Any = validate_data(self, first, **ACCEPTED)
        self._check_params(checked)
        # As large a share of the rows as a block has.
        height = int(np.diff(survey.starts).max())
        self._rho = self.forget_factor ** (height / X.shape[0])
        dtype = checked.dtype
        W, H = self._started_blocks(X, W, H, dtype)
        self._components_numerator = H.copy()
        self._components_denominator = np.ones_like(H)
        self._ewa_cost = self._ewa_cost_min = None
        self._no_improvement = 0
        done, steps = 0, self.max_iter * len(X)
        before, stopped = H.copy(), False
        while done < steps and not stopped:
            for rows, block in X.each():
                block = validate_data(self, block, reset=False, **ACCEPTED)
                cost = self._minibatch_step(block, W[rows], H, True)
                progress = (X.shape[0], done, steps)
                done += 1
                if self._minibatch_convergence(block, cost, H, before, *progress):
                    stopped = True
                    break
                before[:] = H
        self.components_, self.n_components_ = H, len(H)
        self.n_steps_, self.n_iter_ = done, -(-done // len(X))
        if self.n_iter_ == self.max_iter and self.tol > 0:
            warnings.warn(
                f"Maximum number of iterations {self.max_iter} reached. Increase it to "
                "improve convergence.",
                ConvergenceWarning,
                stacklevel=3,
            )
        off = 0.0
        for rows, block in X.each():
            block = validate_data(self, block, reset=False, **ACCEPTED)
            if self.fresh_restarts:
                W[rows] = self._solve_W(block, H, self._transform_max_iter)
            off += self._divergence(block, W[rows], H)
        self.reconstruction_err_ = float(np.sqrt(2 * max(off, 0.0)))
        return W

    def _started_blocks(self, X: Blocks, W: Any, H: Any, dtype: Any) -> Any:
        """(W, H) to start from: scikit-learn's random ones, or those given."""
        m, n = X.shape
        if self.init == "custom":
            like = SimpleNamespace(shape=X.shape, dtype=dtype)
            W, H = self._check_w_h(like, W, H, True)
            return W.copy(), H.copy()
        if self.init not in (None, "random"):
            raise ValueError(
                f"init={self.init!r} needs X in memory; of jaxnmf.Blocks a start is "
                "'random' or 'custom'"
            )
        p: Any = n if self._n_components == "auto" else self._n_components
        drawn = check_random_state(self.random_state)
        level = np.sqrt(X.survey().total / (m * n) / p)
        H = np.abs(level * drawn.standard_normal((p, n)).astype(dtype))
        W = np.abs(level * drawn.standard_normal((m, p)).astype(dtype))
        return W.astype(dtype, copy=False), H.astype(dtype, copy=False)

    def _divergence(self, X: Any, W: Any, H: Any) -> float:
        """D(X | WH) of a batch."""
        with precision(X.dtype):
            problem, factors, program_of = self._problem(X, W.T, H)
            return float(program_of(value, problem, factors)[0](problem, factors))

    def _solve_W(self, X: Any, H: Any, max_iter: int) -> np.ndarray:
        """W of a batch by multiplicative updates from a constant."""
        with precision(X.dtype) as dtype:
            problem, factors, program_of = self._problem(X, self._constant(X, H), H)
            arguments = (problem, factors, *self._limits(max_iter, dtype))
            program, _ = program_of(_rows, *arguments)
            done, found = program(*arguments)
            note_iterations(program, int(done))
        return np.array(found)[: len(H), : X.shape[0]].T.copy()

    def _minibatch_step(self, X: Any, W: Any, H: Any, update_H: bool) -> float:
        """Update W and H, in place, by one batch; returns its cost for each row."""
        fresh = W is None or self.fresh_restarts
        with precision(X.dtype) as dtype:
            Wt = self._constant(X, H) if fresh or W is None else W.T
            problem, factors, program_of = self._problem(X, Wt, H)
            sums = (self._components_numerator, self._components_denominator)
            sums = (grown(x, factors.H.shape) for x in sums)
            online = Online(*sums, np.asarray(self._rho, dtype))  # pyright: ignore
            limits = self._limits(self.fresh_restarts_max_iter, dtype)
            arguments = (problem, factors, online, *limits)
            program, _ = program_of(STEPS[fresh], *arguments)
            factors, online, cost = program(*arguments)
            note_iterations(program, 1)
        own = unpadded(factors, len(H), X.shape)
        if W is not None:
            W[:] = own.Wt.T
        if update_H:
            H[:] = own.H
            p, n = H.shape
            self._components_numerator = np.array(online.numerator)[:p, :n]
            self._components_denominator = np.array(online.denominator)[:p, :n]
        return float(cost) / X.shape[0]

    def _constant(self, X: Any, H: Any) -> np.ndarray:
        """Wt to start from, of one value."""
        level = np.sqrt(X.mean() / len(H))
        return np.full((len(H), X.shape[0]), level, X.dtype)

    def _limits(self, max_iter: int, dtype: Any) -> tuple[Any, Any]:
        """When updates of W alone stop."""
        return np.asarray(self.tol, dtype), np.int32(max_iter)

    def _problem(self, X: Any, Wt: Any, H: Any) -> tuple[Problem, Factors, Any]:
        """The problem of a batch and its factors, padded where it is small, and the
        function that compiles for it."""
        l1_W, l1_H, l2_W, l2_H = self._compute_regularization(X)
        loss = beta_divergence(self._beta_loss)
        operand = as_operand(suited_to(X, loss), X.dtype)
        penalties = (Penalty(l1=l1_W, l2=l2_W), Penalty(l1=l1_H, l2=l2_H))
        problem = Problem.of(operand, loss, penalties=penalties)
        factors, quick = Factors(Wt, H), False
        if may_share(problem, None, len(H)):
            problem, factors, quick = shared(problem, factors)
        elif isinstance(operand, Sparse):
            # Batches of about as many stored entries share a program.
            roomy = operand.with_room(next_size(operand.entries))
            problem = dataclasses.replace(problem, operand=roomy)
        return problem, factors, compiled_quickly if quick else compiled


def _rows(
    problem: Problem, factors: Factors, tol: Any, max_iter: Any
) -> tuple[Any, FreeFactor]:
    """Multiplicative updates of W alone until it hardly changes: their number, W."""
    Wt, H = factors
    update = updater(problem.T, H)

    def going(carry: Any) -> Array:
        done, _, change = carry
        return (done < max_iter) & ((tol <= 0) | (change > tol))

    def iterate(carry: Any) -> Any:
        done, Wt, _ = carry
        new = update(Wt)
        return done + 1, new, jnp.linalg.norm(new - Wt) / jnp.linalg.norm(new)

    far = jnp.full((), jnp.inf, Wt.dtype)
    return jax.lax.while_loop(going, iterate, (jnp.int32(0), Wt, far))[:2]


def _step(
    problem: Problem,
    factors: Factors,
    online: Online,
    tol: Any,
    max_iter: Any,
    *,
    fresh: bool,
) -> tuple[Factors, Online, Scalar]:
    """One step of a batch, and its cost before the update of H."""
    Wt, H = factors
    beta, gamma = problem.loss.beta, problem.loss.mu_exponent
    if fresh:
        Wt = _rows(problem, factors, tol, max_iter)[1]
    else:
        Wt = updater(problem.T, H)(Wt)
    Wt = dropped(problem.T, Wt) if beta < 1 else Wt
    cost = value(problem, Factors(Wt, H))
    for X, penalty in zip((Wt, H), problem.penalties, strict=True):
        cost = cost + penalty.l1 * X.sum() + penalty.l2 * (X * X).sum()
    minus, plus = splitter(problem, Wt)(H)
    if beta == 1:
        # As in scikit-learn: a batch of zeros would else leave H as it is, which counts
        # as convergence.
        plus = jnp.where(Wt.any(1, keepdims=True), plus, plus + 1)
    A = online.decay * online.numerator + minus * H ** (1 / gamma)
    B = online.decay * online.denominator + plus
    H = jnp.where(B > 0, A / jnp.where(B > 0, B, 1), 0) ** gamma
    H = problem.project.hold(H)
    H = dropped(problem, H) if beta <= 1 else H
    return Factors(Wt, H), Online(A, B, online.decay), cost


STEPS = {fresh: partial(_step, fresh=fresh) for fresh in (True, False)}
