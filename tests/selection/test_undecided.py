"""Where a method of rank selection cannot tell: no rank, a reason, and the table."""

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxnmf
from jaxnmf.experiment.cli import main
from jaxnmf.experiment.store import stored
from jaxnmf.selection import METHODS

RNG = np.random.default_rng(5)
M, N, P = 30, 24, 3
W = 0.3 * RNG.gamma(0.5, size=(M, P))
W[np.arange(M), np.arange(M) % P] += RNG.uniform(0.7, 1.3, M)
X = W @ RNG.gamma(0.5, size=(P, N))
X /= X.mean()
V = np.maximum(X + 0.1 * RNG.standard_normal(X.shape), 0)
SEEDS: dict[str, Any] = {"consensus": 6, "information": 3, "stability": 3, "ard": 3}


def select(data: Any, ranks: Any, method: str = "consensus", **given: Any) -> Any:
    """A selection, and what it warned of."""
    given = {"seeds": SEEDS.get(method, 5), **given}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = jaxnmf.select_rank(data, ranks, method=method, **given)
    return found, [str(one.message) for one in caught]


# --- Too few samples ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "judged"), [(3, [2]), (4, [2, 3])])
def test_ranks_that_reach_the_number_of_samples_are_left_out(samples, judged):
    data = np.random.default_rng(samples).poisson(3, (samples, 96))
    found, said = select(data, range(2, 7), seeds=10)
    assert found.rank is None
    assert list(found.table.index) == [2, 3, 4, 5, 6]
    assert list(found.evidence) == judged
    assert set(found.table["note"][judged]) == {""}
    others = found.table.loc[samples:]
    assert set(others["note"]) == {"cannot be judged"}
    assert others["cophenetic"].isna().all()
    assert f"V has rows ({samples})" in found.reason
    assert said == [f"no p is chosen: {found.reason}"]
    # So too where it is samples that are in columns.
    turned, _ = select(data.T, range(2, 7), seeds=10, samples="columns")
    assert turned.rank is None


@pytest.mark.parametrize("method", METHODS)
def test_where_no_rank_can_be_judged_it_is_refused(method):
    thin = np.random.default_rng(0).random((2, 96))
    for data, ranks in ((thin, [2, 3]), (V[:, :4], [4, 5])):
        with pytest.raises(ValueError, match=r"^ranks: p = .* cannot be judged: "):
            jaxnmf.select_rank(data, ranks, method=method, seeds=8)
    with pytest.raises(ValueError, match="V is zero throughout"):
        jaxnmf.select_rank(np.zeros((10, 8)), [2, 3], method=method, seeds=8)


@pytest.mark.slow
def test_what_is_left_of_the_ranks_is_chosen_from():
    few = V[:, :5]
    found, said = select(few, [2, 3, 4, 5, 6], "information")
    alone, silent = select(few, [2, 3, 4], "information")
    assert found.rank == alone.rank
    assert alone.reason == METHODS["information"].rule
    assert silent == []
    (message,) = said
    assert message.startswith(f"p = {found.rank} is chosen: ")
    assert "p = 5, 6 cannot be judged, for" in message
    measures = [name for name in alone.table if name != "note"]
    pd.testing.assert_frame_equal(
        found.table.loc[[2, 3, 4], measures], alone.table, check_dtype=False
    )


def test_one_rank_is_no_choice_and_is_taken():
    found, said = select(V, [3])
    assert found.rank == 3
    assert said == []


# --- Runs that stopped early ----------------------------------------------------------


@pytest.mark.parametrize(
    "given", [{"max_iter": 10}, {"tol": 0.1}], ids=["max_iter", "tol"]
)
@pytest.mark.slow
@pytest.mark.parametrize("method", ["consensus", "information", "cross_validation"])
def test_runs_that_stopped_early_say_nothing_of_p(method, given):
    found, said = select(V, [2, 3, 4, 5], method, **given)
    assert found.rank is None
    assert (found.table["settled"] < 0.5).any()
    assert "runs stopped early" in found.reason
    assert "raise max_iter, or lower tol" in found.reason
    assert said == [f"no p is chosen: {found.reason}"]


@pytest.mark.slow
def test_runs_go_on_until_the_criterion_is_more_than_their_stop():
    """With little noise a change of 1e-5 of the first objective is the whole fit."""
    noise = np.random.default_rng(0).standard_normal(X.shape)
    data = np.maximum(X * (1 + 1e-3 * noise), 0)
    early, _ = select(data, [2, 3, 4, 5], "information", max_iter=500, tol=1e-5)
    assert early.rank is None
    found, said = select(data, [2, 3, 4, 5], "information")
    assert found.rank == P
    assert said == []
    assert (found.table["settled"] > 0.5).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_still_falls_is_no_exact_fit(method):
    def run(*objective: float) -> Any:
        return SimpleNamespace(trace=[[0, 10, 20], objective])

    assert not METHODS[method]().settled(run(100.0, 15.0, 12.0))
    assert METHODS[method]().settled(run(100.0, 15.0, 14.9))


# --- A flat table ---------------------------------------------------------------------


def flat(
    method: str, column: str, values: list[float], samples: int = 20, **more: Any
) -> str:
    table = pd.DataFrame({column: values, **more}, [2, 3, 4])
    evidence = {rank: {"labels": np.zeros((5, samples))} for rank in table.index}
    return METHODS[method]().doubt(table, evidence)


def test_a_flat_table_tells_nothing():
    assert "does not fall" in flat("consensus", "cophenetic", [1.0, 0.996, 1.0])
    assert not flat("consensus", "cophenetic", [1.0, 1.0, 0.9])
    assert "too few samples: 3" in flat("consensus", "cophenetic", [1.0, 1.0, 0.9], 6)
    assert "less than 2" in flat("information", "bic", [1.0, 0.0, 1.5])
    assert not flat("information", "bic", [100.0, 0.0, 1.5])
    silhouettes = {"silhouette_min": [0.1, 0.1, 0.1]}
    unstable = flat("stability", "silhouette_mean", [0.5, 0.7, 0.6], **silhouettes)
    assert "no p has components with silhouettes" in unstable
    assert "nearest is p = 3" in unstable
    spread = flat("residual_spread", "mci", [0.01, 0.02, 0.04])
    assert "at no p is the spread of the next over 5 times as large" in spread
    assert not flat("residual_spread", "mci", [0.01, 0.001, 0.04])
    for runs, reason in (
        ([0, 0, 0], "no component is relevant"),
        ([1, 1, 1], "no two runs end at the same p"),
        ([0, 0, 3], "no component fades; start from more than 4"),
        ([0, 3, 0], ""),
    ):
        share = [one / 3 for one in runs]
        assert reason in flat("ard", "share", share, runs=runs)
        assert bool(reason) == bool(flat("ard", "share", share, runs=runs))


def test_errors_are_compared_part_by_part():
    """Parts differ in how hard they are to predict, which is no noise of p."""
    rng, p = np.random.default_rng(0), [2, 3, 4]
    hard = rng.uniform(1, 100, 8)
    for better, none in ((0.0, True), (0.9, False)):
        noise = rng.standard_normal((3, 8)) * 0.3
        noise -= noise.mean(1, keepdims=True)
        errors = hard + noise - better * np.array([0, 1, 1])[:, None]
        evidence = {rank: {"errors": one} for rank, one in zip(p, errors, strict=True)}
        table = pd.DataFrame({"error": errors.mean(1), "error_se": 1.0}, p)
        doubt = METHODS["cross_validation"]().doubt(table, evidence)
        assert bool(doubt) == none


def test_data_of_noise_alone_choose_nothing_by_cross_validation():
    noise = np.random.default_rng(3).uniform(0.9, 1.1, (30, 24))
    found, _ = select(noise, [1, 2, 3], "cross_validation", seeds=8, repeats=4)
    assert found.rank in (None, 1)


# --- What comes of it -----------------------------------------------------------------


@pytest.fixture(scope="session")
def undecided() -> dict[str, Any]:
    return {
        method: select(V[:, :5], [2, 3, 4, 5], method, max_iter=1)[0]
        for method in METHODS
        if method != "bi_cross_validation"
    }


@pytest.mark.slow
def test_a_selection_without_a_rank_is_drawn_and_described(undecided):
    more = {
        "consensus": jaxnmf.plots.consensus,
        "stability": jaxnmf.plots.silhouettes,
        "ard": jaxnmf.plots.relevance,
        "information": jaxnmf.plots.objectives,
        "residual_spread": jaxnmf.plots.objectives,
    }
    for method, found in undecided.items():
        assert found.rank is None, method
        axes = jaxnmf.plots.selection(found)
        assert "chosen: none" in axes.get_xlabel()
        if method in more:
            more[method](found)
        assert found.reason in repr(found)
        if found.method.consensus:
            with pytest.raises(ValueError, match=r"no p was chosen: .*give a rank"):
                found.factors()
            with pytest.raises(ValueError, match="rank=5 is none of those measured"):
                found.factors(5)
        if method == "consensus":
            assert np.isfinite(found.factors(2)[0]).all()


@pytest.mark.slow
def test_a_study_without_a_choice_has_its_table_and_page(tmp_path, capsys):
    given = ["dataset=synthetic", "dataset.m=20", "dataset.n=6", "dataset.rank=2"]
    given += ["solver=hals", "ranks=[2,3,6]", "seeds=[0,1,2]", "stop.max_iter=2"]
    select = "select=consensus"
    assert main(["run", *given, select, f"folder={tmp_path}"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "choice of p" in printed
    for job in stored.read_jobs(tmp_path):
        assert job.manifest["chosen"] is None
        assert "runs stopped early" in job.manifest["reason"]
        assert list(job.choice().index) == [2, 3, 6]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No p was chosen: runs stopped early" in page
    assert main(["reproduce", str(tmp_path)]) == 0
