"""Data sets that scikit-learn contains, which load without a network."""

from typing import Any

import numpy as np

from jaxnmf.datasets.base import Card, Dataset, as_float

DIGITS = Card(
    name="digits",
    shape=(1797, 64),
    kind="images",
    about="8×8 grey pictures of handwritten digits, values 0 to 16",
    source="scikit-learn, load_digits (test set of UCI Optical Recognition of "
    "Handwritten Digits; Alpaydin & Kaynak 1998)",
    licence="UCI: CC BY 4.0",
    rank=10,
)
CHINA, FLOWER = (
    Card(
        name=name,
        shape=(427, 640),
        kind="photo",
        about=f"photograph of {what} in grey, 0 to 1: V is the picture",
        source=f"scikit-learn, load_sample_image('{name}.jpg')",
        licence=f"CC BY 2.0, {author} on Flickr",
    )
    for name, what, author in (
        ("china", "a pagoda", "danielbuechele"),
        ("flower", "a dahlia", "vultilion"),
    )
)


def digits() -> Dataset:
    """Handwritten digits, 1797×64, with the ten classes as labels."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return DIGITS.dataset(
        as_float(bunch.data.astype(np.uint8)),
        column_image=(8, 8),
        labels=bunch.target.astype(int),
        label_names=tuple(str(name) for name in bunch.target_names),
    )


def china() -> Dataset:
    """Photograph of a pagoda, 427×640, in grey."""
    return _photo(CHINA)


def flower() -> Dataset:
    """Photograph of a dahlia, 427×640, in grey."""
    return _photo(FLOWER)


def _photo(card: Card) -> Dataset:
    from sklearn.datasets import load_sample_image

    colour = load_sample_image(f"{card.name}.jpg") / 255.0
    grey = colour @ [0.299, 0.587, 0.114]
    return card.dataset(
        grey.astype(np.float32),
        note="grey is the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B",
    )
