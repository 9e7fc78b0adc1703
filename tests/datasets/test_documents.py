"""Documents: what is counted is what the files hold, and what cannot be is refused."""

import unicodedata
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from jaxnmf import datasets, topics

TEXTS = (
    "The cat saw a mouse, and the mouse ran.",
    "A mouse! My cat is asleep.",
    "Interest rates rose: the bank paid interest.",
    "The bank lent at high rates.",
    "Nothing shared here whatsoever",
    "A cat sat on a bank.",
)


def load(path, **options) -> Any:
    return datasets.load("documents", path=path, **options)


def by_hand(texts, least=2, most=3):
    """(words, counts a text) by splitting at what is no letter."""
    split = [
        "".join(c if c.isalpha() else " " for c in text.lower()).split()
        for text in texts
    ]
    counts = [
        Counter(w for w in ws if len(w) > 1 and w not in ENGLISH_STOP_WORDS)
        for ws in split
    ]
    documents = Counter(word for count in counts for word in count)
    words = sorted(w for w, d in documents.items() if least <= d <= most)
    return words, np.array([[count[w] for w in words] for count in counts])


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "pets.txt"
    path.write_text("\n".join([*TEXTS[:3], "", *TEXTS[3:]]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path):
    for i, text in enumerate(TEXTS):
        file = tmp_path / "corpus" / ("pets", "banks")[i in (2, 3)] / f"{i}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path / "corpus"


def test_the_lines_of_a_file_are_counted_as_by_hand(lines):
    loaded = load(lines)
    words, counts = by_hand(TEXTS)
    assert words == ["bank", "cat", "mouse", "rates"]
    assert loaded.column_names == tuple(words)
    kept = counts.sum(1) > 0
    assert kept.tolist() == [True, True, True, True, False, True]
    np.testing.assert_array_equal(loaded.V.toarray(), counts[kept])
    assert (loaded.V.format, loaded.V.dtype) == ("csr", np.float32)
    # as an editor numbers them: the fourth is blank, the sixth has none of the words
    assert loaded.row_names == ("1", "2", "3", "5", "7")
    assert loaded.note.startswith("1 of 6 documents had none of the words and was left")
    assert loaded.doubts == (loaded.note,)  # which the command line prints
    assert loaded.about == (
        "counts of the words of 5 documents; 1 more had none of the words"
    )
    assert (loaded.name, loaded.kind) == ("pets", "text")
    assert loaded.loss == "kullback-leibler"
    assert loaded.labels is None


def test_the_folders_of_a_folder_are_its_labels(folder):
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.txt").write_text("cat mouse")
    (folder / "pets" / ".old.txt").write_text("cat mouse")
    (folder / "pets" / "deep").mkdir()
    (folder / "pets" / "deep" / "Z.TXT").write_text("cat mouse")
    (folder / "README.md").write_text("cat")
    loaded = load(folder)
    assert loaded.row_names == (
        "banks/2.txt",
        "banks/3.txt",
        "pets/0.txt",
        "pets/1.txt",
        "pets/5.txt",
        "pets/deep/Z.TXT",
    )
    assert loaded.label_names == ("banks", "pets")
    assert loaded.labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert loaded.name == "corpus"
    # one file beside the folders, and they are no labels
    (folder / "a.txt").write_text("cat mouse")
    assert load(folder).labels is None


def test_tables_have_a_column_of_documents_and_one_of_labels(tmp_path, lines):
    frame = pd.DataFrame({"n": range(6), "text": TEXTS, "year": [10, 2, 2, 10, 2, 9]})
    frame["kind"] = ["NA", "NA", "b", "b", "b", "NA"]
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "t.parquet")
    frame.drop(columns="kind").to_csv(tmp_path / "one.csv", index=False)
    expected = load(lines)
    for name in ("t.csv", "t.tsv", "t.parquet"):
        loaded = load(tmp_path / name, column="text", label_column="kind")
        assert loaded.checksum == expected.checksum
        assert loaded.row_names == ("1", "2", "3", "4", "6")
        assert loaded.label_names == ("NA", "b")
        assert loaded.labels.tolist() == [0, 0, 1, 1, 0]
        # the other column of text is the labels': one is left
        assert load(tmp_path / name, label_column="kind").V.shape == loaded.V.shape
    # numbers stand in their own order
    loaded = load(tmp_path / "one.csv", label_column="year")
    assert loaded.label_names == ("2", "9", "10")
    assert loaded.labels.tolist() == [2, 0, 0, 2, 1]


def test_an_empty_cell_is_an_empty_document(tmp_path):
    for name in ("t.csv", "t.parquet"):
        frame = pd.DataFrame({"text": ["cat mouse", None, "cat mouse", "null", "null"]})
        path = tmp_path / name
        frame.to_csv(path, index=False) if name == "t.csv" else frame.to_parquet(path)
        loaded = load(path)
        assert loaded.column_names == ("cat", "mouse", "null")
        assert loaded.row_names == ("1", "3", "4", "5")


def test_tf_idf_is_the_formula_and_the_same_from_counts(lines):
    _, counts = by_hand(TEXTS)
    idf = 1 + np.log((1 + 6) / (1 + (counts > 0).sum(0)))
    expected = counts[[0, 1, 2, 3, 5]] * idf
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    loaded = load(lines, tfidf=True)
    np.testing.assert_allclose(loaded.V.toarray(), expected, rtol=1e-6)
    assert (loaded.name, loaded.loss) == ("pets tf-idf", "frobenius")
    assert loaded.V.dtype == np.float32

    full = counts * idf
    full /= np.maximum(np.linalg.norm(full, axis=1, keepdims=True), 1e-30)
    for V in (counts, counts.astype(np.float32)):
        weighed = topics.tfidf(V)
        np.testing.assert_allclose(weighed.toarray(), full, rtol=1e-6)
        assert weighed.dtype == (np.float32 if V.dtype == np.float32 else np.float64)


def test_options_choose_the_words(lines):
    # 1.0 is a share, and so is what lies below 1; a number of documents from there on
    assert load(lines, max_df=2).column_names == ("mouse", "rates")
    assert load(lines, min_df=0.5).column_names == ("bank", "cat")
    everything = load(lines, min_df=1, max_df=1.0)
    assert everything.column_names == tuple(by_hand(TEXTS, 1, 6)[0])
    assert load(lines, max_words=2).column_names == ("bank", "cat")
    assert load(lines, stop_words=["cat"]).column_names == (
        "bank", "mouse", "rates", "the",
    )  # fmt: skip
    assert "the" in load(lines, stop_words="none").column_names
    assert "cat saw" in load(lines, ngrams=2, min_df=1).column_names


def test_a_file_in_another_encoding_is_refused_by_name_or_read(tmp_path):
    text = "café crème\ncafé noir\ncafé au lait\nthé noir\n"
    for name in ("a.txt", "a.csv"):
        path = tmp_path / name
        path.write_bytes(("text\n" * (name == "a.csv") + text).encode("latin-1"))
        with pytest.raises(
            ValueError, match=rf"^path: '.*{name}' is not utf-8.*latin-1"
        ):
            load(path)
        loaded = load(path, encoding="latin-1", max_df=1.0)
        assert loaded.column_names == ("café", "noir")
    marked = tmp_path / "marked.txt"
    marked.write_text(text, encoding="utf-8-sig")
    assert load(marked, min_df=1, max_df=1.0).column_names[1] == "café"


CHINESE = (
    "我喜欢吃苹果和香蕉。苹果很好吃。",
    "他不喜欢吃香蕉，喜欢苹果。",
    "今天天气很好，我们去公园。",
    "公园里有很多人，天气不错。",
)
LETTERS = ("a b c", "b c d", "c d a", "a d q")


def written(tmp_path, texts):
    (tmp_path / "t.txt").write_text("\n".join(texts), encoding="utf-8")
    return tmp_path / "t.txt"


def test_texts_that_the_rule_for_words_does_not_suit_are_refused_with_the_option(
    tmp_path,
):
    path = written(tmp_path, LETTERS)
    with pytest.raises(ValueError, match=r"words of two or more.*token_pattern='.w\+'"):
        load(path)
    given = {"token_pattern": r"\w+", "stop_words": "none", "max_df": 1.0}
    loaded = load(path, **given)
    assert loaded.column_names == ("a", "b", "c", "d")
    expected = [[word in text for word in "abcd"] for text in LETTERS]
    np.testing.assert_array_equal(loaded.V.toarray(), expected)

    path = written(tmp_path, CHINESE)
    with pytest.raises(ValueError, match=r"few spaces.*tokenizer.*token_pattern"):
        load(path)
    # whole phrases that happen to repeat do not make it right
    repeated = written(tmp_path, [*CHINESE, *CHINESE, "好", "好"])
    doubt, *others = load(repeated).doubts
    assert "tokenizer" in doubt
    assert others == [load(repeated).note]
    words = load(path, token_pattern=r"\w", ngrams=2, stop_words="none").column_names
    assert "天 气" in words
    # words that a tokenizer has separated
    spaced = written(
        tmp_path, ["我 喜欢 吃 苹果", "他 喜欢 苹果", "今天 天气", "天气 很好"]
    )
    loaded = load(spaced)
    assert (loaded.column_names, loaded.doubts) == (("喜欢", "天气", "苹果"), ())


def test_combining_marks_that_split_words_are_said(tmp_path):
    path = written(tmp_path, ["नमस्ते दुनिया", "नमस्ते भारत", "दुनिया भारत"])
    (doubt,) = load(path, max_df=1.0).doubts
    assert r"token_pattern='\S\S+'" in doubt
    loaded = load(path, max_df=1.0, token_pattern=r"\S\S+")
    assert set(loaded.column_names) == {"नमस्ते", "दुनिया", "भारत"}
    assert loaded.doubts == ()


def test_composed_and_decomposed_spellings_are_one_word(tmp_path):
    texts = ["café noir", "café noir", "thé vert"]
    texts[1] = unicodedata.normalize("NFD", texts[1])
    loaded = load(written(tmp_path, texts), max_df=1.0)
    assert loaded.column_names == ("café", "noir")
    assert loaded.V.toarray().tolist() == [[1, 1], [1, 1]]
    stop = [unicodedata.normalize("NFD", "café")]
    loaded = load(written(tmp_path, texts), max_df=1.0, stop_words=stop)
    assert loaded.column_names == ("noir",)


def test_ordinary_texts_raise_no_doubt(lines):
    assert load(lines, min_df=1).doubts == ()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tfidf": "yes"}, "tfidf: 'yes'"),
        ({"min_df": -1}, "min_df=-1"),
        ({"min_df": 2.5}, "min_df=2.5"),
        ({"min_df": True}, "min_df=True"),
        ({"max_df": 1.5}, "max_df=1.5"),
        ({"max_df": float("nan")}, "max_df=nan"),
        ({"max_df": float("inf")}, "max_df=inf"),
        ({"max_df": "half"}, "max_df='half'"),
        ({"max_words": 0}, "max_words=0"),
        ({"ngrams": 1.5}, "ngrams=1.5"),
        ({"ngrams": None}, "ngrams=None"),
        ({"stop_words": "german"}, "stop_words='german'.*'english', 'none'"),
        ({"stop_words": [1]}, r"stop_words=\[1\]"),
        ({"token_pattern": "("}, r"token_pattern='\(' is not a regular expression"),
        ({"token_pattern": "(a)(b)"}, r"token_pattern='\(a\)\(b\)' has 2 groups"),
        ({"token_pattern": 3}, "token_pattern=3"),
        ({"token_pattern": "zz"}, "path: .* that token_pattern='zz' matches"),
        ({"encoding": "utf-9"}, "encoding: 'utf-9'"),
        ({"encoding": None}, "encoding: None"),
        ({"column": "text"}, "column: '.*' has no columns"),
        ({"column": 3}, "column: 3"),
        ({"label_column": "text"}, "label_column: '.*' has no columns"),
        ({"min_df": 5}, "min_df, max_df: 5 and 0.5 exclude all 14 words of the 6"),
        ({"min_df": 4, "max_df": 2}, "min_df, max_df: 4 and 2 exclude all"),
        ({"path": 3}, "path: 3"),
        ({"path": "nowhere"}, "path: 'nowhere' does not exist; expected a folder"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(lines, options, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        load(**{"path": lines, **options})


def test_what_holds_no_documents_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text(" \n\n")
    (tmp_path / "stop.txt").write_text("the\nand of\n")
    (tmp_path / "a.docx").write_bytes(b"PK")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    (tmp_path / "nothing.csv").write_text("")
    (tmp_path / "numbers.csv").write_text("a,b\n1,2\n")
    (tmp_path / "bare.csv").write_text("text\na cat, a mouse\nmy cat, my mouse\n")
    (tmp_path / "two.csv").write_text("id,title,body\n1,x,y\n")
    for name, said in {
        "empty": "path: the folder '.*empty' contains no .txt",
        "blank.txt": "path: .* is empty",
        "stop.txt": "path: the 2 documents of .* contain no word that is not a stop",
        "a.docx": "path: .* has an unknown suffix; expected a folder",
        "cut.parquet": "path: .* cannot be read as .parquet",
        "nothing.csv": "path: .* cannot be read as .csv",
        "bare.csv": "path: .* has rows with more cells than .* quote",
        "numbers.csv": "column: .* has 0 columns of text; .* the columns are a, b",
        "two.csv": r"column: .* 2 columns of text \(title, body\); .*id, title, body",
    }.items():
        with pytest.raises(ValueError, match=f"^{said}"):
            load(tmp_path / name)
    with pytest.raises(ValueError, match=r"^column: .* no column 'text'; it has id"):
        load(tmp_path / "two.csv", column="text")
    with pytest.raises(ValueError, match=r"^column: 'id' of .* is not text; .* title"):
        load(tmp_path / "two.csv", column="id")
    with pytest.raises(ValueError, match=r"^label_column: .* no column 'kind'"):
        load(tmp_path / "two.csv", column="body", label_column="kind")
    (tmp_path / "gaps.csv").write_text("t,l\na cat,x\na cat,\n")
    with pytest.raises(ValueError, match=r"^label_column: 1 rows .*row 2\)"):
        load(tmp_path / "gaps.csv", column="t", label_column="l")
