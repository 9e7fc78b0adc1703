"""Displacement: how far an entry of H moves before the objective rises."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnmf.build import Objective, Start
from jaxnmf.data.known import Known
from jaxnmf.factorize import run_factorize
from jaxnmf.kernels.coordinate import sweep, sweeps
from jaxnmf.objective.problem import Problem
from jaxnmf.result import Result
from jaxnmf.run.stop import Stop
from jaxnmf.shapes import Array, Float
from jaxnmf.solvers.base import QUADRATIC, Supports
from jaxnmf.sweeps.sweep import run_sweep
from jaxnmf.types import Factors, State, pytree
from jaxnmf.uncertainty.intervals import (
    Pair,
    Uncertainty,
    scaled_result,
    shares_of_variance,
)

ROUNDS = 12  # of refits that bracket a displacement
NEAR = 0.02  # of dQ, that the rise of the objective may be off
SWEEPS = 2  # over the rows of H for each Gram matrix
PIECES = 20  # steps of Newton's method for the nearest row of a share


@pytree
class Displaced:
    """HALS with one entry of H held at a share of its row, H_kj = t Σ_l H_kl.

    An entry alone cannot be held: the other entries of its row and its column of W
    would take the scale up, at no rise of the objective. Coordinate descent on the rows
    of H is exact with this constraint, too: the minimiser of a row is the projection of
    its unconstrained one on {h ≥ 0, h_j = t Σ h}.

    Attributes:
      component, column, share: k, j and t.
    """

    name: ClassVar[str] = "displaced"
    supports: ClassVar[Supports] = QUADRATIC
    component: float | jax.Array = 0.0
    column: float | jax.Array = 0.0
    share: float | jax.Array = 0.0

    def init(self, problem: Problem, factors: Factors, key: jax.Array) -> State:
        del problem, factors, key
        return ()

    def step(
        self, problem: Problem, factors: Factors, state: State
    ) -> tuple[Factors, State]:
        Wt, H = factors
        k = jnp.asarray(self.component, jnp.int32)
        gram, cross = problem.quadratic(Wt)
        here = (jnp.arange(len(H), dtype=jnp.int32) == k)[:, None]
        size = gram.diagonal[k, 0]

        def pass_over(_: Any, H: Any) -> Any:
            # The other rows, this one held; then this one.
            free = problem.project.held
            held = jnp.where(here, H, jnp.nan if free is None else free)
            project = dataclasses.replace(problem.project, held=held)
            others = dataclasses.replace(
                problem, projects=(problem.projects[0], project)
            )
            H = sweep(others, gram, cross, H)
            best = H[k] + (cross[k] - gram[k] @ H) / jnp.where(size > 0, size, 1)
            return H.at[k].set(self.nearest(best))

        H = jax.lax.fori_loop(0, SWEEPS, pass_over, H)
        gram, cross = problem.T.quadratic(H)
        return Factors(sweeps(problem.T, gram, cross, Wt, 0), H), state

    def nearest(self, row: Float[Array, " n"]) -> Float[Array, " n"]:
        """The projection of a row on {h ≥ 0, h_j = t Σ h}.

        With τ = t / (1 − t), the others are (x − τθ)₊ where θ = τ Σ(x − τθ)₊ − x_j:
        the root of an increasing, concave and piecewise linear function of θ, by
        Newton's method.
        """
        j = jnp.asarray(self.column, jnp.int32)
        tau = self.share / (1 - self.share)
        at = jnp.arange(len(row), dtype=jnp.int32) == j
        own, rest = row[j], jnp.where(at, -jnp.inf, row)

        def newton(_: Any, theta: Any) -> Any:
            over = jnp.maximum(rest - tau * theta, 0)
            slope = 1 + tau**2 * (over > 0).sum(dtype=row.dtype)
            return theta - (theta + own - tau * over.sum()) / slope

        theta = jax.lax.fori_loop(0, PIECES, newton, -own)
        others = jnp.maximum(rest - tau * theta, 0)
        return jnp.where(at, tau * others.sum(), others)


def displaced(
    known: Known,
    rank: int,
    *,
    solver: Any,
    objective: Objective,
    start: Start,
    stop: Stop,
    level: float,
    dQ: float | None,
    dtype: Any,
    progress: bool | None,
) -> Uncertainty:
    """The intervals of a fit by displacement of the entries of H.

    The profile of each entry, min over everything else of the objective, is followed on
    both sides by regula falsi on its root, which is near a straight line, in rounds of
    refits that are lanes of one sweep. In double precision: dQ is a small part of the
    objective.

    An interval of W is that of the entry with H as it is and the others of its row
    fitted anew, from the Gram matrix of the components that are not 0 there.

    Args:
      Everything: as for `jaxnmf.uncertainty.estimate.uncertainty`, specified.
    """
    from scipy.stats import chi2

    del dtype
    common: dict[str, Any] = {"objective": objective, "dtype": "float64"}
    fine = Stop(max_iter=10 * int(stop.max_iter), tol=1e-14, settle=1e-9)
    result = run_factorize(
        known, rank, solver=solver, start=start, stop=fine, progress=False, **common
    )
    result = scaled_result(result)
    m, n = known.V.shape
    if dQ is None:
        free = m * n - rank * (m + n - rank)
        if free <= 0:
            raise ValueError(
                f"rank={rank}: a V of {m}×{n} has no residual to tell the noise by; "
                "give dQ"
            )
        variance = 2 * result.objective / free
        dQ = float(chi2.ppf(level, 1)) * variance / 2
    assert dQ is not None
    if not dQ > 0:
        raise ValueError("V is fitted exactly, without noise; give dQ > 0")
    search = _Search(known, result, dQ, common, int(stop.max_iter), progress)
    low, high = search.run()
    missing = np.full(rank, np.nan)
    W_low, W_high = rows_displaced(known, result, dQ)
    return Uncertainty(
        result=result,
        method="displacement",
        level=level,
        W_interval=(W_low, W_high),
        H_interval=(low, high),
        W_zero=W_low <= 0,
        H_zero=low <= 0,
        stability=missing,
        variance=shares_of_variance(result.W, result.H),
        variance_interval=(missing, missing),
    )


@dataclasses.dataclass(frozen=True)
class _Search:
    """The displacements of all entries of H, on both sides."""

    known: Known
    result: Result
    rise: float  # dQ
    common: Any
    max_iter: int
    progress: bool | None

    def run(self) -> Pair:
        """(low, high), each (p, n), of the shares."""
        H = self.result.H.astype(np.float64)
        p, n = H.shape
        # A side is (k, j, ±1): how far it can go, and the bracket of its displacement
        # d, with the roots of the rises in units of dQ.
        sign = np.array([-1.0, 1.0])
        centre = np.broadcast_to(H[..., None], (p, n, 2))
        most = np.where(sign < 0, centre, (1 - 1e-6) - centre)
        size = np.maximum((self.result.W.astype(np.float64) ** 2).sum(0), 1e-300)
        inside, at_inside = np.zeros((2, p, n, 2))
        outside, at_outside = most.copy(), np.full((p, n, 2), np.nan)
        d = np.minimum(np.sqrt(2 * self.rise / size)[:, None, None], most)
        open_ = (most > 1e-9) & (H.sum(1) > 0)[:, None, None]
        d = np.where(open_, d, 0.0)
        for _ in range(ROUNDS):
            sides = np.argwhere(open_)
            if not len(sides):
                break
            at = tuple(sides.T)
            shares = np.clip(centre[at] + sign[sides[:, 2]] * d[at], 0.0, 1 - 1e-6)
            rise = self._rises(sides[:, 0], sides[:, 1], shares)
            f = np.sqrt(np.maximum(rise, 0) / self.rise)
            below = f < 1
            inside[at] = np.where(below, d[at], inside[at])
            at_inside[at] = np.where(below, f, at_inside[at])
            outside[at] = np.where(below, outside[at], d[at])
            at_outside[at] = np.where(below, at_outside[at], f)
            ended = (np.abs(f**2 - 1) < NEAR) | (below & (d[at] >= most[at]))
            open_[at] = ~ended
            bracketed = ~np.isnan(at_outside[at])
            a, b, fa, fb = inside[at], outside[at], at_inside[at], at_outside[at]
            with np.errstate(invalid="ignore"):
                share = (1 - fa) / (fb - fa)
            between = a + np.clip(share, 0.05, 0.95) * (b - a)
            further = d[at] * np.clip(1 / np.maximum(f, 0.1), 1.1, 10)
            new = np.where(bracketed, between, np.minimum(further, most[at]))
            d[at] = np.where(ended, d[at], new)
        return (
            np.maximum(H - d[..., 0], 0.0),
            np.minimum(H + d[..., 1], 1.0),
        )

    def _rises(
        self, component: np.ndarray, column: np.ndarray, share: np.ndarray
    ) -> np.ndarray:
        """The objective of each refit over that of the fit."""
        names = "component", "column", "share"
        settings: list[dict[str, float]] = [
            dict(zip(names, map(float, one), strict=True))
            for one in zip(component, column, share, strict=True)
        ]
        base = self.result.objective
        found = run_sweep(
            self.known,
            [len(self.result.H)],
            [0],
            solver=Displaced(),
            start=Start.of((self.result.W, self.result.H)),
            stop=Stop(
                max_iter=self.max_iter, tol=1e-14, settle=NEAR / 20 * self.rise / base
            ),
            settings=settings,
            progress=self.progress,
            **self.common,
        )
        if not found.complete:
            raise KeyboardInterrupt
        runs = [run for run in found.runs if run is not None]
        return np.array([float(run.trace.objective[-1]) for run in runs]) - base


def rows_displaced(known: Known, result: Result, dQ: float) -> Pair:
    """(low, high) of W: where the objective of a row has risen by dQ, with the active
    components of the row fitted anew and H as it is."""
    W, H = (x.astype(np.float64) for x in (result.W, result.H))
    gram = H @ H.T
    slope = np.maximum(W @ gram - known.V @ H.T, 0)
    low, high = np.zeros_like(W), np.zeros_like(W)
    identity = np.eye(len(H))
    for k in range(len(H)):
        active = W > 0
        active[:, k] = True
        both = active[:, :, None] & active[:, None, :]
        inverse = np.linalg.pinv(np.where(both, gram, identity), hermitian=True)
        curvature = 1 / np.maximum(inverse[:, k, k], 1e-300)
        # Of an entry at 0 the objective rises with a slope.
        g = np.where(W[:, k] > 0, 0, slope[:, k])
        high[:, k] = W[:, k] + (np.sqrt(g**2 + 2 * curvature * dQ) - g) / curvature
        low[:, k] = np.maximum(W[:, k] - np.sqrt(2 * dQ / curvature), 0)
    return low, high
