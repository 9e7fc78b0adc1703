"""Data sets in the folder that the environment variable JAXNMF_DATA names.

`manifest.json` contains `{"datasets": [entry, ...]}`. An entry has `name`, `file` (an
`.npz` without pickles), `shape`, `keys` (each array's shape and dtype) and, as text,
`what`, `source`, `licence`, `rank`, `note`; also `sha256` of the file. The keys
determine the kind of a data set: the matrix is `X`, the arrays of a CSR matrix, or the
triplets `user`, `item`, `rating`; the other keys describe its axes.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from jaxnmf.data.observed import Observed
from jaxnmf.datasets.base import Card, Dataset, Truth, as_float

VARIABLE = "JAXNMF_DATA"
MANIFEST = "manifest.json"

# The first of these keys in an entry determines its kind, and so its usual loss:
# Kullback-Leibler for counts (Poisson), for expression [Brunet2004] and for magnitude
# spectrograms [Smaragdis2003].
_KINDS = {
    "endmembers": ("spectra", "frobenius"),
    "band_index": ("spectra", "frobenius"),
    "rating": ("ratings", "frobenius"),
    "vocab": ("text", "kullback-leibler"),
    "gene_ids": ("genes", "kullback-leibler"),
    "channels": ("counts", "kullback-leibler"),
    "audio": ("audio", "kullback-leibler"),
    "height": ("images", "frobenius"),
}
# Keys with one name or number for each component; their length is the true rank.
_RANKS = {"label_names": 0, "material_names": 0, "W_true": 1}


def cards() -> dict[str, Card]:
    """The cards of the data sets in the folder; none if JAXNMF_DATA is not set.

    Raises:
      ValueError: the manifest cannot be read.
    """
    return {entry["name"]: _card(entry) for path, entry in _listed() if path.is_file()}


def shared(name: str) -> Dataset:
    """Load a data set of the folder.

    Ratings are `jaxnmf.Observed`: the entries without a rating are unknown, not zero.

    Raises:
      ValueError: the name is unknown, or the file is missing, damaged, or differs
        from the checksum in the folder.
    """
    listed = {entry["name"]: (path, entry) for path, entry in _listed()}
    if name not in listed:
        raise ValueError(
            f"name: unknown data set {name!r}; set {VARIABLE} to a folder with a "
            f"{MANIFEST} that lists it"
        )
    path, entry = listed[name]
    _verify(path, entry)
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        V = _matrix(arrays)
    except Exception as error:  # a damaged archive fails in many ways
        raise ValueError(
            f"{VARIABLE}: '{path}' cannot be read as the .npz that {MANIFEST} "
            f"describes ({type(error).__name__}: {error})"
        ) from error
    return _card(entry).dataset(
        V, note=entry.get("note", ""), **_axes(V, arrays, entry)
    )


def _listed() -> list[tuple[Path, dict[str, Any]]]:
    """The path and the entry of each set in the manifest, if there is one."""
    folder = Path(os.environ.get(VARIABLE, "")).expanduser()
    path = folder / MANIFEST
    if not os.environ.get(VARIABLE) or not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["datasets"]
        return [(folder / entry["file"], entry) for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{VARIABLE}: '{path}' is not a manifest ({error!r}); expected a JSON "
            'object with a list "datasets"'
        ) from error


def _card(entry: dict[str, Any]) -> Card:
    keys = entry.get("keys", {})
    kind, loss = next(
        (known for key, known in _KINDS.items() if key in keys),
        ("table", "frobenius"),
    )
    stated = re.match(r"\d+", str(entry.get("rank", "")))
    ranks = [keys[key][0][axis] for key, axis in _RANKS.items() if key in keys]
    try:
        m, n = (int(size) for size in entry["shape"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"{VARIABLE}: {MANIFEST} has no shape for {entry.get('name')!r}; "
            'expected "shape": [m, n]'
        ) from None
    return Card(
        name=entry["name"],
        shape=(m, n),
        kind=kind,
        about=entry.get("what", ""),
        source=entry.get("source", ""),
        licence=entry.get("licence", "unknown"),
        rank=ranks[0] if ranks else int(stated[0]) if stated else None,
        loss=loss,
    )


def _verify(path: Path, entry: dict[str, Any]) -> None:
    if not path.is_file():
        raise ValueError(f"{VARIABLE}: '{path}', listed in {MANIFEST}, does not exist")
    stated = {MANIFEST: entry.get("sha256")}
    sums = path.parent / "SHA256SUMS"
    if sums.is_file():
        for line in sums.read_text(encoding="utf-8").splitlines():
            digest, _, file = line.partition(" ")
            if file.strip(" *") == entry["file"]:
                stated[sums.name] = digest
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    for where, digest in stated.items():
        if digest is not None and digest != found:
            raise ValueError(
                f"{VARIABLE}: '{path}' has SHA-256 {found}, but {where} has "
                f"{digest}: the file is damaged or of another version"
            )


def _matrix(arrays: dict[str, np.ndarray]) -> Any:
    from scipy.sparse import csr_array

    if "X" in arrays:
        if "scale" in arrays:  # integers of an instrument to reflectance
            return (arrays["X"] * arrays["scale"]).astype(np.float32)
        return as_float(arrays["X"])
    shape = tuple(int(size) for size in arrays["shape"])
    if "rating" in arrays:
        return Observed(arrays["user"], arrays["item"], arrays["rating"], shape)
    V = csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
    V.check_format(full_check=True)
    return as_float(V)


def _axes(V: Any, arrays: dict[str, np.ndarray], entry: dict) -> dict[str, Any]:
    """The attributes that describe the rows, the columns and the components."""
    m, n = V.shape
    found: dict[str, Any] = {
        "row_names": _names(arrays, "sample_names"),
        "column_names": _names(arrays, "vocab", "gene_ids", "channels", "item_title"),
        "label_names": _names(arrays, "label_names"),
    }
    if "labels" in arrays:
        found["labels"] = arrays["labels"].astype(int)
    if "height" in arrays:
        image = int(arrays["height"]), int(arrays["width"])
        scene = image[0] * image[1] == m
        found["row_image" if scene else "column_image"] = image
    band_range = re.search(r"(\d+)-(\d+) nm", entry.get("what", ""))
    if band_range:
        found["wavelengths"] = np.linspace(
            float(band_range[1]), float(band_range[2]), n
        )
    elif "band_index" in arrays:
        # AVIRIS: 224 bands from about 380 to 2500 nm, counted from 1. Its four
        # spectrometers make the true spacing only roughly even.
        band = arrays["band_index"].astype(float)
        found["wavelengths"] = 380 + (band - 1) * (2500 - 380) / 223
    if "audio" in arrays:
        rate, window = float(arrays["sample_rate"]), int(arrays["win_length"])
        found["frequencies"] = np.arange(n) * rate / window
        # the middle of each frame
        found["times"] = (np.arange(m) * int(arrays["hop"]) + window / 2) / rate
    if "W_true" in arrays:
        found["truth"] = Truth(
            W=arrays["W_true"].astype(float),
            H=arrays["H_true"].astype(float),
            note=entry.get("ground_truth", ""),
        )
    elif "endmembers" in arrays:
        found["truth"] = Truth(
            W=arrays["abundances"],
            H=arrays["endmembers"],
            names=_names(arrays, "material_names"),
            note=f"{entry.get('ground_truth', '')}; {entry.get('note', '')}",
        )
    return found


def _names(arrays: dict[str, np.ndarray], *keys: str) -> tuple[str, ...] | None:
    for key in keys:
        if key in arrays:
            return tuple(str(name) for name in arrays[key])
    return None
