"""The rooms of the package, read from its source, as a picture and as a table.

`docs/architecture.md` runs both when the docs are built, so neither can be out of date.
A room is a subpackage or a module directly under `jaxnmf/`.
"""

import ast
import io
import tomllib
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxnmf"

# Sizes in units of a floor's height: of the picture, of a letter, of half a box.
WIDTH, LETTER, HALF = 10.0, 0.135, 0.2
BAND, EDGE, ARROW = "#eef1f6", "#8a96a8", "#5b8cc4"


def floors() -> list[list[str]]:
    """The rooms of each floor, from the top, as `pyproject.toml` has import-linter
    enforce them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    # Other contracts are of the floors inside a room.
    layers = next(c["layers"] for c in contracts if c["type"] == "layers")
    names = [layer.split("|") for layer in layers]
    rooms = [
        [name.strip().removeprefix("jaxnmf.") for name in floor] for floor in names
    ]
    return [[room for room in floor if room != "_version"] for floor in rooms]


def files(room: str) -> list[Path]:
    """The source files of a room."""
    module = PACKAGE / f"{room}.py"
    return [module] if module.exists() else sorted((PACKAGE / room).rglob("*.py"))


def imports(room: str) -> set[str]:
    """The rooms that a room imports."""
    others = {name for floor in floors() for name in floor} - {room}
    return {name for path in files(room) for name in imported(path)} & others


def imported(path: Path) -> Iterator[str]:
    """What a file imports from jaxnmf, as names of rooms."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            parts = module.split(".")
            if parts[0] == "jaxnmf" and len(parts) > 1:
                yield parts[1]


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The graph without the edges that follow from others."""

    def below(room: str) -> set[str]:
        return graph[room].union(*(below(other) for other in graph[room]))

    return {
        room: others.difference(*(below(other) for other in others))
        for room, others in graph.items()
    }


def draw() -> Figure:
    """The floors with their rooms; an arrow from each room to those it builds on."""
    rows = floors()
    graph = reduced({room: imports(room) for row in rows for room in row})
    figure = Figure(figsize=(0.7 * WIDTH, 0.6 * len(rows)))
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, len(rows)))
    axes.set_axis_off()
    x, y = {}, {}

    def over(room: str) -> float:
        """The mean place of what a room builds on, so that few arrows cross."""
        return sum(x[other] for other in graph[room]) / max(len(graph[room]), 1)

    for level, rooms in enumerate(reversed(rows)):
        axes.axhspan(level + 0.06, level + 0.94, color=BAND, zorder=0)
        widths = {room: LETTER * len(room) + 0.3 for room in sorted(rooms, key=over)}
        gap = (WIDTH - sum(widths.values())) / (len(rooms) + 1)
        left = gap
        for room, width in widths.items():
            x[room], y[room] = left + width / 2, level + 0.5
            left += width + gap
            box = {"boxstyle": "round,pad=0.35", "fc": "white", "ec": EDGE}
            label = axes.text(x[room], y[room], room, size=9, bbox=box, zorder=3)
            label.set(ha="center", va="center_baseline")
    for room, others in graph.items():
        for other in others:
            # An arrow that passes other floors goes around their boxes.
            side = 1 if x[room] + x[other] >= WIDTH - 1 else -1
            bend = 0.25 * side if y[room] - y[other] > 1 else 0.0
            line = FancyArrowPatch(
                (x[room], y[room] - HALF),
                (x[other], y[other] + HALF),
                arrowstyle="-|>",
                mutation_scale=7,
                shrinkA=0,
                shrinkB=0,
                connectionstyle=f"arc3,rad={-bend}",
                color=ARROW,
                lw=0.9,
                zorder=2,
            )
            axes.add_patch(line)
    return figure


def svg() -> str:
    """The picture as SVG."""
    buffer = io.StringIO()
    draw().savefig(buffer, format="svg")
    return buffer.getvalue()


def table() -> str:
    """A Markdown table of the rooms from the top: what each is for, and its modules."""
    rows = ["| room | what it is for | modules |", "|---|---|---|"]
    for room in (room for floor in floors() for room in floor):
        paths = files(room)
        heads = [path for path in paths if path.name == "__init__.py"] or paths
        for head in sorted(heads, key=lambda path: path.parent):
            text = ast.get_docstring(ast.parse(head.read_text(encoding="utf-8"))) or ""
            inside = [path for path in paths if path.parent == head.parent]
            modules = " ".join(path.stem for path in inside if path != head)
            name = head.relative_to(PACKAGE).as_posix().removesuffix("__init__.py")
            what = " ".join(text.split("\n\n")[0].split())
            rows.append(f"| `{name}` | {what} | {modules} |")
    return "\n".join(rows)
