"""The logo and the favicon: H above, W to the left, and V = W H where they meet.

The tint of a square is the value of its entry, as opacity, so that the pictures suit
light and dark pages. `python docs/images/logo.py` writes them.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

W = np.array([[1.0, 0.15], [0.7, 0.3], [0.25, 0.75]])
H = np.array([[1.0, 0.6, 0.2], [0.15, 0.45, 1.0]])
# Okabe & Ito's colours, which people of every colour vision can tell apart.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
CELL, SIDE, GAP, MARGIN = 16, 14, 6, 2
SIZE = 2 * MARGIN + 5 * CELL + GAP


class Square(NamedTuple):
    x: float
    y: float
    colour: str
    opacity: float


def squares() -> list[Square]:
    """The entries of H, W and V = W H."""
    past = MARGIN + 2 * CELL + GAP
    blocks = (
        (H, past, MARGIN, ORANGE),
        (W, MARGIN, past, BLUE),
        (W @ H / (W @ H).max(), past, past, GREEN),
    )
    return [
        Square(left + j * CELL, top + i * CELL, colour, 0.15 + 0.85 * value)
        for X, left, top, colour in blocks
        for (i, j), value in np.ndenumerate(X)
    ]


def svg() -> str:
    """The logo as SVG."""
    shape = f'width="{SIDE}" height="{SIDE}" rx="2"'
    rows = [
        f'  <rect x="{s.x}" y="{s.y}" {shape} fill="{s.colour}" '
        f'fill-opacity="{s.opacity:.2f}"/>'
        for s in squares()
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE} {SIZE}">'
    return "\n".join([head, "  <title>jaxnmf</title>", *rows, "</svg>\n"])


def png(pixels: int) -> Image.Image:
    """The logo as an image with a transparent background."""
    fine = 8  # drawn larger and reduced, for smooth edges
    image = Image.new("RGBA", (SIZE * fine, SIZE * fine))
    draw = ImageDraw.Draw(image)
    for s in squares():
        corners = [s.x, s.y, s.x + SIDE, s.y + SIDE]
        alpha = f"{round(255 * s.opacity):02x}"
        box = [fine * value for value in corners]
        draw.rounded_rectangle(box, radius=2 * fine, fill=s.colour + alpha)
    return image.resize((pixels, pixels), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    folder = Path(__file__).parent
    (folder / "logo.svg").write_text(svg(), encoding="utf-8")
    png(512).save(folder / "logo.png", optimize=True)
    png(48).save(folder / "favicon.ico", sizes=[(16, 16), (32, 32), (48, 48)])
