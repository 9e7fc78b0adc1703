"""Which solvers are better than others beyond chance, over problems or seeds.

On each problem the solvers are ranked, 1 the best. The Friedman test asks whether any
mean rank differs; by the Nemenyi test two solvers differ if their mean ranks are at
least the critical difference ``q_α √(k (k + 1) / 6 N)`` apart, for k solvers and N
problems. Pairs are also compared by the Wilcoxon signed-rank test of the logarithms,
with Holm's correction for the number of pairs.

Reference: Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR
7 (2006) [Demsar2006].
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from jaxnmf.experiment.report import figures, words
from jaxnmf.experiment.report.contents import Contents
from jaxnmf.experiment.report.profiles import complete, problem_times
from jaxnmf.experiment.report.sentences import TIE
from jaxnmf.experiment.report.statistics import SETTING
from jaxnmf.experiment.report.tables import Table

TITLE = "Ranking and significance"
LABEL = "Significance"
TEMPLATE = "significance.html.j2"

LEVEL = 0.05
MEASURES = {
    "error": ("final error", TIE),
    "seconds_to_1pct": ("time to within 1\u00a0% of the best error", 0.0),
}
"""Column of `problem_times` → its name, and the relative difference that is a tie."""
LEAST_BLOCKS = 3
# With fewer, no two-sided signed-rank test reaches p < 0.05.
LEAST_SETTINGS = 6


@dataclass(frozen=True, eq=False)
class Ranking:
    """Mean ranks of solvers over blocks, and which differ.

    ``p`` is that of the Friedman test, or of the Wilcoxon test for two solvers.
    ``pairs`` has a row per pair: first (of lower mean rank), second, p, holm.
    """

    ranks: pd.Series
    blocks: int
    p: float
    critical: float
    pairs: pd.DataFrame

    @property
    def significant(self) -> bool:
        """Whether any solver differs from another at all."""
        return self.p < LEVEL

    def differ(self, a: str, b: str) -> bool:
        """Whether two solvers differ: by Nemenyi, or by Wilcoxon if they are alone."""
        if not self.significant:
            return False
        return len(self.ranks) == 2 or bool(
            abs(self.ranks[a] - self.ranks[b]) >= self.critical
        )

    def alike(self, solver: str) -> list[str]:
        """The solvers that do not differ significantly from this one."""
        names = map(str, self.ranks.index)
        return [x for x in names if x != solver and not self.differ(x, solver)]

    def cliques(self) -> list[tuple[int, int]]:
        """Maximal groups (first and last place) in which no two solvers differ."""
        names = [str(x) for x in self.ranks.index]
        groups, end = [], 0
        for i, first in enumerate(names):
            last = i
            while last + 1 < len(names) and not self.differ(first, names[last + 1]):
                last += 1
            if last > i and last > end:
                groups.append((i, last))
                end = last
        return groups


def rank_rows(values: Any, tie: float = 0.0) -> np.ndarray:
    """Ranks within each row, 1 the least; ties share their mean.

    Values within a relative ``tie`` of the least of their group are tied.

    >>> rank_rows([[0.30001, 0.3, 0.4, np.inf]], 1e-4)
    array([[1.5, 1.5, 3. , 4. ]])
    """
    from scipy import stats  # half a second to import

    rows = np.asarray(values, float)
    found = np.empty_like(rows)
    for i, row in enumerate(rows):
        order = np.argsort(row, kind="stable")
        groups, group, least = np.empty(len(row)), -1, np.nan
        for at in order:
            if not (row[at] == least or row[at] <= least + tie * abs(least)):
                group, least = group + 1, row[at]
            groups[at] = group
        found[i] = stats.rankdata(groups)
    return found


def critical_difference(solvers: int, blocks: int, level: float = LEVEL) -> float:
    """The least significant difference of mean ranks by the Nemenyi test."""
    from scipy import stats  # half a second to import

    q = stats.studentized_range.ppf(1 - level, solvers, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(solvers * (solvers + 1) / (6 * blocks)))


def holm(p: Any) -> np.ndarray:
    """p-values corrected for multiple testing by Holm's step-down procedure.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p, float)
    order = np.argsort(p, kind="stable")
    stepped = p[order] * np.arange(len(p), 0, -1)
    found = np.empty_like(p)
    found[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return found


def ranking(values: pd.DataFrame, tie: float = 0.0) -> Ranking:
    """Rank the columns of a table with a row per block; less is better.

    Values are non-negative, infinite where a solver failed; relative differences below
    ``tie`` count as ties.
    """
    from scipy import stats  # half a second to import

    table = values.to_numpy(float)
    ranks = rank_rows(table, tie)
    means = pd.Series(ranks.mean(0), index=[str(x) for x in values.columns])
    means = means.sort_values(kind="stable")
    at = {name: i for i, name in enumerate(map(str, values.columns))}
    rows = [
        {"first": a, "second": b, "p": _wilcoxon(table[:, at[a]], table[:, at[b]], tie)}
        for a, b in combinations(map(str, means.index), 2)
    ]
    pairs = pd.DataFrame(rows)
    pairs["holm"] = holm(pairs["p"])
    solvers = len(means)
    if solvers == 2:
        p = float(pairs["p"].iloc[0])
    elif (ranks == ranks[:, :1]).all():
        p = 1.0
    else:
        tested: Any = stats.friedmanchisquare(*ranks.T)
        p = float(tested.pvalue)
    distance = critical_difference(solvers, len(table)) if solvers > 2 else np.nan
    return Ranking(means, len(table), p, distance, pairs)


MOST_SIGNS = 13  # differences, up to which the exact distribution is computed


def _wilcoxon(a: np.ndarray, b: np.ndarray, tie: float) -> float:
    """Two-sided p-value for the logarithms, zeros split between the signs."""
    from scipy import stats  # half a second to import

    tiny = np.finfo(float).tiny
    with np.errstate(invalid="ignore"):
        gap = np.log(np.maximum(a, tiny)) - np.log(np.maximum(b, tiny))
    # Two infinite values are equal; one against a number is the largest difference.
    gap = np.clip(np.nan_to_num(gap, nan=0.0), -1e6, 1e6)
    gap[np.abs(gap) <= tie] = 0.0
    if not gap.any():
        return 1.0
    if len(gap) > MOST_SIGNS:
        tested: Any = stats.wilcoxon(gap, zero_method="zsplit")
        return float(tested.pvalue)
    # All assignments of signs in one product: with ties SciPy takes a second per pair.
    ranks = stats.rankdata(np.abs(gap)) * (gap != 0)
    signs = np.indices((2,) * len(gap)).reshape(len(gap), -1)
    sums, found = ranks @ signs, ranks[gap > 0].sum()
    slack = 1e-9 * ranks.sum()
    p = min((sums >= found - slack).mean(), (sums <= found + slack).mean())
    return float(min(1.0, 2 * p))


def blocks(times: pd.DataFrame, column: str) -> tuple[pd.DataFrame, bool]:
    """(a row per block and a column per solver; whether blocks are whole settings).

    Seeds on the same data are not independent, so if there are enough settings each
    counts once, by its median over the seeds; otherwise each seed counts.
    """
    settings: Any = (
        times.groupby([*SETTING, "solver"])[column].median().unstack("solver")
    )
    if len(complete(settings)[0]) >= LEAST_SETTINGS:
        return settings, True
    index = [*SETTING, "split"]
    return times.pivot(index=index, columns="solver", values=column), False


def section(contents: Contents) -> dict[str, Any] | None:
    """The solvers of each loss, ranked by error and by time."""
    times = problem_times(contents.summary, contents.trace)
    shown = []
    for loss, here in times.groupby("loss", sort=True):
        for column, (what, tie) in MEASURES.items():
            values, settings = blocks(here, column)
            whole, dropped = complete(values)
            if whole.shape[1] < 2 or len(whole) < LEAST_BLOCKS:
                continue
            found = ranking(whole, tie)
            shown.append(
                _shown(contents, str(loss), column, what, found, settings, dropped)
            )
    return {"rankings": shown, "level": LEVEL} if shown else None


def _shown(
    contents: Contents,
    loss: str,
    column: str,
    what: str,
    found: Ranking,
    settings: bool,
    dropped: list[str],
) -> dict[str, Any]:
    unit = "settings" if settings else "problems"
    stem = f"ranking {loss} {column}"
    diagram = None
    if len(found.ranks) > 2:
        drawn = figures.rank_diagram(found.ranks, found.critical, found.cliques())
        diagram = contents.files.figure(stem, drawn)
    ranks = pd.DataFrame(
        {
            "solver": found.ranks.index,
            "mean_rank": found.ranks.to_numpy(),
            "alike": [", ".join(found.alike(str(x))) or "–" for x in found.ranks.index],
        }
    )
    caption = (
        f"Mean ranks by {what} over {found.blocks} {unit}, {words.loss_name(loss)} "
        f"loss; {words.p_value(found.p)}"
    )
    pairs = found.pairs.assign(differ=found.pairs["holm"] < LEVEL)
    shown = pd.DataFrame(
        {
            "pair": pairs["first"].str.cat(pairs["second"], sep=" – "),
            "p_value": pairs["p"],
            "holm": pairs["holm"],
        }
    )
    bold = np.outer(pairs["differ"], [False, False, True])
    pair_caption = f"Wilcoxon signed-rank tests by {what}, {words.loss_name(loss)} loss"
    return {
        "title": f"{words.loss_name(loss)} loss: {what}",
        "loss": loss,
        "what": what,
        "measure": column,
        "found": found,
        "unit": unit,
        "dropped": dropped,
        "sentence": sentence(found, what, unit),
        "diagram": diagram,
        "lines": contents.lines,
        "ranks": contents.files.table(stem, Table(ranks, caption)),
        "pairs": contents.files.table(
            f"{stem} pairs", Table(shown, pair_caption, bold, csv=pairs)
        ),
    }


def sentence(found: Ranking, what: str, unit: str) -> str:
    """The result of a ranking."""
    test = "Friedman" if len(found.ranks) > 2 else "Wilcoxon"
    by = f"over {found.blocks} {unit}, {test} test {words.p_value(found.p)}"
    if not found.significant:
        return f"By {what}, no two solvers differ significantly ({by})."
    first, *rest = map(str, found.ranks.index)
    alike = found.alike(first)
    others = [x for x in rest if x not in alike]
    start = (
        f"By {what}, {first} ranks first (mean rank {found.ranks.iloc[0]:.2f}; {by})"
    )
    if not alike:
        behind = "the other" if len(others) == 1 else "every other"
        return f"{start}, significantly better than {behind}."
    same = f"{start}, not significantly different from {words.some(alike)}"
    if not others:
        return f"{same}."
    return f"{same}, significantly better than {words.some(others)}."


def summary(shown: dict[str, Any]) -> list[str]:
    """The results of all rankings."""
    rankings = shown["rankings"]
    if len({each["loss"] for each in rankings}) == 1:
        return [each["sentence"] for each in rankings]
    return [
        f"{words.loss_name(each['loss'])} loss: {words.lower_first(each['sentence'])}"
        for each in rankings
    ]
