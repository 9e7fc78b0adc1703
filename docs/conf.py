"""Sphinx: `pip install -e '.[docs]' && sphinx-build -W docs docs/_build`."""

from jaxnmf import __version__

project = "jaxnmf"
author = "The jaxnmf developers"
release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_render_markdown_format = "myst"
autodoc_typehints = "none"
html_theme = "furo"
exclude_patterns = ["_build", "generated"]
