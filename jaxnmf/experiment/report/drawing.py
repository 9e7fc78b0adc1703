"""Panels: figures of the page, and their ways out of matplotlib.

Every panel is a figure of its own, as wide as a phone, so that a page can arrange them
side by side or one below the other without shrinking their text.
"""

from __future__ import annotations

import base64
import functools
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from jaxnmf.experiment.report.look import COLOURS, INK, LOOK, RULE, page_colour
from jaxnmf.experiment.report.pixels import address, paletted

DPI = 200  # of a panel's PNG file
WIDTH = 4.2  # inches, of a panel


@dataclass(frozen=True, eq=False)
class Drawing:
    """A panel of the page: ``svg`` as matplotlib wrote it, and the figure it shows.

    ``legend`` has (name, colour, pattern) of its lines. On the page one legend serves
    many panels; a figure that is a file has its own, below.
    """

    svg: str
    figure: Figure
    legend: tuple[tuple[str, str, Any], ...] = ()

    def inline(self, name: str) -> str:
        """The SVG inside HTML, its ids made unique by the figure's name."""
        return _inline(self.svg, f"f{zlib.crc32(name.encode()):08x}-")

    def as_files(self) -> tuple[str, bytes]:
        """(SVG, PNG) with their legend."""
        own = self.svg, _png(self.figure)
        return _stacked(own, _legend(self.legend)) if self.legend else own


@contextmanager
def panels(
    count: int,
    height: float = 2.7,
    *,
    left: float = 0.55,
    bottom: float = 0.45,
    title: str = "",
    margins: bool = True,
) -> Iterator[list[Any]]:
    """Axes of as many panels, to draw into in the page's look.

    Margins are fixed, in inches, which keeps neighbours in line; without them
    matplotlib finds room for what is drawn, titles too. ``title`` takes the place of
    the label of the vertical axis.
    """
    with mpl.rc_context(LOOK):
        found = [_axes(height, left, bottom, title, margins) for _ in range(count)]
        yield found
        for axes in found if margins else ():
            axes.set_title("")  # the page has captions
            axes.set_title(title, loc="left")
            if title:
                axes.set_ylabel("")


@contextmanager
def panel(height: float = 2.7, **layout: Any) -> Iterator[Any]:
    """Axes of one panel, as `panels` gives them."""
    with panels(1, height, **layout) as (axes,):
        yield axes


def _axes(height: float, left: float, bottom: float, title: str, margins: bool) -> Any:
    if not margins:
        return Figure(figsize=(WIDTH, height), layout="constrained").subplots()
    right, top = 0.08, 0.3 if title else 0.08
    inside = (
        left / WIDTH,
        bottom / height,
        1 - (left + right) / WIDTH,
        1 - (bottom + top) / height,
    )
    return Figure(figsize=(WIDTH, height)).add_axes(inside)


def drawn(axes: Any, legend: Sequence[tuple[str, str, Any]] = ()) -> Drawing:
    """The figure of these axes as a panel; for ``legend`` see `Drawing`."""
    return Drawing(_svg(axes.figure), axes.figure, tuple(legend))


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
    return f'"{address(paletted(index.reshape(pixels.shape[:2]), colours[:, :3]))}"'


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
