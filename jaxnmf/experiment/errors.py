"""Errors as one readable line, and the exit code."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from jaxnmf._util.names import suggestion
from jaxnmf.experiment.config import known_keys

USAGE_ERROR = 2


@contextlib.contextmanager
def readable_errors() -> Iterator[Callable[[], int]]:
    """Print errors of the user as one line; yields a function for the exit code."""
    code = 0
    try:
        yield lambda: code
    except (ValueError, HydraException, OmegaConfBaseException) as error:
        print(f"jaxnmf: error: {one_line(error)}", file=sys.stderr)
        code = USAGE_ERROR
    except KeyboardInterrupt:
        print("jaxnmf: interrupted; finished runs are stored", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_line(error: BaseException) -> str:
    """The message of an error in one line.

    Hydra's messages name its internals; what was typed and what is available is taken
    from them.
    """
    parts = [str(error)]
    if error.__cause__ is not None and str(error.__cause__) not in parts[0]:
        parts.append(str(error.__cause__))
    text = " ".join(" ".join(parts).split())

    unknown = re.search(
        r"Could not find '([\w/]+)/([^'/]+)' Available options in "
        r"'[^']+': (.*?)(?: Config search path|$)",
        text,
    )
    if unknown:
        group, name, known = unknown[1], unknown[2], unknown[3].split()
        text = (
            f"{group}={name} is not known{suggestion(name, known)}; choose from: "
            + ", ".join(known)
        )
        if group == "dataset" and "JAXNMF_DATA" not in os.environ:
            text += " (set JAXNMF_DATA to a folder of shared data sets for more)"
        return text
    key = re.search(r"Could not override '([^']+)'.*Key '([^']+)' not in '(\w+)'", text)
    if key:
        text = f"{key[1]} is not a setting"
        if known := known_keys(key[3]):
            text += f"{suggestion(key[2], known)}; choose from: {', '.join(known)}"
        return text
    scalar = re.search(
        r"override (\S+)=(\S+) Invalid value .* is not a ListConfig", text
    )
    if scalar:
        setting, value = scalar.groups()
        return f"{setting}={value} must be a list, in brackets: {setting}=[…]"
    return re.sub(r" full_key: .*", "", text)
