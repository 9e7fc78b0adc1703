"""Tables of ratings: each row is an entry, whatever identifies its user and item."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from jaxnmf import datasets
from jaxnmf.experiment.cli import main


@pytest.fixture
def load(tmp_path):
    def load(text, *, name="r.csv", dataset="ratings", **options) -> Any:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return datasets.load(dataset, path=tmp_path / name, **options)

    return load


def entries(loaded):
    """{(user, item): rating}."""
    V = loaded.V
    return {
        (loaded.row_names[i], loaded.column_names[j]): float(v)
        for i, j, v in zip(V.rows, V.cols, V.values, strict=True)
    }


MOVIES = "userId,movieId,rating,timestamp\n10,31,2.5,99\n9,1029,3.0,98\n10,7,4.0,97\n"
FOUND = {("10", "31"): 2.5, ("9", "1029"): 3.0, ("10", "7"): 4.0}


def test_the_usual_columns_are_found_and_numbers_keep_their_order(load):
    loaded = load(MOVIES)
    assert entries(loaded) == FOUND
    assert loaded.kind == "ratings"
    assert loaded.row_names == ("9", "10")
    assert loaded.column_names == ("7", "31", "1029")
    assert loaded.assumed["item"] == "movieId"


@pytest.mark.parametrize(
    ("name", "separator"),
    [("r.csv", ","), ("u.data", "\t"), ("r.dat", "::"), ("r.txt", ";"), ("r.tsv", "|")],
)
def test_separators_without_a_header(load, name, separator):
    text = "".join(MOVIES.splitlines(keepends=True)[1:])
    loaded = load(text.replace(",", separator), name=name)
    assert entries(loaded) == FOUND
    assert loaded.assumed["separator"] == separator
    assert loaded.assumed["header"] is False


def test_any_identifiers(load):
    text = (
        "user;item;stars\nNA;The Film;4,5\n007;null;3\n7;The Film;1,25\nÄnne;null;2\n"
    )
    expected = {
        ("NA", "The Film"): 4.5,
        ("007", "null"): 3.0,
        ("7", "The Film"): 1.25,
        ("Änne", "null"): 2.0,
    }
    assert entries(load(text)) == expected


def test_columns_are_chosen_by_name_or_number(load, tmp_path):
    text = "who,when,what,how\na,1,x,3\nb,2,x,4\n"
    expected = {("a", "x"): 3.0, ("b", "x"): 4.0}
    named = {"user": "who", "item": "what", "rating": "how"}
    assert entries(load(text, **named)) == expected
    numbered = {"user": 0, "item": 2, "rating": 3}
    assert entries(load(text, **numbered)) == expected
    frame = pd.DataFrame({"rating": [3, 4], "item": [5, 6], "user": ["a", "b"]})
    frame.to_parquet(tmp_path / "r.parquet")
    loaded: Any = datasets.load("ratings", path=tmp_path / "r.parquet")
    assert entries(loaded) == {("a", "5"): 3.0, ("b", "6"): 4.0}


REPEATED = "user,item,rating\na,x,3\nb,x,1\na,x,5\n"


def test_repeated_ratings_are_refused_or_combined(load):
    with pytest.raises(ValueError, match=r"1 repeated .* 'x' by user 'a'.*repeated="):
        load(REPEATED)
    for how, value in (("mean", 4.0), ("last", 5.0)):
        found = entries(load(REPEATED, repeated=how))
        assert found == {("a", "x"): value, ("b", "x"): 1.0}


def test_rows_without_a_rating_are_said(load):
    loaded = load("user,item,rating\na,x,3\nb,x,\nc,y,NA\n")
    assert entries(loaded) == {("a", "x"): 3.0}
    assert loaded.doubts == ("2 rows without a rating left out",)


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("user,item,rating\na,x,3\nb,x,bad\n", {}, "'bad' in row 2"),
        ("user,item,rating\na,x,3\n,x,4\n", {}, "no user in row 2"),
        ("user,item\na,x\n", {}, "fewer than three columns"),
        ("who,what,how\na,x,3\n", {}, r"user=….*who, what, how"),
        (MOVIES, {"user": "person"}, r"no column 'person'.*userId"),
        (MOVIES, {"rating": 9}, "no column 9"),
        (MOVIES, {"rating": "userId"}, "three different columns"),
        (MOVIES, {"user": 1.5}, "^user: 1.5"),
        (MOVIES, {"repeated": "first"}, "^repeated: 'first'.*mean, last"),
        ("", {}, "fewer than three columns"),
    ],
)
def test_what_is_no_table_of_ratings_is_refused(load, text, options, said):
    with pytest.raises(ValueError, match=said):
        load(text, **options)


def test_a_matrix_that_looks_like_ratings_gets_a_hint(load):
    (doubt,) = load(MOVIES, dataset="file").doubts
    assert "dataset=ratings" in doubt
    with pytest.raises(ValueError, match=r"'The Film' in row 1.*dataset=ratings"):
        load("user,item,rating\n1,The Film,3\n2,It,4\n", dataset="file")


@pytest.mark.slow
def test_a_study_of_ratings_from_a_file(tmp_path):
    rng = np.random.default_rng(0)
    i, j = np.nonzero(rng.random((30, 20)) < 0.5)
    frame = pd.DataFrame(
        {"user": [f"u{k}" for k in i], "item": j, "rating": rng.integers(1, 6, len(i))}
    )
    frame.to_csv(tmp_path / "my (1).csv", index=False)
    given = ["dataset=ratings", f"dataset.path={tmp_path / 'my (1).csv'}", "ranks=2"]
    given += ["seeds=[0]", "solver=hals", "stop.max_iter=20", "toward=mean", "l2=[5,5]"]
    assert main(["run", *given, f"folder={tmp_path / 'study'}"]) == 0
    page = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    assert "Recommendations" in page
    assert "user in column &#39;user&#39;" in page
