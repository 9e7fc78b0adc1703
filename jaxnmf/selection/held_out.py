"""What methods of cross-validation share: the error of held-out entries."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnmf.data.observed import Observed
from jaxnmf.run.programs import precision
from jaxnmf.selection.base import Data, Fit, Measured, Method, best_by, fits, spread
from jaxnmf.sweeps.result import SweepResult

RULES = ("smallest", "one_se")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut(Method):
    """A method that holds out parts of V: their errors, and the rule."""

    select: str = "one_se"

    def parts(self, data: Data) -> int:
        """The number of parts that are held out, one at a time."""
        raise NotImplementedError

    def check(self, data: Data, ranks: Sequence[int], seeds: Sequence[int]) -> None:
        super().check(data, ranks, seeds)
        parts = self.parts(data)
        if len(seeds) < parts:
            raise ValueError(
                f"seeds: {len(seeds)} are fewer than the {parts} parts that method "
                f"{self.name!r} holds out; every part needs one"
            )

    def choose(self, table: Any) -> int:
        error = table["error"]
        best = error.idxmin()
        if self.select == "smallest":
            return int(best)
        limit = error[best] + table["error_se"][best]
        return int(min(error.index[error <= limit]))

    def near(self, table: Any, evidence: Mapping[int, Mapping[str, Any]]) -> list[int]:
        order = table["error"].sort_values().index
        best = evidence[int(order[0])]["errors"]
        return [p for p in order if not worse(evidence[p]["errors"], best)]

    def doubt(self, table: Any, evidence: Mapping[int, Mapping[str, Any]]) -> str:
        best = evidence[int(table["error"].idxmin())]["errors"]
        if any(worse(evidence[p]["errors"], best) for p in table.index):
            return ""
        return "no p predicts held-out entries worse than another by a standard error"

    def measured(self, errors: Sequence[float], fits: list[Fit]) -> Measured:
        row = {
            "error": float(np.mean(errors)),
            "error_se": spread(errors) / np.sqrt(len(errors)),
            "objective": float(np.mean([fit.objective for fit in fits])),
        }
        return Measured(row, {"errors": np.asarray(errors)})


def worse(errors: np.ndarray, best: np.ndarray) -> bool:
    """Whether errors of the same parts exceed others by a standard error."""
    more = errors - best
    return bool(more.mean() > spread(more.tolist()) / np.sqrt(len(more)))


def best_of_parts(found: SweepResult, rank: int, parts: int) -> list[Fit]:
    """The run of the lowest objective of each part."""
    best = best_by(fits(found, rank), lambda fit: found.builder.data_of_seed[fit.seed])
    if len(best) < parts:
        raise ValueError(f"rank {rank}: every run of a part diverged")
    return best


def held_out_error(loss: Any, entries: Observed, fit: Fit) -> float:
    """Σ w φ(v, x) / Σ w over the entries."""
    with precision("float64"):
        x = np.zeros(len(entries.values))
        for w, h in zip(fit.Wt, fit.H, strict=True):
            x += w[entries.rows].astype(np.float64) * h[entries.cols]
        v = np.asarray(entries.values, np.float64)
        # As in a fit, x is positive where v is.
        positive = v[v > 0]
        sizes = np.abs(v).mean(), positive.min(initial=np.inf), np.abs(v).max()
        x = np.maximum(x, loss.floor(*map(float, sizes), "float64"))
        values = np.asarray(loss.pointwise(jnp.asarray(v), jnp.asarray(x)))
    return float((entries.weights * values).sum() / entries.weights.sum())
