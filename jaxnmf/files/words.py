"""Words of texts: the rule that finds them, and texts that it does not suit."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

WORD = r"(?u)\b\w\w+\b"
"""Two or more letters or digits."""

SAMPLE = 200_000
"""The characters of the texts that are examined."""

_HAN_OR_KANA = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]+")
_OTHER_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]+")
_LONGEST = ((_HAN_OR_KANA, 6), (_OTHER_UNSPACED, 15))
"""Scripts without spaces, and the length of a run that is more than a word."""


def composed(texts: Iterable[str]) -> list[str]:
    """The texts in Unicode's composed form (NFC): a word has one spelling."""
    return [unicodedata.normalize("NFC", text) for text in texts]


def doubts(texts: Sequence[str]) -> tuple[str, ...]:
    """Sentences on why `WORD` may not find the words of the texts."""
    sample = _sample(texts)
    letters = sum(map(str.isalnum, sample))
    if not letters:
        return ()
    found = []
    long = sum(
        len(run)
        for script, most in _LONGEST
        for run in script.findall(sample)
        if len(run) > most
    )
    if 3 * long > letters:
        found.append(
            "the texts have few spaces between words, so that whole phrases count as "
            "words: separate the words by spaces with a tokenizer first, or set "
            r"token_pattern='\w' and ngrams=2 to count characters and pairs of them"
        )
        return tuple(found)
    single = sum(len(word) == 1 for word in re.findall(r"\w+", sample))
    if 2 * single > letters:
        found.append(
            "most words have one letter or digit, and only words of two or more are "
            r"counted: set token_pattern='\w+' to count all"
        )
    marks = sum(unicodedata.category(letter)[0] == "M" for letter in sample)
    if 50 * marks > letters:
        found.append(
            "the texts have combining marks, which are no letters and split words: set "
            r"token_pattern='\S\S+' to separate words by spaces alone"
        )
    return tuple(found)


def _sample(texts: Sequence[str]) -> str:
    parts, size = [], 0
    for text in texts:
        parts.append(text[: SAMPLE - size])
        size += len(parts[-1])
        if size >= SAMPLE:
            break
    return "\n".join(parts)
