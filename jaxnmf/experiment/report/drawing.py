"""How everything on the page is drawn: its look, and its ways out of matplotlib.

Every panel is a figure of its own, wide as a phone, so that a page sets them side by
side or one below the other without shrinking their text. Ink and rules take the
page's colours, so panels follow its light and dark schemes; as files they are black on
white.
"""

from __future__ import annotations

import base64
import functools
import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullLocator,
)
from PIL import Image

# Okabe & Ito's palette without its yellow, which fades on white, and without black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("solid", "6 2.5", "1.5 2", "8 2 1.5 2")
ACCENT, TRUTH = COLOURS[0], COLOURS[1]

# Ink and rules of the files; on the page they stand for its own.
INK, RULE = "#1c2126", "#d9dee4"
SHADES = 64  # of a picture

LOOK: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxnmf",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlepad": 8,
    "axes.labelsize": 9.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.major.width": 0.6,
    "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
    "path.simplify_threshold": 0.3,
}
DPI = 200  # of a panel's PNG file
WIDTH = 4.2  # inches, of a panel


@dataclass(frozen=True, eq=False)
class Drawing:
    """A panel of the page: ``svg`` as matplotlib wrote it, and the figure it shows.

    ``legend`` has (name, colour, pattern) of its lines. On the page one legend serves
    many panels; as a file a figure stands alone and has its own, below.
    """

    svg: str
    figure: Figure
    legend: tuple[tuple[str, str, Any], ...] = ()

    def inline(self, name: str) -> str:
        """The SVG inside HTML, its ids made unique by the figure's name."""
        return _inline(self.svg, f"f{zlib.crc32(name.encode()):08x}-")

    def as_files(self) -> tuple[str, bytes]:
        """(SVG, PNG) that stand alone."""
        own = self.svg, _png(self.figure)
        return _stacked(own, _legend(self.legend)) if self.legend else own


@dataclass(frozen=True)
class Scale:
    """Which colours stand for which values."""

    colours: str
    low: float
    high: float

    @classmethod
    def of(cls, values: Any, colours: str = "gray", *, signed: bool = False) -> Scale:
        """From zero to the largest value, or as far on both sides of zero."""
        values = np.abs(np.asarray(values, float))
        high = float(values[np.isfinite(values)].max(initial=0)) or 1.0
        return cls(colours, -high if signed else 0.0, high)


def png(values: np.ndarray, scale: Scale) -> bytes:
    """An array as a PNG of few colours; NaN is left transparent."""
    colours = mpl.colormaps[scale.colours]
    levels = np.arange(SHADES) / (SHADES - 1)
    palette = np.round(255 * colours(levels)[:, :3]).astype(np.uint8)
    reach = (scale.high - scale.low) or 1.0
    part = np.clip((np.asarray(values, float) - scale.low) / reach, 0, 1)
    index = np.round(np.nan_to_num(part) * (SHADES - 1)).astype(np.uint8)
    index[np.isnan(part)] = SHADES
    unknown = SHADES if (index == SHADES).any() else None
    return _paletted(index, np.vstack([palette, [[255, 255, 255]]]), unknown)


def _paletted(
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


def picture(values: np.ndarray, scale: Scale | None = None) -> str:
    """An array as a PNG data address; NaN is left transparent."""
    return address(png(values, scale or Scale.of(values)))


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


def page_colour(colour: str) -> str:
    """A palette colour as the page's style sheet names it, lighter on dark paper."""
    return f"var(--c{COLOURS.index(colour)})"


def panel(
    height: float = 2.7, *, left: float = 0.55, bottom: float = 0.45, title: str = ""
) -> tuple[Figure, Any]:
    """A figure and its axes; fixed margins, in inches, keep neighbours in line."""
    width, right, top = WIDTH, 0.08, 0.3 if title else 0.08
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(width, height))
        inside = (
            left / width,
            bottom / height,
            1 - (left + right) / width,
            1 - (bottom + top) / height,
        )
        axes = figure.add_axes(inside)
        axes.set_title(title, loc="left")
        return figure, axes


def drawn(figure: Figure, legend: Sequence[tuple[str, str, Any]] = ()) -> Drawing:
    """The figure as a panel of the page; for ``legend`` see `Drawing`."""
    return Drawing(_svg(figure), figure, tuple(legend))


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    with mpl.rc_context(LOOK):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return re.sub(
        r'"data:image/png;base64,([^"]*)"', _few_colours, text.getvalue(), flags=re.S
    )


def _png(figure: Figure) -> bytes:
    image = io.BytesIO()
    with mpl.rc_context(LOOK):
        # Over 300 panels a second faster than zlib's own level, for 2 of 20 MB more.
        quick = {"compress_level": 2}
        figure.savefig(
            image, format="png", dpi=DPI, facecolor="white", pil_kwargs=quick
        )
    return image.getvalue()


@functools.lru_cache(maxsize=64)
def _legend(entries: tuple[tuple[str, str, Any], ...]) -> tuple[str, bytes]:
    """(SVG, PNG) of a legend, once for all panels that share it."""
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(WIDTH, 0.15 + 0.16 * -(-len(entries) // 3)))
        added = figure.legend(
            [Line2D([], [], color=c, linestyle=pattern) for _, c, pattern in entries],
            # A name that begins with _ would be left out.
            [f" {name}" for name, _, _ in entries],
            loc="center",
            ncols=3,
            frameon=False,
            fontsize=7,
            handlelength=5,  # or a pattern of dashes would not show
        )
        for text in added.get_texts():
            text.set_parse_math(False)
    return _svg(figure), _png(figure)


def _stacked(top: tuple[str, bytes], below: tuple[str, bytes]) -> tuple[str, bytes]:
    """Two drawings of one width as one, without drawing them again."""
    (upper, upper_png), (lower, lower_png) = top, below
    sizes = [
        [float(x) for x in re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2]]
        for svg in (upper, lower)
    ]
    (width, height), (_, more) = sizes
    # Ids must differ within a file.
    lower = re.sub(r'( id="|href="#|url\(#)', r"\1legend-", lower)
    bodies = [
        re.search(r"<svg[^>]*>(.*)</svg>", svg, re.S)[1]  # pyright: ignore
        for svg in (upper, lower)
    ]
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1" '
        f'width="{width:g}pt" height="{height + more:g}pt" '
        f'viewBox="0 0 {width:g} {height + more:g}">\n{bodies[0]}'
        f'<g transform="translate(0 {height:g})">{bodies[1]}</g>\n</svg>\n'
    )
    with (
        Image.open(io.BytesIO(upper_png)) as one,
        Image.open(io.BytesIO(lower_png)) as two,
    ):
        paper = Image.new("RGB", (one.width, one.height + two.height), "white")
        paper.paste(one, (0, 0))
        paper.paste(two, (0, one.height))
    data = io.BytesIO()
    paper.save(data, "png")
    return svg, data.getvalue()


def _few_colours(found: re.Match[str]) -> str:
    """The PNG of an SVG with a palette, a quarter of the size, where one will do."""
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as image:
        pixels = np.asarray(image.convert("RGBA"))
    colours, index = np.unique(pixels.reshape(-1, 4), axis=0, return_inverse=True)
    if len(colours) > 256 or (colours[:, 3] < 255).any():
        return found[0]
    return f'"{address(_paletted(index.reshape(pixels.shape[:2]), colours[:, :3]))}"'


def _inline(svg: str, prefix: str) -> str:
    """The SVG as part of HTML: no width, no XML, every id with the prefix."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    width, height = re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2]
    svg = re.sub(
        r"<svg[^>]*>",
        f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">',
        svg,
        count=1,
    )
    svg = svg.replace("xlink:href", "href")
    svg = svg.replace(INK, "currentColor").replace(RULE, "var(--rule)")
    for colour in COLOURS:
        svg = svg.replace(colour.lower(), page_colour(colour))
    # A tenth of a point is below what a screen or a printer resolves here.
    svg = re.sub(r' d="[^"]*"', lambda d: re.sub(r"(\.\d)\d+", r"\1", d.group()), svg)
    # Ids need only be unique on the page and the same in every build of it.
    used = set(re.findall(r'(?:href="|url\()#([\w-]+)', svg))
    svg = re.sub(
        r' id="([\w.-]+)"', lambda i: i.group() if i.group(1) in used else "", svg
    )
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    return re.sub(r"\n\s*", "\n", svg)


def plain_ticks(axis: Any, most: int, *, integer: bool = False) -> None:
    axis.set_major_locator(MaxNLocator(most, integer=integer))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def log_ticks(axis: Any, low: float, high: float) -> None:
    """Plain numbers at 1 (or at 1, 2, 5 within two decades), about five at most."""
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    steps = (1,) if np.log10(high / low) > 2 else (1, 2, 5)
    ticks = [s * 10.0**k for k in range(first, last + 1) for s in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    ticks = ticks[:: -(-len(ticks) // 6) or 1]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FixedFormatter([_tick(tick) for tick in ticks]))


def _tick(value: float) -> str:
    size = abs(value)
    power = round(np.log10(size)) if size else 0
    if abs(power) > 3 and np.isclose(size, 10.0**power):
        return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value:g}".replace("-", "−")
