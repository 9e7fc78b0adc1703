"""`factorize`: one factorisation, from a user's data to a `Result`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnmf._util.checks import check_count
from jaxnmf._util.progress import progress_bar
from jaxnmf.auto import AUTO, chosen_solver
from jaxnmf.build import (
    Objective,
    Start,
    at_rank,
    draw_start,
    warn_of_scale,
)
from jaxnmf.data.known import Known, what_is_known
from jaxnmf.data.spread import is_spread
from jaxnmf.distributed.mesh import placed_problem, run_anywhere
from jaxnmf.distributed.processes import together
from jaxnmf.fold_in import Model
from jaxnmf.joint import data_of, of_views, start_of_views
from jaxnmf.objective.losses import Loss
from jaxnmf.objective.parts import check_parts, fully_known_side
from jaxnmf.objective.targets import check_weights
from jaxnmf.outcome import Unobserved
from jaxnmf.result import Result, to_result
from jaxnmf.run.folder import run_folder
from jaxnmf.run.programs import precision
from jaxnmf.run.stop import RECORD_EVERY, Stop
from jaxnmf.supported import warn_of_rank


def factorize(
    V: Any = None,
    rank: Any = None,
    *,
    views: Any = None,
    solver: Any = AUTO,
    loss: str | Loss | Callable[..., Any] | Sequence[Any] = "frobenius",
    init: str | Sequence[Any] = AUTO,
    seed: int | np.integer = 0,
    max_iter: int = 200,
    tol: float = 1e-4,
    kkt_tol: float = 0.0,
    target: float | None = None,
    time_budget: float | None = None,
    l1: float | tuple[float, float] = 0.0,
    l2: float | tuple[float, float] = 0.0,
    constraints: Any = "nonnegative",
    mask: Any = None,
    offsets: Any = False,
    toward: Any = "zero",
    known_W: Any = None,
    known_H: Any = None,
    covariates: Any = None,
    batch: Any = None,
    graph: Any = None,
    graph_weight: float | tuple[float, float] = 1.0,
    dtype: Any = "float32",
    record_every: int = RECORD_EVERY,
    kkt: bool = True,
    progress: bool | None = None,
    pad: bool = True,
    mesh: Any = None,
    checkpoint: str | Path | None = None,
    solver_options: Mapping[str, Any] | None = None,
    loss_options: Mapping[str, Any] | Sequence[Any] | None = None,
) -> Result:
    """Factorise V ≈ W H with W, H ≥ 0.

    min over W, H ≥ 0 of D(V | WH) + l1·ΣW + l1·ΣH + ½ l2·‖W‖² + ½ l2·‖H‖².

    Args:
      V: (m, n), non-negative and finite (of any sign for solvers such as "semi"): a
        NumPy or JAX array, a masked array (what is masked is unknown), what
        `jaxnmf.read` returns, a data frame of pandas or polars, AnnData, an array of
        xarray or of a package that shares its arrays by DLPack, SciPy sparse (what is
        not stored is zero), `jaxnmf.Blocks` (larger than memory), or
        `jaxnmf.Observed` (what is not given is unknown); or `jaxnmf.Views`, several
        matrices of the same rows.
      views: in place of V, [V1, V2, …] of the same rows, or `jaxnmf.Views` of them with
        weights ω_k. They share W: min Σ_k ω_k D_k(V_k | W H_k).
      rank: p, the number of components. There is a warning if it exceeds min(m, n),
        because the fit can then be exact.
      solver: a name (`jaxnmf.solvers()`) or an instance; "auto", the one that was
        fastest in studies of the loss, the kind of V, the constraints and p
        (`jaxnmf.auto`).
      loss: a name (`jaxnmf.losses()`), an instance, or your own entrywise φ(v, x); of
        views also a list of these, D_k for each view (without mesh and offsets, and by
        solvers such as "mu", "pgd-lin" and "optax", which need no one loss).
      init: "auto": with solver "auto" and the Frobenius loss "nndsvd" (where the seed
        has no effect), if every entry is known, p ≤ min(m, n) and V is in memory of one
        process, else "random";
        "random"; "nndsvd", "nndsvda", "nndsvdar", from the SVD; "spa", "snpa", "xray",
        rows of V that span the others; or a pair (W, H).
      seed: of everything random, an integer ≥ 0.
      max_iter: iterations at most. The first of this and the next four ends the run.
      tol: change of the objective over ten iterations, relative to the first objective.
      kkt_tol: KKT residual, relative to the first.
      target: value of the objective.
      time_budget: seconds of iterating.
      l1, l2: penalties, for both factors or as a pair (for W, for H).
      constraints: the constraints of W and H, for both or as a pair: "nonnegative",
        "box" (entries ≤ 1; another bound by `jaxnmf.Box`) or "simplex" (the components'
        shares in a row of W, or in a column of H, sum to one).
      mask: what is known of V: (m, n), true or a weight > 0 for a known entry, an array
        or SciPy sparse; or "nan", everything that is not NaN. The loss is then summed
        over the known entries alone, each times its weight.
      offsets: for data observed in part, add an offset for each row and column,
        V_ij ≈ b_i + c_j + (WH)_ij with b, c ≥ 0. A number is the l2 weight of
        their distance from half the mean of V, a pair one for b and one for c; True
        takes a weight that suits ratings.
      toward: what l2 shrinks the entries of the factors to: "zero"; for data observed
        in part "mean", the constant at which the model predicts the mean of V; a
        matrix T of the shape of H or of its first rows, with the penalty
        ½ l2·‖H − T‖²; or a pair (for W, for H) of such targets, each None (zero) or a
        matrix.
      known_W, known_H: what is known of the factors, held as it is: (m, p) and (p, n),
        or the first columns of W and the first rows of H, with NaN for a free entry.
        With all of H known each row of W is non-negative least squares.
      covariates: (m, k), non-negative columns of W that are known, beyond the rank:
        V ≈ W H + C B with C as given and B ≥ 0 in `Result.covariates`. Penalties and
        constraints are those of W and H. An effect that may go down too takes two
        columns, c and max(c) − c.
      batch: m labels, such as those of experiments: a covariate for each label, 1 in
        its rows and 0 in others, which takes up what a batch adds to each column of V.
      graph: neighbours whose entries in a factor should be similar: a pair (among the
        rows of V, among its columns), each None or the symmetric matrix of the weights
        ≥ 0 between them, (m, m) or (n, n), an array or SciPy sparse; for the pixels of
        an image `jaxnmf.grid_graph`. It adds graph_weight · tr(Wᵀ L W), or
        tr(H L Hᵀ), where tr(Wᵀ L W) = ½ Σ_ij A_ij ‖w_i − w_j‖² over rows of W. Give the
        other factor a penalty, or one of them the constraint "simplex": else this one
        shrinks as the other grows. Not for V in blocks or on a mesh; new rows
        (`Result.fold_in`) have no neighbours.
      graph_weight: λ ≥ 0, for both factors or as a pair (for W, for H).
      dtype: "float32" or "float64", the precision.
      record_every: iterations between records of objective and KKT residual.
      kkt: whether to record the KKT residual (as costly as half an iteration).
      progress: show a bar; by default only for a run of over two seconds in a
        terminal.
      pad: run a small problem padded to one of a few sizes, so that another V or rank
        of about this size needs no compilation, and a tiny one in NumPy; the result is
        the same to rounding.
      mesh: several devices, over which V is divided by rows and columns, W as its rows
        and H as its columns: a `jax.sharding.Mesh` of one or two axes (and any of size
        one), or of all devices "rows", "grid" or "auto", the shape of grid on which
        they send each other least. The result is the same to rounding. A JAX array that
        is already on several devices stays there, and needs no mesh. `jaxnmf.Blocks`
        are read onto the devices, by each of several processes its own rows; for these
        see `jaxnmf.distributed.start`.
      checkpoint: a folder for the run in progress, where it is saved every ten seconds,
        at a record. The same call resumes an interrupted run from there and ends with
        the same bits; one with a larger max_iter or time_budget continues a run that
        has ended. Several processes save their own parts, on one disk or on each its
        own, and other numbers of them resume from one disk. Such a run is not padded.
      solver_options, loss_options: the options of a solver or loss given by name; of a
        loss for each view a list, each a mapping or None.

    Returns:
      A `Result`: W (m, p), H (p, n), objective, relative_error, iterations,
      status, trace; and the names of rows and columns where V has some.

    Raises:
      ValueError: for anything that does not fit, before any compilation.

    Example:
      >>> import numpy as np, jaxnmf
      >>> V = np.random.default_rng(0).random((30, 20))
      >>> result = jaxnmf.factorize(V, 4)
      >>> result.W.shape, result.H.shape
      ((30, 4), (4, 20))
      >>> joint = jaxnmf.factorize(views=[V, V[:, :5] ** 2], rank=4, loss=("kl", "l1"))
      >>> joint.W.shape, [H.shape for H in joint.view_H]
      ((30, 4), [(4, 20), (4, 5)])
    """
    objective = Objective.of(
        loss,
        loss_options=loss_options,
        l1=l1,
        l2=l2,
        toward=toward,
        constraints=constraints,
        offsets=offsets,
        known_W=known_W,
        known_H=known_H,
        covariates=covariates,
        batch=batch,
        graph=graph,
        graph_weight=graph_weight,
    )
    start = Start.of(init, seed)
    stop = Stop.of(max_iter, tol, kkt_tol, target, time_budget)
    check_count("rank", rank)
    check_count("record_every", record_every)
    data = data_of(V, views, objective, mask, mesh=mesh)
    known, objective = what_is_known(data.V, mask), data.objective
    if data.views is not None:
        start = start_of_views(start, data.views)
    result = run_factorize(
        known,
        rank,
        solver=solver,
        solver_options=solver_options,
        objective=objective,
        start=start,
        stop=stop,
        dtype=dtype,
        record_every=record_every,
        kkt=kkt,
        progress=progress,
        pad=pad,
        mesh=mesh,
        checkpoint=checkpoint,
    )
    if objective.parts is None:  # with known parts W H may fit no V exactly
        warn_of_rank("rank", rank, known.V.shape)
    if data.views is not None:
        result = of_views(result, data.views)
    return result.named(data.names)


def convex_fit(
    known: Known, rank: int, objective: Objective, side: str, dtype: Any, *, pad: bool
) -> Result:
    """The result where all of one factor is known: the other as `jaxnmf.fit_W` finds
    it, whatever the start and the rule when to stop.

    Args:
      known: V.
      rank: p.
      objective: what is minimised.
      side: the factor that is known, "W" or "H".
      dtype: the precision.
      pad: whether small problems share compiled programs.
    """
    assert objective.parts is not None
    check_parts(objective.parts, rank, known.V.shape, objective.constraints)
    of_W, of_H = objective.parts
    model = Model.of_objective(objective, frozenset(), np.dtype(dtype).name)
    if side == "H":
        return to_result(*model.fit(known, of_H, exact=True, pad=pad), model.solver)
    turned = Model.of_objective(objective.T, frozenset(), model.dtype)
    found = to_result(*turned.fit(known.T, of_W, exact=True, pad=pad), turned.solver)
    rows, cols = found.unobserved
    return dataclasses.replace(
        found,
        W=np.ascontiguousarray(found.H.T),
        H=np.ascontiguousarray(found.W.T),
        unobserved=Unobserved(cols, rows),
        model=model,
    )


def run_factorize(
    V: Any,
    rank: int,
    *,
    solver: Any,
    objective: Objective,
    start: Start,
    stop: Stop,
    solver_options: Mapping[str, Any] | None = None,
    mask: Any = None,
    dtype: Any = "float32",
    record_every: int = RECORD_EVERY,
    kkt: bool = True,
    progress: bool | None = None,
    pad: bool = True,
    mesh: Any = None,
    checkpoint: str | Path | None = None,
) -> Result:
    """`factorize` with its specifications made; for what they do not say see there."""
    known = what_is_known(V, mask)
    check_weights(objective.toward, objective.l2)
    convex = objective.design is None and isinstance(objective.toward, str)
    convex = convex and not objective.loss.losses
    side = fully_known_side(objective.parts, rank) if convex else None
    alone = mesh is None and known.kind != "blocks" and not is_spread(known.V)
    if side and isinstance(solver, str) and solver == AUTO and alone:
        return convex_fit(known, rank, objective, side, dtype, pad=pad)
    several = mesh is not None or is_spread(known.V)
    with precision(dtype) as dtype, together(several):
        given = solver, solver_options
        solver, usual = chosen_solver(*given, objective, known, rank)
        problem, placement = placed_problem(mesh, known, solver, objective, dtype)
        warn_of_scale(objective, level=4)
        if isinstance(start.init, str) and start.init == AUTO:
            # From the SVD a start would need V as a whole.
            usual = "random" if is_spread(known.V) else usual
            start = dataclasses.replace(start, init=usual)
        problem = at_rank(problem, objective, rank)
        factors = draw_start(problem, objective, start, rank)
        apart = placement is not None and placement.several_processes
        if apart:
            if objective.design is not None:
                raise ValueError(
                    "covariates and batch: V over several processes is not supported"
                )
            progress = False if jax.process_index() else progress
        recorded = {"record_every": record_every, "kkt": kkt}
        kept = None
        if checkpoint is not None:
            # In what order the rows of a sparse V are on a mesh depends on its shape.
            ordered = placement is not None and problem.operand.by_entries
            kept = run_folder(
                checkpoint,
                problem,
                solver,
                most=int(stop.max_iter),
                mesh=placement.grid if ordered else None,  # pyright: ignore
                together=apart,
                start=(start, rank),
                dtype=dtype.name,
                **recorded,
            )
        with progress_bar(int(stop.max_iter), progress) as on_record:
            run = run_anywhere(
                problem,
                solver,
                factors,
                start.seed,
                stop,
                placement=placement,
                pad=pad and kept is None,
                on_record=on_record,
                checkpoint=kept,
                **recorded,
            )
        return to_result(run, problem, solver, design=objective.design)
