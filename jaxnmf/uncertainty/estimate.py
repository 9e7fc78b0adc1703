"""`uncertainty`: intervals for every entry of the factors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from jaxnmf._util.checks import check_amount, check_count, is_number
from jaxnmf._util.names import lookup
from jaxnmf.auto import AUTO, chosen_solver
from jaxnmf.build import Objective, Start
from jaxnmf.data.blocks import check_in_memory
from jaxnmf.data.containers import names_of
from jaxnmf.data.known import what_is_known
from jaxnmf.factorize import run_factorize
from jaxnmf.run.stop import Stop
from jaxnmf.uncertainty.result import Uncertainty

SETTLE = 1e-4  # share of what noise moves the objective by, per ten iterations


def uncertainty(
    V: Any,
    rank: int,
    *,
    method: str = "bootstrap",
    loss: Any = "frobenius",
    replicates: int = 200,
    level: float = 0.9,
    seed: int = 0,
    start: str = "fitted",
    dQ: float | None = None,
    solver: Any = AUTO,
    init: Any = AUTO,
    max_iter: int = 1000,
    tol: float | None = None,
    l1: float | tuple[float, float] = 0.0,
    l2: float | tuple[float, float] = 0.0,
    mask: Any = None,
    dtype: Any = "float32",
    progress: bool | None = None,
    solver_options: Mapping[str, Any] | None = None,
    loss_options: Mapping[str, Any] | None = None,
) -> Uncertainty:
    r"""How sure the factors of V ≈ W H are: an interval for every entry.

    V is factorised, and so are replicates of it, all as lanes of one `jaxnmf.sweep`.
    The components of each replicate are scaled to Σ_j H_kj = 1 and matched one to one
    with those of the fit (Hungarian algorithm on the cosines of H). An interval holds
    the middle ``level`` of an entry's values. Where many entries are near zero it may
    cover the truth less often than that (the page on uncertainty has figures).

    - "bootstrap": rows of V drawn with replacement (Efron): for rows that are a sample,
      whatever the noise. A draw weights the rows, min Σ_i c_i D(v_i | w_i H), and the
      lanes share V. A row occurs once, so that its own noise is in no draw: W is
      fitted to every H with noise drawn anew, as by "residual".
    - "poisson": counts drawn from Poisson(W H).
    - "residual": the residuals of each column, drawn with replacement, onto W H. Those
      of the Frobenius loss as they are; of another β-divergence in units of
      (W H)^{1 − β/2}, and what falls below 0 is set to 0.
    - "displacement": how far an entry of H, as a share of its row, moves before the
      objective rises by dQ, with everything else fitted anew: a profile likelihood.
      It finds what rotations of the components leave open. Frobenius loss.

    Args:
      V: (m, n), as for `jaxnmf.factorize`, in memory.
      rank: p, the number of components.
      method: one of these names.
      loss, l1, l2, mask, dtype, solver, solver_options, loss_options: as for
        `jaxnmf.sweep`.
      replicates: how many; "displacement" has none.
      level: the confidence level, between 0 and 1.
      seed: of everything random.
      start: where replicates start. "fitted": from the factors of V, so that intervals
        are those of this minimum of the objective; a random start would mix the
        uncertainty with that of the solver, whose other minima
        ``jaxnmf.select_rank(V, ranks, method="consensus")`` shows. "random": from
        random factors, which does mix them.
      dQ: the rise of the objective of "displacement"; by default ½ σ² χ²(level), σ² the
        variance of the residuals and χ² the quantile with one degree of freedom.
      init: the start of the fit, as for `jaxnmf.factorize`.
      max_iter, tol: as for `factorize`, for the fit and all replicates. By default a
        run stops when ten iterations change the objective by a ten-thousandth of what
        noise moves it by, p / max(m, n) of itself.
      progress: show a line with the lanes done.

    Returns:
      An `Uncertainty`: ``result``, ``W_interval`` and ``H_interval`` (pairs low, high),
      ``W_zero`` and ``H_zero``, ``stability``, ``variance`` and ``variance_interval``.
      `jaxnmf.plots.intervals` draws it.

    Raises:
      ValueError: for an unknown method, a level that is not between 0 and 1 or needs
        more replicates, data or a loss that the method is not for, and all that
        `jaxnmf.factorize` refuses.
      KeyboardInterrupt: after Ctrl-C, for an interval needs every replicate.

    Memory: replicates × the size of W and, but for the bootstrap of a dense V's H,
    × the size of V, of which at most 1 GB at a time.

    Example:
      >>> import numpy as np, jaxnmf
      >>> rng = np.random.default_rng(0)
      >>> V = rng.gamma(0.5, size=(60, 3)) @ rng.gamma(0.5, size=(3, 20))
      >>> V = V * rng.uniform(0.9, 1.1, V.shape)
      >>> found = jaxnmf.uncertainty(V, 3, replicates=20)
      >>> low, high = found.H_interval
      >>> low.shape, bool((low <= high).all())
      ((3, 20), True)

    References: Efron, "Bootstrap methods: another look at the jackknife", Annals of
    Statistics 7 (1979) [Efron1979]; Paatero, Eberly, Brown & Norris, "Methods for
    estimating uncertainty in factor analytic solutions", Atmospheric Measurement
    Techniques 7 (2014) [Paatero2014], for displacement.
    """
    # Here, for `import jaxnmf` would else load sweeps and all ways to choose a rank.
    from jaxnmf.uncertainty.displacement import displaced
    from jaxnmf.uncertainty.intervals import of_replicates
    from jaxnmf.uncertainty.resampling import METHODS, Resampling, check_method

    check_in_memory("V", V, "a measure of uncertainty")
    lookup("method", method, dict.fromkeys((*METHODS, "displacement")))
    check_count("rank", rank)
    check_count("replicates", replicates)
    check_count("seed", seed, least=0)
    if not (is_number(level) and 0 < level < 1):
        raise ValueError(f"level={level!r} must be a number between 0 and 1")
    least = math.ceil(2 / (1 - level) - 1 - 1e-9)
    if method != "displacement" and replicates < least:
        raise ValueError(
            f"replicates={replicates}: an interval of level {level:g} leaves out one "
            f"on each side, which needs at least {least}"
        )
    if start not in ("fitted", "random"):
        raise ValueError(f"start={start!r} must be 'fitted' or 'random'")
    if dQ is not None:
        check_amount("dQ", dQ)
        if method != "displacement" or dQ == 0:
            raise ValueError(
                f"dQ={dQ!r} must be > 0, the rise of the objective of "
                f"method='displacement'; the method is {method!r}"
            )
    objective = Objective.of(loss, loss_options=loss_options, l1=l1, l2=l2)
    known = what_is_known(V, mask)
    given = solver, solver_options
    solver, usual = chosen_solver(*given, objective, known, rank, lanes=True)
    begin = Start.of(init, seed)
    if isinstance(init, str) and init == AUTO:
        begin = dataclasses.replace(begin, init=usual)
    stop = stop_rule(max_iter, tol, rank, known.V.shape)
    check_method(method, known, objective, solver)
    common: dict[str, Any] = {"objective": objective, "dtype": dtype}
    if method == "displacement":
        found = displaced(
            known, rank, solver=solver, start=begin, stop=stop, level=level, dQ=dQ,
            progress=progress, **common,
        )  # fmt: skip
        return found.named(names_of(V))
    result = run_factorize(
        known, rank, solver=solver, start=begin, stop=stop, progress=False, **common
    )
    if not result.W.any():
        raise ValueError("V is fitted by zeros: there is nothing to measure")
    resampling = Resampling(
        known=known,
        result=result,
        method=method,
        solver=solver,
        replicates=replicates,
        seed=seed,
        fitted=start == "fitted",
        stop=stop,
        progress=progress,
        **common,
    )
    W, H = resampling.factors()
    found = of_replicates(result, W, H, method=method, level=level)
    return found.named(names_of(V))


def stop_rule(
    max_iter: int, tol: float | None, rank: int, shape: tuple[int, int]
) -> Stop:
    """The rule of the fit and the replicates."""
    stop = Stop.of(max_iter, 1e-10 if tol is None else tol)
    if tol is not None:
        return stop
    # In float32 a change below a millionth of the objective is rounding.
    settle = max(1e-6, SETTLE * min(1.0, rank / max(shape)))
    return dataclasses.replace(stop, settle=settle)
