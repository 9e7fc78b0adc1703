"""The first picture of each page of the gallery, beside its link in the index.

`conf.py` calls `add` when every page was run, so the thumbnails are the pictures that
the pages drew.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes

INDEX = "gallery/index"


def add(app: Any, doctree: nodes.document, docname: str) -> None:
    """Put a thumbnail before each entry of the lists of the gallery's index."""
    if docname != INDEX:
        return
    for entries in doctree.findall(nodes.bullet_list):
        entries["classes"].append("thumbnails")
        for entry in entries.findall(nodes.list_item):
            link = next(entry.findall(nodes.reference))
            page = "gallery/" + link["refuri"].removesuffix(".html")
            picture = next(app.env.get_doctree(page).findall(nodes.image), None)
            if picture is None:
                raise ValueError(f"{page} draws no picture for the gallery's index")
            around = nodes.reference("", "", internal=True, refuri=link["refuri"])
            # The name is in the link below, so it would be read twice.
            around += nodes.image(
                uri=picture["uri"], candidates=picture["candidates"], alt=""
            )
            entry.insert(0, nodes.paragraph("", "", around))
