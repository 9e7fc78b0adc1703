"""Refresh what is kept here of a study from a finished run of it.

    python experiments/keep.py STUDY_FOLDER TARGET_FOLDER

Replaces every file of the target's ``figures/`` and ``tables/`` by the one of the same
name that ``jaxnmf report STUDY_FOLDER --figures`` wrote; pictures as PNG with few
colours. To keep another file, copy it there once by hand. The report itself is not
kept.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image


def fewer_colors(source: Path, target: Path) -> None:
    """Write a picture as a PNG of 64 colors, a third of its size or less."""
    with Image.open(source) as image:
        image.convert("RGB").quantize(64).save(target, optimize=True)


def main(study: str, target: str) -> None:
    folder = Path(target)
    for path in sorted([*folder.glob("figures/*.png"), *folder.glob("tables/*.csv")]):
        copy = fewer_colors if path.suffix == ".png" else shutil.copyfile
        copy(Path(study) / path.relative_to(folder), path)


if __name__ == "__main__":
    main(*sys.argv[1:])
