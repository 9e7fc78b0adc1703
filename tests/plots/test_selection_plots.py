"""Pictures of choices of p, drawn from what is stored of them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import jaxnmf
from jaxnmf.selection import METHODS, RankSelection

RANKS = [2, 3, 4]


def choice(method: str, columns: dict, evidence: Any, **options: Any) -> RankSelection:
    """A choice of p = 3 as it comes back from the store."""
    table = pd.DataFrame(columns, index=pd.Index(RANKS, name="rank"))
    return RankSelection(
        method=METHODS[method](**options), rank=3, table=table, evidence=evidence
    )


def errors_of(axes: Any) -> dict[str, np.ndarray]:
    """Label of each line with error bars → its values and half lengths."""
    found = {}
    for container in axes.containers:
        line, _, bars = container
        half = [np.ptp(segment[:, 1]) / 2 for segment in bars[0].get_segments()] \
            if bars else None  # fmt: skip
        found[container.get_label()] = (np.asarray(line.get_ydata(), float), half)
    return found


def marked(axes: Any) -> list[float]:
    """Where the grey bars are, that mark the choice."""
    return [line.get_xdata()[0] for line in axes.lines if line.get_linewidth() == 8]


CONSENSUS = choice(
    "consensus",
    {
        "cophenetic": [1.0, 0.99, 0.8],
        "cophenetic_se": [0.0, 0.01, 0.1],
        "dispersion": [0.9, 0.8, 0.7],
        "pac": [0.0, 0.1, 0.3],
        "objective": [3.0, 2.0, 1.0],
    },
    {
        rank: {
            "consensus": np.array([[1, 0, rank / 10], [0, 1, 0], [rank / 10, 0, 1]]),
            "order": np.array([0, 2, 1]),
        }
        for rank in RANKS
    },
    samples="columns",
)
HELD_OUT = choice(
    "cross_validation",
    {"error": [0.4, 0.2, 0.3], "error_se": [0.01, 0.02, 0.03]},
    {rank: {"errors": np.array([0.1, 0.2, 0.3]) * rank} for rank in RANKS},
)
STABILITY = choice(
    "stability",
    {
        "silhouette_min": [0.9, 0.8, 0.1],
        "silhouette_mean": [0.95, 0.9, 0.6],
        "silhouette_std": [0.01, 0.02, 0.1],
        "objective": [3.0, 2.0, 1.0],
        "objective_std": [0.1, 0.1, 0.1],
    },
    {
        rank: {"silhouettes": np.linspace(0.2, 0.9, 2 * rank).reshape(2, rank)}
        for rank in RANKS
    },
)
ARD = choice(
    "ard",
    {"share": [0.0, 0.75, 0.25], "runs": [0, 3, 1], "objective": [np.nan, 2.0, 1.0]},
    {
        2: {"relevance": np.zeros((0, 4))},
        3: {"relevance": np.array([[3.0, 1, 2, 0]] * 3)},
        4: {"relevance": np.array([[3.0, 1, 2, 4]])},
    },
)
INFORMATION = choice(
    "information",
    {"aic": [5.0, 0.0, 1.0], "bic": [4.0, 0.0, 3.0], "objective": [3.0, 2.0, 1.0]},
    {rank: {"objectives": np.array([5.0, 6.0]) - rank} for rank in RANKS},
)
RESIDUAL_SPREAD = choice(
    "residual_spread",
    {
        "mci": [0.02, 0.001, 0.1],
        "objective_iqr": [0.1, 0.01, 0.02],
        "objective": [3.0, 2.0, 1.0],
    },
    {rank: {"objectives": np.array([5.0, 6.0]) - rank} for rank in RANKS},
)
ALL = [CONSENSUS, HELD_OUT, STABILITY, ARD, INFORMATION, RESIDUAL_SPREAD]


@pytest.mark.parametrize("found", ALL, ids=lambda found: found.method.name)
def test_the_choice_is_marked_against_every_p(found):
    axes = Figure().subplots()
    assert jaxnmf.plots.selection(found, ax=axes) is axes
    assert marked(axes) == [3]
    assert axes.get_xlabel() == "components p (chosen: 3)"
    assert list(axes.get_xticks()) == RANKS
    assert axes.get_ylabel()
    assert jaxnmf.plots.selection(found).figure is not axes.figure


def test_the_measures_of_consensus():
    axes = jaxnmf.plots.selection(CONSENSUS)
    found = errors_of(axes)
    assert list(found) == ["cophenetic correlation", "dispersion", "PAC"]
    np.testing.assert_allclose(found["cophenetic correlation"][0], [1, 0.99, 0.8])
    np.testing.assert_allclose(found["cophenetic correlation"][1], [0, 0.01, 0.1])
    np.testing.assert_allclose(found["PAC"][0], [0, 0.1, 0.3])
    assert found["PAC"][1] is None
    assert len(axes.get_legend().get_texts()) == 3


def test_measures_that_are_asked_for():
    axes = jaxnmf.plots.selection(CONSENSUS, measures=["cophenetic"])
    assert list(errors_of(axes)) == ["cophenetic correlation"]
    assert axes.get_ylabel() == "cophenetic correlation"
    assert axes.get_legend() is None
    axes = jaxnmf.plots.selection(CONSENSUS, measures=["objective", "pac"])
    assert list(errors_of(axes)) == ["objective", "PAC"]
    with pytest.raises(ValueError, match="measures holds 'aic', which is no column"):
        jaxnmf.plots.selection(CONSENSUS, measures=["aic"])


def test_the_errors_of_held_out_parts():
    axes = jaxnmf.plots.selection(HELD_OUT)
    np.testing.assert_allclose(
        [line.get_ydata() for line in axes.lines[:3]],
        [[0.1 * rank * i for rank in RANKS] for i in (1, 2, 3)],
    )
    ((mean, half),) = errors_of(axes).values()
    np.testing.assert_allclose(mean, [0.4, 0.2, 0.3])
    np.testing.assert_allclose(half, [0.01, 0.02, 0.03])


def test_an_outlier_does_not_flatten_the_picture():
    evidence = {rank: {"errors": parts["errors"].copy()} for rank, parts in
                HELD_OUT.evidence.items()}  # fmt: skip
    evidence[4]["errors"][0] = 1000.0
    found = RankSelection(
        method=HELD_OUT.method, rank=3, table=HELD_OUT.table, evidence=evidence
    )
    axes = jaxnmf.plots.selection(found)
    low, high = axes.get_ylim()
    assert low < 0.2 < 1.2 < high < 2
    title = axes.get_legend().get_title().get_text()
    assert title == "1 of 9 errors are beyond"


def test_the_silhouettes_and_the_objective_of_stability():
    axes = jaxnmf.plots.selection(STABILITY)
    found = errors_of(axes)
    np.testing.assert_allclose(found["silhouette, mean"][0], [0.95, 0.9, 0.6])
    thresholds = [
        line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"
    ]
    assert thresholds == [0.2, 0.8]
    (right,) = (each for each in axes.figure.axes if each is not axes)
    ((objective, _),) = errors_of(right).values()
    np.testing.assert_allclose(objective, [3, 2, 1])
    assert right.get_ylabel() == "objective"


def test_how_many_runs_end_at_each_p():
    axes = jaxnmf.plots.selection(ARD)
    assert [bar.get_height() for bar in axes.patches] == [0, 3, 1]


def test_information_criteria_and_the_objective_of_every_run():
    found = errors_of(jaxnmf.plots.selection(INFORMATION))
    np.testing.assert_allclose(found["AIC"][0], [5, 0, 1])
    np.testing.assert_allclose(found["BIC"][0], [4, 0, 3])
    axes = jaxnmf.plots.objectives(INFORMATION)
    ((best, _),) = errors_of(axes).values()
    np.testing.assert_allclose(best, [3, 2, 1])
    dots = [line.get_data() for line in axes.lines if line.get_marker() == "."]
    np.testing.assert_allclose(dots[1], [[3, 3], [2, 3]])
    assert marked(axes) == [3]


def test_the_consensus_matrix_is_reordered():
    axes = jaxnmf.plots.consensus(CONSENSUS)
    image = axes.images[0]
    np.testing.assert_allclose(image.get_array(), [[1, 0.3, 0], [0.3, 1, 0], [0, 0, 1]])
    assert image.get_clim() == (0, 1)
    assert image.colorbar is not None
    assert axes.get_title() == "consensus of samples, p = 3"
    assert axes.get_xlabel() == "samples (columns of V), by average linkage"
    ax = Figure().subplots()
    jaxnmf.plots.consensus(CONSENSUS, rank=2, colorbar=False, ax=ax, cmap="gray")
    assert np.asarray(ax.images[0].get_array())[0, 1] == 0.2
    assert ax.images[0].get_cmap().name == "gray"
    assert ax.figure.axes == [ax]
    with pytest.raises(ValueError, match=r"rank=7 is none of those .*\[2, 3, 4\]"):
        jaxnmf.plots.consensus(CONSENSUS, rank=7)


def test_a_large_consensus_matrix_is_averaged():
    C = np.repeat(np.repeat(np.eye(2), 240, 0), 240, 1)
    C[0, 1] = 0.5
    evidence = {3: {"consensus": C, "order": np.arange(480)}}
    found = RankSelection(
        method=CONSENSUS.method, rank=3, table=CONSENSUS.table, evidence=evidence
    )
    image = np.asarray(jaxnmf.plots.consensus(found).images[0].get_array())
    assert image.shape == (240, 240)
    assert image[0, 0] == (3 + 0.5) / 4
    assert image[5, 200] == 0


def test_silhouettes_are_bars_by_component():
    axes = jaxnmf.plots.silhouettes(STABILITY)
    values = STABILITY.evidence[3]["silhouettes"]
    order = np.argsort(-values.mean(0))
    np.testing.assert_allclose(
        [bar.get_width() for bar in axes.patches], np.sort(values[:, order].T).ravel()
    )
    assert [text.get_text() for text in axes.texts] == [str(k) for k in order]
    assert axes.lines[0].get_xdata()[0] == pytest.approx(values.mean())


def test_relevance_of_every_run():
    axes = jaxnmf.plots.relevance(ARD)
    *runs, threshold = axes.lines
    assert len(runs) == 4
    for line in runs[:3]:
        np.testing.assert_allclose(line.get_ydata(), [3, 2, 1, 1e-6])
        assert line.get_color() == "C0"
    np.testing.assert_allclose(runs[3].get_ydata(), [4, 3, 2, 1])
    assert runs[3].get_color() != "C0"
    assert threshold.get_ydata()[0] == 0.01
    assert axes.get_yscale() == "log"


@pytest.mark.parametrize(
    ("function", "found", "message"),
    [
        ("consensus", ARD, "method 'ard' has no consensus to draw; 'consensus' has"),
        ("silhouettes", ARD, "no silhouettes to draw; 'stability' has"),
        ("relevance", CONSENSUS, "no relevance to draw; 'ard' has"),
        ("objectives", ARD, "no objectives to draw; 'information' has"),
        ("selection", ARD.table, "found is a DataFrame; give a RankSelection"),
        ("consensus", None, "found is a NoneType"),
    ],
)
def test_what_is_not_a_choice_by_that_method(function, found, message):
    with pytest.raises(ValueError, match=message):
        getattr(jaxnmf.plots, function)(found)


def test_every_method_has_a_picture():
    from jaxnmf.plots.selection import MEASURES, WHAT

    assert set(MEASURES) == set(WHAT) == set(METHODS)
