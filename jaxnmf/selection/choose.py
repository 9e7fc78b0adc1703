"""`select_rank`: one sweep, one method's measures, one choice."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnmf import registry
from jaxnmf._util import names
from jaxnmf._util.checks import check_amount, check_count, check_list
from jaxnmf.build import Objective, Start
from jaxnmf.data.blocks import check_in_memory
from jaxnmf.data.known import is_sparse
from jaxnmf.data.observed import Observed
from jaxnmf.init.start import AUTO
from jaxnmf.run.stop import Stop
from jaxnmf.selection.ard import Relevance
from jaxnmf.selection.base import Data, Method, RankSelection, listed
from jaxnmf.selection.bi_cross_validation import BiCrossValidation
from jaxnmf.selection.consensus import Consensus
from jaxnmf.selection.cross_validation import CrossValidation
from jaxnmf.selection.information import Information
from jaxnmf.selection.residual_spread import ResidualSpread
from jaxnmf.selection.stability import Stability
from jaxnmf.sweeps.batching import Batching
from jaxnmf.sweeps.result import SweepResult
from jaxnmf.sweeps.settings import as_seeds
from jaxnmf.sweeps.sweep import run_sweep, solver_of_lanes

ENOUGH = 0.5  # of the runs of a rank, for its measures to count

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        Consensus,
        CrossValidation,
        BiCrossValidation,
        Stability,
        Relevance,
        Information,
        ResidualSpread,
    )
}


def select_rank(
    V: Any,
    ranks: Any,
    *,
    method: str = "consensus",
    seeds: Any = 20,
    solver: Any = AUTO,
    loss: Any = "frobenius",
    init: str = "random",
    max_iter: int | None = None,
    tol: float | None = None,
    l1: float | tuple[float, float] = 0.0,
    l2: float | tuple[float, float] = 0.0,
    mask: Any = None,
    dtype: Any = "float32",
    max_memory: float | None = None,
    folder: str | Path | None = None,
    progress: bool | None = None,
    batching: Batching | None = None,
    mesh: Any = None,
    pad: bool = True,
    solver_options: Any = None,
    loss_options: Any = None,
    **options: Any,
) -> RankSelection:
    """Choose the number of components of V ≈ W H.

    All ranks and seeds are lanes of one `jaxnmf.sweep`. The methods, each with its
    measures, its rule and its options in the docstring of a class of
    `jaxnmf.selection.METHODS`:

    - "consensus": samples end up in the same clusters whatever the seed (Brunet).
    - "cross_validation": entries held out at random are predicted (Wold).
    - "bi_cross_validation": held-out blocks are predicted (Owen & Perry).
    - "stability": components come back from perturbed data (Alexandrov).
    - "ard": components without use fade from a large start (Tan & Févotte).
    - "information": AIC, BIC, MDL of a Gaussian or Poisson likelihood.
    - "residual_spread": random starts leave the same residual (Tunnell).

    Args:
      V: as for `jaxnmf.factorize`.
      ranks: the values of p to choose from; "ard" starts from the largest.
      method: one of these names.
      seeds: runs a rank, as a list of seeds, or how many. Cross-validation spreads them
        over its parts.
      solver: as for `jaxnmf.sweep`; "ard" has its own.
      max_iter, tol: as for `factorize`. By default a run stops as its criterion needs:
        when its objective changes by less than 0.1% of itself over ten iterations, and
        after 2000; for "ard", whose components fade slowly, after 10000.
      folder: where finished lanes are kept, so that an interrupted call resumes.
      mesh: several devices over which V is divided, as for `jaxnmf.sweep`. Held-out or
        perturbed data of many seeds are all on the devices at once.
      pad: run a small V padded to one of a few sizes, so that another of about this
        size needs no compilation; the result is the same to rounding. Not on a mesh.
      options: the method's own, such as ``samples="columns"`` or ``share=0.2``.
      others: as for `jaxnmf.sweep`.

    Returns:
      A `RankSelection`: ``rank``, ``candidates``, ``reason``, ``table``, ``factors()``,
      and what `jaxnmf.plots.selection` draws. The rank is None where the method cannot
      decide: too few samples, runs that stopped early, or a measure that hardly differs
      between ranks; ``reason`` and a warning say why. Ranks that reach the number of
      rows or columns, with which every V is fitted exactly, are left out of the choice.

    Raises:
      ValueError: for an unknown method or option, ranks or seeds that the method cannot
        use, a V of zeros, ranks of which none can be judged, and all that `sweep`
        refuses.
      KeyboardInterrupt: after Ctrl-C, for a selection needs every lane.

    Example:
      >>> import numpy as np, jaxnmf
      >>> rng = np.random.default_rng(0)
      >>> V = rng.gamma(0.5, size=(40, 3)) @ rng.gamma(0.5, size=(3, 30))
      >>> V = V * rng.uniform(0.9, 1.1, V.shape)
      >>> found = jaxnmf.select_rank(V, [2, 3, 4, 5], method="cross_validation")
      >>> found.rank
      3
    """
    check_in_memory("V", V, "a choice of the rank")
    chooser = make_method(method, options)
    objective = Objective.of(loss, loss_options=loss_options, l1=l1, l2=l2)
    if chooser.solver is not None and not (solver == AUTO and solver_options is None):
        raise ValueError(
            f"solver={solver!r}: method {method!r} has its own, {chooser.solver!r}; "
            "its options are the method's"
        )
    ranks = check_list("ranks", ranks, 1)
    own = chooser.solver is not None
    if own:
        solver = None
    else:
        given = solver, solver_options
        solver = solver_of_lanes(*given, objective, V, mask, max(ranks))
    stop = chooser.stop
    if max_iter is not None:
        check_count("max_iter", max_iter)
        stop = dataclasses.replace(stop, max_iter=max_iter)
    if tol is not None:
        check_amount("tol", tol)
        stop = dataclasses.replace(stop, tol=tol, settle=0.0)
    found = run_selection(
        V,
        ranks,
        as_seeds(seeds),
        method=chooser,
        solver=solver,
        objective=objective,
        start=Start.of(init),
        stop=stop,
        mask=mask,
        dtype=dtype,
        max_memory=max_memory,
        folder=folder,
        progress=progress,
        pad=pad,
        batching=batching,
        mesh=mesh,
    )
    if found.rank is None:
        warnings.warn(f"no p is chosen: {found.reason}", stacklevel=2)
    elif "note" in found.table:
        warnings.warn(f"p = {found.rank} is chosen: {found.reason}", stacklevel=2)
    return found


def run_selection(
    V: Any,
    ranks: Sequence[int],
    seeds: Sequence[int],
    *,
    method: Method,
    solver: Any,
    objective: Objective,
    start: Start,
    stop: Stop | None,
    mask: Any = None,
    dtype: Any = "float32",
    **given: Any,
) -> RankSelection:
    """The choice of p of a specification.

    Args:
      ranks, seeds: distinct integers.
      method: how p is chosen.
      solver: an instance, or None for the method's own.
      objective, start, stop: the specification that all runs share, but for the seed
        of the start; ``stop`` None is the method's own rule.
      others: as for `jaxnmf.sweep`.
    """
    ranks = sorted(ranks)
    if not (isinstance(V, Observed) or is_sparse(V)) and not hasattr(V, "shape"):
        V = np.asarray(V)
    if len(V.shape) != 2:
        raise ValueError(f"V has shape {tuple(V.shape)}; it must be a matrix (m, n)")
    data = Data(V=V, mask=mask, shape=(V.shape[0], V.shape[1]), loss=objective.loss)
    method.check(data, ranks, seeds)
    if data.known.largest(signed=True) == 0:
        raise ValueError("V is zero throughout: there is no p to choose")
    most, why = method.limit(data)
    beyond = [rank for rank in ranks if rank > most]
    if len(beyond) == len(ranks):
        raise ValueError(f"ranks: {listed(ranks)} cannot be judged: {why}")
    ranks = [rank for rank in ranks if rank <= most]
    common: dict[str, Any] = {
        "solver": solver,
        "objective": objective,
        "start": start,
        "stop": stop or method.stop,
        "dtype": dtype,
        **given,
    }

    def sweep(V: Any, ranks: Any, seeds: Any, **changes: Any) -> SweepResult:
        found = run_sweep(V, ranks, seeds, **{**common, **changes})
        if not found.complete:
            raise KeyboardInterrupt
        return found

    found = method.run(sweep, data, ranks, seeds)
    measured = method.measures(data, ranks, found)
    table = method.complete_table(as_table(measured))
    evidence = {rank: one.evidence for rank, one in measured.items()}
    table["settled"] = settled_share(method, found, list(measured))
    left_out = f"{listed(beyond)} cannot be judged, for {why}" if beyond else ""
    doubt = undecided(method, table, evidence, left_out, alone=len(ranks) == 1)
    if beyond:
        table = table.reindex([*table.index, *beyond])
        table["note"] = np.where(table.index > most, "cannot be judged", "")
    return RankSelection(
        method=method,
        rank=None if doubt else method.choose(table),
        reason=doubt or "; ".join(filter(None, (method.rule, left_out))),
        table=table,
        evidence=evidence,
        sweep=found,
        data=data,
        dtype=np.dtype(dtype).name,
    )


def make_method(name: str, options: Mapping[str, Any]) -> Method:
    """A method from its name and options, checked by name and type."""
    cls = names.lookup("method", name, METHODS)
    return registry.build("method", name, cls, options)


def settled_share(method: Method, found: SweepResult, ranks: Sequence[int]) -> Any:
    """The share of the runs of each rank that had settled; of all runs, for a rank
    that none began with."""
    pairs = zip(found.lanes, found.runs, strict=True)
    settled = [(lane.rank, method.settled(run)) for lane, run in pairs]

    def share(rank: int) -> float:
        own = [one for other, one in settled if other == rank]
        return float(np.mean(own or [one for _, one in settled]))

    return [share(rank) for rank in ranks]


def undecided(
    method: Method,
    table: Any,
    evidence: Mapping[int, Mapping[str, Any]],
    left_out: str,
    *,
    alone: bool,
) -> str:
    """Why no rank of the table can be chosen, empty where one can."""
    early = list(table.index[table["settled"] < ENOUGH])
    if alone and method.solver is None:
        return f"too few samples: {left_out}" if left_out else ""
    if early:
        return (
            f"runs stopped early, or fit V exactly: at {listed(early)} the objective "
            "of most still changed by over 1% in ten iterations; raise max_iter, or "
            "lower tol"
        )
    doubt = method.doubt(table, evidence)
    return "; ".join(filter(None, (doubt, left_out))) if doubt else ""


def as_table(measured: Any) -> Any:
    """A `pandas.DataFrame` with a row a rank."""
    import pandas as pd

    rows = [one.row for one in measured.values()]
    return pd.DataFrame(rows, index=pd.Index(list(measured), name="rank"))
