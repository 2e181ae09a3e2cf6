"""The site: ``make docs``."""

from refinecam import __version__

project, version, author = "refinecam", __version__, "The refinecam developers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
html_theme = "furo"
html_title = "refinecam"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings give types with shapes
suppress_warnings = ["myst.header"]
