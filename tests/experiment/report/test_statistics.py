"""Profiles by hand, ranks and tests against Demšar's published example and SciPy."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from jaxnmf.experiment.report import profiles, significance
from jaxnmf.experiment.report.tables import Table, escaped

# Demšar (2006), table 6: AUC of C4.5, with m, with cf, with both, on 14 data sets.
AUC = pd.DataFrame(
    [
        (0.763, 0.768, 0.771, 0.798),
        (0.599, 0.591, 0.590, 0.569),
        (0.954, 0.971, 0.968, 0.967),
        (0.628, 0.661, 0.654, 0.657),
        (0.882, 0.888, 0.886, 0.898),
        (0.936, 0.931, 0.916, 0.931),
        (0.661, 0.668, 0.609, 0.685),
        (0.583, 0.583, 0.563, 0.625),
        (0.775, 0.838, 0.866, 0.875),
        (1.000, 1.000, 1.000, 1.000),
        (0.940, 0.962, 0.965, 0.962),
        (0.619, 0.666, 0.614, 0.669),
        (0.972, 0.981, 0.9751, 0.9750),  # ranks 2 and 3 there, equal when rounded
        (0.957, 0.978, 0.946, 0.970),
    ],
    columns=["C4.5", "m", "cf", "m cf"],
)


def test_demsars_example():
    found = significance.ranking(2 - AUC)
    assert found.ranks.round(3).to_dict() == {
        "m cf": 1.964,
        "m": 2.000,
        "cf": 2.893,
        "C4.5": 3.143,
    }
    assert found.critical == pytest.approx(1.25, abs=0.005)
    assert found.blocks == 14
    expected = stats.friedmanchisquare(*AUC.to_numpy().T).pvalue
    assert found.p == pytest.approx(expected)
    # No two mean ranks are 1.25 apart, though the Friedman test rejects.
    assert found.significant
    assert found.cliques() == [(0, 3)]
    assert found.alike("m") == ["m cf", "cf", "C4.5"]


def test_pairs_are_scipys_wilcoxon_with_holms_correction():
    rng = np.random.default_rng(0)
    values = pd.DataFrame(
        rng.random((12, 3)) + np.array([0, 0.4, 0.8]), columns=list("abc")
    )
    pairs: Any = significance.ranking(values).pairs.set_index(["first", "second"])
    for (a, b), row in pairs.iterrows():
        expected = stats.wilcoxon(np.log(values[a]), np.log(values[b])).pvalue
        assert row["p"] == pytest.approx(expected)
    by_hand = pairs["p"].sort_values() * [3, 2, 1]
    np.testing.assert_allclose(
        pairs["holm"].sort_values(), np.minimum(by_hand.cummax(), 1)
    )


def test_published_critical_values():
    """Demšar, table 5a: q of the Nemenyi test at 0.05."""
    for solvers, q in {2: 1.960, 3: 2.343, 5: 2.728, 10: 3.164}.items():
        by_hand = q * np.sqrt(solvers * (solvers + 1) / (6 * 20))
        found = significance.critical_difference(solvers, 20)
        assert found == pytest.approx(by_hand, rel=1e-3)


def test_failures_rank_last_and_equals_tie():
    rows = [[np.inf, 0.3, 0.300001, np.inf], [0.0, 0.0, 1.0, 2.0]]
    np.testing.assert_array_equal(
        significance.rank_rows(rows, 1e-4), [[3.5, 1.5, 1.5, 3.5], [1.5, 1.5, 3, 4]]
    )
    same = significance.ranking(pd.DataFrame(np.ones((5, 3)), columns=list("abc")))
    assert same.p == 1
    assert set(same.pairs["p"]) == {1.0}
    # Two solvers: decided by the signed-rank test, failures the largest difference.
    two = pd.DataFrame({"a": np.arange(1.0, 9), "b": np.full(8, np.inf)})
    found = significance.ranking(two)
    assert found.p == pytest.approx(2 / 2**8)
    assert found.differ("a", "b")


def test_cliques_are_the_largest_groups():
    values = pd.DataFrame([[1.0, 2, 3, 4, 5]] * 40, columns=list("abcde"))
    found = significance.ranking(values)
    assert found.critical < 1
    assert found.cliques() == []
    near = significance.ranking(values.iloc[:12])
    assert 1 < near.critical < 2
    assert near.cliques() == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert near.alike("b") == ["a", "c"]


def test_settings_count_once_where_there_are_enough():
    rows = [
        {
            "dataset": f"d{i}",
            "loss": "l",
            "model": "",
            "rank": 2,
            "split": seed,
            "solver": solver,
            "error": i + seed + bonus,
        }
        for i in range(6)
        for seed in "012"
        for seed in [int(seed)]
        for solver, bonus in (("a", 0.0), ("b", 0.5))
    ]
    times = pd.DataFrame(rows)
    values, settings = significance.blocks(times, "error")
    assert settings
    assert list(values["a"]) == [1, 2, 3, 4, 5, 6]
    few = times[times["dataset"] < "d5"]
    values, settings = significance.blocks(few, "error")
    assert not settings
    assert len(values) == 15


# ---------------------------------------------------------------- profiles


def test_profiles_by_hand():
    inf = np.inf
    times = pd.DataFrame(
        {"a": [1.0, 2, 3, inf], "b": [2.0, 1, inf, inf], "c": [4.0, 4, 3, 5]}
    )
    found = profiles.ratios(times)
    np.testing.assert_array_equal(found["a"], [1, 2, 1, inf])
    np.testing.assert_array_equal(found["b"], [2, 1, inf, inf])
    np.testing.assert_array_equal(found["c"], [4, 4, 1, 1])
    tau, share = profiles.profile(found["a"])
    assert (list(tau), list(share)) == ([1, 2], [0.5, 0.75])
    tau, share = profiles.profile(found["c"])
    assert (list(tau), list(share)) == ([1, 4], [0.5, 1.0])
    nobody = profiles.ratios(pd.DataFrame({"a": [inf], "b": [inf]}))
    assert np.isinf(nobody).all(axis=None)


def test_problems_that_not_every_solver_ran_are_left_out():
    nan = np.nan
    values = pd.DataFrame(
        {
            "a": [1.0, 1, 1, 1, 1],
            "b": [1.0, 1, 1, nan, 1],
            "c": [1.0, nan, nan, nan, nan],
        }
    )
    whole, left = profiles.complete(values)
    assert left == ["c"]
    assert list(whole.index) == [0, 1, 2, 4]


# ---------------------------------------------------------------- LaTeX


def test_latex_is_escaped_aligned_and_bold_where_the_table_is():
    hostile = r"50% \input{x} & a_b #1 ${} ~^ <p>"
    shown = pd.DataFrame({"solver": [hostile, "b"], "kkt": [0.0012, 0.5]})
    text = Table(shown, hostile, [[0, 1], [0, 0]]).to_latex("tab:" + hostile)
    escaped_name = (
        r"50\% \textbackslash{}input\{x\} \& a\_b \#1 \$\{\} \textasciitilde{}"
        r"\textasciicircum{} \textless{}p\textgreater{}"
    )
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert rows == [
        r"solver & KKT residual \\",
        escaped_name + r" & \textbf{0.0012} \\",
        r"b & 0.50 \\",
    ]
    assert rf"\caption{{{escaped_name}.}}" in text
    assert r"\begin{tabular}{lr}" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1
    assert escaped("x\ny") == "x y"


def test_page_latex_and_csv_are_one_table():
    shown = pd.DataFrame(
        {"rank": [2, 2, 4], "solver": list("aba"), "kkt": [np.nan, 1e-6, 0.5]}
    )
    table = Table(shown, "c", group="rank")
    groups = [
        (name, [[x.text for x in row] for row in rows]) for name, rows in table.groups()
    ]
    assert groups == [
        ("rank 2", [["a", "–"], ["b", "1.0e−6"]]),
        ("rank 4", [["a", "0.50"]]),
    ]
    assert [x.heading for x in table.columns] == ["solver", "KKT residual"]
    assert r"2 & b & 1.0e$-$6 \\" in table.to_latex("tab:x")
    assert table.to_csv().splitlines()[2] == "2,b,1e-06"
    part = table.part(slice(2, None))
    assert list(part.groups()) == [list(table.groups())[1]]


@pytest.mark.parametrize("count", [6, 11])
def test_every_sign_is_scipys_exact_test_with_ties(count):
    rng = np.random.default_rng(count)
    a, b = rng.integers(1, 5, (2, count)) * 1.0
    gap = np.log(a) - np.log(b)
    expected = stats.wilcoxon(gap, zero_method="zsplit").pvalue
    assert significance._wilcoxon(a, b, 0.0) == pytest.approx(expected)
