"""Overrides of the command line: Hydra's, and paths as a shell gives them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from jaxnmf.experiment.config import BY_VIEW


def as_overrides(given: Sequence[str]) -> list[str]:
    """The overrides in Hydra's grammar, but for ``folder=``, which takes any text.

    A value that names an existing file or folder as a whole is that path, whatever
    characters it has; everything else is as Hydra reads it.

    Raises:
      ValueError: names the first override that Hydra cannot read, with the form that it
        can.
    """
    parser = OverridesParser.create()
    for override in given:
        if not _is_text(override):
            raise ValueError(f"{override!r} is not UTF-8; rename the file or folder")
    return [
        override if override.startswith("folder=") else _as_override(override, parser)
        for one in given
        for override in _apart(one)
    ]


def _apart(override: str) -> list[str]:
    """``loss=[kl,frobenius]``, a loss for each view, as the group and its setting: a
    group of Hydra's cannot be a list."""
    if not override.startswith("loss=["):
        return [override]
    return [f"loss={BY_VIEW}", f"loss.losses={override.removeprefix('loss=')}"]


def quoted(value: str, quote: Quote = Quote.single) -> str:
    """A text in quotes, which Hydra and OmegaConf read as that text."""
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    return QuotedString(literal, quote).with_quotes()


def _as_override(override: str, parser: OverridesParser) -> str:
    key, equals, value = override.partition("=")
    # Settings of the root are names and numbers: ranks=[8] beside a folder "[8]".
    is_path = bool(equals) and "." in key and _exists(value)
    try:
        parsed = parser.parse_override(override)
    except HydraException as error:
        if is_path:
            return f"{key}={quoted(value)}"
        raise ValueError(_refusal(override, key, value, error)) from None
    if not is_path or (parsed.value() == value and "${" not in value):
        return override
    # So is a number in other settings than a path: dataset.index=0 beside a file "0".
    single = isinstance(parsed.value(), int | float | None)
    if single and not key.endswith(".path"):
        return override
    return f"{key}={quoted(value)}"


def _is_text(override: str) -> bool:
    """Whether it can be written into configs, which are UTF-8."""
    try:
        override.encode()
    except UnicodeEncodeError:
        return False
    return True


def _exists(value: str) -> bool:
    try:
        return bool(value) and Path(value).expanduser().exists()
    except (
        OSError,
        ValueError,
        RuntimeError,
    ):  # too long, a zero byte, an unknown user
        return False


def _refusal(override: str, key: str, value: str, error: HydraException) -> str:
    if "=" not in override:
        return f"{override!r} is not an override; expected key=value"
    said = str(error).split(" expecting {")[0].replace("\n", " ")
    reason = f"{override}: not in Hydra's grammar ({said})"
    if value.startswith(("[", "{", "'", '"')):
        return (
            f"{reason}; brackets and quotes must match, and a value with spaces needs "
            f"quotes in the shell, as in 'ranks=[8, 16]'"
        )
    parts = value.split(",")
    whole = len(parts) == 1 or not all(map(_exists, parts))
    values = [value] if whole else parts
    form = f"{key}=" + ",".join(quoted(one, Quote.double) for one in values)
    return f"{reason}; put the value in quotes: {shlex.quote(form)}"
