"""Rank selection: planted ranks are found, and measures are those of the papers."""

from __future__ import annotations

import dataclasses
import functools
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.cluster.hierarchy
import scipy.sparse
import scipy.spatial.distance
import scipy.stats
import sklearn.metrics

import jaxnmf
from jaxnmf import metrics
from jaxnmf.registry import make_loss
from jaxnmf.selection import METHODS, RankSelection
from jaxnmf.selection import components as matching
from jaxnmf.selection import consensus as clustering
from jaxnmf.selection import residual_spread as spreads
from jaxnmf.sweeps import lanes as lanes_module

RANK, RANKS, SHAPE = 3, [2, 3, 4, 5], (30, 24)
RNG = np.random.default_rng(5)
# Samples in clusters, with a little of the other components.
W = 0.3 * RNG.gamma(0.5, size=(SHAPE[0], RANK))
W[np.arange(SHAPE[0]), np.arange(SHAPE[0]) % RANK] += RNG.uniform(0.7, 1.3, SHAPE[0])
H = RNG.gamma(0.5, size=(RANK, SHAPE[1]))
X = W @ H / (W @ H).mean()
V = np.maximum(X + 0.1 * RNG.standard_normal(SHAPE), 0)
COUNTS = RNG.poisson(30 * X)
GIVEN: dict[str, dict[str, Any]] = {
    "consensus": {"seeds": 8},
    "cross_validation": {"seeds": 8, "repeats": 4},
    "bi_cross_validation": {"seeds": 8},
    "stability": {"seeds": 8},
    "ard": {"seeds": 5},
    "information": {"seeds": 5},
    "residual_spread": {"seeds": 6},
}


@functools.cache
def selected(method: str) -> RankSelection:
    return jaxnmf.select_rank(V, RANKS, method=method, **GIVEN[method])


def test_every_method_is_tested():
    assert set(GIVEN) == set(METHODS)


@pytest.mark.slow
@pytest.mark.parametrize("method", GIVEN)
def test_a_planted_rank_is_found(method):
    found = selected(method)
    assert found.rank == RANK
    assert f"rank {RANK} of 2 … 5 by {method}" in repr(found)
    assert {*RANKS} <= {*found.table.index}
    assert set(found.evidence) == {*found.table.index}
    # Every run in one sweep.
    lanes = {"ard": 1, "stability": 3 * len(RANKS)}.get(method, len(RANKS))
    assert len(found.sweep.lanes) == lanes * GIVEN[method]["seeds"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("consensus", {"samples": "columns"}),
        ("cross_validation", {}),
        ("stability", {"resample": "poisson"}),
        ("ard", {}),
        ("information", {}),
    ],
)
def test_a_planted_rank_is_found_in_counts(method, options):
    given = {"loss": "kullback-leibler", **GIVEN[method], **options}
    data = COUNTS.T if "samples" in options else COUNTS
    assert jaxnmf.select_rank(data, RANKS, method=method, **given).rank == RANK


@pytest.mark.slow
@pytest.mark.parametrize("method", ["consensus", "stability", "ard", "information"])
def test_merged_components_are_the_planted_ones(method):
    found_W, found_H = selected(method).factors()
    assert found_W.shape == W.shape
    np.testing.assert_allclose(found_H.sum(1), 1, rtol=1e-6)
    assert metrics.factor_match_score(found_W, found_H, W, H) > 0.95
    assert np.linalg.norm(found_W @ found_H - X) < 0.1 * np.linalg.norm(X)


@pytest.mark.slow
@pytest.mark.parametrize("method", GIVEN)
def test_what_is_stored_is_drawn_without_the_runs(method):
    found = selected(method)
    stored = RankSelection(
        method=type(found.method)(**dataclasses.asdict(found.method)),
        rank=found.rank,
        table=pd.read_json(io.StringIO(found.table.to_json(double_precision=15))),
        evidence={
            rank: {name: np.array(array) for name, array in parts.items()}
            for rank, parts in found.evidence.items()
        },
    )
    for parts in found.evidence.values():
        assert all(type(array) is np.ndarray for array in parts.values())
    of_method = {
        "consensus": jaxnmf.plots.consensus,
        "stability": jaxnmf.plots.silhouettes,
        "ard": jaxnmf.plots.relevance,
        "information": jaxnmf.plots.objectives,
        "residual_spread": jaxnmf.plots.objectives,
    }
    for draw in (jaxnmf.plots.selection, of_method.get(method)):
        if draw is None:
            continue
        one, other = draw(found), draw(stored)
        assert one.get_ylim() == pytest.approx(other.get_ylim())
        assert len(one.lines) == len(other.lines)
        for a, b in zip(one.lines, other.lines, strict=True):
            np.testing.assert_allclose(
                np.asarray(a.get_ydata(), float), np.asarray(b.get_ydata(), float)
            )
    with pytest.raises(ValueError, match=r"not stored|fits parts of V"):
        stored.factors()


@pytest.mark.slow
def test_relevance_finds_a_planted_rank_under_little_noise():
    noise = np.random.default_rng(1).standard_normal(SHAPE)
    almost_exact = np.maximum(X + 0.01 * noise, 0)
    assert jaxnmf.select_rank(almost_exact, RANKS, method="ard", seeds=3).rank == RANK


# --- Measures against independent ones ------------------------------------------------

LABELS = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 0], [0, 1, 2, 2]])
TOGETHER = np.array(
    [
        [1.0, 0.75, 0.25, 0.0],
        [0.75, 1.0, 0.25, 0.0],
        [0.25, 0.25, 1.0, 0.75],
        [0.0, 0.0, 0.75, 1.0],
    ]
)


def test_consensus_of_a_tiny_matrix_by_hand():
    C = clustering.consensus(LABELS)
    np.testing.assert_allclose(C, TOGETHER)
    # Of ten entries on and above the diagonal: 4 of 1, and 3/4, 1/4, 1/4, 0, 0, 3/4.
    assert clustering.dispersion(C) == pytest.approx(4 * (8 * 1 / 4 + 8 / 16) / 16)
    assert clustering.pac(C) == pytest.approx(4 / 6)
    assert clustering.pac(C, 0.3, 0.7) == 0
    distances = scipy.spatial.distance.squareform(1 - C)
    tree = scipy.cluster.hierarchy.linkage(distances, "average")
    expected, _ = scipy.cluster.hierarchy.cophenet(tree, distances)
    assert clustering.cophenetic(C)[0] == pytest.approx(expected)


def test_measures_of_runs_that_all_agree_are_perfect():
    C = clustering.consensus(np.array([[0, 0, 1], [1, 1, 0]]))
    assert clustering.cophenetic(C)[0] == pytest.approx(1)
    assert (clustering.dispersion(C), clustering.pac(C)) == (1, 0)
    assert clustering.cophenetic(np.ones((4, 4)))[0] == 1
    assert clustering.jackknife(np.array([[0, 0, 1]] * 4)) == pytest.approx(0)


@pytest.mark.slow
def test_the_consensus_is_that_of_the_runs():
    found = selected("consensus")
    lanes = [i for i, lane in enumerate(found.sweep.lanes) if lane.rank == 4]
    C = np.zeros((SHAPE[0],) * 2)
    for lane in lanes:
        labels = metrics.cluster_by_component(*found.sweep.factors(lane))
        C += labels[:, None] == labels
    np.testing.assert_allclose(found.evidence[4]["consensus"], C / len(lanes))


def test_silhouettes_are_those_of_scikit_learn():
    members = matching.unit(RNG.random((6, 3, 10)) + 2 * np.eye(3, 10))
    expected = sklearn.metrics.silhouette_samples(
        members.reshape(18, 10), np.tile(np.arange(3), 6), metric="cosine"
    )
    found = matching.silhouettes(members)
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-10)
    assert (matching.silhouettes(members[:, :1]) == 1).all()


@pytest.mark.slow
def test_of_several_starts_on_a_seeds_data_the_best_counts():
    asked: dict[str, Any] = {
        "max_iter": 40,
        "tol": 0,
        "solver": "mu",
        "init": "random",
    }
    found = jaxnmf.select_rank(
        COUNTS, [3], method="stability", seeds=[2, 7], starts=3, resample="poisson",
        loss="kl", **asked,
    )  # fmt: skip
    best, profiles = [], []
    for seed in (2, 7):
        data = np.random.default_rng(seed).poisson(COUNTS)
        runs = [
            jaxnmf.factorize(data, 3, seed=3 * seed + i, loss="kl", **asked)
            for i in range(3)
        ]
        best.append(min(run.objective for run in runs))
        profiles.append(min(runs, key=lambda run: run.objective).H)
    assert found.table["objective"][3] == pytest.approx(np.mean(best), rel=1e-4)
    order = matching.matched(matching.unit(np.stack(profiles)))
    members = np.take_along_axis(matching.unit(profiles), order[..., None], 1)
    labels = np.tile(np.arange(3), 2)
    expected = sklearn.metrics.silhouette_score(
        members.reshape(6, -1), labels, metric="cosine"
    )
    assert found.table["silhouette_mean"][3] == pytest.approx(expected, abs=1e-3)
    # The seeds share no start, and every start of one shares its data.
    assert [lane.seed for lane in found.sweep.lanes] == [6, 7, 8, 21, 22, 23]
    assert len({id(problem) for problem in found.sweep.builder.problems}) == 2


@pytest.mark.parametrize(
    ("mean", "least", "rank"),
    [
        ([0.99, 0.95, 0.85, 0.6], [0.98, 0.9, 0.4, 0.3], 4),
        ([0.99, 0.95, 0.85, 0.6], [0.98, 0.9, 0.1, 0.3], 3),
        ([0.99, 0.7, 0.85, 0.6], [0.98, 0.9, 0.2, 0.3], 4),
    ],
)
def test_stability_chooses_the_largest_stable_rank(mean, least, rank):
    table = pd.DataFrame({"silhouette_mean": mean, "silhouette_min": least}, RANKS)
    assert METHODS["stability"]().choose(table) == rank


def test_components_are_matched_whatever_their_order():
    base = matching.unit(RNG.random((4, 12)) ** 3)
    orders = np.stack([RNG.permutation(4) for _ in range(5)])
    runs = matching.unit(base[orders] + 0.02 * RNG.random((5, 4, 12)))
    order = matching.matched(runs)
    clusters = np.take_along_axis(orders, order, 1)
    assert (clusters == clusters[0]).all()


def test_criteria_are_their_formulas():
    found = selected("information")
    m, n = SHAPE
    bic, aic = {}, {}
    for rank in RANKS:
        D, d, N = found.sweep.best(rank).objective, rank * (m + n - rank), m * n
        bic[rank] = N * np.log(2 * D / N) + d * np.log(N)
        aic[rank] = N * np.log(2 * D / N) + 2 * d
        assert found.table["parameters"][rank] == d
    for name, values in (("bic", bic), ("aic", aic)):
        expected = np.array(list(values.values()))
        np.testing.assert_allclose(
            found.table[name], expected - expected.min(), atol=1e-3
        )
    np.testing.assert_allclose(found.table["mdl"], found.table["bic"] / 2)


@pytest.mark.slow
def test_the_spread_is_that_of_the_residuals():
    found = selected("residual_spread")
    for rank in (2, 4):
        lanes = [i for i, lane in enumerate(found.sweep.lanes) if lane.rank == rank]
        fits = [W @ H for W, H in map(found.sweep.factors, lanes)]
        spread = scipy.stats.iqr([V - X for X in fits], axis=0).mean()
        expected = spread / np.mean(fits)
        assert found.table["mci"][rank] == pytest.approx(expected, rel=1e-4, abs=1e-7)
        half = [0.5 * np.sum((V - X) ** 2) for X in fits]
        expected = scipy.stats.iqr(half) / np.median(half)
        assert found.table["objective_iqr"][rank] == pytest.approx(
            expected, rel=1e-2, abs=1e-6
        )


def test_only_known_entries_are_compared(monkeypatch):
    known = RNG.random(SHAPE) < 0.4
    observed = jaxnmf.Observed(*np.nonzero(known), V[known], SHAPE)
    loss = make_loss("frobenius")
    for data, mask in ((V, known), (observed, None)):
        rows, cols = spreads.known_entries(
            spreads.Data(V=data, mask=mask, shape=SHAPE, loss=loss)
        )
        np.testing.assert_array_equal([rows, cols], np.nonzero(known))
    monkeypatch.setattr(spreads, "MOST_ENTRIES", 50)
    rows, cols = spreads.known_entries(
        spreads.Data(V=V, mask=known, shape=SHAPE, loss=loss)
    )
    assert len(rows) == 50
    assert known[rows, cols].all()


# --- Candidates -----------------------------------------------------------------------


def candidates(method: str, table: dict[str, list[float]], **options: Any) -> list[int]:
    ranks = [2, 3, 4, 5]
    parts = np.array([-1.0, 1.0, -1.0, 1.0])
    errors = table.pop("errors", [[0.0]] * 4)
    chooser = METHODS[method](**options)
    columns = pd.DataFrame(table, ranks)
    evidence = {
        rank: {"errors": parts + np.resize(more, 4)}
        for rank, more in zip(ranks, errors, strict=True)
    }
    return RankSelection(
        method=chooser, rank=chooser.choose(columns), table=columns, evidence=evidence
    ).candidates


def test_candidates_are_what_is_nearly_as_good():
    cophenetic = {"cophenetic": [1.0, 0.97, 0.999, 0.9]}
    error = [0.0, 0.04, 0.0, 0.01]
    assert candidates("consensus", {**cophenetic, "cophenetic_se": error}) == [4, 2, 3]
    held_out: Any = {"error": [5.0, 1.1, 1.0, 1.2], "error_se": [0.3] * 4}
    held_out["errors"] = [[4.0], [1.0, -0.8], [0.0], [0.2]]
    assert candidates("cross_validation", held_out) == [3, 4]
    silhouettes: Any = {"silhouette_mean": [0.99, 0.9, 0.85, 0.6]}
    silhouettes["silhouette_min"] = [0.9, 0.1, 0.5, 0.1]
    assert candidates("stability", silhouettes) == [4, 2]
    runs: Any = {"runs": [1, 5, 3, 2], "share": [1 / 11, 5 / 11, 3 / 11, 2 / 11]}
    assert candidates("ard", runs) == [3, 4]
    bic: Any = {"bic": [1.5, 0.0, 2.5, 90.0]}
    assert candidates("information", bic) == [3, 2]
    mci: Any = {"mci": [0.001, 0.02, 0.01, 0.1]}
    assert candidates("residual_spread", mci) == [4, 2]
    assert candidates("residual_spread", mci, jump=15.0) == [2]


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, marks=() if method == "information" else pytest.mark.slow)
        for method in GIVEN
    ],
)
def test_the_chosen_rank_is_the_first_candidate(method):
    found = selected(method)
    assert found.candidates[0] == found.rank
    assert len({*found.candidates}) == len(found.candidates)
    assert dataclasses.replace(found, rank=None).candidates == []


# --- What is held out is not seen -----------------------------------------------------


def test_held_out_entries_do_not_reach_the_fit():
    given: dict[str, Any] = {"method": "cross_validation", "seeds": 2, "repeats": 2}
    first = jaxnmf.select_rank(V, [3], max_iter=50, **given)
    method = first.method
    parts = [method.split(first.data.known.observed(), i) for i in range(2)]
    for part, (kept, held) in enumerate(parts):
        assert len(held.values) == int(0.1 * V.size)
        assert not {*zip(kept.rows, kept.cols)} & {*zip(held.rows, held.cols)}  # noqa: B905
        changed = V.copy()
        changed[held.rows, held.cols] = 100 * RNG.random(len(held.values))
        second = jaxnmf.select_rank(changed, [3], max_iter=50, **given)
        (lane,) = (i for i, x in enumerate(first.sweep.lanes) if x.seed == part)
        for a, b in zip(
            first.sweep.runs[lane].factors, second.sweep.runs[lane].factors, strict=True
        ):
            np.testing.assert_array_equal(a, b)
        errors = (x.evidence[3]["errors"][part] for x in (first, second))
        assert 10 * next(errors) < next(errors)
        W, H = first.sweep.factors(lane)
        x = (W @ H)[held.rows, held.cols]
        error = first.evidence[3]["errors"][part]
        assert error == pytest.approx(0.5 * np.mean((held.values - x) ** 2), rel=1e-4)


@pytest.mark.slow
def test_sparse_and_observed_data_are_held_out_too():
    given: dict[str, Any] = {"method": "cross_validation", "seeds": 2, "repeats": 2}
    of = {"ranks": [2, 3], "max_iter": 30, "solver": "hals", **given}
    dense = jaxnmf.select_rank(V, **of)
    for same in (
        scipy.sparse.csr_array(V),
        jaxnmf.Observed(*np.indices(SHAPE).reshape(2, -1), V.ravel(), SHAPE),
    ):
        found = jaxnmf.select_rank(same, **of)
        np.testing.assert_allclose(
            found.table["error"], dense.table["error"], rtol=1e-3
        )


def test_a_held_out_block_is_predicted_as_owen_and_perry_do():
    from scipy.optimize import nnls

    found = selected("bi_cross_validation")
    rows, cols = found.method.blocks(found.data)[0]
    lanes = [
        (found.sweep.runs[i].trace.objective[-1], i)
        for i, lane in enumerate(found.sweep.lanes)
        if lane.rank == 3 and found.sweep.builder.data_of_seed[lane.seed] == 0
    ]
    W_D, H_D = found.sweep.factors(min(lanes)[1])
    B, C = np.delete(V[rows], cols, 1), np.delete(V[:, cols], rows, 0)
    W_A = np.stack([nnls(H_D.T, b)[0] for b in B])
    H_A = np.stack([nnls(W_D, c)[0] for c in C.T]).T
    expected = 0.5 * np.mean((V[np.ix_(rows, cols)] - W_A @ H_A) ** 2)
    assert found.evidence[3]["errors"][0] == pytest.approx(expected, rel=1e-2)


# --- Refused by name ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ranks": []}, "ranks is empty"),
        ({"ranks": [1, 2]}, "every sample is in one cluster"),
        ({"seeds": 1}, "at least 2 seeds"),
        ({"seeds": [1, 1]}, "contains duplicates"),
        ({"method": "consensu"}, "did you mean 'consensus'"),
        ({"sample": "rows"}, "no option 'sample'.*did you mean 'samples'"),
        ({"samples": "row"}, "must be one of rows, columns"),
        ({"method": "stability", "seeds": 1}, "at least 2 seeds"),
        ({"method": "stability", "resample": "bootstrap"}, "gaussian, poisson"),
        ({"method": "stability", "starts": 0}, "starts=0 must be an integer ≥ 1"),
        ({"method": "stability", "mean": 1.5}, "mean=1.5 must be between -1 and 1"),
        ({"method": "cross_validation", "share": 1.5}, "share=1.5 must be between"),
        ({"method": "cross_validation", "share": 1e-6}, "none to hold out"),
        ({"method": "cross_validation", "seeds": 3}, "fewer than the 5 parts"),
        (
            {"method": "bi_cross_validation", "ranks": [13]},
            "p = 13 cannot be judged: folds=2 leaves 12",
        ),
        (
            {"method": "information", "ranks": [25]},
            r"p = 25 cannot be judged: .*columns \(24\)",
        ),
        (
            {"method": "information", "loss": "itakura-saito"},
            "no.* likelihood|none for",
        ),
        ({"method": "ard", "solver": "mu"}, "has its own, 'ard'"),
        ({"method": "residual_spread", "seeds": 3}, "at least 4 seeds"),
        ({"method": "residual_spread", "of": "entry"}, "one of entries, objective"),
        ({"method": "residual_spread", "jump": 1}, "jump=1 must be between 1"),
        ({"method": "ard", "prior": "l3"}, "must be one of l1, l2"),
        ({"solver": "hals", "loss": "kullback-leibler"}, "does not support the loss"),
        ({"V": V[0]}, "must be a matrix"),
        ({"V": -V}, "negative entries"),
    ],
)
def test_bad_input_is_refused_before_anything_is_compiled(given, message, monkeypatch):
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("compiled")

    monkeypatch.setattr(lanes_module, "compiled", never)
    with pytest.raises(ValueError, match=message):
        jaxnmf.select_rank(**{"V": V, "ranks": [2, 3], **given})


def test_a_rank_without_runs_has_no_factors():
    with pytest.raises(ValueError, match=r"rank=9 is none"):
        selected("consensus").factors(9)
    with pytest.raises(ValueError, match="fits parts of V"):
        selected("bi_cross_validation").factors()
