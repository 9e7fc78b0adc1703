"""Atomic writing of files, and archives of arrays without pickles."""

from __future__ import annotations

import io
import os
import uuid
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
"""The exceptions raised by reading an archive that is missing or damaged."""


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
    """All arrays of an archive. Raises one of `DAMAGED`."""
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
