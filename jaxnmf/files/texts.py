"""Readers of texts, from text files and from columns of tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxnmf.files.encodings import not_encoded


def read_text(file: Path, codec: str) -> str:
    """Read a text file.

    Raises:
      ValueError: the file cannot be read, or has another encoding.
    """
    try:
        return file.read_text(encoding=codec)
    except UnicodeDecodeError as error:
        raise not_encoded(file, error) from None
    except OSError as error:
        raise ValueError(
            f"path: '{file}' cannot be read: {error.strerror or error}"
        ) from None


def read_text_table(
    place: Path, column: str | None, label_column: str | None, codec: str
) -> tuple[list[str], np.ndarray | None]:
    """Read the texts in one column of a .csv, .tsv or .parquet, and their labels.

    Args:
      column: the column of the texts; None for the only one of text.
      label_column: the column of the labels, or None.
      codec: the encoding of a .csv or .tsv.

    Raises:
      ValueError: the file cannot be read, or has no such column of text.
    """
    import pandas as pd

    frame: Any
    try:
        if place.suffix.lower() == ".parquet":
            frame = pd.read_parquet(place)
        else:
            frame = pd.read_csv(
                place,
                sep="\t" if place.suffix.lower() == ".tsv" else ",",
                encoding=codec,
                keep_default_na=False,  # "NA" and "null" are words, and labels too
                na_values=[""],
                low_memory=False,
            )
    except UnicodeDecodeError as error:
        raise not_encoded(place, error) from None
    except Exception as error:  # each format fails in ways of its own
        raise ValueError(
            f"path: '{place}' cannot be read as {place.suffix} "
            f"({type(error).__name__}: {error}); expected a table with a header"
        ) from error
    if place.suffix.lower() != ".parquet" and not isinstance(
        frame.index, pd.RangeIndex
    ):
        raise ValueError(
            f"path: '{place}' has rows with more cells than there are column "
            "names; name every column, and quote text that contains separators"
        )
    frame = frame.set_axis([str(name) for name in frame.columns], axis="columns")
    listed = ", ".join(frame.columns) or "none"
    for name, value in (("column", column), ("label_column", label_column)):
        if value is not None and value not in frame.columns:
            raise ValueError(
                f"{name}: '{place}' has no column {value!r}; it has {listed}"
            )
    text = [
        name
        for name, values in frame.items()
        if pd.api.types.infer_dtype(values, skipna=True) == "string"
    ]
    if column is None:
        candidates = [name for name in text if name != label_column]
        if len(candidates) != 1:
            raise ValueError(
                f"column: '{place}' has {len(candidates)} columns of text"
                + (f" ({', '.join(candidates)})" if candidates else "")
                + f"; set column to that of the documents; the columns are {listed}"
            )
        (column,) = candidates
    elif column not in text:
        raise ValueError(
            f"column: {column!r} of '{place}' is not text; the columns of text are "
            f"{', '.join(text) or 'none'}"
        )
    labels = None
    if label_column is not None:
        labels = frame[label_column]
        if labels.isna().any():
            rows = np.flatnonzero(labels.isna())
            raise ValueError(
                f"label_column: {len(rows)} rows of {label_column!r} have no label "
                f"(the first is row {rows[0] + 1}); expected one for each row"
            )
        # Numbers keep their order: 2 comes before 10.
        number = pd.api.types.is_numeric_dtype(labels)
        labels = labels.to_numpy() if number else labels.astype(str).to_numpy(str)
    return frame[column].fillna("").tolist(), labels
