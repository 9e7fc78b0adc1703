"""The solver and the start where a user leaves them open: "auto".

One table says which, with the study behind each row; nothing else chooses. It is
measured by `experiments/benchmarks/auto_against_best.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnmf._util.platform import on_cpu
from jaxnmf.build import Objective
from jaxnmf.data.known import Known
from jaxnmf.init.start import AUTO
from jaxnmf.registry import make_solver
from jaxnmf.solvers.base import Supports, constraints_of, operands_of
from jaxnmf.supported import FEATURES, UnsupportedError, has_features

EVERY = ("dense", "sparse", "observed", "blocks")


class Row(NamedTuple):
    """A choice and where it holds.

    Attributes:
      losses: "quadratic", "kl", "beta", "multiplicative" or "any", as of a solver's
        ``supports``.
      kinds: of V.
      solver, options: the choice.
      init: the start for it.
      study: where it was measured.
      most_rank: up to which p.
      lanes: whether it suits lanes and accelerators too, where a loop over components
        or their pairs is slow, and lanes that call LAPACK wait for each other.
    """

    losses: str
    kinds: tuple[str, ...]
    solver: str
    options: Mapping[str, Any]
    init: str
    study: str
    most_rank: float = np.inf
    lanes: bool = True


# The first row that fits is taken.
TABLE = (
    Row("quadratic", ("observed",), "hals", {}, "random", "benchmarks: observed_ccd",
        most_rank=32),
    Row("quadratic", ("observed",), "ccd", {}, "random", "benchmarks: observed_ccd"),
    Row("quadratic", EVERY, "extrapolated", {}, "nndsvd", "frobenius_shootout"),
    Row("quadratic", ("sparse",), "ao-admm", {}, "random",
        "docs/measured.md: sums of one", lanes=False),
    Row("quadratic", EVERY, "nenmf", {}, "random", "benchmarks: auto_against_best"),
    Row("kl", ("dense",), "kl-newton", {}, "random", "kl_shootout", most_rank=16,
        lanes=False),
    Row("kl", ("sparse",), "mu-extrapolated", {"joint": True}, "random",
        "benchmarks: sparse_against_sklearn kl"),
    Row("beta", EVERY, "mu-extrapolated", {}, "random", "kl_shootout"),
    Row("multiplicative", EVERY, "mu-extrapolated", {}, "random",
        "docs/measured.md: outliers and counts"),
    Row("kl", ("dense",), "kl-admm", {}, "random", "benchmarks: auto_against_best"),
    Row("any", EVERY, "pgd-lin", {}, "random", "kl_shootout"),
)  # fmt: skip


def chosen(objective: Objective, kind: str, rank: int, *, lanes: bool = False) -> Row:
    """The row for an objective, a kind of data and p; for one run, or for lanes.

    Raises:
      UnsupportedError: no row fits.
    """
    asked = dict.fromkeys(one.name for one in objective.constraints)
    for row in TABLE:
        if (
            kind not in row.kinds
            or rank > row.most_rank
            or not Supports(row.losses).includes(objective.loss)
            or not (row.lanes or (not lanes and on_cpu()))
        ):
            continue
        solver = make_solver(row.solver, row.options)
        if (
            solver.supports.includes(objective.loss)
            and kind in operands_of(solver)
            and asked.keys() <= constraints_of(solver)
            and has_features(solver, objective.asked)
        ):
            return row
    words = [f"the constraint {name!r}" for name in asked]
    words += [FEATURES[name].words for name in sorted(objective.asked)]
    raise UnsupportedError(
        f"solver='auto': no solver supports the loss {objective.loss.name!r} on {kind} "
        f"data with {' and '.join(dict.fromkeys(words))}"
    )


def chosen_solver(
    solver: Any,
    options: Mapping[str, Any] | None,
    objective: Objective,
    known: Known,
    rank: int,
    *,
    lanes: bool = False,
) -> tuple[Any, str]:
    """An instance of the solver, the table's for "auto", and the start for it.

    The start of the table is for a V in memory without unknown entries, p ≤ min(m, n),
    no constraint besides the sign and nothing known of the factors; elsewhere, and for
    a named solver, it is "random", which reads nothing of V.

    Raises:
      ValueError: options beside "auto", or what `make_solver` refuses.
    """
    if not (isinstance(solver, str) and solver == AUTO):
        return make_solver(solver, options), "random"
    if options:
        raise ValueError(
            f"solver_options={options!r} go with the name of a solver; "
            "solver='auto' has none"
        )
    kind = known.kind
    row = chosen(objective, kind, rank, lanes=lanes)
    free = all(one.name == "nonnegative" for one in objective.constraints)
    free = free and objective.parts is None and objective.design is None
    usual = free and kind in ("dense", "sparse") and rank <= min(known.V.shape)
    return make_solver(row.solver, row.options), row.init if usual else "random"
