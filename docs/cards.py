"""The solvers as cards, from the registry: what each does, its update, when to use it.

`conf.py` puts them into `solvers.md` when the docs are built, so that a new solver has
its card. The curves are of runs that the build makes.
"""

from __future__ import annotations

import html
import inspect
import re
from typing import Any, NamedTuple

import numpy as np

import jaxnmf
from jaxnmf import registry
from jaxnmf.solvers.base import Supports, constraints_of, operands_of

RANK, ITERATIONS, BUDGET = 10, 400, 0.4  # of the runs: p, at most, seconds each
BOTH = ("mu", "mu-extrapolated")  # whose curves are shown for two losses
WIDTH, HEIGHT, LEFT, BOTTOM = 260, 150, 34, 26  # of a picture of curves
SECONDS, ABOVE = (-3.0, 0.0), (-4.0, 0.5)  # its axes, in powers of ten

CHOICES = {
    "losses": {
        "frobenius": "Frobenius",
        "kl": "Kullback-Leibler",
        "beta": "Itakura-Saito and other β",
        "other": "the other named ones",
        "own": "your own function",
    },
    "kinds": {
        "dense": "dense",
        "sparse": "sparse",
        "observed": "observed in part",
        "blocks": "larger than memory",
    },
    "constraints": {
        "nonnegative": "only W, H ≥ 0",
        "box": "a box",
        "simplex": "a simplex",
        "other": "a model of its own",
    },
}
LABELS = {"losses": "loss", "kinds": "data", "constraints": "constraint"}


class Card(NamedTuple):
    """What is known of a solver; the sets are keys of `CHOICES`."""

    name: str
    what: str
    update: str
    cost: str
    use: str
    keys: tuple[str, ...]
    monotone: bool
    losses: tuple[str, ...]
    kinds: tuple[str, ...]
    constraints: tuple[str, ...]
    signed: str


def card(name: str) -> Card:
    """The card of a registered solver."""
    cls, made = registry.solver_class(name), registry.make_solver(name)
    text = inspect.getdoc(cls) or ""
    own = bool(getattr(cls, "own_objective", False))
    asked = constraints_of(made)
    signed = sorted(cls.supports.signed)
    return Card(
        name=name,
        what=text.partition("\n")[0],
        update=_update(text),
        cost=_paragraph("Cost", text).split(". ")[0].removesuffix("."),
        use=_paragraph("Use", text),
        keys=tuple(dict.fromkeys(re.findall(r"\[(\w+\d{4})\]", text))),
        monotone=cls.monotone,
        losses=losses_of(cls.supports),
        kinds=tuple(k for k in CHOICES["kinds"] if k in operands_of(made)),
        constraints=("other",)
        if own
        else tuple(k for k in CHOICES["constraints"] if k in asked),
        signed=" and ".join(signed),
    )


def losses_of(supports: Supports) -> tuple[str, ...]:
    """The keys of the losses that a solver supports."""
    named = {"frobenius": "frobenius", "kullback-leibler": "kl"}
    named |= {"itakura-saito": "beta", "beta": "beta"}
    known = {
        named.get(name, "other")
        for name in registry.losses()
        if supports.includes(registry.make_loss(name))
    }
    if supports.includes(registry.make_loss(lambda v, x: (v - x) ** 2)):
        known.add("own")
    return tuple(key for key in CHOICES["losses"] if key in known)


def _paragraph(head: str, text: str) -> str:
    """The paragraph of a docstring that begins with a word and a colon, in one line."""
    found = re.search(rf"^{head}: (.*?)(?:\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()) if found else ""


def _update(text: str) -> str:
    """The formulas of a docstring: its first paragraphs up to the first arrow."""
    body = re.split(r"^(?:Cost|Use|Args|Reference|References):", text, flags=re.M)[0]
    paragraphs = [part for part in body.split("\n\n")[1:] if part.strip()]
    for k, part in enumerate(paragraphs):
        if any(sign in part for sign in ("←", "⁺ =", "argmin")):
            found = "\n".join(paragraphs[: k + 1])
            break
    else:
        found = paragraphs[0] if paragraphs else ""
    return found.replace("`", "").strip()


def curves(names: tuple[str, ...]) -> dict[str, dict[str, tuple[Any, Any]]]:
    """Loss → solver → (seconds, objective above the best of all, over the best), from
    one start on the digits: each solver with its first loss, and those that are the
    default for Kullback-Leibler, or what others are compared with, with both."""
    V = jaxnmf.datasets.load("digits").V
    found: dict[str, dict[str, tuple[Any, Any]]] = {"frobenius": {}, "kl": {}}
    for name in names:
        supports = registry.solver_class(name).supports
        if supports.symmetric or "W" in supports.signed:
            continue  # which need another V, or fit more closely with factors < 0
        for loss, runs in found.items():
            of = losses_of(supports)
            if loss == of[0] or (name in BOTH and loss in of):
                trace = jaxnmf.factorize(
                    V,
                    RANK,
                    solver=name,
                    loss=loss,
                    init="random",
                    max_iter=ITERATIONS,
                    time_budget=BUDGET,
                    tol=0,
                    record_every=4,
                    kkt=False,
                ).trace
                # Objectives of 0 do not occur: no solver fits the digits exactly.
                runs[name] = np.asarray(trace.seconds), np.asarray(trace.objective)
    for runs in found.values():
        best = min(float(np.nanmin(values)) for _, values in runs.values())
        for name, (seconds, values) in runs.items():
            runs[name] = seconds[1:], np.maximum(values[1:] / best - 1, 1e-9)
    return found


def _line(seconds: Any, above: Any) -> str:
    """The points of a curve, in units of the picture, thinned and cut at its edge."""
    x = (np.log10(np.maximum(seconds, 1e-9)) - SECONDS[0]) / np.ptp(SECONDS)
    y = (ABOVE[1] - np.log10(above)) / np.ptp(ABOVE)
    points, last = [], -1.0
    for a, b in zip(x, np.clip(y, 0, 1), strict=True):
        if 0 <= a <= 1 and a - last > 0.012:
            place = LEFT + a * (WIDTH - LEFT - 6), 6 + b * (HEIGHT - BOTTOM - 6)
            points.append("{:.0f},{:.0f}".format(*place))
            last = a
    return " ".join(points)


def _picture(loss: str, runs: dict[str, tuple[Any, Any]], name: str) -> str:
    """One solver's curve over those of all, as SVG in the page's colours."""
    right, low = WIDTH - 6, HEIGHT - BOTTOM
    sign = {k: str(k).translate(str.maketrans("-01234", "⁻⁰¹²³⁴")) for k in (-4, -2)}
    ticks = [
        f'<text x="{LEFT - 4}" y="{6 + (ABOVE[1] - k) / np.ptp(ABOVE) * (low - 6):.0f}"'
        f' text-anchor="end" dominant-baseline="middle">{label}</text>'
        for k, label in ((-4, f"10{sign[-4]}"), (-2, f"10{sign[-2]}"), (0, "1"))
    ]
    ticks += [
        f'<text x="{LEFT + (k - SECONDS[0]) / 3 * (right - LEFT):.0f}" '
        f'y="{low + 12}" text-anchor="middle">{label}</text>'
        for k, label in ((-3, "1 ms"), (-2, "10"), (-1, "100"), (-0.1, "1 s"))
    ]
    title = f"{CHOICES['losses'][loss]}, digits, p = {RANK}: {name}"
    return (
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{title}"><title>{title}</title>'
        f'<path class="axis" d="M{LEFT},6V{low}H{right}"/>{"".join(ticks)}'
        f'<use href="#curves-{loss}"/>'
        f'<polyline class="own" points="{_line(*runs[name])}"/>'
        f'<text x="{right}" y="{HEIGHT - 2}" text-anchor="end">'
        f"{CHOICES['losses'][loss]}</text></svg>"
    )


def _all(runs: dict[str, dict[str, tuple[Any, Any]]]) -> str:
    """The curves of every solver, which the pictures show in the background."""
    groups = [
        f'<g id="curves-{loss}">'
        + "".join(f'<polyline points="{_line(*run)}"/>' for run in of.values())
        + "</g>"
        for loss, of in runs.items()
    ]
    return f'<svg width="0" height="0" aria-hidden="true">{"".join(groups)}</svg>'


def _filter() -> str:
    """The form above the cards; without JavaScript it stays hidden."""
    parts = []
    for key, label in LABELS.items():
        options = "".join(
            f'<option value="{value}">{text}</option>'
            for value, text in CHOICES[key].items()
        )
        parts.append(
            f'<label>{label} <select name="{key}"><option value="">any</option>'
            f"{options}</select></label>"
        )
    return (
        f'<form id="filter" hidden>{" ".join(parts)} '
        '<output aria-live="polite"></output></form>'
    )


SCRIPT = """<script>
addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("filter");
  const facts = [...document.querySelectorAll(".facts")];
  const show = () => {
    let count = 0;
    for (const one of facts) {
      const fits = [...form.querySelectorAll("select")].every(
        (s) => !s.value || one.dataset[s.name].split(" ").includes(s.value));
      one.closest("section").hidden = !fits;
      count += fits;
    }
    form.querySelector("output").textContent = `${count} of ${facts.length} solvers`;
  };
  form.hidden = false;
  form.addEventListener("change", show);
  show();
});
</script>"""


def _markdown(one: Card, runs: dict[str, dict[str, tuple[Any, Any]]]) -> str:
    """The section of a solver."""
    data = " ".join(f'data-{key}="{" ".join(getattr(one, key))}"' for key in CHOICES)

    def words(key: str) -> str:
        return ", ".join(CHOICES[key][value] for value in getattr(one, key))

    signed = f"; {one.signed} may have any sign" if one.signed else ""
    rows = {
        "use it for": one.use,
        "cost": one.cost,
        "monotone": "yes" if one.monotone else "no",
        "losses": words("losses"),
        "data": words("kinds") + signed,
        "constraints": words("constraints"),
        "references": " ".join(f"{{cite:p}}`{key}`" for key in one.keys),
    }
    fields = "\n".join(f":{name}: {text}" for name, text in rows.items() if text)
    pictures = "".join(
        _picture(loss, of, one.name) for loss, of in runs.items() if one.name in of
    )
    return f"""
## `{one.name}`

<div class="facts" {data}></div>

{one.what}

<pre class="update">{html.escape(one.update)}</pre>

:::{{container}} card

{fields}

<div class="curves">{pictures}</div>
:::
"""


def page() -> str:
    """The cards of all registered solvers as MyST Markdown, with the filter."""
    names = registry.solvers()
    runs = curves(names)
    cards = [_markdown(card(name), runs) for name in names]
    return "\n\n".join([_filter() + _all(runs), SCRIPT, *cards])
