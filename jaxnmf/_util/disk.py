"""Atomic writing of files; archives of arrays without pickles, and JSON."""

from __future__ import annotations

import io
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

DAMAGED = (OSError, ValueError, KeyError, TypeError)
"""The exceptions raised by reading what is missing, damaged or of something else."""


def put(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file completely or not at all; if ``durable``, also on a power cut."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with aside.open("wb") as opened:
            opened.write(data)
            if durable:
                opened.flush()
                os.fsync(opened.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a NumPy archive of the arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)  # pyright: ignore
    return buffer.getvalue()


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an archive.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is no complete archive of arrays.
    """
    with path.open("rb") as opened:
        try:
            with np.load(opened, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except OSError:
            raise
        except Exception as error:  # archives can be damaged in many ways
            raise ValueError(
                f"{path}: is no complete archive of arrays ({type(error).__name__}: "
                f"{error})"
            ) from error
    other = [name for name, x in arrays.items() if not isinstance(x, np.ndarray)]
    if other:
        raise ValueError(f"{path}: is no archive of arrays: {other[0]!r} is none")
    return arrays


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is no complete JSON, or of something that is no object.
    """
    found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise ValueError(f"{path}: contains no JSON object")
    return found
