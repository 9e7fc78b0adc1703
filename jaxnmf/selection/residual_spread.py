"""Residual spread: do random starts leave the same residual?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from jaxnmf.data.observed import Observed
from jaxnmf.run.stop import Stop
from jaxnmf.selection.base import (
    Data,
    Fit,
    Measured,
    Method,
    one_of,
    spread,
    within,
)
from jaxnmf.shapes import Float, Int

MOST_ENTRIES = 100_000  # of V, whose residuals are compared
# A smaller spread is what the stop rule leaves of one.
LEAST = {"mci": 3e-4, "objective_iqr": 3e-5}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualSpread(Method):
    r"""Spread of the residual over random starts.

    With few components, or as many as the data have, all starts may end at the same
    W H; with more they fit the noise, each in its own way. With U the residual of a run
    and IQR the interquartile range over the runs,

        mci            mean over the known entries of IQR(U_ij), divided by the mean of
                       W H: the mean coordinatewise interquartile range, MCI, of
                       Tunnell et al.
        objective_iqr  IQR of the objective, divided by its median

    V is the same in all runs, so that IQR(U_ij) = IQR((W H)_ij). Of more than 100 000
    known entries as many are drawn, with a fixed seed. Start i of rank p is the first p
    components of one sequence, so that the starts of different ranks are related.

    A p is a candidate if the next larger p that was run has a spread more than ``jump``
    times as large: the starts agree up to it, and not beyond. A spread below 3·10⁻⁴, of
    the objective 3·10⁻⁵, counts as that: so much of one is left where runs stop. The
    choice is the largest candidate; ``candidates`` has the others, the largest jump
    first. None is chosen where the spread jumps nowhere; p = 1 is no candidate, for
    there every start ends at the same W H, whatever V is. (Tunnell et al. look for
    ranks of small spread in a plot of it, and name several.)

    Args:
      of: "entries" for mci, or "objective".
      jump: as above.

    Reference: Tunnell, DeBruine & Carrier, "Rank suggestion in non-negative matrix
    factorization: residual sensitivity to initial conditions (RSIC)", arXiv:2410.14838
    (2024) [Tunnell2024].
    """

    name: ClassVar[str] = "residual_spread"
    rule: ClassVar[str] = "the largest p before the residuals of the starts differ"
    least_seeds: ClassVar[int] = 4
    # What a run still lacks of its minimum is a spread, too.
    stop: ClassVar[Stop] = Stop(max_iter=2000, tol=1e-10, settle=1e-5)
    of: str = "entries"
    jump: float = 5.0

    def __post_init__(self) -> None:
        one_of(self.name, "of", self.of, ("entries", "objective"))
        within(self.name, "jump", self.jump, 1, np.inf)

    def measure(self, data: Data, rank: int, fits: list[Fit]) -> Measured:
        rows, cols = known_entries(data)
        X = np.stack([entries_of(fit, rows, cols) for fit in fits])
        objectives = np.array([fit.objective for fit in fits])
        least = np.finfo(np.float64).tiny
        row = {
            "mci": float(iqr(X).mean() / max(X.mean(), least)),
            "objective_iqr": float(iqr(objectives) / max(np.median(objectives), least)),
            "objective": float(objectives.min()),
            "objective_std": spread(objectives.tolist()),
        }
        return Measured(row, {"objectives": objectives})

    def _jumps(self, table: Any) -> Any:
        """How many times the spread of the next p is that of a p, the candidates'."""
        name = "mci" if self.of == "entries" else "objective_iqr"
        values = table[name].clip(lower=LEAST[name])
        jumps = (values.shift(-1) / values).drop(1, errors="ignore")
        return jumps[jumps > self.jump]

    def choose(self, table: Any) -> int:
        return int(max(self._jumps(table).index))

    def near(self, table: Any, evidence: Mapping[int, Mapping[str, Any]]) -> list[int]:
        return list(self._jumps(table).sort_values(ascending=False).index)

    def doubt(self, table: Any, evidence: Mapping[int, Mapping[str, Any]]) -> str:
        if len(self._jumps(table)):
            return ""
        return f"at no p is the spread of the next over {self.jump:g} times as large"


def iqr(values: np.ndarray) -> Any:
    """The interquartile range along the first axis."""
    first, third = np.percentile(values, [25, 75], axis=0)
    return third - first


def known_entries(data: Data) -> tuple[Int[np.ndarray, " e"], Int[np.ndarray, " e"]]:
    """(rows, columns) of the known entries, or of ``MOST_ENTRIES`` of them."""
    V, weights = data.known
    m, n = data.shape
    if isinstance(V, Observed):
        places = V.rows.astype(np.int64) * n + V.cols
    elif weights is not None:
        places = np.flatnonzero(weights)
    else:
        places = m * n
    rng = np.random.default_rng(0)
    count = places if isinstance(places, int) else len(places)
    if count > MOST_ENTRIES:
        places = rng.choice(places, MOST_ENTRIES)
    return np.divmod(places if np.ndim(places) else np.arange(count), n)


def entries_of(
    fit: Fit, rows: Int[np.ndarray, " e"], cols: Int[np.ndarray, " e"]
) -> Float[np.ndarray, " e"]:
    """(W H)_ij at entries, a component at a time."""
    x = np.zeros(len(rows))
    for w, h in zip(fit.Wt, fit.H, strict=True):
        x += w[rows].astype(np.float64) * h[cols]
    return x
