"""Pictures of runs: on their way, against the rank, and against settings."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

import jaxnmf
from jaxnmf.plots.axes import log_ticks
from jaxnmf.plots.sensitivity import medians

V = np.random.default_rng(0).random((12, 8))


@pytest.fixture(scope="session")
def results() -> Any:
    given = {"max_iter": 20, "tol": 0, "record_every": 5}
    return [
        jaxnmf.factorize(V, 2, seed=seed, init="random", **given) for seed in (0, 1)
    ]


@pytest.fixture(scope="session")
def swept() -> Any:
    settings = {"l1": [0.0, 0.1], "l2": [0.0, 1.0]}
    return jaxnmf.sweep(V, [2, 3], 3, settings=settings, max_iter=10)


def lines(axes: Any) -> dict[str, np.ndarray]:
    return {line.get_label(): np.array(line.get_data(), float) for line in axes.lines}


# ---------------------------------------------------------------- convergence


def test_the_objective_of_a_run(results):
    trace = results[0].trace
    axes = jaxnmf.plots.convergence(results[0])
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xdata(), trace.iteration[1:])
    np.testing.assert_array_equal(line.get_ydata(), trace.objective[1:])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("iterations", "objective")
    assert axes.get_legend() is None


def test_several_runs_have_names_and_share_colours(results):
    given = {"a": results, "b": results[1]}
    ax = Figure().subplots()
    axes = jaxnmf.plots.convergence(
        given, y="kkt", x="seconds", styles={"b": {"linestyle": "--"}}, ax=ax
    )
    assert axes is ax
    first, second, other = axes.lines
    assert first.get_color() == second.get_color() != other.get_color()
    assert other.get_linestyle() == "--"
    for line, result in zip(axes.lines, (*results, results[1]), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), result.trace.seconds[1:])
        np.testing.assert_array_equal(line.get_ydata(), result.trace.kkt[1:])
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["a", "b"]
    assert axes.get_ylabel() == "KKT residual"


def test_a_small_range_has_several_plain_ticks():
    axes = Figure().subplots()
    for low, high, expected in (
        (0.12, 0.48, ["0.2", "0.3", "0.4"]),
        (0.12, 0.6, ["0.2", "0.5"]),
        (0.5, 2e3, ["1", "10", "100", "1000"]),
    ):
        axes.set(yscale="log", ylim=(low, high))
        log_ticks(axes.yaxis, low, high)
        found = [tick.get_text() for tick in axes.get_yticklabels()]
        assert found == expected


def test_the_error_and_how_far_it_is_above_the_best(results):
    axes = jaxnmf.plots.convergence(results[0], y="error")
    (line,) = axes.lines
    assert line.get_ydata()[-1] == pytest.approx(results[0].relative_error)
    expected = np.sqrt(2 * results[0].trace.objective[1:]) / np.linalg.norm(V)
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-5)
    axes = jaxnmf.plots.convergence({"a": results}, above_best=True)
    best = min(result.objective for result in results)
    for line, result in zip(axes.lines, results, strict=True):
        gap = result.trace.objective[1:] - best
        np.testing.assert_allclose(line.get_ydata(), gap[gap > 0])
    assert axes.get_ylabel() == "objective above the best"


def test_a_residual_of_zero_is_said_where_it_cannot_be_drawn(results):
    trace = results[0].trace
    exact = trace._replace(kkt=np.where(trace.iteration > 0, 0, trace.kkt))
    ax = jaxnmf.plots.convergence(dataclasses.replace(results[0], trace=exact), y="kkt")
    assert ax.get_xscale() == "linear"
    assert [text.get_text() for text in ax.texts] == ["0 after the start"]


def test_what_convergence_cannot_draw(results):
    plain = jaxnmf.factorize(V, 2, max_iter=9, record_every=3, tol=0, kkt=False)
    other = jaxnmf.factorize(V, 2, loss="kl", solver="mu", max_iter=2)
    for given, arguments, message in (
        (results[0], {"y": "loss"}, "y='loss' must be one of objective, error, kkt"),
        (results[0], {"x": "time"}, "x='time' must be one of iterations, seconds"),
        (plain, {"y": "kkt"}, "not recorded on the way; run with kkt=True"),
        (other, {"y": "error"}, "y='error' is for the Frobenius loss"),
        ({"a": 3}, {}, "results holds a int"),
        ({}, {}, "results is empty"),
        (results[0], {"ax": "here"}, "ax is a str"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxnmf.plots.convergence(given, **arguments)


# ---------------------------------------------------------------- the end of runs

RUNS = pd.DataFrame(
    {
        "solver": ["a"] * 6 + ["b"],
        "rank": [2, 2, 2, 4, 4, 4, 2],
        "error": [0.5, 0.3, 0.4, 0.2, 0.1, np.inf, 0.7],
    }
)


def test_errors_against_the_rank_have_a_median_and_a_range():
    styles = {"b": {"color": "red", "linestyle": ":"}}
    axes = jaxnmf.plots.error_against_rank(
        RUNS, value="error", styles=styles, level=0.6
    )
    found = lines(axes)
    np.testing.assert_allclose(found["a"], [[2, 4], [0.4, 0.15]])
    np.testing.assert_allclose(found["b"], [[2], [0.7]])
    assert axes.lines[1].get_color() == "red"
    np.testing.assert_allclose(axes.lines[2].get_ydata(), 0.6)
    bars = [segment.tolist() for segment in axes.collections[0].get_segments()]
    assert bars == [[[2, 0.3], [2, 0.5]], [[4, 0.1], [4, 0.2]]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("rank", "error")
    assert len(axes.get_legend().get_texts()) == 2


def test_a_sweep_against_the_rank(swept):
    axes = jaxnmf.plots.error_against_rank(swept, by="l1", legend=False)
    assert axes.get_legend() is None
    assert axes.get_ylabel() == "relative error"
    by = swept.table.groupby(["l1", "rank"])["relative_error"].median()
    for value in (0.0, 0.1):
        np.testing.assert_allclose(lines(axes)[str(value)], [[2, 3], by[value]])
    objective = jaxnmf.plots.error_against_rank(swept, value="objective")
    assert objective.get_ylabel() == "objective"


def test_without_errors_the_objective_is_drawn():
    table = pd.DataFrame({"rank": [2], "relative_error": [np.nan], "objective": [3.0]})
    axes = jaxnmf.plots.error_against_rank(table)
    np.testing.assert_allclose(axes.lines[0].get_data(), [[2], [3]])


@pytest.mark.parametrize(
    ("results", "arguments", "message"),
    [
        (V, {}, "results is a ndarray; give a SweepResult"),
        (RUNS.iloc[:0], {}, "holds no run"),
        (RUNS, {"value": "loss"}, "value='loss' is no column of the runs, .* error"),
        (RUNS, {"value": "error", "by": "loss"}, "by='loss' is no column"),
        (RUNS[["error"]], {"value": "error"}, "no column rank"),
    ],
)
def test_tables_that_do_not_fit(results, arguments, message):
    with pytest.raises(ValueError, match=message):
        jaxnmf.plots.error_against_rank(results, **arguments)


# ---------------------------------------------------------------- settings

SWEPT = pd.DataFrame(
    [
        {"rank": 2, "seed": seed, "step": step, "l1": l1, "error": error + 0.2 * seed}
        for seed in (0, 1)
        for step, l1, error in (
            (0.0, 0.0, 4.0),
            (0.0, 1.0, 3.0),
            (0.1, 0.0, 1.0),
            (0.1, 1.0, 2.0),
            (1.0, 0.0, np.nan),
            (1.0, 1.0, np.nan),
        )
    ]
)


def test_an_error_against_a_setting_with_the_others_at_their_best():
    axes = jaxnmf.plots.sensitivity(SWEPT, "step", others=["l1"], value="error")
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_xdata(), [0, 0.1, 1])
    np.testing.assert_allclose(line.get_ydata(), [3.1, 1.1, np.nan])
    band = axes.collections[0].get_paths()[0].vertices
    assert {1.0, 1.2} <= set(np.round(band[band[:, 0] == 0.1][:, 1], 12))
    assert (axes.get_xscale(), axes.get_xlabel()) == ("symlog", "step")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "0.1", "1"]
    assert axes.get_ylabel() == "median error"


def test_a_setting_of_a_sweep(swept):
    axes = jaxnmf.plots.sensitivity(swept, "l2")
    table = swept.table
    for rank in (2, 3):
        here = table[table["rank"] == rank]
        by = here.groupby(["l2", "l1"])["relative_error"].median().groupby("l2").min()
        np.testing.assert_allclose(lines(axes)[str(rank)], [by.index, by])
    assert axes.get_legend().get_title().get_text() == "rank"


def test_a_median_of_failures():
    runs = pd.DataFrame({"s": [0] * 4, "error": [1.0, 2.0, np.inf, np.inf]})
    assert medians(runs, ["s"])["error"].item() == np.inf
    assert medians(runs.iloc[:3], ["s"])["error"].item() == 2
    assert medians(runs.iloc[:2], ["s"])["error"].item() == 1.5
    # A run that diverged counts as infinite, whatever it has.
    table = SWEPT.assign(status=np.where(SWEPT["step"] == 0.1, "diverged", "converged"))
    axes = jaxnmf.plots.sensitivity(table, "step", others=["l1"], value="error")
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [3.1, np.nan, np.nan])


def test_combinations_of_two_settings_are_a_map():
    axes = jaxnmf.plots.sensitivity_map(SWEPT, "l1", "step", value="error")
    times = np.ma.filled(axes.images[0].get_array(), np.nan)
    expected = np.array([[4.1, 1.1, np.nan], [3.1, 2.1, np.nan]]) / 1.1
    np.testing.assert_allclose(times, expected)
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts[(1, 0)] == "1.10"
    assert texts[(2, 1)] == "diverged"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "0.1", "1"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["0", "1"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "l1")
    wide = pd.DataFrame(
        {"rank": 2, "a": 0.0, "b": np.arange(9.0), "error": 10.0 ** np.arange(9)}
    )
    axes = jaxnmf.plots.sensitivity_map(wide, "a", "b", value="error")
    assert not axes.texts
    assert isinstance(axes.images[0].norm, LogNorm)
    bar = axes.images[0].colorbar
    assert bar is not None
    assert bar.ax.get_ylabel() == "times the least error"


def test_a_map_of_ranks_compares_within_a_rank(swept):
    axes = jaxnmf.plots.sensitivity_map(swept, "rank", "l1")
    table = swept.table.groupby(["rank", "l1", "l2"])["relative_error"].median()
    least = table.groupby(["rank", "l1"]).min().unstack("l1")
    times = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(times, least.div(least.min(axis=1), axis=0))


def test_settings_that_there_are_not(swept):
    for function, names in (("sensitivity", ["l3"]), ("sensitivity_map", ["l1", "l3"])):
        with pytest.raises(ValueError, match="setting='l3' is no column"):
            getattr(jaxnmf.plots, function)(swept, *names)
    with pytest.raises(ValueError, match="others='l3' is no column"):
        jaxnmf.plots.sensitivity(swept, "l1", others=["l3"])
