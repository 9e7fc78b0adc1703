"""Word counts of the user's own documents."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, no_type_check

import numpy as np

from jaxnmf.datasets.base import Card, Dataset
from jaxnmf.files.encodings import as_codec
from jaxnmf.files.words import WORD, composed, doubts

DOCUMENTS = Card(
    name="documents",
    shape=None,
    kind="text",
    about="your own documents: a folder of .txt files, the lines of one, or a column "
    "of a .csv, .tsv or .parquet; word counts or tf-idf",
    source="",
    licence="your own",
    loss="kullback-leibler",
)
_EXPECTED = "a folder of .txt files, or a .txt, .csv, .tsv or .parquet file"
_TABLES = (".csv", ".tsv", ".parquet")


class _Documents(NamedTuple):
    texts: list[str]
    names: list[str]
    labels: Any = None


@no_type_check  # it checks its settings itself
def documents(
    path: str | os.PathLike[str],
    column: str | None = None,
    label_column: str | None = None,
    tfidf: bool = False,
    min_df: float = 2.0,
    max_df: float = 0.5,
    max_words: int | None = None,
    stop_words: str | Iterable[str] = "english",
    ngrams: int = 1,
    token_pattern: str | None = None,
    encoding: str = "utf-8",
) -> Dataset:
    r"""How often each word (column) is in each document (row).

    Words are runs of two or more letters or digits, in lower case and in Unicode's
    composed form, or what `token_pattern` matches. `doubts` says where this rule does
    not suit the texts, such as those without spaces between words. With `tfidf` the
    count c_ij of word j in document i becomes c_ij (1 + ln((1 + m) / (1 + d_j))), where
    d_j of the m documents contain the word, and each row is scaled to length 1.
    Documents without any of the words kept are omitted; `note` and `doubts` give their
    number.

    Args:
      path: a folder, in which every `.txt` file, at any depth, is a document (hidden
        files and folders are ignored); a `.txt` file, in which every line that is not
        blank is one; or a `.csv`, `.tsv` or `.parquet` with a column of them. The
        subfolders of a folder are the labels, if it has two or more and every file
        is in one.
      column: the column of the documents; None for the only column of text.
      label_column: the column of their labels.
      tfidf: whether to weight the counts.
      min_df: the fewest documents that contain a word: a share (below 1) or a number.
      max_df: the most documents that contain it: a share (up to 1) or a number.
      max_words: the number of words to keep, the most frequent.
      stop_words: words to exclude: "english" (scikit-learn's list), "none", or a
        list of them.
      ngrams: the length, in words, of the longest phrases to count.
      token_pattern: a regular expression that matches the words, such as ``\w+`` for
        words of one letter too, ``\S+`` for all that is separated by spaces, or ``\w``
        for characters.
      encoding: the encoding of the text files.

    Returns:
      The data set: V a float32 `csr_array`, `column_names` the words, `row_names` the
      files' paths in the folder or the numbers of the lines or rows from 1. It is named
      after the path; its loss is Kullback-Leibler for counts, Frobenius for tf-idf.

    Raises:
      ValueError: there are no documents, a file cannot be read, no word is left, or an
        option is out of its range.
    """
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"path: {path!r} is not a path; expected {_EXPECTED}")
    place = Path(path).expanduser()
    codec = as_codec(encoding)
    settings = {
        "min_df": _limit("min_df", min_df, counts_from=1),
        "max_df": _limit("max_df", max_df, counts_from=2),
        "max_features": _count("max_words", max_words, optional=True),
        "stop_words": _stop_words(stop_words),
        "ngram_range": (1, _count("ngrams", ngrams)),
        "token_pattern": _token_pattern(token_pattern),
    }
    if not isinstance(tfidf, bool | np.bool_):
        raise ValueError(f"tfidf: {tfidf!r} is not True or False")
    for name, value in (("column", column), ("label_column", label_column)):
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{name}: {value!r} is not the name of a column")
        if value is not None and place.suffix.lower() not in _TABLES:
            raise ValueError(
                f"{name}: '{place}' has no columns; only {', '.join(_TABLES)} have"
            )
    found = _read(place, column, label_column, codec)
    texts = composed(found.texts)
    unsuited = doubts(texts) if token_pattern is None else ()
    V, words = _counted(place, texts, bool(tfidf), settings, unsuited)

    kept = np.flatnonzero(np.diff(V.indptr))
    empty = len(found.texts) - len(kept)
    labels = label_names = None
    if found.labels is not None:
        values, labels = np.unique(found.labels, return_inverse=True)
        label_names, labels = tuple(map(str, values)), labels[kept]
    name = place.resolve().name if place.is_dir() else place.stem
    about = f"{'tf-idf' if tfidf else 'counts'} of the words of {len(kept)} documents"
    note = ""
    if empty:
        about += f"; {empty} more had none of the words"
        were = "was" if empty == 1 else "were"
        note = f"{empty} of {len(found.texts)} documents had none of the words and "
        note += f"{were} left out"
    return DOCUMENTS.dataset(
        V[kept],
        name=f"{name} tf-idf" if tfidf else name,  # a study may compare the two
        about=about,
        source=str(path),
        note=note,
        row_names=tuple(found.names[i] for i in kept),
        column_names=words,
        labels=labels,
        label_names=label_names,
        loss="frobenius" if tfidf else "kullback-leibler",
        doubts=(*unsuited, note) if note else unsuited,
    )


def _counted(
    place: Path,
    texts: list[str],
    tfidf: bool,
    settings: dict[str, Any],
    unsuited: tuple[str, ...],
) -> tuple[Any, tuple[str, ...]]:
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

    kind: Any = TfidfVectorizer if tfidf else CountVectorizer
    vectorizer = kind(dtype=np.float32, **settings)
    try:
        V = csr_array(vectorizer.fit_transform(texts))
    except ValueError:  # raised only where no word is left
        raise ValueError(
            _no_words(place, texts, vectorizer, settings, unsuited)
        ) from None
    return V, tuple(map(str, vectorizer.get_feature_names_out()))


def _no_words(
    place: Path,
    texts: list[str],
    vectorizer: Any,
    settings: dict[str, Any],
    unsuited: tuple[str, ...],
) -> str:
    """Why no word is left."""
    documents = f"the {len(texts)} documents"
    if unsuited:
        return f"path: no word of {documents} of '{place}' is left: {unsuited[0]}"
    tokens = map(vectorizer.build_tokenizer(), texts)
    if not any(tokens):
        rule = settings["token_pattern"]
        what = "word of two or more letters or digits"
        what = what if rule == WORD else f"word that token_pattern={rule!r} matches"
        return f"path: {documents} of '{place}' contain no {what}"
    analyse = vectorizer.build_analyzer()
    words = {word for text in texts for word in analyse(text)}
    if not words:
        return (
            f"path: {documents} of '{place}' contain no word that is not a stop word; "
            "set stop_words='none' to count stop words"
        )
    return (
        f"min_df, max_df: {settings['min_df']} and {settings['max_df']} exclude all "
        f"{len(words)} words of {documents} (a float is a share of the documents, an "
        "integer their number); set a lower min_df or a higher max_df"
    )


# --- reading -------------------------------------------------------------------------


def _read(
    place: Path, column: str | None, label_column: str | None, codec: str
) -> _Documents:
    from jaxnmf.files.texts import read_text, read_text_table

    if not place.exists():
        raise ValueError(f"path: '{place}' does not exist; expected {_EXPECTED}")
    if place.is_dir():
        return _folder(place, codec)
    if place.suffix.lower() == ".txt":
        lines = list(enumerate(read_text(place, codec).split("\n"), start=1))
        lines = [(number, line) for number, line in lines if line.strip()]
        if not lines:
            raise ValueError(
                f"path: '{place}' is empty; expected one document per line"
            )
        return _Documents(
            [line for _, line in lines], [str(number) for number, _ in lines]
        )
    if place.suffix.lower() in _TABLES:
        texts, labels = read_text_table(place, column, label_column, codec)
        rows = [str(row) for row in range(1, len(texts) + 1)]
        return _Documents(texts, rows, labels)
    raise ValueError(f"path: '{place}' has an unknown suffix; expected {_EXPECTED}")


def _folder(place: Path, codec: str) -> _Documents:
    from jaxnmf.files.texts import read_text

    files = [
        file.relative_to(place)
        for file in place.rglob("*")
        if file.suffix.lower() == ".txt" and file.is_file()
    ]
    # As text, names have the same order on every system.
    files = sorted(
        (file for file in files if not any(part[0] == "." for part in file.parts)),
        key=Path.as_posix,
    )
    if not files:
        raise ValueError(
            f"path: the folder '{place}' contains no .txt file; expected one "
            "per document"
        )
    labels = [file.parts[0] for file in files if len(file.parts) > 1]
    labelled = len(labels) == len(files) and len(set(labels)) > 1
    return _Documents(
        [read_text(place / file, codec) for file in files],
        [file.as_posix() for file in files],
        labels if labelled else None,
    )


# --- options -------------------------------------------------------------------------


def _count(name: str, value: Any, *, optional: bool = False) -> int | None:
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        none = " or None" if optional else ""
        raise ValueError(f"{name}={value!r} must be an integer ≥ 1{none}")
    return int(value)


def _limit(name: str, value: Any, counts_from: int) -> int | float:
    """As in scikit-learn, an int is a number of documents, a float a share."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if number and value >= counts_from and value == int(min(value, 2**62)):
        return int(value)
    if number and (0 <= value < 1 or (value == 1 and counts_from > 1)):
        return float(value)
    below = "below" if counts_from == 1 else "up to"
    raise ValueError(
        f"{name}={value!r} must be a share of the documents ({below} 1) or their "
        f"number, an integer ≥ {counts_from}"
    )


def _token_pattern(value: Any) -> str:
    if value is None:
        return WORD
    try:
        groups = re.compile(value).groups
    except (re.error, TypeError) as error:
        raise ValueError(
            f"token_pattern={value!r} is not a regular expression ({error})"
        ) from None
    if groups > 1:
        raise ValueError(f"token_pattern={value!r} has {groups} groups; at most one")
    return value


def _stop_words(value: Any) -> Any:
    if value is None or (isinstance(value, str) and value in ("none", "english")):
        return None if value == "none" else value
    if not isinstance(value, str) and isinstance(value, Iterable):
        words = list(value)
        if all(isinstance(word, str) for word in words):
            return composed(words)
    raise ValueError(
        f"stop_words={value!r} must be 'english', 'none' or a list of words"
    )
