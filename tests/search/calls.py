"""Whole calls of `jaxnmf.factorize`, drawn at random, and what must be true of each.

A call is data of some kind, scale, sparsity and defect, with a loss, a solver and
options. What it returns is held against float64 NumPy.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.sparse
from cases import BETAS, divergences
from hypothesis import strategies as st

import jaxnmf
from jaxnmf import registry

# Few, so that calls share programs.
SHAPES = ((9, 7), (6, 11), (1, 8), (8, 1))
RANKS = (1, 2, 4)
DEFECTS = (
    "none", "none", "none", "zero row", "zero column", "all zero", "constant",
    "rank one", "huge entry", "tiny entry", "equal rows", "NaN", "infinite", "negative",
)  # fmt: skip
REFUSED = {"NaN", "infinite", "negative"}
DENSE_FORMS = (
    "float64",
    "float32",
    "Fortran",
    "integers",
    "frame",
    "jax",
    "list",
    "strided",
)
SPARSE_FORMS = (
    "csr_array",
    "csc_array",
    "coo_array",
    "csr_matrix",
    "duplicates",
    "explicit zeros",
)
OBSERVED_FORMS = ("mask", "weights", "nan", "Observed")


FORMS = {"dense": DENSE_FORMS, "sparse": SPARSE_FORMS, "observed": OBSERVED_FORMS}
# The solvers that support a kind of data and a loss.
FITS = {
    (kind, loss): tuple(
        name
        for name in registry.solvers()
        if (supports := registry.solver_class(name).supports).includes(
            registry.make_loss(loss)
        )
        and kind in supports.operands
        and not supports.symmetric
    )
    for kind in FORMS
    for loss in BETAS
}


@dataclasses.dataclass(frozen=True)
class Call:
    """A call, as Hypothesis shows it."""

    seed: int
    shape: tuple[int, int]
    kind: str
    form: str
    scale: int  # power of ten
    density: float
    defect: str
    solver: str
    loss: str
    rank: int
    init: str
    l1: float
    l2: float
    dtype: str
    max_iter: int
    tol: float
    constraint: str

    @property
    def penalties(self) -> tuple[float, float]:
        """(l1, l2) in the units of V, which they must have to be of any weight."""
        unit = 1.0 if self.form == "integers" else 10.0**self.scale
        beta = BETAS[self.loss]
        return self.l1 * unit ** (beta - 0.5), self.l2 * unit ** (beta - 1)


@st.composite
def calls(draw: Any) -> Call:
    kind = draw(st.sampled_from(("dense", "dense", "sparse", "observed")))
    loss = draw(st.sampled_from(sorted(BETAS)))
    solver = draw(st.sampled_from(FITS[kind, loss] or ("hals",)))
    constraints = sorted(registry.solver_class(solver).supports.constraints)
    scale = draw(st.sampled_from((0, 0, 0, 3, -3, 8, -8, 15, -15, 25, -25)))
    # A bound on the factors has a scale of its own.
    bounded = constraints if abs(scale) <= 8 else ()
    constraints = ("nonnegative", "nonnegative", *bounded)
    return Call(
        seed=draw(st.integers(0, 9999)),
        shape=draw(st.sampled_from(SHAPES)),
        kind=kind,
        form=draw(st.sampled_from(FORMS[kind])),
        scale=scale,
        density=draw(st.sampled_from((1.0, 0.6, 0.2))),
        defect=draw(st.sampled_from(DEFECTS)),
        solver=solver,
        loss=loss,
        rank=draw(st.sampled_from(RANKS)),
        init=draw(st.sampled_from(("random", "random", "nndsvda", "pair"))),
        l1=draw(st.sampled_from((0.0, 0.0, 0.1))),
        l2=draw(st.sampled_from((0.0, 0.0, 0.1))),
        dtype=draw(st.sampled_from(("float32", "float32", "float64"))),
        max_iter=draw(st.sampled_from((1, 20, 200))),
        tol=draw(st.sampled_from((0.0, 1e-4))),
        constraint=draw(st.sampled_from(constraints)),
    )


def data(call: Call) -> tuple[np.ndarray, np.ndarray]:
    """(V, weights) in float64, the weights 0 where an entry is unknown."""
    rng = np.random.default_rng(call.seed)
    m, n = call.shape
    V = rng.gamma(1.0, size=(m, 3)) @ rng.gamma(1.0, size=(3, n))
    V = V * rng.uniform(0.5, 1.5, (m, n)) + 1e-3
    if call.defect == "rank one":
        V = np.outer(V[:, 0], V[0])
    if call.defect == "equal rows":
        V[:] = V[0]
    if call.loss != "itakura-saito" or call.kind == "sparse":
        V = V * (rng.random((m, n)) < call.density)
    if call.defect == "constant":
        V[:] = 1.0
    i, j = rng.integers(m), rng.integers(n)
    if call.defect == "all zero":
        V[:] = 0
    elif call.defect == "zero row":
        V[i] = 0
    elif call.defect == "zero column":
        V[:, j] = 0
    elif call.defect == "huge entry":
        V[i, j] = 1e6
    elif call.defect == "tiny entry":
        V[i, j] = 1e-9
    V = V * 10.0**call.scale
    if call.form == "integers":
        V = np.round(V / 10.0**call.scale)
    if call.dtype == "float32" or call.form in ("float32", "jax"):
        V = V.astype(np.float32).astype(np.float64)  # what the call can see
    V[i, j] = {"NaN": np.nan, "infinite": np.inf, "negative": -1.0}.get(
        call.defect, V[i, j]
    )
    weights = np.ones_like(V)
    if call.kind == "observed":
        weights = (rng.random((m, n)) < 0.7).astype(float)
        weights[i, j] = 1.0
        if call.form == "weights":
            weights *= rng.integers(1, 4, (m, n)) / 2
    return V, weights


def given(call: Call, V: np.ndarray, weights: np.ndarray) -> tuple[Any, dict[str, Any]]:
    """(V, further arguments) in the form of the call."""
    rows, columns = np.nonzero(weights)
    hidden = np.where(weights > 0, V, np.nan)
    made: dict[str, Any] = {
        "float64": lambda: V,
        "float32": lambda: V.astype(np.float32),
        "Fortran": lambda: np.asfortranarray(V),
        "integers": lambda: V.astype(np.int64) if np.isfinite(V).all() else V,
        "frame": lambda: pd.DataFrame(V),
        "jax": lambda: jnp.asarray(V, np.float32),
        "list": lambda: V.tolist(),
        "strided": lambda: np.repeat(V, 2, 0)[::2],
        "csr_array": lambda: scipy.sparse.csr_array(V),
        "csc_array": lambda: scipy.sparse.csc_array(V),
        "coo_array": lambda: scipy.sparse.coo_array(V),
        "csr_matrix": lambda: scipy.sparse.csr_matrix(V),
        "duplicates": lambda: halves(V),
        "explicit zeros": lambda: with_zeros(V),
        "mask": lambda: V,
        "weights": lambda: V,
        "nan": lambda: hidden,
        "Observed": lambda: jaxnmf.Observed(rows, columns, V[rows, columns], V.shape),
    }
    more: dict[str, Any] = {
        "mask": {"mask": weights > 0},
        "weights": {"mask": weights},
        "nan": {"mask": "nan"},
    }.get(call.form, {})
    return made[call.form](), more


def halves(V: np.ndarray) -> Any:
    """V with every entry stored twice, by its half."""
    rows, columns = np.nonzero(V)
    values = V[rows, columns] / 2
    twice = (np.tile(rows, 2), np.tile(columns, 2))
    return scipy.sparse.coo_array((np.tile(values, 2), twice), shape=V.shape)


def with_zeros(V: np.ndarray) -> Any:
    """V with some of its zeros stored."""
    stored = (V != 0) | (np.arange(V.size).reshape(V.shape) % 3 == 0)
    rows, columns = np.nonzero(stored)
    return scipy.sparse.csr_array((V[rows, columns], (rows, columns)), shape=V.shape)


def reference(
    call: Call, V: np.ndarray, weights: np.ndarray, W: np.ndarray, H: np.ndarray
) -> float:
    """The objective in float64, over all entries."""
    known = weights > 0
    # A row or column of which nothing is known has the mean of the others.
    W, H = W * known.any(1)[:, None], H * known.any(0)
    v, x, w = V[known], (W @ H)[known], weights[known]
    l1, l2 = call.penalties
    with np.errstate(all="ignore"):
        fit = float((w * divergences(BETAS[call.loss], v, x)).sum())
    return fit + sum(l1 * X.sum() + 0.5 * l2 * (X**2).sum() for X in (W, H))


def check(call: Call) -> str:
    """Make a call and check it; returns how it ended, raises AssertionError."""
    V, weights = data(call)
    argument, more = given(call, V, weights)
    before = argument.copy() if isinstance(argument, np.ndarray) else None
    rng = np.random.default_rng(call.seed + 1)
    (m, n), p = call.shape, call.rank
    init: Any = call.init
    if init == "pair":
        size = np.sqrt(max(float(np.nanmean(np.abs(V[np.isfinite(V)]))), 1e-30) / p)
        init = size * rng.random((m, p)) + 0.1 * size, size * rng.random((p, n))
        if call.loss == "itakura-saito":
            init = init[0], init[1] + 0.1 * size
    l1, l2 = call.penalties
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "rank: . components for")
        try:
            found = jaxnmf.factorize(
                argument, p, solver=call.solver, loss=call.loss, init=init,
                seed=call.seed, l1=l1, l2=l2, dtype=call.dtype,
                max_iter=call.max_iter, tol=call.tol, constraints=call.constraint,
                progress=False, **more,
            )  # fmt: skip
        except ValueError as error:
            text = str(error)
            assert len(text) > 15, text
            assert "Traceback" not in text
            return f"refused: {text[:60]}"
    if before is not None:
        assert np.array_equal(before, argument, equal_nan=True), "V was changed"
    hidden = call.kind == "observed" and call.form == "nan" and call.defect == "NaN"
    signed = "V" in registry.solver_class(call.solver).supports.signed
    fits = hidden or (signed and call.defect == "negative")
    assert call.defect not in REFUSED or fits, f"{call.defect} was not refused"
    if hidden:
        weights = np.where(np.isnan(V), 0, weights)
    return holds(call, found, V, weights)


def holds(call: Call, found: Any, V: np.ndarray, weights: np.ndarray) -> str:
    """What must be true of a result."""
    cls: Any = registry.solver_class(call.solver)
    signed = cls.supports.signed
    W, H = (np.asarray(X, np.float64) for X in (found.W, found.H))
    assert W.shape == (call.shape[0], call.rank)
    assert H.shape == (call.rank, call.shape[1])
    assert np.isfinite(W).all(), "W is not finite"
    assert np.isfinite(H).all(), "H is not finite"
    for name, X in (("W", W), ("H", H)):
        assert name in signed or (X >= 0).all(), f"{name} is negative"
    if call.constraint == "box":
        assert max(W.max(), H.max()) <= 1 + 1e-6
    if call.constraint == "simplex":
        np.testing.assert_allclose(W.sum(1), 1, atol=1e-4)
        np.testing.assert_allclose(H.sum(0), 1, atol=1e-4)
    assert found.iterations <= call.max_iter
    status = str(found.status)
    if status == "diverged":
        assert not cls.monotone, f"{call.solver} diverged"
        return status
    expected = reference(call, V, weights, W, H)
    size = (
        reference(call, V, weights, 0 * W, 0 * H)
        if call.loss != "itakura-saito"
        else V.size
    )
    size = size if np.isfinite(size) else float(np.abs(V[weights > 0]).sum())
    # A V of zeros has no size but that of the start.
    size = size or float(found.trace.objective[0])
    slack = 1e-12 * size if call.dtype == "float32" else 1e-20 * size
    if call.kind == "sparse":  # what is not stored is a difference
        slack = max(slack, 1e-15 * size)
    # What is below the smallest number of the precision, in the units of V, is 0.
    smallest = float(np.finfo(call.dtype).tiny)
    slack += 10 * smallest * 10.0 ** (V.any() * call.scale * BETAS[call.loss])
    reported = float(found.objective)
    assert np.isfinite(reported), f"objective={reported}"
    assert reported >= 0 or "V" in signed, f"objective={reported}"
    assert abs(reported - expected) <= 2e-4 * abs(expected) + slack, (
        f"objective {reported!r} for {expected!r}"
    )
    trace = np.asarray(found.trace.objective, np.float64)
    assert np.isfinite(trace).all(), f"trace {trace}"
    if cls.monotone:
        # Systems whose matrix is nearly singular are solved to some 1e-5.
        rounding = (2e-5 if call.dtype == "float32" else 1e-12) * trace[:-1] + slack
        assert (np.diff(trace) <= rounding).all(), f"trace rises: {trace}"
    if call.loss == "frobenius" and call.kind != "observed" and (V**2).sum() > 0:
        error = float(np.sqrt(((V - W @ H) ** 2).sum() / (V**2).sum()))
        assert abs(found.relative_error - error) <= 2e-4 * error + 1e-6, (
            f"relative_error {found.relative_error!r} for {error!r}"
        )
        exact = call.solver in ("hals", "extrapolated", "anls-bpp")
        plain = call.constraint == "nonnegative" and not (call.l1 or call.l2)
        if (
            call.rank == 1
            and exact
            and plain
            and call.max_iter == 200
            and call.tol == 0
        ):
            # A non-negative matrix has a non-negative first pair of singular vectors.
            singular = np.linalg.svd(V, compute_uv=False)
            best = float(np.sqrt((singular[1:] ** 2).sum() / (singular**2).sum()))
            gap = singular[1] / singular[0] if len(singular) > 1 else 0.0
            assert gap > 0.9 or error <= 1.001 * best + 1e-5, (
                f"error {error!r} at rank one, {best!r} by the SVD"
            )
    return status
