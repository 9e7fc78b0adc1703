"""Word counts of documents of the user's own."""

import codecs
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, no_type_check

import numpy as np

from jaxnmf.datasets.base import Card, Dataset

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
_FITS = "a folder of .txt files, or a .txt, .csv, .tsv or .parquet file"
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
    encoding: str = "utf-8",
) -> Dataset:
    r"""How often each word (column) is in each document (row).

    Words are runs of two or more letters or digits, in lower case. With `tfidf` the
    count c_ij of word j in document i becomes c_ij (1 + ln((1 + m) / (1 + d_j))), d_j
    of m documents having the word, and each row is scaled to length 1. A document that
    has none of the words kept is left out; `note` says how many were.

    Args:
      path: a folder, in which every `.txt` file, at any depth, is a document (hidden
        files and folders are passed over); a `.txt` file, in which every line that is
        not blank is one; or a `.csv`, `.tsv` or `.parquet` with a column of them.
        The first folders inside a folder are the labels, if all files lie in them and
        there are two or more.
      column: the column with the documents; None takes the only one of text.
      label_column: the column with their labels.
      tfidf: weigh the counts.
      min_df: the documents a word must be in: a share below 1, a number from 1 on.
      max_df: the documents it may be in: a share up to 1, a number above.
      max_words: keep so many words, the most frequent.
      stop_words: words to leave out: "english" (scikit-learn's list), "none", or a
        list of them.
      ngrams: count runs of up to so many words.
      encoding: how the text files are encoded.

    Returns:
      The data set: V a float32 `csr_array`, `column_names` the words, `row_names` the
      files' paths in the folder or the numbers of the lines or rows from 1. It is named
      after the path; its loss is Kullback-Leibler for counts, Frobenius for tf-idf.

    Raises:
      ValueError: there are no documents, a file cannot be read, no word is left, or an
        option does not fit.
    """
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"path: {path!r} is not a path; {_FITS} would fit")
    place = Path(path).expanduser()
    codec = _codec(encoding)
    settings = {
        "min_df": _limit("min_df", min_df, counts_from=1),
        "max_df": _limit("max_df", max_df, counts_from=2),
        "max_features": _count("max_words", max_words, optional=True),
        "stop_words": _stop_words(stop_words),
        "ngram_range": (1, _count("ngrams", ngrams)),
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
    V, words = _counted(place, found.texts, bool(tfidf), settings)

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
    )


def _counted(
    place: Path, texts: list[str], tfidf: bool, settings: dict[str, Any]
) -> tuple[Any, tuple[str, ...]]:
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

    kind: Any = TfidfVectorizer if tfidf else CountVectorizer
    vectorizer = kind(dtype=np.float32, **settings)
    try:
        V = csr_array(vectorizer.fit_transform(texts))
    except ValueError:  # raised only where no word is left, for one reason or another
        analyse = vectorizer.build_analyzer()
        words = {word for text in texts for word in analyse(text)}
        if not words:
            raise ValueError(
                f"path: the {len(texts)} documents of '{place}' hold no word that is "
                "not a stop word; text, or stop_words='none', would fit"
            ) from None
        raise ValueError(
            f"min_df, max_df: {settings['min_df']} and {settings['max_df']} leave none "
            f"of the {len(words)} words of {len(texts)} documents (a float is a share "
            "of the documents, a whole number so many); a lower min_df or a higher "
            "max_df would fit"
        ) from None
    return V, tuple(map(str, vectorizer.get_feature_names_out()))


# --- reading -------------------------------------------------------------------------


def _read(
    place: Path, column: str | None, label_column: str | None, codec: str
) -> _Documents:
    from jaxnmf.files.texts import read_text, read_text_table

    if not place.exists():
        raise ValueError(f"path: '{place}' does not exist; {_FITS} would fit")
    if place.is_dir():
        return _folder(place, codec)
    if place.suffix.lower() == ".txt":
        lines = list(enumerate(read_text(place, codec).split("\n"), start=1))
        lines = [(number, line) for number, line in lines if line.strip()]
        if not lines:
            raise ValueError(f"path: '{place}' is blank; one document a line would fit")
        return _Documents(
            [line for _, line in lines], [str(number) for number, _ in lines]
        )
    if place.suffix.lower() in _TABLES:
        texts, labels = read_text_table(place, column, label_column, codec)
        rows = [str(row) for row in range(1, len(texts) + 1)]
        return _Documents(texts, rows, labels)
    raise ValueError(f"path: '{place}' is none of these: {_FITS}")


def _folder(place: Path, codec: str) -> _Documents:
    from jaxnmf.files.texts import read_text

    files = [
        file.relative_to(place)
        for file in place.rglob("*")
        if file.suffix.lower() == ".txt" and file.is_file()
    ]
    # A name sorts the same on every system once it is text.
    files = sorted(
        (file for file in files if not any(part[0] == "." for part in file.parts)),
        key=Path.as_posix,
    )
    if not files:
        raise ValueError(
            f"path: the folder '{place}' holds no .txt file; one a document would fit"
        )
    labels = [file.parts[0] for file in files if len(file.parts) > 1]
    labelled = len(labels) == len(files) and len(set(labels)) > 1
    return _Documents(
        [read_text(place / file, codec) for file in files],
        [file.as_posix() for file in files],
        labels if labelled else None,
    )


# --- options -------------------------------------------------------------------------


def _codec(encoding: Any) -> str:
    try:
        name = codecs.lookup(encoding).name
    except (LookupError, TypeError):
        raise ValueError(
            f"encoding: {encoding!r} is not known; 'utf-8' or 'latin-1' would fit"
        ) from None
    return "utf-8-sig" if name == "utf-8" else name  # a byte order mark is no word


def _count(name: str, value: Any, *, optional: bool = False) -> int | None:
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        none = ", or None," if optional else ""
        raise ValueError(
            f"{name}: {value!r} does not fit; a whole number ≥ 1{none} would"
        )
    return int(value)


def _limit(name: str, value: Any, counts_from: int) -> int | float:
    """As scikit-learn has it: an int is a number of documents, a float a share."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if number and value >= counts_from and value == int(min(value, 2**62)):
        return int(value)
    if number and (0 <= value < 1 or (value == 1 and counts_from > 1)):
        return float(value)
    below = "below" if counts_from == 1 else "up to"
    raise ValueError(
        f"{name}: {value!r} does not fit; a share of the documents ({below} 1) or a "
        f"whole number of them (from {counts_from} on) would"
    )


def _stop_words(value: Any) -> Any:
    if value is None or (isinstance(value, str) and value in ("none", "english")):
        return None if value == "none" else value
    if not isinstance(value, str) and isinstance(value, Iterable):
        words = list(value)
        if all(isinstance(word, str) for word in words):
            return words
    raise ValueError(
        f"stop_words: {value!r} does not fit; 'english', 'none' or a list of words "
        "would"
    )
