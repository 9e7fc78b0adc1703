"""Sphinx: `make docs`."""

import os
import re
import sys
from pathlib import Path

from pybtex.plugin import register_plugin
from pybtex.style.formatting import toplevel
from pybtex.style.formatting.unsrt import Style
from pybtex.style.labels import BaseLabelStyle
from pybtex.style.sorting import BaseSortingStyle
from pybtex.style.template import field, join, optional, sentence, tag

from jaxnmf import __version__

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# The look of every picture that a page draws.
os.environ["MATPLOTLIBRC"] = str(HERE / "matplotlibrc")

project = "jaxnmf"
author = "The jaxnmf developers"
copyright = author
release = __version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.bibtex",
]
myst_enable_extensions = ["colon_fence", "fieldlist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_render_markdown_format = "myst"
autodoc_typehints = "none"
default_role = "py:obj"  # a link where there is such a name
napoleon_use_rtype = False
html_theme = "furo"
html_title = f"jaxnmf {release}"
html_logo = "images/logo.svg"
html_favicon = "images/favicon.ico"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_js_files = ["tables.js"]
exclude_patterns = ["_build", "generated"]
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "keys"


class Keys(BaseLabelStyle):
    """The key of an entry as its label, as docstrings write it."""

    def format_labels(self, sorted_entries):
        return (entry.key for entry in sorted_entries)


class KeyOrder(BaseSortingStyle):
    """By key, whatever the names of the authors begin with."""

    def sorting_key(self, entry):
        return entry.key.lower()


class ByKey(Style):
    """The style of BibTeX's plain, with the volume of an article."""

    default_label_style = Keys
    default_sorting_style = "keys"

    def get_article_template(self, e):
        volume = optional[join[" ", field("volume")]]
        source = join[tag("em")[field("journal")], volume, " (", field("year"), ")"]
        names, title = self.format_names("author"), self.format_title(e, "title")
        return toplevel[names, title, sentence[source]]


register_plugin("pybtex.style.sorting", "keys", KeyOrder)
register_plugin("pybtex.style.formatting", "keys", ByKey)


def cite(app, what, name, obj, options, lines):
    """Link the keys that a docstring names to the bibliography."""
    lines[:] = [re.sub(r"\[(\w+\d{4})\]", r":cite:p:`\1`", line) for line in lines]


def skip(app, what, name, obj, is_skipped, options):
    """Leave out the fields of a NamedTuple that only have Python's own docstring."""
    return True if (obj.__doc__ or "").startswith("Alias for field") else None


def draw_cards(app, docname, source):
    """Put the cards of the solvers into their page."""
    if docname == "solvers":
        import cards

        source[0] = source[0].replace("<!-- cards -->", cards.page())


def add_thumbnails(app, doctree, docname):
    """Put the pictures of the gallery's pages into its index."""
    import thumbnails

    thumbnails.add(app, doctree, docname)


def setup(app):
    app.connect("autodoc-process-docstring", cite)
    app.connect("autodoc-skip-member", skip)
    app.connect("source-read", draw_cards)
    app.connect("doctree-resolved", add_thumbnails)
