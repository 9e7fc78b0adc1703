"""Numbers, names and lists as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

LOSSES = {
    "frobenius": "Frobenius",
    "kullback-leibler": "Kullback–Leibler",
    "itakura-saito": "Itakura–Saito",
}


def number(value: Any, digits: int = 3) -> str:
    """A number to some significant digits; a dash for NaN.

    >>> number(0.31200), number(12345678.0), number(float("nan"))
    ('0.312', '1.23e7', '–')
    """
    value = float(value)
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:.0f}".replace("-", "−")
    return f"{value:#.{digits}g}".rstrip(".").replace("-", "−")


def duration(seconds: float) -> str:
    """A time with its unit: ``"12.0 ms"``, ``"3.20 s"``."""
    if seconds < 0.1:
        return f"{number(1000 * seconds)} ms"
    return f"{number(seconds)} s"


def probability(p: float) -> str:
    """A p-value for a table: ``"0.031"``, ``"< 0.001"``."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def p_value(p: float) -> str:
    """A p-value for a sentence: ``"p = 0.031"``, ``"p < 0.001"``."""
    text = probability(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def series(values: Iterable[float], digits: int = 4, dash: str = "") -> str:
    """Up to three numbers in full, more of them (or with a dash) as a range."""
    values = list(values)
    texts = [number(value, digits) for value in values]
    if dash or len(texts) > 3:
        low, high = number(min(values), digits), number(max(values), digits)
        return low if low == high else f"{low}{dash or ' to '}{high}"
    return listed(texts)


def loss_name(loss: str) -> str:
    """The loss as it is written in text, of views all theirs."""
    return " + ".join(LOSSES.get(one, one) for one in loss.split("+"))


def listed(words: Iterable[Any]) -> str:
    """``"a, b and c"``."""
    *most, last = map(str, words)
    return f"{', '.join(most)} and {last}" if most else last


def some(names: Sequence[Any], most: int = 4) -> str:
    """The names if they are few, else the first of them and how many more."""
    if len(names) <= most:
        return listed(names)
    return f"{', '.join(map(str, names[: most - 1]))} and {len(names) - most + 1} more"


def count(n: int, noun: str) -> str:
    """``"1 run"``, ``"3 runs"``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def names_or_count(names: Sequence[Any], noun: str) -> str:
    """The names if there are at most four, else how many there are."""
    return listed(names) if len(names) <= 4 else count(len(names), noun)


def ranks(values: Iterable[int]) -> str:
    """``"rank 4"``, ``"ranks 4, 8 and 16"``, ``"ranks 2 to 9"``."""
    found = sorted({int(rank) for rank in values})
    if len(found) == 1:
        return f"rank {found[0]}"
    if len(found) > 3 and found == list(range(found[0], found[-1] + 1)):
        return f"ranks {found[0]} to {found[-1]}"
    if len(found) > 6:
        return f"{len(found)} ranks from {found[0]} to {found[-1]}"
    return f"ranks {listed(found)}"


def lower_first(sentence: str) -> str:
    """The sentence as it is written after a colon."""
    return sentence[:1].lower() + sentence[1:]
