"""The report: its statistics by hand, its words, its page and its table."""

import dataclasses
import re
from html.parser import HTMLParser
from time import perf_counter
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy.sparse import csr_array, random_array
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF

from jaxnmf.data.observed import Observed
from jaxnmf.datasets.base import Dataset, Truth
from jaxnmf.experiment.report import (
    build_report,
    comparison_table,
    curves,
    gather,
    pictures,
    print_table,
    residual,
    sentences,
    statistics,
    tables,
    topics,
    words,
)
from jaxnmf.experiment.report.drawing import drawn, panel
from jaxnmf.experiment.store.stored import read_jobs
from jaxnmf.experiment.store.write import write_job
from jaxnmf.plots import samples

# ---------------------------------------------------------------- made-up tables


def runs(*rows):
    """(summary, trace) of (solver, seed, [(iteration, seconds, error), …])."""
    summary, trace = [], []
    for solver, seed, records in rows:
        run = f"{solver}-r4-s{seed}"
        error = records[-1][2]
        summary.append(
            {
                "run": run,
                "dataset": "d",
                "loss": "frobenius",
                "solver": solver,
                "rank": 4,
                "seed": seed,
                "objective": error,
                "error": error,
                "relative_error": error,
                "iterations": records[-1][0],
                "seconds": records[-1][1],
                "compile_seconds": 1.0 + seed,
                "kkt": np.nan,
                "status": "converged" if np.isfinite(error) else "diverged",
            }
        )
        trace += [
            {
                "run": run,
                "iteration": iteration,
                "seconds": float(seconds),
                "objective": error,
                "error": float(error),
                "kkt": np.nan,
            }
            for iteration, seconds, error in records
        ]
    return pd.DataFrame(summary), pd.DataFrame(trace)


# error = 10^-t at t = 0, 1, 2 seconds: a straight line in log error
LINE = [(0, 0, 1.0), (10, 1, 0.1), (20, 2, 0.01)]


def test_time_to_a_target_is_interpolated_in_log_error():
    table = comparison_table(*runs(("a", 0, LINE)))
    (row,) = table.to_dict("records")
    assert row["seconds_to_1pct"] == pytest.approx(2 - np.log10(1.01))
    assert row["seconds_to_0.1pct"] == pytest.approx(2 - np.log10(1.001))
    assert (row["median_error"], row["best_error"]) == (0.01, 0.01)
    assert (row["iterations"], row["seconds"]) == (20, 2)


def test_the_target_is_set_by_the_best_of_all_solvers_and_seeds():
    never = [(0, 0, 1.0), (10, 1, 0.5)]
    slower = [(0, 0, 1.0), (10, 4, 0.01)]
    table = comparison_table(
        *runs(("a", 0, LINE), ("a", 1, LINE), ("b", 0, never), ("b", 1, slower))
    ).set_index("solver")
    assert table.loc["a", "seconds_to_1pct"] == pytest.approx(2 - np.log10(1.01))
    # Half of the seeds of b get there: the median is the last of those.
    assert table.loc["b", "seconds_to_1pct"] == pytest.approx(4 - 2 * np.log10(1.01))
    assert table.loc["b", "median_error"] == pytest.approx((0.5 + 0.01) / 2)
    assert table.loc["b", "best_error"] == 0.01


def test_a_median_is_missing_where_most_seeds_never_get_there():
    never = [(0, 0, 1.0), (10, 1, 0.5)]
    rows = [("a", 0, LINE), ("b", 0, LINE), ("b", 1, never), ("b", 2, never)]
    table = comparison_table(*runs(*rows)).set_index("solver")
    assert np.isnan(table.loc["b", "seconds_to_1pct"])
    assert table.loc["b", "status"] == "converged ×3"
    assert table.loc["b", "compile_seconds"] == 3.0


def test_the_way_counts_and_divergence_is_no_good_error():
    dip = [(0, 0, 1.0), (10, 1, 0.01), (20, 2, 0.4)]
    gone = [(0, 0, 1.0), (10, 1, np.nan)]
    summary, trace = runs(("a", 0, dip), ("b", 0, gone), ("b", 1, LINE))
    table = comparison_table(summary, trace).set_index("solver")
    assert table.loc["a", "seconds_to_1pct"] == pytest.approx(1 - np.log10(1.01) / 2)
    assert table.loc["b", "median_error"] == np.inf
    assert table.loc["b", "status"] == "diverged ×1, converged ×1"


def test_run_ids_need_be_unique_only_within_a_job():
    summary, trace = runs(("a", 0, LINE), ("b", 0, [(0, 0, 1.0), (5, 8, 0.01)]))
    expected = comparison_table(summary, trace)
    for table in (summary, trace):
        table["job"] = table["run"].str[0]
        table["run"] = "r4-s0"
    pd.testing.assert_frame_equal(comparison_table(summary, trace), expected)


def test_curves_hold_what_has_stopped_and_share_a_grid():
    short = [(0, 0, 1.0), (10, 1, 0.1)]
    found = curves(*runs(("a", 0, LINE), ("a", 1, short), ("b", 0, LINE)), points=11)
    assert set(found["axis"]) == {"seconds", "iterations"}
    a, b = (found.query("axis == 'seconds' and solver == @s") for s in ("a", "b"))
    np.testing.assert_array_equal(a["x"], b["x"])
    assert (a["x"].min(), a["x"].max()) == (1, 2)
    start, end = a.iloc[0], a.iloc[-1]
    assert [start["low"], start["high"]] == pytest.approx([0.09, 0.09])
    assert [end["low"], end["median"], end["high"]] == pytest.approx([0, 0.045, 0.09])
    middle = b.iloc[5]
    assert middle["x"] == pytest.approx(np.sqrt(2))
    assert middle["median"] == pytest.approx(10 ** -np.sqrt(2) - 0.01)


def test_a_diverged_run_is_infinite_from_there_on():
    gone = [(0, 0, 1.0), (10, 1, 0.1), (20, 2, np.inf)]
    found = curves(*runs(("a", 0, gone)))
    median = found.query("axis == 'seconds'")["median"].to_numpy()
    assert median[0] == pytest.approx(0)
    assert np.isinf(median[-1])


def test_best_cells():
    far = [(0, 0, 1.0), (1, 0.1, 0.9)]
    table = comparison_table(*runs(("a", 0, LINE), ("b", 0, far)))
    best = statistics.best_cells(table).set_index(table["solver"])
    assert best.loc["a", "best_error"]
    assert best.loc["a", "seconds_to_1pct"]
    # b took less time, but to nowhere; both took the same time to compile
    assert best.loc["a", "seconds"]
    assert not np.any(best.loc["b"])
    assert not np.any(best["compile_seconds"])
    # equal iterations are no merit, though others do not count
    near = [(0, 0, 1.0), (20, 4, 0.01005)]
    table = comparison_table(*runs(("a", 0, LINE), ("b", 0, far), ("c", 0, near)))
    best = statistics.best_cells(table).set_index(table["solver"])
    assert not np.any(best["iterations"])
    assert list(best["seconds"]) == [True, False, False]
    alone = comparison_table(*runs(("a", 0, LINE)))
    assert not statistics.best_cells(alone).to_numpy().any()


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.312, "0.312"),
        (0.3, "0.300"),
        (12345678.0, "1.23e7"),
        (0.0001234, "1.23e−4"),
        (1234.5, "1234"),
        (-2.5, "−2.50"),
        (0, "0.00"),
        (np.nan, "–"),
        (np.inf, "∞"),
    ],
)
def test_number(value, text):
    assert words.number(value) == text


def test_a_sentence_says_which_solver_was_best_and_by_how_much():
    slower = [(0, 0, 1.0), (10, 4, 0.01005)]
    table = comparison_table(*runs(("hals", 0, LINE), ("mu", 0, slower)))
    (sentence,) = sentences.best_by_rank(table)
    assert sentence == (
        "At rank 4, hals reached the lowest error (0.01000) and came within 1 % of it "
        "2.0 times faster than mu (2.00 s against 4.00 s)."
    )
    same = comparison_table(*runs(("hals", 0, LINE), ("mu", 0, LINE)))
    assert (
        "hals and mu reached the same lowest error" in sentences.best_by_rank(same)[0]
    )


def test_of_many_solvers_those_that_met_a_limit_are_counted():
    rows = [
        {"solver": f"s{i}", "status": status}
        for i in range(8)
        for status in ("time", "max_iter" if i else "diverged")
    ]
    assert sentences.failures(pd.DataFrame(rows)) == [
        "Of 16 runs 7 ran out of iterations and 8 ran out of time.",
        "s0 diverged in 1 of 2 runs.",
    ]


def test_sentences_name_what_failed():
    gone = [(0, 0, 1.0), (10, 1, np.nan)]
    summary, trace = runs(("a", 0, LINE), ("b", 0, gone), ("b", 1, LINE))
    text = sentences.compared(comparison_table(summary, trace))
    assert text.startswith("a and b were compared on d with the Frobenius loss at rank")
    assert sentences.failures(summary) == ["b diverged in 1 of 2 runs."]
    summary, trace = runs(("a", 0, gone), ("b", 0, gone))
    (text,) = sentences.lowest_error(comparison_table(summary, trace))
    assert "no run ended with a finite error" in text
    assert sentences.failures(summary) == ["Every run diverged."]


# ---------------------------------------------------------------- the page

MANIFEST = {"kind": "runs", "complete": True}
NAMES = {"cd": "hals & co", "mu": "<script>alert(1)</script>"}


def factorised(V, rank, seed, solver):
    """(W, H, records) of scikit-learn's solver, in spurts."""
    rng = np.random.default_rng(seed)
    scale = np.sqrt(V.mean() / rank)
    W, H = rng.random((len(V), rank)) * scale, rng.random((rank, V.shape[1])) * scale
    norm, seconds, records = np.linalg.norm(V), 0.0, []
    for iteration in (0, 2, 6, 14):
        if iteration:
            steps = iteration - records[-1][0]
            model = NMF(rank, init="custom", solver=solver, max_iter=steps, tol=0)
            started = perf_counter()
            W = model.fit_transform(V, W=W, H=H)
            seconds, H = seconds + perf_counter() - started, model.components_
        records.append((iteration, seconds, np.linalg.norm(V - W @ H) / norm))
    return W, H, records


def pixels(step):
    data: Any = load_digits()
    return data["data"][::step]


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """Two solvers of scikit-learn on the digits, as `jaxnmf run` would store them."""
    folder = tmp_path_factory.mktemp("studies") / "digits <two>"
    V = pixels(4)
    for solver, label in NAMES.items():
        summaries, traces, factors = [], [], {}
        for rank in (8, 16):
            for seed in (0, 1):
                W, H, records = factorised(V, rank, seed, solver)
                run = f"r{rank}-s{seed}"
                summary, trace = runs((label, seed, records))
                summary["rank"], summary["accuracy"] = rank, 0.625
                summaries.append(summary.assign(run=run, dataset="digits"))
                traces.append(trace.assign(run=run))
                factors[run] = (W, H)
        write_job(
            folder,
            f"digits-{solver}",
            config={"dataset": {"name": "digits", "step": 4}, "ranks": [8, 16]},
            manifest={
                **MANIFEST,
                "command": f"jaxnmf run solver={solver}",
                "device": "cpu",
            },
            trace=pd.concat(traces),
            summary=pd.concat(summaries),
            factors=factors,
        )
    return folder


def digits(name, options):
    assert name == "digits"
    return Dataset(
        name=name,
        V=pixels(options["step"]),
        kind="images",
        about="handwritten digits",
        source="scikit-learn",
        licence="CC BY 4.0",
        column_image=(8, 8),
    )


class Page(HTMLParser):
    """Text, addresses and ids of a page; complains of tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.text, self.addresses, self.ids, self.open = "", [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)
        self.handle_startendtag(tag, attrs)

    def handle_startendtag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action"):
                self.addresses.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_holds_the_numbers_and_escapes_what_it_is_given(study):
    path = build_report(study, load_dataset=digits)
    assert path == study / "report.html"
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    table = comparison_table(*gather(read_jobs(study)))
    assert len(table) == 4
    for row in table.to_dict("records"):
        for column in ("solver", "median_error", "best_error", "seconds", "status"):
            assert tables.column(column).text(row[column]) in page.text
    assert "<script" not in html
    assert NAMES["mu"] in page.text
    assert "digits <two>" in page.text
    for text in (
        "jaxnmf run solver=mu",
        "0.625",
        "Components",
        "U = V − W H",
        "step: 4",
    ):
        assert text in page.text


def test_measures_are_drawn_against_rank_where_they_were_recorded(tmp_path):
    """And a column of the quality table that nothing was recorded for is left out."""
    summary, trace = runs(*((s, seed, LINE) for s in "ab" for seed in (0, 1)))
    parts = [
        summary.assign(rank=rank, run=summary["run"] + f"-{rank}", npmi=rank / 10)
        for rank in (2, 3)
    ]
    summary = pd.concat(parts, ignore_index=True).assign(nmi=np.nan)
    traces = [trace.assign(run=trace["run"] + f"-{rank}") for rank in (2, 3)]
    given = {"config": {}, "manifest": MANIFEST, "factors": {}}
    write_job(tmp_path, "a", trace=pd.concat(traces), summary=summary, **given)
    other = summary.assign(dataset="e", npmi=np.nan, nmi=0.5)
    write_job(tmp_path, "b", trace=pd.concat(traces), summary=other, **given)
    page = build_report(tmp_path).read_text(encoding="utf-8")
    assert page.count('aria-label="NPMI of each solver against rank"') == 1
    label = "mutual information of each solver against rank"
    assert page.count(f'aria-label="{label}"') == 1
    assert page.count('<th scope="col">NPMI</th>') == 1
    assert page.count('<th scope="col">mutual information</th>') == 1


def test_the_page_needs_no_other_file(study):
    html = build_report(study, load_dataset=digits).read_text(encoding="utf-8")
    page = Page(html)
    assert not re.search(r"https?:", html)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert len(page.ids) == len(set(page.ids))
    for address in page.addresses:
        if address.startswith("#"):
            assert address[1:] in page.ids
        elif not address.startswith("data:image/png;base64,"):
            assert (study / address).is_file()
    assert sum(a.startswith("jobs/") for a in page.addresses) == 8


def test_only_the_page_and_csv_are_written_unless_more_is_asked_for(study, tmp_path):
    build_report(study, target=tmp_path, figures=True)
    build_report(study, target=tmp_path)
    made = {p.suffix for p in tmp_path.rglob("*") if p.is_file() and p.name[0] != "."}
    assert made == {".html", ".csv"}
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    linked = {a.split("/")[0] for a in page.addresses if a.startswith(("fig", "tab"))}
    assert linked == {"tables"}


@pytest.mark.slow
def test_figures_and_tables_are_files_and_old_ones_go(study, tmp_path):
    build_report(study, target=tmp_path, figures=True)
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    linked = [a for a in page.addresses if a.startswith(("figures/", "tables/"))]
    assert {a.split(".")[-1] for a in linked} == {"svg", "png", "csv", "tex"}
    assert all((tmp_path / address).is_file() for address in linked)
    assert not list(tmp_path.rglob(".*~*"))
    svg = tmp_path / "figures/digits-frobenius-error-by-seconds-rank-8.svg"
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    assert svg.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    table = pd.read_csv(tmp_path / "tables/digits-frobenius-comparison.csv")
    expected = comparison_table(*gather(read_jobs(study)))
    assert list(table["solver"]) == list(expected["solver"])
    np.testing.assert_allclose(table["median_error"], expected["median_error"])
    tex = (tmp_path / "tables/digits-frobenius-comparison.tex").read_text("utf-8")
    assert r"hals \& co" in tex
    assert r"\textless{}script\textgreater{}" in tex
    # What the last report left and this one has not goes; what others put there stays.
    mine, stale = tmp_path / "figures/mine.svg", tmp_path / "figures/stale.svg"
    for path in (mine, stale):
        path.write_text("<svg/>")
    index = tmp_path / ".report-files.json"
    index.write_text(index.read_text()[:-1] + ', "figures/stale.svg", "../x.svg"]')
    build_report(study, target=tmp_path, figures=True)
    assert mine.exists()
    assert not stale.exists()


def one_job(folder, key, rows, manifest=None, **columns):
    summary, trace = runs(*rows)
    return write_job(
        folder,
        key,
        config={},
        manifest={**MANIFEST, **(manifest or {})},
        trace=trace,
        summary=summary.assign(**columns),
        factors={},
    )


def test_folders_are_merged_and_a_job_of_two_counts_once(tmp_path):
    for folder, version in (("one", "1.0"), ("two", "2.0")):
        manifest = {"package_version": version, "device": f"cpu <{version}>"}
        one_job(tmp_path / folder, "same", [("a", 0, LINE)], manifest)
        one_job(tmp_path / folder, f"own-{folder}", [(folder, 1, LINE)], manifest)
    # Not finished here, though it holds more: the finished one counts.
    rows = [("a", 0, LINE), ("a", 1, LINE)]
    one_job(tmp_path / "two", "same", rows, {"complete": False})
    folders = [tmp_path / "one", tmp_path / "two"]
    with pytest.raises(ValueError, match=r"^target: "):
        build_report(folders)
    page = Page(build_report(folders, target=tmp_path / "to").read_text("utf-8"))
    assert "3 runs · 3 jobs · of 2 folders" in page.text
    assert "1.0 · 2.0" in page.text
    assert "cpu <1.0> · cpu <2.0>" in page.text
    jobs = {a.rsplit("/", 1)[0] for a in page.addresses if "/jobs/" in a}
    assert jobs == {
        f"../{x}" for x in ("one/jobs/same", "one/jobs/own-one", "two/jobs/own-two")
    }
    assert all((tmp_path / "to" / job).is_dir() for job in jobs)


def test_only_jobs_of_runs_are_compared(tmp_path):
    one_job(tmp_path, "a", [("a", 0, LINE)])
    one_job(tmp_path, "b", [("swept", 0, LINE)], {"kind": "settings"})
    table = comparison_table(*gather(read_jobs(tmp_path)))
    assert list(table["solver"]) == ["a"]
    page = Page(build_report(tmp_path).read_text("utf-8"))
    assert "1 run · 1 lane · 2 jobs" in page.text
    # And a study of nothing else has a page too.
    only = tmp_path / "only"
    one_job(only, "b", [("swept", 0, LINE)], {"kind": "settings"})
    assert "1 lane · 1 job" in Page(build_report(only).read_text("utf-8")).text


HOSTILE = ["<b>&amp;$x_1$ 100% \\x{}", "\"'><img src=x onerror=alert(1)>", "#~^|𝟙\n"]


def test_names_may_hold_anything(tmp_path):
    later = [(0, 0, 1.0), (10, 2, 0.1), (20, 4, 0.01)]
    for i, name in enumerate(HOSTILE):
        rows = [(name, seed, later if i else LINE) for seed in range(4)]
        columns = {"dataset": HOSTILE[0], "loss": HOSTILE[1], "model": HOSTILE[0]}
        one_job(tmp_path, f"j{i}", rows, {"command": name}, **columns)
    page = build_report(tmp_path, load_dataset=digits, figures=True)
    html = page.read_text("utf-8")
    assert "<img src=x" not in html
    assert "<b>" not in html
    page = Page(html)
    for name in HOSTILE:
        assert name.strip() in page.text
    for path in (tmp_path / "figures").glob("*.svg"):
        ElementTree.parse(path)
    made = list((tmp_path / "tables").glob("*.tex"))
    assert made
    for path in made:
        text = path.read_text("utf-8")
        assert not re.search(r"(?<!\\)[%#_]", re.sub(r"\\label{.*}", "", text))


def test_the_brief_says_who_won_at_what_significance_and_what_failed(tmp_path):
    later = [(0, 0, 1.0), (10, 2, 0.1), (20, 4, 0.0101)]
    gone = [(0, 0, 1.0), (10, 1, np.nan)]
    for solver, way in (("a", LINE), ("b", later), ("c", gone)):
        one_job(tmp_path, solver, [(solver, seed, way) for seed in range(8)])
    text = " ".join(Page(build_report(tmp_path).read_text("utf-8")).text.split())
    assert "a reached the lowest error (0.01000)" in text
    assert "a was most often the fastest to within 1 % of the best error" in text
    assert "on 100% of 8 problems" in text
    assert (
        "a ranks first (mean rank 1.00; over 8 problems, Friedman test p < 0.001)"
        in text
    )
    assert "c diverged in every run." in text


def test_kkt_residuals_are_drawn_where_they_were_recorded(tmp_path):
    summary, trace = runs(("a", 0, LINE), ("b", 0, LINE))
    trace.loc[trace["run"] == "a-r4-s0", "kkt"] = [1.0, 0.1, 0.01]
    found = curves(summary, trace, value="kkt")
    assert set(found["solver"]) == {"a"}
    ends = found.query("axis == 'iterations'")["median"].iloc[[0, -1]]
    assert list(ends) == pytest.approx([0.1, 0.01])
    given = {"config": {}, "manifest": MANIFEST, "factors": {}}
    write_job(tmp_path, "x", trace=trace, summary=summary, **given)
    page = build_report(tmp_path).read_text("utf-8")
    assert page.count('aria-label="KKT residual against seconds at rank 4"') == 1


@pytest.mark.slow
def test_the_page_is_the_same_in_every_build(study):
    first = build_report(study, load_dataset=digits).read_bytes()
    assert build_report(study, load_dataset=digits).read_bytes() == first


@pytest.mark.slow
def test_the_page_says_why_the_data_is_not_shown(study):
    def lost(name, options):
        raise OSError(f"{name} is not on this <machine>")

    page = Page(build_report(study, load_dataset=lost).read_text(encoding="utf-8"))
    assert "digits is not on this <machine>" in page.text
    assert "U = V − W H" not in page.text

    page = Page(build_report(study).read_text(encoding="utf-8"))
    assert "no loader of data sets was given" in page.text

    def other(name, options):
        return digits(name, {"step": 2})

    page = Page(build_report(study, load_dataset=other).read_text(encoding="utf-8"))
    assert "the data is 899×64 now" in page.text


def test_a_bare_and_unlucky_job_makes_a_page(tmp_path):
    with pytest.raises(ValueError, match=r"^folder: .*holds no runs"):
        build_report(tmp_path)
    gone = [(0, 0, 1.0), (10, 1, np.nan)]
    summary, trace = runs(("a", 0, gone), ("b", 0, gone))
    write_job(
        tmp_path,
        "x",
        config={},
        manifest=MANIFEST,
        trace=trace.iloc[:0],
        summary=summary.assign(compile_seconds=np.nan),
        factors={},
    )
    page = Page(build_report(tmp_path, load_dataset=digits).read_text("utf-8"))
    assert "diverged ×1" in page.text


W0, H0 = np.random.default_rng(0).random((2, 60, 3))


def dataset(kind, V, **attributes):
    return Dataset(
        name="x", V=V, kind=kind, about="", source="", licence="", **attributes
    )


def names(n):
    return tuple(f"name {i}" for i in range(n))


KINDS = {
    "images": dataset("images", W0 @ H0.T, column_image=(6, 10)),
    "images with truth": dataset(
        "images", W0 @ H0.T, column_image=(6, 10), truth=Truth(H=H0.T, note="exact")
    ),
    "photo": dataset("photo", W0 @ H0.T),
    "spectra": dataset(
        "spectra",
        W0 @ H0.T,
        row_image=(6, 10),
        wavelengths=np.linspace(400, 700, 60),
        truth=Truth(H=H0.T, names=("soil", "tree", "water")),
    ),
    "text": dataset(
        "text",
        csr_array(random_array((60, 60), density=0.1, rng=0)),
        column_names=names(60),
        labels=np.arange(60) % 4,
    ),
    "ratings": dataset(
        "ratings",
        Observed.stored(csr_array(random_array((60, 60), density=0.1, rng=0))),
        column_names=names(60),
    ),
    "genes": dataset(
        "genes",
        W0 @ H0.T,
        column_names=names(60),
        labels=np.arange(60) % 2,
        label_names=("ALL", "AML"),
    ),
    "audio": dataset("audio", W0 @ H0.T, times=np.arange(60.0)),
    "counts": dataset("counts", W0 @ H0.T, column_names=names(60)),
    "synthetic": dataset("synthetic", W0 @ H0.T, truth=Truth(W=W0, H=H0.T)),
}


@pytest.mark.parametrize("case", KINDS)
def test_every_kind_of_data_is_shown(case):
    data = KINDS[case]
    blocks = pictures.components(data, W0, H0.T) + residual.residual(data, W0, H0.T)
    cards = [card for block in blocks for card in block.cards]
    assert len(cards) >= 3
    assert all(c.pictures or c.panels or c.words or c.table for c in cards)
    text = " ".join([block.heading + block.note for block in blocks])
    text += " ".join(card.caption for card in cards)
    expected = {
        "text": "Top words",
        "ratings": "stored entries",
        "genes": "rows sorted by label",
        "spectra": "matched to tree",
        "images with truth": "The truth",
    }
    assert expected.get(case, "") in text


def test_topics_have_words_coherence_and_labels():
    W = np.array([[2.0, 0], [1, 0], [0, 1], [3, 0]])
    H = np.array([[0, 1.0, 3, 0], [1, 0, 0, 1]])
    data = dataset(
        "text",
        csr_array(W @ H),
        column_names=("ant", "bee", "cow", "<dog>"),
        labels=np.array([0, 0, 2, 2]),
        label_names=("insects", "none", "cattle"),
    )
    words_block, labels_block = pictures.components(data, W, H)
    first, second = words_block.cards
    # bee and cow are in three of four documents, and only together
    assert first.caption == "0, NPMI 1.0"
    assert first.words == [("cow", "75.0%", 1.0), ("bee", "25.0%", 1 / 3)]
    assert [word for word, *_ in second.words] == ["ant", "<dog>"]
    table = labels_block.cards[0].table
    assert table.columns == ["0", "1"]
    assert table.rows == [
        ("insects", [("100", 1.0), ("", 0.0)]),
        ("cattle", [("50", 0.5), ("50", 0.5)]),
    ]
    many = dataclasses.replace(data, V=np.ones((99, 4)), labels=np.arange(99) % 50)
    many = dataclasses.replace(many, label_names=names(50))
    table = pictures.components(many, np.ones((99, 2)), H)[1]
    assert len(table.cards[0].table.rows) == topics.MAX_LABELS
    assert "The 40 largest of 50 labels" in table.note


def test_many_columns_are_a_heat_map():
    data = dataset("table", W0 @ np.ones((3, 700)))
    (block,) = pictures.components(data, W0, np.ones((3, 700)))
    assert [card.caption for card in block.cards] == ["H", "W"]


def test_components_are_matched_to_the_truth():
    order = [2, 0, 1]
    matched = pictures._matched(Truth(H=H0.T), W0[:, order], 5 * H0.T[order])
    assert matched == dict(enumerate(order))


def test_a_large_sparse_matrix_is_never_made_dense(monkeypatch):
    m, n = 300_000, 2_000
    V = csr_array(random_array((m, n), density=1e-5, rng=0))
    made, toarray = [], csr_array.toarray

    def counted(self, *args, **kwargs):
        made.append(self.shape[0] * self.shape[1])
        return toarray(self, *args, **kwargs)

    monkeypatch.setattr(csr_array, "toarray", counted)
    rng = np.random.default_rng(0)
    blocks = residual.residual(
        dataset("text", V), rng.random((m, 2), np.float32), rng.random((2, n))
    )
    assert max(made) <= samples.ENTRIES
    assert "the entries of 1000 of 300000 rows" in blocks[-1].note


# ---------------------------------------------------------------- the terminal


def test_the_printed_table_fits_and_marks_the_best(study):
    table = comparison_table(*gather(read_jobs(study)))
    console = Console(width=100, record=True, force_terminal=True, file=None)
    with console.capture() as captured:
        print_table(table, console)
    shown = captured.get()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert max(map(len, plain.splitlines())) <= 100
    assert "…" not in plain
    for row in table.to_dict("records"):
        assert words.number(row["median_error"], 4) in plain
    best = table.loc[table["rank"] == 16, "best_error"].min()
    assert re.search(rf"\x1b\[1m *{words.number(best, 4)}", shown)


def test_margins_of_a_panel_are_fixed_in_every_style():
    # Warnings are errors here, such as that of a layout without a grid of axes.
    with mpl.rc_context({"figure.constrained_layout.use": True}), panel() as axes:
        axes.plot([1, 2, 3])
    assert axes.get_position().width > 0.8
    assert "<svg" in drawn(axes).svg
