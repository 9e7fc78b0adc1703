"""Text tables: what is read is what was written, or the reader asks."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxnmf

NAN = np.nan


@pytest.fixture
def read(tmp_path):
    def read(text, *, suffix=".csv", written="utf-8", **options):
        path = tmp_path / f"table{suffix}"
        path.write_bytes(text.encode(written))
        return jaxnmf.read(path, **options)

    return read


# --- missing values ------------------------------------------------------------------

MARKS = ["", "NA", "n/a", "N/A", "#N/A", "-", "--", "null", "NULL", "?", "None", "."]


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_missing_value_in_the_first_row_is_no_header(read, mark, place):
    row = ["7", "6", "5", "3"]
    row[place] = mark
    found = read(f"{','.join(row)}\n1,2,3,4\n4,3,9,1\n5,1,2,2\n2,8,8,6\n")
    expected = [7.0, 6.0, 5.0, 3.0]
    expected[place] = NAN
    np.testing.assert_array_equal(found.V[0], expected)
    assert found.V.shape == (5, 4)
    assert found.column_names is None
    assert (found.assumed["header"], found.assumed["missing"]) == (False, 1)


@pytest.mark.parametrize("missing", ["-99", -99, ["x", "-99"]])
def test_a_value_may_stand_for_a_missing_one(read, missing):
    found = read("a,b\n-99,2\n1,NA\n", missing=missing)
    np.testing.assert_array_equal(found.V, [[NAN, 2], [1, NAN]])


def test_a_row_may_be_named_na(read):
    found = read("country,x,y\nFR,1,2\nNA,3,4\n007,5,6\n", index=0)
    assert found.row_names == ("FR", "NA", "007")
    assert read("country,x\nFR,1\nNA,3\n").row_names == ("FR", "NA")
    assert found.V.tolist() == [[1, 2], [3, 4], [5, 6]]


# --- separator, decimal sign, thousands ----------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " "])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("header", ["", "a,b,c\n"])
def test_the_separator_is_found(read, separator, suffix, header):
    text = (header + "1.5,0,2\n0,3.25,1e-3\n").replace(",", separator)
    found = read(text, suffix=suffix)
    assert found.V.tolist() == [[1.5, 0, 2], [0, 3.25, 1e-3]]
    assert found.assumed["separator"] == separator


def test_decimal_commas_are_found_where_they_are_certain(read):
    found = read("a;b;c\n1,5;2,0;3,1\n0,25;1;4\n")
    assert found.V.tolist() == [[1.5, 2.0, 3.1], [0.25, 1, 4]]
    assert (found.assumed["separator"], found.assumed["decimal"]) == (";", ",")
    assert read("1,5;2,125\n0,25;1\n").V.tolist() == [[1.5, 2.125], [0.25, 1]]


AMBIGUOUS = 'a;b\n1,234;"2,500"\n5,678;7,125\n'


def test_what_is_a_thousand_or_one_is_asked(read):
    with pytest.raises(ValueError, match=r"'1,234'.* decimal=',' or thousands=','"):
        read(AMBIGUOUS)
    decimal = [[1.234, 2.5], [5.678, 7.125]]
    for sign in (",", "comma"):
        assert read(AMBIGUOUS, decimal=sign).V.tolist() == decimal
        found = read(AMBIGUOUS, thousands=sign).V
        np.testing.assert_array_equal(found, np.multiply(1000, decimal))


def test_thousands_are_refused_unless_they_are_named(read):
    text = 'a,b\n"1,234",2.5\n"1,234,567.5",4\n'
    with pytest.raises(ValueError, match=r"'1,234' in row 1 \(line 2\).*thousands=','"):
        read(text)
    assert read(text, thousands="comma").V.tolist() == [[1234, 2.5], [1234567.5, 4]]
    with pytest.raises(ValueError, match=r"'1,5' in row 1.*decimal=','"):
        read('a,b\n"1,5",2\n"1,234",3\n', thousands=",")
    swiss = read("a;b\n1'234.5;2\n7;8\n", thousands="apostrophe")
    assert swiss.V.tolist() == [[1234.5, 2], [7, 8]]
    german = "a;b\n1.234,5;2\n0,5;8\n"
    with pytest.raises(ValueError, match=r"'1\.234,5' in row 1.*thousands='\.'"):
        read(german)
    assert read(german, thousands=".").V.tolist() == [[1234.5, 2], [0.5, 8]]


def test_one_column_of_decimal_commas_is_not_two(read):
    with pytest.raises(ValueError, match=r"'1,5'.*separator=';' decimal=','"):
        read("a\n1,5\n2,7\n")
    found = read("a\n1,5\n2,7\n", separator="semicolon")
    assert found.V.tolist() == [[1.5], [2.7]]


# --- header and index ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "As,Pb,Cd\n<0.1,2,3\n0.5,3,4\n0.7,1,2\n",
            r"'As': '<0\.1' in row 1 \(line 2\)",
        ),
        ("As,Pb\nn.d.,2\nn.d.,3\nn.d.,1\n0.7,1\n", r"'As': 'n\.d\.' in row 1"),
        ("<0.1,2,3\n0.5,3,4\n0.7,1,2\n", r"column 0: '<0\.1' in row 1 \(line 1\)"),
        ("5,<2,3\n0.5,3,4\n0.7,1,2\n", r"column 1: '<2' in row 1 \(line 1\)"),
        ("a,b\n1,2\n\n3,bad\n", r"'b': 'bad' in row 2 \(line 4\)"),
        ("5,ND,3\n0.5,3,4\n", r"first line \(5, ND, 3\).*header=true or header=false"),
        ("ND,5,3,4\n0.5,3,4,6\n", r"first cell, 'ND'.*header=true or header=false"),
    ],
)
def test_text_among_numbers_is_refused_by_its_place(read, text, said):
    with pytest.raises(ValueError, match=said):
        read(text)


def test_text_in_the_corner_over_names_is_a_header(read):
    found = read("country,1990,1991\nFrance,1,2\nPeru,3,4\n")
    assert found.row_names == ("France", "Peru")
    assert found.column_names == ("1990", "1991")
    # numbers may be values as well, which is said
    (doubt,) = found.doubts
    assert "country, 1990, 1991" in doubt
    assert "header=false" in doubt
    for header, rows in ((True, 2), (False, 3)):
        stated = read("Peru,5,3\nFrance,1,2\nChile,4,3\n", header=header)
        assert (len(stated.V), stated.doubts) == (rows, ())
    # a name like those below, or numbers that repeat, are a row
    assert read("g1,5,3,4\ng2,1,2,3\n").V.shape == (2, 3)
    assert read("Peru,5,3,5\nFrance,1,2,3\n").V.shape == (2, 3)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("id,g1,g2\n1,2,3\n2,3,4\n3,5,6\n", "id"),
        ("sample_id,g1,g2\n901,2,3\n77,3,4\n5,5,6\n", "sample_id"),
        ("1,2,3\n2,3,4\n3,5,6\n", 0),
        ("zip,g1\n00123,2\n04567,3\n12345,7\n", "zip"),
    ],
)
def test_a_column_that_may_be_names_is_said_and_can_be_named(read, text, index):
    found = read(text)
    assert found.row_names is None
    (doubt,) = found.doubts
    assert f"index={index}" in doubt
    named = read(text, index=index)
    assert named.V.shape[1] == found.V.shape[1] - 1
    assert named.doubts == ()
    assert named.row_names == tuple(
        line.split(",")[0] for line in text.splitlines()[-3:]
    )
    assert read(text, index=False).doubts == ()


def test_any_column_may_be_the_index(read):
    for index in ("name", 1):
        found = read("x,name,y\n1,a,2\n3,b,4\n", index=index)
        assert found.V.tolist() == [[1, 2], [3, 4]]
        assert (found.row_names, found.column_names) == (("a", "b"), ("x", "y"))
    for index, said in (("z", "0 columns named 'z'.* x, y"), (2, "columns 0 to 1")):
        with pytest.raises(ValueError, match=said):
            read("x,y\n1,2\n3,4\n", index=index)


# --- shape of the file ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b,c\n1,2,3\n1,2\n3,4,5\n", "2 cells in line 3 and 3"),
        ("a,b,c\n1,2,3\n1,2,3,4\n", "4 cells in line 3|names 3 columns"),
        ("a,b,c\n1,2,3\n" + "1,2,3\n" * 300 + "1,2,3,4\n", "4 cells in line 303"),
        ("a,b,c\n", "no row of numbers"),
        ("", "no line of text"),
    ],
)
def test_rows_of_other_lengths_are_refused(read, text, said):
    with pytest.raises(ValueError, match=said):
        read(text)


@pytest.mark.parametrize("text", ["a,b,\n1,2,\n3,4,\n", "a,b\n1,2,\n3,4,\n"])
def test_a_separator_at_the_end_of_each_line_is_no_column(read, text):
    found = read(text)
    assert found.V.tolist() == [[1, 2], [3, 4]]
    assert found.column_names == ("a", "b")


def test_one_row_and_one_column(read):
    assert read("1,2,3\n").V.tolist() == [[1, 2, 3]]
    assert read("a,b\n1,2\n").V.tolist() == [[1, 2]]
    assert read("a\n1\n2\n").V.tolist() == [[1], [2]]


# --- encodings -----------------------------------------------------------------------


def test_encodings(read):
    text = "größe,b\n1,2\n3,4\n"
    with pytest.raises(ValueError, match=r"is not utf-8 .*encoding.*'latin-1'"):
        read(text, written="latin-1")
    with pytest.raises(ValueError, match=r"encoding.*'utf-16-le'"):
        read("a,b\n1,2\n3,4\n", written="utf-16-le")
    # a byte order mark states the encoding
    for written in ("utf-16", "utf-8-sig"):
        assert read(text, written=written).column_names == ("größe", "b")
    for encoding in ("latin-1", "utf-16-le"):
        found = read(text, written=encoding, encoding=encoding)
        assert found.column_names == ("größe", "b")


# --- options -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"separator": 5}, "separator: 5"),
        ({"separator": "ab"}, "separator: 'ab'"),
        ({"decimal": ";"}, "decimal: ';'"),
        ({"thousands": "x"}, "thousands: 'x'"),
        ({"decimal": ",", "separator": ","}, "decimal: ',' is the separator too"),
        ({"decimal": ".", "thousands": "."}, "thousands: '.' is the decimal too"),
        ({"header": "yes"}, "header: 'yes'"),
        ({"index": 1.5}, "index: 1.5"),
        ({"index": True}, "index: True"),
        ({"encoding": "utf-9"}, "encoding: 'utf-9'"),
        ({"transpose": 1}, "transpose: 1"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(read, options, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        read("a,b\n1,2\n", **options)


# --- any table -----------------------------------------------------------------------

NAMES = st.from_regex(r"[a-z]{2,6}", fullmatch=True).filter(
    lambda name: name not in ("na", "nan", "none", "null", "inf", "true", "false")
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_pandas_writes_is_read_or_refused(data, tmp_path_factory):
    """The matrix that was written, or a refusal; never another matrix in silence."""
    m, n = data.draw(st.integers(2, 6)), data.draw(st.integers(2, 6))
    values = st.one_of(
        st.floats(0, 1e6, allow_subnormal=False).map(lambda x: round(x, 3)),
        st.integers(0, 5000).map(float),
        st.just(NAN),
    )
    V = np.array(data.draw(st.lists(values, min_size=m * n, max_size=m * n)))
    V = V.reshape(m, n)
    header, names = data.draw(st.booleans()), data.draw(st.booleans())
    unique = {"unique": True}
    rows = data.draw(st.lists(NAMES, min_size=m, max_size=m, **unique))
    columns = data.draw(st.lists(NAMES, min_size=n, max_size=n, **unique))
    separator, decimal = data.draw(
        st.sampled_from([(",", "."), (";", ","), ("\t", ".")])
    )
    path = tmp_path_factory.mktemp("any") / "table.csv"
    frame = pd.DataFrame(V, index=rows, columns=columns)
    frame.to_csv(
        path,
        sep=separator,
        decimal=decimal,
        na_rep=data.draw(st.sampled_from(["", "NA", "n/a", "?"])),
        header=header,
        index=names,
    )
    try:
        found = jaxnmf.read(path)
    except ValueError:
        return
    if found.V.shape != V.shape:
        assert found.doubts
        return
    np.testing.assert_allclose(found.V, V, rtol=1e-12)
    assert found.row_names == (tuple(rows) if names else None)
    assert found.column_names == (tuple(columns) if header else None)
