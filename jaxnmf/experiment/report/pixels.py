"""Images as PNG of few colours, each pixel an entry, for the page to enlarge."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from jaxnmf.plots.heatmap import SHADES


def canvases(count: int) -> list[Any]:
    """Axes that are drawn into and never rendered: their `pixels` are taken."""
    with mpl.rc_context({"axes.grid": False}):
        figure = Figure()
        return [figure.add_axes((0, 0, 1, 1)) for _ in range(count)]


def pixels(axes: Any) -> str:
    """The image that axes show as a PNG data address; NaN is left transparent."""
    (image,) = axes.images
    part = np.ma.filled(image.norm(image.get_array()).astype(float), np.nan)
    index = np.round(np.nan_to_num(np.clip(part, 0, 1)) * (SHADES - 1))
    index[np.isnan(part)] = SHADES
    colours = image.get_cmap()(np.arange(SHADES) / (SHADES - 1))
    palette = np.vstack([np.round(255 * colours[:, :3]), [[255, 255, 255]]])
    unknown = SHADES if (index == SHADES).any() else None
    return address(paletted(index, palette, unknown))


def paletted(
    index: np.ndarray, palette: np.ndarray, transparent: int | None = None
) -> bytes:
    height, width = index.shape
    image = Image.frombytes("P", (width, height), index.astype(np.uint8).tobytes())
    image.putpalette(palette.astype(np.uint8).tobytes())
    data = io.BytesIO()
    hidden = {} if transparent is None else {"transparency": transparent}
    image.save(data, "png", **hidden)
    return data.getvalue()


def address(data: bytes) -> str:
    """A PNG as a data address."""
    return "data:image/png;base64," + base64.b64encode(data).decode()


def sheet(rows: Sequence[Sequence[str]]) -> bytes:
    """Pictures, data addresses, set out in rows as one PNG, the small ones enlarged."""
    pictures = [[_opened(address) for address in row] for row in rows]
    width = max(image.width for row in pictures for image in row)
    height = max(image.height for row in pictures for image in row)
    times = max(1, round(128 / max(width, height)))
    width, height = times * width + 8, times * height + 8
    size = width * max(map(len, pictures)) + 8, height * len(pictures) + 8
    paper = Image.new("RGB", size, "white")
    for i, row in enumerate(pictures):
        for j, image in enumerate(row):
            image = image.resize(
                (times * image.width, times * image.height), Image.Resampling.NEAREST
            )
            paper.paste(image, (j * width + 8, i * height + 8), image)
    data = io.BytesIO()
    paper.save(data, "png")
    return data.getvalue()


def _opened(address: str) -> Image.Image:
    data = base64.b64decode(address.split(",", 1)[1])
    return Image.open(io.BytesIO(data)).convert("RGBA")
